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
What must hold in every training script alike: a run ends, also with an unreadable image in a worker; workers are started in any way;
pictures are drawn last, and take no result with them; a folder of another run is not continued; files become the pixels and classes that
pipelines give. The Trainer script stands for the four where they share the code.

    pytest tests/examples/test_all_scripts.py          about 2 minutes
"""

import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib.figure
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from small_models import small_config
from transformers import pipeline

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


EXAMPLES = Path(__file__).parents[2] / "examples"
SCRIPTS = {
    "quickstart.py": "--num_train_epochs 1 --image_size 48",
    "run_image_classification.py": "--do_train --do_eval --max_steps 2 --eval_strategy no --use_cpu",
    "run_image_classification_no_trainer.py": "--max_train_steps 2",
    "pretrain_imagenet.py": "--num_train_epochs 1 --warmup_epochs 0 --global_batch_size 16 --per_device_train_batch_size 8",
}
TRAINER = "run_image_classification.py"
ALL_SCRIPTS = pytest.mark.parametrize("script", SCRIPTS)


@pytest.fixture
def command(saved_model, tmp_path):
    """The arguments of a short run of a script on a folder."""

    def command(script: str, folder: Path, *others: str, output: str = "out") -> list[str]:
        model = [] if script == "quickstart.py" else ["--model_name_or_path", str(saved_model)]
        source = ["--train_dir", str(folder), "--output_dir", str(tmp_path / output)]
        return [*source, *model, *SCRIPTS[script].split(), *others]

    return command


def model_folder(script: str, output: Path) -> Path:
    return output / "model" if script == "quickstart.py" else output


def start(script: str | Path, arguments: list[str], cwd=None, **environment) -> subprocess.CompletedProcess:
    """Runs a script of examples/, or another one, as users do. A run that does not end is an error, and its processes are ended."""
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", **environment}
    process = subprocess.Popen(
        [sys.executable, str(EXAMPLES / script), *arguments], env=environment, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )  # fmt: skip
    workers = []
    try:
        printed, _ = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, printed)
    except subprocess.TimeoutExpired:
        workers = psutil.Process(process.pid).children(recursive=True)
        raise
    finally:
        for left in [*workers, process]:
            left.kill()


@pytest.fixture
def digits_copy(digits, tmp_path) -> Path:
    return shutil.copytree(digits, tmp_path / "digits copy")


@ALL_SCRIPTS
def test_an_unreadable_image_in_a_worker_ends_the_run(command, digits_copy, script):
    """The workers, which outlive SIGTERM, kept the run alive for ever after its error."""
    for image in (digits_copy / "train" / "one").iterdir():
        image.write_bytes(image.read_bytes()[:-60])
    process = start(script, command(script, digits_copy, "--dataloader_num_workers", "2"))
    assert process.returncode == 1
    assert "cannot be read" in process.stdout and "--skip_bad_images" in process.stdout


def test_persistent_workers_end_with_the_run(command, digits):
    options = ("--dataloader_num_workers", "2", "--dataloader_persistent_workers", "true")
    process = start(TRAINER, command(TRAINER, digits, *options))
    assert process.returncode == 0, process.stdout[-2000:]


@pytest.fixture
def spawn(tmp_path) -> dict[str, str]:
    """An environment in which Python starts processes as it does on macOS and Windows."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import multiprocessing\nmultiprocessing.set_start_method('spawn', force=True)\n"
    )
    return {"PYTHONPATH": str(tmp_path / "site")}


@ALL_SCRIPTS
def test_workers_that_inherit_nothing(command, digits, spawn, script):
    """The way processes are started on macOS and Windows, and by default since Python 3.14: all that they use must be picklable."""
    process = start(script, command(script, digits, "--dataloader_num_workers", "1"), **spawn)
    assert process.returncode == 0, process.stdout[-2000:]


# The two loops of `accelerate` have the same loader.
@pytest.mark.parametrize("script", [TRAINER, "pretrain_imagenet.py"])
def test_a_stream_in_workers_that_inherit_nothing(command, digits, spawn, script):
    samples = [] if script == TRAINER else ["--num_train_samples", "60"]
    arguments = command(script, digits, "--dataloader_num_workers", "1", "--streaming", "--skip_bad_images", *samples)
    process = start(script, arguments, **spawn)
    assert process.returncode == 0, process.stdout[-2000:]


