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
Checkpoints of timm and of the authors' release (IBM/CrossViT), in files or in memory, in both directions. The table of their names is
in `names.py`.
"""

import argparse
import math
import os
import re
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from transformers.core_model_loading import revert_weight_conversion
from transformers.utils import logging

from crossvit.configuration import CROSSVIT_VARIANTS, CrossViTConfig
from crossvit.modeling_crossvit import CrossViTForImageClassification
from crossvit.weights.names import ALL_NAMES


logger = logging.get_logger(__name__)

# Where a whole training checkpoint keeps its weights, in timm's order. The first two are averages over the steps of the training (EMA).
_EMA_ENTRIES, _ENTRIES = ("state_dict_ema", "model_ema"), ("state_dict", "model")


def _timm_key(key: str) -> str:
    """One spelling, timm's, for the keys of timm and of IBM's release."""
    key = re.sub(r"^(cls_token|pos_embed)\.(\d+)$", r"\1_\2", key)  # IBM: a ParameterList
    # With `depth[k][-1]` of 1 or more the fusion is a list of layers. Every model has the first of them; the others are refinements.
    key = re.sub(r"(\.fusion\.\d+)\.0\.", r"\1.", key)
    return re.sub(r"(\.fusion\.\d+)\.(\d+)\.", lambda match: f"{match[1]}.refinements.{int(match[2]) - 1}.", key)


def _unwrap(state_dict: Mapping[str, torch.Tensor], use_ema: bool) -> tuple[dict[str, torch.Tensor], str]:
    """
    The tensors of one model without what its wrappers have put in front of their names, such as `module.` of DistributedDataParallel,
    `_orig_mod.` of `torch.compile`, and `model.` or `net.` of a LightningModule; and what stood in front.
    """
    # Layers that were compiled one by one have theirs inside of the names.
    state_dict = {key.replace("_orig_mod.", ""): tensor for key, tensor in state_dict.items()}
    matches = [re.fullmatch(r"(|.*\.)cls_token[._]0", key) for key in state_dict]
    found = chosen = [match[1] for match in matches if match]
    if len(found) > 1:
        chosen = [prefix for prefix in found if bool(re.search(r"(^|[._])ema[._]", prefix)) == use_ema]
    if len(found) > 1 and len(chosen) != 1:
        raise ValueError(
            f"The checkpoint holds several models: {', '.join(f'{prefix}*' for prefix in found)}. Pass the state dict of one of them to "
            "`convert_checkpoint` in Python."
        )
    prefix = "".join(chosen)
    longer = tuple(other for other in found if len(other) > len(prefix))
    taken = [key for key in state_dict if key.startswith(prefix) and not key.startswith(longer)]
    if others := sorted(state_dict.keys() - set(taken)):
        logger.warning(
            f"{len(others)} tensors of the checkpoint are left out, because they do not belong to the model {prefix}*: "
            f"{', '.join(others[:3])}{' ...' * (len(others) > 3)}"
        )
    return {key.removeprefix(prefix): state_dict[key] for key in taken}, prefix


def read_checkpoint(
    source: Mapping | nn.Module | str | os.PathLike, use_ema: bool = True
) -> tuple[dict[str, torch.Tensor], str]:
    """
    The tensors of a source, as `convert_checkpoint` takes it, under timm's names; and the place in the source that they are from, such as
    `"state_dict_ema"`, or `""` if it holds nothing else.
    """
    if isinstance(source, nn.Module):
        source = source.state_dict()
    elif isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"No checkpoint at {path!r}: expected a .safetensors or .pth file.")
        try:
            if path.endswith(".safetensors"):
                source = load_file(path)
            else:
                # Training checkpoints hold their arguments in a Namespace. It is plain data, so it may be loaded.
                with torch.serialization.safe_globals([argparse.Namespace]):
                    source = torch.load(path, map_location="cpu", weights_only=True)
        except SafetensorError as error:
            raise ValueError(
                f"{path!r} is not a whole safetensors file ({error}). Download or copy it again."
            ) from error
        except Exception as error:
            raise ValueError(
                f"{path!r} cannot be read as a PyTorch checkpoint with `weights_only=True`, which loads tensors and plain "
                f"containers and never runs code from the file: {error}"
            ) from error
    entry = ""
    if isinstance(source, Mapping):
        for name in (*(_EMA_ENTRIES if use_ema else ()), *_ENTRIES):
            if isinstance(source.get(name), Mapping):
                source, entry = source[name], name
                break
    if not isinstance(source, Mapping) or not all(isinstance(value, torch.Tensor) for value in source.values()):
        raise ValueError(
            f"Expected a state dict (names and tensors), a module, or the path of a .safetensors or .pth file with one, got "
            f"{type(source).__name__}."
        )
    state_dict, prefix = _unwrap(source, use_ema)
    place = " ".join(filter(None, (entry, prefix and f"{prefix}*")))
    return {_timm_key(key): tensor for key, tensor in state_dict.items()}, place


def _architecture(state_dict: dict[str, torch.Tensor]) -> dict | None:
    """The sizes by which the variants differ, read off the shapes of the weights; `None` if this is not a CrossViT with two branches."""
    try:
        return {
            "hidden_sizes": [state_dict[f"cls_token_{branch}"].shape[-1] for branch in (0, 1)],
            "depths": [len([key for key in state_dict if re.match(rf"blocks\.0\.blocks\.{branch}\.\d+\.norm1\.weight", key)])
                       for branch in (0, 1)],
            "intermediate_sizes": [state_dict[f"blocks.0.blocks.{branch}.0.mlp.fc1.weight"].shape[0] for branch in (0, 1)],
            "positions": [state_dict[f"pos_embed_{branch}"].shape[1] for branch in (0, 1)],
            "use_convolutional_stem": "patch_embed.0.proj.4.weight" in state_dict,
        }  # fmt: skip
    except KeyError:
        return None


def _architecture_of_variant(variant: str) -> dict:
    config = CrossViTConfig.from_variant(variant)
    return {
        "hidden_sizes": config.hidden_sizes,
        "depths": config.depths,
        "intermediate_sizes": [int(width * ratio) for width, ratio in zip(config.hidden_sizes, config.mlp_ratios)],
        "positions": [1 + math.prod(config.branch_grid_size(branch)) for branch in range(config.num_branches)],
        "use_convolutional_stem": config.use_convolutional_stem,
    }


def find_variant(state_dict: dict[str, torch.Tensor]) -> str:
    """The name of the published variant that has the shapes of these tensors, which are under timm's names."""
    architecture = _architecture(state_dict)
    if architecture is None:
        keys = list(state_dict)
        raise ValueError(
            "This is not a CrossViT checkpoint of timm or IBM: it has no `cls_token_0`, `cls_token_1` and "
            f"`blocks.0.blocks.*` among its {len(keys)} tensors, which begin with {', '.join(keys[:5])}."
        )
    for variant in CROSSVIT_VARIANTS:
        if _architecture_of_variant(variant) == architecture:
            return variant
    raise ValueError(
        f"No published variant has the shapes of this checkpoint: {architecture}. In Python, `convert_checkpoint` takes its architecture: "
        "`config=CrossViTConfig(...)`."
    )


