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
A CrossViT that is called like a language model, with token ids and labels for them. The distributed tests of transformers can call
nothing else: so they run on it unchanged, in every process.
"""

import torch
from transformers.distributed import DistributedConfig

from crossvit import CrossViTForImageClassification
from tests import test_fsdp_mixin


VOCAB_SIZE = 256


class CrossViTOfTokens(CrossViTForImageClassification):
    def forward(self, input_ids, labels=None, use_cache=None, **kwargs):
        # 64 ids are the grey levels of 8 x 8 squares of 6 pixels each. The first label gives the class.
        squares = (input_ids.float() / (VOCAB_SIZE / 2) - 1).unflatten(1, (1, 8, 8))
        pixel_values = squares.repeat_interleave(6, dim=-1).repeat_interleave(6, dim=-2).expand(-1, 3, -1, -1)
        labels = None if labels is None else labels[:, 0] % self.config.num_labels
        return super().forward(pixel_values, labels=labels, **kwargs)

    def save_pretrained(self, *args, **kwargs):
        # The tensor parallel tests ask for the original format. Here that is timm's, and sharded weights cannot be saved in it.
        super().save_pretrained(*args, **{**kwargs, "save_original_format": False})

    @classmethod
    def from_config(cls, config):
        return cls._from_config(config)


def run_on_images(test, rank, *args, **kwargs):
    """Runs a test of the FSDP mixin. Each process calls this."""
    test_fsdp_mixin.AutoModelForCausalLM = CrossViTOfTokens
    torch.set_num_threads(1)
    test(rank, *args, **kwargs)


def load_in_parts(rank, folder):
    CrossViTForImageClassification.from_pretrained(folder, distributed_config=DistributedConfig(tp_size=2))
