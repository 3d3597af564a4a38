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
The fused form of a layer, a faster way to the same numbers at inference. It travels with every saved model.

    self-attention       q   k   v   attention   o             MLP       fc1   GELU   fc2
    its fused form      [q   k   v]  attention   o             its own  [fc1   GELU]  fc2

Each bracket is one operation. On a CPU, every matrix product takes its weight in the layout of oneDNN, PyTorch's library for neural
networks, which otherwise is made again in each call or not at all. A layer runs its norms and these two halves as functions and not as
calls of modules, because the calls take longer than the work where a batch is small.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn
from transformers.activations import GELUActivation


if TYPE_CHECKING:
    from transformers import PreTrainedModel
    from typing_extensions import Self
else:
    PreTrainedModel = object  # The mixin below names it for type checkers.


def product_dtype(tokens: torch.Tensor) -> torch.dtype:
    """The dtype of these tokens in a matrix product: autocast's, where it is on, and else their own."""
    device_type = tokens.device.type
    is_on = torch.amp.is_autocast_available(device_type) and torch.is_autocast_enabled(device_type)
    # Autocast leaves float64 as it is.
    return torch.get_autocast_dtype(device_type) if is_on and tokens.dtype != torch.float64 else tokens.dtype


class CrossViTDropout(nn.Dropout):
    """Dropout that starts no operation where it changes nothing: for a small batch, starts take longer than the work does."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden_states) if self.training and self.p > 0 else hidden_states


def has_hooks(module: nn.Module) -> bool:
    """Whether something watches the calls of this module."""
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


# Dropout and GELU have none. Quantised and sharded weights have a type of their own.
_PLAIN_WEIGHTS = (nn.Parameter, torch.Tensor, type(None))


def is_plain(module: nn.Module, module_class: type[nn.Module]) -> bool:
    """
    Whether a call of the module does what this class does and nothing else, so that its parameters may be used without a call. Adapters,
    quantisation and tensor parallelism bring another class of the module or of its weight. Everything else uses hooks; accelerate, which
    fetches weights from elsewhere for the time of a call, gives the module a `forward` of its own.
    """
    # This runs in every forward pass, and the dictionary of the parameters answers five times as fast as the attribute does.
    return (
        type(module) is module_class
        and not has_hooks(module)
        and "forward" not in module.__dict__
        and type(module._parameters.get("weight")) in _PLAIN_WEIGHTS
    )


def is_plain_linear(module: nn.Module) -> bool:
    """Whether a linear layer does nothing but multiply by its weight, which it has at the moment, and add its bias."""
    return is_plain(module, nn.Linear) and module._parameters.get("weight") is not None


def _onednn_packs(weight: torch.Tensor) -> bool:
    """Whether oneDNN has a layout of its own for this weight."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


def normalize(tokens: torch.Tensor, layernorm: nn.LayerNorm) -> torch.Tensor:
    """What a call of the LayerNorm returns."""
    return torch.layer_norm(tokens, layernorm.normalized_shape, layernorm.weight, layernorm.bias, layernorm.eps)


class _Product:
    """
    The matrix product of one or several linear layers that read the same tokens: (B, T, C in) to (B, T, sum of C out). It keeps a copy of
    their weights in the order or the layout that is fastest, and renews it when the weights have changed.
    """

    def __init__(self) -> None:
        self._versions: list[tuple[int, int]] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_versions": None}  # oneDNN's layout cannot be saved. A copy of the model makes its own.

    def _prepare(self, linears: tuple[nn.Linear, ...]) -> None:
        parameters = [
            parameter for linear in linears for parameter in linear._parameters.values() if parameter is not None
        ]
        versions = [(parameter.data_ptr(), parameter._version) for parameter in parameters]
        if versions == self._versions:
            return
        # Kept, so that no other tensor can get their memory and be taken for them.
        self._sources = [parameter.detach() for parameter in parameters]
        weight, bias = linears[0].weight.detach(), linears[0].bias
        if len(linears) > 1:
            weight = torch.cat([linear.weight.detach() for linear in linears])
            bias = None if bias is None else torch.cat([linear.bias.detach() for linear in linears])
        self._is_packed = _onednn_packs(weight)
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight) if self._is_packed else weight
        self._bias = bias
        self._versions = versions

    def __call__(self, tokens: torch.Tensor, *linears: nn.Linear, gelu: bool = False) -> torch.Tensor:
        self._prepare(linears)
        if self._is_packed:
            activation, algorithm = ("gelu", "none") if gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(tokens, self._weight, self._bias, activation, [], algorithm)
        product = nn.functional.linear(tokens, self._weight, self._bias)
        return torch.ops.aten.gelu_(product) if gelu else product


