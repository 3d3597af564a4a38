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
`crossvit.data`: splits that have every class, classes that are matched to a model by name, images that are read as pipelines read them, and
images that cannot be read. Expected values are counted from the files that each test writes, or come from transformers.

    pytest tests/data/test_images.py          a few seconds
"""

import hashlib
import json
import pickle
from collections import Counter
from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_sample_weight
from small_models import small_config
from transformers.image_utils import load_image

import crossvit.data
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.data import DataArguments, EvaluationTransform, ImageData, load_images, read_image
from crossvit.data.samples import SignalGuard
from crossvit.trainer import ModelArguments, load_model


@pytest.fixture
def load(tmp_path):
    """Loads images with these options."""

    def load(training: bool = True, seed: int = 0, **options):
        options = {name: str(value) if isinstance(value, Path) else value for name, value in options.items()}
        arguments = DataArguments(**options)
        return load_images(arguments, seed, tmp_path / "out", training)

    return load


def write_images(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = hashlib.sha512(
                f"{folder.name}/{name}/{number}".encode()
            ).digest()  # no image is a copy of another
            Image.frombytes("L", (8, 8), pixels).save(folder / name / f"{number}.png")
    return folder


def counts(data, split: str) -> dict:
    return dict(Counter(data.labels(split)))


# --- splits ---


@pytest.mark.parametrize("seed", range(5))
def test_a_rare_class_is_on_both_sides(load, tmp_path, seed):
    folder = write_images(tmp_path / "photos", {"common": 100, "rare": 2, "single": 1})
    data = load(train_dir=folder, seed=seed)
    assert counts(data, "train") == {"common": 85, "rare": 1, "single": 1}
    assert counts(data, "validation") == {"common": 15, "rare": 1}
    paths = [{image["path"] for image in data.splits[split]["image"]} for split in ("train", "validation")]
    assert len(paths[0]) == 87 and not paths[0] & paths[1]


def test_rare_labels_of_several_are_on_both_sides(load, tmp_path):
    (tmp_path / "photos").mkdir()
    rows = [["common", "rare"] if number < 2 else ["common"] for number in range(40)]
    write_images(tmp_path, {"photos": 40})
    text = [json.dumps({"file_name": f"{number}.png", "labels": row}) for number, row in enumerate(rows)]
    (tmp_path / "photos" / "metadata.jsonl").write_text("\n".join(text))
    data = load(train_dir=tmp_path / "photos")
    assert data.multi_label and data.classes == ["common", "rare"]
    for split in ("train", "validation"):
        assert ["common", "rare"] in data.labels(split)


def test_evaluation_takes_the_whole_folder_or_file(load, tmp_path):
    """A part of it was split off, and a file alone failed for a split `train` that nobody asked for."""
    folder = write_images(tmp_path / "photos", {"a": 30, "b": 15})
    assert counts(load(training=False, validation_dir=folder), "validation") == {"a": 30, "b": 15}
    (tmp_path / "a.csv").write_text("path,label\n" + "".join(f"photos/a/{n}.png,a\n" for n in range(7)))
    data = load(training=False, validation_file=tmp_path / "a.csv")
    assert counts(data, "validation") == {"a": 7} and data.splits.keys() == {"validation"}


def test_evaluation_after_training_takes_the_same_images(load, tmp_path):
    folder = write_images(tmp_path / "photos", {"a": 30, "b": 15})
    trained, evaluated = load(train_dir=folder), load(training=False, train_dir=folder)
    assert trained.splits["validation"]["image"][:] == evaluated.splits["validation"]["image"][:]


def test_evaluation_images_inside_the_training_folder(load, tmp_path):
    folder = write_images(tmp_path / "photos", {"a": 30, "b": 15, "held out/a": 3, "held out/b": 4})
    data = load(train_dir=folder, validation_dir=folder / "held out")
    assert counts(data, "train") == {"a": 30, "b": 15} and counts(data, "validation") == {"a": 3, "b": 4}
    folder = write_images(tmp_path / "splits", {"train/a": 5, "train/b": 5, "val/a": 3, "val/b": 4})
    data = load(train_dir=folder, validation_dir=folder / "val")
    assert counts(data, "train") == {"a": 5, "b": 5} and counts(data, "validation") == {"a": 3, "b": 4}


def test_sources_of_two_kinds(load, tmp_path):
    """The classes of a folder and of a CSV are compared by name."""
    folder = write_images(tmp_path / "photos", {"a": 3, "b": 4})
    (tmp_path / "v.csv").write_text("path,label\nphotos/b/0.png,b\nphotos/a/0.png,a\n")
    data = load(train_dir=folder, validation_file=tmp_path / "v.csv")
    assert [data.label2id[name] for name in data.labels("validation")] == [1, 0]


def test_lists_of_classes_that_differ(load, tmp_path):
    """Validation lacks a class, so its numbers mean other names. datasets forced those of the training images on them."""
    files = {}
    for split, names in (("train", ["a", "b", "c"]), ("validation", ["b", "c"])):
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        rows = {"image": [Image.new("L", (8, 8))] * 6, "label": [number % len(names) for number in range(6)]}
        files[f"{split}_file"] = tmp_path / f"{split}.parquet"
        datasets.Dataset.from_dict(rows, features).to_parquet(files[f"{split}_file"])
    for streaming in (False, True):
        data = load(**{name: str(file) for name, file in files.items()}, streaming=streaming)
        assert data.classes == ["a", "b", "c"]
        samples = data.splits["validation"]
        assert [data.label2id[sample["label"]] for sample in samples] == [1, 2] * 3


def test_numbers_in_one_split_and_words_in_the_other(load, tmp_path):
    write_images(tmp_path, {"photos": 4})
    (tmp_path / "t.jsonl").write_text('{"path": "photos/0.png", "label": 0}\n{"path": "photos/1.png", "label": 1}\n')
    (tmp_path / "v.csv").write_text("path,label\nphotos/2.png,1\nphotos/3.png,0\n")
    data = load(train_file=tmp_path / "t.jsonl", validation_file=tmp_path / "v.csv")
    assert data.labels("train") == ["0", "1"] and data.labels("validation") == ["1", "0"]
    (tmp_path / "v.csv").write_text("path,label\nphotos/2.png,zero\n")
    with pytest.raises(
        ValueError, match="have the label zero, but no training image has it; training images have 0, 1"
    ):
        load(train_file=tmp_path / "t.jsonl", validation_file=tmp_path / "v.csv")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": 3, "train_dir": "x"}, "--num_classes has no meaning without --streaming"),
        ({"dataset_config_name": "x", "train_dir": "x"}, "--dataset_config_name has no meaning without --dataset_name"),
        ({"validation_dir": "x", "validation_file": "x"}, "got --validation_dir and --validation_file"),
        ({"train_dir": "x", "validation_dir": "x", "train_val_split": 0.2}, "--train_val_split and --validation_dir exclude"),
        ({"train_dir": "x", "validation_dir": "x", "validation_split": "val"}, "--validation_split and --validation_dir exclude"),
        ({"train_dir": "x", "validation_split": "val", "train_val_split": 0.2}, "--validation_split and --train_val_split exclude"),
        ({"train_dir": "x", "train_val_split": 1.0}, "--train_val_split must be at least 0 and less than 1, got 1.0"),
        ({"train_dir": "{splits}", "train_val_split": 0.2}, "there is a split to evaluate on already"),
        ({"train_dir": "x", "image_range": [255.0, 0.0]}, "--image_range must be the darkest and the brightest value, got 255.0 0.0"),
        ({"train_dir": "x", "image_range": [255.0]}, "--image_range must be the darkest and the brightest value, got 255.0"),
        ({"train_dir": "{one}"}, "All training images have the class a, expected at least two"),
        ({"train_dir": "{single}", "train_val_split": 0.5}, "cannot be divided, because no class has two"),
        ({"validation_dir": "{splits}"}, "Training needs images"),
        ({"train_dir": "{splits}", "label_map": "{tmp}/absent.json"}, "--label_map .*absent.json cannot be read"),
        ({"train_dir": "{splits}", "label_map": "{tmp}/list.json"}, "must have the form"),
        ({"train_dir": "{splits}", "label_map": "{tmp}/typo.json"}, "names that the data do not have: aa. The classes of the data are a, b"),
    ],
)  # fmt: skip
def test_options_that_do_not_fit(load, tmp_path, options, message):
    folders = {
        "splits": write_images(tmp_path / "splits", {"train/a": 2, "train/b": 2, "val/a": 1}),
        "one": write_images(tmp_path / "one", {"a": 4}),
        "single": write_images(tmp_path / "single", {"a": 1, "b": 1}),
        "tmp": tmp_path,
    }
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "typo.json").write_text('{"aa": "b"}')
    options = {name: value.format(**folders) if isinstance(value, str) else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        load(**options)


def test_a_split_that_nobody_uses_may_have_no_labels(load, tmp_path):
    """As Kaggle's test images, which lie in one folder, and the test split of ImageNet on the Hub, which has the label -1."""
    folder = write_images(tmp_path / "photos", {"train/a": 4, "train/b": 4, "val/a": 1, "test": 3})
    assert counts(load(train_dir=folder), "validation") == {"a": 1}
    with pytest.raises(ValueError, match="The images of .*test, 3 in all, lie in one folder"):
        load(train_dir=folder, validation_split="test")
    assert counts(load(train_dir=folder / "train"), "validation") == {"a": 1, "b": 1}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    (tmp_path / "data").mkdir()
    for split, labels in (("train", [0, 1]), ("validation", [0, 1]), ("test", [-1, -1])):
        table = datasets.Dataset.from_dict({"image": [Image.new("L", (8, 8))] * 2, "label": labels}, features)
        table.to_parquet(tmp_path / "data" / f"{split}.parquet")
    assert counts(load(dataset_name=tmp_path / "data"), "validation") == {"a": 1, "b": 1}
    with pytest.raises(ValueError, match="test, image 1: it has the label -1, expected 0 to 1"):
        load(dataset_name=tmp_path / "data", validation_split="test")


