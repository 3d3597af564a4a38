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
"""Finds images that are there twice, so that none is trained and evaluated too."""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path

import pyarrow.compute
from datasets import Dataset

from crossvit.configuration.image_files import existing_path
from crossvit.data.splits import Label, Split


_END = 4096  # bytes at both ends of a file, which tell nearly all images of one size from each other


def _files(images: Dataset) -> Iterator[tuple[int | None, str | None]]:
    """The size of each image in bytes and its path; None where there is no such file."""
    for batch in images.select_columns("image").with_format("arrow").iter(1000):
        column = batch["image"].combine_chunks()
        lengths = pyarrow.compute.binary_length(column.field("bytes")).to_pylist()  # without reading the bytes
        for length, path in zip(lengths, column.field("path").to_pylist(), strict=True):
            path = path and existing_path(path)
            if length is None and path is not None and os.path.isfile(path):
                yield os.path.getsize(path), os.path.realpath(path)
            else:
                yield length, None


def _content(image: dict) -> bytes:
    return image["bytes"] if image["bytes"] is not None else Path(existing_path(image["path"])).read_bytes()


def _ends(image: dict) -> bytes:
    if image["bytes"] is not None:
        return image["bytes"][:_END] + image["bytes"][-_END:]
    with open(existing_path(image["path"]), "rb") as file:
        first = file.read(_END)
        file.seek(-min(_END, os.path.getsize(file.name)), os.SEEK_END)
        return first + file.read()


def number_images(*tables: Dataset) -> list[list[int]]:
    """
    A number for each row of each table, the same for the same file and for equal content. Content is read only where sizes are equal, and whole
    only where both ends are equal too.
    """
    places = [(table, index) for table in tables for index in range(len(table))]
    numbers = list(range(len(places)))
    firsts: dict[Hashable, int] = {}
    sizes = []
    for place, (size, path) in enumerate(file for table in tables for file in _files(table)):
        sizes.append(size)
        if path is not None:
            numbers[place] = firsts.setdefault(path, place)

    def digest(read: Callable[[dict], bytes], place: int) -> bytes:
        table, index = places[place]
        return hashlib.blake2b(read(table[index]["image"])).digest()

    # Each key is finer than the one before, and computed only for images that the one before does not tell apart.
    candidates = [place for place, number in enumerate(numbers) if number == place and sizes[place]]
    keys: dict[int, tuple[Hashable, ...]] = {place: (sizes[place],) for place in candidates}
    for read in (_ends, _content):
        counts = Counter(keys.values())
        keys = {place: (*key, digest(read, place)) for place, key in keys.items() if counts[key] > 1}
    for place, key in keys.items():
        numbers[place] = firsts.setdefault(key, place)
    numbers = [numbers[number] for number in numbers]
    divided, start = [], 0
    for table in tables:
        divided.append(numbers[start : start + len(table)])
        start += len(table)
    return divided


def check_labels(split: Split, numbers: list[int]) -> int:
    """
    Refuses two labels for one file.

    Args:
        numbers: Those of `number_images`.

    Returns:
        The number of rows whose image an earlier row has too.

    Raises:
        ValueError: If two rows have the same file and different labels. Copies of a file may differ, because large data sets have such.
    """
    rows: dict[int, tuple[int, Label]] = {}
    repeated = 0
    for row, (number, label) in enumerate(zip(numbers, split.labels, strict=True)):
        label = sorted(set(label)) if isinstance(label, list) else label
        first, first_label = rows.setdefault(number, (row, label))
        repeated += first != row
        if first_label != label:
            one, other = (split.images[index]["image"]["path"] for index in (first, row))
            if one is not None and one == other:
                raise ValueError(
                    f"{one} has the label {first_label} in row {first + 1} and {label} in row {row + 1}. Remove one of the rows; for several "
                    "labels per image, give a list of labels in one row."
                )
    return repeated
