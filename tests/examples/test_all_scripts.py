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
pipelines give; weights are trained in float32; a mistake and a full disk are one message; the last lines say where the results are. The
Trainer script stands for the four where they share the code.

    pytest tests/examples/test_all_scripts.py          about 4 minutes
"""

import json
import os
import re
import resource
import runpy
import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import matplotlib.figure
import psutil
import pytest
import torch
from hub_server import card_errors
from PIL import Image
from safetensors.torch import load_file
from small_models import small_config
from transformers import pipeline

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.trainer import last_complete_checkpoint


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
    """As a user copies it: from an empty folder, with the installed package and nothing beside it. New heads are announced in one line."""
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(EXAMPLES / script, alone)
    process = start(alone / script, command(script, digits), cwd=alone)
    assert process.returncode == 0, process.stdout[-2000:]
    assert {path.name for path in alone.iterdir()} == {script}
    assert "MISMATCH" not in process.stdout and ("it gets new heads" in process.stdout) == (script != "quickstart.py")


@ALL_SCRIPTS
def test_a_run_says_where_its_results_are(command, run_here, digits, tmp_path, script):
    """And what to type next: it can be typed as it is."""
    folder = model_folder(script, tmp_path / "out")
    (*_, picture, card, model, following) = run_here(script, *command(script, digits)).splitlines()
    assert model == f"model: {folder}" and card == f"model card: {folder}/README.md"
    assert Path(picture.removeprefix("picture: ")) in (tmp_path / "out").glob("*.png")
    module, *arguments = following.split(" python -m ")[1].split()
    assert module == "crossvit.explain" and arguments[0] == str(folder)
    assert Path(arguments[1]).parent.parent == digits / "validation" and Path(arguments[1]).is_file()
    assert not card_errors((folder / "README.md").read_text())


# --- mistakes ---


@ALL_SCRIPTS
def test_the_output_and_the_model_are_looked_at_before_the_images(command, run_here, digits, tmp_path, script, capsys):
    (tmp_path / "file").touch()
    mistakes = [
        (["--output_dir", f"{tmp_path}/file/out"], f"{tmp_path}/file/out cannot be written to: Not a directory.")
    ]
    if script != "quickstart.py":
        mistakes.append((["--model_name_or_path", f"{tmp_path}/modle"], f"Did you mean '{tmp_path}/model'?"))
        mistakes.append(
            (["--image_processor_name", f"{tmp_path}/modle"], "Name an image processor with --image_processor_name")
        )
    for options, message in mistakes:
        with pytest.raises(SystemExit) as error:
            run_here(script, *command(script, digits, *options))
        assert message in str(error.value)
        assert "train: " not in capsys.readouterr().out


@pytest.mark.parametrize("options", ["--learning_rate fast", "--lr_scheduler_type none", "--report_to nobody", "absent.json", "broken.json", "unknown.json"])  # fmt: skip
@pytest.mark.parametrize("script", list(SCRIPTS)[1:])
def test_wrong_values_are_no_tracebacks(command, run_here, digits, tmp_path, monkeypatch, capsys, script, options):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "unknown.json").write_text('{"train_dri": "x"}')
    if script == "pretrain_imagenet.py" and "scheduler" in options:
        options = "--recipe none"
    arguments = [options] if options.endswith(".json") else command(script, digits, *options.split())
    with pytest.raises(SystemExit) as error:
        run_here(script, *arguments)
    assert re.search(r"fast|none|nobody|No such file|Expecting|train_dri", f"{error.value}{capsys.readouterr().err}")


@ALL_SCRIPTS
def test_a_full_disk_is_called_so(command, run_here, digits, tmp_path, script):
    """Files are limited to 4 KiB: when the model or a checkpoint is saved, and, if there was one, when the model is saved once more."""
    out, before = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)

    def run_on_a_full_disk() -> str:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            with pytest.raises(SystemExit) as error:
                run_here(script, *command(script, digits))
            return str(error.value)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    full = f"The disk of {out} is full, or your part of it. Make space; then the same command"
    assert run_on_a_full_disk() == f"{full} starts from the beginning."
    printed = run_here(script, *command(script, digits))
    if script != "quickstart.py":
        last = last_complete_checkpoint(out)
        assert "continuing from" not in printed and last is not None
        assert run_on_a_full_disk() == f"{full} continues from {last}."
        assert f"continuing from {last}" in run_here(script, *command(script, digits))
    CrossViTForImageClassification.from_pretrained(model_folder(script, out))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_tilde_in_quotes(command, run_here, digits, tmp_path, monkeypatch, script):
    """The shell leaves it as it is. It stands for the home folder in every option."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "digits").symlink_to(digits)
    (tmp_path / "map.json").write_text(json.dumps({"one": "1"}))
    arguments = [argument.replace(str(tmp_path), "~") for argument in command(script, tmp_path / "digits")]
    assert sum(argument.startswith("~") for argument in arguments) == (2 if script == "quickstart.py" else 3)
    if script != "quickstart.py":
        arguments += ["--label_map", "~/map.json", "--cache_dir", "~/cache", "--image_processor_name", "~/model"]
    monkeypatch.chdir(tmp_path)
    run_here(script, *arguments)
    assert (model_folder(script, tmp_path / "out") / "model.safetensors").exists() and not Path("~").exists()


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


