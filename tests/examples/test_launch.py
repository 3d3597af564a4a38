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
The files of examples/launch: accelerate's configurations and the Slurm script; and the `Trainer` example in two processes.

    pytest tests/examples/test_launch.py          about 1 minute
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from accelerate.commands.config.config_args import load_config_from_file


ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "examples" / "launch"


@pytest.mark.parametrize(
    ("name", "processes", "machines", "kind"),
    [("cpu", 1, 1, "NO"), ("one_gpu", 1, 1, "NO"), ("one_node", 8, 1, "MULTI_GPU"), ("four_nodes", 32, 4, "MULTI_GPU")],
)  # fmt: skip
def test_configurations(name, processes, machines, kind):
    """accelerate reads them as it would its own."""
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert (config.num_processes, config.num_machines, config.distributed_type) == (processes, machines, kind)
    assert config.use_cpu == (name == "cpu")
    assert {path.stem for path in LAUNCH.glob("*.yaml")} == {"cpu", "one_gpu", "one_node", "four_nodes"}


@pytest.mark.parametrize("processes", [1, 2])
def test_pretraining_in_processes(saved_model, digits, tmp_path, processes):
    """By accelerate's configuration for the CPU, and by torchrun; each of 24 images is evaluated once, by batches of 5."""
    launcher = {
        1: ["-m", "accelerate.commands.launch", "--config_file", str(LAUNCH / "cpu.yaml")],
        2: ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"],
    }[processes]
    command = [sys.executable, *launcher, str(ROOT / "examples" / "pretrain_imagenet.py"), "--train_dir", str(digits)]
    command += ["--model_name_or_path", str(saved_model), "--num_train_epochs", "2", "--warmup_epochs", "1"]
    command += ["--global_batch_size", "16", "--per_device_train_batch_size", "4", "--per_device_eval_batch_size", "5"]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    process = subprocess.run(
        [*command, "--output_dir", str(tmp_path / "out")], capture_output=True, text=True, env=environment
    )
    assert process.returncode == 0, process.stderr[-3000:]
    right = json.loads((tmp_path / "out" / "all_results.json").read_text())["eval_accuracy"] * 24
    assert right == pytest.approx(round(right), abs=1e-6)
    (*_, checkpoint) = sorted((tmp_path / "out").glob("checkpoint-*"))
    assert checkpoint.name == "checkpoint-0000006"  # 60 // 16 steps in each of 2 epochs
    assert len(list(checkpoint.glob("random_states_*.pkl"))) == processes


def test_trainer_in_two_processes_is_one(saved_model, digits, tmp_path):
    """The same global batches, the same losses; each of 24 images is evaluated once, by batches of 2 x 5."""
    logs, results = {}, {}
    for processes in (1, 2):
        out = tmp_path / str(processes)
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        command = [
            sys.executable,
            *torchrun,
            str(ROOT / "examples" / "run_image_classification.py"),
            "--use_cpu",
            "--do_train",
        ]
        command += [
            "--model_name_or_path",
            str(saved_model),
            "--train_dir",
            str(digits),
            "--max_steps",
            "7",
            "--logging_steps",
            "1",
        ]
        command += [
            "--per_device_train_batch_size",
            str(8 // processes),
            "--per_device_eval_batch_size",
            "5",
            "--do_eval",
        ]
        process = subprocess.run(
            [*command, "--output_dir", str(out), "--learning_rate", "1e-3"], capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr[-3000:]
        history = json.loads((out / "trainer_state.json").read_text())["log_history"]
        logs[processes] = [entry["loss"] for entry in history if "loss" in entry]
        results[processes] = json.loads((out / "all_results.json").read_text())
    assert len(logs[1]) == 7
    assert logs[2] == pytest.approx(logs[1], abs=1e-4)  # the log rounds to four digits
    for name in ("eval_loss", "eval_accuracy", "eval_macro_f1"):
        assert results[2][name] == pytest.approx(results[1][name], abs=1e-5)  # float32 sums in another order


def test_slurm(tmp_path):
    """With programs in place of Slurm's: each of the machines is launched with its rank, the first one's name and all arguments."""
    for name, script in {
        "scontrol": 'echo "$3" | tr , "\\n"',
        "srun": 'shift; for node in 0 1 2 3; do SLURM_NODEID=$node "$@"; done',
        "accelerate": 'printf "%s|" "$@"; echo',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_JOB_NODELIST": "first,second,third,fourth",
    }
    process = subprocess.run(
        ["bash", LAUNCH / "slurm.sh", "train.py", "--train_dir", "a folder"], cwd=ROOT, env=environment, capture_output=True, text=True
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == 4
    for rank, line in enumerate(lines):
        launch, config, file, *others = line.rstrip("|").split("|")
        assert (launch, config) == ("launch", "--config_file") and (ROOT / file).is_file()
        assert others == [
            "--machine_rank",
            str(rank),
            "--main_process_ip",
            "first",
            "train.py",
            "--train_dir",
            "a folder",
        ]
