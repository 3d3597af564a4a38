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
examples/solar_cells.py: its folders are the package elpv-dataset, bit for bit, its numbers are scikit-learn's, its intervals those of the
textbook, and a picture that fails costs nothing else. The whole training runs as a slow test, with one epoch.

    pytest tests/examples/test_solar_cells.py              about 30 seconds
    pytest tests/examples/test_solar_cells.py -m slow      about 2 minutes
"""

import csv
import json
import re
import runpy
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.stats import norm
from sklearn.metrics import accuracy_score, balanced_accuracy_score, confusion_matrix
from transformers import pipeline

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "solar_cells.py"
PAGE = ROOT / "docs" / "solar_cells.md"


@pytest.fixture(scope="module")
def example():
    """The functions of the example."""
    sys.path.insert(0, str(EXAMPLE.parent))
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE)))


@pytest.fixture(scope="module")
def cells(example):
    return example.load_cells()


def save_random_model(example, folder: Path, labels: list[str]):
    """Writes the example's model with random weights to `folder/model`."""
    example.write_architecture(folder / "architecture")
    torch.manual_seed(0)
    config = CrossViTConfig.from_pretrained(folder / "architecture", id2label=dict(enumerate(labels)))
    CrossViTForImageClassification(config).save_pretrained(folder / "model")
    CrossViTImageProcessor.from_pretrained(folder / "architecture").save_pretrained(folder / "model")


def scores_for(probability: np.ndarray, seed: int) -> np.ndarray:
    """Scores of a model that is often, but not always, right."""
    return (0.6 * probability + np.random.default_rng(seed).normal(0.2, 0.3, len(probability))).clip(0, 1)


def test_folders(example, cells, tmp_path):
    """Each file of the package lies in one folder, that of its class, with equal bytes. A quarter of each probability is held out."""
    example.write_cells(cells, tmp_path)
    source = Path(str(files("elpv_dataset"))) / "data"
    with open(source / "labels.csv") as file:
        probabilities = {
            Path(name).name: float(value)
            for name, value, _ in csv.reader(map(" ".join, map(str.split, file)), delimiter=" ")
        }
    assert len(probabilities) == 2624
    held_out = dict.fromkeys(set(probabilities.values()), 0)
    written = list(tmp_path.rglob("*.png"))
    assert sorted(path.name for path in written) == sorted(probabilities), "each file once"
    for path in written:
        split, label = path.relative_to(tmp_path).parts[:2]
        assert label == ("defective" if probabilities[path.name] > 0.5 else "functional")
        assert path.read_bytes() == (source / "images" / path.name).read_bytes()
        held_out[probabilities[path.name]] += split == "validation"
    assert sum(held_out.values()) == 656
    for probability, number in held_out.items():
        assert number == pytest.approx(list(probabilities.values()).count(probability) / 4, abs=1)


def test_split_stays_the_same(example, cells):
    assert example.load_cells().equals(cells)


def test_architecture(example, tmp_path):
    """The size is the announced one, and the image processor shows the whole cell."""
    save_random_model(example, tmp_path, example.CLASSES)
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model")
    announced = float(re.search(r"CrossViT with ([\d.]+) million parameters", example.write_architecture.__doc__)[1])
    assert model.num_parameters() == pytest.approx(announced * 1e6, rel=0.05)
    image_processor = CrossViTImageProcessor.from_pretrained(tmp_path / "architecture")
    assert dict(image_processor.size) == {"shortest_edge": 144}
    assert dict(image_processor.crop_size) == {"height": 144, "width": 144}
    assert model.config.image_sizes[0] == 144


@pytest.mark.parametrize("labels", [["defective", "functional"], ["functional", "defective"]])
def test_classify(example, cells, tmp_path, labels):
    """The score is the probability of a defect, wherever this class stands in the model."""
    save_random_model(example, tmp_path, labels)
    paths = cells["path"].tolist()[:5]
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model").eval()
    image_processor = CrossViTImageProcessor.from_pretrained(tmp_path / "model")
    with torch.no_grad():
        logits = model(
            **image_processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt")
        ).logits
    scores = example.classify(pipeline("image-classification", model=str(tmp_path / "model"), device="cpu"), paths)
    expected = logits.softmax(-1)[:, labels.index("defective")].numpy()
    assert scores == pytest.approx(expected, abs=1e-5)
    assert abs(expected - 0.5).max() > 0.01, "the two classes can be told apart"


def wilson(right: int, images: int) -> tuple[float, float]:
    """The interval as in Wilson, 1927."""
    z, p = norm.ppf(0.975), right / images
    middle = (p + z**2 / (2 * images)) / (1 + z**2 / images)
    half = z / (1 + z**2 / images) * np.sqrt(p * (1 - p) / images + z**2 / (4 * images**2))
    return middle - half, middle + half