def to_timm_state_dict(
    model: CrossViTForImageClassification, state_dict: Mapping[str, torch.Tensor] | None = None
) -> dict[str, torch.Tensor]:
    """
    The weights of a model under timm's names, query, key and value of each self-attention joined.

    Args:
        model: The model that the tensors belong to.
        state_dict: Tensors under the names of `model`'s parameters, such as its gradients. By default its weights.
    """
    # transformers reverses what a model was loaded with; this stands for a model that was loaded from timm's names.
    loaded_from_timm: Any = SimpleNamespace(config=model.config, _weight_conversions=ALL_NAMES)
    state_dict = dict(model.state_dict() if state_dict is None else state_dict)
    state_dict = revert_weight_conversion(loaded_from_timm, state_dict)
    state_dict = {key.removeprefix("crossvit."): tensor for key, tensor in state_dict.items()}
    # timm keeps the fusion as a list where it has more than one layer.
    if model.config.num_fusion_layers > 1:
        state_dict = {
            re.sub(r"(\.fusion\.\d+)\.(?!refinements)", r"\1.0.", key): value for key, value in state_dict.items()
        }
        state_dict = {
            re.sub(
                r"(\.fusion\.\d+)\.refinements\.(\d+)\.", lambda match: f"{match[1]}.{int(match[2]) + 1}.", key
            ): value
            for key, value in state_dict.items()
        }
    return state_dict


