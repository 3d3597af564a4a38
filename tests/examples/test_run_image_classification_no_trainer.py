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
examples/run_image_classification_no_trainer.py: as users launch it, and killed at any moment without a trace in the weights.

    pytest tests/examples/test_run_image_classification_no_trainer.py          about 2 minutes
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hub_server import card_errors
from PIL import Image
from safetensors.torch import load_file
from transformers import pipeline


SCRIPT = "run_image_classification_no_trainer.py"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def command(saved_model, digits) -> list[str]:
    return ["--model_name_or_path", str(saved_model), "--train_dir", str(digits)]


@pytest.fixture
def run(run_here, command, tmp_path):
    """Runs the script on the small model: its output folder, and what it printed."""

    def run(*arguments: str, output: str = "out") -> tuple[Path, str]:
        return tmp_path / output, run_here(SCRIPT, *command, "--output_dir", tmp_path / output, *arguments)

    return run


def test_as_users_run_it(quickstart, tmp_path):
    folder, _ = quickstart
    out = tmp_path / "out"
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--cpu",
        str(EXAMPLES / SCRIPT),
        "--num_train_epochs",
        "1",
    ]
    launch += ["--model_name_or_path", str(folder / "model"), "--train_dir", str(folder / "digits")]
    process = subprocess.run([*launch, "--output_dir", str(out)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    results = json.loads((out / "all_results.json").read_text())
    assert results["eval_accuracy"] >= 0.95
    assert f"accuracy {results['eval_accuracy']:.4f}" in process.stdout
    assert not card_errors((out / "README.md").read_text())
    assert Image.open(out / "training.png").width > 1500
    image = next((folder / "digits" / "test" / "3").glob("*.png"))
    assert pipeline("image-classification", model=str(out))(str(image))[0]["label"] == "3"


def test_accumulated_batches_are_one_large_batch(run):
    """With the same images in each step. Only the sums are in another order: float32."""
    weights = []
    for batch_size, accumulation in ((8, 1), (4, 2)):
        # 56 images of the 60: whole batches.
        options = (
            "--per_device_train_batch_size",
            str(batch_size),
            "--gradient_accumulation_steps",
            str(accumulation),
        )
        out, _ = run(*options, "--max_train_steps", "3", output=f"batches of {batch_size}", *("--freeze_backbone",))
        weights.append(load_file(out / "model.safetensors"))
    for name, weight in weights[0].items():
        torch.testing.assert_close(
            weights[1][name], weight, rtol=0, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_continues_bit_for_bit_after_sigkill(run, command, tmp_path):
    """Killed while training and while writing checkpoints: the weights are those of a run that was left alone."""
    options = ("--max_train_steps", "30", "--checkpointing_steps", "2", "--learning_rate", "1e-3")
    undisturbed, _ = run(*options, output="undisturbed")
    out = tmp_path / "killed"
    for number, seen in enumerate(("checkpoint-0000004", "_unfinished-checkpoint", "checkpoint-0000016")):
        process = subprocess.Popen(
            [sys.executable, EXAMPLES / SCRIPT, *command, *options, "--output_dir", str(out)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={**os.environ, "ACCELERATE_USE_CPU": "true"}, text=True,
        )  # fmt: skip
        if seen == "_unfinished-checkpoint":
            while not (out / "checkpoint-0000008").exists() and process.poll() is None:
                time.sleep(0.001)
        while not (out / seen).exists() and process.poll() is None:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        printed, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
        assert ("continuing from" in printed) == (number > 0)
    run(*options, output="killed")
    weights, expected = (load_file(folder / "model.safetensors") for folder in (out, undisturbed))
    assert all(torch.equal(weights[name], weight) for name, weight in expected.items())
    assert sorted(path.name for path in out.glob("checkpoint-*")) == ["checkpoint-0000028", "checkpoint-0000030"]


def test_a_full_disk_leaves_the_previous_checkpoint(run, monkeypatch, tmp_path):
    run("--max_train_steps", "2", "--checkpointing_steps", "2")
    before = load_file(tmp_path / "out" / "checkpoint-0000002" / "model.safetensors")

    def full_disk(*arguments, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("accelerate.accelerator.save_accelerator_state", full_disk)
        with pytest.raises(OSError, match="No space left on device"):
            run("--max_train_steps", "4", "--checkpointing_steps", "2")
    (checkpoint,) = (tmp_path / "out").glob("checkpoint-*")
    assert all(
        torch.equal(load_file(checkpoint / "model.safetensors")[name], weight) for name, weight in before.items()
    )
    _, printed = run("--max_train_steps", "4", "--checkpointing_steps", "2")
    assert "continuing from" in printed and (tmp_path / "out" / "checkpoint-0000004").is_dir()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--streaming",), "use no --streaming"), (("--class_weights", "x"), "`balanced` or not given, got x")],
)
def test_mistakes(run, arguments, message):
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert message in str(error.value)
