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
Nothing is lost: the training scripts are killed, told to end, and run out of disk space, and end with the weights of undisturbed runs.

    pytest tests/examples/test_nothing_lost.py             about 3 minutes
    pytest tests/examples/test_nothing_lost.py -m slow     about 5 minutes: ten kills of each script
"""

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file


EXAMPLES = Path(__file__).parents[2] / "examples"
COMMON = ("--learning_rate", "1e-3", "--drop_path_rate", "0.2")
COMMANDS = {
    "run_image_classification.py": (*COMMON, "--do_train", "--max_steps", "{steps}", "--save_strategy", "steps", "--save_steps", "2",
                                    "--eval_strategy", "no", "--use_cpu"),
    "run_image_classification_no_trainer.py": (*COMMON, "--max_train_steps", "{steps}", "--checkpointing_steps", "2"),
    "pretrain_imagenet.py": (*COMMON, "--num_train_epochs", "{steps}", "--warmup_epochs", "1", "--global_batch_size", "32",
                             "--per_device_train_batch_size", "16", "--repeated_augmentation", "3"),
}  # fmt: skip
FINE_TUNING = list(COMMANDS)[:2]


@pytest.fixture
def start(saved_model, digits):
    """Starts a script; the processes that a test leaves behind are killed."""
    processes = []

    def start(script: str, output: Path, *arguments: str, steps: int = 30, launcher=(), **options) -> subprocess.Popen:
        command = [sys.executable, *launcher, str(EXAMPLES / script), "--model_name_or_path", str(saved_model)]
        command += ["--train_dir", str(digits), "--output_dir", str(output), *arguments]
        command += [option.format(steps=steps) for option in COMMANDS[script]]
        log = output.with_suffix(".log").open("a")
        environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "PYTHONUNBUFFERED": "1"}
        # By default torchrun's processes find the addresses of their dead predecessors in its store, and wait for them.
        environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, **options))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
        process.wait()


def finish(process: subprocess.Popen, output: Path) -> dict[str, torch.Tensor]:
    """The weights at the end of a run that succeeds."""
    process.wait(timeout=90)
    assert process.returncode == 0, output.with_suffix(".log").read_text()[-3000:]
    return load_file(output / "model.safetensors")


def steps_of(output: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in output.glob("checkpoint-*"))


def wait_for(condition, process: subprocess.Popen, output: Path):
    while not condition():
        assert process.poll() is None, output.with_suffix(".log").read_text()[-3000:]
        time.sleep(0.001)


def assert_equal(weights: dict, expected: dict):
    assert weights.keys() == expected.keys()
    assert [name for name, weight in expected.items() if not torch.equal(weights[name], weight)] == []


@pytest.mark.parametrize("script", FINE_TUNING)
def test_sigterm_saves_and_ends(start, tmp_path, script):
    """With the exit status of the signal; the same command continues to the weights of an undisturbed run."""
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    expected = finish(start(script, undisturbed, steps=40), undisturbed)
    process = start(script, out, "--dataloader_num_workers", "1", steps=40)
    wait_for(lambda: steps_of(out), process, out)
    # As Slurm does it, to the processes that read images too.
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.send_signal(signal.SIGTERM)
    process.wait()
    printed = out.with_suffix(".log").read_text()
    assert process.returncode == 128 + signal.SIGTERM, printed[-3000:]
    assert f"SIGTERM: saved step {steps_of(out)[-1]}" in printed
    assert steps_of(out)[-1] < 40
    assert_equal(finish(start(script, out, steps=40), out), expected)
    assert "continuing from" in out.with_suffix(".log").read_text()


@pytest.mark.parametrize("script", FINE_TUNING)
def test_killed_worker_brings_the_job_back(start, tmp_path, script):
    """Of two processes under torchrun one is killed: the job restarts itself from the last checkpoint, to the same weights."""
    options = {
        "steps": 30,
        "launcher": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3"),
    }
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    expected = finish(start(script, undisturbed, **options), undisturbed)
    process = start(script, out, **options)
    wait_for(lambda: len(steps_of(out)) > 1, process, out)
    workers = [child for child in psutil.Process(process.pid).children() if script in " ".join(child.cmdline())]
    assert len(workers) == 2
    random.Random(0).choice(workers).kill()
    assert_equal(finish(process, out), expected)
    assert "continuing from" in out.with_suffix(".log").read_text()


@pytest.mark.parametrize("script", ["run_image_classification.py", "pretrain_imagenet.py"])
def test_a_full_disk_leaves_the_previous_checkpoint(start, tmp_path, script):
    """No file can grow beyond the size of what is there: the first checkpoint is written, a later one is not."""
    out = tmp_path / "out"
    process = start(script, out)
    wait_for(lambda: steps_of(out), process, out)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    process.wait(timeout=90)
    assert process.returncode != 0
    left = steps_of(out)
    assert left and left[-1] < 30
    again = start(script, out)
    finish(again, out)
    assert f"checkpoint-{left[-1]}" in out.with_suffix(".log").read_text().replace(
        "checkpoint-0000", "checkpoint-"
    ).replace("-00", "-").replace("-0", "-")


def kill_and_compare(start, tmp_path, script: str, kills: int, steps: int):
    """Every second kill is aimed at the writing of a checkpoint, the others come a random time after one."""
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    expected = finish(start(script, undisturbed, steps=steps), undisturbed)
    times = random.Random(0)
    during_writing = 0
    for number in range(kills):
        before = steps_of(out)[-1:]
        process = start(script, out, steps=steps)
        wait_for(lambda: steps_of(out)[-1:] != before, process, out)
        if number % 2:
            wait_for((out / "_unfinished-checkpoint").exists, process, out)
        else:
            time.sleep(times.uniform(0, 0.1))
        process.kill()
        process.wait()
        during_writing += (out / "_unfinished-checkpoint").exists()
        assert steps_of(out)[-1] < steps, "killed too late: more steps are needed"
    assert_equal(finish(start(script, out, steps=steps), out), expected)
    assert out.with_suffix(".log").read_text().count("continuing from") == kills
    assert during_writing >= kills // 3
    assert len(steps_of(out)) == 2


@pytest.mark.slow
@pytest.mark.parametrize("script", list(COMMANDS))
def test_ten_kills(start, tmp_path, script):
    kill_and_compare(start, tmp_path, script, kills=10, steps=200)
