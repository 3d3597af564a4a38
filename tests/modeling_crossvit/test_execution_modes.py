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
Every way of running the model gives the same numbers or the same labels: attention implementations, gradient checkpointing,
torch.compile, torch.export, transformers' four exporters, merged adapters, half precision, int8. The measurements and their limits
are those of benchmarks/execution_modes.py, on a smaller model.

    pytest tests/modeling_crossvit/test_execution_modes.py              half a minute
    pytest tests/modeling_crossvit/test_execution_modes.py -m slow      other runtimes and precisions: 4 minutes
"""

import pytest
import torch
from deprecations import USES_PEFT
from old_pytorch import NEEDS_TRACING
from transformers import BitsAndBytesConfig

from benchmarks import execution_modes
from benchmarks.parity import randomize_
from crossvit import CrossViTConfig, CrossViTForImageClassification


FAST = (
    "attention: sdpa",
    "gradient checkpointing",
    "torch.export",
    "exporter: Dynamo",
    "LoRA",
)


@USES_PEFT
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([] if name.startswith(FAST) else [pytest.mark.slow]),
                *([NEEDS_TRACING] if name.startswith(("torch.", "exporter")) else []),
            ],
        )
        for name in execution_modes.MODES
    ],
)
def test_same_numbers(name, config):
    config.drop_path_rate = config.hidden_dropout_prob = 0.5  # random numbers that checkpointing has to repeat
    model = CrossViTForImageClassification(config).eval()
    randomize_(model)
    mode = execution_modes.MODES[name]
    assert mode.measure(model, execution_modes.photos(model.config.image_size)) <= mode.limit


@pytest.mark.slow
@pytest.mark.parametrize("name", execution_modes.PRECISIONS)
def test_same_labels(name, quickstart):
    folder, _ = quickstart
    equal, count, difference = execution_modes.measure_precision(folder, name)
    _, part = execution_modes.PRECISIONS[name]
    assert count == 450 and equal >= part * count
    assert difference > 1e-4, "this was not another precision"


@pytest.mark.slow
def test_bitsandbytes_4_bit(tmp_path):
    """
    In a model of its own, because the kernel for the CPU takes only widths that are multiples of 64. The quickstart's are not, and neither
    is the width of a head for 5 labels, which is left in float32.
    """
    config = CrossViTConfig.from_variant("crossvit_small_240", num_stages=1, depths=[1, 1], num_labels=5)
    model = CrossViTForImageClassification(config).eval()
    randomize_(model)
    model.save_pretrained(tmp_path)
    quantization = BitsAndBytesConfig(load_in_4bit=True, llm_int8_skip_modules=["classifier"])
    quantized = execution_modes.from_pretrained(tmp_path, quantization_config=quantization)
    pixel_values = execution_modes.photos(240)
    difference = execution_modes.relative_difference(
        quantized(pixel_values), execution_modes.logits(model, pixel_values)
    )
    assert 1e-3 < difference < 0.3  # 16 levels per weight: a relative error of the order of a tenth


@pytest.mark.slow
def test_checkpointing_halves_the_peak_memory():
    checkpointed, whole = execution_modes.peaks_with_and_without_checkpointing()
    with torch.device("meta"):
        model = CrossViTForImageClassification(CrossViTConfig.from_variant("crossvit_base_240", num_labels=10))
    gradients = sum(parameter.nbytes for parameter in model.parameters())
    assert gradients < checkpointed < 0.5 * whole