def test_a_stream_that_cannot_be_divided(load, tmp_path):
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": [Image.new("L", (8, 8))] * 4, "label": [0, 1, 0, 1]}, features)
    table.to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="A stream cannot be divided"):
        load(train_file=str(tmp_path / "a.parquet"), streaming=True)


def test_a_stream_of_a_csv(load, tmp_path):
    write_images(tmp_path, {"photos": 20})
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"photos/{n}.png,{'ab'[n % 2]}\n" for n in range(20)))
    data = load(train_file=str(tmp_path / "t.csv"), streaming=True)
    assert Counter(sample["label"] for sample in data.splits["train"]) == {"a": 8, "b": 8}


@pytest.mark.parametrize("label", [3, -1])
def test_a_number_outside_of_the_classes_of_a_stream(load, tmp_path, label):
    rows = {"image": [Image.new("L", (8, 8))] * 2, "label": [0, label]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "a.parquet")
    file = str(tmp_path / "a.parquet")
    data = load(train_file=file, validation_file=file, streaming=True, num_classes=3)
    with pytest.raises(ValueError, match=f"has the label {label}, expected one of 0, 1, 2. .*--num_classes"):
        list(data.with_transform("validation", np.asarray))


# --- what is said ---


def test_what_was_found_is_printed(load, tmp_path, capsys):
    folder = write_images(tmp_path / "photos", {"a": 20, "b": 10})
    (folder / "a" / "notes.txt").touch()
    Image.fromarray(np.full((8, 8), 40_000, np.uint16)).save(folder / "b" / "wide.png")
    load(train_dir=folder)
    printed = capsys.readouterr().out
    assert (
        "train: 26 images of 2 classes: a 17, b 9" in printed
        and "validation: 5 images of 2 classes: a 3, b 2" in printed
    )
    assert "left out: 1 x .txt, not an image" in printed
    assert "have more than 8 bits per channel" in printed and "wide.png" in printed and "--image_range" in printed
    load(train_dir=folder, image_range=[0, 65535])
    assert "8 bits" not in capsys.readouterr().out
    load(train_dir=write_images(tmp_path / "many", {f"{number}": number + 2 for number in range(30)}))
    assert "images of 30 classes: 0 1, 1 2, 2 3, ..., 29 26" in capsys.readouterr().out