@ALL_SCRIPTS
def test_odd_names_and_a_failing_picture_lose_nothing(command, run_here, digits_copy, tmp_path, monkeypatch, script):
    names = {"one": "$1_", "two": "50% __two__", "four": "a\nb"}
    for split in ("train", "validation"):
        for name, odd in names.items():
            (digits_copy / split / name).rename(digits_copy / split / odd)
    run_here(script, *command(script, digits_copy))
    pictures = list((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 1

    def fail(*_, **__):
        raise RuntimeError("no picture today")

    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", fail)
    with pytest.warns(UserWarning, match="could not be drawn, all else is saved: .*no picture today"):
        run_here(script, *command(script, digits_copy, output="second"))
    files = ({path.name for path in model_folder(script, tmp_path / name).iterdir()} for name in ("out", "second"))
    first, second = files
    assert second == first - {pictures[0].name}
    assert {"preprocessor_config.json", "model.safetensors", "config.json"} <= second
    model = CrossViTForImageClassification.from_pretrained(model_folder(script, tmp_path / "second"))
    assert set(model.config.id2label.values()) == set(names.values())


@pytest.mark.parametrize("script", list(SCRIPTS)[1:])
def test_another_run_is_not_continued(command, run_here, digits_copy, tmp_path, script):
    """As many classes under other names in the same folder: old weights got the new names."""
    run_here(script, *command(script, digits_copy))
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()
    run_here(script, *command(script, digits_copy))  # the same run
    for split in ("train", "validation"):
        (digits_copy / split / "two").rename(digits_copy / split / "three")
    with pytest.raises(SystemExit) as error:
        run_here(script, *command(script, digits_copy, "--learning_rate", "0.5"))
    for part in (
        "has another run",
        "the classes: four, one, two, now four, one, three",
        "learning_rate: ",
        "another --output_dir",
    ):
        assert part in str(error.value)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights


@ALL_SCRIPTS
def test_one_option_names_the_same_thing(script):
    """The options of transformers' example, under its names; the quickstart has a few of them."""
    printed = start(script, ["--help"]).stdout
    for option in ("--dataset_name", "--train_dir", "--label_column_name", "--output_dir", "--image_size", "--num_train_epochs", "--learning_rate", "--seed", "--dataloader_num_workers", "--per_device_train_batch_size"):  # fmt: skip
        assert option in printed, option


@ALL_SCRIPTS
def test_a_script_runs_alone(command, digits, tmp_path, script):
    """As a user copies it: from an empty folder, with the installed package and nothing beside it."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(EXAMPLES / script, alone)
    process = start(alone / script, command(script, digits), cwd=alone)
    assert process.returncode == 0, process.stdout[-2000:]
    assert {path.name for path in alone.iterdir()} == {script}


def test_one_place_reads_images():
    """Pillow's `open` ignores the orientation that pipelines obey, so only `read_image` calls it, and the demo, which stands alone."""
    readers = {path.name for path in EXAMPLES.rglob("*.py") if "Image.open(" in path.read_text()}
    assert readers == {"app.py"}


# --- evaluation alone ---


@pytest.fixture
def evaluate(run_here, quickstart, tmp_path):
    """Evaluates the model of the quickstart on a folder, with the Trainer script."""

    def evaluate(folder: Path, *others: str) -> dict:
        model = ("--model_name_or_path", str(quickstart[0] / "model"), "--output_dir", str(tmp_path / "out"))
        run_here(TRAINER, *model, "--validation_dir", str(folder), "--do_eval", "--use_cpu", *others)
        return json.loads((tmp_path / "out" / "all_results.json").read_text())

    return evaluate


WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


@pytest.fixture
def test_images(quickstart, tmp_path) -> Path:
    """Eight held-out scans of each digit."""
    for digit in range(10):
        for image in sorted((quickstart[0] / "digits" / "test" / str(digit)).iterdir())[:8]:
            path = tmp_path / "images" / str(digit) / image.name
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(image, path)
    return tmp_path / "images"


def test_rotated_photos_are_turned_upright(evaluate, test_images, quickstart):
    """They scored 0.09 here and 0.98 in the pipeline."""
    for file in test_images.rglob("*.png"):
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.open(file).rotate(90, expand=True).save(file, exif=exif)
    results = evaluate(test_images)
    classifier = pipeline("image-classification", model=str(quickstart[0] / "model"))
    files = sorted(test_images.rglob("*.png"))
    right = [classifier(str(file))[0]["label"] == file.parent.name for file in files]
    assert results["eval_accuracy"] == pytest.approx(sum(right) / len(right)) and results["eval_accuracy"] > 0.9


def test_classes_in_another_order_and_under_other_names(evaluate, test_images, tmp_path):
    for digit, word in enumerate(WORDS):
        (test_images / str(digit)).rename(test_images / word)
    with pytest.raises(SystemExit, match="does not have all classes of the data") as error:
        evaluate(test_images)
    assert "eight, five, four" in str(error.value) and "0, 1, 2" in str(error.value)
    (tmp_path / "map.json").write_text(json.dumps({word: str(digit) for digit, word in enumerate(WORDS)}))
    assert evaluate(test_images, "--label_map", str(tmp_path / "map.json"))["eval_accuracy"] > 0.9


def test_some_of_the_classes(evaluate, test_images):
    """Two of ten classes: the model's own heads are evaluated, not new ones."""
    for digit in range(8):
        shutil.rmtree(test_images / str(digit))
    assert evaluate(test_images)["eval_accuracy"] > 0.8


# --- training ---


def test_other_classes_get_new_heads(run_here, command, digits, saved_model, tmp_path):
    """Also if there are as many: the old heads were for other classes. The same classes in another order keep theirs."""
    config = CrossViTConfig.from_pretrained(saved_model)
    heads = {}
    for name, classes in (("others", ["cat", "dog", "cow"]), ("same", ["two", "four", "one"])):
        config.id2label, config.label2id = dict(enumerate(classes)), {label: n for n, label in enumerate(classes)}
        torch.manual_seed(1)
        CrossViTForImageClassification(config).save_pretrained(saved_model)
        printed = run_here(TRAINER, *command(TRAINER, digits, "--learning_rate", "0", output=name))
        assert ("it gets new heads" in printed) == (name == "others")
        before, after = (load_file(path / "model.safetensors") for path in (saved_model, tmp_path / name))
        heads[name] = [
            torch.equal(before[key], after[key]) for key in before if key.startswith("classifier") and "weight" in key
        ]
        assert all(torch.equal(before[key], after[key]) for key in before if not key.startswith("classifier"))
    assert heads == {"others": [False, False], "same": [True, True]}
    assert CrossViTConfig.from_pretrained(tmp_path / "same").id2label == {0: "two", 1: "four", 2: "one"}


def test_label_smoothing_and_class_weights_together(run_here, command, digits_copy, tmp_path):
    """Class weights dropped the smoothing: the weights at the end were equal."""
    for image in sorted((digits_copy / "train" / "one").iterdir())[2:]:
        image.unlink()
    weights = []
    for number, options in enumerate(("--class_weights balanced", "--class_weights balanced --label_smoothing_factor 0.3", "--label_smoothing_factor 0.3")):  # fmt: skip
        run_here(
            TRAINER, *command(TRAINER, digits_copy, "--learning_rate", "1e-2", *options.split(), output=str(number))
        )
        weights.append(load_file(tmp_path / str(number) / "model.safetensors")["classifier.heads.0.weight"])
    assert not any(torch.equal(weights[first], weights[second]) for first, second in ((0, 1), (0, 2), (1, 2)))


@pytest.mark.parametrize("script", list(SCRIPTS)[1:3])
def test_the_loss_is_that_of_torch(script):
    classification_loss = runpy.run_path(str(EXAMPLES / script))["classification_loss"]

    class Outputs:
        logits = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))

    labels, weights = torch.tensor([0, 1, 2, 1, 0, 0]), torch.tensor([0.5, 2.0, 1.0])
    # torch divides by the sum of the weights, and Trainer by the number of images.
    expected = (
        torch.nn.functional.cross_entropy(Outputs.logits, labels, weights, label_smoothing=0.1, reduction="sum") / 6
    )
    torch.testing.assert_close(classification_loss(Outputs, labels, None, weights, 0.1), expected)
    torch.testing.assert_close(classification_loss(Outputs, labels, 12, weights, 0.1), expected / 2)


