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
Other ways to fuse the branches, which the paper compares with cross-attention (Section 3.3, eq. 2 to 4, and Table 6), and the model
without CLS tokens (Section 4.3).

    tokens of every branch (B, T, C of that branch)
      └── layers of the branch, as in the package ── fuse ── output      a stage; a scheme is another `fuse`

Shape letters as in modeling_crossvit.py: B batch, N patch tokens of a branch, T = 1 + N tokens with the CLS token first, C width. "The
large branch" is the last one. f takes tokens to its width, and g takes them back to the width of their own branch.
"""

from typing import Any

import torch
from huggingface_hub.dataclasses import strict
from torch import nn
from transformers import initialization as init
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils.output_capturing import OutputRecorder

from crossvit import CrossViTConfig
from crossvit.modeling_crossvit import (
    CrossViTAttention,
    CrossViTDropPath,
    CrossViTEmbeddings,
    CrossViTForImageClassification,
    CrossViTFusion,
    CrossViTModel,
    CrossViTModelOutput,
    CrossViTProjection,
    CrossViTStage,
    drop_path_rates,
)


GridSizes = list[tuple[int, int]]


# What all schemes share


class SchemeOutput(nn.Module):
    """The tokens of a branch after a stage, as they are. `output_hidden_states` reads them here."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return hidden_states


class SchemeStage(CrossViTStage):
    """The layers of every branch, then `fuse`. A scheme overrides `fuse`; here it changes nothing."""

    def __init__(self, config: CrossViTConfig, drop_paths: list[float]):
        super().__init__(config, drop_paths)
        del self.fusions  # the cross-attention
        self.outputs = nn.ModuleList(SchemeOutput() for _ in range(config.num_branches))

    def fuse(self, hidden_states: list[torch.Tensor], grid_sizes: GridSizes, **kwargs: Any) -> list[torch.Tensor]:
        """The tokens of every branch, each (B, T, C), to the same. `grid_sizes` has the rows and columns of patches of every branch."""
        return hidden_states

    def forward(
        self, branch_hidden_states: list[torch.Tensor], grid_sizes: GridSizes, **kwargs: Any
    ) -> list[torch.Tensor]:
        outputs = []
        for layers, hidden_states in zip(self.layers, branch_hidden_states):
            for layer in layers:
                hidden_states = layer(hidden_states, **kwargs)
            outputs.append(hidden_states)
        fused = self.fuse(outputs, grid_sizes, **kwargs)
        return [output(hidden_states) for output, hidden_states in zip(self.outputs, fused)]


class SchemeModel(CrossViTModel):
    """`CrossViTModel` with the stages of a scheme."""

    stage_class: type[SchemeStage]
    # A stage brings the tokens of all branches together, so it stays on one device.
    _no_split_modules = ["CrossViTEmbeddings", "SchemeStage", "AllAttentionStage", "ClassTokenStage", "PairwiseStage"]
    _can_record_outputs = {
        "hidden_states": OutputRecorder(
            (CrossViTEmbeddings, SchemeOutput),
            capture_initial_hidden_state=False,
            num_hidden_layers_key="num_hidden_states",
        ),
        "attentions": OutputRecorder(CrossViTAttention, index=1, layer_name="attention"),
    }

    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.stages = nn.ModuleList(self.stage_class(config, drop_paths) for drop_paths in drop_path_rates(config))
        self.post_init()  # again, for the new stages

    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: Any,
    ) -> CrossViTModelOutput:
        """As in the package. The stages are told where the patches lie, because for images of other sizes only the model knows it."""
        self.embeddings[0].check_pixel_values(pixel_values, interpolate_pos_encoding)
        height, width = pixel_values.shape[-2:]
        kwargs["grid_sizes"] = [embeddings.grid_size_for(height, width) for embeddings in self.embeddings]
        return super().forward(pixel_values, interpolate_pos_encoding, **kwargs)


class SchemeForImageClassification(CrossViTForImageClassification):
    """
    `CrossViTForImageClassification` with the model of a scheme. Its configuration has the fields of `CrossViTConfig`, and a `model_type` of
    its own, by which the Auto classes find it.
    """

    model_class: type[CrossViTModel]

    def __init__(self, config: CrossViTConfig):
        super().__init__(config)
        self.crossvit = self.model_class(config)
        self.post_init()


# None: the branches meet in the mean of the logits alone


@strict
class NoFusionConfig(CrossViTConfig):
    model_type = "crossvit_no_fusion"


