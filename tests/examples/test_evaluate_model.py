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
examples/evaluate_model.py: every figure is that of scikit-learn on the predictions in the files it writes, and these predictions are the
model's; intervals have the coverage that they claim; batches, processes and the order of the images change nothing; model cards keep what
they had; mistakes are named before the work starts.

    pytest tests/examples/test_evaluate_model.py              about 80 seconds
    pytest tests/examples/test_evaluate_model.py -m slow      about 30 seconds: a stream in two processes
"""

import csv
import json
import math
import os
import re
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import datasets
import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
import torch
from clean_process import run_python
from datasets import ClassLabel, Dataset, Features
from hub_server import HubServer, card_errors
from huggingface_hub import EvalResult, ModelCard
from PIL import Image
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support, top_k_accuracy_score
from small_models import small_config

import crossvit.data
from benchmarks import training
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.data import DataArguments, load_images
from crossvit.trainer import check_run


ROOT = Path(__file__).parents[2]
SCRIPT = "evaluate_model.py"
CLASSES = [f"digit {number}" for number in range(10)]


@pytest.fixture(scope="module")
def example():
    """The functions of the example."""
    return SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / SCRIPT)))


@pytest.fixture(scope="module")
def scans() -> tuple[list[Image.Image], np.ndarray]:
    digits = load_digits()
    return [
        Image.fromarray((image * 255 / 16).astype(np.uint8)).convert("RGB") for image in digits.images[:700]
    ], digits.target[:700]


@pytest.fixture(scope="module")
def images(scans, tmp_path_factory) -> Path:
    """Scans of ten digits, `folder/digit N/NUMBER.png`: 11 to 21 of each, no two classes with equally many."""
    folder = tmp_path_factory.mktemp("data") / "scans"
    numbers = [number for digit in range(10) for number in np.flatnonzero(scans[1][300:] == digit)[: 10 + digit] + 300]
    for number in numbers:
        path = folder / CLASSES[scans[1][number]] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        scans[0][number].save(path)
    return folder


@pytest.fixture(scope="module")
def make_model(scans, tmp_path_factory):
    """
    Writes the folder of a model whose heads, over random features, are fitted to the first scans. It is right often, but not always.

    `classes` are its classes in their order. Classes that are not digits get the lowest scores.
    """

    def make(name: str, classes: list[str] = CLASSES, train: int = 300, seed: int = 0) -> Path:
        torch.manual_seed(seed)
        config = small_config(num_labels=len(classes), id2label=dict(enumerate(classes)), initializer_range=0.2)
        model, image_processor = (
            CrossViTForImageClassification(config).eval(),
            CrossViTImageProcessor.from_image_size(48),
        )
        with torch.no_grad():
            features = model.crossvit(**image_processor(scans[0][:train], return_tensors="pt")).pooler_output.numpy()
            fit = LogisticRegression(C=0.5, max_iter=1000).fit(features, scans[1][:train])
            for head, weights in zip(model.classifier.heads, np.split(fit.coef_, [16], axis=1)):
                head.weight.zero_()
                head.bias.fill_(-20)
                for digit, row, bias in zip(fit.classes_, weights, fit.intercept_):
                    if CLASSES[digit] in classes:
                        head.weight[classes.index(CLASSES[digit])] = 2 * torch.from_numpy(
                            row
                        )  # the mean of both heads is the logit
                        head.bias[classes.index(CLASSES[digit])] = float(bias)
        folder = tmp_path_factory.mktemp("models") / name
        model.save_pretrained(folder)
        image_processor.save_pretrained(folder)
        return folder

    return make


@pytest.fixture(scope="module")
def model(make_model) -> Path:
    return make_model("good")


@pytest.fixture(scope="module")
def weaker(make_model) -> Path:
    """A model with other weights, and with its classes in another order and two more of them."""
    return make_model("weaker", ["letter", *CLASSES[::-1], "digit"], train=60, seed=1)


@pytest.fixture
def evaluate(run_here, tmp_path):
    """Evaluates models, and returns the results, the predictions and the tables of classes of each model, and what was printed."""

    def evaluate(models, *others, output: str = "out") -> SimpleNamespace:
        models = [models] if isinstance(models, (str, Path)) else models
        printed = run_here(SCRIPT, "--models", *models, "--output_dir", tmp_path / output, *others)
        return read(tmp_path / output, printed)

    return evaluate


@pytest.fixture(autouse=True)
def no_picture(request, monkeypatch):
    """Drawing takes most of the time of an evaluation. Tests of the picture have `picture` in their names."""
    if "picture" not in request.node.name:
        monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, path, **_: Path(path).touch())


def read(folder: Path, printed: str = "") -> SimpleNamespace:
    results = json.loads((folder / "evaluation.json").read_text())
    numbers = range(1, len(results["models"]) + 1)
    text = {"keep_default_na": False, "dtype": {"label": str, "predicted": str}}
    predictions = [pd.read_csv(folder / f"predictions_{number}.csv", **text) for number in numbers]
    classes = [pd.read_csv(folder / f"classes_{number}.csv", index_col="class") for number in numbers]
    figures = [model["figures"] for model in results["models"]]
    return SimpleNamespace(results=results, predictions=predictions, classes=classes, figures=figures, printed=printed)


def wilson(p: float, images: int) -> tuple[float, float]:
    """The interval as in Wilson, 1927."""
    z = norm.ppf(0.975)
    middle = (p + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * math.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    return max(middle - half, 0), min(middle + half, 1)


def values(figures: dict) -> dict[str, float]:
    return {name: figure["value"] for name, figure in figures.items()}


def logits_of(model: Path, paths: list[str]) -> np.ndarray:
    loaded, image_processor = (
        kind.from_pretrained(model) for kind in (CrossViTForImageClassification, CrossViTImageProcessor)
    )
    with torch.no_grad():
        images = [Image.open(path).convert("RGB") for path in paths]
        return loaded.eval()(**image_processor(images, return_tensors="pt")).logits.double().numpy()


# --- figures ---


@pytest.mark.parametrize("name", ["model", "weaker"])
def test_figures_are_those_of_scikit_learn(evaluate, images, request, name):
    folder = request.getfixturevalue(name)
    found = evaluate(folder, "--validation_dir", images)
    (table,), (figures,), (classes,) = found.predictions, found.figures, found.classes
    names = list(CrossViTForImageClassification.from_pretrained(folder).config.id2label.values())

    # The predictions are the model's, and the labels are the folders.
    assert len(table) == found.results["images"] == len(list(images.rglob("*.png"))) == 145
    assert table["label"].tolist() == [Path(path).parent.name for path in table["image"]]
    logits = logits_of(folder, table["image"])
    assert table["predicted"].tolist() == [names[number] for number in logits.argmax(axis=1)]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # The logits are float32, and a batch of other size adds in another order.
    assert table["confidence"].to_numpy() == pytest.approx(probabilities.max(axis=1), abs=1e-5)

    labels = [names.index(label) for label in table["label"]]
    right = table["label"] == table["predicted"]
    assert 0.3 < right.mean() < 0.97, "a model that is not always right"
    assert figures["accuracy"]["value"] == accuracy_score(table["label"], table["predicted"])
    assert figures["macro_f1"]["value"] == pytest.approx(f1_score(table["label"], table["predicted"], average="macro"))
    top_5 = top_k_accuracy_score(labels, logits, k=5, labels=range(len(names)))
    assert figures["top_5_accuracy"]["value"] == top_5 == (table["rank"] <= 5).mean()
    assert (table["rank"] == 1).tolist() == right.tolist()
    often, sure = calibration_curve(right, table["confidence"], n_bins=15)
    counts = np.histogram(table["confidence"], np.linspace(0, 1, 16))[0]
    assert figures["calibration_error"]["value"] == pytest.approx(
        np.abs(often - sure) @ counts[counts > 0] / len(table)
    )

    order = sorted({*table["label"], *table["predicted"]})
    assert classes.index.tolist() == order
    expected = precision_recall_fscore_support(table["label"], table["predicted"], labels=order, zero_division=np.nan)
    for column, measure in zip(("precision", "recall", "f1", "images"), expected):
        np.testing.assert_allclose(classes[column], measure)
    assert classes["f1"].mean() == pytest.approx(figures["macro_f1"]["value"])
    for row in classes.itertuples():
        assert row.images == 0 or (row.recall_low, row.recall_high) == pytest.approx(wilson(row.recall, row.images))
    for figure, share in (("accuracy", right.mean()), ("top_5_accuracy", top_5)):
        assert (figures[figure]["low"], figures[figure]["high"]) == pytest.approx(wilson(share, 145))
    assert f"{figures.pop('calibration_error')['value']:.1%}\n" in found.printed
    for figure in figures.values():
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1
        assert "{value:.1%} ({low:.1%} to {high:.1%})".format(**figure) in found.printed
    assert found.results["models"][0]["images_per_second"] > 0


def test_classes_without_images_and_without_predictions(evaluate, weaker, images, tmp_path):
    """Macro F1 is scikit-learn's by default: over the classes that are a label or a prediction."""
    for digit in (3, 7):
        shutil.copytree(images / CLASSES[digit], tmp_path / "some" / CLASSES[digit])
    found = evaluate(weaker, "--validation_dir", tmp_path / "some")
    (table,), (classes,) = found.predictions, found.classes
    without = set(table["predicted"]) - set(table["label"])
    assert without, "the model must be wrong for this test"
    assert found.figures[0]["macro_f1"]["value"] == pytest.approx(
        f1_score(table["label"], table["predicted"], average="macro")
    )
    assert found.results["classes"] == 2 and set(classes.index) == {*table["label"], *table["predicted"]}
    assert (classes.loc[list(without), "images"] == 0).all() and classes.loc[list(without), "recall"].isna().all()


