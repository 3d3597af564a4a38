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
the losses and the trained weights of one (benchmarks/parallel.py).

    pytest tests/modeling_crossvit/test_parallel.py              the plans: a few seconds
    pytest tests/modeling_crossvit/test_parallel.py -m slow      two processes: a minute
"""

import pytest
import torch
from transformers.distributed.parallel_utils import replace_layer_number_by_wildcard

from benchmarks import parallel
from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTModel


@pytest.mark.slow
@pytest.mark.parametrize("mode", parallel.MODES)
def test_two_processes_are_one(mode):
    difference, parts = parallel.measure(mode)
    assert difference < parallel.LIMIT
    fusion = "crossvit.stages.1.fusions.0"
    for attention in (
        "crossvit.stages.1.layers.1.1.attention",
        f"{fusion}.cross_attention",
        f"{fusion}.refinements.0.cls_attention",
    ):
        assert parts[f"{attention}.q_proj.weight"] == (12, 24)  # half of the output
        assert parts[f"{attention}.o_proj.weight"] == ((24, 12) if mode == "tp" else (12, 24))


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
