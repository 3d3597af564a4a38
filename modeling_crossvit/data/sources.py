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
"""Reads any source of images into splits: folders, tables of paths, parquet and WebDataset shards, data sets on the Hub."""

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from glob import escape, glob
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, DatasetDict, Image, IterableDataset, load_dataset, load_from_disk

from crossvit.configuration.image_files import LEFTOVERS, files_below, printable_name
from crossvit.data.classes import class_names, named_labels
from crossvit.data.splits import Label, Split, features, left_out_line, with_labels


# Splits by name. A function loads each, because only those that are used must be right.
Sources = dict[str, Callable[[], Split]]

# Names of folders that are splits, and the words that others use for them.
TRAIN = ("train",)
VALIDATION = ("validation", "val", "valid", "test")
LIKE_A_SPLIT = {*TRAIN, *VALIDATION, "training", "testing", "validate", "dev", "eval", "evaluation", "tests"}

ROW_ENDINGS = {".csv", ".tsv", ".jsonl"}
SHARD_END = 1024
SHARD_BUILDERS = {".parquet": "parquet", ".tar": "webdataset"}

# Columns that are recognized by their name.
IMAGE_COLUMNS = ("image", "img", "path", "image_path", "file_name", "filename", "file", "filepath")
LABEL_COLUMNS = ("label", "labels", "class", "cls")


# --- columns ---


def choose_column(kind: str, given: str | None, certain: list[str], others: tuple[str, ...], columns: list[str], origin: str) -> str:  # fmt: skip
    """The column of images or of labels: the given one, or the only candidate."""
    if given is not None and given in columns:
        return given
    candidates = certain + [name for name in others if name in columns and name not in certain]
    if given is None and len(candidates) == 1:
        return candidates[0]
    if given is None and candidates:
        raise ValueError(
            f"{origin} has several columns that may be the {kind}s: {', '.join(candidates)}. Choose one with --{kind}_column_name."
        )
    raise ValueError(
        f"There is no column of {kind}s{f' named {given}' if given else ''} in {origin}; the columns are {', '.join(columns)}. "
        f"Name the column with --{kind}_column_name."
    )


def inner_feature(feature: Any) -> Any:
    """The feature of the items of a list; other features as they are."""
    return getattr(feature, "feature", feature)


def from_table(
    table: Dataset | IterableDataset, origin: str, columns: dict[str, str | None], folder: Path | None = None
) -> Split:
    """
    A split of `datasets`.

    Args:
        columns: The columns `image` and `label` that the user has named, or None.
        folder: The folder to which paths are relative.

    Raises:
        ValueError: If a column is missing or has something else than images, or if a label is missing or wrong.
    """
    found = table.features or {}
    images = [name for name, feature in found.items() if isinstance(feature, Image)]
    labels = [name for name, feature in found.items() if isinstance(inner_feature(feature), ClassLabel)]
    # An image beside the encoded ones is a path or a preview of them.
    image = choose_column("image", columns["image"], images, () if images else IMAGE_COLUMNS, list(found), origin)
    label = choose_column("label", columns["label"], labels, LABEL_COLUMNS, list(found), origin)
    feature = found[image]
    is_path = getattr(feature, "dtype", None) in ("string", "large_string")
    has_bytes = (
        getattr(feature, "dtype", None) in ("binary", "large_binary")
        or isinstance(feature, dict)
        and "bytes" in feature
    )
    if not isinstance(feature, Image) and not is_path and not has_bytes:
        raise ValueError(
            f"The column {image} of {origin} has {feature}, expected images, their bytes or their paths. Name the column with "
            "--image_column_name."
        )
    table = table.select_columns([image, label]).rename_columns(
        {column: name for column, name in ((image, "image"), (label, "label")) if column != name}
    )
    # Before all other steps, because a stream would decode the image at each of them.
    table = table.cast_column("image", Image(decode=False))
    if folder is not None and is_path:
        table = table.map(_join_path, fn_kwargs={"folder": folder}, features=table.features)
    feature = found[label]
    multi_label = feature is not inner_feature(feature)
    names = getattr(inner_feature(feature), "names", None)
    if isinstance(table, IterableDataset):
        table = table.map(_name_labels, fn_kwargs={"names": names}, features=features(multi_label))
    else:
        table = with_labels(table, named_labels(table["label"][:], names, origin), multi_label)
    return Split(table, multi_label, names)