@pytest.mark.parametrize("script", list(SCRIPTS)[1:])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_16_bits_are_trained_in_32(command, run_here, digits, saved_model, tmp_path, script, dtype):
    """Rounded to bfloat16, 96 % of the weights stayed the same at this learning rate, and float16 became NaN."""
    CrossViTForImageClassification.from_pretrained(saved_model, dtype=dtype).save_pretrained(saved_model)
    rate = 1e-5 * 512 / 16 if script == "pretrain_imagenet.py" else 1e-5
    run_here(script, *command(script, digits, "--learning_rate", str(rate)))
    before, after = (load_file(folder / "model.safetensors") for folder in (saved_model, tmp_path / "out"))
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    assert CrossViTConfig.from_pretrained(tmp_path / "out").dtype == torch.float32
    backbone = [name for name in after if not name.startswith("classifier") and after[name].ndim == 2]
    changed = [(before[name].float() != after[name]).float().mean().item() for name in backbone]
    assert min(changed) > 0.9
    with pytest.warns(UserWarning, match="weights to train") if script == TRAINER else nullcontext():
        run_here(script, *command(script, digits, "--dtype", "bfloat16", output="asked"))
    asked = load_file(tmp_path / "asked" / "model.safetensors")
    assert {weight.dtype for weight in asked.values()} == {torch.bfloat16}


def test_nothing_to_do(command, run_here, digits):
    """A default switched on the evaluation."""
    arguments = [argument for argument in command(TRAINER, digits) if argument not in ("--do_train", "--do_eval")]
    arguments = arguments[: arguments.index("--eval_strategy")] + arguments[arguments.index("--eval_strategy") + 2 :]
    with pytest.raises(SystemExit, match="Nothing to do: give --do_train, --do_eval or both"):
        run_here(TRAINER, *arguments)


def test_training_without_an_evaluation(command, run_here, digits, tmp_path):
    """As in transformers' script, where there is no other split a part is held out, so that a later evaluation has fresh images."""
    arguments = [argument for argument in command(TRAINER, digits / "train") if argument != "--do_eval"]
    place = arguments.index("--eval_strategy")
    printed = run_here(TRAINER, *arguments[:place], *arguments[place + 2 :])
    assert "train: 51 images" in printed and "No image is evaluated, because --do_eval was not given." in printed
    assert "eval_" not in (tmp_path / "out" / "all_results.json").read_text() and "accuracy" not in printed
    assert (tmp_path / "out" / "training.png").exists()


@pytest.mark.parametrize("script", list(SCRIPTS)[1:])
def test_all_images_are_trained_on(command, run_here, digits, digits_copy, tmp_path, script):
    """With `--train_val_split 0`, and with one image of each class, because there is none to hold out."""
    for name in ("one", "two", "four"):
        for image in sorted((digits_copy / "train" / name).iterdir())[1:]:
            image.unlink()
    for number, (folder, options, counted) in enumerate((
        (digits / "train", ["--train_val_split", "0"], "train: 60 images"),
        (digits_copy / "train", [], "train: 3 images"),
    )):  # fmt: skip
        arguments = command(script, folder, *options, output=str(number))
        if script == TRAINER:
            with pytest.raises(SystemExit, match="There are no images to evaluate on: leave out --do_eval"):
                run_here(script, *arguments)
            arguments = [argument for argument in arguments if argument != "--do_eval"]
        if script == "pretrain_imagenet.py" and number == 1:
            arguments += ["--global_batch_size", "2", "--per_device_train_batch_size", "2"]
        printed = run_here(script, *arguments)
        assert counted in printed and "validation: " not in printed and "accuracy" not in printed
        assert f"model: {tmp_path / str(number)}" in printed
        assert {"README.md", "model.safetensors", "training.png", "all_results.json"} <= {
            path.name for path in (tmp_path / str(number)).iterdir()
        }


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
        (["--model_name_or_path", "crossvit_tinny_240"], "Did you mean 'timm/crossvit_tiny_240.in1k'\\?"),
        (
            ["--model_name_or_path", "timm/crossvit_tiny_240.in1k"],
            "couldn't connect",
        ),  # the right name, without a network
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
