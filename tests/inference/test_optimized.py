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
Two faster ways to the same numbers, each against the layers as they are written: the cross-attention without keys and values, and the
fused form for inference. They use weights without a call of their layer. So wherever a call matters, because something watches or
replaces a layer, the layer must be called.

    pytest tests/inference/test_optimized.py
"""

import copy
import io

import peft
import pytest
import torch
import torch.nn.utils.parametrizations
import torch.nn.utils.prune
from accelerate import cpu_offload
from deprecations import USES_PEFT
from parity import randomize_, relative_difference
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torchao.quantization import Int8WeightOnlyConfig, quantize_
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from crossvit import CrossViTForImageClassification
from crossvit.modeling_crossvit import CrossViTLayer, CrossViTSelfAttention


# float32 rounds by 6e-8. Another order of the additions, over a dozen layers, changes the logits by a few times as much.
ROUNDING = 2e-6


@pytest.fixture
def model(config):
    model = CrossViTForImageClassification(config).eval()
    randomize_(model)
    return model


@torch.no_grad()
def logits_of(model, pixel_values) -> torch.Tensor:
    return model(pixel_values=pixel_values).logits


def layers_named(model, *names: str) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.rpartition(".")[2] in names]


def gradients_of(model, pixel_values) -> dict[str, torch.Tensor]:
    model.zero_grad()
    model(pixel_values=pixel_values, labels=torch.arange(len(pixel_values))).loss.backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


class RecordOperations(TorchDispatchMode):
    """The names of the operations that run inside it."""

    def __enter__(self):
        self.names: list[str] = []
        return super().__enter__()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def runs_in_fused_form(model, pixel_values) -> bool:
    """Whether GELU is a part of a matrix product, or else writes over its input."""
    with RecordOperations() as record:
        logits_of(model, pixel_values)
    return bool({"mkldnn::_linear_pointwise", "aten::gelu_"} & set(record.names))


# What can watch or change a linear layer. Each returns the model, which may be another one.


def with_hooks(register: str):
    def change(model):
        for layer in layers_named(model, "q_proj", "k_proj", "v_proj"):
            getattr(layer, register)(
                lambda module, *args: 0.9 * args[-1] if register == "register_forward_hook" else None
            )
        return model

    return change


def with_lora(model):
    return peft.get_peft_model(
        model, peft.LoraConfig(r=4, target_modules=["k_proj", "v_proj", "fc1"], init_lora_weights=False)
    ).eval()


def with_int8(model):
    quantize_(model, Int8WeightOnlyConfig(), lambda module, name: name.endswith(("k_proj", "v_proj", "fc1")))
    return model


def with_parametrization(model):
    for layer in layers_named(model, "k_proj", "v_proj", "fc2"):
        nn.utils.parametrizations.spectral_norm(layer)
    return model.eval()


def with_pruning(model):
    for layer in layers_named(model, "k_proj", "v_proj", "fc2"):
        nn.utils.prune.l1_unstructured(layer, "weight", amount=0.5)
    return model


def with_offloaded_weights(model):
    cpu_offload(model, execution_device=torch.device("cpu"))
    return model


CHANGES = {
    "hooks": with_hooks("register_forward_hook"),
    "hooks before": with_hooks("register_forward_pre_hook"),
    "hooks backward": with_hooks("register_full_backward_hook"),
    "hooks before backward": with_hooks("register_full_backward_pre_hook"),
    "LoRA": with_lora,
    "int8": with_int8,
    "parametrization": with_parametrization,
    "pruning": with_pruning,
    "offloading": with_offloaded_weights,
}
changes = pytest.mark.parametrize(
    "change",
    [pytest.param(change, id=name, marks=USES_PEFT if name == "LoRA" else ()) for name, change in CHANGES.items()],
)


def in_eager_form(model, pixel_values) -> torch.Tensor:
    """The logits of eager attention, which calls every layer."""
    model.unfuse()
    model.set_attn_implementation("eager")
    return logits_of(model, pixel_values)


# Cross-attention without keys and values


def test_equal_to_attention_with_keys(model, pixel_values):
    """Logits and all gradients in float64; the limit is its rounding."""
    model, pixel_values = model.double(), pixel_values.double()
    logits, gradients = logits_of(model, pixel_values), gradients_of(model, pixel_values)
    with_hooks("register_forward_pre_hook")(model)  # so that all layers are called
    assert relative_difference(logits, logits_of(model, pixel_values)) < 1e-14
    expected = gradients_of(model, pixel_values)
    largest = max(gradient.abs().max() for gradient in expected.values())
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).abs().max() < 1e-14 * largest, name


def test_every_parameter_has_a_gradient(model, pixel_values):
    """Also the bias of the keys, which cancels: data parallelism waits for it."""
    gradients_of(model, pixel_values)
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_dropout_of_attention_has_keys(config, pixel_values):
    """The same random numbers give the same mask as the attention that always has keys."""
    AttentionInterface.register("with_keys", sdpa_attention_forward)
    config.attention_probs_dropout_prob = 0.5
    model = CrossViTForImageClassification(config).train()
    logits = []
    for implementation in ("sdpa", "with_keys"):
        model.set_attn_implementation(implementation)
        torch.manual_seed(0)
        logits.append(logits_of(model, pixel_values))
    assert torch.equal(*logits)


@changes
def test_layers_that_must_be_called_are(model, pixel_values, change):
    plain = logits_of(model, pixel_values)
    changed = change(model)
    logits = logits_of(changed, pixel_values)
    assert relative_difference(logits, in_eager_form(changed, pixel_values)) < ROUNDING
    if change in (CHANGES["hooks"], with_lora, with_int8, with_parametrization, with_pruning):
        assert relative_difference(logits, plain) > 10 * ROUNDING


def test_an_own_attention_function_is_called(model, pixel_values):
    calls = []

    def own_attention(*args, **kwargs):
        calls.append(args[1].shape[2])  # the queries
        return sdpa_attention_forward(*args, **kwargs)

    AttentionInterface.register("own", own_attention)
    model.set_attn_implementation("own")
    logits_of(model.fuse_for_inference(), pixel_values)
    assert calls == [17, 5, 5, 1, 1] * 2


# The fused form


def test_fused_and_back(model, pixel_values):
    expected = logits_of(model, pixel_values)
    fused = logits_of(model.fuse_for_inference(), pixel_values)
    assert relative_difference(fused, expected) < ROUNDING
    assert runs_in_fused_form(model, pixel_values)
    assert torch.equal(logits_of(model.unfuse(), pixel_values), expected)
    assert not runs_in_fused_form(model, pixel_values)
    assert not any("forward" in module.__dict__ for module in model.modules())


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_fused_in_every_precision(config, pixel_values, dtype, qkv_bias):
    config.qkv_bias = qkv_bias
    model = CrossViTForImageClassification(config).eval()
    randomize_(model)
    model.to(dtype)
    expected = logits_of(model, pixel_values.to(dtype))
    fused = logits_of(model.fuse_for_inference(), pixel_values.to(dtype))
    assert fused.dtype == dtype
    # A few units of the last place of each precision.
    assert relative_difference(fused, expected) < 30 * torch.finfo(dtype).eps


@changes
def test_a_changed_layer_is_refused_or_called(model, pixel_values, change):
    """Refused if it was changed before, and called if it is changed afterwards."""
    changed = change(copy.deepcopy(model))
    with pytest.raises(ValueError, match="has no fused form: its .*_proj"):
        changed.fuse_for_inference()
    assert not any("Fused" in type(module.__dict__.get("forward")).__name__ for module in changed.modules())

    changed = change(model.fuse_for_inference())
    logits = logits_of(changed, pixel_values)
    assert relative_difference(logits, in_eager_form(changed, pixel_values)) < ROUNDING


@pytest.mark.parametrize("register", ["register_forward_hook", "register_forward_pre_hook"])
def test_every_later_hook_is_called(model, pixel_values, register):
    """Whatever module it is on: layers, norms, activations and dropouts as well as linear layers."""
    for module_class in {type(module) for module in model.modules()}:
        watched = {name for name, module in model.named_modules() if type(module) is module_class}
        called: dict[bool, set[str]] = {}
        for is_fused in (False, True):
            form = copy.deepcopy(model).fuse_for_inference() if is_fused else copy.deepcopy(model)
            called[is_fused] = names = set()
            for name in watched:
                # `named_modules` of the copy, because a hook of the model would be copied too.
                module = form.get_submodule(name)
                getattr(module, register)(lambda module, *args, names=names, name=name: names.add(name))
            logits_of(form, pixel_values)
        assert called[True] == called[False], module_class


def test_a_layer_calls_nothing_inside(model, pixel_values, monkeypatch):
    """At small batches the calls take longer than the work. An attention that records its weights is called, for its hook."""
    called = []
    ordinary_call = nn.Module.__call__
    monkeypatch.setattr(
        nn.Module,
        "__call__",
        lambda self, *args, **kwargs: called.append(self) or ordinary_call(self, *args, **kwargs),
    )
    layers = [module for module in model.modules() if isinstance(module, CrossViTLayer)]
    inside = {module for layer in layers for module in layer.modules()} - set(layers)
    logits_of(model.fuse_for_inference(), pixel_values)
    assert not inside & set(called)
    with torch.no_grad():
        model(pixel_values, output_attentions=True)
    assert CrossViTSelfAttention in {type(module) for module in inside & set(called)}


def test_other_weights_take_effect(model, config, pixel_values):
    other = CrossViTForImageClassification(config).eval()
    randomize_(other, seed=1)
    expected = logits_of(other, pixel_values)
    assert runs_in_fused_form(model.fuse_for_inference(), pixel_values)
    model.load_state_dict(other.state_dict())
    assert relative_difference(logits_of(model, pixel_values), expected) < ROUNDING
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.9)
        for parameter in other.parameters():
            parameter.data = 0.9 * parameter.data
    assert relative_difference(logits_of(model, pixel_values), logits_of(other, pixel_values)) < ROUNDING
    for parameter in model.parameters():
        parameter.data = parameter.data * 1.1
    for parameter in other.parameters():
        parameter.data = parameter.data * 1.1
    assert relative_difference(logits_of(model, pixel_values), logits_of(other, pixel_values)) < ROUNDING
    half = logits_of(model.bfloat16(), pixel_values)
    assert runs_in_fused_form(model, pixel_values)
    assert half.dtype == torch.bfloat16
    assert relative_difference(half, logits_of(other.bfloat16(), pixel_values)) < 30 * torch.finfo(torch.bfloat16).eps


def test_memory_of_replaced_weights_is_not_mistaken_for_them(model, pixel_values):
    """Weights that are replaced twice can lie where the first ones lay. A step of their kind is `model.half().float()`."""
    logits_of(model.fuse_for_inference(), pixel_values)
    for factor in (2.0, 0.5, 1.1):
        for parameter in model.parameters():
            parameter.data = parameter.data * factor
    fused = logits_of(model, pixel_values)
    assert relative_difference(fused, logits_of(model.unfuse(), pixel_values)) < ROUNDING


def test_training_is_as_before(model, pixel_values):
    expected = gradients_of(copy.deepcopy(model).train(), pixel_values)
    found = gradients_of(model.fuse_for_inference().train(), pixel_values)
    assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())
    pixel_values.requires_grad_()
    found, expected = (
        torch.autograd.grad(form(pixel_values).logits.sum(), pixel_values)[0]
        for form in (model.eval(), copy.deepcopy(model).unfuse())
    )
    assert torch.equal(found, expected)


def test_dropout_at_inference_is_as_before(config, pixel_values):
    """Samples of the model's uncertainty: dropout alone is switched on."""
    config.hidden_dropout_prob = 0.5
    model = CrossViTForImageClassification(config).eval()
    for module in model.modules():
        module.training = isinstance(module, nn.Dropout)
    torch.manual_seed(0)
    expected = logits_of(model, pixel_values)
    torch.manual_seed(0)
    assert torch.equal(logits_of(model.fuse_for_inference(), pixel_values), expected)