def _join_path(sample: dict, folder: Path) -> dict:
    path = (sample["image"] or {}).get("path")
    return {"image": {"bytes": None, "path": printable_name(str(folder / path)) if path else None}}


def _name_labels(sample: dict, names: list[str] | None) -> dict:
    return {"label": class_names(sample["label"], names)}


def from_lists(
    paths: list[str], labels: list[Label], places: list[str], left_out: Counter[str] | None = None
) -> Split:
    """A split of image files, with a name or a list of names for each."""
    multi_label = any(isinstance(label, list) for label in labels)
    if multi_label:
        labels = [label if isinstance(label, list) else [label] for label in labels]
    # Arrow takes UTF-8 alone.
    images = [{"path": printable_name(path), "bytes": None} for path in paths]
    labels = [
        list(map(printable_name, label)) if isinstance(label, list) else printable_name(label) for label in labels
    ]
    table = Dataset.from_dict({"image": images, "label": labels}, features(multi_label))
    return Split(table, multi_label, None, places, left_out or Counter())


# --- tables of paths: CSV and JSON lines ---


def read_text(file: Path) -> str:
    content = file.read_bytes()
    encoding = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"{file} is not text in UTF-8 or UTF-16: {error}. Save it as `CSV UTF-8`.") from error


def read_rows(file: Path) -> list[dict]:
    """The rows of a CSV, TSV or JSON lines file. The cells of a CSV stay the words that they are: None, NA, 007."""
    text = read_text(file)
    if file.suffix.lower() == ".jsonl":
        try:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
        except ValueError as error:
            raise ValueError(f"{file} has a line that is not JSON: {error}.") from error
    else:
        header = text.split("\n", 1)[0]
        delimiter = max(",;\t", key=header.count)  # spreadsheets of many countries write semicolons
        reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
        names = reader.fieldnames or []
        rows = []
        for row in reader:
            if None in row or None in row.values():
                raise ValueError(
                    f"{file}, line {reader.line_num}: the number of cells is not {len(names)}, that of the first line "
                    f"({', '.join(names)}). Put cells with the delimiter {delimiter!r} into quotation marks."
                )
            rows.append({name.strip(): cell.strip() for name, cell in row.items()})
    if not rows:
        raise ValueError(f"The images cannot be loaded: {file} has no rows below the names of the columns.")
    return rows


def from_rows(rows: list[dict], file: Path, columns: dict[str, str | None]) -> Split:
    """A split of the rows of a CSV, TSV or JSON lines file. Paths are relative to the file's folder."""
    names = list(rows[0])
    image = choose_column("image", columns["image"], [], IMAGE_COLUMNS, names, str(file))
    label = choose_column("label", columns["label"], [], LABEL_COLUMNS, names, str(file))
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(image), str) or not row[image]:
            raise ValueError(
                f"{file}, row {number}: the column {image} has {row.get(image)!r}, expected the path of an image. Choose the column with "
                "--image_column_name."
            )
    first = file.parent / rows[0][image]
    if not first.exists():
        raise ValueError(
            f"{file}, row 1: {first} does not exist. Paths must be relative to {file.parent}, or begin with /; the column is {image} "
            "(choose another one with --image_column_name)."
        )
    labels = named_labels([row.get(label) for row in rows], None, str(file), lambda index: f"row {index + 1}")
    places = [row[image] for row in rows]
    return from_lists([str(file.parent / place) for place in places], labels, places)


# --- shards and the Hub ---


def load(*arguments: Any, **options: Any) -> Any:
    """What `load_dataset` gives; its failures as ValueErrors."""
    try:
        return load_dataset(*arguments, **options)
    # An absent repository, a missing network, an empty file and an unknown configuration each raise an exception of their own kind.
    except Exception as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise ValueError(f"The images cannot be loaded: {error}{cause}") from error


