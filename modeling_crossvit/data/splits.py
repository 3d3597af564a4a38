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
"""One split: its images, and their labels as names. Some of its images can be selected, and a part of each class can be held out."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from datasets import Dataset, Features, Image, IterableDataset, List, Value


# What an image has: the name of its class, or a list of names.
Label = str | list[str]


@dataclass
class Split:
    """
    Args:
        images: The columns `image`, `{"path": ..., "bytes": ...}`, and `label`, the name of a class or a list of names.
        multi_label: Whether `label` is a list.
        classes: The classes in the order of the source, if the source has one (ClassLabel).
        places: A name for each image that stays the same where the folder is moved, if the images have names.
        left_out: How many files were left out for which reason.
    """

    images: Dataset | IterableDataset
    multi_label: bool
    classes: list[str] | None = None
    places: list[str] | None = None
    left_out: Counter[str] = field(default_factory=Counter)

    @property
    def is_stream(self) -> bool:
        return isinstance(self.images, IterableDataset)

    @cached_property
    def labels(self) -> list[Label]:
        """The label of each image. A stream has none before it is read."""
        return self.images["label"][:]

    def select(self, indices: list[int]) -> "Split":
        """The split of some of the images."""
        places = self.places and [self.places[index] for index in indices]
        return replace(self, images=self.images.select(indices), places=places)


def features(multi_label: bool) -> Features:
    """The columns of a split."""
    text = Value("string")
    return Features({"image": Image(decode=False), "label": List(text) if multi_label else text})


def with_labels(table: Dataset, labels: list[Label], multi_label: bool) -> Dataset:
    """The same images with other labels."""
    return table.remove_columns("label").add_column("label", labels, feature=features(multi_label)["label"])


def count_images(labels: list[Label]) -> Counter[str]:
    """How many images each class has. An image with several labels counts for each of them."""
    return Counter(name for label in labels for name in (set(label) if isinstance(label, list) else (label,)))


def left_out_line(left_out: Counter[str]) -> str:
    """How many files were left out for which reason, in one line."""
    return ", ".join(f"{count} x {reason}" for reason, count in sorted(left_out.items()))


def hold_out(split: Split, part: float, seed: int, numbers: list[int] | None = None) -> tuple[Split, Split]:
    """
    Divides a split so that each class with at least two images is on both sides. An image with several labels counts for the rarest of
    them. All rows of an image are on one side.

    Args:
        part: The share of each class's images that is held out, between 0 and 1.
        numbers: One for each row, the same for the same image. By default each row has an image of its own.

    Returns:
        The split that is left, and the held-out one.

    Raises:
        ValueError: If the split is a stream, or if no class has two images.
    """
    if split.is_stream:
        raise ValueError(
            "A stream cannot be divided, and it has no split to evaluate on: give --validation_dir, --validation_file or "
            "--validation_split."
        )
    labels, counts = split.labels, count_images(split.labels)
    rows = defaultdict(list)
    for index, number in enumerate(numbers or range(len(labels))):
        rows[number].append(index)
    groups = defaultdict(list)
    for index in (first for first, *_ in rows.values()):
        label = labels[index]
        names = label if isinstance(label, list) else [label]
        groups[min(names, key=lambda name: (counts[name], name), default="")].append(index)
    random, held_out = np.random.default_rng(seed), []
    for name in sorted(groups):
        most = len(groups[name]) - 1
        held_out += random.permutation(groups[name])[: min(max(round(part * len(groups[name])), 1), most)].tolist()
    if not held_out:
        raise ValueError(
            f"The training images, {len(rows)} in all, cannot be divided, because no class has two of them. Add images, or give --validation_dir, "
            "--validation_file or --validation_split."
        )
    first_rows = set(held_out)
    held_out = [row for same in rows.values() if same[0] in first_rows for row in same]
    kept = sorted(set(range(len(labels))) - set(held_out))
    # What was left out is said once, beside the training images.
    return split.select(kept), replace(split.select(sorted(held_out)), left_out=Counter())
