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
Tensor parallelism and FSDP2 through the plans of the configuration: every rule names something, and two processes on the CPU give
the loss, the gradients and the trained weights of one.

    pytest tests/modeling_crossvit/test_parallel.py
"""

import subprocess
import sys

import pytest
import torch
from transformers.distributed.parallel_utils import replace_layer_number_by_wildcard

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, CrossViTModel


# Two steps of training in every process of a group, on its part of the batch; the first process saves what came out.
SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch.distributed.tensor import DTensor
from transformers.distributed import DistributedConfig
from crossvit import CrossViTForImageClassification

mode, world_size = sys.argv[1], int(sys.argv[2])
distributed = {"tp": {"tp_size": world_size, "tp_plan": "auto"}, "fsdp": {"fsdp_size": world_size}}[mode]
model = CrossViTForImageClassification.from_pretrained("model", distributed_config=DistributedConfig(**distributed)).train()
batch = torch.load("batch.pt")
if mode == "fsdp":
    batch = {name: values.chunk(world_size)[dist.get_rank()] for name, values in batch.items()}
sharded = {name: tuple(weight.to_local().shape) for name, weight in model.named_parameters() if isinstance(weight, DTensor)}
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
losses = []
for step in range(2):
    loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    loss = loss.detach()
    if mode == "fsdp":
        dist.all_reduce(loss, op=dist.ReduceOp.AVG)
    losses.append(loss.item())
weights = {name: weight.full_tensor() if isinstance(weight, DTensor) else weight for name, weight in model.state_dict().items()}
if dist.get_rank() == 0:
    torch.save({"losses": losses, "weights": weights, "sharded": sharded}, f"{mode}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """A model and a batch on the disk, and what two steps in this process make of them."""
    folder = tmp_path_factory.mktemp("parallel")
    torch.manual_seed(0)
    config = CrossViTConfig(
        image_sizes=[48, 32], hidden_sizes=[16, 24], num_stages=2, depths=[1, 2], num_attention_heads=[2, 4],
        mlp_ratios=[2.0, 3.0], num_fusion_layers=2, num_labels=5, initializer_range=0.3,
    )  # fmt: skip
    model = CrossViTForImageClassification(config).double().train()
    model.save_pretrained(folder / "model")
    batch = {"pixel_values": torch.randn(4, 3, 48, 48).double(), "labels": torch.tensor([0, 1, 2, 3])}
    torch.save(batch, folder / "batch.pt")
    (folder / "script.py").write_text(SCRIPT)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(2):
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return folder, losses, model.state_dict()


@pytest.mark.parametrize("mode", ["tp", "fsdp"])
def test_two_processes_are_one(one_process, mode):
    folder, losses, weights = one_process
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "script.py",
        mode,
        "2",
    ]
    process = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert process.returncode == 0, process.stderr
    assert "match nothing" not in process.stderr
    results = torch.load(folder / f"{mode}.pt")
    # Sums in another order, in float64: the second step enlarges what the rounding of the first has left.
    assert results["losses"] == pytest.approx(losses, rel=1e-11)
    assert results["weights"].keys() == weights.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(results["weights"][name], weight, rtol=1e-10, atol=1e-11, msg=lambda text: f"{name}: {text}")
    fusion = "crossvit.stages.1.fusions.0"
    for projection in (
        "crossvit.stages.1.layers.1.1.attention",
        f"{fusion}.cross_attention",
        f"{fusion}.refinements.0.cls_attention",
    ):
        assert results["sharded"][f"{projection}.q_proj.weight"] == (12, 24)  # half of the output
        assert results["sharded"][f"{projection}.o_proj.weight"] == ((24, 12) if mode == "tp" else (12, 24))


@pytest.mark.parametrize(
    ("variant", "num_fusion_layers"), [*((variant, 1) for variant in CROSSVIT_VARIANTS), ("crossvit_small_240", 2)]
)
def test_plans_match_the_modules(variant, num_fusion_layers):
    """Every rule names modules, and with tensor parallelism every matrix of the encoder has a rule."""
    config = CrossViTConfig.from_variant(variant, num_fusion_layers=num_fusion_layers)
    with torch.device("meta"):
        model = CrossViTModel(config)
    modules = {replace_layer_number_by_wildcard(name) for name, _ in model.named_modules()}
    assert config.base_model_tp_plan.keys() <= modules
    assert config.base_model_fsdp_plan.keys() <= modules
    linear = {
        replace_layer_number_by_wildcard(name)
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and "_projection." not in name
    }
    assert config.base_model_tp_plan.keys() == linear
