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
Models of the paper that have no published weights: the other fusion schemes (Table 6), other architectures (Table 7), and the T2T stem.

    from research.fusion_schemes import SCHEMES, make_model      # in the folder of the repository

    model = make_model("pairwise", num_labels=10)
    small = make_model("pairwise", image_size=48, num_labels=10, variant="crossvit_tiny_240", depths=[1, 1])

Importing this package registers the models with the Auto classes: where it is imported, their saved folders load. README.md explains each
scheme, and how to write another.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor, CrossViTImageProcessorPil
from research.fusion_schemes.schemes import (
    AllAttentionForImageClassification,
    ClassTokenForImageClassification,
    NoFusionForImageClassification,
    PairwiseForImageClassification,
    SchemeForImageClassification,
    WithoutClassTokenForImageClassification,
)
from research.fusion_schemes.t2t import T2TForImageClassification


_MODEL_CLASSES: dict[str, type[SchemeForImageClassification]] = {
    "none": NoFusionForImageClassification,
    "all_attention": AllAttentionForImageClassification,
    "class_token": ClassTokenForImageClassification,
    "pairwise": PairwiseForImageClassification,
    "without_class_token": WithoutClassTokenForImageClassification,
    "t2t": T2TForImageClassification,
}

# Rows A to E of Table 7: what changes in the fields of the configuration. Everything is relative to the size that is asked for, so that
# small models have such variants too. Row A has both branches see the image at one size, of which 8 and 16 are divisors.
_TABLE_7: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "patches_8_and_16": lambda fields: {
        "patch_sizes": [fields["patch_sizes"][-1] // 2, fields["patch_sizes"][-1]],
        "image_sizes": [fields["image_sizes"][-1]] * 2,
    },
    "wide_small_branch": lambda fields: {"hidden_sizes": [fields["hidden_sizes"][-1]] * 2},
    "two_small_layers": lambda fields: {"depths": [2, fields["depths"][-1]]},
    "two_fusion_layers": lambda fields: {"num_fusion_layers": 2},
    "twice_the_stages": lambda fields: {
        "num_stages": 2 * fields["num_stages"],
        "depths": [fields["depths"][0], fields["depths"][-1] // 2],
    },
}


def _make(
    model_class: type[CrossViTForImageClassification],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    image_size: int | None = None,
    num_labels: int = 1000,
    variant: str = "crossvit_small_240",
    **overrides: Any,
) -> CrossViTForImageClassification:
    published = CrossViTConfig.from_variant(variant)
    names = ("image_sizes", "patch_sizes", "hidden_sizes", "num_stages", "depths")
    fields = {name: overrides.pop(name, getattr(published, name)) for name in names}
    fields |= change(fields)
    if image_size is not None:
        # The other branches see the image in the same ratio to the first as before, up to whole patches.
        first, *others = fields["image_sizes"]
        fields["image_sizes"] = [image_size] + [
            patch * max(1, round(image_size * size / first / patch))
            for size, patch in zip(others, fields["patch_sizes"][1:])
        ]
    config = model_class.config_class.from_variant(variant, num_labels=num_labels, **fields | overrides)
    return model_class(config)


# Each makes a model with random weights from `image_size`, `num_labels`, `variant` and fields of the configuration, as `make_model` does.
SCHEMES: dict[str, Callable[..., CrossViTForImageClassification]] = {
    "cross_attention": partial(_make, CrossViTForImageClassification, lambda fields: {}),
    **{name: partial(_make, model_class, lambda fields: {}) for name, model_class in _MODEL_CLASSES.items()},
    **{name: partial(_make, CrossViTForImageClassification, change) for name, change in _TABLE_7.items()},
}


def make_model(
    scheme: str,
    image_size: int | None = None,
    num_labels: int = 1000,
    variant: str = "crossvit_small_240",
    **overrides: Any,
) -> CrossViTForImageClassification:
    """
    A model with random weights.

    Args:
        scheme: One of `SCHEMES`.
        image_size: Height and width of its input in pixels, a multiple of the patch size of the small branch. By default that of the
            variant.
        num_labels: Number of classes.
        variant: The published model whose sizes it has.
        overrides: Any fields of `CrossViTConfig`, for example `hidden_sizes=[48, 96]`.

    Raises:
        ValueError: If there is no such scheme or variant; the message lists those that exist.
        StrictDataclassClassValidationError: If the fields do not fit each other.
    """
    if scheme not in SCHEMES:
        raise ValueError(
            f"Unknown fusion scheme: got {scheme!r}, expected one of {', '.join(SCHEMES)}. To add one, see README.md beside this file."
        )
    return SCHEMES[scheme](image_size, num_labels, variant, **overrides)


for _model_class in _MODEL_CLASSES.values():
    _config_class = _model_class.config_class
    AutoConfig.register(_config_class.model_type, _config_class, exist_ok=True)
    AutoModel.register(_config_class, _model_class.model_class, exist_ok=True)
    AutoModelForImageClassification.register(_config_class, _model_class, exist_ok=True)
    AutoImageProcessor.register(
        _config_class,
        image_processor_classes={"torchvision": CrossViTImageProcessor, "pil": CrossViTImageProcessorPil},
        exist_ok=True,
    )

__all__ = ["SCHEMES", "make_model"]
