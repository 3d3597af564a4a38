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
No image is trained and evaluated too: tables that list images twice, copies of files in folders, and given splits that overlap.

    pytest tests/data/test_copies.py
"""

import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from PIL import Image

from crossvit.data import DataArguments, load_images
from crossvit.data.copies import number_images
from crossvit.data.splits import features


def write_images(folder: Path, count: int = 20, first: int = 0) -> list[tuple[Path, str]]:
    """Images of two classes, all of one size in bytes, so that sizes do not tell them apart."""
    rows = []
    for number in range(first, first + count):
        label = ("cat", "dog")[number % 2]
        path = folder / label / f"{number}.bmp"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4), (number, 0, 0)).save(path)
        rows.append((path, label))
    return rows


def contents(data, split: str) -> list[bytes]:
    images = data.splits[split]["image"][:]
    return [image["bytes"] or Path(image["path"]).read_bytes() for image in images]


def load(capsys, **arguments):
    data = load_images(DataArguments(**arguments))
    return data, capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_a_split_goes_by_image(tmp_path, kind, capsys):
    rows = write_images(tmp_path / "images")
    if kind == "csv":
        lines = [f"{path},{label}" for path, label in 2 * rows]
        (tmp_path / "table.csv").write_text("image,label\n" + "\n".join(lines))
        source = {"train_file": str(tmp_path / "table.csv")}
    elif kind == "parquet":
        column = [{"bytes": path.read_bytes(), "path": None} for path, _ in 2 * rows]
        pq.write_table(
            pa.table({"image": column, "label": [label for _, label in 2 * rows]}), tmp_path / "all.parquet"
        )
        source = {"train_file": str(tmp_path / "all.parquet")}
    else:
        for path, label in rows:
            shutil.copy(path, path.with_stem(f"copy of {path.stem}"))
        source = {"train_dir": str(tmp_path / "images")}
    data, printed = load(capsys, **source, train_val_split=0.3)
    train, validation = contents(data, "train"), contents(data, "validation")
    assert len(train) + len(validation) == 40 and len(validation) == 12
    assert not set(train) & set(validation)
    assert "20 of 40 images are there before; all copies are on one side" in printed


def test_images_without_copies_are_divided_as_before(tmp_path, capsys):
    """So that a run of an earlier version goes on with the same images."""
    write_images(tmp_path)
    data, printed = load(capsys, train_dir=str(tmp_path), train_val_split=0.3)
    held_out = sorted(int(Path(image["path"]).stem) for image in data.splits["validation"]["image"][:])
    assert held_out == [2, 9, 12, 13, 15, 16] and "before" not in printed


def test_given_splits_that_overlap_are_named(tmp_path, capsys):
    write_images(tmp_path / "train")
    write_images(tmp_path / "validation", first=18)  # two of them are copies
    _, printed = load(capsys, train_dir=str(tmp_path / "train"), validation_dir=str(tmp_path / "validation"))
    assert "Warning: 2 of the 20 images to evaluate are among the training images" in printed
    assert str(tmp_path / "validation" / "cat" / "18.bmp") in printed


def test_one_file_with_two_labels_is_refused(tmp_path):
    rows = write_images(tmp_path)
    path, label = rows[4]
    lines = [f"{image},{name}" for image, name in (*rows, (path, "dog"))]
    (tmp_path / "table.csv").write_text("image,label\n" + "\n".join(lines))
    with pytest.raises(ValueError, match=rf"{path} has the label cat in row 5 and dog in row 21\. Remove one"):
        load_images(DataArguments(train_file=str(tmp_path / "table.csv")))


def test_content_is_compared_to_its_end():
    """Equal size and equal ends, but another middle."""
    long = [bytes(5000) + middle + bytes(5000) for middle in (b"a", b"b", b"a")]
    images = [{"bytes": content, "path": None} for content in (*long, b"", b"")]
    table = Dataset.from_dict({"image": images, "label": ["cat"] * 5}, features(False))
    assert number_images(table, table.select([1, 0])) == [[0, 1, 0, 3, 4], [1, 0]]