class FusedForward(ABC):
    """
    Takes the place of a module's `forward`. Where the modules inside must be called, the module's own `forward` does it: for gradients,
    dropout, autocast, compilation and export, and where one of them has got an adapter or a hook since.
    """

    # The modules inside that it does not call.
    inner_classes: ClassVar[dict[str, type[nn.Module]]]

    def __init__(self, module: nn.Module):
        self.module = module

    def find_obstacle(self) -> str | None:
        """What keeps the module from its fused form, or None."""
        for name, inner_class in self.inner_classes.items():
            inner = self.module._modules[name]
            if not (is_plain_linear(inner) if inner_class is nn.Linear else is_plain(inner, inner_class)):
                return (
                    f"its {name} is a {type(inner).__name__} and should be a {inner_class.__name__} without an adapter, a hook, shards, and "
                    "quantised or offloaded weights"
                )
            if inner_class is nn.Linear and inner.weight.is_inference():
                return f"the weight of its {name} was made in `torch.inference_mode()`, where changes are not recorded"
        return None

    def is_possible(self, tokens: torch.Tensor) -> bool:
        return not (
            torch.is_grad_enabled()
            or self.module.training
            or self.module.dropout.training
            or torch.compiler.is_compiling()
            or torch.jit.is_tracing()
            or product_dtype(tokens) != tokens.dtype
            or self.find_obstacle()
        )

    @abstractmethod
    def fused(self, tokens: torch.Tensor, **kwargs: Any) -> Any:
        """What the module's `forward` returns, for the same arguments."""

    def __call__(self, tokens: torch.Tensor, **kwargs: Any) -> Any:
        if self.is_possible(tokens):
            return self.fused(tokens, **kwargs)
        return type(self.module).forward(self.module, tokens, **kwargs)


