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
"""CrossViT model configuration."""

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneConfigMixin
from transformers.utils import auto_docstring

from crossvit.configuration.base import PreTrainedConfig


# (kernel size, stride, padding) of the three convolutions that replace the linear patch embedding in the dagger models.
CONVOLUTIONAL_STEMS = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}

_PER_BRANCH = ("image_sizes", "patch_sizes", "hidden_sizes", "depths", "num_attention_heads", "mlp_ratios")

# Beyond what any sensible model has. A damaged or hostile file is refused before anything of its size is made.
_LARGEST = {
    "branches": 16,
    "layers": 4096,
    "patches": 2**20,
    "num_stages": 128,
    "num_fusion_layers": 128,
    "num_channels": 4096,
    "image_sizes": 2**16,
    "patch_sizes": 2**16,
    "hidden_sizes": 2**16,
    "depths": 1024,
    "num_attention_heads": 1024,
    "mlp_ratios": 1024,
    "layer_norm_eps": 1.0,
    "initializer_range": 100.0,
}


@auto_docstring(
    custom_intro="""
    The configuration of a CrossViT model ([Chen et al., ICCV 2021](https://huggingface.co/papers/2103.14899)). The defaults are
    those of CrossViT-S (`crossvit_small_240`).

    Per-branch values are lists, small branch (fine patches) first. Branch `i` is fused with the patch tokens of branch `i + 1`,
    the last one with those of the first. What cannot be built is refused by `@strict`: `StrictDataclassClassValidationError`
    for a value, `StrictDataclassFieldValidationError` for a type, both from `huggingface_hub.errors`.
    """
)
@strict
class CrossViTConfig(BackboneConfigMixin, PreTrainedConfig):
    r"""
    image_sizes (`list`, *optional*, defaults to `[240, 224]`):
        The size at which each branch sees the image, in pixels, as an int or `[height, width]`. The first is the size of
        the model's input; the model itself resizes it for the other branches.
    patch_sizes (`list[int]`, *optional*, defaults to `[12, 16]`):
        Side of a square patch in pixels (P_s and P_l in the paper).
    num_channels (`int`, *optional*, defaults to 3):
        Number of channels of the input image.
    hidden_sizes (`list[int]`, *optional*, defaults to `[192, 384]`):
        Width of the tokens (C).
    num_stages (`int`, *optional*, defaults to 3):
        Number of multi-scale encoders (K).
    depths (`list[int]`, *optional*, defaults to `[1, 4]`):
        Number of transformer layers per stage (N and M).
    num_fusion_layers (`int`, *optional*, defaults to 1):
        Number of cross-attention layers at the end of each stage (L). As in the released code, only the first one sees the
        patch tokens of the other branch; further ones refine the CLS token alone.
    num_attention_heads (`list[int]`, *optional*, defaults to `[6, 6]`):
        Number of attention heads (h).
    mlp_ratios (`list[float]`, *optional*, defaults to `[4.0, 4.0]`):
        Width of the hidden layer of the MLP, divided by the width of the tokens (r).
    use_convolutional_stem (`bool`, *optional*, defaults to `False`):
        Whether three convolutions replace the linear patch embedding (the dagger models).
    qkv_bias (`bool`, *optional*, defaults to `True`):
        Whether the query, key and value projections have a bias.
    hidden_act (`str`, *optional*, defaults to `"gelu"`):
        The activation function of the MLPs and of the projections before and after the fusion.
    hidden_dropout_prob (`float`, *optional*, defaults to 0.0):
        Dropout on the embeddings, after each attention and after each MLP, at least 0 and below 1.
    attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
        Dropout on the attention probabilities, at least 0 and below 1.
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Largest rate of stochastic depth, at the last layer; 0.1 in the paper. At least 0 and below 1.
    initializer_range (`float`, *optional*, defaults to 0.02):
        Standard deviation of the truncated normal initialisation.
    layer_norm_eps (`float`, *optional*, defaults to 1e-6):
        The epsilon of the layer normalisations.

    Example:

    ```python
    >>> from crossvit import CrossViTConfig, CrossViTModel

    >>> configuration = CrossViTConfig(depths=[1, 5], mlp_ratios=[3.0, 3.0])  # crossvit_15_240
    >>> model = CrossViTModel(configuration)
    >>> model.config.image_size
    240
    ```"""

    model_type = "crossvit"

    image_sizes: list[int | list[int] | tuple[int, int]] | tuple[int | list[int] | tuple[int, int], ...] = (240, 224)
    patch_sizes: list[int] | tuple[int, ...] = (12, 16)
    num_channels: int = 3
    hidden_sizes: list[int] | tuple[int, ...] = (192, 384)
    num_stages: int = 3
    depths: list[int] | tuple[int, ...] = (1, 4)
    num_fusion_layers: int = 1
    num_attention_heads: list[int] | tuple[int, ...] = (6, 6)
    mlp_ratios: list[float | int] | tuple[float | int, ...] = (4.0, 4.0)
    use_convolutional_stem: bool = False
    qkv_bias: bool = True
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0
    drop_path_rate: float | int = 0.0
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-6
    _out_features: list[str] | None = None
    _out_indices: list[int] | None = None

    def __post_init__(self, **kwargs):
        for (
            name
        ) in _PER_BRANCH:  # Lists, also inside, so that a configuration equals itself after a round trip through JSON.
            values = [list(value) if isinstance(value, tuple) else value for value in getattr(self, name)]
            setattr(self, name, values)
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        super().__post_init__(**kwargs)
        # Without any, or with more than can be listed, the validation below says what is wrong.
        if self._is_bounded() and self.stage_names:
            self.set_output_features_output_indices(out_features, out_indices)

    @property
    def image_size(self) -> int | list[int] | tuple[int, int]:
        """Size of the model's input in pixels, an int or `[height, width]`: `image_sizes[0]`."""
        return self.image_sizes[0]

    @property
    def hidden_size(self) -> int:
        """Width of `last_hidden_state`: that of the large branch, `hidden_sizes[-1]`."""
        return self.hidden_sizes[-1]

    @property
    def num_branches(self) -> int:
        return len(self.hidden_sizes)

    @property
    def stage_names(self) -> list[str]:
        """
        Names of the feature maps of [`CrossViTBackbone`]: `small_stage1` to `small_stage3`, then `large_stage1` to `large_stage3`; with
        more than two branches `branch0_stage1` and so on. They are in timm's order, branch by branch, in which strides never fall.
        """
        two = self.num_branches == 2
        branches = ["small", "large"] if two else [f"branch{branch}" for branch in range(self.num_branches)]
        return [f"{branch}_stage{stage}" for branch in branches for stage in range(1, self.num_stages + 1)]

    @property
    def num_hidden_states(self) -> int:
        """Length of the `hidden_states` output: the embeddings and the output of each stage, for every branch."""
        return self.num_branches * (self.num_stages + 1)

    def branch_image_size(self, branch: int) -> tuple[int, int]:
        """Height and width in pixels at which branch `branch` sees an image of the configured size."""
        size = self.image_sizes[branch]
        return (size, size) if isinstance(size, int) else (size[0], size[1])

    def branch_grid_size(self, branch: int) -> tuple[int, int]:
        """Rows and columns of patches in branch `branch` for an image of the configured size."""
        height, width = self.branch_image_size(branch)
        return height // self.patch_sizes[branch], width // self.patch_sizes[branch]

    def _is_bounded(self) -> bool:
        return self.num_branches <= _LARGEST["branches"] and self.num_stages <= _LARGEST["num_stages"]

    def validate_architecture(self):
        """Part of `@strict`-powered validation. Refuses what cannot be built, and says how to mend it."""
        if self.num_branches > _LARGEST["branches"]:
            raise ValueError(
                f"`hidden_sizes` must have one value per branch, at most {_LARGEST['branches']}, got {self.num_branches} values."
            )
        for name in ("num_channels", "num_stages", "num_fusion_layers", "layer_norm_eps", "initializer_range"):
            if not 0 < getattr(self, name) <= _LARGEST[name]:
                raise ValueError(f"`{name}` must be positive and at most {_LARGEST[name]}, got {getattr(self, name)}.")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` is a probability, at least 0 and below 1, got {getattr(self, name)}.")
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"`hidden_act` must be the name of an activation function, got {self.hidden_act!r}. "
                f"Use 'gelu' as the paper does, or one of {', '.join(ACT2FN)}."
            )
        if self.num_branches < 2:
            raise ValueError(
                "`hidden_sizes` must have one value per branch, and CrossViT needs at least two branches, small one first; got "
                f"{self.hidden_sizes}. For one branch use ViT."
            )
        for name in _PER_BRANCH:
            values = getattr(self, name)
            if len(values) != self.num_branches:
                raise ValueError(
                    f"`{name}` must have one value per branch, as `hidden_sizes` has: got {values} ({len(values)} values) beside "
                    f"hidden_sizes={self.hidden_sizes}. Give all of {', '.join(_PER_BRANCH)} the same length."
                )
            for sizes in (value if isinstance(value, list) else [value] for value in values):
                if not all(0 < size <= _LARGEST[name] for size in sizes):
                    raise ValueError(
                        f"`{name}` must be positive and at most {_LARGEST[name]} in every branch, got {values}."
                    )
        layers = self.num_stages * (sum(self.depths) + self.num_branches * self.num_fusion_layers)
        if layers > _LARGEST["layers"]:
            raise ValueError(
                f"`num_stages` x (the sum of `depths` + `num_fusion_layers` of each branch) must be at most {_LARGEST['layers']} layers, got "
                f"{self.num_stages} stages with depths={self.depths} and {self.num_fusion_layers}: {layers} layers."
            )
        for branch in range(self.num_branches):
            self._validate_branch(branch)

    def _validate_branch(self, branch: int) -> None:
        image_size, patch_size = self.image_sizes[branch], self.patch_sizes[branch]
        if isinstance(image_size, list) and len(image_size) != 2:
            raise ValueError(
                f"`image_sizes` takes an int or [height, width] for each branch, got {image_size} in {self.image_sizes}."
            )
        rows, columns = self.branch_grid_size(branch)
        if rows * columns > _LARGEST["patches"]:
            raise ValueError(
                f"`image_sizes[{branch}]` and `patch_sizes[{branch}]` must give at most {_LARGEST['patches']} patches, got {image_size} and "
                f"{patch_size}: {rows} x {columns} patches."
            )
        hidden_size, heads = self.hidden_sizes[branch], self.num_attention_heads[branch]
        if hidden_size % heads != 0:
            raise ValueError(
                f"`hidden_sizes[{branch}]` must be a multiple of `num_attention_heads[{branch}]`, got {hidden_size} and "
                f"{heads}. Use {heads * max(1, round(hidden_size / heads))} as the width, or another number of heads."
            )
        if self.use_convolutional_stem and patch_size not in CONVOLUTIONAL_STEMS:
            raise ValueError(
                f"`use_convolutional_stem=True` needs patch sizes of {' or '.join(map(str, CONVOLUTIONAL_STEMS))}, got "
                f"`patch_sizes[{branch}]` = {patch_size}. Use one of these, or `use_convolutional_stem=False`."
            )
        if self.use_convolutional_stem and hidden_size % 4 != 0:
            raise ValueError(
                "`use_convolutional_stem=True` needs widths that are a multiple of 4 (its convolutions have a quarter and "
                f"half of them), got `hidden_sizes[{branch}]` = {hidden_size}."
            )
        if any(size % patch_size != 0 for size in self.branch_image_size(branch)):
            nearest = [patch_size * max(1, round(size / patch_size)) for size in self.branch_image_size(branch)]
            raise ValueError(
                f"`image_sizes[{branch}]` must be a multiple of `patch_sizes[{branch}]`, or the border of the image would be "
                f"lost; got {image_size} and {patch_size}. Use {nearest[0] if len(set(nearest)) == 1 else nearest}; "
                "to feed the model other sizes, keep this and call it with `interpolate_pos_encoding=True`."
            )


__all__ = ["CrossViTConfig"]