def test_equal_scores(example):
    """Scores of bfloat16 are often equal. The rank is scikit-learn's, and the prediction numpy's."""
    generator = torch.Generator().manual_seed(0)
    scores, labels = (
        torch.randint(0, 4, (300, 12), generator=generator).float(),
        torch.randint(0, 12, (300,), generator=generator),
    )
    found = example.answers(scores, labels)
    for k in range(1, 12):
        expected = top_k_accuracy_score(labels, scores, k=k, labels=range(12))
        assert (found["rank"] <= k).double().mean() == pytest.approx(expected)
    assert found["predicted"].tolist() == scores.numpy().argmax(axis=1).tolist()


def test_interval_of_macro_f1(example, evaluate, weaker, images):
    """The variance is that of the jackknife: macro F1 without each image in turn."""
    found = evaluate(weaker, "--validation_dir", images)
    table, figure = found.predictions[0], found.figures[0]["macro_f1"]
    without = [
        f1_score(table["label"].drop(row), table["predicted"].drop(row), average="macro") for row in table.index
    ]
    variance = (len(table) - 1) * np.var(without)
    # The jackknife differs from the delta method by terms of the order of one image in a class of 10.
    expected = wilson(figure["value"], figure["value"] * (1 - figure["value"]) / variance)
    assert (figure["low"], figure["high"]) == pytest.approx(expected, abs=0.01)


