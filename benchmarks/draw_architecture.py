# Copyright 2026 The transformers-crossvit authors. All rights reserved.
#
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.
"""
Draws docs/results/architecture.png, the picture of the README: one photo, two patch sizes, and the fusion of the branches.

    python -m benchmarks.draw_architecture          a few seconds

The photo is china.jpg of scikit-learn's sample images, by danielbuechele, CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/):
https://www.flickr.com/photos/danielbuechele/6061409035/. This script crops and resizes it. A page that shows the picture must say so.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from PIL import Image
from sklearn.datasets import load_sample_image

from benchmarks.pages import RESULTS
from crossvit import CrossViTConfig


COLORS = {"small": "#2a6f97", "large": "#bc4b51"}
ROW = {"small": 2.6, "large": 0.0}


def box(axis, x, y, width, height, text, color, filled=False, fontsize=9):
    axis.add_patch(
        FancyBboxPatch(
            (x - width / 2, y - height / 2),
            width,
            height,
            boxstyle="round,pad=0,rounding_size=0.08",
            facecolor=color if filled else "white",
            edgecolor=color,
            linewidth=1.4,
            zorder=3,
        )
    )
    axis.text(x, y, text, ha="center", va="center", fontsize=fontsize, color="white" if filled else "black", zorder=4)


def arrow(axis, start, end, color, **kwargs):
    style = {"arrowstyle": "-|>", "mutation_scale": 11, "linewidth": 1.4, "color": color, "shrinkA": 0, "shrinkB": 0}
    axis.add_patch(FancyArrowPatch(start, end, **{**style, **kwargs}))


def draw(path: Path):
    config = CrossViTConfig.from_variant("crossvit_small_240")
    photo = Image.fromarray(load_sample_image("china.jpg")).crop((130, 20, 530, 420)).resize((240, 240))
    figure, axis = plt.subplots(figsize=(11, 4.1), layout="constrained")

    for branch, name in enumerate(("small", "large")):
        color, y = COLORS[name], ROW[name]
        side, patch = config.image_sizes[branch], config.patch_sizes[branch]
        count, width = (side // patch) ** 2, config.hidden_sizes[branch]

        image = axis.inset_axes((0.0, y - 0.95, 1.9, 1.9), transform=axis.transData)
        image.imshow(np.asarray(photo.resize((side, side))))
        for position in range(0, side + 1, patch):
            image.axhline(position - 0.5, color="white", linewidth=0.5)
            image.axvline(position - 0.5, color="white", linewidth=0.5)
        image.set_xlim(-0.5, side - 0.5)
        image.set_ylim(side - 0.5, -0.5)
        image.set_xticks([])
        image.set_yticks([])
        caption = f"{side} x {side} pixels, patches of {patch}"
        axis.text(0.95, y + 1.12, caption, ha="center", fontsize=8.5, color=color)

        box(axis, 3.1, y, 1.3, 0.9, f"{count} patches\n+ CLS\nwidth {width}", color, fontsize=8.5)
        arrow(axis, (1.98, y), (2.45, y), color)
        layers = config.depths[branch]
        box(axis, 5.2, y, 1.5, 0.9, f"{layers} transformer\nlayer{'s' if layers > 1 else ''}", color)
        arrow(axis, (3.75, y), (4.45, y), color)
        box(axis, 8.0, y, 1.7, 0.9, "cross-attention\nof the CLS token", color, filled=True)
        arrow(axis, (5.95, y), (7.15, y), color)
        box(axis, 10.9, y, 1.1, 0.9, "head", color)
        arrow(axis, (8.85, y), (10.35, y), color)
        arrow(axis, (11.45, y), (12.3, 1.3 + (0.22 if name == "small" else -0.22)), color)

    # The CLS token of each branch attends to the patch tokens of the other branch.
    small, large = ROW["small"], ROW["large"]
    curve = {"connectionstyle": "arc3,rad=0", "linestyle": (0, (4, 2))}
    arrow(axis, (6.1, small - 0.02), (7.5, large + 0.47), COLORS["small"], **curve)
    arrow(axis, (6.1, large + 0.02), (7.5, small - 0.47), COLORS["large"], **curve)
    axis.text(7.75, 1.3, "patch tokens of\nthe other branch", ha="left", va="center", fontsize=8.5, color="0.25")
    box(axis, 12.9, 1.3, 1.15, 0.9, "mean:\nlogits", "0.25")
    axis.add_patch(
        FancyBboxPatch(
            (4.2, -0.85), 5.2, 4.5, boxstyle="round,pad=0,rounding_size=0.15", fill=False, edgecolor="0.6", linestyle=":"
        )
    )  # fmt: skip
    axis.text(9.3, 3.42, f"x {config.num_stages} stages", ha="right", fontsize=9, color="0.35")

    axis.set_xlim(-0.1, 13.6)
    axis.set_ylim(-1.15, 4.0)
    axis.set_aspect("equal")
    axis.axis("off")
    figure.savefig(path, dpi=130)


if __name__ == "__main__":
    draw(RESULTS / "architecture.png")
    print(f"wrote {RESULTS / 'architecture.png'}")
