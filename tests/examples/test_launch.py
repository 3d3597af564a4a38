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
The training examples run in two processes, by torchrun (DDP) and by the files of examples/launch (FSDP2). Losses, weights and metrics
are compared with those of one process with the same global batches. The commands are those of benchmarks/training.py.

    pytest tests/examples/test_launch.py          about 2 minutes
    pytest tests/examples/test_launch.py -m slow  about 2 minutes: FSDP2 with the other scripts
"""

import json
import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from torch.distributed.checkpoint import FileSystemReader

from benchmarks import training


ROOT = Path(__file__).parents[2]
LAUNCH = ROOT / "examples" / "launch"


@pytest.mark.parametrize(
    ("name", "processes", "machines", "kind"),
    [
        ("cpu", 1, 1, "NO"), ("one_gpu", 1, 1, "NO"), ("one_node", 8, 1, "MULTI_GPU"), ("four_nodes", 32, 4, "MULTI_GPU"),
        ("fsdp2", 8, 1, "FSDP"),
    ],
)  # fmt: skip
def test_configurations(name, processes, machines, kind):
    """accelerate reads the files of examples/launch like its own configuration."""
    config = load_config_from_file(str(LAUNCH / f"{name}.yaml"))
    assert (config.num_processes, config.num_machines, config.distributed_type) == (processes, machines, kind)
    assert config.use_cpu == (name == "cpu")
    assert {path.stem for path in LAUNCH.glob("*.yaml")} == {"cpu", "one_gpu", "one_node", "four_nodes", "fsdp2"}


@pytest.fixture
def data(saved_model, digits) -> str:
    return f"--model_name_or_path {saved_model} --train_dir {digits} --learning_rate 1e-3"


def assert_two_processes_are_one(run_here, data: str, name: str, launcher: str, folder: Path) -> Path:
    """Compares losses, weights, and the metrics of 24 images: two batches of 5 do not divide them. Returns the two processes' folder."""
    one, two = folder / "one", folder / "two"
    run_here(*shlex.split(training.parallel_command(name, data).removeprefix("examples/")), "--output_dir", one)
    training.run(training.parallel_command(name, data, launcher), two)
    assert len(training.losses(one)) == 15
    # Sums in float32 have another order, and Adam's division makes the differences larger.
    np.testing.assert_allclose(training.losses(two), training.losses(one), rtol=0, atol=1e-4)
    results, expected = (json.loads((output / "all_results.json").read_text()) for output in (two, one))
    for metric in ("eval_accuracy", "eval_macro_f1"):
        assert results[metric] == expected[metric]
    weights, expected = (load_file(output / "model.safetensors") for output in (two, one))
    assert weights.keys() == expected.keys()
    for key, weight in expected.items():
        torch.testing.assert_close(weights[key], weight, rtol=0, atol=1e-4, msg=lambda text, key=key: f"{key}: {text}")
    return two


@pytest.mark.parametrize("name", training.PARALLEL)
def test_ddp(run_here, data, tmp_path, name):
    assert_two_processes_are_one(run_here, data, name, "DDP", tmp_path)