def load_saved(folder: str) -> Dataset | DatasetDict:
    """A data set of `save_to_disk`."""
    try:
        return load_from_disk(folder)
    # One without rows raises an IndexError.
    except Exception as error:
        raise ValueError(
            f"The data set {folder} cannot be loaded ({type(error).__name__}: {error}). One of `save_to_disk` must have rows in every split."
        ) from error


def check_shard_ends(files: Iterable[str | Path]) -> None:
    """Raises a ValueError if a .tar file is cut off. Its readers take that for the end, and say nothing of the images that are missing."""
    for file in files:
        with open(file, "rb") as shard:
            shard.seek(max(os.path.getsize(file) - SHARD_END, 0))
            if shard.read() != bytes(SHARD_END):
                raise ValueError(
                    f"{file} breaks off: a .tar file ends with {SHARD_END} bytes of zero. Copy or write it again."
                )


def from_file(pattern: str, columns: dict[str, str | None], streaming: bool, option: str) -> Split:
    """A split of one CSV, TSV or JSON lines file, or of parquet or WebDataset files, which may be a pattern."""
    is_local = "://" not in pattern
    files = [pattern] if not is_local or os.path.exists(pattern) else sorted(glob(pattern, recursive=True))
    if not files:
        raise ValueError(
            f"{option} {pattern} does not exist. Give the path of a file, or a pattern such as 'shards/*.tar'."
        )
    endings = {Path(file).suffix.lower() for file in files}
    if len(endings) > 1 or not endings <= {*ROW_ENDINGS, *SHARD_BUILDERS} or Path(files[0]).is_dir():
        expected = ", ".join([*sorted(ROW_ENDINGS), *SHARD_BUILDERS])
        raise ValueError(f"{option} must be files of one kind that end in one of {expected}; got {pattern}.")
    (ending,) = endings
    if ending in ROW_ENDINGS:
        if len(files) > 1:
            raise ValueError(f"{option} {pattern} names {len(files)} files, expected one. Join them into one file.")
        return from_rows(read_rows(Path(files[0])), Path(files[0]), columns)
    if is_local and ending == ".tar":
        check_shard_ends(files)
    # Each split is loaded alone, because datasets gives all splits the numbers of the first one's classes.
    names = [escape(file) for file in files] if is_local else files
    table = load(SHARD_BUILDERS[ending], data_files=names, split="train", streaming=streaming)
    return from_table(table, pattern, columns, Path(files[0]).parent if is_local else None)