# --- pixels ---


def test_images_are_read_as_pipelines_read_them(photos, tmp_path):
    for name, photo in photos.items():
        ending = "tiff" if name == "CMYK" else "png"
        photo.save(tmp_path / f"{name}.{ending}", **({"exif": photo.getexif()} if name == "EXIF-rotated" else {}))
        path = str(tmp_path / f"{name}.{ending}")
        expected = load_image(path)
        for image in ({"path": path, "bytes": None}, {"path": None, "bytes": Path(path).read_bytes()}):
            assert np.array_equal(read_image(image), expected), name
    assert expected.size == photos["EXIF-rotated"].size[::-1]  # the test turns an image


def test_wide_values_are_scaled(tmp_path):
    """16-bit and floating-point images, turned by EXIF too; without a range they are those of pipelines."""
    exif = Image.Exif()
    exif[0x0112] = 6
    values = np.arange(6, dtype=np.uint16).reshape(2, 3) * 1000
    expected = values.astype(int) * 255 // 5000
    Image.fromarray(values).save(tmp_path / "16.png", exif=exif)
    Image.fromarray((values / 5000).astype(np.float32)).save(tmp_path / "float.tiff")
    read = read_image
    image = {"path": str(tmp_path / "16.png"), "bytes": None}
    assert np.asarray(read(image, [0, 5000]))[..., 0].tolist() == np.rot90(expected, -1).tolist()
    assert np.asarray(read(image, [1000, 2000]))[..., 0].max() == 255
    assert np.array_equal(read(image), load_image(image["path"]))
    image = {"path": str(tmp_path / "float.tiff"), "bytes": None}
    assert np.asarray(read(image, [0, 1]))[..., 0].tolist() == expected.tolist()