def coverage(experiment, truth: float, times: int = 200) -> float:
    """The part of repeated experiments whose interval has the truth."""
    intervals = [experiment(np.random.default_rng(seed)) for seed in range(times)]
    return np.mean([interval["low"] <= truth <= interval["high"] for interval in intervals])


def test_coverage_of_the_interval_of_macro_f1(example):
    def draw(random, images):
        labels = random.choice(4, images, p=[0.4, 0.3, 0.2, 0.1])
        predicted = np.where(random.random(images) < 0.8, labels, random.integers(4, size=images))
        return labels, predicted

    truth = f1_score(*draw(np.random.default_rng(1), 1_000_000), average="macro")
    found = coverage(
        lambda random: example.macro_f1(pd.DataFrame(dict(zip(("label", "predicted"), draw(random, 200))))), truth
    )
    assert 0.90 <= found <= 0.99  # 95 % within three standard deviations of 200 experiments


def test_calibration_of_a_model_that_is_always_right(example):
    """Equal confidences are not a fault."""
    for confidence in (1.0, 0.7):
        error = example.calibration_error(np.ones(400, dtype=bool), np.full(400, confidence))
        assert error == pytest.approx(1 - confidence)


def test_one_image(evaluate, model, images, tmp_path):
    path = tmp_path / "one" / CLASSES[4] / "image.png"
    path.parent.mkdir(parents=True)
    shutil.copy(next((images / CLASSES[4]).iterdir()), path)
    figures = evaluate(model, "--validation_dir", tmp_path / "one").figures[0]
    assert 0 <= figures.pop("calibration_error")["value"] <= 1
    for name, figure in figures.items():
        assert 0 <= figure["low"] <= figure["value"] <= figure["high"] <= 1, (name, figure)
    assert figures["accuracy"]["high"] - figures["accuracy"]["low"] > 0.7, "one image says little"


def test_names_that_several_classes_have(evaluate, make_model, images, tmp_path):
    """Two classes named crane stay two, as in ImageNet. The labels of the images are the indices of the classes then."""
    classes = ["crane" if number in (2, 5) else f"digit {number}" for number in range(10)]
    folder = make_model("cranes")
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = dict(enumerate(classes))
    (folder / "config.json").write_text(json.dumps(config))
    for digit in range(10):
        shutil.copytree(images / CLASSES[digit], tmp_path / "numbers" / str(digit))
    found = evaluate([folder], "--validation_dir", tmp_path / "numbers")
    assert {"crane (2)", "crane (5)"} <= set(found.predictions[0]["label"]) and "crane" not in set(
        found.predictions[0]["label"]
    )
    assert found.figures == evaluate(make_model("same"), "--validation_dir", images, output="second").figures


# --- batches, processes, order ---


@pytest.fixture
def expected(evaluate, model, weaker, images) -> SimpleNamespace:
    return evaluate([model, weaker], "--validation_dir", images, output="expected")


