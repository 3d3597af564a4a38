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

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.dataclasses import strict
from transformers.activations import ACT2FN
from transformers.backbone_utils import BackboneConfigMixin
from transformers.configuration_utils import PreTrainedConfig
from transformers.utils import auto_docstring

from crossvit.configuration.published_crossvit import CROSSVIT_VARIANTS, crossvit_config, suggest_published_model
from crossvit.configuration.saving_crossvit import save_code


# (kernel size, stride, padding) of the three convolutions that replace the linear patch embedding in the dagger models.
CONVOLUTIONAL_STEMS = {
    12: ((7, 4, 3), (3, 3, 0), (3, 1, 1)),
    16: ((7, 4, 3), (3, 2, 1), (3, 2, 1)),
}

# The classes that load a saved model where this package is not installed, by the Auto class that looks for them.
_AUTO_MAP = {
    "AutoBackbone": "modeling_crossvit.CrossViTBackbone",
    "AutoConfig": "configuration_crossvit.CrossViTConfig",
    "AutoModel": "modeling_crossvit.CrossViTModel",
    "AutoModelForImageClassification": "modeling_crossvit.CrossViTForImageClassification",
}

_TENSOR_PARALLEL_ATTENTION = {"q_proj": "colwise", "k_proj": "colwise", "v_proj": "colwise", "o_proj": "rowwise"}
_TENSOR_PARALLEL_MLP = {"fc1": "colwise", "fc2": "rowwise"}

_PER_BRANCH = ("image_sizes", "patch_sizes", "hidden_sizes", "depths", "num_attention_heads", "mlp_ratios")

# Fields of other models, whose place is taken here by one with a value per branch.
_FIELDS_OF_ONE_BRANCH = {
    "image_size": "image_sizes",
    "patch_size": "patch_sizes",
    "hidden_size": "hidden_sizes",
    "num_hidden_layers": "depths",
    "mlp_ratio": "mlp_ratios",
    "intermediate_size": "mlp_ratios",
}


def _as_list(value: Any) -> Any:
    """Tuples become lists, also inside, so that a configuration equals itself after a round trip through JSON."""
    return [_as_list(item) for item in value] if isinstance(value, (list, tuple)) else value