class NoFusionModel(SchemeModel):
    config: NoFusionConfig
    stage_class = SchemeStage


class NoFusionForImageClassification(SchemeForImageClassification):
    config: NoFusionConfig
    model_class = NoFusionModel


# All-attention (eq. 2)


@strict
class AllAttentionConfig(CrossViTConfig):
    model_type = "crossvit_all_attention"


class JointAttentionLayer(GradientCheckpointingLayer):
    """y + MSA(LN(y)) at the width and with the heads of the large branch, (B, T, C) with the T of all branches to the same."""

    def __init__(self, config: AllAttentionConfig, drop_path: float):
        super().__init__()
        self.layernorm = nn.LayerNorm(config.hidden_sizes[-1], eps=config.layer_norm_eps)
        self.joint_attention = CrossViTAttention(config, config.num_branches - 1)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.drop_path = CrossViTDropPath(drop_path)

    def forward(self, hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        attention_output, _ = self.joint_attention(self.layernorm(hidden_states), **kwargs)
        return hidden_states + self.drop_path(self.dropout(attention_output))


class AllAttentionStage(SchemeStage):
    """
    All tokens of all branches attend to each other: y = [f(x_s) || f(x_l)], o = y + MSA(LN(y)), z = g(o) for the part of each branch.
    The large branch has projections too, although its width stays, because eq. 2 has them, and the paper's FLOPs fit only with them.
    """

    def __init__(self, config: AllAttentionConfig, drop_paths: list[float]):
        super().__init__(config, drop_paths)
        branches = range(config.num_branches)
        self.input_projections = nn.ModuleList(CrossViTProjection(config, branch, branches[-1]) for branch in branches)
        self.joint_layer = JointAttentionLayer(config, drop_paths[-1])
        self.output_projections = nn.ModuleList(
            CrossViTProjection(config, branches[-1], branch) for branch in branches
        )

    def fuse(self, hidden_states: list[torch.Tensor], grid_sizes: GridSizes, **kwargs: Any) -> list[torch.Tensor]:
        projected = [project(tokens) for project, tokens in zip(self.input_projections, hidden_states)]
        joint = self.joint_layer(torch.cat(projected, dim=1), **kwargs)  # (B, T of all branches, C of the large one)
        parts = joint.split([tokens.shape[1] for tokens in projected], dim=1)
        return [project(tokens) for project, tokens in zip(self.output_projections, parts)]


class AllAttentionModel(SchemeModel):
    config: AllAttentionConfig
    stage_class = AllAttentionStage
    _can_record_outputs = {
        **SchemeModel._can_record_outputs,
        "cross_attentions": OutputRecorder(CrossViTAttention, index=1, layer_name="joint_attention"),
    }


class AllAttentionForImageClassification(SchemeForImageClassification):
    config: AllAttentionConfig
    model_class = AllAttentionModel


# Class token fusion (eq. 3)


@strict
class ClassTokenConfig(CrossViTConfig):
    model_type = "crossvit_class_token"


def projection(config: CrossViTConfig, branch_in: int, branch_out: int) -> nn.Module:
    """f or g of eq. 3 and 4. Where the width stays there is none, because the paper's numbers of parameters have no room for one."""
    if config.hidden_sizes[branch_in] == config.hidden_sizes[branch_out]:
        return nn.Identity()
    return CrossViTProjection(config, branch_in, branch_out)


class ClassTokenStage(SchemeStage):
    """The CLS tokens are summed at the width of the large branch: z = [g(sum of f(x_cls)) || x_patch]. The patches stay."""

    def __init__(self, config: CrossViTConfig, drop_paths: list[float]):
        super().__init__(config, drop_paths)
        branches = range(config.num_branches)
        self.input_projections = nn.ModuleList(projection(config, branch, branches[-1]) for branch in branches)
        self.output_projections = nn.ModuleList(projection(config, branches[-1], branch) for branch in branches)

    def fuse(self, hidden_states: list[torch.Tensor], grid_sizes: GridSizes, **kwargs: Any) -> list[torch.Tensor]:
        cls_tokens = [project(tokens[:, :1]) for project, tokens in zip(self.input_projections, hidden_states)]
        cls_token = torch.stack(cls_tokens).sum(dim=0)  # (branches, B, 1, C) -> (B, 1, C)
        return [
            torch.cat((project(cls_token), tokens[:, 1:]), dim=1)
            for project, tokens in zip(self.output_projections, hidden_states)
        ]


class ClassTokenModel(SchemeModel):
    config: ClassTokenConfig
    stage_class = ClassTokenStage


class ClassTokenForImageClassification(SchemeForImageClassification):
    config: ClassTokenConfig
    model_class = ClassTokenModel


# Pairwise fusion (eq. 4)


@strict
class PairwiseConfig(CrossViTConfig):
    model_type = "crossvit_pairwise"


def resize_patches(hidden_states: torch.Tensor, old: tuple[int, int], new: tuple[int, int]) -> torch.Tensor:
    """Tokens for other rows and columns of patches, (B, T, C), by bilinear interpolation; the CLS token stays."""
    cls_token, patches = hidden_states[:, :1], hidden_states[:, 1:]
    patches = patches.transpose(1, 2).unflatten(2, old)  # (B, N, C) -> (B, C, rows, columns)
    patches = nn.functional.interpolate(patches, size=new, mode="bilinear", align_corners=False)
    return torch.cat((cls_token, patches.flatten(2).transpose(1, 2)), dim=1)


class PairwiseStage(ClassTokenStage):
    """
    The CLS tokens are summed, and so are the patch tokens at the same place of the image: z = [g(sum of f(x_cls)) || g(sum of
    f(x_patch))]. Before a sum, the patches of the other branches are resized to the rows and columns of this one.
    """

    def fuse(self, hidden_states: list[torch.Tensor], grid_sizes: GridSizes, **kwargs: Any) -> list[torch.Tensor]:
        projected = [project(tokens) for project, tokens in zip(self.input_projections, hidden_states)]
        fused = []
        for branch, project in enumerate(self.output_projections):
            aligned = [
                tokens if other == branch else resize_patches(tokens, grid_sizes[other], grid_sizes[branch])
                for other, tokens in enumerate(projected)
            ]
            fused.append(project(torch.stack(aligned).sum(dim=0)))  # (branches, B, T, C) -> (B, T, C)
        return fused


class PairwiseModel(SchemeModel):
    config: PairwiseConfig
    stage_class = PairwiseStage


class PairwiseForImageClassification(SchemeForImageClassification):
    config: PairwiseConfig
    model_class = PairwiseModel


# Cross-attention without CLS tokens


@strict
class WithoutClassTokenConfig(CrossViTConfig):
    model_type = "crossvit_without_class_token"


class EmbeddingsWithoutClassToken(CrossViTEmbeddings):
    """Has the mean of the patch tokens in the place of the learned CLS token. It gets a position embedding as that does."""

    def __init__(self, config: CrossViTConfig, branch: int):
        super().__init__(config, branch)
        del self.cls_token
        self.register_buffer("cls_token", torch.zeros(1, 1, config.hidden_sizes[branch]), persistent=False)

    def forward(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool = False) -> torch.Tensor:
        hidden_states = super().forward(pixel_values, interpolate_pos_encoding)
        position, patches = hidden_states[:, :1], hidden_states[:, 1:]
        return torch.cat((position + patches.mean(dim=1, keepdim=True), patches), dim=1)


class FusionWithoutClassToken(CrossViTFusion):
    """Cross-attention in which the mean of the branch's patch tokens asks. The answer comes before the patches, as a CLS token does."""

    def forward(self, hidden_states: torch.Tensor, other_hidden_states: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        patches = hidden_states[:, 1:]
        hidden_states = torch.cat((patches.mean(dim=1, keepdim=True), patches), dim=1)
        return super().forward(hidden_states, other_hidden_states, **kwargs)


class WithoutClassTokenModel(CrossViTModel):
    config: WithoutClassTokenConfig
    _no_split_modules = ["EmbeddingsWithoutClassToken", "CrossViTLayer", "FusionWithoutClassToken"]

    def __init__(self, config: WithoutClassTokenConfig):
        super().__init__(config)
        branches = range(config.num_branches)
        self.embeddings = nn.ModuleList(EmbeddingsWithoutClassToken(config, branch) for branch in branches)
        for stage, drop_paths in zip(self.stages, drop_path_rates(config)):
            stage.fusions = nn.ModuleList(
                FusionWithoutClassToken(config, branch, drop_paths[-1]) for branch in branches
            )
        self.post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, EmbeddingsWithoutClassToken):
            init.zeros_(module.cls_token)


class WithoutClassTokenForImageClassification(SchemeForImageClassification):
    config: WithoutClassTokenConfig
    model_class = WithoutClassTokenModel
