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
`optimize(model)`: a snapshot of a model that only predicts, faster and with the same numbers up to rounding.

    a layer              q   k   v   attention   o             fc1   GELU   fc2
    here                [q   k   v]  attention   o            [fc1   GELU]  fc2
    a cross-attention    q   k   v   attention   o             of the CLS token alone
    here                 q  (W_k^T q) . x   softmax   W_v (sum of x)   o       without keys and values of all tokens

Each bracket is one operation, and no module is called, because on few tokens the calls take longer than the work. On a CPU the weights are
kept in the layout of oneDNN, PyTorch's library for neural networks, which otherwise makes it again in each call or not at all. On a GPU all
operations of a shape are one CUDA graph, in which the branches run side by side.
"""

import copy
import inspect
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

import torch
from torch import nn
from torch.autograd import forward_ad
from torch.nn.modules import module as torch_module
from transformers import PreTrainedModel
from transformers.activations import GELUActivation
from transformers.utils.generic import can_return_tuple

from crossvit import modeling_crossvit as crossvit
from crossvit.inference.graphs import CudaGraphs
from crossvit.modeling_crossvit import (
    CrossViTAttention,
    CrossViTBackboneOutput,
    CrossViTClsRefinement,
    CrossViTFusion,
    CrossViTImageClassifierOutput,
    CrossViTLayer,
    CrossViTModelOutput,
    CrossViTProjection,
)


AnyModel = TypeVar("AnyModel", bound=PreTrainedModel)

# Weights of adapters, quantisation and tensor parallelism have a type of their own.
_PLAIN = (nn.Parameter, torch.Tensor)

# Everything in `torch.nn.Module` that watches or changes the calls of one module, and those of all modules.
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_GLOBAL_HOOKS = [getattr(torch_module, f"_global{name}") for name in _HOOKS]


def allow_recompilations(limit: int) -> dict[str, int]:
    """Arguments of `torch.compile` for a function that is compiled for so many shapes, where PyTorch's own limit is 8."""
    if "recompile_limit" in inspect.signature(torch.compile).parameters:
        return {"recompile_limit": limit}
    # Before PyTorch 2.12 there is one limit for everything in a process, and 2.6 calls it by another name.
    options = torch._dynamo.config
    name = "recompile_limit" if hasattr(options, "recompile_limit") else "cache_size_limit"
    setattr(options, name, max(getattr(options, name), limit))
    return {}


def _onednn_packs(weight: torch.Tensor) -> bool:
    """Whether oneDNN has a layout of its own for this weight."""
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )


class _Norm:
    """A LayerNorm without the call of its module."""

    def __init__(self, layernorm: nn.LayerNorm):
        self.arguments = (layernorm.normalized_shape, layernorm.weight, layernorm.bias, layernorm.eps)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.layer_norm(tokens, *self.arguments)


class _Linear:
    """One or several linear layers that read the same tokens as one product: (B, T, C in) to (B, T, sum of C out)."""

    def __init__(self, *linears: nn.Linear, pack: bool = True):
        weight, bias = linears[0].weight, linears[0].bias
        if len(linears) > 1:
            weight = torch.cat([linear.weight for linear in linears])
            if any(linear.bias is not None for linear in linears):
                # One of q, k and v may lack a bias that the others have.
                zeros = weight.new_zeros(len(linears[0].weight))
                bias = torch.cat([zeros if linear.bias is None else linear.bias for linear in linears])
        self.is_packed = pack and _onednn_packs(weight)
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight.detach()) if self.is_packed else weight.detach()
        self.bias = None if bias is None else bias.detach()

    def __call__(self, tokens: torch.Tensor, gelu: bool = False) -> torch.Tensor:
        if self.is_packed:
            activation, algorithm = ("gelu", "none") if gelu else ("none", "")
            return torch.ops.mkldnn._linear_pointwise(tokens, self.weight, self.bias, activation, [], algorithm)
        product = nn.functional.linear(tokens, self.weight, self.bias)
        return torch.ops.aten.gelu_(product) if gelu else product


