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
examples/run_image_classification.py with every source of images, each of its own options, unreadable images and mistakes. Mean average
precision and class weights are compared with scikit-learn and with a direct computation.

    pytest tests/examples/test_run_image_classification.py          about 1 minute, with the quickstart
"""

import contextlib
import csv
import importlib
import json
import pickle
import runpy
import shutil
import sqlite3
from pathlib import Path

import datasets
import numpy as np
import pytest
import timm
import torch
from deprecations import USES_PEFT
from hub_server import card_errors
from PIL import Image
from safetensors.torch import load_file
from sklearn.metrics import average_precision_score
from small_models import SMALL_TIMM_MODEL
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from timm.models._hub import save_for_hf
from transformers import pipeline

from benchmarks.parity import timm_model
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor


EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPT = "run_image_classification.py"
CLASSES = ["four", "one", "two"]  # in alphabetical order, like the folders


@pytest.fixture
def run(run_here, saved_model, tmp_path):
    """Runs the script on the small model: its output folder, and what it printed."""

    def run(*arguments: str, steps: int = 2, output: str = "out") -> tuple[Path, str]:
        out = tmp_path / output
        options = ("--do_train", "--do_eval", "--max_steps", steps, "--eval_strategy", "no", "--disable_tqdm", "true")
        printed = run_here(
            SCRIPT, "--model_name_or_path", saved_model, "--output_dir", out, "--use_cpu", *options, *arguments
        )
        return out, printed

    return run


def results(folder: Path) -> dict:
    return json.loads((folder / "all_results.json").read_text())


def test_as_users_run_it(quickstart, run_example, run_here, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    folder, _ = quickstart
    source = ("--model_name_or_path", str(folder / "model"), "--train_dir", str(folder / "digits"))
    options = ("--do_train", "--do_eval", "--num_train_epochs", "1", "--output_dir", str(tmp_path / "out"))
    options += ("--report_to", "trackio", "--project", "digits", "--random_crop_scale", "0.7", "--no_horizontal_flip")
    printed = run_example(SCRIPT, *source, *options, check=True).stdout
    out = tmp_path / "out"
    assert results(out)["eval_accuracy"] >= 0.97 and results(out)["eval_macro_f1"] >= 0.97
    assert results(out)["eval_top_5_accuracy"] > results(out)["eval_accuracy"]
    assert f"accuracy {results(out)['eval_accuracy']:.4f}" in printed
    assert not card_errors((out / "README.md").read_text())
    assert f"value: {results(out)['eval_accuracy']}" in (out / "README.md").read_text()
    picture = np.asarray(Image.open(out / "training.png").convert("RGB"))
    assert picture.shape[1] > 1500 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000
    image = next((folder / "digits" / "test" / "3").glob("*.png"))
    assert pipeline("image-classification", model=str(out))(str(image))[0]["label"] == "3"
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / "digits.db")) as database:
        logged = [json.loads(metrics) for (metrics,) in database.execute("SELECT metrics FROM metrics")]
    losses = [metrics["train/loss"] for metrics in logged if "train/loss" in metrics]
    assert len(losses) == 16  # every 10 of 169 steps
    # The same command again has nothing left to do.
    printed = run_here(SCRIPT, *source, *options)
    assert f"continuing from {out}/checkpoint-169" in printed and f"{results(out)['eval_accuracy']:.4f}" in printed


def write_csv(digits: Path, split: str, path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "digit"])
        writer.writerows([image, image.parent.name] for image in sorted((digits / split).rglob("*.png")))
    return path


def write_parquet(digits: Path, split: str, path: Path) -> Path:
    datasets.load_dataset("imagefolder", data_dir=str(digits / split), split="train").to_parquet(path)
    return path


def test_every_source_of_images(digits, run, tmp_path):
    files = {
        ".csv": [write_csv(digits, split, tmp_path / f"{split}.csv") for split in ("train", "validation")],
        ".parquet": [write_parquet(digits, split, tmp_path / f"{split}.parquet") for split in ("train", "validation")],
    }
    folders = ("--train_dir", digits / "train", "--validation_dir", digits / "validation")
    sources = {
        "folder": ("--train_dir", digits),
        "folders": folders,
        "csv": (
            "--label_column_name",
            "digit",
            "--train_file",
            files[".csv"][0],
            "--validation_file",
            files[".csv"][1],
        ),
        "parquet": ("--train_file", files[".parquet"][0], "--validation_file", files[".parquet"][1]),
        "data set": ("--dataset_name", digits),
        "stream": ("--streaming", *folders),
    }
    losses = {}
    for name, source in sources.items():
        out, _ = run(*source, output=name)
        config = CrossViTForImageClassification.from_pretrained(out).config
        assert [config.id2label[number] for number in range(3)] == CLASSES, name
        losses[name] = results(out)["eval_loss"]
    # All but the stream read the same images in the same order.
    del losses["stream"]
    assert len(set(losses.values())) == 1, losses


def test_a_stream_is_shuffled_and_continues_in_its_middle(digits, run, tmp_path):
    """A run continues in the second epoch of a stream, to the weights of an undisturbed run."""
    stream = ("--train_dir", digits, "--streaming", "--save_strategy", "steps", "--save_steps", "9")
    out, _ = run(*stream, steps=12)
    expected = load_file(out / "model.safetensors")
    shutil.rmtree(out / "checkpoint-12")
    _, printed = run(*stream, steps=12)
    assert "continuing from" in printed and "checkpoint-9" in printed
    weights = load_file(out / "model.safetensors")
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    script = runpy.run_path(str(EXAMPLES / SCRIPT))
    arguments = script["DataArguments"](train_dir=str(digits), streaming=True)
    train = script["load_images"](arguments, seed=0, output=tmp_path).splits["train"]
    labels = [sample["label"] for sample in train]
    assert sorted(labels) == ["four"] * 20 + ["one"] * 20 + ["two"] * 20 and len(set(labels[:8])) == 3


def test_part_of_the_images_is_for_evaluation(digits, run):
    out, _ = run("--train_dir", digits / "train", "--train_val_split", "0.2", "--max_train_samples", "10")
    predictions = results(out)["eval_samples_per_second"] * results(out)["eval_runtime"]
    assert predictions == pytest.approx(12, rel=0.05)
    assert results(out)["epoch"] == 1.0  # two steps of 8 images


def test_several_labels_per_image(digits, run, tmp_path):
    """Each image shows a pair of digits side by side. The mean average precision is that of scikit-learn."""
    images = {name: sorted((digits / "train" / name).glob("*.png")) for name in CLASSES}
    rows = {"image": [], "labels": []}
    for number in range(20):
        pair = [CLASSES[number % 3], CLASSES[(number // 3) % 3]]
        both = Image.new("L", (96, 48))
        for place, name in enumerate(pair):
            both.paste(Image.open(images[name][number]), (48 * place, 0))
        rows["image"].append(both)
        rows["labels"].append(sorted({CLASSES.index(name) for name in pair}))
    features = {"image": datasets.Image(), "labels": datasets.List(datasets.ClassLabel(names=CLASSES))}
    datasets.Dataset.from_dict(rows, datasets.Features(features)).to_parquet(tmp_path / "pairs.parquet")
    out, printed = run("--train_file", tmp_path / "pairs.parquet", "--validation_file", tmp_path / "pairs.parquet")
    model = CrossViTForImageClassification.from_pretrained(out).eval()
    assert model.config.problem_type == "multi_label_classification"
    classifier = pipeline("image-classification", model=str(out), function_to_apply="none")
    scores = [{entry["label"]: entry["score"] for entry in answer} for answer in classifier(rows["image"])]
    labels = [[number in row for number in range(3)] for row in rows["labels"]]
    expected = average_precision_score(labels, [[score[name] for name in CLASSES] for score in scores])
    assert results(out)["eval_mean_average_precision"] == pytest.approx(expected, abs=1e-6)
    assert "mean average precision" in printed


def changed_weights(folder: Path, saved_model: Path) -> set[str]:
    before, after = (load_file(path / "model.safetensors") for path in (saved_model, folder))
    assert before.keys() == after.keys()
    same_shape = {name for name in before if before[name].shape == after[name].shape}
    return {name for name in after if name not in same_shape or not torch.equal(before[name], after[name])}


def test_frozen_backbone(digits, run, saved_model):
    out, _ = run("--train_dir", digits, "--freeze_backbone")
    assert changed_weights(out, saved_model) == {
        f"classifier.heads.{i}.{name}" for i in (0, 1) for name in ("weight", "bias")
    }


@USES_PEFT
def test_lora(digits, run, saved_model):
    """An ordinary model is saved. Only its heads and the matrices with adapters have changed."""
    out, _ = run("--train_dir", digits, "--lora_rank", "2", "--learning_rate", "0.1")
    names = changed_weights(out, saved_model)
    assert {name for name in names if "classifier" not in name} == {
        name
        for name in load_file(saved_model / "model.safetensors")
        if name.endswith(("q_proj.weight", "v_proj.weight"))
    }
    assert any(name.startswith("classifier") for name in names)


def test_image_size(digits, run, saved_model):
    """The rest of the model's preprocessing stays."""
    CrossViTImageProcessor.from_image_size(48, image_mean=[0.5, 0.5, 0.5]).save_pretrained(saved_model)
    out, _ = run("--train_dir", digits, "--image-size", "72")
    assert CrossViTForImageClassification.from_pretrained(out).config.image_sizes == [72, 48]
    settings = json.loads((out / "preprocessor_config.json").read_text())
    assert settings["crop_size"] == {"height": 72, "width": 72} and settings["image_mean"] == [0.5, 0.5, 0.5]