def test_models_of_grey_images(load, tmp_path):
    """Colours become grey as Pillow does it. A number of channels that no file has, and a processor for another one, are refused before the work."""
    folder = write_images(tmp_path / "photos", {"a": 4, "b": 4})
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8))
    photo.save(folder / "a" / "colour.png")
    data, model = load(validation_dir=folder, training=False), tmp_path / "model"
    grey = {"do_convert_rgb": False, "image_mean": [0.5], "image_std": [0.5]}

    def save(channels: int, **settings) -> None:
        config = small_config(num_channels=channels, num_labels=2, id2label={0: "a", 1: "b"})
        CrossViTForImageClassification(config).save_pretrained(model)
        CrossViTImageProcessor.from_image_size(48, 1.0, **settings).save_pretrained(model)

    save(1, **grey)
    arguments = ModelArguments(model_name_or_path=str(model))
    loaded, image_processor, matched = load_model(arguments, data, training=False)
    samples = matched.with_transform("validation", EvaluationTransform(image_processor))
    pixel_values = torch.stack([sample["pixel_values"] for sample in samples])
    assert loaded(pixel_values).logits.shape == (9, 2)
    expected = np.asarray(photo.convert("L"), np.float32) / 127.5 - 1
    (place,) = (index for index, image in enumerate(data.splits["validation"]["image"]) if "colour" in image["path"])
    np.testing.assert_allclose(pixel_values[place, 0], expected, atol=1e-6)
    for channels, settings, message in (
        (
            1,
            {},
            r"takes images of 1 channel, but its image processor is for another .*image_mean=\[0.5\], image_std=\[0.5\]\)",
        ),
        (
            3,
            {"image_mean": [0.5] * 4, "image_std": [0.5] * 4},
            r"takes images of 3 channels, but its image processor is for another .*do_convert_rgb=True",
        ),
        (
            4,
            {},
            r"takes images of 4 channels, but an image file gives 3, .*`pixel_values` of your own, \(B, 4, H, W\)",
        ),
    ):
        save(channels, **settings)
        with pytest.raises(ValueError, match=message):
            load_model(arguments, data, training=False)


# --- classes and models ---


NAMES = dict(enumerate(["zero", "one", "two"]))


@pytest.mark.parametrize(
    ("classes", "names", "training", "expected"),
    [
        (["one", "two", "zero"], NAMES, False, [1, 2, 0]),
        (["two"], NAMES, False, [2]),
        (["0", "2"], NAMES, False, [0, 2]),  # whole numbers are the model's
        (["10", "2"], dict(enumerate(["0", "1", "10", "2"])), False, [2, 3]),  # a name before a number
        (["one", "two", "zero"], NAMES, True, [1, 2, 0]),
        (["0", "1", "2"], NAMES, True, [0, 1, 2]),
        (["one", "two"], NAMES, True, None),
        (["a", "b", "c"], NAMES, True, None),
        (["0", "1"], NAMES, True, None),
    ],
)
def test_classes_are_matched_by_name(classes, names, training, expected):
    data = ImageData({}, classes, False, "")
    matched = data.match_classes(names, training)
    if expected is None:
        assert matched is None
    else:
        assert [matched.label2id[name] for name in classes] == expected and matched.classes == list(names.values())
    assert data.classes == classes and data.label2id == {name: index for index, name in enumerate(classes)}


