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

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import nn
from transformers import initialization as init
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneMixin
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BackboneOutput
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.processing_utils import Unpack
from transformers.utils import ModelOutput, TransformersKwargs, auto_docstring
from transformers.utils.generic import can_return_tuple, merge_with_config_defaults
from transformers.utils.output_capturing import OutputRecorder, capture_outputs

from crossvit.configuration.configuration_crossvit import CONVOLUTIONAL_STEMS, CrossViTConfig
from crossvit.hub import PreTrainedModel
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


class CrossViTPatchProjection(nn.Conv2d):
    """
    A convolution whose stride is its kernel, (B, channels, H, W) to (B, C, rows, columns), as one matrix product, which is faster on a GPU:
    a convolution changes the layout of the images first. Its weight, and what watches or adapts it, are those of a convolution.
    """

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        (batch_size, channels, height, width), patch_size = pixel_values.shape, self.kernel_size[0]
        shape = (batch_size, channels, height // patch_size, patch_size, width // patch_size, patch_size)
        patches = pixel_values.reshape(shape).permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, rows, columns, channels P P)
        return nn.functional.linear(patches, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)


class CrossViTPatchEmbeddings(nn.Module):
    """Linear patch embedding of one branch, (B, channels, H, W) to (B, N, C). timm: `patch_embed.{branch}`."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        patch_size = config.patch_sizes[branch]
        self.projection = CrossViTPatchProjection(
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


def are_known(sizes: Iterable[int]) -> bool:
    """
    Whether sizes are numbers. In a trace they are tensors, and in an export for any size they are symbols. These are never compared,
    because the comparison would bind the program to the sizes of the example.
    """
    return all(isinstance(size, int) for size in sizes)


def make_dropout(probability: float) -> nn.Module:
    """Dropout, or a module that is faster to call where it would do nothing."""
    return nn.Dropout(probability) if probability else nn.Identity()


class CrossViTEmbeddings(nn.Module):
    """
    Tokens of one branch: the image at that branch's size, cut into patches, behind a CLS token, with positions added.
    timm: `patch_embed.{branch}`, `cls_token_{branch}`, `pos_embed_{branch}`.
    """

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        self.config = config
        self.patch_size = config.patch_sizes[branch]
        self.input_size = config.branch_image_size(0)
        self.image_size = config.branch_image_size(branch)
        self.grid_size = config.branch_grid_size(branch)
        hidden_size = config.hidden_sizes[branch]

        # CODEPATH: the dagger models (crossvit_*_dagger_*) have the convolutional stem, all others the linear one.
        if config.use_convolutional_stem:
            self.patch_embeddings = CrossViTConvolutionalPatchEmbeddings(config, branch)
        else:
            self.patch_embeddings = CrossViTPatchEmbeddings(config, branch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden_size))
        self.position_embeddings = nn.Parameter(torch.zeros(1, 1 + self.grid_size[0] * self.grid_size[1], hidden_size))
        self.dropout = make_dropout(config.hidden_dropout_prob)

    def grid_size_for(self, height: int, width: int) -> tuple[int, int]:
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
        if are_known((rows, columns)) and (rows, columns) == self.grid_size:
            return self.position_embeddings
        cls_position, patch_positions = self.position_embeddings[:, :1], self.position_embeddings[:, 1:]
        patch_positions = patch_positions.transpose(1, 2).unflatten(2, self.grid_size)  # (1, C, rows, columns)
        patch_positions = nn.functional.interpolate(
            patch_positions.float(), size=(rows, columns), mode="bicubic", align_corners=False
        ).to(cls_position.dtype)
        return torch.cat(
            (cls_position, patch_positions.flatten(2).transpose(1, 2)), dim=1
        )  # (1, 1 + rows x columns, C)

    def check_pixel_values(self, pixel_values: torch.Tensor | None, interpolate_pos_encoding: bool | None) -> None:
        """Refuses anything but a batch of images of an accepted size. Values are not looked at, because that would wait for the device."""
        num_channels, (input_height, input_width) = self.config.num_channels, self.input_size
        if not isinstance(pixel_values, torch.Tensor):
            raise ValueError(
                f"You have to specify pixel_values: got {type(pixel_values).__name__}, expected a tensor. The image processor makes it "
                "from images: `image_processor(images, return_tensors='pt').pixel_values`."
            )
        channels = pixel_values.shape[-3:-2]
        if (
            not pixel_values.is_floating_point()
            or pixel_values.ndim != 4
            or (are_known(channels) and channels != (num_channels,))
        ):
            raise ValueError(
                f"`pixel_values` has dtype {pixel_values.dtype} and shape {tuple(pixel_values.shape)}, expected floating point of shape "
                f"(batch_size, {num_channels}, height, width). The image processor makes it from images of any kind, with channels before "
                "height and width. "
                + {
                    3: "A single image needs `pixel_values.unsqueeze(0)`.",
                    5: "Images in groups need `pixel_values.flatten(0, 1)`.",
                }.get(pixel_values.ndim, "")
            )
        height, width = pixel_values.shape[-2:]
        if not are_known((height, width)):
            return
        if not interpolate_pos_encoding and (height, width) != self.input_size:
            raise ValueError(
                f"Input image size ({height}x{width}) doesn't match the model's ({input_height}x{input_width}). Pass "
                "`interpolate_pos_encoding=True` to use other sizes, or resize the images with the image processor."
            )
        patch_sizes = self.config.patch_sizes
        if min(height, width) < min(patch_sizes) or min(self.grid_size_for(height, width)) < 1:
            raise ValueError(
                f"Input image size ({height}x{width}) is smaller than one patch: the patch sizes are {patch_sizes} pixels. "
                f"Resize the images to at least {max(patch_sizes)}x{max(patch_sizes)}."
            )

    def forward(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None = None) -> torch.Tensor:
        self.check_pixel_values(pixel_values, interpolate_pos_encoding)
        if interpolate_pos_encoding:
            input_size = tuple(pixel_values.shape[-2:])
            rows, columns = self.grid_size_for(*input_size)
        else:
            input_size, (rows, columns) = self.input_size, self.grid_size
            # A view of the same size. It makes a traced graph fail at others, of which some have as many patches: 120 x 480 and 240 x 240.
            pixel_values = pixel_values.expand(-1, -1, *input_size)
        branch_size = (rows * self.patch_size, columns * self.patch_size)
        if not are_known(input_size) or input_size != branch_size:
            # No antialiasing, as in the released code.
            pixel_values = nn.functional.interpolate(
                pixel_values, size=branch_size, mode="bicubic", align_corners=False
            )

        patches = self.patch_embeddings(pixel_values.to(self.cls_token.dtype))  # (B, N, C)
        cls_token = self.cls_token.expand(patches.shape[0], -1, -1)
        hidden_states = torch.cat((cls_token, patches), dim=1)  # (B, T, C)
        return self.dropout(hidden_states + self.interpolate_pos_encoding(rows, columns))


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
    """
    Multi-head attention at a branch's width and with its heads, (B, Q, C) to (B, Q, C): of the tokens to each other, or to `key_value_states`
    (B, T, C). timm: `attn`, with the fused `qkv` of its `Block` taken apart.
    """

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

    def split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to (B, h, T, d). Under tensor parallelism the heads are those of this device."""
        # `view` and not `unflatten`, because `torch.onnx.export(dynamo=False)` fixes the sizes to the example's behind the latter. Without
        # -1, which a batch of no images leaves open.
        num_heads = states.shape[-1] // self.head_dim
        return states.view(*states.shape[:-1], num_heads, self.head_dim).transpose(1, 2)

    def forward(
        self,
        hidden_states: torch.Tensor,
        key_value_states: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        if key_value_states is None:
            key_value_states = hidden_states
        query_states = self.split_heads(self.q_proj(hidden_states))  # (B, Q, C) -> (B, h, Q, d)
        key_states = self.split_heads(self.k_proj(key_value_states))  # (B, T, C) -> (B, h, T, d)
        value_states = self.split_heads(self.v_proj(key_value_states))

        # Only the eager implementation has weights to return, whatever is configured, and takes a batch of no images.
        is_empty = are_known(hidden_states.shape[:1]) and not len(hidden_states)
        is_eager = kwargs.get("output_attentions") or is_empty
        implementation = "eager" if is_eager else self.config._attn_implementation
        attention_interface: Callable = ALL_ATTENTION_FUNCTIONS.get_interface(implementation, eager_attention_forward)
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
        return self.o_proj(attn_output.flatten(2)), attn_weights  # (B, Q, h, d) -> (B, Q, C)


class CrossViTMLP(nn.Module):
    """The feed-forward network of a layer, token by token: (B, T, C) to (B, T, C). timm: `mlp`."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__()
        hidden_size = config.hidden_sizes[branch]
        intermediate_size = int(hidden_size * config.mlp_ratios[branch])
        self.activation_fn = ACT2FN[config.hidden_act]
        self.fc1 = nn.Linear(hidden_size, intermediate_size)
        self.fc2 = nn.Linear(intermediate_size, hidden_size)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.activation_fn(self.fc1(hidden_states)))


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


def make_drop_path(config: CrossViTConfig, drop_probability: float) -> nn.Module:
    """Stochastic depth, or a module that is faster to call where no layer has it; the same for all, so that compiled layers share a graph."""
    # CODEPATH: no published configuration has stochastic depth; the recipe of the paper trains all of them with a rate of 0.1.
    return CrossViTDropPath(drop_probability) if config.drop_path_rate else nn.Identity()


class CrossViTLayer(GradientCheckpointingLayer):
    """Pre-norm ViT layer of one branch (eq. 1), (B, T, C) to (B, T, C). timm: `blocks.{stage}.blocks.{branch}.{layer}`."""

    def __init__(self, config: CrossViTConfig, branch: int, drop_path: float):
        super().__init__()
        hidden_size = config.hidden_sizes[branch]
        self.layernorm_before = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.attention = CrossViTAttention(config, branch)
        self.layernorm_after = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.mlp = CrossViTMLP(config, branch)
        self.dropout = make_dropout(config.hidden_dropout_prob)
        self.drop_path = make_drop_path(config, drop_path)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        residual = hidden_states
        hidden_states, _ = self.attention(self.layernorm_before(hidden_states), **kwargs)
        hidden_states = residual + self.drop_path(self.dropout(hidden_states))

        residual = hidden_states
        hidden_states = self.mlp(self.layernorm_after(hidden_states))
        return residual + self.drop_path(self.dropout(hidden_states))


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
        self.cls_attention = CrossViTAttention(config, branch)
        self.dropout = make_dropout(config.hidden_dropout_prob)
        self.drop_path = make_drop_path(config, drop_path)

    def forward(self, cls_token: torch.Tensor, **kwargs: Unpack[TransformersKwargs]) -> torch.Tensor:
        attention_output, _ = self.cls_attention(self.layernorm(cls_token), **kwargs)
        return cls_token + self.drop_path(self.dropout(attention_output))


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
        self.cross_attention = CrossViTAttention(config, other)
        self.dropout = make_dropout(config.hidden_dropout_prob)
        self.drop_path = make_drop_path(config, drop_path)
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
        # eq. 5: x' = [f(x_cls) || x_patch of the other branch], (B, T, C of the other)
        cls_token = self.input_projection(hidden_states[:, :1])  # (B, 1, C) -> (B, 1, C of the other)
        tokens = torch.cat((cls_token, other_hidden_states[:, 1:]), dim=1)
        # eq. 6 and 7: y = f(x_cls) + MCA(LN(x')), with the CLS token as the only query, so that the cost is linear in the patches
        tokens = self.layernorm(tokens)
        attention_output, _ = self.cross_attention(tokens[:, :1], tokens, **kwargs)
        cls_token = cls_token + self.drop_path(self.dropout(attention_output))
        for refinement in self.refinements:
            cls_token = refinement(cls_token, **kwargs)
        # eq. 7: z = [g(y) || x_patch], (B, T, C)
        return torch.cat((self.output_projection(cls_token), hidden_states[:, 1:]), dim=1)


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
class CrossViTPreTrainedModel(PreTrainedModel):
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
    _can_record_outputs = {
        "hidden_states": OutputRecorder(
            (CrossViTEmbeddings, CrossViTFusion),
            capture_initial_hidden_state=False,
            num_hidden_layers_key="num_hidden_states",
        ),
        "attentions": OutputRecorder(CrossViTAttention, index=1, layer_name="attention"),
        # The name leaves out the refinements, in which a single token attends to itself.
        "cross_attentions": OutputRecorder(CrossViTAttention, index=1, layer_name="cross_attention"),
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

    def get_input_embeddings(self) -> nn.Module:
        """
        The embeddings of the small branch. Branch `b` has `embeddings[b]`. ViT returns its patch embeddings instead. Here that
        would break FSDP2 of accelerate, which shards this module: it must not lie inside a module of `_no_split_modules`.
        """
        return self.base_model.embeddings[0]

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.base_model.embeddings[0] = value

    def enable_input_require_grads(self) -> None:
        """As in transformers, for every branch: adapters behind a re-entrant checkpoint need it in each of them."""
        self._require_grads_hooks = [
            embeddings.register_forward_hook(lambda module, inputs, output: output.requires_grad_(True))
            for embeddings in self.base_model.embeddings
        ]
        self._require_grads_hook = self._require_grads_hooks[0]


@auto_docstring(
    custom_intro="""
    The two (or more) branches of CrossViT with their fusion, without a head on top.
    """
)
class CrossViTModel(CrossViTPreTrainedModel):
    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.embeddings = nn.ModuleList(CrossViTEmbeddings(config, branch) for branch in range(config.num_branches))
        self.stages = nn.ModuleList(CrossViTStage(config, drop_paths) for drop_paths in drop_path_rates(config))
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

        >>> model = CrossViTModel(CrossViTConfig()).eval()
        >>> outputs = model(torch.zeros(1, 3, 240, 240))
        >>> outputs.last_hidden_state.shape, outputs.pooler_output.shape
        (torch.Size([1, 197, 384]), torch.Size([1, 576]))
        ```"""
        # Once for all layers, as `capture_outputs` reads it: the argument, if there is one, and else the configuration.
        kwargs.setdefault("output_attentions", self.config.output_attentions)
        hidden_states = [embeddings(pixel_values, interpolate_pos_encoding) for embeddings in self.embeddings]
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
        hidden_states = tuple(layernorm(tokens) for layernorm, tokens in zip(self.layernorms, hidden_states))

        # On request only, because pipelines split every item of an output along the batch, and a tuple of branches cannot be split.
        is_requested = kwargs.get("output_hidden_states", self.config.output_hidden_states)
        return CrossViTModelOutput(
            last_hidden_state=hidden_states[-1],
            pooler_output=torch.cat([tokens[:, 0] for tokens in hidden_states], dim=-1),
            branch_hidden_states=hidden_states if is_requested else None,
        )


class CrossViTClassifier(nn.Module):
    """A linear head per branch on its final CLS token; the logits are their mean. timm: `head`."""

    def __init__(self, config: CrossViTConfig):
        super().__init__()
        self.hidden_sizes = config.hidden_sizes
        # As of the linear layer that other models have here: what takes its place gets `pooler_output`.
        self.in_features, self.out_features = sum(config.hidden_sizes), config.num_labels
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
            A `loss_function` of your own, set on the model, gets any labels as they are, also labels that are not a tensor.

        Example:

        ```python
        >>> import torch
        >>> from crossvit import CrossViTConfig, CrossViTForImageClassification

        >>> model = CrossViTForImageClassification(CrossViTConfig(num_labels=10))
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
    CrossViT as a backbone for detection and segmentation: the patch tokens of either branch after any stage, as feature maps.
    `config.out_features`, a part of `config.stage_names`, chooses them; by default it is the large branch after the last stage. timm:
    `features_only`.
    """
)
class CrossViTBackbone(BackboneMixin, CrossViTPreTrainedModel):
    # A backbone has none of these weights of a classification model.
    _keys_to_ignore_on_load_unexpected = [r"^(crossvit\.)?layernorms\.", r"^classifier\."]

    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.embeddings = nn.ModuleList(CrossViTEmbeddings(config, branch) for branch in range(config.num_branches))
        self.stages = nn.ModuleList(CrossViTStage(config, drop_paths) for drop_paths in drop_path_rates(config))
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

        >>> backbone = CrossViTBackbone(CrossViTConfig(out_features=["small_stage3", "large_stage3"])).eval()
        >>> [tuple(feature_map.shape) for feature_map in backbone(torch.zeros(1, 3, 240, 360)).feature_maps]
        [(1, 192, 20, 30), (1, 384, 14, 21)]
        ```"""
        kwargs.setdefault("output_attentions", self.config.output_attentions)
        hidden_states = [embeddings(pixel_values, interpolate_pos_encoding=True) for embeddings in self.embeddings]
        stage_outputs = []
        for stage in self.stages:
            hidden_states = stage(hidden_states, **kwargs)
            stage_outputs.append(hidden_states)
        return self.make_output(stage_outputs, pixel_values)

    def make_output(
        self, stage_outputs: list[list[torch.Tensor]], pixel_values: torch.Tensor
    ) -> CrossViTBackboneOutput:
        """The chosen feature maps, from the tokens of every branch after every stage."""
        feature_maps, names = [], iter(self.stage_names)
        for branch, embeddings in enumerate(self.embeddings):
            grid_size = embeddings.grid_size_for(*pixel_values.shape[-2:])
            for hidden_states in stage_outputs:
                if next(names) in self.out_features:
                    patches = hidden_states[branch][:, 1:].transpose(1, 2)  # (B, N, C) -> (B, C, N)
                    feature_map = patches.view(*patches.shape[:2], *grid_size)  # (B, C, rows, columns)
                    feature_maps.append(feature_map.contiguous())
        return CrossViTBackboneOutput(feature_maps=tuple(feature_maps))


__all__ = ["CrossViTBackbone", "CrossViTForImageClassification", "CrossViTModel", "CrossViTPreTrainedModel"]
