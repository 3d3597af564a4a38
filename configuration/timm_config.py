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
timm's descriptions of its models as fields of `CrossViTConfig`: the `config.json` of its repositories, and of folders that
`timm.models.save_for_hf` and transformers' TimmWrapper write.
"""

from collections.abc import Mapping
from typing import Any

from transformers.utils import logging

from crossvit.configuration.variants import CROSSVIT_VARIANTS, imagenet_classes


logger = logging.get_logger(__name__)

# Arguments of timm's class that a field here means the same by. The others are translated below.
_FIELDS = {
    "patch_size": "patch_sizes",
    "embed_dim": "hidden_sizes",
    "num_heads": "num_attention_heads",
    "multi_conv": "use_convolutional_stem",
    "qkv_bias": "qkv_bias",
    "attn_drop_rate": "attention_probs_dropout_prob",
    "drop_path_rate": "drop_path_rate",
}

# Dropout in places where this model has none, or not on its own: the numbers of inference are the same.
_TRAINING_ALONE = ("drop_rate", "pos_drop_rate", "proj_drop_rate")


def is_timm_config(config_dict: Mapping[str, Any]) -> bool:
    """Whether a `config.json` is timm's, also as written by transformers' wrapper of its models."""
    return "architecture" in config_dict and config_dict.get("model_type", "timm_wrapper") == "timm_wrapper"


def timm_pretrained_cfg(timm_config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What timm records of the weights and their preprocessing: a part of its `config.json`, or all of it in old ones."""
    return timm_config.get("pretrained_cfg") or timm_config


def timm_input_size(timm_config: Mapping[str, Any]) -> tuple[int, int, int]:
    """Channels, height and width of the input."""
    arguments = timm_config.get("model_args") or {}
    channels, height, width = timm_pretrained_cfg(timm_config)["input_size"]
    size = arguments.get("img_size") or (height, width)
    height, width = (size, size) if isinstance(size, int) else size
    return arguments.get("in_chans") or channels, height, width


def _image_sizes(timm_config: Mapping[str, Any], patch_sizes: list[int], scales: list[float], name: str) -> list:
    _, *height_and_width = timm_input_size(timm_config)
    image_sizes: list[int | list[int]] = []
    for patch, scale in zip(patch_sizes, scales):
        height, width = (int(side * scale) for side in height_and_width)  # as in timm
        if height % patch or width % patch:
            raise ValueError(
                f"{name} cannot be loaded with equal numbers: timm shows it images of {height}x{width} pixels in the branch with "
                f"patches of {patch}, and drops incomplete patches at the border, which this package does not. Use timm for it, or train it "
                "at a size that is a multiple of 240 (408 models: 204)."
            )
        image_sizes.append(height if height == width else [height, width])
    return image_sizes


def _class_names(timm_config: Mapping[str, Any], num_labels: int, name: str) -> dict[int, str] | None:
    """Descriptions or names of the classes from timm's configuration, ImageNet's for weights of ImageNet-1k, else None."""
    sources = (timm_config, timm_pretrained_cfg(timm_config))
    names = next((source[key] for source in sources for key in ("label_names", "labels") if source.get(key)), None)
    if names is None and num_labels == 1000 and "in1k" in (sources[1].get("tag") or "").split("_"):
        names = imagenet_classes()
    if not names:
        return None
    names = {int(index): label for index, label in (names.items() if isinstance(names, Mapping) else enumerate(names))}
    if not names.keys() <= set(range(num_labels)):
        raise ValueError(
            f"The config.json of {name} names {len(names)} classes (`label_names`) for {num_labels} outputs."
        )
    descriptions: Mapping[str, str] = next(
        (source["label_descriptions"] for source in sources if source.get("label_descriptions")), {}
    )
    described = {index: descriptions.get(label, label) for index, label in names.items()}
    # Two classes of one name could not be told apart.
    names = described if len(set(described.values())) == len(described) else names
    return {index: str(names.get(index, f"LABEL_{index}")) for index in range(num_labels)}


