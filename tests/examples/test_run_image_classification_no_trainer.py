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
examples/run_image_classification_no_trainer.py as users launch it, with trackers, accumulated batches, a stream and mistakes. Accumulated
batches are compared with one large batch, and a continued stream with an undisturbed run. test_nothing_lost.py interrupts the script,
and test_launch.py runs it in several processes.

    pytest tests/examples/test_run_image_classification_no_trainer.py          about half a minute, with the quickstart
"""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pytest
import torch
from hub_server import card_errors
from PIL import Image
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import pipeline

from benchmarks import training


SCRIPT = "run_image_classification_no_trainer.py"


@pytest.fixture
def command(saved_model, digits) -> list[str]:
    return ["--model_name_or_path", str(saved_model), "--train_dir", str(digits)]


@pytest.fixture
def run(run_here, command, tmp_path):
    """Runs the script on the small model: its output folder, and what it printed."""

    def run(*arguments: str, output: str = "out") -> tuple[Path, str]:
        return tmp_path / output, run_here(SCRIPT, *command, "--output_dir", tmp_path / output, *arguments)

    return run


def test_as_users_run_it(quickstart, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    folder, _ = quickstart
    out = tmp_path / "out"
    printed = training.run(
        f"-m accelerate.commands.launch --cpu examples/{SCRIPT} --model_name_or_path {folder}/model --train_dir {folder}/digits "
        "--num_train_epochs 1 --random_crop_scale 0.7 --no_horizontal_flip --report_to trackio",
        out,
    )
    results = json.loads((out / "all_results.json").read_text())
    assert results["eval_accuracy"] >= 0.97
    assert f"accuracy {results['eval_accuracy']:.4f}" in printed
    assert not card_errors((out / "README.md").read_text())
    with contextlib.closing(sqlite3.connect(tmp_path / "trackio" / SCRIPT.replace(".py", ".db"))) as database:
        logged = [json.loads(metrics) for (metrics,) in database.execute("SELECT metrics FROM metrics")]
    assert len([metrics for metrics in logged if "loss" in metrics]) == 17  # the first and every 10 of 169 steps
    assert Image.open(out / "training.png").width > 1500
    image = next((folder / "digits" / "test" / "3").glob("*.png"))
    assert pipeline("image-classification", model=str(out))(str(image))[0]["label"] == "3"


def test_accumulated_batches_are_one_large_batch(run):
    """Two batches of 4 give the weights of one of 8 with the same images, but for the order of float32 sums."""
    weights = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        options = f"--per_device_train_batch_size {batch_size} --gradient_accumulation_steps {accumulation} --max_train_steps 3"
        out, _ = run(*options.split(), "--freeze_backbone", output=f"batches of {batch_size}")
        weights.append(load_file(out / "model.safetensors"))
    for name, weight in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], weight, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_compiled(run, monkeypatch):
    """The weights have their own names, with `--torch_compile` and where `accelerate config` asks for compilation."""
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend="aot_eager"))
    expected = load_file(run(output="ordinary")[0] / "model.safetensors")
    compiled = load_file(run("--torch_compile", "true", output="compiled")[0] / "model.safetensors")
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "AOT_EAGER")
    asked = load_file(run(output="asked")[0] / "model.safetensors")
    for name, weight in expected.items():
        for weights in (compiled, asked):
            torch.testing.assert_close(weights[name], weight, atol=1e-4, rtol=1e-3, msg=name)


def test_tracking_without_a_network(run):
    """TensorBoard gets losses, metrics and options. No file has the secret token."""
    out, _ = run(
        "--report_to", "tensorboard", "--max_train_steps", "3", "--logging_steps", "1", "--hub_token", "hf_secret"
    )
    (run_folder,) = (out / "logs").iterdir()
    events = EventAccumulator(str(run_folder)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3]
    assert events.Scalars("eval_accuracy")[0].value == pytest.approx(
        json.loads((out / "all_results.json").read_text())["eval_accuracy"]
    )
    (options,) = run_folder.rglob("hparams.yml")
    assert "learning_rate: 5.0e-05" in options.read_text()
    assert not [path for path in out.rglob("*") if path.is_file() and b"hf_secret" in path.read_bytes()]


def test_a_stream_continues_in_its_middle(run):
    """A run continues in the second epoch of a stream, with two batches per step, to the weights of an undisturbed run."""
    options = "--streaming --num_train_samples 60 --gradient_accumulation_steps 2 --num_train_epochs 2 --checkpointing_steps 3"
    stream = (*options.split(), "--learning_rate", "1e-3")
    out, printed = run(*stream)
    expected = load_file(out / "model.safetensors")
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-0000006", "checkpoint-0000008"]
    assert printed.count("eval_loss") == 2  # after each epoch of 60 images: 8 batches, 4 steps
    shutil.rmtree(out / "checkpoint-0000008")
    _, printed = run(*stream)
    assert "continuing from" in printed
    weights = load_file(out / "model.safetensors")
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--streaming",), "--streaming needs --num_train_samples"),
        (
            ("--streaming", "--num_train_samples", "60", "--class_weights", "balanced"),
            "leave out one of --class_weights and --streaming",
        ),
        (("--class_weights", "x"), "`balanced` or left out, got x"),
        (("--random_crop_scale", "0"), "more than 0 and at most 1; got 0.0"),
        (("--no_ignore_mismatched_sizes",), "ignore_mismatched_sizes"),
    ],
)
def test_mistakes(run, arguments, message):
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert message in str(error.value)
