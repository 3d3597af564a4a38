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
`crossvit.data.sources` reads what people have: folders with any names, phone photos, spreadsheets, parquet and shards. The
images and labels that are found are compared with the files and tables that each test writes.

    pytest tests/data/test_sources.py          a few seconds
"""

import io
import json
import os
import tarfile
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pillow_heif
import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from crossvit import CrossViTImageProcessorPil
from crossvit.configuration import image_files
from crossvit.data import list_parts, sources
from crossvit.data.copies import number_images
from crossvit.data.reading import decoding_error, read_image
from crossvit.inference.backends import read_images


NO_COLUMNS = {"image": None, "label": None}


def write_image(path: Path, color: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), (color, color, color)).save(path)
    return path


def found(split) -> dict[str, str]:
    """The label of each file."""
    return {image["path"]: label for image, label in zip(split.images["image"], split.images["label"])}


def folder(path: Path, columns=NO_COLUMNS, excluded=()) -> dict:
    return {name: split() for name, split in sources.from_folder(path, columns, dict(excluded)).items()}


# --- folders ---


def test_every_folder_is_a_class(tmp_path):
    """Words in names decide nothing: imagefolder made two classes of these, and took splits from `train` and `Testing` inside names."""
    names = [
        "train station",
        "train interior",
        "airport",
        "test kitchen",
        "__background__",
        ".hidden",
        "val[1]",
        "Testing",
    ]
    files = [write_image(tmp_path / name / f"{number}.png") for name in names for number in range(2)]
    splits = folder(tmp_path)
    assert splits.keys() == {""}
    assert found(splits[""]) == {str(file): file.parent.name for file in files}
    assert not splits[""].left_out


def test_all_images_below_a_class_with_any_ending(tmp_path):
    """Nested folders, upper case, AVIF, a name that begins with a dot, and a folder whose own name is a pattern."""
    root = tmp_path / "photos [2024] *"
    names = [
        "a/deep/er/1.png",
        "a/2.PNG",
        "a/3.JPeG",
        "a/.4.png",
        "b/5.avif",
        "b/6.webp",
        "b/7.tiff",
        "b/8.bmp",
        "b/x[1].png",
    ]
    files = [write_image(root / name) for name in names]
    pillow_heif.from_pillow(Image.new("RGB", (64, 64))).save(root / "b" / "9.HEIC")
    assert found(folder(root)[""]) == {
        **{str(file): file.relative_to(root).parts[0] for file in files},
        str(root / "b" / "9.HEIC"): "b",
    }


def test_training_batch_job_and_calibration_find_the_same_images(tmp_path, capsys):
    """A link to a folder is followed, and what programs leave behind is not read: a PDF ended `export --int8`."""
    files = {write_image(tmp_path / "photos" / name) for name in ("a/1.png", "b/2.jpg")}
    files.add(write_image(tmp_path / "elsewhere" / "3.png"))
    (tmp_path / "photos" / "b" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "b" / "loop").symlink_to(tmp_path / "photos")
    for name in ("a/._1.png", "a/.ipynb_checkpoints/1.png", "a/4.pdf", "out/5.parquet"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / name).write_text("x")
    (split,) = folder(tmp_path / "photos").values()
    assert {Path(path).resolve() for path in found(split)} == files
    parts = list_parts(str(tmp_path / "photos"), size=2, excluded=tmp_path / "photos" / "out")
    assert {Path(row["path"]).resolve() for part in parts for row in part.read()} == files
    assert (
        "left out: 1 x ._ files of macOS, 1 x .pdf, not an image, 1 x copies of Jupyter, 1 x in --output_dir"
        in capsys.readouterr().out
    )
    assert len(read_images(tmp_path / "photos", CrossViTImageProcessorPil(), 10)) == 3


def test_names_that_are_not_utf_8(tmp_path):
    """As Windows writes them into an archive. They are shown escaped, and found again."""
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/gr\xf6n"))
    for place, color in ((b"caf\xe9/\xfc.png", 10), (b"caf\xe9/u.png", 90), (b"tee/t.png", 10)):
        write_image(Path(os.fsdecode(os.fsencode(root) + b"/" + place)), color)
    (root / os.fsdecode(b"tee/x.\xff")).touch()
    (split,) = folder(root).values()
    name = f"{tmp_path}/gr\\xf6n/caf\\xe9/"
    assert found(split) == {
        f"{name}\\xfc.png": "caf\\xe9",
        f"{name}u.png": "caf\\xe9",
        f"{tmp_path}/gr\\xf6n/tee/t.png": "tee",
    }
    assert split.left_out == {".\\xff, not an image": 1}
    assert [read_image(image).getpixel((0, 0))[0] for image in split.images["image"]] == [90, 10, 10]
    (numbers,) = number_images(split.images)
    assert numbers[1] == numbers[2] != numbers[0]
    (part,) = list_parts(str(root), size=9)
    assert [row["image"] for row in part.read()] == list(found(split)) == part.names_after(0)
    assert [read_image(row).getpixel((0, 0))[0] for row in part.read()] == [90, 10, 10]


def test_photos_of_phones_can_be_read(tmp_path):
    pillow_heif.from_pillow(Image.new("RGB", (64, 32), (250, 0, 0))).save(tmp_path / "photo.heic")
    image = read_image({"path": str(tmp_path / "photo.heic"), "bytes": None})
    assert image.size == (64, 32) and np.abs(np.asarray(image).mean((0, 1)) - [250, 0, 0]).max() < 10


def test_without_pillow_heif_the_package_is_named(tmp_path, monkeypatch):
    endings = image_files.image_endings() - {".heic", ".heif"}
    monkeypatch.setattr(image_files, "image_endings", lambda: endings)
    write_image(tmp_path / "a" / "1.png")
    (tmp_path / "a" / "2.heic").touch()
    (split,) = folder(tmp_path).values()
    assert sources.left_out_line(split.left_out) == "1 x .heic (photos of Apple's phones: pip install pillow-heif)"


def test_what_is_left_out_and_why(tmp_path):
    files = [write_image(tmp_path / name / "1.png") for name in ("a", "b")]
    write_image(tmp_path / "stray.png")
    write_image(tmp_path / "a" / ".ipynb_checkpoints" / "1-checkpoint.png")
    write_image(tmp_path / "out" / "training.png")
    for name in ("a/notes.txt", "a/more.txt", "b/no_ending", "b/._1.png", "train.csv", "__MACOSX/a/._1.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "nothing").mkdir()
    (split,) = folder(tmp_path, excluded={(tmp_path / "out").resolve(): "in --output_dir"}).values()
    assert found(split) == {str(file): file.parent.name for file in files}
    assert split.left_out == Counter(
        {
            "beside the folders of classes": 1, "copies of Jupyter": 1, "in --output_dir": 1, ".txt, not an image": 2,
            "no ending, not an image": 1, "._ files of macOS": 1, ".csv, not an image": 1, "files of macOS": 1, "empty folder nothing": 1,
        }
    )  # fmt: skip


def test_other_files_with_the_name_of_a_table(tmp_path):
    """They were taken for images. What was left out of one split is not said of the other."""
    for split in ("train", "val"):
        write_image(tmp_path / split / "a" / "metadata.png")
        write_image(tmp_path / split / "b" / "1.png")
    for name in ("train/a/metadata.txt", "train/b/metadata.csv"):
        (tmp_path / name).write_text("x")
    splits = folder(tmp_path)
    assert [split.images["label"][:] for split in splits.values()] == [["a", "b"]] * 2
    assert splits["train"].left_out == {".txt, not an image": 1, "a table inside of a class": 1}
    assert not splits["val"].left_out


@pytest.mark.parametrize("names", [("train", "validation"), ("train", "val", "test"), ("train", "valid"), ("test",)])
def test_folders_with_exactly_these_names_are_splits(tmp_path, names):
    for name in names:
        write_image(tmp_path / name / "a" / "1.png")
        write_image(tmp_path / name / "test" / "1.png")  # a class
    splits = folder(tmp_path)
    assert splits.keys() == set(names)
    assert all(sorted(split.images["label"]) == ["a", "test"] for split in splits.values())


def test_a_class_may_be_named_train(tmp_path):
    for name in ("train", "bus", "plane"):
        write_image(tmp_path / name / "1.png")
    assert sorted(folder(tmp_path)[""].images["label"]) == ["bus", "plane", "train"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("Training/a/1.png", "Testing/a/1.png"), "look like splits, not like classes: Testing, Training"),
        (("train/a/1.png", "Testing/a/1.png"), "train, which are splits, beside Testing"),
        (("train/a/1.png", "val/a/1.png", "extra/1.png"), "train, val, which are splits, beside extra"),
        (("train/1.png", "test/1.png"), "The images of .*(train|test), 1 in all, lie in one folder"),
        (("1.png", "2.png"), "The images of .*, 2 in all, lie in one folder"),
        ((), "has no image. Expected .*/CLASS/IMAGE.jpg"),
    ],
)
def test_folders_that_may_mean_something_else_are_refused(tmp_path, files, message):
    for name in files:
        write_image(tmp_path / name)
    with pytest.raises(ValueError, match=message):
        folder(tmp_path)


def test_links_are_followed_once(tmp_path):
    write_image(tmp_path / "elsewhere" / "1.png")
    (tmp_path / "data" / "a").mkdir(parents=True)
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    write_image(tmp_path / "data" / "a" / "1.png")
    (tmp_path / "data" / "a" / "above").symlink_to(tmp_path / "data")
    assert sorted(folder(tmp_path / "data")[""].images["label"]) == ["a", "b"]


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_table_beside_the_images_names_their_classes(tmp_path, kind):
    for split in ("train", "test"):
        for number in range(3):
            write_image(tmp_path / split / "images" / f"{number}.png")
        labels = ["x", "y"]
        rows = [{"file_name": f"images/{number}.png", "label": label} for number, label in enumerate(labels)]
        if kind == "csv":
            text = "file_name,label\n" + "".join(f"{row['file_name']},{row['label']}\n" for row in rows)
        else:
            text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / split / f"metadata.{kind}").write_text(text)
    splits = folder(tmp_path)
    assert [split.images["label"][:] for split in splits.values()] == [["x", "y"]] * 2
    assert splits["train"].left_out == {f"not in metadata.{kind}": 1}


def test_lists_of_labels_in_a_table(tmp_path):
    for number in range(3):
        write_image(tmp_path / f"{number}.png")
    rows = [
        {"file_name": "0.png", "labels": ["a", "b"]},
        {"file_name": "1.png", "labels": ["b"]},
        {"file_name": "2.png", "labels": []},
    ]
    (tmp_path / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (split,) = folder(tmp_path).values()
    assert split.multi_label and split.images["label"][:] == [["a", "b"], ["b"], []]


# --- CSV and JSON lines ---


WORDS = ["None", "NA", "null", "true", "1e3", "007", "nan", "1", "01", "Zürich, CH"]


def file_split(file: Path, columns=NO_COLUMNS, streaming=False):
    return sources.from_file(str(file), columns, streaming, "--train_file")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_words_stay_words(tmp_path, encoding, delimiter):
    """Also in the files of spreadsheets, with spaces and quotation marks. CSV readers make numbers and gaps of such words."""
    write_image(tmp_path / "pictures" / "1.png")
    lines = [
        f'pictures/1.png{delimiter} "{word}"' if delimiter in word else f"pictures/1.png{delimiter} {word} "
        for word in WORDS
    ]
    lines = [line.replace(' "', '"') for line in lines]
    (tmp_path / "a.CSV").write_bytes("\r\n".join([f"path{delimiter}label", *lines]).encode(encoding))
    split = file_split(tmp_path / "a.CSV")
    assert split.images["label"][:] == WORDS
    assert {image["path"] for image in split.images["image"]} == {str(tmp_path / "pictures" / "1.png")}


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("path,label\n1.png,a\n,b\n", {}, "row 2: the column path has '', expected the path of an image"),
        ("path,label\n1.png,\n", {}, "row 1: it has no label"),
        ("path,label\n17,a\n", {}, "row 1: .*17 does not exist. Paths must be relative to"),
        ("path,label\n1.png,a,b\n", {}, "line 2: the number of cells is not 2"),
        ("path,label\n1.png\n", {}, "line 2: the number of cells is not 2"),
        ("path,label\n", {}, "has no rows"),
        (
            "path,label,class\n1.png,a,b\n",
            {},
            "several columns that may be the labels: label, class. Choose one with --label_column_name",
        ),
        ("path,file_name,label\n1.png,1.png,b\n", {}, "several columns that may be the images: path, file_name"),
        ("path,kind\n1.png,a\n", {}, "no column of labels in .*; the columns are path, kind"),
        ("path,kind\n1.png,a\n", {"label": "sort"}, "no column of labels named sort"),
    ],
)
def test_mistakes_in_a_csv(tmp_path, text, columns, message):
    write_image(tmp_path / "1.png")
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        file_split(tmp_path / "a.csv", {**NO_COLUMNS, **columns})


def test_text_that_cannot_be_read(tmp_path):
    (tmp_path / "a.csv").write_bytes("path,label\n1.png,Zürich\n".encode("latin-1"))
    with pytest.raises(ValueError, match="not text in UTF-8 or UTF-16: .*Save it as `CSV UTF-8`"):
        file_split(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text("{'path': 1}\n")
    with pytest.raises(ValueError, match="a line that is not JSON"):
        file_split(tmp_path / "a.jsonl")


@pytest.mark.parametrize(
    ("label", "message"), [(None, "row 1: it has no label"), (2.5, "it has the label 2.5, expected a word")]
)
def test_labels_that_are_none(tmp_path, label, message):
    write_image(tmp_path / "1.png")
    (tmp_path / "a.jsonl").write_text(json.dumps({"path": "1.png", "label": label}) + "\n")
    with pytest.raises(ValueError, match=message):
        file_split(tmp_path / "a.jsonl")


# --- parquet ---


def png(color: int = 0) -> bytes:
    file = io.BytesIO()
    Image.new("L", (8, 8), color).save(file, "PNG")
    return file.getvalue()


def write_parquet(path: Path, columns: dict, features: dict | None = None) -> Path:
    if features is None:  # as other programs write it
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        datasets.Dataset.from_dict(columns, datasets.Features(features)).to_parquet(path)
    return path


IMAGES = [{"bytes": png(number), "path": None} for number in range(3)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("labels", "feature", "expected"),
    [
        ([2, 0, 1], datasets.ClassLabel(names=["c", "a", "b"]), ["b", "c", "a"]),
        ([[0, 2], [], [1]], datasets.List(datasets.ClassLabel(names=["c", "a", "b"])), [["c", "b"], [], ["a"]]),
        ([7, 0, -3], datasets.Value("int64"), ["7", "0", "-3"]),
        ([[7], [0, 1], []], datasets.List(datasets.Value("int32")), [["7"], ["0", "1"], []]),
        ([["x"], ["x", "y"], []], datasets.List(datasets.Value("string")), [["x"], ["x", "y"], []]),
        (["x", "007", "None"], datasets.Value("string"), ["x", "007", "None"]),
        ([1.0, 0.0, 2.0], datasets.Value("float64"), ["1", "0", "2"]),
        ([True, False, True], datasets.Value("bool"), ["True", "False", "True"]),
    ],
)  # fmt: skip
def test_labels_of_every_kind_become_names(tmp_path, labels, feature, expected, streaming):
    file = write_parquet(
        tmp_path / "a.parquet", {"image": IMAGES, "label": labels}, {"image": datasets.Image(), "label": feature}
    )
    split = file_split(file, streaming=streaming)
    samples = list(split.images)
    assert [sample["label"] for sample in samples] == expected
    assert [sample["image"]["bytes"] for sample in samples] == [image["bytes"] for image in IMAGES]
    assert split.multi_label == isinstance(expected[0], list)
    assert split.classes == (["c", "a", "b"] if "ClassLabel" in str(feature) else None)


def test_a_number_that_no_class_has(tmp_path):
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}
    file = write_parquet(tmp_path / "a.parquet", {"image": IMAGES, "label": [0, -1, 1]}, features)
    with pytest.raises(ValueError, match="image 2: it has the label -1, expected 0 to 1"):
        file_split(file)


@pytest.mark.parametrize("kind", ["bytes", "paths", "structs"])
def test_images_of_every_kind(tmp_path, kind):
    (tmp_path / "1.png").write_bytes(png(0))
    column = {"bytes": [png(0)], "paths": ["1.png"], "structs": [{"bytes": png(0), "path": None}]}[kind]
    file = write_parquet(tmp_path / "a.parquet", {"image": column, "label": ["a"]})
    for streaming in (False, True):
        (sample,) = file_split(file, streaming=streaming).images
        assert read_image(sample["image"]).size == (8, 8)


@pytest.mark.parametrize("streaming", [False, True])
def test_missing_paths_are_images_that_cannot_be_read(tmp_path, streaming):
    (tmp_path / "1.png").write_bytes(png(0))
    file = write_parquet(tmp_path / "a.parquet", {"image": ["1.png", None, ""], "label": ["a", "b", "b"]})
    problems = [decoding_error(sample["image"]) for sample in file_split(file, streaming=streaming).images]
    assert problems == [None, "there is no image", "there is no image"]


def test_a_column_that_is_no_image(tmp_path):
    file = write_parquet(tmp_path / "a.parquet", {"image": [1, 2], "label": ["a", "b"]})
    with pytest.raises(
        ValueError, match="The column image of .* has Value.*, expected images, their bytes or their paths"
    ):
        file_split(file)


def test_several_columns_of_labels_are_named(tmp_path):
    """The first one won, even beside a plain `label`."""
    columns = {"image": IMAGES, "color": [0, 0, 1], "label": [3, 4, 5]}
    features = {
        "image": datasets.Image(), "color": datasets.ClassLabel(names=["red", "green"]), "label": datasets.Value("int64")
    }  # fmt: skip
    file = write_parquet(tmp_path / "a.parquet", columns, features)
    with pytest.raises(ValueError, match="several columns that may be the labels: color, label"):
        file_split(file)
    assert file_split(file, {"image": None, "label": "label"}).images["label"][:] == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("absent.csv", "absent.csv does not exist"),
        ("a.xlsx", "must be files of one kind that end in one of .csv"),
        ("*", "of one kind"),
    ],
)
def test_files_that_cannot_be_used(tmp_path, pattern, message):
    for name in ("a.xlsx", "b.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=message):
        file_split(tmp_path / pattern)


def test_an_empty_file_names_the_cause(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(ValueError, match="The images cannot be loaded: .*[Pp]arquet"):
        file_split(tmp_path / "a.parquet")


def test_a_name_with_brackets_is_no_pattern(tmp_path):
    file = write_parquet(tmp_path / "part[1].parquet", {"image": [png(0)], "label": ["a"]})
    assert file_split(file).images["label"][:] == ["a"]


def hub(name: Path, streaming: bool = False, **download) -> dict:
    splits = sources.from_hub(str(name), None, NO_COLUMNS, streaming, {}, **download)
    return {name: split() for name, split in splits.items()}


def test_folders_in_place_of_a_hub_name(tmp_path):
    """A folder of images is read as --train_dir is, and one of `save_to_disk` by datasets."""
    write_image(tmp_path / "photos" / "train station" / "1.png")
    write_image(tmp_path / "photos" / "airport" / "1.png")
    splits = hub(tmp_path / "photos")
    assert sorted(splits[""].images["label"]) == ["airport", "train station"]
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": IMAGES, "label": [0, 1, 1]}, features)
    datasets.DatasetDict({"train": table, "test": table}).save_to_disk(tmp_path / "saved")
    splits = hub(tmp_path / "saved")
    assert [split.images["label"][:] for split in splits.values()] == [["a", "b", "b"]] * 2


@pytest.mark.parametrize("streaming", [False, True])
def test_a_repository_of_parquet_files(tmp_path, streaming):
    """As datasets are published on the Hub: both splits have the list of classes of the repository."""
    for split, labels in (("train", [0, 1, 1]), ("test", [1, 0, 0])):
        features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["b", "a"])}
        (tmp_path / "data").mkdir(exist_ok=True)
        write_parquet(
            tmp_path / "data" / f"{split}-00000-of-00001.parquet", {"image": IMAGES, "label": labels}, features
        )
    splits = hub(tmp_path, streaming, cache_dir=None, token=None)
    labels = {name: [sample["label"] for sample in split.images] for name, split in splits.items()}
    assert labels == {"train": ["b", "a", "a"], "test": ["a", "b", "b"]}
    assert splits["train"].classes == ["b", "a"]


def write_shard(file: Path, count: int = 8):
    """A WebDataset shard."""
    with tarfile.open(file, "w") as shard:
        for number in range(count):
            for ending, content in (("png", png(number)), ("cls", b"0")):
                member = tarfile.TarInfo(f"{number}.{ending}")
                member.size = len(content)
                shard.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_shard_that_is_cut_off(tmp_path, is_folder):
    """Python's tarfile takes a cut in the header of a member for the end of the file, and so does datasets."""
    write_shard(tmp_path / "0.tar")

    def read():
        return hub(tmp_path) if is_folder else file_split(tmp_path / "0.tar", {"image": "png", "label": "cls"})

    read()
    with tarfile.open(tmp_path / "0.tar") as shard:
        last = shard.getmembers()[-1].offset
    os.truncate(tmp_path / "0.tar", last + 100)
    with pytest.raises(ValueError, match=r"0\.tar breaks off: .* Copy or write it again"):
        read()


def test_a_saved_data_set_without_rows(tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": [], "label": []}, features)
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match="saved cannot be loaded .* must have rows in every split"):
        hub(tmp_path / "saved")