class _Layer:
    """`CrossViTLayer`: (B, T, C) to (B, T, C). `torch.compile` cannot read weights that are packed for oneDNN."""

    def __init__(self, layer: CrossViTLayer, pack: bool = True):
        attention, mlp = layer.attention, layer.mlp
        self.head_dim, self.scaling = attention.head_dim, attention.scaling
        self.norm_before, self.norm_after = _Norm(layer.layernorm_before), _Norm(layer.layernorm_after)
        self.qkv = _Linear(attention.q_proj, attention.k_proj, attention.v_proj, pack=pack)
        self.output, self.first, self.second = (
            _Linear(linear, pack=pack) for linear in (attention.o_proj, mlp.fc1, mlp.fc2)
        )
        self.activation: Callable | None = None if type(mlp.activation_fn) is GELUActivation else mlp.activation_fn

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        qkv = self.qkv(self.norm_before(tokens))  # (B, T, 3 C)
        qkv = qkv.view((*tokens.shape[:2], 3, -1, self.head_dim)).permute(2, 0, 3, 1, 4)  # (3, B, h, T, d)
        attended = nn.functional.scaled_dot_product_attention(*qkv.unbind(0), scale=self.scaling)
        tokens = tokens + self.output(attended.transpose(1, 2).flatten(2))  # (B, h, T, d) -> (B, T, C)
        if self.activation is None:
            return tokens + self.second(self.first(self.norm_after(tokens), gelu=True))
        return tokens + self.second(self.activation(self.first(self.norm_after(tokens))))


class _Projection:
    """`CrossViTProjection`: a CLS token (B, 1, C) to the width of another branch."""

    def __init__(self, projection: CrossViTProjection):
        self.norm, activation_fn = _Norm(projection.layernorm), projection.activation_fn
        self.activation = nn.functional.gelu if type(activation_fn) is GELUActivation else activation_fn
        self.dense = _Linear(projection.dense)

    def __call__(self, cls_token: torch.Tensor) -> torch.Tensor:
        return self.dense(self.activation(self.norm(cls_token)))


class _CrossAttention:
    """
    `CrossViTAttention` of the CLS token to all tokens, (B, T, C) to (B, 1, C), without the keys and values of all tokens. In each head

        q . (W_k x + b_k) = (W_k^T q) . x + q . b_k    and    sum_t a_t (W_v x_t + b_v) = W_v (sum_t a_t x_t) + b_v

    so that the two matrices are multiplied by one vector and not by every token. The softmax cancels q . b_k, which is the same for every
    token.
    """

    def __init__(self, attention: CrossViTAttention):
        self.head_dim, self.scaling = attention.head_dim, attention.scaling
        self.query, self.output = _Linear(attention.q_proj), _Linear(attention.o_proj)
        head_shape = (-1, self.head_dim, attention.v_proj.in_features)  # (C, C) -> (h, d, C)
        self.key_weight = attention.k_proj.weight.detach().view(head_shape)
        self.value_weight = attention.v_proj.weight.detach().view(head_shape).transpose(1, 2)
        bias = attention.v_proj.bias
        self.value_bias = None if bias is None else bias.detach().view(-1, 1, self.head_dim)  # (C) -> (h, 1, d)

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        query = self.query(tokens[:, 0].contiguous()) * self.scaling  # (B, C)
        query = query.view(len(tokens), -1, self.head_dim).transpose(0, 1)  # (h, B, d)
        token_queries = torch.bmm(query, self.key_weight).transpose(0, 1)  # (B, h, C)
        weights = torch.bmm(token_queries, tokens.transpose(1, 2)).softmax(dim=-1)  # (B, h, T)
        pooled = torch.bmm(weights, tokens).transpose(0, 1)  # (h, B, C)
        if self.value_bias is None:
            attended = torch.bmm(pooled, self.value_weight)  # (h, B, d)
        else:
            attended = torch.baddbmm(self.value_bias, pooled, self.value_weight)
        return self.output(attended.transpose(0, 1).flatten(1)).unsqueeze(1)  # (h, B, d) -> (B, 1, C)