def assert_same(found: SimpleNamespace, expected: SimpleNamespace):
    """Equal numbers, up to the rounding of the logits in batches of other sizes, which reaches the confidences only."""
    for table, other in zip(found.predictions, expected.predictions):
        table, other = (
            one.assign(image=one["image"].map(lambda path: Path(path).name)).sort_values("image")
            for one in (table, other)
        )
        assert table["image"].is_unique
        for column in ("image", "label", "predicted", "rank"):
            assert table[column].tolist() == other[column].tolist()
        assert table["confidence"].to_numpy() == pytest.approx(other["confidence"].to_numpy(), abs=1e-5)
    for figures, others in zip(found.figures, expected.figures):
        for name in others:
            assert figures[name] == pytest.approx(others[name], abs=1e-5 if name == "calibration_error" else 1e-12), (
                name
            )
    assert found.results["differences"] == expected.results["differences"]


@pytest.mark.parametrize("size", [1, 7, 200])
def test_batch_sizes(evaluate, expected, model, weaker, images, size):
    assert_same(evaluate([model, weaker], "--validation_dir", images, "--per_device_eval_batch_size", size), expected)


def test_order_and_source(evaluate, expected, model, weaker, images, tmp_path):
    """A shuffled CSV, and a stream that two workers read."""
    paths = sorted(images.rglob("*.png"))
    np.random.default_rng(0).shuffle(paths)
    with open(tmp_path / "test.csv", "w", newline="") as file:
        csv.writer(file).writerows([["image", "label"], *((path, path.parent.name) for path in paths)])
    found = evaluate([model, weaker], "--validation_file", tmp_path / "test.csv")
    assert [Path(path) for path in found.predictions[0]["image"]] == paths
    assert_same(found, expected)
    assert_same(
        evaluate([model, weaker], "--validation_dir", images, "--streaming", "--dataloader_num_workers", 2), expected
    )


@pytest.mark.parametrize("streaming", [[], pytest.param(["--streaming"], marks=pytest.mark.slow)])
def test_two_processes(expected, model, weaker, images, tmp_path, streaming):
    """By torchrun; 145 images are not a whole number of batches."""
    options = f"--validation_dir {images} --output_dir {tmp_path / 'two'} --per_device_eval_batch_size 8"
    process = subprocess.run(
        [sys.executable, *training.LAUNCHERS["DDP"].split(), ROOT / "examples" / SCRIPT, "--models", model, weaker, *options.split(), *streaming],
        env={**os.environ, "ACCELERATE_USE_CPU": "true"}, capture_output=True, text=True,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr[-3000:]
    assert process.stdout.count("145 images of 10 classes; 95 %") == 1, "one process prints"
    found = read(tmp_path / "two")
    assert found.results["processes"] == 2
    assert_same(found, expected)


@pytest.mark.parametrize("processes", [2, 3])
def test_processes_share_the_images(example, processes):
    """Each image once, and in a table in their order. A stream that ends early has the same images as in one process."""
    table = Dataset.from_dict({"image": list(range(145))})
    stream = table.to_iterable_dataset(num_shards=64)
    limited = stream.shuffle(seed=0).take(30)
    for images, ends_early in ((table, False), (table.select(range(30)), True), (stream, False), (limited, True)):
        parts = []
        for rank in range(processes):
            accelerator = SimpleNamespace(num_processes=processes, process_index=rank)
            parts.append([row["image"] for row in example.own_part(images, accelerator, ends_early)])
        found, expected = sum(parts, []), [row["image"] for row in images]
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        assert found == expected if isinstance(images, Dataset) else sorted(found) == sorted(expected)


# --- several models ---


def test_order_of_classes_and_label_map(evaluate, make_model, images, tmp_path):
    """The same weights with their classes in another order give the same numbers, also where the data have other names."""
    order = [CLASSES[number] for number in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7)]
    models = make_model("one"), make_model("other", order)
    for digit, name in enumerate(CLASSES):
        shutil.copytree(images / name, tmp_path / "letters" / "ABCDEFGHIJ"[digit])
    (tmp_path / "map.json").write_text(json.dumps(dict(zip("ABCDEFGHIJ", CLASSES))))
    found = evaluate(models, "--validation_dir", tmp_path / "letters", "--label_map", tmp_path / "map.json")
    first, second = found.predictions
    for column in ("image", "label", "predicted", "rank"):
        assert first[column].tolist() == second[column].tolist()
    assert values(found.figures[0]) == pytest.approx(values(found.figures[1]), abs=1e-6)
    assert values(found.figures[0])["top_5_accuracy"] > values(found.figures[0])["accuracy"] > 0.5
    (difference,) = found.results["differences"]
    assert difference["value"] == 0 and difference["p"] == 1 and difference["only_first_right"] == 0
    assert difference["low"] < 0 < difference["high"], "equal answers on 145 images do not prove equal models"


