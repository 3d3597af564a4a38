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
Divides the images of any source into parts, which processes on any machine read on their own: a list of files, a group of rows of a parquet
file, a WebDataset shard, some rows of a data set.
"""

import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from glob import glob
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from datasets import Dataset, Image

from crossvit.configuration.image_files import existing_path, files_below, image_endings, printable_name
from crossvit.data.sources import IMAGE_COLUMNS, choose_column, load, load_saved
from crossvit.data.splits import left_out_line


# An image as it is encoded, with the name that no other image has: its path, or its file and its place there.
Encoded = dict[str, Any]
NO_IMAGE = {"path": None, "bytes": None}


@dataclass(frozen=True)
class Part(ABC):
    """
    Some of the images. `length` is their number, or None if only reading tells it. All names are what `printable_name` makes of them, because
    they are written into files.
    """

    name: str
    length: int | None

    @abstractmethod
    def read(self) -> Iterator[Encoded]:
        """Each image as `{"image": its name, "path": ..., "bytes": ...}`."""

    def names_after(self, count: int) -> list[str]:
        """The names of the images after so many; only the part's own if reading alone tells them."""
        return [self.name]

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        """By the name with which the names of its images begin, the files that they are read from."""
        return {self.name: (self.name,)}


@dataclass(frozen=True)
class IndexedPart(Part):
    """Rows, the first of which has the index `start` in the file or data set. An image is named by its index."""

    length: int
    start: int

    def names_after(self, count: int) -> list[str]:
        return [f"{self.name}/{index}" for index in range(self.start + count, self.start + self.length)]


@dataclass(frozen=True)
class FilesPart(Part):
    files: tuple[str, ...]

    def read(self) -> Iterator[Encoded]:
        for file in self.files:
            yield {"image": file, "path": file, "bytes": None}

    def names_after(self, count: int) -> list[str]:
        return list(self.files[count:])

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        return {file: (file,) for file in self.files}


@dataclass(frozen=True)
class ShardPart(Part):
    """A shard of WebDataset, which is a tar archive."""

    def read(self) -> Iterator[Encoded]:
        endings, seen = image_endings(), set()
        with tarfile.open(existing_path(self.name)) as shard:
            for member in shard:
                is_image = member.isfile() and Path(member.name).suffix.lower() in endings
                file = shard.extractfile(member) if is_image else None
                if file is None:
                    continue
                # The archive may hold several files of one name.
                name = member.name if member.name not in seen else f"{member.name}@{member.offset}"
                seen.add(member.name)
                yield {"image": f"{self.name}/{printable_name(name)}", "path": None, "bytes": file.read()}
            # Python takes a header that is cut off for the end, and says nothing.
            shard.fileobj.seek(shard.offset)
            if shard.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise OSError("the archive breaks off before its end")


@dataclass(frozen=True)
class RowGroupPart(IndexedPart):
    """A group of rows of a parquet file."""

    column: str
    row_group: int

    def read(self) -> Iterator[Encoded]:
        index = self.start
        # A few rows at a time, because a group can be larger than the memory.
        for batch in pq.ParquetFile(existing_path(self.name)).iter_batches(
            64, row_groups=[self.row_group], columns=[self.column]
        ):
            for image in batch.column(0).to_pylist():
                if isinstance(image, str):
                    image = {"path": str(Path(self.name).parent / image)}
                elif isinstance(image, bytes):
                    image = {"bytes": image}
                yield {"image": f"{self.name}/{index}", **NO_IMAGE, **(image or {})}
                index += 1


@dataclass(frozen=True)
class RowsPart(IndexedPart):
    """Rows of a data set of `datasets`. A process that opens it reads it from the same files."""

    table: Dataset

    def read(self) -> Iterator[Encoded]:
        for index in range(self.start, self.start + self.length):
            yield {"image": f"{self.name}/{index}", **NO_IMAGE, **(self.table[index]["image"] or {})}

    @property
    def inputs(self) -> dict[str, tuple[str, ...]]:
        return {self.name: tuple(file["filename"] for file in self.table.cache_files)}