def from_hub(
    name: str,
    config: str | None,
    columns: dict[str, str | None],
    streaming: bool,
    excluded: dict[Path, str],
    **download: str | None,
) -> Sources:
    """
    The splits of a data set on the Hub. A folder on this computer may be given too: of images, shards, or `save_to_disk`.
    """
    folder = Path(name)
    is_saved = (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()
    if folder.is_dir() and not is_saved:
        endings = {path.suffix.lower() for path in folder.rglob("*") if not path.name.startswith("metadata.")}
        if not endings & {*ROW_ENDINGS, *SHARD_BUILDERS, ".arrow", ".json", ".zip", ".py"}:
            return from_folder(folder, columns, excluded)
        check_shard_ends(folder.rglob("*.tar"))
    tables = load_saved(name) if is_saved else load(name, config, streaming=streaming, **download)
    tables = {"train": tables} if isinstance(tables, Dataset) else tables
    return {split: partial(from_table, table, f"{name}, {split}", columns) for split, table in tables.items()}


# --- folders ---


def is_table(path: Path) -> bool:
    """Whether a file is a table of the images beside it."""
    return path.stem == "metadata" and path.suffix.lower() in ROW_ENDINGS


def has_classes(files: list[Path], split: str) -> bool:
    """Whether the folder of a split has folders of classes, or a table of its images."""
    below = [path for path in files if path.parts[0] == split]
    return all(len(path.parts) > 2 for path in below) or any(map(is_table, below))


def split_folders(folder: Path, files: list[Path]) -> list[str]:
    """
    The folders that are splits: if there is `train` with folders of classes, or nothing but splits. What only looks like splits
    is a ValueError.
    """
    first = sorted({path.parts[0] for path in files if len(path.parts) > 1})
    exact = [name for name in first if name in TRAIN + VALIDATION]
    others = [name for name in first if name not in exact]
    if exact and not others:
        return exact
    if "train" in exact and has_classes(files, "train"):
        raise ValueError(
            f"{folder} has the folders {', '.join(exact)}, which are splits, beside {', '.join(others)}. Move the others away, or name "
            f"the folders of classes with --train_dir {folder / 'train'} and --validation_dir."
        )
    if first and all(name.lower() in LIKE_A_SPLIT for name in first):
        raise ValueError(
            f"The folders of {folder} look like splits, not like classes: {', '.join(first)}. Splits are recognized by the names "
            f"{', '.join(TRAIN + VALIDATION)}. Rename them, or name them with --train_dir and --validation_dir."
        )
    return []


def from_folder(folder: Path, columns: dict[str, str | None], excluded: dict[Path, str]) -> Sources:
    """
    The splits of a folder, or one split named "". Each folder on the first level is a class, with all images below it. A table
    `metadata.csv` or `metadata.jsonl` beside the images names their classes instead, if it has a column for them.
    """
    files, left_out = files_below(folder, excluded, is_table)
    if all(map(is_table, files)):
        others = f" Left out: {left_out_line(Counter(left_out.values()))}." if left_out else ""
        raise ValueError(f"{folder} has no image. Expected {folder}/CLASS/IMAGE.jpg.{others}")
    splits: Sources = {}
    for name in split_folders(folder, files) or [""]:
        below = [path.relative_to(name) for path in files if not name or path.parts[0] == name]
        reasons = Counter(reason for path, reason in left_out.items() if not name or path.parts[0] == name)
        splits[name] = partial(from_class_folders, folder / name, below, columns, reasons)
    return splits


def from_class_folders(
    folder: Path, files: list[Path], columns: dict[str, str | None], left_out: Counter[str]
) -> Split:
    """One split of such a folder. `files` are relative to it."""
    tables = [path for path in files if is_table(path)]
    images = [path for path in files if not is_table(path)]
    left_out = left_out + Counter("a table inside of a class" for table in tables if len(table.parts) > 1)
    table = next((path for path in tables if len(path.parts) == 1), None)
    if table is not None:
        rows = read_rows(folder / table)
        if columns["label"] is not None or set(LABEL_COLUMNS) & set(rows[0]):
            split = from_rows(rows, folder / table, columns)
            listed_images = {Path(place) for place in split.places or ()}
            split.left_out = left_out + Counter({f"not in {table}": len(set(images) - listed_images)})
            return split
    elif columns["label"] is not None:
        raise ValueError(
            f"There is no column of labels named {columns['label']} in {folder}; the columns are image, label. Folders name the classes: "
            "leave out --label_column_name, or put a table metadata.csv beside the images."
        )
    in_classes = [path for path in images if len(path.parts) > 1]
    stray = len(images) - len(in_classes)
    if not in_classes:
        raise ValueError(
            f"The images of {folder}, {stray} in all, lie in one folder. Put the images of each class into a folder of its own: "
            f"{folder}/CLASS/IMAGE.jpg."
        )
    left_out = left_out + Counter({"beside the folders of classes": stray})
    with_files = {path.parts[0] for path in files}
    for child in sorted(folder.iterdir()):
        if child.is_dir() and child.name not in with_files | LEFTOVERS.keys() and not any(child.rglob("*.*")):
            left_out[f"empty folder {printable_name(child.name)}"] += 1
    paths, places = [str(folder / path) for path in in_classes], [path.as_posix() for path in in_classes]
    return from_lists(paths, [path.parts[0] for path in in_classes], places, left_out)