def test_paired_test(evaluate, make_model, model, weaker, images):
    """McNemar's exact test and the interval of Bonett and Price, written out, for each pair of three models."""
    models = [model, weaker, make_model("third", train=100, seed=2)]
    found = evaluate(models, "--validation_dir", images)
    pairs = [(difference["first"], difference["second"]) for difference in found.results["differences"]]
    assert pairs == [(str(models[first]), str(models[second])) for first, second in ((1, 0), (2, 0), (2, 1))]
    right = dict(
        zip(map(str, models), [(table["label"] == table["predicted"]).to_numpy() for table in found.predictions])
    )
    for difference in found.results["differences"]:
        one, other = right[difference["first"]], right[difference["second"]]
        b, c, n = sum(one & ~other), sum(other & ~one), len(one)
        assert (difference["only_first_right"], difference["only_second_right"]) == (b, c) and min(b, c) > 0
        tail = sum(math.comb(int(b + c), k) for k in range(min(b, c) + 1)) / 2 ** int(b + c)
        assert difference["p"] == pytest.approx(min(2 * tail, 1))
        assert difference["value"] == pytest.approx(one.mean() - other.mean())
        p, q = (b + 1) / (n + 2), (c + 1) / (n + 2)
        half = norm.ppf(0.975) * math.sqrt((p + q - (p - q) ** 2) / (n + 2))
        assert (difference["low"], difference["high"]) == pytest.approx((p - q - half, p - q + half))
        better, worse = sorted((difference["first"], difference["second"]), key=lambda name: -right[name].sum())
        assert f"{better} is right more often than {worse} by {abs(difference['value']):.1%}" in found.printed
    assert "Each p is for its pair alone" in found.printed


def test_equal_models(evaluate, model, images, tmp_path):
    shutil.copytree(model, tmp_path / "same")
    found = evaluate([model, tmp_path / "same"], "--validation_dir", images)
    assert f"is right as often as {model}, a difference of 0.0%" in found.printed and "more often" not in found.printed


def test_coverage_of_the_interval_of_a_difference(example):
    def experiment(random):
        kind = random.choice(4, 150, p=[0.8, 0.1, 0.05, 0.05])  # both right, the first, the second, none
        return example.compare((kind == 0) | (kind == 1), (kind == 0) | (kind == 2))

    assert 0.90 <= coverage(experiment, 0.05) <= 0.99


# --- files ---


def test_an_earlier_evaluation_is_replaced(evaluate, model, weaker, images, tmp_path, monkeypatch):
    """Of three models now one: nothing of the others stays. What others have put there stays."""
    out = tmp_path / "out"
    evaluate([model, weaker], "--validation_dir", images)
    for name in ("results.json", "all_results.json", "predictions_2020.csv", "classes.csv"):
        (out / name).write_text("foreign")
    names = {path.name for path in out.iterdir()}
    evaluate(model, "--validation_dir", images)
    assert {path.name for path in out.iterdir()} == names - {"predictions_2.csv", "classes_2.csv"}
    assert (out / "predictions_2020.csv").read_text() == "foreign"

    def fail(*_, **__):
        raise OSError("no space left")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fail)
    with pytest.warns(UserWarning, match="The picture could not be drawn, all else is saved: .*no space left"):
        evaluate(weaker, "--validation_dir", images)
    assert not (out / "evaluation.png").exists(), "the picture of another evaluation"
    assert not list(out.glob(".*"))