def test_drop_last_drops_no_image_of_the_evaluation(run_here, command, digits, tmp_path):
    run_here(
        TRAINER, *command(TRAINER, digits, "--dataloader_drop_last", "true", "--per_device_eval_batch_size", "16")
    )
    results = json.loads((tmp_path / "out" / "all_results.json").read_text())
    assert results["eval_samples_per_second"] * results["eval_runtime"] == pytest.approx(24, rel=0.05)
    with pytest.raises(
        SystemExit, match=r"--dataloader_drop_last leaves none of the training images \(60\), because a step takes 64"
    ):
        run_here(
            TRAINER, *command(TRAINER, digits, "--dataloader_drop_last", "true", "--per_device_train_batch_size", "64")
        )


def test_weight_decay_of_the_convolutions(run_here, command, digits, saved_model, monkeypatch):
    """Every weight of more than one dimension has it, the convolutions of the dagger models too."""
    config = small_config(use_convolutional_stem=True)
    CrossViTForImageClassification(config).save_pretrained(saved_model)
    CrossViTImageProcessor.from_image_size(48).save_pretrained(saved_model)
    seen = []
    adamw = torch.optim.AdamW
    monkeypatch.setattr(
        torch.optim, "AdamW", lambda groups, **options: seen.extend(groups) or adamw(groups, **options)
    )
    script = "run_image_classification_no_trainer.py"
    run_here(script, *command(script, digits, "--weight_decay", "0.1"))
    decayed = {group["weight_decay"]: {parameter.ndim for parameter in group["params"]} for group in seen}
    assert decayed == {0.0: {1}, 0.1: {2, 3, 4}}


