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
`torch.compile` makes one graph of each class, in training and inference, with and without autocast, and a second one for all other batch
sizes. Graphs and breaks are counted with the backend "eager", which runs the graphs as they are, so that no compiler is waited for.
tests/modeling_crossvit/test_execution_modes.py compares the numbers of compiled models.

    pytest tests/modeling_crossvit/test_compilation.py
"""

import pytest
import torch
from old_pytorch import NEEDS_TRACING
from small_models import small_config
from torch._dynamo.utils import counters
from transformers import Trainer, TrainingArguments

from crossvit import CrossViTBackbone, CrossViTForImageClassification, CrossViTModel, optimize


CLASSES = {"model": CrossViTModel, "classifier": CrossViTForImageClassification, "backbone": CrossViTBackbone}
MODES = (
    "inference",
    "inference, bfloat16",
    "training",
    "training, bfloat16",
    "training, float16",
    "training, checkpoints, bfloat16",
    "optimized",
)
pytestmark = NEEDS_TRACING


def graphs_of(call, batches) -> int:
    """The number of graphs that these calls make. A break in one of them is an error with its reason."""
    torch.compiler.reset()
    counters.clear()
    for batch in batches:
        call(batch)
    assert not counters["graph_break"], dict(counters["graph_break"])
    return counters["stats"]["unique_graphs"]


@pytest.mark.parametrize(
    "name, mode",
    [*(("classifier", mode) for mode in MODES), *((name, "training, bfloat16") for name in ("model", "backbone"))],
)
def test_one_graph_and_a_second_for_all_other_batch_sizes(name, mode, pixel_values):
    # One layer of each branch, because tracing takes a second per layer.
    model = CLASSES[name](small_config(num_stages=1, depths=[1, 1], hidden_dropout_prob=0.1, drop_path_rate=0.1))
    if "checkpoints" in mode:
        model.activation_checkpointing_enable({"use_reentrant": False})
    training = "training" in mode
    model = optimize(model) if mode == "optimized" else model.train(training)
    compiled = torch.compile(model, backend="eager")
    dtype = getattr(torch, mode.split(", ")[-1], None)

    def call(batch: torch.Tensor) -> None:
        labels = {"labels": torch.zeros(len(batch), dtype=torch.long)} if name == "classifier" else {}
        with torch.autocast("cpu", dtype, enabled=dtype is not None), torch.set_grad_enabled(training):
            outputs = compiled(batch, **labels)
        if training:
            (outputs.loss if labels else outputs[0][0].sum()).backward()

    batches = [pixel_values[:1].expand(size, -1, -1, -1) for size in (2, 2, 3, 5)]
    assert graphs_of(call, batches[:2]) == 1
    assert graphs_of(call, batches) == 2


def test_trainer(config, pixel_values, tmp_path):
    """With bfloat16: one graph for full batches, and none more for the last one, which is smaller, than its own."""
    arguments = TrainingArguments(
        tmp_path, bf16=True, use_cpu=True, torch_compile=True, torch_compile_backend="eager", report_to=[],
        per_device_train_batch_size=2, num_train_epochs=2, disable_tqdm=True,
    )  # fmt: skip
    images = [{"pixel_values": pixel_values[0], "labels": torch.tensor(label)} for label in (0, 1, 2)]
    trainer = Trainer(CrossViTForImageClassification(config), arguments, train_dataset=images)
    assert graphs_of(lambda _: trainer.train(), [None]) == 2
