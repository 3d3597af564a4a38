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
Parity with timm 1.0.31 for all 11 published architectures, on the measurements of benchmarks/parity.py: parameter counts,
logits, final tokens of both branches, every cross-attention, all gradients, and the losses of 20 AdamW steps with stochastic
depth. The limits and their reasons stand there.

    pytest tests/modeling_crossvit/test_parity.py              six variants in half a minute
    pytest tests/modeling_crossvit/test_parity.py -m slow      the five large ones in two minutes
"""

import pytest
from small_models import LARGE

from benchmarks import parity
from crossvit import CROSSVIT_VARIANTS


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=pytest.mark.slow) if v in LARGE else v for v in CROSSVIT_VARIANTS]
)
def test_equal_to_timm(variant):
    measured = parity.measure(variant)
    assert measured.keys() == parity.LIMITS.keys()
    too_large = {name: value for name, value in measured.items() if not value <= parity.LIMITS[name]}
    assert not too_large


def test_the_measurement_sees_a_wrong_epsilon():
    """What ports get wrong most: LayerNorm's epsilon of 1e-5 in the place of 1e-6."""
    variant = "crossvit_tiny_240"
    reference = parity.timm_model(variant)
    model = parity.convert_checkpoint(reference)
    for module in model.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-5
    measured = parity.measure_forward(reference, model, variant)
    assert all(measured[name] > parity.LIMITS[name] for name in measured if "logits" in name)