@pytest.mark.parametrize("script", list(SCRIPTS)[1:])
def test_weights_or_random_weights(command, run_here, digits, saved_model, tmp_path, script):
    """`--model_name_or_path` means weights, and `--config_name` alone means random ones."""
    torch.manual_seed(1)  # other weights than those that the seed of the script gives
    CrossViTForImageClassification(small_config()).save_pretrained(saved_model)
    arguments = command(script, digits)
    place = arguments.index("--model_name_or_path")
    rest = [*arguments[:place], *arguments[place + 2 :]]
    for model, message in (
        (["--model_name_or_path", "crossvit_tiny_240"], "--config_name crossvit_tiny_240 for random weights"),
        ([], "Give --model_name_or_path, such as timm/crossvit_15_dagger_240.in1k, or --config_name"),
        (["--config_name", "crossvit_tinny_240"], "Did you mean crossvit_tiny_240\\?"),
        (["--config_name", "timm/crossvit_tinny_240.in1k"], "Did you mean 'timm/crossvit_tiny_240.in1k'\\?"),
        (["--model_name_or_path", "crossvit_tinny_240"], "Did you mean timm/crossvit_tiny_240.in1k\\?"),
    ):
        with pytest.raises(SystemExit, match=message):
            run_here(script, *rest, *model)
    printed = run_here(script, *rest, "--config_name", arguments[place + 1])
    assert "new heads" not in printed
    weights = [load_file(Path(path) / "model.safetensors") for path in (arguments[place + 1], tmp_path / "out")]
    key = "crossvit.stages.0.layers.0.0.attention.q_proj.weight"
    assert (weights[0][key] - weights[1][key]).abs().max() > 0.01


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--prediction_loss_only true", "--prediction_loss_only leaves nothing to compute the accuracy from"),
        ("--no_ignore_mismatched_sizes", "leave out --no_ignore_mismatched_sizes to give it new heads"),
    ],
)
def test_options_of_the_trainer(run_here, command, digits, options, message):
    with pytest.raises(SystemExit, match=message):
        run_here(TRAINER, *command(TRAINER, digits, *options.split()))