def test_outputs_on_request_are_as_before(model, pixel_values):
    arguments = {"output_attentions": True, "output_hidden_states": True}
    with torch.no_grad():
        expected = model(pixel_values, **arguments)
        found = model.fuse_for_inference()(pixel_values, **arguments)
    for name in ("attentions", "cross_attentions", "hidden_states"):
        assert len(found[name]) == len(expected[name]) > 0
        for ours, reference in zip(found[name], expected[name]):
            assert relative_difference(ours, reference) < ROUNDING
    assert runs_in_fused_form(model, pixel_values), (
        "the hooks that record outputs stay, and must not end the fused form"
    )


def test_autocast_is_as_before(model, pixel_values):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        expected = logits_of(model, pixel_values)
        assert torch.equal(logits_of(model.fuse_for_inference(), pixel_values), expected)


def test_copies_and_files(model, pixel_values, tmp_path):
    expected = logits_of(model, pixel_values)
    fused = logits_of(model.fuse_for_inference(), pixel_values)
    model.save_pretrained(tmp_path)
    loaded = CrossViTForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(logits_of(loaded, pixel_values), expected)
    duplicate = copy.deepcopy(model)
    assert runs_in_fused_form(duplicate, pixel_values)
    assert torch.equal(logits_of(duplicate, pixel_values), fused)
    with torch.no_grad():
        model.classifier.heads[0].bias.add_(1)
        model.crossvit.stages[0].layers[0][0].mlp.fc1.weight.zero_()
    assert torch.equal(logits_of(duplicate, pixel_values), fused), "a copy has weights of its own"
    file = io.BytesIO()
    torch.save(duplicate, file)
    file.seek(0)
    assert torch.equal(logits_of(torch.load(file, weights_only=False), pixel_values), fused)


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
def test_compiled_and_exported_as_before(model, pixel_values):
    expected = logits_of(model, pixel_values)
    model.requires_grad_(False).fuse_for_inference()
    program = torch.export.export(model, (pixel_values,)).module()
    assert relative_difference(program(pixel_values).logits, expected) < ROUNDING
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="eager")(pixel_values).logits
        traced = torch.jit.trace(lambda pixel_values: model(pixel_values).logits, pixel_values)(pixel_values)
    assert torch.equal(compiled, expected) and torch.equal(traced, expected)


def test_what_has_no_fused_form(config, model):
    config.hidden_act = "gelu_new"
    with pytest.raises(ValueError, match="NewGELUActivation"):
        CrossViTForImageClassification(config).fuse_for_inference()
    with torch.inference_mode():
        made_there = copy.deepcopy(model)
    with pytest.raises(ValueError, match="inference_mode"):
        made_there.fuse_for_inference()
