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
Proves that research/learning compares what it says: all models get the same images in the same order, the ViTs have the sizes that
they should, intervals are Student's, a run continues after a kill, and mistakes end it before anything is trained.

    pytest research/tests/test_learning.py          2 minutes
"""

import json
import math
import operator
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_models import small_config
from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor
from transformers.image_utils import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

from benchmarks.images import save_timm_model
from benchmarks.parity import timm_model
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from research.learning import data as learning_data
from research.learning import report as learning_report
from research.learning import study
from research.learning.data import SETS, Images, Preparation, Split
from research.learning.study import MODELS, SMALL, Results, build_model, cost, make_vit, share_right


ROOT = Path(__file__).parents[2]
OURS = Preparation(48, 1)


@pytest.fixture(scope="module")
def digits():
    return SETS["digits"].load()


def run_main(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["study", *map(str, arguments)])
    study.main()


# The images


def test_digits_are_split_as_in_the_quickstart(digits):
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    train, test = digits
    data = load_digits()
    _, held_out = train_test_split(np.arange(1797), test_size=0.25, stratify=data.target, random_state=0)
    assert (len(train.labels), len(test.labels)) == (1347, 450)
    assert np.array_equal(test.labels, data.target[held_out])
    expected = (data.images[held_out] * 255 / 16).astype(np.uint8)
    assert np.array_equal(test.images.numpy()[:, 0], expected)


def test_mnist_has_every_class_in_both_parts():
    train, test = SETS["mnist"].load()
    assert (len(train.labels), len(test.labels)) == (4000, 1000)
    assert np.bincount(test.labels).tolist() == [100] * 10 and np.bincount(train.labels).tolist() == [400] * 10
    assert train.images.shape[1:] == (1, 28, 28) and train.images.dtype == torch.uint8
    assert train.images.amax() == 255


def test_models_see_values_from_minus_one_to_one(digits):
    data = Images(digits[1], OURS)
    pixel_values = torch.stack([data[index]["pixel_values"] for index in range(20)])
    assert pixel_values.shape == (20, 1, 48, 48)
    assert -1 <= pixel_values.min() < -0.99 and 0.9 < pixel_values.max() <= 1
    assert [data[index]["labels"] for index in range(20)] == list(digits[1].labels[:20])


def test_cifar_comes_from_the_hub(monkeypatch):
    """Its recipe, of stochastic gradient descent, trains; colours and the finer of its two labels arrive."""
    generator = np.random.default_rng(0)
    pixels = [generator.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(8)]
    columns = {
        "img": [Image.fromarray(image) for image in pixels],
        "fine_label": [*range(92, 100)],
        "coarse_label": [0] * 8,
    }
    data = datasets.DatasetDict(
        {"train": datasets.Dataset.from_dict(columns), "test": datasets.Dataset.from_dict(columns)}
    )
    monkeypatch.setattr(datasets, "load_dataset", {"uoft-cs/cifar100": data}.__getitem__)
    train, test = SETS["cifar100"].load()
    assert list(test.labels) == [*range(92, 100)] and np.array_equal(np.asarray(test.images[3]), pixels[3])
    images = SETS["cifar100"].with_recipe({"image_size": 48, "num_train_epochs": 1, "batch_size": 4})
    assert images.recipe.optim == "sgd"
    preparation = study.preparation_of("none", images)
    seen = Images(train, preparation, images.augmentation)
    assert seen[0]["pixel_values"].shape == (3, 48, 48)
    run = study.train("none", images, None, 0, seen, Images(test, preparation), study.tqdm(disable=True))
    assert len(run["accuracies"]) == 1 and run["parameters"] > 1e6


# The models


def test_vit_of_the_large_branch_is_deit():
    """The paper compares CrossViT-S with DeiT-S (Table 2), which has 22,050,664 parameters at 224 pixels, and more patches at 240."""
    images = replace(SETS["cifar10"], num_labels=1000)
    with torch.device("meta"):
        vit = build_model("vit_large_branch", images, "crossvit_small_240")
    assert vit.num_parameters() == 22_050_664 + (15 * 15 - 14 * 14) * 384


@pytest.mark.parametrize("size", [48, 96])
def test_vit_of_equal_cost_is_the_closest(size):
    images = SETS["digits"].with_recipe({"image_size": size})
    crossvit, vit = (build_model(name, images, None) for name in ("cross_attention", "vit_equal_cost"))
    target, step = cost(crossvit), 4 * crossvit.config.num_attention_heads[-1]
    width = vit.config.hidden_size
    others = [cost(make_vit(crossvit, other)) for other in (width - step, width + step)]
    assert abs(cost(vit) - target) <= min(abs(other - target) for other in others)
    assert others[0] < target < others[1]


@pytest.mark.parametrize("name", MODELS)
def test_models_fit_the_set(name):
    images = SETS["digits"]
    torch.manual_seed(0)
    model = build_model(name, images, None)
    assert model(torch.zeros(2, 1, 48, 48)).logits.shape == (2, 10)
    assert model.config.initializer_range == SMALL["initializer_range"]
    assert isinstance(model, ViTForImageClassification) == name.startswith("vit")


# A run


def tiny(digits) -> tuple[Images, Images]:
    train, test = (Split(split.images[:40], split.labels[:40]) for split in digits)
    return Images(train, OURS, learning_data.SCAN), Images(test, OURS)


def run_of(name: str, digits, seed: int = 0) -> dict:
    images = SETS["digits"].with_recipe({"num_train_epochs": 2, "batch_size": 8})
    return study.train(name, images, None, seed, *tiny(digits), bar=study.tqdm(disable=True))


def test_models_see_the_same_images(digits, monkeypatch):
    """In the same order, with the same augmentation, by the same seed; and other ones by another seed."""
    seen = []
    original = Images.__getitem__

    def watched(self, index):
        sample = original(self, index)
        if len(self.transform.transforms) and self.transform.transforms[2] is learning_data.SCAN:
            seen[-1].append((index, sample["pixel_values"].sum().item()))
        return sample

    monkeypatch.setattr(Images, "__getitem__", watched)
    for name, seed in (("cross_attention", 0), ("vit_large_branch", 0), ("all_attention", 0), ("cross_attention", 1)):
        seen.append([])
        run_of(name, digits, seed)
    assert len(seen[0]) == 2 * 40 and sorted(index for index, _ in seen[0][:40]) == list(range(40))
    assert seen[0] == seen[1] == seen[2] != seen[3]


def test_a_run_repeats(digits):
    first, second = (run_of("pairwise", digits) for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}
    assert len(first["accuracies"]) == 2 and len(first["branches"]) == 2


def test_accuracies_of_the_branches_and_of_disturbed_images(digits):
    images = SETS["digits"]
    torch.manual_seed(0)
    model = build_model("cross_attention", images, None).eval()
    _, test = tiny(digits)
    pixel_values = torch.stack([test[index]["pixel_values"] for index in range(40)])
    labels = torch.tensor([test[index]["labels"] for index in range(40)])
    with torch.no_grad():
        tokens = model.crossvit(pixel_values, output_hidden_states=True).branch_hidden_states
        logits = [head(token[:, 0]) for head, token in zip(model.classifier.heads, tokens)]
    expected = [(one.argmax(-1) == labels).float().mean().item() for one in logits]
    assert study.branch_accuracies(model, test) == pytest.approx(expected)
    plain = share_right(lambda batch: model(batch).logits, test)
    assert plain == pytest.approx((sum(logits).argmax(-1) == labels).float().mean().item())
    disturbed = study.disturbed_accuracies(model, test)
    assert disturbed["size"]["48"] == disturbed["noise"]["0"] == disturbed["blur"]["0"] == plain
    assert list(disturbed["size"]) == ["32", "48", "64", "80", "96"]
    assert disturbed == study.disturbed_accuracies(model, test)


def test_it_learns(digits):
    """A mistake in the recipe would make all models guess: one of ten is right by chance."""
    images = SETS["digits"].with_recipe({"num_train_epochs": 6})
    train, test = digits
    test = Split(test.images[:150], test.labels[:150])  # in random order
    run = study.train(
        "cross_attention", images, None, 0, Images(train, OURS), Images(test, OURS), study.tqdm(disable=True)
    )
    assert run["accuracies"][-1] > 0.8


@pytest.mark.parametrize("kind", ["crossvit", "timm", "vit"])
def test_a_trained_model_sees_images_as_it_was_trained(kind, digits, tmp_path):
    """The setting of Table 5: other models are given as folders or repositories of the Hub, and get new heads."""
    folder = str(tmp_path / "model")
    if kind == "vit":
        config = ViTConfig(image_size=32, patch_size=16, hidden_size=32, num_hidden_layers=1, num_attention_heads=2)
        trained = ViTForImageClassification(config)
        ViTImageProcessor(size=32, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7]).save_pretrained(folder)
        trained.save_pretrained(folder)
        expected = Preparation(32, 3, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    else:
        expected = Preparation(48, 3, tuple(IMAGENET_DEFAULT_MEAN), tuple(IMAGENET_DEFAULT_STD))
        if kind == "timm":
            save_timm_model(timm_model("crossvit_tiny_240"), Path(folder))
            expected = replace(expected, size=240)
        else:
            CrossViTForImageClassification(small_config()).save_pretrained(folder)
            CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
    preparation = study.preparation_of(folder, SETS["digits"])
    assert preparation == expected
    model = build_model(folder, SETS["digits"], None)
    assert isinstance(model, ViTForImageClassification) == (kind == "vit")
    data = Images(Split(digits[1].images[:4], digits[1].labels[:4]), preparation)
    black = (0 - torch.tensor(expected.mean)) / torch.tensor(expected.std)
    assert torch.allclose(data[0]["pixel_values"].amin(dim=(1, 2)), black)
    run = study.train(
        folder, SETS["digits"].with_recipe({"num_train_epochs": 1}), None, 0, data, data, study.tqdm(disable=True)
    )
    assert len(run["accuracies"]) == 1 and run["model"] == folder
    assert len(study.time_steps(SETS["digits"], [folder], None, rounds=1)[folder]) == 1


# The file of results


def test_it_continues_after_a_kill(tmp_path):
    """A killed program has lost no run that had ended, and the same command trains the others alone."""
    path = tmp_path / "learning.json"
    command = [sys.executable, "-m", "research.learning.study", "--quick", "--sets", "digits"]
    command += ["--models", "cross_attention", "none", "--parts", "runs", "--results", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (path.exists() and json.loads(path.read_text())["runs"]):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    kept = json.loads(path.read_text())["runs"]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    runs = json.loads(path.read_text())["runs"]
    assert 1 <= len(kept) < 4 and runs[: len(kept)] == kept
    assert sorted((run["model"], run["seed"]) for run in runs) == [
        ("cross_attention", 0), ("cross_attention", 1), ("none", 0), ("none", 1)
    ]  # fmt: skip


def test_two_commands_fill_one_file(tmp_path):
    """Each keeps what the other wrote, and a run that both did is there once."""
    path = tmp_path / "learning.json"
    runs = [made_up_run(name, seed, 0.9) for name in ("none", "pairwise") for seed in range(4)]
    code = (
        "import json, pathlib, sys\nfrom research.learning import study\n"
        "for run in json.load(open(sys.argv[2])): study.Results(pathlib.Path(sys.argv[1])).add(run)"
    )
    processes = []
    for number, part in enumerate((runs[:5], runs[3:])):
        (tmp_path / f"{number}.json").write_text(json.dumps(part))
        command = [sys.executable, "-c", code, str(path), str(tmp_path / f"{number}.json")]
        processes.append(subprocess.Popen(command, cwd=ROOT))
    assert [process.wait() for process in processes] == [0, 0]
    found = json.loads(path.read_text())["runs"]
    key = operator.itemgetter("model", "seed")
    assert sorted(found, key=key) == sorted(runs, key=key)
    assert Results(path).missing("digits", ["none", "cross_attention"], 5) == [
        *(("cross_attention", seed) for seed in range(4)), ("none", 4), ("cross_attention", 4)
    ]  # fmt: skip


def test_mistakes_end_it_before_anything_is_trained(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(study, "train", lambda *args, **kwargs: pytest.fail("trained"))
    path = tmp_path / "learning.json"
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "--models", "pairwize", "--results", path)
    assert "unknown model 'pairwize': expected some of cross_attention, none," in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run_main(monkeypatch, "--sets", "digit")
    with monkeypatch.context() as context:
        context.setattr(learning_data, "find_spec", lambda name: None)
        with pytest.raises(SystemExit, match="come with the package elpv-dataset: pip install elpv-dataset"):
            run_main(context, "--sets", "solar_cells", "--results", path)
    path.write_text(json.dumps({"version": 0, "runs": []}))
    with pytest.raises(SystemExit, match="written by version 0 of this script, and this is version"):
        run_main(monkeypatch, "--sets", "digits", "--results", path)
    assert json.loads(path.read_text())["version"] == 0
    path.write_text("{")
    with pytest.raises(SystemExit, match="is not a file of results"):
        run_main(monkeypatch, "--sets", "digits", "--results", path)
    path.unlink()
    Results(path).expect("digits", {"batch_size": 8, "image_size": 48})
    with pytest.raises(SystemExit, match=r"has runs on digits with another recipe: batch_size 8 there, 32 here"):
        Results(path).expect("digits", {"batch_size": 32, "image_size": 48})
    with pytest.raises(SystemExit, match="has no runs yet"):
        run_main(monkeypatch, "--sets", "mnist", "--parts", "report", "--results", path)


# The report


def test_intervals_are_students():
    values = pd.Series([90.0, 92.0, 91.0, 95.0, 92.0])
    half = 2.7764451 * values.std() / math.sqrt(5)  # the quantile of four degrees of freedom, from a table
    assert learning_report.interval(values) == pytest.approx((92 - half, 92 + half), abs=1e-6)
    assert learning_report.interval(pd.Series([90.0, 90.0])) == (90, 90)


def made_up_run(model: str, seed: int, accuracy: float) -> dict:
    disturbed = {"size": {"48": accuracy, "96": 0.5}, "noise": {"0": accuracy}, "blur": {"0": accuracy}}
    return {
        "set": "digits", "model": model, "seed": seed, "parameters": 1_000_000, "multiply_adds": 20_000_000,
        "accuracies": [0.5, 0.99, accuracy], "branches": None if model.startswith("vit") else [0.25, 0.75],
        "disturbed": disturbed, "seconds": 1.0, "larger_class": 0.1, "machine": "a machine",
    }  # fmt: skip


def test_a_report_has_the_numbers_of_the_runs(tmp_path, capsys):
    """Pairs by seed, whatever the order of the runs; the last epoch and not the best; no picture outside the folder."""
    accuracies = {"cross_attention": [0.90, 0.94], "none": [0.80, 0.82], "vit_large_branch": [0.95, 0.90]}
    runs = [made_up_run(name, seed, values[seed]) for name, values in accuracies.items() for seed in (0, 1)]
    runs[2:4] = reversed(runs[2:4])
    steps = {
        "digits": {"machine": "a machine", "seconds": {"cross_attention": [2.0, 2.0, 2.0], "none": [1.0, 1.0, 1.0]}}
    }
    settings = {"digits": asdict(SETS["digits"].recipe)}
    content = {"version": 2, "settings": settings, "steps": steps, "runs": runs}
    learning_report.write_report(content, tmp_path / "r.json", is_page=False)
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("| no fusion"))
    # Differences of -10 and -12: the mean is -11, and 12.706 times the standard error of 1 is the half width.
    assert [cell.strip() for cell in row.split("|")[4:10]] == [
        "81.00 %", "68.29 to 93.71", "\u221211.00", "\u221223.71 to +1.71", "25.00 %", "75.00 %"
    ]  # fmt: skip
    assert row.split("|")[10].strip() == "0.50 x"
    assert "| scikit-learn's digits | 48 | 40 | 32 | adamw_torch | 0.001 | 0.05 |" in printed
    assert "not told apart: no fusion (worse with each of the 2 seeds), ViT of the large branch's size" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"learning.png", "learning_disturbed.png"}


def test_a_report_without_crossvit_or_with_one_seed(tmp_path, capsys):
    """The first model takes CrossViT's place, and one seed has no interval. An interval without width would look certain."""
    runs = [made_up_run(name, 0, accuracy) for name, accuracy in (("timm/a", 0.9), ("facebook/b", 0.8))]
    content = {"version": 2, "settings": {"digits": asdict(SETS["digits"].recipe)}, "steps": {}, "runs": runs}
    learning_report.write_report(content, tmp_path / "r.json", is_page=False)
    printed = capsys.readouterr().out
    row = next(line for line in printed.splitlines() if line.startswith("| facebook/b"))
    assert [cell.strip() for cell in row.split("|")[4:8]] == ["80.00 %", "one seed", "\u221210.00", "one seed"]
    assert "difference to timm/a, in points" in printed and "- not told apart: facebook/b" in printed
    assert "| size 48 | 90.00 % | facebook/b | 80.00 % | \u221210.00 | one seed |" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"learning.png", "learning_disturbed.png"}


def test_quick_runs_every_step():
    """On one set, with CrossViT, another fusion and a ViT, and with no trace in docs/."""
    before = {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*")}
    command = [sys.executable, "-m", "research.learning.study", "--quick", "--sets", "digits"]
    command += ["--models", "cross_attention", "all_attention", "vit_equal_cost"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr[-3000:]
    assert "| scikit-learn's digits | size" in result.stdout
    assert sum(line.startswith("| ViT of CrossViT's multiply-adds |") for line in result.stdout.splitlines()) == 1
    assert {path: path.stat().st_mtime_ns for path in (ROOT / "docs").rglob("*")} == before