def test_a_model_of_timm(digits, run, tmp_path):
    save_for_hf(timm_model("crossvit_tiny_240", **SMALL_TIMM_MODEL), tmp_path / "timm", safe_serialization=True)
    out, _ = run("--train_dir", digits, "--model_name_or_path", tmp_path / "timm")
    config = json.loads((out / "config.json").read_text())
    assert config["model_type"] == "crossvit" and sorted(config["label2id"]) == ["four", "one", "two"]
    save_for_hf(timm.create_model("test_vit"), tmp_path / "other", safe_serialization=True)
    with pytest.raises(SystemExit, match="is timm's test_vit, and not a CrossViT"):
        run("--train_dir", digits, "--model_name_or_path", tmp_path / "other")


def test_class_weights(digits, tmp_path, run):
    """One class has a tenth of the images of each other class, so its images have ten times the weight."""
    for split in ("train", "validation"):
        for name in CLASSES:
            for image in sorted((digits / split / name).glob("*.png"))[: 2 if name == "one" else None]:
                path = tmp_path / "few" / split / name / image.name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(image.read_bytes())
    run("--train_dir", tmp_path / "few", "--class_weights", "balanced")
    script = runpy.run_path(str(EXAMPLES / SCRIPT))
    arguments = script["DataArguments"](train_dir=str(tmp_path / "few"))
    weights = script["load_images"](arguments, seed=0, output=tmp_path).class_weights()
    assert weights.tolist() == pytest.approx([0.7, 7.0, 0.7])  # 42 images, 14 per class on average

    class Outputs:
        logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))

    labels = torch.tensor([0, 1, 2, 1])
    losses = [torch.nn.functional.cross_entropy(Outputs.logits[i], labels[i]) * weights[labels[i]] for i in range(4)]
    assert script["classification_loss"](Outputs, labels, weights=weights).item() == pytest.approx(
        sum(losses).item() / 4
    )
    # This batch of 4 is one of two accumulated batches with 8 images in all.
    assert script["classification_loss"](Outputs, labels, 8, weights=weights).item() == pytest.approx(
        sum(losses).item() / 8
    )