def _check_fit(state_dict: dict[str, torch.Tensor], config: CrossViTConfig) -> None:
    """Raises a ValueError that lists every name and shape in which the checkpoint differs from what the configuration needs."""
    with torch.device("meta"):
        model = CrossViTForImageClassification(config)
    expected = {_timm_key(key): tensor.shape for key, tensor in to_timm_state_dict(model).items()}
    found = {key: tensor.shape for key, tensor in state_dict.items()}
    problems = (
        [f"{key}: missing, expected shape {tuple(shape)}" for key, shape in expected.items() if key not in found]
        + [
            f"{key}: not part of the model, shape {tuple(shape)}"
            for key, shape in found.items()
            if key not in expected
        ]
        + [
            f"{key}: shape {tuple(found[key])}, expected {tuple(shape)}"
            for key, shape in expected.items()
            if key in found and found[key] != shape
        ]
    )
    if problems:
        raise ValueError(
            f"The checkpoint does not fit the configuration; {len(problems)} of its tensors differ:\n  "
            + "\n  ".join(problems)
            + "\nLeave the variant out, and it is found from the shapes. An architecture of its own needs `config=CrossViTConfig(...)` of "
            "`convert_checkpoint` in Python."
        )


def convert_checkpoint(
    source: Mapping | nn.Module | str | os.PathLike,
    variant: str | None = None,
    config: CrossViTConfig | None = None,
    use_ema: bool = True,
) -> CrossViTForImageClassification:
    """
    A transformers model from a checkpoint of timm or of the authors' release.

    Args:
        source: A state dict, a module (as `timm.create_model` returns), or the path of a `.safetensors` or `.pth` file; the
            latter may be a whole training checkpoint, and is read with `weights_only=True`.
        variant: Name of a published variant (`CROSSVIT_VARIANTS`). By default it is found from the shapes.
        config: The configuration of a model that is none of these: own depths, widths, image sizes or more branches.
        use_ema: Whether the averaged weights (EMA) of a training checkpoint are taken, if it has them, as timm does it; otherwise those of
            the last step.

    Returns:
        The model in evaluation mode, with the dtype of the checkpoint.

    Raises:
        FileNotFoundError: If there is no file at the path.
        ValueError: If the file cannot be read, no variant has these shapes, or a tensor does not fit; all that differ are
            listed and nothing is dropped silently.
    """
    if variant is not None and config is not None:
        raise ValueError(f"Pass either `variant` or `config`, got both: {variant!r} and a {type(config).__name__}.")
    state_dict, _ = read_checkpoint(source, use_ema)
    if config is None:
        variant = variant or find_variant(state_dict)
        overrides = {}
        if "head.0.weight" in state_dict:
            overrides["num_labels"] = state_dict["head.0.weight"].shape[0]
        for first_convolution in ("patch_embed.0.proj.weight", "patch_embed.0.proj.0.weight"):
            if first_convolution in state_dict:
                overrides["num_channels"] = state_dict[first_convolution].shape[1]
        config = CrossViTConfig.from_variant(variant, **overrides)
    _check_fit(state_dict, config)
    model = CrossViTForImageClassification.from_pretrained(None, config=config, state_dict=state_dict)
    # The loader keeps the tensors that it is given. Without a copy, training this model would change the source.
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


__all__ = ["convert_checkpoint", "find_variant", "read_checkpoint", "to_timm_state_dict"]