@pytest.mark.parametrize("number", [1, 2])
def test_picture(evaluate, model, weaker, images, tmp_path, number):
    """Each model has its colour; odd names are not formulas."""
    odd = tmp_path / "50% $x_"
    shutil.copytree(images, odd)
    evaluate([model, weaker][:number], "--validation_dir", odd)
    with Image.open(tmp_path / "out" / "evaluation.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3).astype(int)
    # matplotlib's first two colours, with 30 % of the white ground.
    for index, color in enumerate(((31, 119, 180), (255, 127, 14))):
        shown = np.abs(pixels - (0.7 * np.array(color) + 0.3 * 255)).max(axis=1) < 3
        assert (shown.mean() > 0.02) == (index < number)


def test_picture_of_many_classes(example, tmp_path):
    """150 classes with long names, of which the picture names 25."""
    random = np.random.default_rng(0)
    names = np.array(
        [f"a name that is too long for a picture, number {number}\n" for number in range(150)], dtype=object
    )
    labels = random.integers(150, size=3000)
    predicted = np.where(random.random(3000) < 0.3 + labels / 250, labels, random.integers(150, size=3000))
    table = pd.DataFrame(
        {"label": names[labels], "predicted": names[predicted], "confidence": random.random(3000), "rank": 1}
    )
    classes = example.class_table(table)
    results = {
        "images": 3000,
        "data": "x",
        "classes": 150,
        "models": [{"name": "m", "figures": example.measure(table, 150)}],
    }
    shown = []
    original = matplotlib.figure.Figure.savefig

    def savefig(figure, *arguments, **options):
        shown.extend(label.get_text() for part in figure.subfigs[2:] for label in part.axes[0].get_yticklabels())
        return original(figure, *arguments, **options)

    matplotlib.figure.Figure.savefig = savefig
    try:
        example.draw_evaluation(results, [table], [classes], tmp_path / "picture.png")
    finally:
        matplotlib.figure.Figure.savefig = original
    hardest = classes["f1"].sort_values(kind="stable").index[:25]
    assert [re.findall(r"\d+", label)[-1] for label in shown[::-1]] == [
        re.findall(r"\d+", name)[-1] for name in hardest
    ]
    assert all(len(label) <= 30 and "\n" not in label for label in shown)


# --- which images ---


def test_images_that_a_training_run_holds_out(evaluate, model, images):
    """A folder that is not divided: the script says which images it took, and how to take all."""
    found = evaluate(model, "--train_dir", images)
    part = found.results["images"]
    assert part < 30
    assert f"{part} of 145 are evaluated, those that a training run holds out" in found.printed
    assert "name them with --validation_dir" in found.printed
    for options in (("--validation_dir", images), ("--train_dir", images, "--validation_dir", images)):
        found = evaluate(model, *options)
        assert found.results["images"] == 145 and "holds out" not in found.printed
    again = evaluate(model, "--train_dir", images, output="again").predictions[0]
    assert (
        again["image"].tolist()
        != evaluate(model, "--train_dir", images, "--seed", 1, output="other").predictions[0]["image"].tolist()
    )


# --- model cards ---

CARD = """---
license: mit
tags:
- mine
model-index:
- name: my model
  results:
  - task:
      type: image-classification
    dataset:
      type: imagefolder
      name: scans
      config: scans
    metrics:
    - type: accuracy
      value: 0.123
  - task:
      type: image-classification
    dataset:
      type: food101
      name: Food
    metrics:
    - type: accuracy
      value: 0.456
---

# My own words

They stay: $x_1$, ümläut.
"""


def entries(card: ModelCard) -> dict[tuple, float]:
    results = card.data.eval_results
    found = {(entry.dataset_type, entry.dataset_name, entry.metric_type): entry.metric_value for entry in results}
    assert len(found) == len(results), "each number once"
    return found


def test_card_in_a_folder(evaluate, make_model, images):
    folder = make_model("with a card")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    found = evaluate(folder, "--validation_dir", images, "--update_card")
    written = (folder / "README.md").read_text(encoding="utf-8")
    card = ModelCard(written)
    assert card.text == ModelCard(CARD).text
    assert (card.data.license, card.data.tags, card.data.model_name) == ("mit", ["mine"], "my model")
    expected = {("imagefolder", "scans", name): value for name, value in values(found.figures[0]).items()}
    assert entries(card) == pytest.approx({**expected, ("food101", "Food", "accuracy"): 0.456})
    assert card_errors(written) == []
    assert not list(folder.glob(".*"))
    # Another set of images gets an entry beside it, and the same again replaces its own.
    evaluate(folder, "--validation_dir", images, "--data_name", "others", "--update_card")
    evaluate(folder, "--validation_dir", images, "--update_card")
    found = entries(ModelCard.load(folder / "README.md"))
    others = {(kind, "others", name): value for (kind, _, name), value in expected.items()}
    assert found == pytest.approx({**expected, **others, ("food101", "Food", "accuracy"): 0.456})


def test_model_without_a_card(evaluate, make_model, images):
    """It gets a complete one."""
    folder = make_model("without")
    found = evaluate(folder, "--validation_dir", images, "--update_card")
    written = (folder / "README.md").read_text()
    assert card_errors(written) == [] and "## How to use" in written
    assert {name: value for (_, _, name), value in entries(ModelCard(written)).items()} == pytest.approx(
        values(found.figures[0])
    )


def test_a_failure_leaves_the_card(evaluate, make_model, images, monkeypatch):
    folder = make_model("full disk")
    (folder / "README.md").write_text(CARD, encoding="utf-8")

    def fail(self, path, *_):
        Path(path).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr(ModelCard, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        evaluate(folder, "--validation_dir", images, "--update_card")
    assert (folder / "README.md").read_text(encoding="utf-8") == CARD and not list(folder.glob(".*"))


def test_card_on_the_hub(make_model, images, tmp_path):
    """A model of the Hub is evaluated, and its card there gets the numbers, in one commit."""
    folder = make_model("published")
    (folder / "README.md").write_text(CARD, encoding="utf-8")
    with HubServer(users={"hf_alice_secret": "alice"}) as hub:
        hub.publish("alice/model", folder)
        environment = {
            "HF_HOME": str(tmp_path / "huggingface"), "HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": None, "HF_HUB_DISABLE_XET": "1",
            "HF_TOKEN": "hf_alice_secret", "ACCELERATE_USE_CPU": "true",
        }  # fmt: skip
        options = f"--models alice/model --validation_dir {images} --output_dir out --update_card".split()
        code = f"import runpy, sys\nsys.argv = {['x', *options]}\nrunpy.run_path({str(ROOT / 'examples' / SCRIPT)!r}, run_name='__main__')"
        process = run_python(code, tmp_path, environment)
        assert process.returncode == 0, process.stderr[-3000:]
        files = hub.files("alice/model")
        assert files["model.safetensors"] == (folder / "model.safetensors").read_bytes()
    found = read(tmp_path / "out")
    card = ModelCard(files["README.md"].decode())
    assert card.text == ModelCard(CARD).text and ModelCard(files["README.md"].decode()).data.license == "mit"
    expected = {("imagefolder", "scans", name): value for name, value in values(found.figures[0]).items()}
    assert entries(card) == pytest.approx({**expected, ("food101", "Food", "accuracy"): 0.456})
    assert (
        "hf_alice_secret" not in process.stdout + process.stderr + (tmp_path / "out" / "evaluation.json").read_text()
    )


def test_data_of_the_hub_in_a_card(example):
    """They are named as on the Hub, with configuration and split, which tell results apart."""

    def describe(**options):
        data_arguments = example.DataArguments(**options)
        return EvalResult("image-classification", **example.describe_data(example.Arguments(models=["m"]), data_arguments), metric_type="x", metric_value=1)  # fmt: skip

    entry = describe(dataset_name="user/data", dataset_config_name="small", validation_split="test")
    assert (entry.dataset_type, entry.dataset_name, entry.dataset_config, entry.dataset_split) == (
        "user/data",
        "user/data",
        "small",
        "test",
    )
    entry = describe(dataset_name="user/data", validation_file="folder/mine.csv")
    assert (entry.dataset_type, entry.dataset_name) == ("csv", "mine.csv"), "the images that are evaluated"


# --- mistakes ---


def test_mistakes(evaluate, make_model, model, images, tmp_path):
    rows = {"empty.csv": "image,label\n", "column.csv": "image,kind\na.png,b\n"}
    for name, text in rows.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "none").mkdir()
    features = Features({"image": datasets.Image(), "label": ClassLabel(names=CLASSES)})
    Dataset.from_dict({"image": [], "label": []}, features=features).to_parquet(tmp_path / "empty.parquet")
    several = [{"file_name": str(next((images / CLASSES[2]).iterdir())), "label": [CLASSES[2], CLASSES[3]]}]
    (tmp_path / "several.jsonl").write_text("".join(json.dumps(row) + "\n" for row in several))
    others = shutil.copytree(images / CLASSES[0], tmp_path / "others" / "cat").parent
    shutil.copytree(model, tmp_path / "bad card")
    (tmp_path / "bad card" / "README.md").write_text("---\nmodel-index:\n- name: x\n  results: 5\n---\n")
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "evaluation.json").write_text("[1, 2]")
    here = ("--validation_dir", images)
    for models, options, message in (
        (model, (), "Give one of --dataset_name, --train_dir, --train_file as the source of images"),
        (model, ("--validation_dir", tmp_path / "none"), "has no image"),
        (model, ("--validation_file", tmp_path / "empty.csv"), "has no rows"),
        (model, ("--validation_file", tmp_path / "empty.parquet"), "The images cannot be loaded: .* no data"),
        (model, ("--validation_file", tmp_path / "empty.parquet", "--streaming"), "There is no image to evaluate: the source .* is empty"),
        (model, ("--validation_file", tmp_path / "column.csv"), "There is no column of labels.*the columns are image, kind.*--label_column_name"),
        (model, ("--validation_file", tmp_path / "several.jsonl"), "several labels each.*run_image_classification.py --do_eval"),
        (model, ("--validation_dir", others), r"(?s)good: The model does not have all classes.*classes of the data: cat\n.*classes of the model: digit 0, .*--label_map"),
        ([model, make_model("fewer", CLASSES[:9])], here, r"(?s)fewer: The model does not have all.*without a match: digit 9\n"),
        ([model, model], here, "has .*good twice"),
        (tmp_path / "nothing", ("--validation_dir", tmp_path / "none"), "nothing"),  # before the images
        (model, (*here, "--update_card", "--max_eval_samples", 5), "leave out --max_eval_samples"),
        (model, (*here, "--per_device_eval_batch_size", 0), "must be at least 1, got 0"),
        (tmp_path / "bad card", (*here, "--update_card"), "The model card of .*bad card cannot be read"),
        (model, (*here, "--output_dir", tmp_path / "foreign"), "evaluation.json is not a result of this script"),
    ):  # fmt: skip
        with pytest.raises(SystemExit, match=message):
            evaluate(models, *options)
    assert not (tmp_path / "out" / "evaluation.json").exists()
    assert (tmp_path / "foreign" / "evaluation.json").read_text() == "[1, 2]"