@pytest.mark.parametrize("seed", range(3))
def test_measure(example, cells, seed):
    """The values are scikit-learn's. The intervals are Wilson's and, for balanced accuracy, close to the normal approximation."""
    probability = cells["probability"][cells["split"] == "validation"].to_numpy()
    scores = scores_for(probability, seed)
    results = json.loads(json.dumps(example.measure(probability, scores)))
    truth, predicted = probability < 0.5, scores <= 0.5  # False, the first class, is defective
    accuracy, balanced = results["accuracy"], results["balanced_accuracy"]
    assert accuracy["value"] == pytest.approx(accuracy_score(truth, predicted))
    assert balanced["value"] == pytest.approx(balanced_accuracy_score(truth, predicted))
    assert results["confusion_matrix"] == confusion_matrix(truth, predicted).tolist()
    assert results["larger_class"] == pytest.approx(truth.mean()) and truth.mean() > 0.5
    assert (accuracy["low"], accuracy["high"]) == pytest.approx(wilson((truth == predicted).sum(), len(truth)))

    shares = [(predicted[truth == value] == value).mean() for value in (False, True)]
    numbers = [(truth == value).sum() for value in (False, True)]
    half = norm.ppf(0.975) * np.sqrt(sum(p * (1 - p) / n for p, n in zip(shares, numbers))) / 2
    assert (balanced["low"], balanced["high"]) == pytest.approx(
        (balanced["value"] - half, balanced["value"] + half), abs=0.005
    )

    assert list(results["by_probability"]) == ["0.00", "0.33", "0.67", "1.00"]
    for value, group in results["by_probability"].items():
        answers = (truth == predicted)[np.isclose(probability, float(value), atol=0.01)]
        assert (group["value"], group["images"]) == (pytest.approx(answers.mean()), len(answers))
        assert (group["low"], group["high"]) == pytest.approx(wilson(answers.sum(), len(answers)))
        assert group["low"] <= group["value"] <= group["high"]


@pytest.mark.parametrize(("right", "accuracy", "balanced"), [(True, 1.0, 1.0), (False, 0.6875, 0.5)])
def test_measure_extremes(example, cells, right, accuracy, balanced):
    """A model that is always right, and one that always says the larger class."""
    probability = cells["probability"][cells["split"] == "validation"].to_numpy()
    results = example.measure(probability, probability if right else 0 * probability)
    assert results["accuracy"]["value"] == accuracy and results["balanced_accuracy"]["value"] == balanced
    assert results["larger_class"] == 0.6875
    assert all(np.isfinite(list(results[name].values())).all() for name in ("accuracy", "balanced_accuracy"))


def test_lost_picture(example, monkeypatch, tmp_path, capsys):
    """The training is replaced by random weights. When a picture fails, the numbers and the other picture are there."""
    monkeypatch.setitem(
        example.main.__globals__, "train", lambda output, *_: save_random_model(example, output, example.CLASSES)
    )

    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setitem(example.main.__globals__, "draw_results", fail)
    monkeypatch.setattr(sys, "argv", ["solar_cells.py", "--output_dir", str(tmp_path)])
    with pytest.warns(UserWarning, match="The picture could not be drawn, all else is saved: OSError.*no space left"):
        example.main()
    results = json.loads((tmp_path / "results.json").read_text())
    assert f"accuracy {results['accuracy']['value']:.1%}, 95 % interval" in capsys.readouterr().out
    assert np.sum(results["confusion_matrix"]) == 656
    picture = np.asarray(Image.open(tmp_path / "where_it_looked.png").convert("RGB"))
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5000, "cells and attention maps, in colour"


def test_draw_results(example, cells, tmp_path):
    """The bars, in their own blue, fill a part of the picture as large as the right answers are many."""
    probability = cells["probability"][cells["split"] == "validation"].to_numpy()
    areas = []
    for scores in (probability, 0 * probability):
        example.draw_results(example.measure(probability, scores), tmp_path / "results.png")
        picture = np.asarray(Image.open(tmp_path / "results.png").convert("RGB"))
        areas.append((picture == (0x7F, 0xA8, 0xD1)).all(axis=-1).mean())
    assert areas[0] > 0.1
    assert areas[1] == pytest.approx(areas[0] / 2, rel=0.1), "two of four bars have no height"


def test_missing_package(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(SystemExit, match="is missing: pip install elpv-dataset"):
        example.load_cells()


def test_failed_training(example, tmp_path):
    """There is no architecture in this folder. The message of the ordinary script stands above that of the example."""
    with pytest.raises(SystemExit, match="The training ended with status 1; the reason stands above"):
        example.train(tmp_path, epochs=1, seed=0)


def test_number_at_the_top(example):
    """The example promises no more than the page measured."""
    promised = float(re.search(r"at least ([\d.]+) of the held-out images", EXAMPLE.read_text())[1])
    measured = float(re.search(r"^\| accuracy \| ([\d.]+) % \|", PAGE.read_text(), re.M)[1]) / 100
    assert promised <= measured < promised + 0.03


@pytest.mark.slow
def test_one_epoch(run_example, tmp_path):
    """From the package to the pictures, as a user runs it. One epoch is enough to be no worse than the larger class by far."""
    result = run_example(
        "solar_cells.py", "--output_dir", tmp_path / "with space", "--num_train_epochs", "1", check=True
    )
    output = tmp_path / "with space"
    results = json.loads((output / "results.json").read_text())
    assert results["num_train_epochs"] == 1 and results["training_minutes"] > 0
    assert results["accuracy"]["value"] > 0.55
    # The ordinary script evaluated the same images.
    evaluated = json.loads((output / "model" / "all_results.json").read_text())
    assert results["accuracy"]["value"] == pytest.approx(evaluated["eval_accuracy"], abs=2 / 656)
    assert (output / "results.png").is_file() and (output / "where_it_looked.png").is_file()
    assert "could not be drawn" not in result.stderr
