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
Measures how far the maps of crossvit.explain can be trusted, on the digits of the quickstart and its model, and fills
docs/using_a_model.md and its pictures:

    python benchmarks/using_a_model.py          2 minutes, after `make quickstart`
"""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from pages import DOCS, fill, measured_by
from scipy.stats import bootstrap
from tqdm import tqdm
from transformers.image_utils import load_image

from crossvit import explain
from crossvit.deployment import load_for_deployment


QUICKSTART = Path("outputs/quickstart")
BATCH = 50
Curves = dict[str, np.ndarray]


def random_maps(model, pixel_values: torch.Tensor) -> explain.Maps:
    """Maps that know nothing, with the grids of the others."""
    return [torch.rand_like(values) for values in explain.attention_maps(model, pixel_values)]


METHODS = {**explain.METHODS, "random": random_maps}


def measure(model, pixel_values: torch.Tensor) -> dict[str, Curves]:
    """The curves "deletion" and "insertion" of each method, (N, steps + 1)."""
    curves = {}
    for name, method in METHODS.items():
        torch.manual_seed(0)
        parts = []
        for batch in tqdm(pixel_values.split(BATCH), desc=name):
            importance = explain.over_image(method(model, batch), tuple(batch.shape[-2:]))
            parts.append(explain.deletion_and_insertion(model, batch, importance))
        curves[name] = {kind: torch.cat([part[kind] for part in parts]).numpy() for kind in parts[0]}
    return curves


def mean_with_interval(values: np.ndarray) -> str:
    interval = bootstrap((values,), np.mean, method="percentile", random_state=0).confidence_interval
    return f"{values.mean():.3f} ({interval.low:.3f} to {interval.high:.3f})"


def table(curves: dict[str, Curves]) -> str:
    """The mean of each curve over its steps, which is the area below it, and then over the images."""
    lines = ["| map | deletion (lower is better) | insertion (higher is better) |", "|---|---|---|"]
    for name, both in curves.items():
        cells = [mean_with_interval(both[kind].mean(axis=1)) for kind in ("deletion", "insertion")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def draw(curves: dict[str, Curves], path: Path):
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
    for axis, kind in zip(axes, ("deletion", "insertion")):
        for name, both in curves.items():
            mean = both[kind].mean(axis=0)
            style = {"color": "grey", "linestyle": "--"} if name == "random" else {}
            axis.plot(np.linspace(0, 100, len(mean)), mean, label=name, **style)
        axis.set(title=kind, xlabel="part of the pixels, in percent", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("probability of the class")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main():
    if not (QUICKSTART / "model").exists():
        raise SystemExit(f"{QUICKSTART}/model is missing: run `make quickstart` first.")
    model, image_processor = load_for_deployment(str(QUICKSTART / "model"))
    paths = sorted((QUICKSTART / "digits" / "test").rglob("*.png"))
    pixel_values = image_processor([load_image(str(path)) for path in paths], return_tensors="pt").pixel_values
    curves = measure(model, pixel_values)
    draw(curves, DOCS / "using_a_model_curves.png")
    explain.main([str(QUICKSTART / "model"), str(paths[0]), "--output", str(DOCS / "using_a_model_why.png")])
    machine = measured_by("benchmarks/using_a_model.py", "torch", "transformers", "captum")
    print(
        fill("using_a_model.md", {"machine": machine, "trust": f"On {len(paths)} scanned digits:\n\n{table(curves)}"})
    )


if __name__ == "__main__":
    main()