def test_classes_without_a_match():
    data = ImageData({}, ["zero", "uno", "3"], False, "")
    with pytest.raises(ValueError) as error:
        data.match_classes(NAMES, False)
    for part in (
        "without a match: 3, uno",
        "of the data: zero, uno, 3",
        "of the model: zero, one, two",
        "--label_map",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("streaming", [False, True])
def test_label_map(load, tmp_path, streaming):
    folder = write_images(tmp_path / "photos", {"cat": 4, "tabby": 4, "dog": 4})
    (tmp_path / "map.json").write_text('{"tabby": "cat", "dog": 7}')
    data = load(train_dir=folder, label_map=str(tmp_path / "map.json"), streaming=streaming)
    assert data.classes == ["7", "cat"]
    assert Counter(sample["label"] for sample in data.splits["train"]) == {"cat": 7, "7": 3}


def test_whole_numbers_are_in_the_order_of_their_values(load, tmp_path):
    data = load(train_dir=write_images(tmp_path / "photos", {str(number): 2 for number in range(12)}))
    assert data.classes == [str(number) for number in range(12)]


def test_class_weights_are_those_of_scikit_learn(load, tmp_path):
    data = load(train_dir=write_images(tmp_path / "photos", {"a": 40, "b": 4}))
    weights = data.class_weights()
    labels = [data.label2id[name] for name in data.labels("train")]
    assert weights[labels].tolist() == pytest.approx(compute_sample_weight("balanced", labels).tolist())


# --- images that cannot be read ---


def test_bad_images_are_looked_for_at_each_start(load, tmp_path):
    """An image that was repaired comes back, and one that was damaged later is left out."""
    folder = write_images(tmp_path / "photos", {"a": 10, "b": 10})
    good, bad = (folder / "a" / "0.png").read_bytes(), b"no image"

    def left_out() -> set[str]:
        data = load(train_dir=folder, skip_bad_images=True)
        report = {json.loads(line)["image"] for line in (tmp_path / "out" / "bad_images.jsonl").open()}
        assert sum(len(split) for split in data.splits.values()) == 20 - len(report)
        return {Path(name).relative_to(folder).as_posix() for name in report}

    (folder / "a" / "0.png").write_bytes(bad)
    assert left_out() == {"a/0.png"}
    (folder / "a" / "0.png").write_bytes(good)
    (folder / "b" / "5.png").write_bytes(bad)
    assert left_out() == {"b/5.png"}


def test_missing_images_and_images_without_a_name(load, tmp_path):
    """Two different images without a name count as two."""
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    good = datasets.Image().encode_example(Image.new("L", (8, 8)))
    images = [good, None, {"bytes": b"bad 1", "path": None}, {"bytes": b"bad 2", "path": None}, good, good, good, good]
    datasets.Dataset.from_dict({"image": images, "label": [0, 1] * 4}, features).to_parquet(tmp_path / "a.parquet")
    file = str(tmp_path / "a.parquet")
    data = load(train_file=file, validation_file=file, skip_bad_images=True)
    assert len(data.splits["train"]) == 5
    lines = [json.loads(line) for line in (tmp_path / "out" / "bad_images.jsonl").open()]
    assert len({line["image"] for line in lines}) == 3
    assert {line["problem"] for line in lines if "0 bytes" in line["image"]} == {"there is no image"}


# --- signals ---


def test_workers_outlive_sigterm_until_the_training_ends(monkeypatch):
    guard = SignalGuard()
    ended = []
    monkeypatch.setattr("os._exit", ended.append)
    guard.on_sigterm()
    assert ended == []
    guard.training_ends.fill_(True)
    guard.on_sigterm()
    assert ended == [143]
    assert pickle.loads(pickle.dumps(SignalGuard())).is_installed is False


# --- the same images ---


def test_a_fingerprint_is_that_of_the_images(load, tmp_path):
    """It stays where the folder moves, and changes with a file, a label or a part that is left out."""
    folder = write_images(tmp_path / "photos", {"a": 10, "b": 10})
    first = load(train_dir=folder).fingerprint
    folder = folder.rename(tmp_path / "moved")
    assert load(train_dir=folder).fingerprint == first
    assert load(train_dir=folder, max_train_samples=5).fingerprint != first
    (folder / "a").rename(folder / "c")
    assert load(train_dir=folder).fingerprint != first
    (folder / "c").rename(folder / "a")
    assert load(train_dir=folder).fingerprint == first
    write_images(folder, {"b": 11})
    assert load(train_dir=folder).fingerprint != first


def test_three_lines_in_a_notebook(tmp_path, monkeypatch):
    """The lines of the package's docstring, as they stand there."""
    write_images(tmp_path / "photos", {"a": 4, "b": 4})
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in crossvit.data.__doc__.splitlines() if line.startswith("    ")][:3]
    names = {"image_processor": CrossViTImageProcessor.from_image_size(48)}
    exec("\n".join(lines), names)
    assert names["data"].classes == ["a", "b"] and len(names["samples"]) == 6
    assert names["samples"][0]["pixel_values"].shape == (3, 48, 48) and names["samples"][0]["labels"] == 0