def open_table(images: str, split: str | None, column: str | None, download: dict[str, Any]) -> tuple[str, Dataset]:
    """The name of a data set of the Hub or of `save_to_disk`, and its rows, with one column, `image`, whose images stay encoded."""
    is_saved = any((Path(images) / name).exists() for name in ("dataset_dict.json", "state.json"))
    try:
        tables = load_saved(images) if is_saved else load(images, **download)
    except ValueError as error:
        raise ValueError(f"--images {images} has no image files. {error}") from error
    if isinstance(tables, dict):
        if (split is None and len(tables) > 1) or split not in (None, *tables):
            raise ValueError(f"{images} has the splits {', '.join(tables)}: choose one with --split, got {split}.")
        split = split or next(iter(tables))
        tables, images = tables[split], f"{images}/{split}"
    found = [name for name, feature in tables.features.items() if isinstance(feature, Image)]
    column = choose_column("image", column, found, () if found else IMAGE_COLUMNS, list(tables.features), images)
    column_of_images = tables.select_columns(column).rename_column(column, "image")
    return images, column_of_images.cast_column("image", Image(decode=False))


def find_files(images: str, excluded: Path | None = None) -> tuple[str | None, list[str]]:
    """
    The kind of the files of a folder or pattern, "image", ".parquet" or ".tar", and their paths; None if there are none. What a folder has
    besides them is printed.
    """
    endings = image_endings()
    by_kind: dict[str, list[str]] = {"image": [], ".parquet": [], ".tar": []}
    folder = Path(images)
    if folder.is_dir():
        below, left_out = files_below(
            folder,
            {excluded.resolve(): "in --output_dir"} if excluded else {},
            lambda path: path.suffix.lower() in by_kind,
        )
        files = [str(folder / path) for path in below]
    else:
        files, left_out = sorted(glob(images, recursive=True)), {}
    for file in map(printable_name, files):
        ending = Path(file).suffix.lower()
        by_kind.get("image" if ending in endings else ending, []).append(file)
    kinds = [kind for kind, files in by_kind.items() if files]
    if len(kinds) > 1:
        raise ValueError(
            f"--images {images} has files of several kinds, {' and '.join(kinds)}: give a pattern for one of them, such as "
            f"'{images.rstrip('/')}/**/*{Path(by_kind[kinds[-1]][0]).suffix}'."
        )
    if kinds and left_out:
        print(f"left out: {left_out_line(Counter(left_out.values()))}")
    return (kinds[0], by_kind[kinds[0]]) if kinds else (None, [])


def row_groups(file: str, column: str | None) -> Iterator[RowGroupPart]:
    """The groups of rows of a parquet file. Raises a ValueError if it cannot be read, or has no column of images."""
    try:
        parquet = pq.ParquetFile(existing_path(file))
    except Exception as error:
        raise ValueError(f"{file} cannot be read as parquet: {error}") from error
    column = choose_column("image", column, [], IMAGE_COLUMNS, parquet.schema_arrow.names, file)
    start = 0
    for index in range(parquet.num_row_groups):
        length = parquet.metadata.row_group(index).num_rows
        yield RowGroupPart(file, length, start, column, index)
        start += length


def list_parts(
    images: str,
    size: int,
    split: str | None = None,
    column: str | None = None,
    excluded: Path | None = None,
    **download: Any,
) -> list[Part]:
    """
    The images in parts.

    Args:
        images: A folder or a pattern of image files, of parquet files or of .tar shards; or a data set of the Hub or of `save_to_disk`.
        size: The number of image files or of rows in a part. Groups of rows of parquet files, and shards, stay as they are.
        split: Of a data set that has several.
        column: The column of the images in parquet files and data sets. By default it is found by its type or name.
        excluded: A folder whose files are no images, such as that of the results.
        download: Options of `load_dataset`.

    Raises:
        ValueError: If there are no images, or files of several kinds; if the split or the column is missing, or not the only one.
    """
    parts: list[Part]
    kind, files = find_files(images, excluded)
    if kind == "image":
        slices = [tuple(files[start : start + size]) for start in range(0, len(files), size)]
        return [FilesPart(chosen[0], len(chosen), chosen) for chosen in slices]
    if kind == ".tar":
        return [ShardPart(file, None) for file in files]
    if kind == ".parquet":
        parts = [part for file in files for part in row_groups(file, column)]
    else:
        name, table = open_table(images, split, column, download)
        starts = range(0, len(table), size)
        parts = [RowsPart(name, min(size, len(table) - start), start, table) for start in starts]
    if not any(part.length for part in parts):
        raise ValueError(f"--images {images} has no rows.")
    return parts