class FusedSelfAttention(FusedForward):
    """Instead of `CrossViTSelfAttention.forward`."""

    inner_classes = {**dict.fromkeys(("q_proj", "k_proj", "v_proj", "o_proj"), nn.Linear), "dropout": CrossViTDropout}

    def __init__(self, module: nn.Module):
        super().__init__(module)
        self.qkv, self.output = _Product(), _Product()

    def fused(self, tokens: torch.Tensor, **kwargs: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        attention = self.module
        qkv = self.qkv(tokens, attention.q_proj, attention.k_proj, attention.v_proj)  # (B, T, 3 C)
        qkv = qkv.view((*tokens.shape[:2], 3, -1, attention.head_dim)).permute(2, 0, 3, 1, 4)  # (3, B, h, T, d)
        if not kwargs and attention.implementation() == "sdpa":
            # What the implementation calls, without its questions about masks and caches.
            attn_output = nn.functional.scaled_dot_product_attention(*qkv.unbind(0), scale=attention.scaling)
            attn_output, attn_weights = attn_output.transpose(1, 2).flatten(2), None  # (B, h, T, d) -> (B, T, C)
        else:
            attn_output, attn_weights = attention.attend(*qkv.unbind(0), **kwargs)
        return self.output(attn_output, attention.o_proj), attn_weights


class FusedMLP(FusedForward):
    """Instead of `CrossViTMLP.forward`."""

    inner_classes = {"fc1": nn.Linear, "activation_fn": GELUActivation, "fc2": nn.Linear, "dropout": CrossViTDropout}

    def __init__(self, module: nn.Module):
        super().__init__(module)
        self.first, self.second = _Product(), _Product()

    def fused(self, tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return self.second(self.first(tokens, self.module.fc1, gelu=True), self.module.fc2)


class FusedLayer(FusedForward):
    """
    Instead of `CrossViTLayer.forward`: the fused forms of its two halves, without a call of the modules inside. Calls take longer than
    the work on a few tokens does, and a GPU waits for them.
    """

    # Nothing inside keeps the whole layer from its form: where it is not possible, those of the halves may be.
    inner_classes = {}

    def is_possible(self, tokens: torch.Tensor) -> bool:
        inner = self.module._modules
        return (
            is_plain(inner["layernorm_before"], nn.LayerNorm)
            and is_plain(inner["layernorm_after"], nn.LayerNorm)
            and not inner["drop_path"].training
            and not has_hooks(inner["drop_path"])
            and all(self.half_is_possible(inner[name], tokens) for name in ("attention", "mlp"))
        )

    def half_is_possible(self, half: nn.Module, tokens: torch.Tensor) -> bool:
        forward = half.__dict__.get("forward")
        return isinstance(forward, FusedForward) and not has_hooks(half) and forward.is_possible(tokens)

    def fused(self, tokens: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        inner = self.module._modules
        attention, mlp = inner["attention"].forward, inner["mlp"].forward
        tokens = tokens + attention.fused(normalize(tokens, inner["layernorm_before"]), **kwargs)[0]
        return tokens + mlp.fused(normalize(tokens, inner["layernorm_after"]))


class CrossViTFusedMixin(PreTrainedModel):
    """`fuse_for_inference` and its reverse for every class of the model."""

    # The modules that have a fused form, and what takes the place of their `forward`.
    _fused_forwards: ClassVar[dict[type[nn.Module], Callable[[nn.Module], FusedForward]]] = {}

    def fuse_for_inference(self) -> "Self":
        """
        Makes inference faster, with the same numbers up to rounding: q, k and v become one matrix product, the modules inside a layer are
        not called, and on a CPU the weights are also kept in the layout of oneDNN, which doubles the memory for them.

        All else stays as it was. Weights that are loaded, moved or trained later take effect. What the fused form cannot do takes the
        ordinary one by itself: gradients, dropout, autocast, `torch.compile`, export, and layers that get an adapter or a hook later.
        `output_attentions`, saving and `deepcopy` work. `unfuse` is the reverse.

        Returns:
            The model itself.

        Raises:
            ValueError: If a layer has no fused form now, because of an adapter, a hook, quantisation, offloading, tensor parallelism, or
                another activation than GELU. The model is then as it was.

        Example:

        ```python
        >>> from crossvit import CrossViTConfig, CrossViTForImageClassification

        >>> config = CrossViTConfig.from_variant("crossvit_tiny_240")
        >>> model = CrossViTForImageClassification(config).eval().fuse_for_inference()
        ```"""
        self.unfuse()
        forwards = {}
        for name, module in self.named_modules():
            if make_forward := self._fused_forwards.get(type(module)):
                forwards[module] = make_forward(module)
                if obstacle := forwards[module].find_obstacle():
                    raise ValueError(
                        f"{name} has no fused form: {obstacle}. Merge adapters and remove hooks before `fuse_for_inference`, or use the model "
                        "as it is."
                    )
        for module, forward in forwards.items():
            module.forward = forward
        return self

    def unfuse(self) -> "Self":
        """Undoes `fuse_for_inference` and returns the model itself."""
        for module in self.modules():
            if isinstance(module.__dict__.get("forward"), FusedForward):
                del module.forward
        return self
