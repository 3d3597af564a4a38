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
r"""
PyTorch CrossViT model.

    pixel_values (B, 3, 240, 240)
         │                    └── bicubic resize to 224 ──┐
    embeddings[0]                                    embeddings[1]
    patches of 12, CLS, positions                    patches of 16, CLS, positions
         │ (B, 1 + 400, C_s)                              │ (B, 1 + 196, C_l)
    ┌────┼────────────────── stages[k], K times ──────────┼────┐
    │ layers[0], N times                     layers[1], M times │   ordinary ViT layers (eq. 1)
    │    ├─── CLS_s ─ f ─────────────────────────┐        │    │
    │    │        ┌──────────────────── f ─ CLS_l ────────┤    │
    │ fusions[0]: CLS_s attends              fusions[1]: CLS_l │   both from the same inputs (eq. 5-7):
    │ to the patches of L,                   attends to the    │   q from the CLS token alone, so the cost
    │ back through g                         patches of S, g   │   is linear in the number of patches
    └────┼─────────────────────────────────────────────────┼────┘
    layernorms[0]                                    layernorms[1]
         └── CLS_s ── head 0 ──┐            ┌── head 1 ── CLS_l ┘
                               mean: logits

Shape letters in the comments below:
    B batch    H, W height and width of an image    P patch size    N patch tokens of a branch (rows x columns of patches)
    T tokens, 1 + N: the CLS token comes first      C width of a branch      h heads      d width of a head, C / h
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring, is_torchdynamo_exporting
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from crossvit.configuration.configuration_crossvit import CONVOLUTIONAL_STEMS, CrossViTConfig
from crossvit.configuration.saving_crossvit import CrossViTSavingMixin
from crossvit.fused_crossvit import (
    CrossViTDropout,
    CrossViTFusedMixin,
    FusedLayer,
    FusedMLP,
    FusedSelfAttention,
    is_plain_linear,
    product_dtype,
)
from crossvit.loading_crossvit import CrossViTLoadingMixin
from crossvit.loss_crossvit import image_classification_loss


@auto_docstring(
    custom_intro="""
    Output of [`CrossViTModel`].
    """
)
@dataclass
class CrossViTModelOutput(ModelOutput):
    r"""
    last_hidden_state (`torch.FloatTensor` of shape `(batch_size, 1 + num_patches, hidden_sizes[-1])`):
        Tokens of the last (large, primary) branch after its final LayerNorm, CLS token first.
    pooler_output (`torch.FloatTensor` of shape `(batch_size, sum(hidden_sizes))`):
        The final CLS tokens of all branches side by side, small branch first.
    branch_hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
        Tokens of every branch after its final LayerNorm, small branch first, each of shape
        `(batch_size, 1 + num_patches, hidden_size)` of that branch.
    hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
        The embeddings of every branch, then the output of the first stage for every branch, then that of the second, and so
        on: the state of branch `b` after stage `k` (0 for the embeddings) is `hidden_states[k * num_branches + b]`.
    attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
        Self-attention of every layer in order of execution (stage by stage, branch by branch), each of shape
        `(batch_size, num_heads, num_tokens, num_tokens)`.
    cross_attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
        Attention of the CLS token of each branch to itself and to the patch tokens of the next branch, each of shape
        `(batch_size, num_heads, 1, 1 + num_patches of the next branch)`: that of branch `b` in stage `k` is
        `cross_attentions[k * num_branches + b]`.
    """

    last_hidden_state: torch.FloatTensor | None = None
    pooler_output: torch.FloatTensor | None = None
    branch_hidden_states: tuple[torch.FloatTensor, ...] | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@auto_docstring(
    custom_intro="""
    Output of [`CrossViTForImageClassification`].
    """
)
@dataclass
class CrossViTImageClassifierOutput(ModelOutput):
    r"""
    loss (`torch.FloatTensor` of shape `(1,)`, *optional*, returned when `labels` is given):
        Classification loss, or regression loss if `config.problem_type == "regression"`.
    logits (`torch.FloatTensor` of shape `(batch_size, num_labels)`):
        Mean of the branches' heads, before the softmax.
    hidden_states (`tuple(torch.FloatTensor)`, *optional*, returned when `output_hidden_states=True`):
        As in [`CrossViTModelOutput`].
    attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
        As in [`CrossViTModelOutput`].
    cross_attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
        As in [`CrossViTModelOutput`].
    """

    loss: torch.FloatTensor | None = None
    logits: torch.FloatTensor | None = None
    hidden_states: tuple[torch.FloatTensor, ...] | None = None
    attentions: tuple[torch.FloatTensor, ...] | None = None
    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


class CrossViTPatchEmbeddings(nn.Module):
    """Linear patch embedding of one branch, (B, channels, H, W) to (B, N, C). timm: `patch_embed.{branch}`."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        patch_size = config.patch_sizes[branch]
        self.projection = nn.Conv2d(
            config.num_channels, config.hidden_sizes[branch], kernel_size=patch_size, stride=patch_size
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.projection(pixel_values).flatten(2).transpose(1, 2)  # (B, C, rows, columns) -> (B, N, C)


class CrossViTConvolutionalPatchEmbeddings(nn.Module):
    """The three convolutions of the dagger models, same shapes. timm: `patch_embed.{branch}` with `multi_conv`."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        hidden_size = config.hidden_sizes[branch]
        widths = (config.num_channels, hidden_size // 4, hidden_size // 2, hidden_size)
        self.conv1, self.conv2, self.conv3 = (
            nn.Conv2d(width_in, width_out, kernel_size=kernel_size, stride=stride, padding=padding)
            for width_in, width_out, (kernel_size, stride, padding) in zip(
                widths, widths[1:], CONVOLUTIONAL_STEMS[config.patch_sizes[branch]]
            )
        )

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        hidden_states = nn.functional.relu(self.conv1(pixel_values))
        hidden_states = nn.functional.relu(self.conv2(hidden_states))
        return self.conv3(hidden_states).flatten(2).transpose(1, 2)  # (B, C, rows, columns) -> (B, N, C)


def _are_known_to_be_equal(sizes: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """
    Whether two sizes are equal, so that a resize can be left out. In a program that is exported for any size they are never compared,
    because the comparison would bind the program to the size of the example input. It resizes even where that changes nothing.
    """
    if torch.jit.is_tracing() or any(isinstance(size, torch.SymInt) for size in sizes):
        return False
    return sizes == others


class CrossViTEmbeddings(nn.Module):
    """
    Tokens of one branch: the image at that branch's size, cut into patches, behind a CLS token, with positions added.
    timm: `patch_embed.{branch}`, `cls_token_{branch}`, `pos_embed_{branch}`.
    """

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        self.branch = branch
        self.patch_size = config.patch_sizes[branch]
        self._set_sizes(config)
        hidden_size = config.hidden_sizes[branch]

        # CODEPATH: the dagger models (crossvit_*_dagger_*) have the convolutional stem, all others the linear one.
        if config.use_convolutional_stem:
            self.patch_embeddings = CrossViTConvolutionalPatchEmbeddings(config, branch)
        else:
            self.patch_embeddings = CrossViTPatchEmbeddings(config, branch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.grid_size[0] * self.grid_size[1], hidden_size))
        self.dropout = CrossViTDropout(config.hidden_dropout_prob)

    def _set_sizes(self, config: CrossViTConfig) -> None:
        self.input_size = config.branch_image_size(0)
        self.image_size = config.branch_image_size(self.branch)
        self.grid_size = config.branch_grid_size(self.branch)

    @torch.no_grad()
    def resize_position_embeddings(self, config: CrossViTConfig) -> None:
        """From now on the position embeddings are those for the image sizes of `config`, resized from the present ones."""
        positions = self.interpolate_pos_encoding(*config.branch_grid_size(self.branch))
        self.position_embeddings = nn.Parameter(positions, self.position_embeddings.requires_grad)
        self._set_sizes(config)

    def scaled_grid_size(self, height: int, width: int) -> tuple[int, int]:
        """
        Rows and columns of patches for an input of any size in pixels. This branch sees the input scaled by the ratio of its configured
        size to that of the input, rounded to the nearest number of patches (half a patch is rounded up).
        """
        # Integers only, because an exported program can have a symbolic height and width.
        rows, columns = (
            (2 * size * branch_size + input_size * self.patch_size) // (2 * input_size * self.patch_size)
            for size, branch_size, input_size in zip((height, width), self.image_size, self.input_size)
        )
        return rows, columns

    def interpolate_pos_encoding(self, rows: int, columns: int) -> torch.Tensor:
        """Position embeddings for a grid of `rows` x `columns` patches, (1, 1 + rows x columns, C), by bicubic interpolation."""
        if _are_known_to_be_equal((rows, columns), self.grid_size):
            return self.position_embeddings
        cls_position, patch_positions = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        patch_positions = patch_positions.transpose(1, 2).unflatten(2, self.grid_size)  # (1, C, rows, columns)
        patch_positions = nn.functional.interpolate(
            patch_positions.float(), size=(rows, columns), mode="bicubic", align_corners=False
        ).to(cls_position.dtype)
        return torch.cat(
            (cls_position, patch_positions.flatten(2).transpose(1, 2)), dim=1
        )  # (1, 1 + rows x columns, C)

    def forward(self, pixel_values: torch.Tensor, grid_size: tuple[int, int] | None = None) -> torch.Tensor:
        """
        `pixel_values` (B, channels, H, W) to tokens (B, T, C). `grid_size` is the rows and columns of patches for an image of any size.
        Without it the image has the configured size, and the sizes of the configuration alone decide what is resized.
        """
        if grid_size is None:
            branch_size = self.image_size
            positions = self.position_embeddings
            needs_resize = self.image_size != self.input_size
        else:
            rows, columns = grid_size
            branch_size = (rows * self.patch_size, columns * self.patch_size)
            positions = self.interpolate_pos_encoding(rows, columns)
            needs_resize = not _are_known_to_be_equal(tuple(pixel_values.shape[-2:]), branch_size)
        if needs_resize:
            # No antialiasing, as in the released code.
            pixel_values = nn.functional.interpolate(
                pixel_values, size=branch_size, mode="bicubic", align_corners=False
            )
        pixel_values = pixel_values.to(self.cls_token.dtype)

        patches = self.patch_embeddings(pixel_values)  # (B, N, C)
        cls_token = self.cls_token.expand(patches.shape[0], -1, -1)
        hidden_states = torch.cat((cls_token, patches), dim=1)  # (B, T, C)
        return self.dropout(hidden_states + positions)


def eager_attention_forward(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Unpack[TransformersKwargs],
) -> tuple[torch.Tensor, torch.Tensor]:
    attn_weights = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        attn_weights = attn_weights + attention_mask
    attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
    attn_weights = nn.functional.dropout(attn_weights, p=dropout, training=module.training)
    attn_output = torch.matmul(attn_weights, value).transpose(1, 2).contiguous()
    return attn_output, attn_weights


class CrossViTAttention(nn.Module):
    """Multi-head attention of a branch's width and heads, from `queries` (B, Q, C) to `tokens` (B, T, C): (B, Q, C)."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        self.config = config
        hidden_size = config.hidden_sizes[branch]
        self.head_dim = hidden_size // config.num_attention_heads[branch]
        self.scaling = self.head_dim**-0.5
        self.attention_dropout = config.attention_probs_dropout_prob
        self.is_causal = False

        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=config.qkv_bias)
        self.o_proj = nn.Linear(hidden_size, hidden_size)
        self.dropout = CrossViTDropout(config.hidden_dropout_prob)

    def forward(
        self, queries: torch.Tensor, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # `view` and not `unflatten`, because `torch.onnx.export(dynamo=False)` fixes the sizes to the example's behind the latter.
        query_shape = (*queries.shape[:-1], -1, self.head_dim)
        token_shape = (*tokens.shape[:-1], -1, self.head_dim)
        query_states = self.q_proj(queries).view(query_shape).transpose(1, 2)  # (B, Q, C) -> (B, h, Q, d)
        key_states = self.k_proj(tokens).view(token_shape).transpose(1, 2)  # (B, T, C) -> (B, h, T, d)
        value_states = self.v_proj(tokens).view(token_shape).transpose(1, 2)
        attn_output, attn_weights = self.attend(query_states, key_states, value_states, **kwargs)
        return self.dropout(self.o_proj(attn_output)), attn_weights

    def implementation(self, **kwargs: Unpack[TransformersKwargs]) -> str:
        """The name of the attention implementation for a call."""
        # Only the eager implementation has weights to return: whoever asks for them gets them, whatever implementation is configured.
        # `capture_outputs` reads the request in the same way: the argument, if there is one, and else the configuration.
        is_requested = kwargs.get("output_attentions", self.config.output_attentions)
        return "eager" if is_requested else self.config._attn_implementation

    def attend(
        self,
        query_states: torch.Tensor,
        key_states: torch.Tensor,
        value_states: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """(B, h, Q, d), (B, h, T, d) and (B, h, T, d) to (B, Q, C), and the weights (B, h, Q, T) if they are asked for."""
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(
            self.implementation(**kwargs), eager_attention_forward
        )
        attn_output, attn_weights = attention_interface(
            self,
            query_states,
            key_states,
            value_states,
            attention_mask=None,
            dropout=self.attention_dropout if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return attn_output.flatten(2), attn_weights  # (B, Q, h, d) -> (B, Q, C)


class CrossViTSelfAttention(CrossViTAttention):
    """All tokens of a branch attend to each other. timm: `attn` of a `Block`, with its fused `qkv` taken apart."""

    def forward(
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        # Otherwise autocast would make a copy for each of q, k and v, and the backward pass would keep all three.
        hidden_states = hidden_states.to(product_dtype(hidden_states))
        return super().forward(hidden_states, hidden_states, **kwargs)


class CrossViTCrossAttention(CrossViTAttention):
    """The CLS token alone attends to all tokens: MCA of eq. 5. timm: `attn` of a `CrossAttentionBlock`."""

    def forward(
        self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        hidden_states = hidden_states.to(product_dtype(hidden_states))
        if self.can_attend_without_keys(hidden_states, **kwargs):
            return self.dropout(self.o_proj(self.attend_without_keys(hidden_states))), None
        return super().forward(hidden_states[:, :1], hidden_states, **kwargs)

    def can_attend_without_keys(self, tokens: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> bool:
        """Whether nothing asks for a call of the layers, for weights, or for a function of its own."""
        # "sdpa" leaves the choice of the operations to PyTorch; every other implementation is a choice of the user.
        return (
            self.implementation(**kwargs) == "sdpa"
            and is_plain_linear(self.k_proj)
            and is_plain_linear(self.v_proj)
            and not (self.training and self.attention_dropout)
            # On a GPU, narrow matrix products make the backward pass slower than it is with keys.
            and not (tokens.is_cuda and torch.is_grad_enabled())
            # Quantizers of exported programs look for products with a weight as it is, and NNCF fails on one that has a shape of its own.
            and not is_torchdynamo_exporting()
        )

    def attend_without_keys(self, tokens: torch.Tensor) -> torch.Tensor:
        """
        The attention of the CLS token, (B, T, C) to (B, 1, C), without the keys and values of all tokens. In each head

            q . (W_k x + b_k) = (W_k^T q) . x + q . b_k    and    sum_t a_t (W_v x_t + b_v) = W_v (sum_t a_t x_t) + b_v

        so that the two matrices are multiplied by one vector and not by every token. The softmax cancels q . b_k, which is the same for
        every token.
        """
        head_shape = (-1, self.head_dim, tokens.shape[-1])  # (C, C) -> (h, d, C)
        key_weight, value_weight = self.k_proj.weight.view(head_shape), self.v_proj.weight.view(head_shape)
        query_states = self.q_proj(tokens[:, 0]) * self.scaling  # (B, C)
        query_states = query_states.view(tokens.shape[0], -1, self.head_dim).transpose(0, 1)  # (h, B, d)

        token_queries = torch.bmm(query_states, key_weight).transpose(0, 1)  # (B, h, C)
        attn_weights = torch.bmm(token_queries, tokens.transpose(1, 2)).softmax(dim=-1)  # (B, h, T)
        pooled_tokens = torch.bmm(attn_weights, tokens).transpose(0, 1)  # (h, B, C)
        if self.v_proj.bias is None:
            attn_output = torch.bmm(pooled_tokens, value_weight.transpose(1, 2))  # (h, B, d)
        else:
            value_bias = self.v_proj.bias.view(-1, 1, self.head_dim)  # (C) -> (h, 1, d)
            attn_output = torch.baddbmm(value_bias, pooled_tokens, value_weight.transpose(1, 2))
        attn_output = attn_output.transpose(0, 1).flatten(1)  # (h, B, d) -> (B, C)
        if self.k_proj.bias is not None and torch.is_grad_enabled():
            # The gradient is zero, but there must be one: data parallelism waits for that of every parameter.
            attn_output = attn_output + 0 * self.k_proj.bias
        return attn_output.unsqueeze(1)


class CrossViTMLP(nn.Module):
    """The feed-forward network of a layer, token by token: (B, T, C) to (B, T, C). timm: `mlp`."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        hidden_size = config.hidden_sizes[branch]
        intermediate_size = int(hidden_size * config.mlp_ratios[branch])
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(intermediate_size, hidden_size)
        self.dropout = CrossViTDropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        hidden_states = self.dropout(self.activation_fn(self.fc1(hidden_states)))
        return self.dropout(self.fc2(hidden_states))


class CrossViTDropPath(nn.Module):
    """Stochastic depth: for a random part of the samples, a residual branch (B, T, C) is zero; for the others it is scaled up."""

    def __init__(self, drop_probability: float):
        super().__init__()
        self.drop_probability = drop_probability

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        # In this order, so that compiled layers of different probabilities share a graph at inference.
        if not self.training or self.drop_probability == 0.0:
            return hidden_states
        keep_probability = 1 - self.drop_probability
        keep = hidden_states.new_empty((hidden_states.shape[0], 1, 1)).bernoulli_(keep_probability)  # (B, 1, 1)
        return hidden_states * keep.div_(keep_probability)

    def extra_repr(self) -> str:
        return f"p={self.drop_probability:.3f}"


class CrossViTLayer(GradientCheckpointingLayer):
    """Pre-norm ViT layer of one branch (eq. 1), (B, T, C) to (B, T, C). timm: `blocks.{stage}.blocks.{branch}.{layer}`."""

    def __init__(self, config: CrossViTConfig, branch: int, drop_path: float):
        super().__init__()
        hidden_size = config.hidden_sizes[branch]
        self.layernorm_before = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = CrossViTSelfAttention(config, branch)
        self.layernorm_after = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = CrossViTMLP(config, branch)
        self.drop_path = CrossViTDropPath(drop_path)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        # The attention's output has no name of its own, which would keep its memory through the MLP.
        hidden_states = hidden_states + self.drop_path(
            self.attention(self.layernorm_before(hidden_states), **kwargs)[0]
        )
        return hidden_states + self.drop_path(self.mlp(self.layernorm_after(hidden_states)))


class CrossViTProjection(nn.Module):
    """
    LayerNorm, GELU, Linear: takes a CLS token (B, 1, C) to the width of another branch. It is f and g of eq. 5. timm: `projs`,
    `revert_projs`.
    """

    def __init__(self, config: CrossViTConfig, branch_in: int, branch_out: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_sizes[branch_in], eps=config.layer_norm_eps)
        self.activation_fn = ACT2FN[config.hidden_act]
        self.dense = nn.Linear(config.hidden_sizes[branch_in], config.hidden_sizes[branch_out])

    def forward(self, cls_token: torch.Tensor) -> torch.Tensor:
        return self.dense(self.activation_fn(self.layernorm(cls_token)))


class CrossViTClsRefinement(nn.Module):
    """
    A fusion layer after the first (L > 1), (B, 1, C) to (B, 1, C). In the released code it receives the CLS token without the patches,
    so that the token attends to itself alone. The FLOPs of Table 7 agree: 5.6 G for L = 2 as for L = 1. timm: `fusion.{branch}.{1..}`.
    """

    def __init__(self, config: CrossViTConfig, branch: int, drop_path: float):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_sizes[branch], eps=config.layer_norm_eps)
        self.cls_attention = CrossViTCrossAttention(config, branch)
        self.drop_path = CrossViTDropPath(drop_path)

    def forward(self, cls_token: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        attention_output, _ = self.cls_attention(self.layernorm(cls_token), **kwargs)
        return cls_token + self.drop_path(attention_output)


class CrossViTFusion(GradientCheckpointingLayer):
    """
    The CLS token of `branch` attends to the patch tokens of the next branch (eq. 5-7), at the width and with the heads of that next
    branch: (B, T, C) of `branch` and (B, T, C) of the other to (B, T, C) of `branch`, in which the CLS token is new. timm: `projs`,
    `fusion` and `revert_projs` of `blocks.{stage}`, at index `branch`.
    """

    def __init__(self, config: CrossViTConfig, branch: int, drop_path: float):
        super().__init__()
        other = (branch + 1) % config.num_branches
        self.input_projection = CrossViTProjection(config, branch, other)
        self.layernorm = nn.LayerNorm(config.hidden_sizes[other], eps=config.layer_norm_eps)
        self.cross_attention = CrossViTCrossAttention(config, other)
        self.drop_path = CrossViTDropPath(drop_path)
        self.refinements = nn.ModuleList(
            CrossViTClsRefinement(config, other, drop_path) for _ in range(config.num_fusion_layers - 1)
        )
        self.output_projection = CrossViTProjection(config, other, branch)

    # Two tensors and not a tuple of them, because re-entrant checkpointing follows the gradients of tensor arguments alone.
    def forward(
        self,
        hidden_states: torch.Tensor,
        other_hidden_states: torch.Tensor,
        **kwargs: Unpack[TransformersKwargs],
    ) -> torch.Tensor:
        cls_token = self.input_projection(hidden_states[:, :1])  # (B, 1, C) -> (B, 1, C of the other)
        tokens = torch.cat(
            (cls_token, other_hidden_states[:, 1:]), dim=1
        )  # own CLS token, patches of the other branch: (B, T, C of the other)
        attention_output, _ = self.cross_attention(self.layernorm(tokens), **kwargs)
        cls_token = cls_token + self.drop_path(attention_output)
        for refinement in self.refinements:
            cls_token = refinement(cls_token, **kwargs)
        return torch.cat((self.output_projection(cls_token), hidden_states[:, 1:]), dim=1)  # (B, T, C)


class CrossViTStage(nn.Module):
    """One multi-scale encoder: the layers of every branch, then the fusion of every branch. timm: `blocks.{stage}`."""

    def __init__(self, config: CrossViTConfig, drop_paths: list[float]):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.ModuleList(CrossViTLayer(config, branch, drop_paths[layer]) for layer in range(depth))
            for branch, depth in enumerate(config.depths)
        )
        self.fusions = nn.ModuleList(
            CrossViTFusion(config, branch, drop_paths[-1]) for branch in range(config.num_branches)
        )

    def forward(
        self, branch_hidden_states: list[torch.Tensor], **kwargs: Unpack[TransformersKwargs]
    ) -> list[torch.Tensor]:
        """The tokens of every branch, each (B, T, C) with T and C of that branch, to the same."""
        outputs = []
        for layers, hidden_states in zip(self.layers, branch_hidden_states):
            for layer in layers:
                hidden_states = layer(hidden_states, **kwargs)
            outputs.append(hidden_states)
        # Every fusion reads the tokens from before all fusions.
        others = outputs[1:] + outputs[:1]
        return [fusion(own, other, **kwargs) for fusion, own, other in zip(self.fusions, outputs, others)]


def drop_path_rates(config: CrossViTConfig) -> list[list[float]]:
    """
    Rates of stochastic depth, a list per stage, rising linearly from 0 to `config.drop_path_rate` over all stages as in the
    released code: layer i of a stage takes the i-th rate in every branch, the fusion takes the last.
    """
    # CODEPATH: all published models have one fusion layer, which shares the last layer's step (timm's `depth[k][-1]` is 0); the
    # L = 2 model of Table 7 has a step for each of its fusion layers.
    steps = max(config.depths) + (config.num_fusion_layers if config.num_fusion_layers > 1 else 0)
    last_step = max(1, config.num_stages * steps - 1)
    return [
        [config.drop_path_rate * (stage * steps + step) / last_step for step in range(steps)]
        for stage in range(config.num_stages)
    ]


@auto_docstring
class CrossViTPreTrainedModel(CrossViTSavingMixin, CrossViTLoadingMixin, CrossViTFusedMixin, PreTrainedModel):
    config: CrossViTConfig
    base_model_prefix = "crossvit"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
    supports_gradient_checkpointing = True
    _no_split_modules = ["CrossViTEmbeddings", "CrossViTLayer", "CrossViTFusion"]
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _fused_forwards = {CrossViTSelfAttention: FusedSelfAttention, CrossViTMLP: FusedMLP, CrossViTLayer: FusedLayer}
    _can_record_outputs = {
        "hidden_states": OutputRecorder(
            (CrossViTEmbeddings, CrossViTFusion),
            capture_initial_hidden_state=False,
            num_hidden_layers_key="num_hidden_states",
        ),
        "attentions": OutputRecorder(CrossViTSelfAttention, index=1),
        # The name leaves out the refinements, in which a single token attends to itself.
        "cross_attentions": OutputRecorder(CrossViTCrossAttention, index=1, layer_name="cross_attention"),
    }

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        if isinstance(module, nn.Linear):
            init.trunc_normal_(module.weight, mean=0.0, std=self.config.initializer_range)
        elif isinstance(module, nn.Conv2d):
            # PyTorch's default, as in the released code: uniform within 1 / sqrt(fan in) for weight and bias.
            bound = (module.in_channels * module.kernel_size[0] * module.kernel_size[1]) ** -0.5
            init.uniform_(module.weight, -bound, bound)
            init.uniform_(module.bias, -bound, bound)
        elif isinstance(module, CrossViTEmbeddings):
            init.trunc_normal_(module.cls_token, mean=0.0, std=self.config.initializer_range)
            init.trunc_normal_(module.position_embeddings, mean=0.0, std=self.config.initializer_range)

    def enable_input_require_grads(self) -> None:
        """As in transformers, for every branch: adapters behind a re-entrant checkpoint need it in each of them."""
        self._require_grads_hooks = [
            embeddings.register_forward_hook(lambda module, inputs, output: output.requires_grad_(True))
            for embeddings in self.base_model.embeddings
        ]
        self._require_grads_hook = self._require_grads_hooks[0]


def check_pixel_values(pixel_values: torch.Tensor | None, config: CrossViTConfig) -> torch.Tensor:
    """The input, if its type, rank and channels are right. Its values are not looked at, because that would wait for the device."""
    expected = f"floating point pixel values of shape (batch_size, {config.num_channels}, height, width)"
    if not isinstance(pixel_values, torch.Tensor):
        raise ValueError(
            f"You have to specify pixel_values: got {type(pixel_values).__name__}, expected a tensor of {expected}. "
            "Make one from images with the image processor: `image_processor(images, return_tensors='pt').pixel_values`."
        )
    if not pixel_values.is_floating_point():
        raise ValueError(
            f"`pixel_values` has dtype {pixel_values.dtype}, expected {expected}. Raw images must go through the image "
            "processor first, which scales and normalises them."
        )
    if pixel_values.ndim != 4:
        raise ValueError(
            f"`pixel_values` has shape {tuple(pixel_values.shape)}, expected {expected}. "
            "Add the batch dimension to a single image with `pixel_values.unsqueeze(0)`."
        )
    # In `torch.jit.trace` the number is a tensor, and its comparison no part of the graph. There the convolutions check their channels.
    if not torch.jit.is_tracing() and pixel_values.shape[1] != config.num_channels:
        raise ValueError(
            f"`pixel_values` has shape {tuple(pixel_values.shape)}, so {pixel_values.shape[1]} channels, expected "
            f"{expected}. Convert images to RGB (the image processor does), put the channels before height and width, or "
            "build the model with another `num_channels`."
        )
    return pixel_values


# trf-ignore: TRF013, because the two call `post_init` themselves, once they have all their modules.
class CrossViTTrunk(CrossViTPreTrainedModel):
    """What [`CrossViTModel`] and [`CrossViTBackbone`] share: the embeddings and the stages of all branches."""

    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.embeddings = nn.ModuleList(CrossViTEmbeddings(config, branch) for branch in range(config.num_branches))
        self.stages = nn.ModuleList(CrossViTStage(config, drop_paths) for drop_paths in drop_path_rates(config))

    def get_input_embeddings(self) -> nn.Module:
        """
        The embeddings of the small branch; those of branch `b` are `embeddings[b]`. ViT returns its patch embeddings instead. Here that
        would break FSDP2 of accelerate, which shards this module: it must not lie inside a module of `_no_split_modules`.
        """
        return self.embeddings[0]

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.embeddings[0] = value

    def choose_grid_sizes(
        self, height: int, width: int, interpolate_pos_encoding: bool | None
    ) -> list[tuple[int, int]] | list[None]:
        """
        Rows and columns of patches in every branch for an input of `height` x `width` pixels, or nothing for each of them where only the
        configured size is taken; an error if the input is not accepted.
        """
        # In `torch.jit.trace` the sizes are tensors. They are not compared, because the result would be that of the example for ever.
        is_tracing = torch.jit.is_tracing()
        if interpolate_pos_encoding:
            grid_sizes = [embeddings.scaled_grid_size(height, width) for embeddings in self.embeddings]
            patch_sizes = self.config.patch_sizes
            if not is_tracing and (min(height, width) < min(patch_sizes) or min(map(min, grid_sizes)) < 1):
                raise ValueError(
                    f"Input image size ({height}x{width}) is smaller than one patch: the patch sizes are {patch_sizes} pixels. "
                    f"Resize the images to at least {max(patch_sizes)}x{max(patch_sizes)}."
                )
            return grid_sizes
        expected_height, expected_width = self.config.branch_image_size(0)
        if not is_tracing and (height, width) != (expected_height, expected_width):
            raise ValueError(
                f"Input image size ({height}x{width}) doesn't match the model's ({expected_height}x{expected_width}). "
                "Pass `interpolate_pos_encoding=True` to use other sizes, or resize the images with the image processor."
            )
        return [None for _ in self.embeddings]

    def embed(
        self, pixel_values: torch.Tensor | None, interpolate_pos_encoding: bool | None = None
    ) -> tuple[list[torch.Tensor], list[tuple[int, int]] | list[None]]:
        """
        The images through the embeddings.

        Args:
            pixel_values: (B, channels, H, W), checked here.
            interpolate_pos_encoding: Whether H and W may be other than the configured size.

        Returns:
            The tokens of every branch, each (B, T, C) of that branch; and what `choose_grid_sizes` returned.
        """
        pixel_values = check_pixel_values(pixel_values, self.config)
        height, width = pixel_values.shape[-2:]
        grid_sizes = self.choose_grid_sizes(height, width, interpolate_pos_encoding)
        if torch.jit.is_tracing() and not interpolate_pos_encoding:
            # This changes nothing, but at another size (of more than 1 pixel) the graph fails here. Some would give wrong numbers instead,
            # because they have as many patches: 120 x 480 pixels have as many as 240 x 240.
            pixel_values = pixel_values.expand(-1, -1, *self.config.branch_image_size(0))
        hidden_states = [
            embeddings(pixel_values, grid_size) for embeddings, grid_size in zip(self.embeddings, grid_sizes)
        ]
        return hidden_states, grid_sizes


@auto_docstring(
    custom_intro="""
    The two (or more) branches of CrossViT with their fusion, without a head on top.
    """
)
class CrossViTModel(CrossViTTrunk):
    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.layernorms = nn.ModuleList(
            nn.LayerNorm(hidden_size, eps=config.layer_norm_eps) for hidden_size in config.hidden_sizes
        )
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CrossViTModelOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`):
            Images from the image processor, of the configured size (`config.image_size`), or of any size of at least one patch
            with `interpolate_pos_encoding=True`. Otherwise a `ValueError` says what is wrong, also for a missing tensor, another
            rank, an integer type or another number of channels.
        interpolate_pos_encoding (`bool`, *optional*):
            Whether images of another size than the configured one are accepted. Each branch sees the image at the ratio of its configured
            size, rounded to whole patches; its position embeddings are resized to these patches by bicubic interpolation.

        Example:

        ```python
        >>> import torch
        >>> from crossvit import CrossViTConfig, CrossViTModel

        >>> model = CrossViTModel(CrossViTConfig.from_variant("crossvit_tiny_240")).eval()
        >>> outputs = model(torch.zeros(1, 3, 240, 240))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 197, 192]), torch.Size([1, 288]))
        ```"""
        branch_hidden_states, _ = self.embed(pixel_values, interpolate_pos_encoding)
        for stage in self.stages:
            branch_hidden_states = stage(branch_hidden_states, **kwargs)
        hidden_states = tuple(layernorm(tokens) for layernorm, tokens in zip(self.layernorms, branch_hidden_states))

        # On request only, because pipelines split every item of an output along the batch, and a tuple of branches cannot be split.
        requested = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        return CrossViTModelOutput(
            last_hidden_state=hidden_states[-1],
            pooler_output=torch.cat([tokens[:, 0] for tokens in hidden_states], dim=-1),
            branch_hidden_states=hidden_states if requested else None,
        )


class CrossViTClassifier(nn.Module):
    """A linear head per branch on its final CLS token; the logits are their mean. timm: `head`."""

    def __init__(self, config: CrossViTConfig):
        super().__init__()
        self.hidden_sizes = config.hidden_sizes
        self.heads = nn.ModuleList(nn.Linear(hidden_size, config.num_labels) for hidden_size in config.hidden_sizes)

    def forward(self, pooler_output: torch.Tensor) -> torch.Tensor:
        # (B, sum of C) -> (B, C) per branch. Slices and not `split`, with which ExecuTorch fixes the batch size to the example's.
        ends = accumulate(self.hidden_sizes)
        cls_tokens = [pooler_output[:, end - width : end] for end, width in zip(ends, self.hidden_sizes)]
        logits = [head(cls_token) for head, cls_token in zip(self.heads, cls_tokens)]
        return torch.stack(logits).mean(dim=0)  # (branches, B, labels) -> (B, labels)


@auto_docstring(
    custom_intro="""
    CrossViT with a linear head on the final CLS token of each branch; the logits are the mean of the heads.
    """
)
class CrossViTForImageClassification(CrossViTPreTrainedModel):
    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        if not config.num_labels:
            raise ValueError(
                f"CrossViTForImageClassification needs `num_labels` of at least 1, got {config.num_labels}. For features "
                "without a head use CrossViTModel: its `pooler_output` is what the heads receive."
            )
        self.num_labels = config.num_labels
        self.crossvit = CrossViTModel(config)
        self.classifier = CrossViTClassifier(config)
        self.loss_function = image_classification_loss
        self.post_init()

    @can_return_tuple
    @auto_docstring
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> CrossViTImageClassifierOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`):
            Images from the image processor, of the configured size (`config.image_size`), or of any size of at least one patch
            with `interpolate_pos_encoding=True`. Otherwise a `ValueError` says what is wrong, also for a missing tensor, another
            rank, an integer type or another number of channels.
        interpolate_pos_encoding (`bool`, *optional*):
            Whether images of another size than the configured one are accepted. Each branch sees the image at the ratio of its configured
            size, rounded to whole patches; its position embeddings are resized to these patches by bicubic interpolation.
        labels (`torch.Tensor`, *optional*):
            What the loss is computed from. Single-label classification: the class of each image, integers of any type and of shape
            `(batch_size,)` or `(batch_size, 1)`, -100 for an image to leave out, or probabilities of shape `(batch_size, num_labels)`.
            Multi-label classification: 0 or 1 in floating point, of shape `(batch_size, num_labels)`. Regression: the targets in
            floating point, of shape `(batch_size, num_labels)`, or `(batch_size,)` for one. `config.problem_type` says which of these it
            is. Where that is None, one label means regression, integers mean classes, and floating point means several labels per image,
            so that probabilities need `config.problem_type="single_label_classification"`. Regression and several labels are then
            remembered in the configuration, because the pipeline scores them in other ways than classes. Loading the model with another
            number of labels forgets it. Labels that do not fit are a `ValueError`.
            A `loss_function` of your own, set on the model, gets any labels as they are, also those that are no tensor.

        Example:

        ```python
        >>> import torch
        >>> from crossvit import CrossViTConfig, CrossViTForImageClassification

        >>> config = CrossViTConfig.from_variant("crossvit_tiny_240", num_labels=10)
        >>> model = CrossViTForImageClassification(config)
        >>> model(torch.zeros(1, 3, 240, 240), labels=torch.tensor([7])).logits.shape
        torch.Size([1, 10])
        ```"""
        outputs: CrossViTModelOutput = self.crossvit(
            pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs
        )
        logits = self.classifier(outputs.pooler_output)

        loss = None
        if labels is not None:
            loss = self.loss_function(labels, logits, self.config, **kwargs)

        return CrossViTImageClassifierOutput(
            loss=loss,
            logits=logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            cross_attentions=outputs.cross_attentions,
        )


@auto_docstring(
    custom_intro="""
    Output of [`CrossViTBackbone`].
    """
)
@dataclass
class CrossViTBackboneOutput(BackboneOutput):
    r"""
    cross_attentions (`tuple(torch.FloatTensor)`, *optional*, returned when `output_attentions=True`):
        As in [`CrossViTModelOutput`].
    """

    cross_attentions: tuple[torch.FloatTensor, ...] | None = None


@auto_docstring(
    custom_intro="""
    CrossViT as a backbone for detection and segmentation: the patch tokens of either branch after any stage, as feature maps.
    `config.out_features`, a part of `config.stage_names`, chooses them; by default it is the large branch after the last stage. timm:
    `features_only`.
    """
)
class CrossViTBackbone(BackboneMixin, CrossViTTrunk):
    # A backbone has none of these weights of a classification model.
    _keys_to_ignore_on_load_unexpected = [r"^(crossvit\.)?layernorms\.", r"^classifier\."]

    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.num_features = [width for width in config.hidden_sizes for _ in range(config.num_stages)]
        self.post_init()

    @merge_with_config_defaults
    @capture_outputs(tie_last_hidden_states=False)
    @auto_docstring
    def forward(self, pixel_values: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> CrossViTBackboneOutput:
        r"""
        pixel_values (`torch.FloatTensor` of shape `(batch_size, num_channels, height, width)`):
            Images of any size of at least one patch. Each branch sees them at the ratio of its configured size, rounded to whole patches; a
            feature map has the rows and columns of these patches.

        Example:

        ```python
        >>> import torch
        >>> from crossvit import CrossViTBackbone, CrossViTConfig

        >>> config = CrossViTConfig.from_variant("crossvit_tiny_240", out_features=["small_stage3", "large_stage3"])
        >>> backbone = CrossViTBackbone(config).eval()
        >>> [tuple(feature_map.shape) for feature_map in backbone(torch.zeros(1, 3, 240, 360)).feature_maps]
        [(1, 96, 20, 30), (1, 192, 14, 21)]
        ```"""
        branch_hidden_states, grid_sizes = self.embed(pixel_values, interpolate_pos_encoding=True)
        stage_outputs = []
        for stage in self.stages:
            branch_hidden_states = stage(branch_hidden_states, **kwargs)
            stage_outputs.append(branch_hidden_states)
        feature_maps, names = [], iter(self.stage_names)
        for branch, grid_size in enumerate(grid_sizes):
            for hidden_states in stage_outputs:
                if next(names) in self.out_features:
                    patches = hidden_states[branch][:, 1:].transpose(1, 2)  # (B, N, C) -> (B, C, N)
                    feature_map = patches.view(*patches.shape[:2], *grid_size)  # (B, C, rows, columns)
                    feature_maps.append(feature_map.contiguous())
        return CrossViTBackboneOutput(feature_maps=tuple(feature_maps))


__all__ = ["CrossViTBackbone", "CrossViTForImageClassification", "CrossViTModel", "CrossViTPreTrainedModel"]
