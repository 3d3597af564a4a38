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
"""The small models of the tests, other spellings of their weights, and the published models that are too large for `make test`."""

import torch

from crossvit import CrossViTConfig


LARGE = (
    "crossvit_small_240",
    "crossvit_base_240",
    "crossvit_15_240",
    "crossvit_18_240",
    "crossvit_15_dagger_240",
    "crossvit_18_dagger_240",
    "crossvit_15_dagger_408",
    "crossvit_18_dagger_408",
)

# Two stages, and branches that differ in width, heads, depth and MLP, so that what is mixed up between branches or stages shows.
SMALL = {
    "image_sizes": [48, 32],
    "patch_sizes": [12, 16],
    "hidden_sizes": [16, 24],
    "num_stages": 2,
    "depths": [1, 2],
    "num_attention_heads": [2, 3],
    "mlp_ratios": [2.0, 3.0],
}


# The same of timm's class, except for the image sizes.
TIMM_SMALL = {"embed_dim": (16, 24), "depth": ((1, 2, 0),) * 2, "num_heads": (2, 3), "mlp_ratio": (2.0, 3.0, 1.0)}

# As arguments of `timm.create_model("crossvit_tiny_240", ...)`, which has fixed image sizes.
SMALL_TIMM_MODEL = {**TIMM_SMALL, "img_size": 48, "img_scale": (1.0, 32 / 48), "num_classes": 5}


def small_config(**overrides) -> CrossViTConfig:
    """The configuration of a model that takes a few milliseconds, with five labels."""
    return CrossViTConfig(**{**SMALL, "num_labels": 5, **overrides})


def with_names_of_the_release(timm_state_dict: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's weights as IBM's release names them: it keeps CLS tokens and position embeddings in parameter lists."""
    return {
        key.replace("cls_token_", "cls_token.").replace("pos_embed_", "pos_embed."): tensor
        for key, tensor in timm_state_dict.items()
    }