def test_turns_and_flips(monkeypatch):
    """Each of the eight ways to lay a square comes, and no pixel is changed; a transform survives pickling for new processes."""
    processor = CrossViTImageProcessor.from_image_size(12, crop_pct=1.0)
    monkeypatch.syspath_prepend(EXAMPLES)
    script = importlib.import_module("run_image_classification")
    options = script.AugmentationArguments(random_crop_scale=1.0, vertical_flip=True, quarter_turns=True)
    transform = pickle.loads(pickle.dumps(script.TrainingTransform(processor, options)))
    square = Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).convert("RGB")
    torch.manual_seed(0)
    seen = {transform(square).numpy().tobytes() for _ in range(100)}
    plain = processor(square, return_tensors="pt").pixel_values[0]
    turned = [torch.rot90(plain, turn, (1, 2)) for turn in range(4)]
    expected = {image.contiguous().numpy().tobytes() for turn in turned for image in (turn, turn.flip(2))}
    assert seen == expected and len(expected) == 8


@pytest.fixture
def with_bad_images(digits, tmp_path, photos) -> Path:
    folder = tmp_path / "with bad images"
    for split in ("train", "validation"):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for image in (digits / split / name).glob("*.png"):
                (folder / split / name / image.name).write_bytes(image.read_bytes())
    photos["landscape"].save(tmp_path / "photo.jpg")
    jpeg = (tmp_path / "photo.jpg").read_bytes()
    bad = folder / "train" / "one"
    (bad / "truncated.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (bad / "corrupt.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (bad / "empty.jpg").write_bytes(b"")
    Image.new("1", (20000, 20000)).save(bad / "huge.png")  # 400 megapixels in a few kilobytes
    # These are unusual but readable.
    photos["grey"].save(bad / "grey.jpg")
    photos["CMYK"].save(bad / "CMYK.jpg")
    frames = [Image.open(image) for image in sorted((digits / "train" / "one").glob("*.png"))[:3]]
    frames[0].save(bad / "animated.gif", save_all=True, append_images=frames[1:])
    return folder


BAD = {"truncated.jpg", "corrupt.png", "empty.jpg", "huge.png"}


@pytest.mark.parametrize("streaming", [False, True])
def test_bad_images_are_left_out_and_listed(with_bad_images, run, streaming):
    folders = ("--train_dir", with_bad_images / "train", "--validation_dir", with_bad_images / "validation")
    out, printed = run(*folders, "--skip_bad_images", *(["--streaming"] if streaming else []), steps=12)
    report = {Path(line["image"]).name: line["problem"] for line in map(json.loads, (out / "bad_images.jsonl").open())}
    assert report.keys() == BAD
    assert (
        "truncated" in report["truncated.jpg"] and "empty" in report["empty.jpg"] and "400000000" in report["huge.png"]
    )
    assert "4 images could not be read and were left out" in printed
    if not streaming:
        assert results(out)["epoch"] == pytest.approx(12 / 8)  # 63 images that can be read


def test_a_bad_image_is_named(with_bad_images, run):
    """Without a traceback, also if a worker has read it."""
    for workers in ("0", "1"):
        with pytest.raises(
            SystemExit, match=r"\A\S.*(truncated.jpg|corrupt.png|empty.jpg|huge.png) cannot be read: .*--skip_bad.*\Z"
        ):
            run("--train_dir", with_bad_images, "--dataloader_num_workers", workers, steps=9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give one of --dataset_name, --train_dir, --train_file as the source of images; got none"),
        (("--train_dir", "{digits}", "--dataset_name", "beans"), "got --dataset_name and --train_dir"),
        (("--train_dir", "absent"), "--train_dir absent is not a folder. Expected absent/CLASS/IMAGE.jpg"),
        (("--train_dir", "{digits}", "--model_name_or_path", "absent"), "Published weights are timm/crossvit_tiny_240.in1k, "),
        (("--dataset_name", "nobody/nothing", "--validation_dir", "absent"), "--validation_dir absent is not a folder"),
        (("--train_file", "absent.csv"), "--train_file absent.csv does not exist"),
        (("--train_dir", "{digits}", "--validation_split", "tset"), "tset does not exist; choose one of train, validation"),
        (("--train_dir", "{digits}", "--train_split", "trian"), "trian does not exist; choose one of train, validation"),
        (("--train_dir", "{digits}", "--label_column_name", "digit"), "There is no column of labels named digit in"),
        (("--train_dir", "{digits}/train/one"), "Put the images of each class into a folder of its own"),
        (("--train_dir", "{digits}", "--freeze_backbone", "--lora_rank", "4"), "exclude each other"),
        (("--train_dir", "{digits}", "--class_weights", "equal"), "`balanced` or left out, got equal"),
        (("--train_dir", "{digits}", "--image_size", "50"), "must be a multiple of 12"),
        (("--train_dir", "{digits}", "--max_eval_samples", "0"), "--max_eval_samples must be at least 1, got 0"),
    ],
)  # fmt: skip
def test_mistakes(digits, run, arguments, message):
    with pytest.raises(SystemExit) as error:
        run(*(argument.format(digits=digits) for argument in arguments))
    assert message in str(error.value)