@pytest.mark.parametrize(
    "name", [name if name == "loop of `accelerate`" else pytest.param(name, marks=pytest.mark.slow) for name in training.PARALLEL]
)  # fmt: skip
def test_fsdp2(run_here, data, tmp_path, name):
    """A checkpoint has a part of every matrix from each process. The run continues from it to equal weights, bit for bit."""
    out = assert_two_processes_are_one(run_here, data, name, "FSDP2", tmp_path)
    expected = load_file(out / "model.safetensors")
    (*_, earlier, last) = sorted(out.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    metadata = FileSystemReader(earlier / "pytorch_model_fsdp_0").read_metadata().state_dict_metadata
    parts = metadata["model.crossvit.stages.0.layers.1.0.attention.q_proj.weight"].chunks
    assert [tuple(part.sizes) for part in parts] == [(12, 24), (12, 24)]
    assert {path.name for path in (earlier / "optimizer_0").glob("*.distcp")} == {"__0_0.distcp", "__1_0.distcp"}
    shutil.rmtree(last)
    (out / "model.safetensors").unlink()
    training.run(training.parallel_command(name, data, "FSDP2"), out)
    weights = load_file(out / "model.safetensors")
    assert [key for key, weight in expected.items() if not torch.equal(weights[key], weight)] == []


def test_every_process_leaves_out_bad_images(data, digits, tmp_path):
    """Two processes leave out the same images, and the report names each once."""
    shutil.copytree(digits, tmp_path / "digits")
    for number in range(10):
        (tmp_path / "digits" / "train" / "one" / f"empty-{number}.png").touch()
    command = training.parallel_command("the paper's recipe", data.replace(str(digits), f"{tmp_path}/digits"), "DDP")
    training.run(f"{command} --skip_bad_images --max_train_samples 70", tmp_path / "out")
    report = [json.loads(line) for line in (tmp_path / "out" / "bad_images.jsonl").open()]
    assert sorted(Path(line["image"]).name for line in report) == [f"empty-{number}.png" for number in range(10)]


def test_adapters_and_fsdp_exclude_each_other(run_here, data, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    command = f"run_image_classification_no_trainer.py {data} --lora_rank 2 --output_dir {tmp_path}"
    with pytest.raises(SystemExit, match="launch without FSDP"):
        run_here(*shlex.split(command))


def test_pretraining_by_the_configuration_for_the_cpu(data, digits, tmp_path):
    training.run(
        f"-m accelerate.commands.launch --config_file examples/launch/cpu.yaml examples/pretrain_imagenet.py {data} "
        "--global_batch_size 16 --per_device_train_batch_size 4 --num_train_epochs 2 --warmup_epochs 1",
        tmp_path / "out",
    )
    checkpoint = tmp_path / "out" / "checkpoint-0000006"  # 60 // 16 steps in each of 2 epochs
    assert len(list(checkpoint.glob("random_states_*.pkl"))) == 1


def test_slurm(tmp_path, digits, monkeypatch):
    """
    Test programs replace those of Slurm, and run the command in the script's first lines. Each machine is launched with its rank, the name of
    the first machine, and all arguments; of these the real script says that the digits are too few for it, and nothing else.
    """
    for name, script in {
        "scontrol": 'echo "$3" | tr , "\\n"',
        "srun": 'shift; for node in 0 1 2 3; do SLURM_NODEID=$node "$@"; done',
        "accelerate": 'printf "%s|" "$@"; echo',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_JOB_NODELIST": "first,second,third,fourth"}
    (command,) = re.findall(r"^#     sbatch (.+)$", (LAUNCH / "slurm.sh").read_text(), re.M)
    process = subprocess.run(
        ["bash", *shlex.split(command), "--data", "a folder"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    assert len(lines) == 4
    _, file, *arguments = shlex.split(command)
    for rank, line in enumerate(lines):
        launch, option, config, *others = line.rstrip("|").split("|")
        assert (launch, option) == ("launch", "--config_file") and (ROOT / config).is_file()
        machine = ["--machine_rank", str(rank), "--main_process_ip", "first"]
        assert others == [*machine, file, *arguments, "--data", "a folder"]

    (tmp_path / "imagenet").symlink_to(digits)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [file, *arguments])
    script = SimpleNamespace(**runpy.run_path(str(ROOT / file)))
    options = script.parse_arguments(
        script.ModelArguments,
        script.DataArguments,
        script.Arguments,
        description="",
        defaults=script.recipe_defaults(),
    )
    with pytest.raises(ValueError, match="--global_batch_size 4096 is more than the number of training images, 60"):
        script.prepare(*options, SimpleNamespace(num_processes=32, is_main_process=False))
