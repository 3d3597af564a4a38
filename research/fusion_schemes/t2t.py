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
CrossViT with the tokens-to-token stem of T2T-ViT (https://huggingface.co/papers/2101.11986), which the paper tries on CrossViT-18 (Section
4.3). In the released code it is `hybrid_backbone="t2t"`.

    pixel_values ── soft split ── layer ── soft split ── layer ── soft split ── projection ── patch tokens

A soft split cuts a map into windows that overlap, and makes each window a token. A layer attends to all of these tokens and narrows them;
then they are laid out as a map again.
"""

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers.activations import ACT2FN
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from crossvit import CrossViTConfig, CrossViTModel
from crossvit.modeling_crossvit import eager_attention_forward
from research.fusion_schemes.schemes import SchemeForImageClassification


# (kernel size, stride, padding) of the three soft splits, by patch size; and the width of the tokens between them.
SOFT_SPLITS = {
    12: ((7, 4, 2), (3, 3, 1), (3, 1, 1)),
    16: ((7, 4, 2), (3, 2, 1), (3, 2, 1)),
}
TOKEN_WIDTH = 64

# PyTorch's default. The released code leaves it at that in the stem alone.
STEM_LAYER_NORM_EPS = 1e-5


@strict
class T2TConfig(CrossViTConfig):
    model_type = "crossvit_t2t"

    def validate_stem(self):
        if self.use_convolutional_stem:
            raise ValueError(
                "`use_convolutional_stem` must be False, got True: a model has one stem. For the convolutions use CrossViTConfig."
            )
        if not set(self.patch_sizes) <= SOFT_SPLITS.keys():
            raise ValueError(
                f"The T2T stem needs `patch_sizes` of {' or '.join(map(str, SOFT_SPLITS))}, got {self.patch_sizes}. Use these, or add the "
                "three soft splits of another size to SOFT_SPLITS."
            )


def soft_split(feature_map: torch.Tensor, kernel_size: int, stride: int, padding: int) -> tuple[torch.Tensor, list]:
    """(B, C, rows, columns) to overlapping windows (B, N, C x kernel size squared), and the rows and columns of these windows."""
    windows = nn.functional.unfold(feature_map, kernel_size, padding=padding, stride=stride)  # (B, C k k, N)
    grid_size = [(side + 2 * padding - kernel_size) // stride + 1 for side in feature_map.shape[-2:]]
    return windows.transpose(1, 2), grid_size


class T2TAttention(nn.Module):
    """
    Self-attention of one head that changes the width of the tokens, (B, N, width_in) to (B, N, 64). The values take the place of the
    residual, because they have the new width. Released code: `Attention` of `Token_transformer`.
    """

    def __init__(self, config: T2TConfig, width_in: int):
        super().__init__()
        self.config = config
        self.scaling = width_in**-0.5  # as in the released code, although queries and keys have 64 numbers
        self.is_causal = False
        self.qkv_proj = nn.Linear(width_in, 3 * TOKEN_WIDTH, bias=False)
        self.o_proj = nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        query, key, value = self.qkv_proj(hidden_states).unsqueeze(1).chunk(3, dim=-1)  # (B, 1, N, 64) each
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention_forward)
        attn_output, _ = attend(self, query, key, value, attention_mask=None, scaling=self.scaling)  # (B, N, 1, 64)
        return value.squeeze(1) + self.o_proj(attn_output.squeeze(2))


class T2TLayer(nn.Module):
    """Attention and MLP of one step of the stem, (B, N, width_in) to (B, N, 64). Released code: `Token_transformer`."""

    def __init__(self, config: T2TConfig, width_in: int):
        super().__init__()
        self.layernorm_before = nn.LayerNorm(width_in, eps=STEM_LAYER_NORM_EPS)
        self.attention = T2TAttention(config, width_in)
        self.layernorm_after = nn.LayerNorm(TOKEN_WIDTH, eps=STEM_LAYER_NORM_EPS)
        self.fc1 = nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(TOKEN_WIDTH, TOKEN_WIDTH)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.attention(self.layernorm_before(hidden_states))
        return hidden_states + self.fc2(self.activation_fn(self.fc1(self.layernorm_after(hidden_states))))


class T2TPatchEmbeddings(nn.Module):
    """The stem of one branch, (B, channels, H, W) to (B, N, C). Released code: `T2T`, as `patch_embed.{branch}`."""

    def __init__(self, config: T2TConfig, branch: int):
        super().__init__()
        self.soft_splits = SOFT_SPLITS[config.patch_sizes[branch]]
        (first, _, _), (second, _, _), (third, _, _) = self.soft_splits
        self.layers = nn.ModuleList(
            (T2TLayer(config, config.num_channels * first**2), T2TLayer(config, TOKEN_WIDTH * second**2))
        )
        self.projection = nn.Linear(TOKEN_WIDTH * third**2, config.hidden_sizes[branch])

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        feature_map = pixel_values
        for layer, numbers in zip(self.layers, self.soft_splits):
            windows, grid_size = soft_split(feature_map, *numbers)
            feature_map = (
                layer(windows).transpose(1, 2).unflatten(2, grid_size)
            )  # (B, N, 64) -> (B, 64, rows, columns)
        windows, _ = soft_split(feature_map, *self.soft_splits[-1])
        return self.projection(windows)


class T2TModel(CrossViTModel):
    config: T2TConfig

    def __init__(self, config: T2TConfig):
        super().__init__(config)
        for branch, embeddings in enumerate(self.embeddings):
            embeddings.patch_embeddings = T2TPatchEmbeddings(config, branch)
        self.post_init()


class T2TForImageClassification(SchemeForImageClassification):
    config: T2TConfig
    model_class = T2TModel