def config_from_timm(timm_config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """
    The fields of `CrossViTConfig` for a model of timm.

    Args:
        timm_config: timm's `config.json`.
        name: The folder or repository that it is from, for errors.

    Raises:
        ValueError: If it is of another model, or has something that this package cannot compute.
    """
    architecture = timm_config["architecture"]
    if architecture not in CROSSVIT_VARIANTS:
        raise ValueError(
            f"{name} is timm's {architecture}, and not a CrossViT. Load it with transformers' Auto classes, such as "
            f"`AutoModelForImageClassification.from_pretrained({name!r})`, or with `timm.create_model`."
        )
    arguments = dict(timm_config.get("model_args") or {})
    fields = dict(CROSSVIT_VARIANTS[architecture])
    first, *_ = default_sizes = fields["image_sizes"]
    fields |= {field: arguments.pop(key) for key, field in _FIELDS.items() if arguments.get(key) is not None}
    fields["num_channels"] = timm_input_size(timm_config)[0]
    if mlp_ratio := arguments.pop("mlp_ratio", None):
        fields["mlp_ratios"] = mlp_ratio[:-1]  # timm does not use the last one
    if depth := arguments.pop("depth", None):
        (*depths, fusion_layers), *others = depth
        if any(list(stage) != list(depth[0]) for stage in others):
            raise ValueError(
                f"{name} has stages of different depths ({depth}), which `CrossViTConfig` has no field for."
            )
        if fusion_layers:
            raise ValueError(
                f"{name} has a list of fusion layers (depth {depth}). `crossvit.convert_checkpoint` reads its weights, with `config=`."
            )
        fields |= {"num_stages": len(depth), "depths": depths}
    scales = arguments.pop("img_scale", None) or [size / first for size in default_sizes]
    fields["image_sizes"] = _image_sizes(timm_config, fields.get("patch_sizes", [12, 16]), scales, name)

    pretrained_cfg = timm_pretrained_cfg(timm_config)
    num_labels = timm_config.get("num_classes", arguments.get("num_classes", pretrained_cfg.get("num_classes")))
    if ignored := [f"{key}={arguments[key]}" for key in _TRAINING_ALONE if arguments.get(key)]:
        logger.warning_once(
            f"{name} was trained by timm with {', '.join(ignored)}, which `CrossViTConfig` has no field for. Inference is the same; to train "
            "with dropout, set `hidden_dropout_prob`."
        )
    arguments.setdefault("global_pool", timm_config.get("global_pool", "token"))
    foreign = {
        key: value
        for key, value in arguments.items()
        if key not in ("num_classes", "img_size", "in_chans", *_TRAINING_ALONE)
        and value
        and (key, value) != ("global_pool", "token")
    }
    if foreign:
        raise ValueError(
            f"{name} was made by timm with {', '.join(f'{key}={value!r}' for key, value in foreign.items())}, which "
            "`CrossViTConfig` has no field for. Use timm for it."
        )
    if class_names := _class_names(timm_config, num_labels, name):
        fields |= {"id2label": class_names, "label2id": {label: index for index, label in class_names.items()}}
    else:
        fields["num_labels"] = num_labels
    return fields


def crossvit_config(config_dict: Mapping[str, Any], name: str, model_type: str) -> dict[str, Any]:
    """
    The fields of `CrossViTConfig` from any `config.json`: its own, or timm's of a CrossViT.

    Args:
        config_dict: The content of the `config.json`.
        name: The folder or repository that it is from, for errors.
        model_type: The expected one.

    Raises:
        ValueError: If it is of anything else, because its weights would be left out and the model would be random.
    """
    if is_timm_config(config_dict):
        try:
            return {**config_from_timm(config_dict, name), "model_type": model_type}
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(
                f"The config.json of {name} is not as timm writes it: {type(error).__name__} {error}."
            ) from error
    # A model around this one, such as UperNet, has the configuration inside; transformers finds it there.
    parts = [config_dict, *(value for value in config_dict.values() if isinstance(value, Mapping))]
    if any(part.get("model_type") == model_type for part in parts):
        return dict(config_dict)
    if found := config_dict.get("model_type"):
        raise ValueError(
            f"{name} is a model of type {found!r}, and not a CrossViT ({model_type!r}). Load it with transformers' Auto classes, such "
            f"as `AutoModel.from_pretrained({name!r})`."
        )
    raise ValueError(
        f"The config.json of {name} has neither a `model_type` nor timm's `architecture`, so it does not describe a CrossViT. If you wrote it "
        f'for CrossViTConfig, add `"model_type": "{model_type}"`.'
    )


__all__ = ["config_from_timm", "crossvit_config", "is_timm_config", "timm_input_size", "timm_pretrained_cfg"]