def _refuse_fields_of_one_branch(names: Iterable[str]) -> None:
    """transformers would report some of them as properties without a setter, and keep the others as attributes that nothing reads."""
    for name in names:
        if field := _FIELDS_OF_ONE_BRANCH.get(name):
            raise ValueError(
                f"CrossViT has no `{name}`: give `{field}`, a list with one value per branch, small branch first, for example "
                f"`{field}={_as_list(getattr(CrossViTConfig, field))}`."
            )


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _forget_problem_type(config_dict: dict[str, Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """
    `config_dict`, without its problem type where `kwargs` change the number of labels: it was remembered from labels of another task, and
    would choose the wrong loss for the new ones.
    """
    # Where both are there, transformers lets `num_labels` of the dictionary win, but `id2label` of the arguments. Without either, it takes 2.
    num_labels, id2label = config_dict.get("num_labels"), config_dict.get("id2label")
    old = num_labels if num_labels is not None else 2 if id2label is None else len(id2label)
    num_labels, id2label = kwargs.get("num_labels"), kwargs.get("id2label")
    new = len(id2label) if id2label is not None else old if num_labels is None else num_labels
    return config_dict if new == old else {key: value for key, value in config_dict.items() if key != "problem_type"}


@auto_docstring(
    custom_intro="""
    The configuration of a CrossViT model ([Chen et al., ICCV 2021](https://huggingface.co/papers/2103.14899)). The defaults are
    those of CrossViT-S (`crossvit_small_240`); [`CrossViTConfig.from_variant`] gives the other published models.

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
        Dropout on the embeddings, after each attention and in the MLPs, between 0 and 1.
    attention_probs_dropout_prob (`float`, *optional*, defaults to 0.0):
        Dropout on the attention probabilities, between 0 and 1.
    drop_path_rate (`float`, *optional*, defaults to 0.0):
        Largest rate of stochastic depth, at the last layer; 0.1 in the paper. At least 0 and below 1.
    initializer_range (`float`, *optional*, defaults to 0.02):
        Standard deviation of the truncated normal initialisation.
    layer_norm_eps (`float`, *optional*, defaults to 1e-6):
        The epsilon of the layer normalisations.

    Example:

    ```python
    >>> from crossvit import CrossViTConfig, CrossViTModel

    >>> configuration = CrossViTConfig.from_variant("crossvit_15_dagger_240")
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

    def __setattr__(self, name: str, value: Any) -> None:
        _refuse_fields_of_one_branch([name])
        super().__setattr__(name, _as_list(value) if name in _PER_BRANCH else value)

    def __post_init__(self, **kwargs):
        if (model_type := kwargs.get("model_type", self.model_type)) != self.model_type:
            raise ValueError(f"These are the fields of a model of type {model_type!r}, expected {self.model_type!r}.")
        out_features, out_indices = kwargs.pop("out_features", None), kwargs.pop("out_indices", None)
        if self.stage_names:  # Without any, the validation below says what is wrong.
            self.set_output_features_output_indices(out_features, out_indices)
        super().__post_init__(**kwargs)

    @classmethod
    def from_variant(cls, variant: str, **overrides: Any) -> "CrossViTConfig":
        """
        The configuration of a published model (Table 1), with timm's name of it.

        Args:
            variant (`str`): One of `CROSSVIT_VARIANTS`, for example `"crossvit_15_dagger_240"`.
            overrides: Any field of the configuration, for example `num_labels=10` or `drop_path_rate=0.1`.

        Raises:
            ValueError: If there is no such variant; the message lists those that exist.
        """
        if variant not in CROSSVIT_VARIANTS:
            raise ValueError(
                f"Unknown CrossViT variant: got {variant!r}, expected one of {', '.join(CROSSVIT_VARIANTS)}. "
                "For another architecture give its fields to CrossViTConfig(...)."
            )
        return cls(**{**CROSSVIT_VARIANTS[variant], **overrides})

    @classmethod
    def get_config_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        As in transformers; the configuration may also be timm's, in its repositories (`"timm/crossvit_15_dagger_240.in1k"`) and in folders
        that `timm.models.save_for_hf` wrote.

        Raises:
            ValueError: If it is of another model. transformers would warn and go on with random weights.
            OSError: If there is none; the message names the published model that may have been meant.
        """
        name = str(pretrained_model_name_or_path)
        # Pipelines pass this on, and transformers would log that it has no effect: it is for the Auto classes, which have acted on it.
        kwargs.pop("trust_remote_code", None)
        with suggest_published_model(name):
            config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not config_dict:  # transformers would take the defaults
            raise OSError(
                f"{name} has no config.json, or an empty one. Give the folder or the repository of a saved model."
            )
        return crossvit_config(config_dict, name, cls.model_type), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, but with another number of labels the `problem_type` of the dictionary is forgotten."""
        _refuse_fields_of_one_branch(kwargs)  # transformers ignores those that it does not know
        return super().from_dict(_forget_problem_type(config_dict, kwargs), **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As in transformers, with the source code of the model beside it (`trust_remote_code`)."""
        if not os.path.isfile(save_directory):  # transformers refuses a file
            self.auto_map = save_code(save_directory, _AUTO_MAP, registered=getattr(self, "auto_map", None))
        super().save_pretrained(save_directory)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)

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

    # The plans name each layer, because transformers lets `*` stand for the first of two adjacent indices only.
    @property
    def base_model_tp_plan(self) -> dict[str, str]:  # type: ignore[override]
        """
        Tensor parallelism: how the weights of each module are split over devices. Each device gets whole heads, so the number of heads of
        every branch must be a multiple of the number of devices.
        """
        attentions = ["stages.*.fusions.*.cross_attention"]
        # CODEPATH: no published model has more than one fusion layer; the L = 2 model of Table 7 has.
        if self.num_fusion_layers > 1:
            attentions.append("stages.*.fusions.*.refinements.*.cls_attention")
        attentions += [f"stages.*.layers.*.{layer}.attention" for layer in range(max(self.depths))]
        plan = {
            f"{attention}.{name}": style
            for attention in attentions
            for name, style in _TENSOR_PARALLEL_ATTENTION.items()
        }
        for layer in range(max(self.depths)):
            plan |= {f"stages.*.layers.*.{layer}.mlp.{name}": style for name, style in _TENSOR_PARALLEL_MLP.items()}
        return plan

    @property
    def base_model_fsdp_plan(self) -> dict[str, str]:  # type: ignore[override]
        """
        FSDP2: the weights of each embedding, layer and fusion are gathered when it runs and freed afterwards; those of the final layer
        norms, which are small, are kept.
        """
        layers = {f"stages.*.layers.*.{layer}": "free_full_weight" for layer in range(max(self.depths))}
        fusions = {"embeddings.*": "free_full_weight", "stages.*.fusions.*": "free_full_weight"}
        return {**fusions, **layers, "layernorms.*": "keep_full_weight"}

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
        return _height_and_width(self.image_sizes[branch])

    def branch_grid_size(self, branch: int) -> tuple[int, int]:
        """Rows and columns of patches in branch `branch` for an image of the configured size."""
        height, width = self.branch_image_size(branch)
        return height // self.patch_sizes[branch], width // self.patch_sizes[branch]

    def validate_architecture(self):
        """Part of `@strict`-powered validation. Refuses what cannot be built, and says how to mend it."""
        self._validate_numbers()
        self._validate_branches()
        self._validate_sizes()

    def _validate_numbers(self):
        for name in ("num_channels", "num_stages", "num_fusion_layers", "layer_norm_eps", "initializer_range"):
            if not getattr(self, name) > 0:
                raise ValueError(f"`{name}` must be positive, got {getattr(self, name)}.")
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"`{name}` is a probability, at least 0 and below 1, got {getattr(self, name)}.")
        if self.hidden_act not in ACT2FN:
            raise ValueError(
                f"`hidden_act` must be the name of an activation function, got {self.hidden_act!r}. "
                f"Use 'gelu' as the paper does, or one of {', '.join(ACT2FN)}."
            )

    def _validate_branches(self):
        lengths = {name: len(getattr(self, name)) for name in _PER_BRANCH}
        if min(lengths.values()) < 2:
            name = min(lengths, key=lengths.get)
            raise ValueError(
                f"`{name}` must have one value per branch, and CrossViT needs at least two branches, small one first; "
                f"got {getattr(self, name)}. For one branch use ViT."
            )
        for name in _PER_BRANCH:
            if lengths[name] != lengths["hidden_sizes"]:
                raise ValueError(
                    f"`{name}` must have one value per branch, as `hidden_sizes` has: got {getattr(self, name)} "
                    f"({lengths[name]} values) beside hidden_sizes={self.hidden_sizes} "
                    f"({lengths['hidden_sizes']} values). Give all of {', '.join(_PER_BRANCH)} the same length."
                )
            for value in getattr(self, name):
                sizes = value if isinstance(value, (list, tuple)) else [value]
                if name == "image_sizes" and isinstance(value, (list, tuple)) and len(value) != 2:
                    raise ValueError(
                        f"`image_sizes` takes an int or [height, width] for each branch, got {value} in {self.image_sizes}."
                    )
                if not all(size > 0 for size in sizes):
                    raise ValueError(f"`{name}` must be positive in every branch, got {getattr(self, name)}.")

    def _validate_sizes(self):
        for branch in range(self.num_branches):
            hidden_size, heads, patch = (
                self.hidden_sizes[branch],
                self.num_attention_heads[branch],
                self.patch_sizes[branch],
            )
            if hidden_size % heads != 0:
                raise ValueError(
                    f"`hidden_sizes[{branch}]` must be a multiple of `num_attention_heads[{branch}]`, got {hidden_size} and "
                    f"{heads}. Use {heads * max(1, round(hidden_size / heads))} as the width, or another number of heads."
                )
            if self.use_convolutional_stem and patch not in CONVOLUTIONAL_STEMS:
                raise ValueError(
                    f"`use_convolutional_stem=True` needs patch sizes of {' or '.join(map(str, CONVOLUTIONAL_STEMS))}, got "
                    f"`patch_sizes[{branch}]` = {patch}. Use one of these, or `use_convolutional_stem=False`."
                )
            if self.use_convolutional_stem and hidden_size % 4 != 0:
                raise ValueError(
                    "`use_convolutional_stem=True` needs widths that are a multiple of 4 (its convolutions have a quarter and "
                    f"half of them), got `hidden_sizes[{branch}]` = {hidden_size}."
                )
            if any(size % patch != 0 for size in self.branch_image_size(branch)):
                nearest = [patch * max(1, round(size / patch)) for size in self.branch_image_size(branch)]
                raise ValueError(
                    f"`image_sizes[{branch}]` must be a multiple of `patch_sizes[{branch}]`, or the border of the image would be "
                    f"lost; got {self.image_sizes[branch]} and {patch}. Use {nearest[0] if len(set(nearest)) == 1 else nearest}; "
                    "to feed the model other sizes, keep this and call it with `interpolate_pos_encoding=True`."
                )


__all__ = ["CROSSVIT_VARIANTS", "CrossViTConfig"]
