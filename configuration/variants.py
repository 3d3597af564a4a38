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
"""The published models: their architectures, their accuracies, and the names of their classes."""

import contextlib
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


# Table 1 of the paper, under timm's names (which give the real input size: 240 and 408, where the paper says 224 and 384).
# Shared by all: K = 3 stages, N = 1 layer in the small branch, L = 1 fusion layer, patches of 12 and 16 pixels.
# The accuracies are top-1 on ImageNet-1k in percent: the paper's, and timm's of its copy of the weights (results-imagenet.csv).
#     name: (hidden_sizes, heads of either branch, M layers of the large branch, mlp ratio, image_sizes, convolutional stem, paper, timm)
_TABLE_1 = {
    "crossvit_tiny_240": ((96, 192), 3, 4, 4, (240, 224), False, 73.4, 73.352),
    "crossvit_small_240": ((192, 384), 6, 4, 4, (240, 224), False, 81.0, 81.036),
    "crossvit_base_240": ((384, 768), 12, 4, 4, (240, 224), False, 82.2, 82.212),
    "crossvit_9_240": ((128, 256), 4, 3, 3, (240, 224), False, 73.9, 73.994),
    "crossvit_15_240": ((192, 384), 6, 5, 3, (240, 224), False, 81.5, 81.522),
    "crossvit_18_240": ((224, 448), 7, 6, 3, (240, 224), False, 82.5, 82.390),
    "crossvit_9_dagger_240": ((128, 256), 4, 3, 3, (240, 224), True, 77.1, 76.990),
    "crossvit_15_dagger_240": ((192, 384), 6, 5, 3, (240, 224), True, 82.3, 82.302),
    "crossvit_18_dagger_240": ((224, 448), 7, 6, 3, (240, 224), True, 82.8, 82.494),
    "crossvit_15_dagger_408": ((192, 384), 6, 5, 3, (408, 384), True, 83.5, 83.842),
    "crossvit_18_dagger_408": ((224, 448), 7, 6, 3, (408, 384), True, 83.9, 84.198),
}

CROSSVIT_VARIANTS: dict[str, dict[str, Any]] = {
    name: {
        "hidden_sizes": list(hidden_sizes),
        "num_attention_heads": [heads, heads],
        "depths": [1, depth],
        "mlp_ratios": [float(mlp_ratio), float(mlp_ratio)],
        "image_sizes": list(image_sizes),
        "use_convolutional_stem": stem,
    }
    for name, (hidden_sizes, heads, depth, mlp_ratio, image_sizes, stem, *_) in _TABLE_1.items()
}

# Top-1 accuracy on ImageNet-1k in percent: (in the paper, measured by timm).
PUBLISHED_ACCURACIES: dict[str, tuple[float, float]] = {name: (row[-2], row[-1]) for name, row in _TABLE_1.items()}


def _is_path(name: str) -> bool:
    """Whether a name can only be meant as a path: a repository of the Hub has at most one slash."""
    return Path(name).is_absolute() or name.startswith((".", "~")) or len(Path(name).parts) > 2


def _nearest_folder(name: str) -> str | None:
    """The folder that may have been meant by a path that does not exist: at each level the one that has the nearest name."""
    path = Path(os.path.expanduser(name))  # pathlib refuses users that do not exist
    found = Path(path.anchor)
    for part in path.parts[1:] if path.anchor else path.parts:
        if (found / part).is_dir():
            found /= part
            continue
        folders = [folder.name for folder in found.iterdir() if folder.is_dir()] if os.access(found, os.R_OK) else []
        close = difflib.get_close_matches(part, folders, n=1, cutoff=0.6)
        if not close:
            return None
        found /= close[0]
    return str(found)


@contextlib.contextmanager
def suggest_model(name: str) -> Iterator[None]:
    """Adds the folder or the published model that may have been meant by `name` to an OSError, which says that `name` was not found."""
    try:
        yield
    except OSError as error:
        if Path(name).exists():
            raise
        folder = _nearest_folder(name)
        if _is_path(name):  # The Hub's complaint about the form of a name would be a riddle.
            hint = f" Did you mean {folder!r}?" if folder else ""
            raise OSError(f"There is no folder {name!r}.{hint}") from error
        variant = name.rsplit("/", 1)[-1].removesuffix(".in1k")
        close = difflib.get_close_matches(variant, CROSSVIT_VARIANTS, n=1, cutoff=0.8)
        meant = f"timm/{close[0]}.in1k" if close else folder or name
        if meant == name or f"{meant!r}?" in str(error):
            raise
        raise OSError(f"{error}\nDid you mean {meant!r}?") from error


def imagenet_classes() -> list[str]:
    """Names of the 1,000 classes of ImageNet-1k, as torchvision has them: no two are equal."""
    return Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines()


__all__ = ["CROSSVIT_VARIANTS", "PUBLISHED_ACCURACIES", "imagenet_classes", "suggest_model"]