def test_no_images_or_no_training_images_of_a_label(digits, run, tmp_path):
    train, validation = (write_csv(digits, split, tmp_path / f"{split}.csv") for split in ("train", "validation"))
    validation_lines = validation.read_text()
    validation.write_text("file_name,digit\n")
    with pytest.raises(SystemExit, match="The images cannot be loaded: .*validation.csv has no rows"):
        run("--train_file", train, "--validation_file", validation, "--label_column_name", "digit")
    validation.write_text(validation_lines)
    train.write_text("".join(line for line in train.open() if not line.endswith("two\n")))
    with pytest.raises(SystemExit, match="Validation images have the label two, but no training image has it"):
        run("--train_file", train, "--validation_file", validation, "--label_column_name", "digit")
    for name in ("one", "four"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for image in (digits / "train" / name).glob("*.png"):
            (tmp_path / "train" / name / image.name).write_bytes(image.read_bytes())
    with pytest.raises(SystemExit, match="Validation images have the label two, but no"):
        run("--train_dir", tmp_path / "train", "--validation_dir", digits / "validation")


def test_help(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    printed = capsys.readouterr().out
    for words in ("Fine-tune CrossViT", "--train_dir", "Folder with a folder of images per class", "--learning_rate"):
        assert words in printed
    assert printed.index("--model_name_or_path") < printed.index("--train_dir") < printed.index("--learning_rate")


def test_typo_in_a_flag(run, capsys):
    with pytest.raises(SystemExit) as error:
        run("--train_dri", "x")
    assert error.value.code == 2
    error_text = capsys.readouterr().err
    assert (
        error_text == "unrecognized arguments: --train_dri x; did you mean --train_dir? (--help lists all arguments)\n"
    )


def test_tracking_without_a_network(digits, run, tmp_path, monkeypatch):
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    run("--train_dir", digits, "--report_to", "tensorboard", "--logging_steps", "1")
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2]