def test_scores_that_are_not_numbers(evaluate, make_model, model, images, tmp_path):
    """The message names the model and an image. The results of an earlier evaluation stay."""
    evaluate(model, "--validation_dir", images)
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    folder = make_model("broken")
    loaded = CrossViTForImageClassification.from_pretrained(folder)
    loaded.classifier.heads[0].bias.data[3] = float("nan")
    loaded.save_pretrained(folder)
    with pytest.raises(
        SystemExit, match=r"broken gives scores that are not finite numbers, for .*digit 0/\d+.png as the first image"
    ):
        evaluate([model, folder], "--validation_dir", images)
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_unreadable_images(evaluate, model, images, tmp_path):
    folder = shutil.copytree(images, tmp_path / "copy")
    broken = next((folder / CLASSES[2]).iterdir())
    broken.write_bytes(b"no image")
    for workers in (0, 1):  # a worker puts its traceback before the message
        with pytest.raises(
            SystemExit,
            match=rf"^{re.escape(str(broken))} cannot be read.*--skip_bad_images looks at all images[^\n]*$",
        ):
            evaluate(model, "--validation_dir", folder, "--dataloader_num_workers", workers)
    found = evaluate(model, "--validation_dir", folder, "--skip_bad_images")
    assert found.results["images"] == 144 and "1 image could not be read and was left out" in found.printed
    assert str(broken) not in set(found.predictions[0]["image"])


