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
Nothing is lost: the training scripts are killed, told to end, and run out of disk space. The same command then continues, and its
weights equal those of an undisturbed run of the same script, bit for bit.

    pytest tests/examples/test_nothing_lost.py             about 2 minutes
    pytest tests/examples/test_nothing_lost.py -m slow     about 10 minutes: ten kills of each script, and torchrun
"""

import os
import random
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from crossvit import trainer
from crossvit.trainer import COMPLETE, all_checkpoints, checkpoint_step


EXAMPLES = Path(__file__).parents[2] / "examples"
OPTIONS = {
    "run_image_classification.py": "--do_train --max_steps {steps} --save_strategy steps --save_steps 2 --eval_strategy no --use_cpu",
    "run_image_classification_no_trainer.py": "--max_train_steps {steps} --checkpointing_steps 2",
    # An epoch has three steps of 16 images; after each epoch a checkpoint is written.
    "pretrain_imagenet.py": "--num_train_epochs {epochs} --warmup_epochs 1 --global_batch_size 16 --per_device_train_batch_size 8 "
    "--repeated_augmentation 3",
}
STEPS = 30


@pytest.fixture
def arguments(saved_model, digits):
    def arguments(script: str, output: Path, steps: int) -> list[str]:
        options = f"--learning_rate 1e-3 --drop_path_rate 0.2 {OPTIONS[script]}".format(steps=steps, epochs=steps // 3)
        source = ["--model_name_or_path", str(saved_model), "--train_dir", str(digits)]
        return [*source, "--output_dir", str(output), *options.split()]

    return arguments


@pytest.fixture
def finish(run_here, arguments):
    """Runs a script to its end, and returns the weights and what it printed."""

    def finish(script: str, output: Path, steps: int = STEPS) -> tuple[dict[str, torch.Tensor], str]:
        printed = run_here(script, *arguments(script, output, steps))
        return load_file(output / "model.safetensors"), printed

    return finish


@pytest.fixture(scope="module")
def known_weights() -> dict[tuple[str, int], dict[str, torch.Tensor]]:
    return {}


@pytest.fixture
def undisturbed_weights(finish, known_weights, tmp_path):
    """The weights of an undisturbed run of a script. The tests share these runs: each trains the same model on the same images."""

    def undisturbed_weights(script: str, steps: int = STEPS) -> dict[str, torch.Tensor]:
        if (script, steps) not in known_weights:
            known_weights[script, steps], _ = finish(script, tmp_path / "undisturbed", steps)
        return known_weights[script, steps]

    return undisturbed_weights


@pytest.fixture
def start(arguments):
    """Starts a script in processes of its own, which are killed if the test leaves them behind."""
    processes = []

    def start(script: str, output: Path, *others: str, steps: int = STEPS, launcher=(), **options) -> subprocess.Popen:
        command = [sys.executable, *launcher, str(EXAMPLES / script), *arguments(script, output, steps), *others]
        log = output.with_suffix(".log").open("a")
        environment = {
            **os.environ,
            "ACCELERATE_USE_CPU": "true",
            "PYTHONUNBUFFERED": "1",
            # Without it, torchrun's processes may find the addresses of their dead predecessors in its store: docs/training.md
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        processes.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment, **options))
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            for child in [*psutil.Process(process.pid).children(recursive=True), process]:
                child.kill()
        process.wait()


def printed_by(output: Path) -> str:
    """What the processes that `start` has started for this output folder have printed so far."""
    return output.with_suffix(".log").read_text()


def saved_steps(output: Path) -> list[int]:
    """The steps of the complete checkpoints."""
    return [checkpoint_step(checkpoint) for checkpoint in all_checkpoints(output) if (checkpoint / COMPLETE).exists()]


def has_partial_checkpoint(output: Path) -> bool:
    """Whether a checkpoint after the newest complete one is begun."""
    steps = [checkpoint_step(checkpoint) for checkpoint in all_checkpoints(output)]
    return max(steps) > max(saved_steps(output))


def wait_for(condition: Callable[[], bool], process: subprocess.Popen, output: Path):
    while not condition():
        assert process.poll() is None, printed_by(output)[-3000:]
        time.sleep(0.001)


def assert_equal(weights: dict, expected: dict):
    assert weights.keys() == expected.keys()
    assert [name for name, weight in expected.items() if not torch.equal(weights[name], weight)] == []


@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
@pytest.mark.parametrize("script", OPTIONS)
def test_a_signal_saves_and_ends(start, finish, undisturbed_weights, tmp_path, script, number, name):
    """SIGTERM and Ctrl-C save a checkpoint and end the run with the exit status of the signal; the same command continues from there."""
    out = tmp_path / "out"
    process = start(script, out, "--dataloader_num_workers", "1")
    wait_for(lambda: bool(saved_steps(out)), process, out)
    # Slurm and a terminal signal the processes that read images too.
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.send_signal(number)
    process.wait()
    assert process.returncode == 128 + number, printed_by(out)[-3000:]
    (*_, step) = saved_steps(out)
    assert f"{name}: saved step {step}" in printed_by(out)
    assert step < STEPS
    weights, printed = finish(script, out)
    assert re.search(rf"continuing from \S+/checkpoint-0*{step} ", printed)
    assert_equal(weights, undisturbed_weights(script))


def test_a_second_ctrl_c_ends_at_once(monkeypatch):
    """What a launcher passes on in the same moment is no second one."""
    clock, ends = [100.0], []
    monkeypatch.setattr(trainer.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(trainer.os, "_exit", ends.append)
    monkeypatch.setattr(trainer.os, "write", lambda *_: None)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        accelerator = Accelerator(cpu=True)
        trainer.StopSignals(accelerator)
        for seconds, expected in ((0, []), (1, []), (2, [130])):
            clock[0] += seconds
            signal.raise_signal(signal.SIGINT)
            assert ends == expected
        assert accelerator.check_trigger()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("script", OPTIONS)
def test_a_full_disk_leaves_the_previous_checkpoint(start, finish, undisturbed_weights, tmp_path, script):
    """When the first checkpoint is written, files are limited to 4 KiB: the next checkpoint fails, and the first is used."""
    out = tmp_path / "out"
    process = start(script, out)
    wait_for(lambda: bool(saved_steps(out)), process, out)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
    process.wait(timeout=90)
    assert process.returncode != 0
    (*_, step) = saved_steps(out)
    assert step < STEPS
    weights, printed = finish(script, out)
    assert re.search(rf"continuing from \S+/checkpoint-0*{step} ", printed)
    assert_equal(weights, undisturbed_weights(script))
    assert not has_partial_checkpoint(out)


def kill_and_compare(start, finish, undisturbed_weights, tmp_path, script: str, kills: int, steps: int):
    """Every second kill is aimed at the writing of a checkpoint, the others come a random time after one."""
    out = tmp_path / "out"
    times = random.Random(0)
    kills_during_writing = 0
    for number in range(kills):
        before = saved_steps(out)[-1:]
        process = start(script, out, steps=steps)
        wait_for(lambda: saved_steps(out)[-1:] != before, process, out)
        if number % 2 == 0:
            wait_for(lambda: has_partial_checkpoint(out), process, out)
        else:
            time.sleep(times.uniform(0, 0.1))
        process.kill()
        process.wait()
        kills_during_writing += has_partial_checkpoint(out)
        assert saved_steps(out)[-1] < steps, "killed too late: more steps are needed"
    weights, _ = finish(script, out, steps=steps)
    assert_equal(weights, undisturbed_weights(script, steps))
    assert printed_by(out).count("continuing from") == kills - 1
    assert kills_during_writing > kills // 3
    # The partial checkpoints are gone, and two complete ones are kept.
    assert len(saved_steps(out)) == 2 == len(list(out.glob("*checkpoint*")))


@pytest.mark.parametrize("script", OPTIONS)
def test_a_kill_while_a_checkpoint_is_written(start, finish, undisturbed_weights, tmp_path, script):
    kill_and_compare(start, finish, undisturbed_weights, tmp_path, script, kills=1, steps=STEPS)


@pytest.mark.slow
@pytest.mark.parametrize("script", OPTIONS)
def test_ten_kills(start, finish, undisturbed_weights, tmp_path, script):
    kill_and_compare(start, finish, undisturbed_weights, tmp_path, script, kills=10, steps=210)


TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=3")


@pytest.mark.slow
@pytest.mark.parametrize("script", list(OPTIONS)[:2])  # the third one uses the checkpoint functions of the second
@pytest.mark.parametrize(("number", "name"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "Ctrl-C")])
def test_a_signal_to_two_processes(start, tmp_path, script, number, name):
    """Slurm or a terminal signals two processes and torchrun: they save one complete checkpoint, and continue to the undisturbed run's weights."""
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    assert start(script, undisturbed, launcher=TORCHRUN).wait(timeout=300) == 0, printed_by(undisturbed)[-3000:]
    process = start(script, out, launcher=TORCHRUN)
    wait_for(lambda: bool(saved_steps(out)), process, out)
    for member in [*psutil.Process(process.pid).children(recursive=True), process]:
        member.send_signal(number)
    assert process.wait(timeout=60) != 0
    (*_, step) = saved_steps(out)
    assert f"{name}: saved step {step}" in printed_by(out)
    assert step < STEPS
    assert start(script, out, launcher=TORCHRUN).wait(timeout=300) == 0, printed_by(out)[-3000:]
    assert "continuing from" in printed_by(out)
    assert_equal(load_file(out / "model.safetensors"), load_file(undisturbed / "model.safetensors"))


@pytest.mark.slow
@pytest.mark.parametrize("script", OPTIONS)
def test_a_killed_process_brings_the_job_back(start, tmp_path, script):
    """Of two processes under torchrun one is killed: the job restarts itself from the last checkpoint, to the same weights."""
    undisturbed, out = tmp_path / "undisturbed", tmp_path / "out"
    processes = {output: start(script, output, launcher=TORCHRUN) for output in (undisturbed, out)}
    wait_for(lambda: len(saved_steps(out)) > 1, processes[out], out)
    workers = [child for child in psutil.Process(processes[out].pid).children() if script in " ".join(child.cmdline())]
    assert len(workers) == 2
    random.Random(0).choice(workers).kill()
    for output, process in processes.items():
        process.wait(timeout=300)
        assert process.returncode == 0, printed_by(output)[-3000:]
    assert_equal(load_file(out / "model.safetensors"), load_file(undisturbed / "model.safetensors"))
    assert "continuing from" in printed_by(out)