class _Refinement:
    """`CrossViTClsRefinement`: a single token attends to itself, so that what it gets is its own value."""

    def __init__(self, refinement: CrossViTClsRefinement):
        attention = refinement.cls_attention
        self.norm = _Norm(refinement.layernorm)
        self.value, self.output = _Linear(attention.v_proj), _Linear(attention.o_proj)

    def __call__(self, cls_token: torch.Tensor) -> torch.Tensor:
        return cls_token + self.output(self.value(self.norm(cls_token)))


class _Fusion:
    """`CrossViTFusion`: (B, T, C) of a branch and of the next one to the new CLS token of the branch (B, 1, C)."""

    def __init__(self, fusion: CrossViTFusion):
        self.input, self.norm = _Projection(fusion.input_projection), _Norm(fusion.layernorm)
        self.attention = _CrossAttention(fusion.cross_attention)
        self.refinements = [_Refinement(refinement) for refinement in fusion.refinements]
        self.output = _Projection(fusion.output_projection)

    def __call__(self, own: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        cls_token = self.input(own[:, :1])  # (B, 1, C) -> (B, 1, C of the other)
        tokens = self.norm(other)
        tokens[:, :1] = self.norm(
            cls_token
        )  # LayerNorm is token by token, so that the patches need no copy to stand beside this one
        cls_token = cls_token + self.attention(tokens)
        for refinement in self.refinements:
            cls_token = refinement(cls_token)
        return self.output(cls_token)


class _Stages:
    """
    All stages of a model: the tokens of every branch, each (B, T, C), to those after each stage.

    Args:
        stages: Those of the ordinary model.
        compile: Whether the layers are compiled. All layers of a branch share one graph for each shape of its tokens.
    """

    def __init__(self, stages: nn.ModuleList, compile: bool):
        self.stages = [
            (
                [[_Layer(layer, pack=not compile) for layer in layers] for layers in stage.layers],
                list(map(_Fusion, stage.fusions)),
            )
            for stage in stages
        ]
        self.call_layer: Callable[[_Layer, torch.Tensor], torch.Tensor] = _Layer.__call__
        if compile:
            options: dict[str, Any] = allow_recompilations(CudaGraphs.LIMIT * len(stages[0].layers))
            self.call_layer = torch.compile(self.call_layer, dynamic=False, **options)
        self.streams: list[torch.cuda.Stream] = []

    def __call__(self, tokens: list[torch.Tensor]) -> list[list[torch.Tensor]]:
        after_stages = []
        for branches, fusions in self.stages:
            tokens = self._side_by_side(self._run_layers, branches, tokens)
            cls_tokens = self._side_by_side(
                lambda fusion, *pair: fusion(*pair), fusions, tokens, tokens[1:] + tokens[:1]
            )
            # The stage owns its tokens, and all fusions have read them.
            for hidden_states, cls_token in zip(tokens, cls_tokens):
                hidden_states[:, :1] = cls_token
            after_stages.append(tokens)
        return after_stages

    def _side_by_side(self, function: Callable[..., torch.Tensor], *arguments: list[Any]) -> list[torch.Tensor]:
        """
        The function for each branch. While a CUDA graph is recorded each branch has a stream, so that the GPU works on all at once. What the
        streams exchange is held by this frame and the caller's until they have met again, so that its memory is not given away before.
        """
        calls = list(zip(*arguments))
        if not (arguments[-1][0].is_cuda and torch.cuda.is_current_stream_capturing()):
            return [function(*call) for call in calls]
        main = torch.cuda.current_stream()
        while len(self.streams) < len(calls) - 1:
            self.streams.append(torch.cuda.Stream())
        results = []
        for stream, call in zip(self.streams, calls):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                results.append(function(*call))
        results.append(function(*calls[-1]))
        for stream in self.streams:
            main.wait_stream(stream)
        return results

    def _run_layers(self, layers: list[_Layer], hidden_states: torch.Tensor) -> torch.Tensor:
        if not layers:
            return hidden_states.clone()  # to be written to
        for layer in layers:
            hidden_states = self.call_layer(layer, hidden_states)
        return hidden_states


class OptimizedMixin(PreTrainedModel):
    """
    What all optimized models share. They have no parameters and no modules that could be changed: their weights are those of a private copy
    of the ordinary model, which answers every call that the optimized form cannot.
    """

    _ordinary: Any
    _compile: bool

    @classmethod
    def _of(cls, ordinary: PreTrainedModel, compile: bool) -> Any:
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        # The attributes of transformers: configuration, name, loss. Parameters and modules stay behind.
        model.__dict__.update({name: value for name, value in vars(ordinary).items() if name not in vars(model)})
        model.__dict__.update(_ordinary=ordinary, _compile=compile)
        model._pack()
        model.training = False
        return model

    def _pack(self) -> None:
        self.__dict__["_stages"] = _Stages(self._ordinary.base_model.stages, self._compile)
        self.__dict__["_graphs"] = CudaGraphs(self._compute) if self.device.type == "cuda" else self._compute

    def __getstate__(self) -> dict[str, Any]:
        # oneDNN's layout cannot be saved, and neither can graphs.
        return {name: value for name, value in vars(self).items() if name not in ("_stages", "_graphs")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._pack()

    def _tensors(
        self, pixel_values: torch.Tensor | None, interpolate_pos_encoding: bool | None, kwargs: dict[str, Any]
    ) -> tuple[torch.Tensor, ...] | None:
        """What the output is made of, or nothing where the ordinary model must answer."""
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return None
        config, device = self.config, self.device
        if (
            not isinstance(pixel_values, torch.Tensor)
            or pixel_values.device != device
            or not pixel_values.numel()
            or kwargs.keys() - {"return_dict", "num_items_in_batch"}
            or config.output_attentions
            or config.output_hidden_states
            or config._attn_implementation != "sdpa"  # which leaves the choice of the operations to PyTorch
            or (pixel_values.requires_grad and torch.is_grad_enabled())
            or forward_ad.unpack_dual(pixel_values).tangent is not None
            or torch._C._functorch.is_functorch_wrapped_tensor(pixel_values)
            or torch.is_autocast_enabled(device.type)
            or any(_GLOBAL_HOOKS)
        ):
            return None
        if pixel_values.is_cuda and torch.cuda.is_current_stream_capturing():
            return self._compute(
                pixel_values, interpolate_pos_encoding
            )  # becomes a part of the graph that the user records
        return self._graphs(pixel_values, interpolate_pos_encoding)

    def _tokens(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None) -> list[list[torch.Tensor]]:
        """The tokens of every branch after each stage."""
        embeddings = self._ordinary.base_model.embeddings
        return self._stages([embed(pixel_values, interpolate_pos_encoding) for embed in embeddings])

    def _compute(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None) -> tuple[torch.Tensor, ...]:
        """What the output of this class is made of. Each class has its own."""
        raise NotImplementedError

    # What PyTorch and transformers ask a model for.

    @property
    def device(self) -> torch.device:
        return self._ordinary.device

    @property
    def dtype(self) -> torch.dtype:
        return self._ordinary.dtype

    def num_parameters(self, *args: Any, **kwargs: Any) -> int:
        """Of the ordinary model."""
        return self._ordinary.num_parameters(*args, **kwargs)

    def state_dict(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """A copy of the weights, under the names of the ordinary model."""
        return {name: weight.clone() for name, weight in self._ordinary.state_dict(*args, **kwargs).items()}

    def save_pretrained(self, *args: Any, **kwargs: Any) -> Any:
        """Saves the ordinary model, which `from_pretrained` loads; `optimize` makes this one of it again."""
        return self._ordinary.save_pretrained(*args, **kwargs)

    # What would change it.

    def _refuse(self, what: str) -> NoReturn:
        raise ValueError(
            f"An optimized model cannot be {what}: it is a snapshot for inference. Do it with the model that it was made from, and call "
            "`crossvit.optimize` again."
        )

    def train(self, mode: bool = True) -> Any:
        """Refused for training; `eval` changes nothing."""
        return self._refuse("trained") if mode else self

    def requires_grad_(self, requires_grad: bool = True) -> Any:
        """Refused for training."""
        return self._refuse("trained") if requires_grad else self

    def load_state_dict(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        self._refuse("loaded into")

    def add_adapter(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused."""
        self._refuse("adapted")

    load_adapter = add_adapter

    def _replicate_for_data_parallel(self) -> NoReturn:
        self._refuse("copied to other GPUs")

    def _apply(self, function: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> Any:
        """`to`, `half`, `cuda` and the like: accepted where they change nothing."""
        weight = next(self._ordinary.parameters())
        changed = function(weight)
        if (changed.device, changed.dtype) != (weight.device, weight.dtype):
            self._refuse(f"changed from {weight.dtype} on {weight.device} to {changed.dtype} on {changed.device}")
        return self

    def __getattr__(self, name: str) -> Any:
        if name in self.__dict__.get("_ordinary", nn.Module())._modules:
            raise AttributeError(
                f"An optimized model has no `{name}`, because none of its parts is a module that could be called or changed. Use the model "
                "that it was made from."
            )
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        return f"optimized, {self.num_parameters():,} parameters, {self.dtype} on {self.device}"


# The classes have the names of the ordinary ones, because pipelines look up the name of a class to know what it is for.


class CrossViTModel(OptimizedMixin, crossvit.CrossViTModel):
    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: Any,
    ) -> CrossViTModelOutput:
        """As of the ordinary model."""
        tensors = self._tensors(pixel_values, interpolate_pos_encoding, kwargs)
        if tensors is None:
            return self._ordinary(pixel_values, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs)
        last_hidden_state, pooler_output = tensors
        return CrossViTModelOutput(last_hidden_state=last_hidden_state, pooler_output=pooler_output)

    def _compute(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None) -> tuple[torch.Tensor, ...]:
        tokens = self._tokens(pixel_values, interpolate_pos_encoding)[-1]
        hidden_states = [norm(hidden_states) for norm, hidden_states in zip(self._ordinary.layernorms, tokens)]
        return hidden_states[-1], torch.cat([hidden_states[:, 0] for hidden_states in hidden_states], dim=-1)


class CrossViTForImageClassification(OptimizedMixin, crossvit.CrossViTForImageClassification):
    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        interpolate_pos_encoding: bool | None = None,
        **kwargs: Any,
    ) -> CrossViTImageClassifierOutput:
        """As of the ordinary model."""
        tensors = self._tensors(pixel_values, interpolate_pos_encoding, kwargs)
        if tensors is None:
            return self._ordinary(
                pixel_values, labels=labels, interpolate_pos_encoding=interpolate_pos_encoding, **kwargs
            )
        (logits,) = tensors
        kwargs.pop("return_dict", None)
        loss = None if labels is None else self.loss_function(labels, logits, self.config, **kwargs)
        return CrossViTImageClassifierOutput(loss=loss, logits=logits)

    def _compute(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None) -> tuple[torch.Tensor, ...]:
        tokens = self._tokens(pixel_values, interpolate_pos_encoding)[-1]
        layernorms = self._ordinary.crossvit.layernorms
        cls_tokens = [norm(hidden_states[:, 0]) for norm, hidden_states in zip(layernorms, tokens)]
        return (self._ordinary.classifier(torch.cat(cls_tokens, dim=-1)),)


class CrossViTBackbone(OptimizedMixin, crossvit.CrossViTBackbone):
    @can_return_tuple
    def forward(self, pixel_values: torch.Tensor, **kwargs: Any) -> CrossViTBackboneOutput:
        """As of the ordinary model."""
        feature_maps = self._tensors(pixel_values, True, kwargs)
        if feature_maps is None:
            return self._ordinary(pixel_values, **kwargs)
        return CrossViTBackboneOutput(feature_maps=feature_maps)

    def _compute(self, pixel_values: torch.Tensor, interpolate_pos_encoding: bool | None) -> tuple[torch.Tensor, ...]:
        tokens = self._tokens(pixel_values, interpolate_pos_encoding)
        return self._ordinary.make_output(tokens, pixel_values).feature_maps


_CLASSES: dict[type, type[OptimizedMixin]] = {
    crossvit.CrossViTModel: CrossViTModel,
    crossvit.CrossViTForImageClassification: CrossViTForImageClassification,
    crossvit.CrossViTBackbone: CrossViTBackbone,
}


def _find_obstacle(name: str, module: nn.Module) -> str | None:
    """What of a module would be lost in the optimized form, or None."""
    if (is_linear := name.endswith(("_proj", ".fc1", ".fc2", ".dense"))) and type(module) is not nn.Linear:
        return f"is a {type(module).__name__}, expected a Linear"
    if not is_linear and not type(module).__module__.startswith(
        ("torch.nn.", "transformers.activations", "crossvit.")
    ):
        return f"is a {type(module).__name__} of another package"
    hooks = [hook for kind in _HOOKS for hook in getattr(module, kind).values()]
    # transformers leaves hooks behind after a call that asked for attentions. They do nothing in other calls.
    if any(hook.__module__ != "transformers.utils.output_capturing" for hook in hooks):
        return "has a hook"
    if "forward" in vars(module):
        return "has a `forward` of its own, as offloaded modules have"
    for parameter_name, parameter in module._parameters.items():
        if parameter is not None and (type(parameter) not in _PLAIN or parameter.is_meta):
            return f"has a {parameter_name} that is quantized, sharded or offloaded ({type(parameter).__name__} on {parameter.device})"
    return None


def optimize(model: AnyModel, compile: bool = False) -> AnyModel:
    """
    A snapshot of a model for inference: faster, with the same numbers up to rounding.

    It is a model of its own, for pipelines and everything else that calls a model, and it never changes: not when the original is trained,
    and not by itself, because it cannot be trained, loaded into, adapted or moved. Each of these is refused; do it with the original and call
    `optimize` again. What the optimized form cannot do takes the ordinary way by itself and is right: gradients with respect to the images,
    autocast, `output_attentions`, `output_hidden_states`, other attention implementations than "sdpa", global hooks, `torch.compile`, tracing
    and export. Saving it saves the ordinary model. It can be copied, pickled, and shared among threads.

    On a GPU, the first call of each shape of images records a CUDA graph, which takes as long as some five calls, and later calls replay it.
    The eight shapes that were used last are kept. They share the memory of their intermediate results, so that many shapes need little more
    memory than the largest of them. A shape that cannot be recorded, because memory is short, is answered without a graph, with one warning.
    Settings of PyTorch that choose its kernels, such as TF32, hold as they are at the first call of a shape. The outputs are copied out of the
    graph, so that they are the caller's: 0.5 MB of logits for 256 images and 1,000 classes in bfloat16.

    Nothing is shared with the original, because a write to its weights would show here. The snapshot takes the memory of one copy of the
    weights, and of a second copy of most of them: on a CPU in the layout of oneDNN, and elsewhere of q, k and v side by side.

    Args:
        model: A `CrossViTModel`, `CrossViTForImageClassification` or `CrossViTBackbone`, on the device and in the dtype to be used. It stays
            as it is.
        compile: Whether `torch.compile` makes the layers, for large batches on a GPU. The first call of each shape then takes seconds more.
            It needs PyTorch 2.7.

    Raises:
        ValueError: If it is of another class, or if a layer has an adapter, a hook, or weights that are quantized, sharded or offloaded. The
            message names the layer.

    Example:

    ```python
    >>> import crossvit

    >>> model = crossvit.CrossViTForImageClassification(crossvit.CrossViTConfig())
    >>> fast = crossvit.optimize(model)
    ```"""
    if isinstance(model, OptimizedMixin):
        # It never changes, so that nobody needs another one.
        return model if model._compile == compile else optimize(model._ordinary, compile)
    if type(model) not in _CLASSES:
        raise ValueError(
            f"`optimize` takes one of {', '.join(known.__name__ for known in _CLASSES)}, got {type(model).__module__}."
            f"{type(model).__qualname__}. Adapters of PEFT can be merged first (`merge_and_unload`)."
        )
    for name, module in model.named_modules():
        if obstacle := _find_obstacle(name, module):
            raise ValueError(
                f"{name or 'The model'} {obstacle}. Merge adapters, remove hooks and load the weights whole and without quantization before "
                "`optimize`, or use the model as it is."
            )
    with torch.no_grad():
        ordinary = copy.deepcopy(model).eval().requires_grad_(False)
        for parameter in ordinary.parameters():
            parameter.grad = None
        return _CLASSES[type(model)]._of(ordinary, compile)  # type: ignore[return-value]


__all__ = ["optimize"]