def test_names_that_are_not_utf_8(evaluate, model, images, tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(images / CLASSES[2], folder / CLASSES[2])
    found = evaluate(model, "--validation_dir", folder)
    assert {Path(name).parent for name in found.predictions[0]["image"]} == {tmp_path / "caf\\xe9" / CLASSES[2]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_evaluated(
    evaluate, expected, model, weaker, images, monkeypatch, capsys, tmp_path, number
):
    """The same command evaluates the rest. What a changed image gave is not taken."""
    copy, read, original = shutil.copytree(images, tmp_path / "copy"), [], crossvit.data.read_image

    def read_image(image: dict, *options) -> Image.Image:
        read.append(image["path"])
        if len(read) == 40:
            os.kill(os.getpid(), number)
        return original(image, *options)

    monkeypatch.setattr(crossvit.data, "read_image", read_image)
    options = ("--validation_dir", copy, "--per_device_eval_batch_size", 15)
    with pytest.raises(SystemExit) as ended:
        evaluate([model, weaker], *options, output="other")
    assert ended.value.code == 128 + number and len(read) == 40
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert re.search(
        rf"\n{name}: the images that were evaluated .*; the same command continues", capsys.readouterr().err
    )
    (unfinished,) = (tmp_path / "other").glob("unfinished_*")
    kept = unfinished.read_bytes()
    found = evaluate([model, weaker], *options, output="other")
    assert len(read) == 40 + 145 - 30, "two batches were done"
    assert_same(found, expected)
    assert not unfinished.exists()
    unfinished.write_bytes(kept)
    os.utime(next(copy.rglob("*.png")))
    evaluate([model, weaker], *options, output="other")
    assert len(read) == 40 + 145 - 30 + 145


def test_images_that_the_model_was_trained_on(evaluate, make_model, images, tmp_path):
    """Under another name, and with the held-out images of the run known as such."""
    model = shutil.copytree(make_model("trained"), tmp_path / "run" / "checkpoint-3")
    data = load_images(DataArguments(train_dir=os.path.relpath(images)), seed=3)
    check_run(tmp_path / "run", data, {})
    trained, held_out = (
        [Path(image["path"]) for image in data.splits[split]["image"]] for split in ("train", "validation")
    )
    for number, path in enumerate([*trained[:2], *held_out[:9]]):
        target = tmp_path / "others" / path.parent.name / f"copy {number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    printed = evaluate(model, "--validation_dir", tmp_path / "others").printed
    warning = f"Warning: 2 of the 11 images to evaluate are among the training images of {model} too"
    assert warning in printed and "copy 0.png" in printed and "copy 1.png" in printed and "copy 2.png" not in printed
    assert "among the training images" not in evaluate(model, "--train_dir", images, "--seed", 3).printed
    images.rename(tmp_path / "moved")
    printed = evaluate(model, "--validation_dir", tmp_path / "others").printed
    (tmp_path / "moved").rename(images)
    assert (
        f"Whether {model} was trained on images to evaluate is not known: --train_dir {images} is not a folder"
        in printed
    )
