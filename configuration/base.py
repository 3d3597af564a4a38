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
The base of `CrossViTConfig` in this package. It adds to transformers' own what needs the rest of the package, so that the files which
travel with a saved model do not: variants, timm's configurations, the code beside a saved configuration, plans for several devices.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers.configuration_utils import PreTrainedConfig as _PreTrainedConfig

from crossvit.configuration.saved_code import MODEL_CLASSES, save_code
from crossvit.configuration.timm_config import crossvit_config
from crossvit.configuration.variants import CROSSVIT_VARIANTS, suggest_model


if TYPE_CHECKING:
    from typing_extensions import Self


_TENSOR_PARALLEL_ATTENTION = {"q_proj": "colwise", "k_proj": "colwise", "v_proj": "colwise", "o_proj": "rowwise"}
_TENSOR_PARALLEL_MLP = {"fc1": "colwise", "fc2": "rowwise"}

# Fields of other models, whose place is taken here by one with a value per branch.
_FIELDS_OF_ONE_BRANCH = {
    "image_size": "image_sizes",
    "patch_size": "patch_sizes",
    "hidden_size": "hidden_sizes",
    "num_hidden_layers": "depths",
    "mlp_ratio": "mlp_ratios",
    "intermediate_size": "mlp_ratios",
}


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


class PreTrainedConfig(_PreTrainedConfig):
    """transformers' configuration, with this package around it."""

    if TYPE_CHECKING:  # Fields of CrossViTConfig; an annotation in this class would make a field of its own.
        depths: list[int] | tuple[int, ...]
        num_fusion_layers: int

    def __setattr__(self, name: str, value: Any) -> None:
        self._refuse_fields_of_one_branch([name])
        # As in a new configuration, so that it stays equal to itself after a round trip through JSON.
        if isinstance(value, (list, tuple)):
            value = [list(item) if isinstance(item, tuple) else item for item in value]
        super().__setattr__(name, value)

    def __post_init__(self, **kwargs: Any) -> None:
        if (model_type := kwargs.get("model_type", self.model_type)) != self.model_type:
            raise ValueError(f"These are the fields of a model of type {model_type!r}, expected {self.model_type!r}.")
        super().__post_init__(**kwargs)

    @classmethod
    def _refuse_fields_of_one_branch(cls, names: Iterable[str]) -> None:
        """Raises for fields of models with one branch (`image_size`), which transformers would accept and ignore."""
        for name in names:
            if field := _FIELDS_OF_ONE_BRANCH.get(name):
                raise ValueError(
                    f"CrossViT has no `{name}`: give `{field}`, a list with one value per branch, small branch first, for example "
                    f"`{field}={list(getattr(cls, field))}`."
                )

    @classmethod
    def from_variant(cls, variant: str, **overrides: Any) -> "Self":
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
        with suggest_model(name):
            config_dict, kwargs = super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        if not config_dict:  # transformers would take the defaults
            raise OSError(
                f"{name} has no config.json, or an empty one. Give the folder or the repository of a saved model."
            )
        return crossvit_config(config_dict, name, cls.model_type), kwargs

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As in transformers, but with another number of labels the `problem_type` of the dictionary is forgotten."""
        cls._refuse_fields_of_one_branch(kwargs)  # transformers ignores names that it does not know
        return super().from_dict(_forget_problem_type(config_dict, kwargs), **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any) -> None:
        """As in transformers, with the source code of the model beside it (`trust_remote_code`)."""
        if not os.path.isfile(save_directory):  # transformers refuses a file
            self.auto_map = save_code(self, save_directory, MODEL_CLASSES)
        super().save_pretrained(save_directory)
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)

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
        FSDP2: the weights of each embedding, layer and fusion are gathered when it runs and freed afterwards. The final layer norms are
        small and stay.
        """
        layers = {f"stages.*.layers.*.{layer}": "free_full_weight" for layer in range(max(self.depths))}
        fusions = {"embeddings.*": "free_full_weight", "stages.*.fusions.*": "free_full_weight"}
        return {**fusions, **layers, "layernorms.*": "keep_full_weight"}


__all__ = ["PreTrainedConfig"]
