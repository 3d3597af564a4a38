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
Compares two training steps by two processes on the CPU with the same two steps by one process: tensor parallelism and FSDP2, by the
plans of the configuration.

    python -m benchmarks.parallel          about 30 seconds on two CPU cores: differences of at most 1e-10, in float64
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig

from crossvit import CrossViTConfig, CrossViTForImageClassification


PROCESSES = 2
# float64 rounds by up to 1e-16, and the processes add in another order.
LIMIT = 1e-10
MODES = {
    "tp": DistributedConfig(tp_size=PROCESSES, tp_plan="auto"),
    "fsdp": DistributedConfig(fsdp_size=PROCESSES),
}


def losses_of_two_steps(
    model: CrossViTForImageClassification, batch: dict[str, torch.Tensor], average: bool = False
) -> list[float]:
    """Trains for two steps and returns their losses: with `average`, the mean over processes that have parts of the batch each."""
    optimizer = torch.optim.SGD(model.train().parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss = loss.detach()
        if average:
            dist.all_reduce(loss, op=dist.ReduceOp.AVG)
        losses.append(loss.item())
    return losses


def run_process(mode: str, folder: Path):
    """Runs one process of the group. The first process saves the losses, the whole weights, and the shapes of its parts of them."""
    model = CrossViTForImageClassification.from_pretrained(folder / "model", distributed_config=MODES[mode])
    batch = torch.load(folder / "batch.pt")
    if mode == "fsdp":
        batch = {name: values.chunk(PROCESSES)[dist.get_rank()] for name, values in batch.items()}
    weights = model.state_dict()
    parts = {name: tuple(weight.to_local().shape) for name, weight in weights.items() if isinstance(weight, DTensor)}
    losses = losses_of_two_steps(model, batch, average=mode == "fsdp")
    weights = {
        name: weight.full_tensor() if isinstance(weight, DTensor) else weight
        for name, weight in model.state_dict().items()
    }
    if dist.get_rank() == 0:
        torch.save({"losses": losses, "weights": weights, "parts": parts}, folder / "results.pt")
    dist.destroy_process_group()


def measure(mode: str) -> tuple[float, dict[str, tuple[int, ...]]]:
    """
    The largest difference of a loss or of a trained weight between two processes and one, and the shapes of the weights' parts in the
    first process. Losses and weights are of the order of 1, so the difference is not divided by anything.
    """
    torch.manual_seed(0)
    config = CrossViTConfig(
        image_sizes=[48, 32], hidden_sizes=[16, 24], num_stages=2, depths=[1, 2], num_attention_heads=[2, 4],
        mlp_ratios=[2.0, 3.0], num_fusion_layers=2, num_labels=5, initializer_range=0.3,
    )  # fmt: skip
    # float64, because the second step enlarges the rounding of the first: in float32 a real difference could pass for rounding.
    model = CrossViTForImageClassification(config).double()
    batch = {"pixel_values": torch.randn(4, 3, 48, 48).double(), "labels": torch.tensor([0, 1, 2, 3])}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(Path(folder) / "model")
        torch.save(batch, Path(folder) / "batch.pt")
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={PROCESSES}"]
        process = subprocess.run([*torchrun, __file__, mode, folder], capture_output=True, text=True, timeout=300)
        if (
            process.returncode != 0 or "match nothing" in process.stderr
        ):  # the warning about a rule that names no module
            raise RuntimeError(process.stderr)
        results = torch.load(Path(folder) / "results.pt")
    differences = [
        abs(parallel - single)
        for parallel, single in zip(results["losses"], losses_of_two_steps(model, batch), strict=True)
    ]
    weights = model.state_dict()
    if weights.keys() != results["weights"].keys():
        raise RuntimeError(f"different weights: {weights.keys() ^ results['weights'].keys()}")
    differences += [(results["weights"][name] - weight).abs().max().item() for name, weight in weights.items()]
    return max(differences), results["parts"]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run_process(sys.argv[1], Path(sys.argv[2]))
    else:
        for mode in MODES:
            print(f"{mode}: {measure(mode)[0]:.1e}")
