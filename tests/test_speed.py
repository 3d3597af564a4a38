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
What makes the model fast, counted and not timed, because a count is the same on every machine: the multiply-adds of a forward pass against
Table 1 of the paper and timm's model, the number of its operations, and the bytes that a fusion copies. And the benchmark itself:
its refusal to mix machines, and that the page and the README show what was measured.

    pytest tests/test_speed.py
"""

import json
import re
from collections import Counter
from pathlib import Path

import measurements
import pytest
import speed
import torch
from parity import timm_model
from torch.utils._python_dispatch import TorchDispatchMode

from crossvit import CrossViTConfig, CrossViTForImageClassification
from crossvit.checkpoints import convert_checkpoint


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
# Variant and GFLOPs of the table of published models, which are Table 1 of the paper.
TABLE_1 = dict(re.findall(r"^\| `(crossvit_\w+)` \|(?:[^|]*\|){4} ([\d.]+) \|", README, re.M))


class CountOperations(TorchDispatchMode):
    """Counts the operations that compute or copy, and the bytes that `cat` and `copy_` write. Views do neither."""

    def __enter__(self):
        self.operations: Counter = Counter()
        self.copied = 0
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        name = function.name().partition(".")[0]
        # A view shares the memory of an argument. Weights in the layout of oneDNN have no memory that one could ask for.
        arguments = [
            argument
            for argument in torch.utils._pytree.tree_leaves((args, kwargs))
            if isinstance(argument, torch.Tensor) and argument.layout == torch.strided
        ]
        is_view = isinstance(result, torch.Tensor) and any(
            result.untyped_storage().data_ptr() == argument.untyped_storage().data_ptr()
            for argument in arguments
            if result.layout == torch.strided
        )
        if isinstance(result, torch.Tensor | tuple) and not is_view and name != "aten::unbind":
            self.operations[name] += 1
            if name in ("aten::cat", "aten::copy_", "aten::clone", "aten::_to_copy"):
                self.copied += result.numel() * result.element_size()
        return result


def count(call) -> CountOperations:
    with torch.no_grad(), CountOperations() as counted:
        call()
    return counted


def model_of(variant: str, **overrides) -> CrossViTForImageClassification:
    return CrossViTForImageClassification(CrossViTConfig.from_variant(variant, num_labels=1000, **overrides)).eval()


@pytest.mark.parametrize("variant", TABLE_1)
def test_multiply_adds(variant):
    """The paper's with keys and values of all tokens, which it counts, up to 2 % or its last digit; and fewer without."""
    with torch.device("meta"):
        model = model_of(variant)
        pixel_values = torch.empty(1, 3, *[model.config.image_size] * 2)
    model.set_attn_implementation("eager")
    with_keys = speed.multiply_adds(lambda: model(pixel_values))
    model.set_attn_implementation("sdpa")
    without_keys = speed.multiply_adds(lambda: model(pixel_values))
    assert with_keys / 1e9 == pytest.approx(float(TABLE_1[variant]), rel=0.02, abs=0.05)
    assert without_keys < 0.97 * with_keys


def test_operations_of_a_forward_pass():
    """Against timm's model: two products more per self-attention, because q, k and v are layers of their own. Fused they are one."""
    reference, pixel_values = timm_model("crossvit_tiny_240"), torch.randn(1, 3, 240, 240)
    model = convert_checkpoint(reference.state_dict(), "crossvit_tiny_240").eval()
    expected = count(lambda: reference(pixel_values)).operations.total()
    side_by_side = 1  # `pooler_output`
    assert count(lambda: model(pixel_values)).operations.total() <= expected + 2 * 15 + side_by_side
    model.fuse_for_inference()
    count(lambda: model(pixel_values))  # prepares the weights
    fused = count(lambda: model(pixel_values)).operations
    assert fused.total() <= expected + side_by_side
    # What is left beside the 60 products of the layers: q and o of each fusion, f and g, and the heads.
    assert fused["aten::addmm"] + fused["aten::mm"] <= 6 * 4 + 2


def test_bytes_that_the_fusion_copies():
    """Its own CLS token before the patches of the other branch, and the new one before its own patches; nothing else is copied."""
    model = model_of("crossvit_tiny_240")
    small, large = torch.randn(2, 401, 96), torch.randn(2, 197, 192)
    fusion = model.crossvit.stages[0].fusions[0]
    per_head = 2 * 192 * 4 * 8  # vectors of one per head, in another order
    copied = count(lambda: fusion(small, large)).copied
    assert 0 <= copied - (small.nbytes + large.nbytes) <= per_head


@pytest.mark.parametrize("autocast", [False, True])
def test_memory(autocast):
    """No more than timm's model at the peak of a forward pass and of a training step, also where autocast makes copies in bfloat16."""
    reference, images = timm_model("crossvit_tiny_240"), torch.randn(2, 3, 240, 240)
    model = convert_checkpoint(reference.state_dict(), "crossvit_tiny_240").eval()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected = measurements.peak_bytes(speed.without_gradients(reference, images))
        assert measurements.peak_bytes(speed.without_gradients(model, images)) <= expected
        steps = [
            speed.training_step(reference, images, speed.timm_loss),
            speed.training_step(model, images, speed.own_loss),
        ]
        for step in steps:
            step()  # makes the state of the optimizer
        expected, found = map(measurements.peak_bytes, steps)
    # Without keys there is less to keep.
    assert found < expected


# The benchmark


def test_results_of_another_machine_are_refused(tmp_path):
    machine = measurements.this_machine("cpu")
    results = measurements.Results(tmp_path / "results.json", machine)
    results.add("training", "crossvit_tiny_240", 8, seconds={"timm": [1.0]})
    results.add("loading", "crossvit_tiny_240", 1, seconds={"timm": [3.0]})
    again = measurements.Results(tmp_path / "results.json", machine)
    again.add("training", "crossvit_tiny_240", 8, seconds={"timm": [2.0]})
    assert [row["seconds"]["timm"] for row in again.of("training")] == [[2.0]]
    assert len(again.measurements) == 2
    before = (tmp_path / "results.json").read_text()
    for key, value in (
        ("threads", 64),
        ("processor", "another"),
        ("versions", {"torch": "2.0"}),
        ("instructions", []),
    ):
        with pytest.raises(ValueError, match=f"cannot be merged .* {key} .* there, .* here"):
            measurements.Results(tmp_path / "results.json", {**machine, key: value})
    assert (tmp_path / "results.json").read_text() == before


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_pages_show_what_was_measured(device):
    """The tables, made again from the results, are those of the pages and of the README."""
    path = ROOT / "docs" / "results" / f"speed_{device}.json"
    results = measurements.Results(path, json.loads(path.read_text())["machine"])
    for page, places in speed.tables_of(results, device).items():
        text = (ROOT / "docs" / page).read_text()
        for place, content in places.items():
            assert f"<!-- {place} -->\n{content}\n<!-- end -->" in text, (page, place)
