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
Loading a CrossViT from what it was not saved as: the repositories and folders of timm, weights with timm's or the release's names, and
checkpoints for other image sizes; and the refusal of anything that is not a CrossViT.
"""

import copy
import os
import re
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from torch import nn
from transformers.utils import logging

import crossvit.weights.names  # noqa: F401, registers the table of names
from crossvit.configuration.variants import suggest_model


if TYPE_CHECKING:
    from transformers import PreTrainedModel as _Base
else:
    _Base = object  # The mixin below names it for type checkers.

logger = logging.get_logger(__name__)


def _check_that_weights_were_found(model: _Base, loading_info: dict[str, Any], name: str | os.PathLike) -> None:
    """Refuses a checkpoint that has no weight for the embeddings and stages: transformers would leave the whole model random."""
    not_loaded = {*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])}
    needed = [key for key in model.state_dict() if re.search(r"(^|\.)(embeddings|stages)\.\d", key)]
    if not_loaded.issuperset(needed):
        found = sorted(loading_info["unexpected_keys"]) or sorted(not_loaded)
        raise ValueError(
            f"None of the weights of {name} fits into the embeddings and stages of this CrossViT, so that all of it would be random. "
            f"The tensors of the checkpoint are {', '.join(found[:3])} ... Load it with the class that saved it, or with the "
            "configuration of its architecture. If a wrapper such as DistributedDataParallel stands in front of the names, "
            "`crossvit.convert_checkpoint` reads the file."
        )


class LoadingMixin(_Base):
    """Reads checkpoints of timm, of the release and for other image sizes, for a [`PreTrainedModel`]; saves under its own names."""

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path, *model_args, config=None, output_loading_info=False, **kwargs
    ):
        """
        As in transformers. In addition:

        - The name may be a repository of timm, such as `"timm/crossvit_15_dagger_240.in1k"`, or a folder that `timm.models.save_for_hf` wrote.
        - The checkpoint may have been saved for other image sizes: with `image_sizes=[408, 384]`, or with a `config` that has these, its
          position embeddings are resized as `resize_position_embeddings` does it.

        Raises:
            ValueError: If this is another model; if the checkpoint has no weight of the embeddings and stages (with
                `output_loading_info=True`, they are among the missing keys instead); if weights with timm's names are to be loaded with a
                `distributed_config`, or with a `quantization_config` of torchao.
            OSError: If there is no such model, or its weights are not a whole safetensors file.
        """
        image_sizes = kwargs.pop("image_sizes", None)
        if isinstance(config, (str, os.PathLike)):
            config = cls.config_class.from_pretrained(config)
        if config is not None and pretrained_model_name_or_path is not None:
            try:
                checkpoint_config, _ = cls.config_class.get_config_dict(pretrained_model_name_or_path, **kwargs)
            except OSError:  # There are weights alone: nothing says that they are for other sizes than `config`.
                checkpoint_config = {}
            image_sizes = image_sizes or config.image_sizes
            config = copy.deepcopy(config)
            config.image_sizes = checkpoint_config.get("image_sizes", config.image_sizes)
        try:
            with suggest_model(str(pretrained_model_name_or_path)):
                model, loading_info = super().from_pretrained(
                    pretrained_model_name_or_path, *model_args, config=config, output_loading_info=True, **kwargs
                )
        except SafetensorError as error:
            raise OSError(
                f"The weights of {pretrained_model_name_or_path} are damaged ({error}). Download or copy them again."
            ) from error
        # With `output_loading_info=True` the caller is told which weights are missing; transformers' common tests want that.
        if pretrained_model_name_or_path is not None and not output_loading_info:
            _check_that_weights_were_found(model, loading_info, pretrained_model_name_or_path)
        # transformers would give each process a part of timm's `qkv`, and would take that part for all of it: the wrong rows. Where it
        # quantises while it loads, it takes the query out of timm's `qkv`, and leaves key and value random.
        if getattr(model, "_weight_conversions", None):
            lost = [key for key in loading_info["missing_keys"] if key.endswith(("k_proj.weight", "v_proj.weight"))]
            for argument, is_wrong in (("distributed_config", True), ("quantization_config", lost)):
                if kwargs.get(argument) is not None and is_wrong:
                    raise ValueError(
                        f"A checkpoint with timm's names cannot be loaded with this `{argument}`. Load it without one, save it with "
                        "`save_pretrained`, and load what that wrote."
                    )
        if image_sizes is not None:
            model.resize_position_embeddings(image_sizes)
        return (model, loading_info) if output_loading_info else model

    def save_pretrained(
        self, save_directory: str | os.PathLike, *, save_original_format: bool = False, **kwargs: Any
    ) -> None:
        """
        As in transformers, but under this model's own names where it was loaded from timm's: transformers' default,
        `save_original_format=True`, writes timm's names again.
        """
        super().save_pretrained(save_directory, save_original_format=save_original_format, **kwargs)

    def get_position_embeddings(self) -> tuple[nn.Parameter, ...]:
        """The position embeddings of every branch, each of shape (1, 1 + num_patches, hidden_size), the position of the CLS token first."""
        branches: Any = self.base_model.embeddings
        return tuple(embeddings.position_embeddings for embeddings in branches)

    def resize_position_embeddings(self, image_sizes: list[int | list[int]]) -> None:
        """
        Makes this a model for images of another size, as the paper does before fine-tuning at a higher resolution: the position
        embeddings of each branch, but for that of the CLS token, are resized by bicubic interpolation, and `config.image_sizes` is
        changed accordingly.

        Args:
            image_sizes: A size per branch in pixels, an int or `[height, width]`, each a multiple of the branch's patch size, as
                `config.image_sizes`: `[408, 384]` for the 384 models of the paper.

        Raises:
            StrictDataclassClassValidationError: If a size does not fit the patches.
            ValueError: If the embeddings have been offloaded to disk.
        """
        config = copy.deepcopy(self.config)
        config.image_sizes = list(image_sizes)
        config.validate()
        # CODEPATH: every published checkpoint is loaded with the sizes it was trained with unless the user gives others.
        if config.image_sizes == self.config.image_sizes:
            return
        if any(positions.is_meta for positions in self.get_position_embeddings()):
            raise ValueError(
                "The position embeddings cannot be resized, because they have been offloaded to disk. Load the model with a "
                "`device_map` that keeps `embeddings` on a device."
            )
        logger.warning(
            f"Position embeddings resized by bicubic interpolation: image sizes {self.config.image_sizes} in the checkpoint, "
            f"{config.image_sizes} now."
        )
        branches: Any = self.base_model.embeddings
        for branch, embeddings in enumerate(branches):
            grid_size = config.branch_grid_size(branch)
            with torch.no_grad():
                positions = embeddings.interpolate_pos_encoding(*grid_size)
            embeddings.position_embeddings = nn.Parameter(positions, embeddings.position_embeddings.requires_grad)
            embeddings.input_size, embeddings.image_size = (
                config.branch_image_size(0),
                config.branch_image_size(branch),
            )
            embeddings.grid_size = grid_size
        self.config.image_sizes = config.image_sizes


__all__ = ["LoadingMixin"]
