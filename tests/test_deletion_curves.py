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
The curves of deletion and insertion are right for a model whose answer is known.

    pytest tests/test_deletion_curves.py
"""

import torch
from torch import nn
from transformers.modeling_outputs import ImageClassifierOutput

from benchmarks.deletion_curves import deletion_and_insertion
from crossvit import CrossViTConfig


class LooksAtOneCorner(nn.Module):
    """Its second class is the more probable the brighter the upper left quarter is."""

    config = CrossViTConfig(num_labels=2)

    def forward(self, pixel_values, interpolate_pos_encoding=None):
        height, width = (side // 2 for side in pixel_values.shape[-2:])
        brightness = pixel_values[:, :, :height, :width].mean(dim=(1, 2, 3))
        return ImageClassifierOutput(logits=torch.stack((torch.zeros_like(brightness), brightness), dim=-1))


def test_curves_of_a_model_whose_answer_is_known():
    """The map of the corner takes the answer away with the first quarter of the pixels, the opposite map with the last."""
    pixel_values = torch.ones(1, 3, 40, 40)
    right = torch.zeros(1, 40, 40)
    right[:, :20, :20] = 1
    model = LooksAtOneCorner()
    curves = deletion_and_insertion(model, pixel_values, right, steps=4)
    sure, unsure = torch.sigmoid(torch.tensor(1.0)), torch.tensor(0.5)
    torch.testing.assert_close(curves["deletion"][0], torch.stack((sure, unsure, unsure, unsure, unsure)))
    torch.testing.assert_close(curves["insertion"][0, 1:], sure.expand(4))
    opposite = deletion_and_insertion(model, pixel_values, -right, steps=4)
    torch.testing.assert_close(opposite["deletion"][0], torch.stack((sure, sure, sure, sure, unsure)))
