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
`crossvit.optimize`: a snapshot with the numbers of the ordinary model, which nothing can change, and which answers in the ordinary way
wherever its own cannot.

    pytest tests/inference/test_optimized.py
"""

import contextlib
import copy
import io
import pickle
from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import torch
import torch.nn.utils.parametrizations
import torch.nn.utils.prune
from accelerate import cpu_offload
from deprecations import USES_PEFT
from old_pytorch import NEEDS_TRACING
from small_models import small_config
from torch import nn
from transformers import AttentionInterface, pipeline
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from benchmarks.measurements import operations
from benchmarks.parity import randomize_, relative_difference
from crossvit import (
    CrossViTBackbone,
    CrossViTForImageClassification,
    CrossViTImageProcessor,
    CrossViTModel,
    optimize,
)


# float32 rounds by 6e-8. Another order of the additions, over a dozen layers, changes the logits by a few times as much.
ROUNDING = 2e-6


def make(model_class=CrossViTForImageClassification, seed=0, **arguments):
    model = model_class(small_config(**arguments)).eval()
    randomize_(model, seed=seed)
    return model


@pytest.fixture
def model():
    return make()


@torch.no_grad()
def logits_of(model, pixel_values, **arguments) -> torch.Tensor:
    return model(pixel_values=pixel_values, **arguments).logits


def layers_named(model, *names: str) -> list[nn.Module]:
    return [module for name, module in model.named_modules() if name.rpartition(".")[2] in names]


def answers_optimized(model, pixel_values, **arguments) -> bool:
    """Whether GELU is a part of a matrix product, or else writes over its input."""
    names = operations(lambda: logits_of(model, pixel_values, **arguments))
    return bool({"mkldnn::_linear_pointwise", "aten::gelu_"} & set(names))


# The numbers


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"qkv_bias": False},
        {"num_fusion_layers": 3},
        {"use_convolutional_stem": True},
        {"hidden_act": "gelu_new"},
        {
            "image_sizes": [48, 32, 32],
            "patch_sizes": [12, 16, 8],
            "hidden_sizes": [16, 24, 32],
            "depths": [1, 2, 1],
            "num_attention_heads": [2, 3, 4],
            "mlp_ratios": [2.0, 3.0, 2.0],
        },
    ],
    ids=["small", "no biases", "three fusion layers", "dagger", "another activation", "three branches"],
)
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
@torch.no_grad()
def test_equal_to_the_ordinary_model(model_class, arguments, pixel_values):
    """In float64, so that the limit is its rounding. At the configured size and at another one."""
    model = make(model_class, **arguments).double()
    if model_class is CrossViTBackbone:
        model = make(model_class, **arguments, out_features=model.config.stage_names).double()
    fast = optimize(model)
    for images in (pixel_values.double(), torch.randn(1, 3, 72, 60).double()):
        flag = {} if model_class is CrossViTBackbone else {"interpolate_pos_encoding": True}
        expected, found = model(images, **flag), fast(images, **flag)
        assert type(found) is type(expected) and found.keys() == expected.keys()
        for name in expected:
            for ours, reference in zip(found[name], expected[name], strict=True):
                assert relative_difference(ours, reference) < 1e-14, name


@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
def test_a_batch_of_no_images(config, model_class):
    model = model_class(config).eval()
    expected, found = (form(torch.zeros(0, 3, 48, 48)) for form in (model, optimize(model)))
    assert found.keys() == expected.keys() and all(len(value) == len(expected[name]) for name, value in found.items())


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_in_every_precision(pixel_values, dtype, qkv_bias):
    model = make(qkv_bias=qkv_bias).to(dtype)
    fast = optimize(model)
    # Pixels may stay in float32, as the image processor gives them.
    found, expected = logits_of(fast, pixel_values), logits_of(model, pixel_values)
    assert found.dtype == dtype and answers_optimized(fast, pixel_values)
    # A few units of the last place of each precision.
    assert relative_difference(found, expected) < 30 * torch.finfo(dtype).eps


def test_biases_that_differ_between_query_key_and_value(pixel_values):
    model = make(qkv_bias=False)
    for value in layers_named(model, "v_proj"):
        value.bias = nn.Parameter(torch.randn(value.out_features))
    assert relative_difference(logits_of(optimize(model), pixel_values), logits_of(model, pixel_values)) < ROUNDING


def test_losses_are_those_of_the_ordinary_model(model, pixel_values):
    labels = torch.tensor([1, 3])
    with torch.no_grad():
        expected, found = (form(pixel_values, labels=labels).loss for form in (model, optimize(model)))
    torch.testing.assert_close(found, expected)


def test_no_module_of_a_layer_is_called(model, pixel_values, monkeypatch):
    """At small batches the calls take longer than the work."""
    called = []
    ordinary_call = nn.Module.__call__
    fast = optimize(model)
    monkeypatch.setattr(
        nn.Module,
        "__call__",
        lambda self, *args, **kwargs: called.append(self) or ordinary_call(self, *args, **kwargs),
    )
    logits_of(fast, pixel_values)
    inside = {module for stage in fast._ordinary.crossvit.stages for module in stage.modules()}
    assert called and not inside & set(called)


# A snapshot


def test_nothing_that_happens_to_the_original_changes_it(model, pixel_values):
    """Among it a step of an optimizer with `fused=True`, which leaves no trace in the version of a tensor."""
    fast = optimize(model)
    expected, before = logits_of(fast, pixel_values), logits_of(model, pixel_values)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, fused=True)
    model(pixel_values, labels=torch.tensor([1, 3])).loss.backward()
    optimizer.step()
    for parameter in model.parameters():
        parameter.data.numpy()[...] *= 0.9
    model.load_state_dict({name: 1.1 * weight for name, weight in model.state_dict().items()})
    assert torch.equal(logits_of(fast, pixel_values), expected)
    assert relative_difference(logits_of(model, pixel_values), before) > 0.01
    again = optimize(model)
    assert relative_difference(logits_of(again, pixel_values), logits_of(model, pixel_values)) < ROUNDING


def test_the_original_stays_as_it_is(model, pixel_values):
    model.train()
    model(pixel_values, labels=torch.tensor([1, 3])).loss.backward()
    before = {name: (parameter.clone(), parameter.grad.clone()) for name, parameter in model.named_parameters()}
    logits_of(optimize(model), pixel_values)
    assert model.training
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad
        assert torch.equal(parameter, before[name][0]) and torch.equal(parameter.grad, before[name][1])


REFUSED = {
    "trained": lambda fast: fast.train(),
    "trained: gradients": lambda fast: fast.requires_grad_(),
    "loaded into": lambda fast: fast.load_state_dict(fast.state_dict()),
    "adapted": lambda fast: fast.add_adapter(peft.LoraConfig()),
    "changed from torch.float32 on cpu to torch.bfloat16": lambda fast: fast.bfloat16(),
    "changed from torch.float32 on cpu to torch.float64": lambda fast: fast.to(torch.float64),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_would_change_it_is_refused(model, what):
    with pytest.raises(ValueError, match=f"cannot be {what.partition(':')[0]}.*call `crossvit.optimize` again"):
        REFUSED[what](optimize(model))


def test_it_has_nothing_to_train_or_adapt(model):
    fast = optimize(model)
    assert not list(fast.parameters()) and not list(fast.children())
    with pytest.raises(ValueError, match="empty parameter list"):
        torch.optim.SGD(fast.parameters())
    with pytest.raises(ValueError, match="Target modules|No modules"):
        peft.get_peft_model(fast, peft.LoraConfig(target_modules=["k_proj"]))
    with pytest.raises(AttributeError, match="no `crossvit`, because none of its parts"):
        fast.crossvit


def test_what_changes_nothing_is_accepted(model, pixel_values):
    fast = optimize(model)
    assert fast.eval().to("cpu").float().requires_grad_(False) is fast and optimize(fast) is fast
    assert (fast.device, fast.dtype, fast.num_parameters()) == (model.device, model.dtype, model.num_parameters())
    fast.state_dict()["classifier.heads.0.weight"].zero_()
    assert relative_difference(logits_of(fast, pixel_values), logits_of(model, pixel_values)) < ROUNDING


# Where the ordinary model answers


@contextlib.contextmanager
def global_hook():
    handle = nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)
    try:
        yield
    finally:
        handle.remove()


def with_own_attention(form):
    AttentionInterface.register("own", sdpa_attention_forward)
    form.config._attn_implementation = "own"


@pytest.mark.filterwarnings("ignore:`torch.jit.trace` is deprecated")
@torch.no_grad()
def test_in_the_ordinary_way_where_its_own_cannot(model, pixel_values):
    """The numbers are then the same to the last bit, so that the way is visible in them, and in the operations."""
    fast = optimize(model.requires_grad_(False))  # PyTorch 2.6 rounds differently for weights that require gradients
    for arguments in ({"output_attentions": True}, {"output_hidden_states": True}, {"output_hidden_states": [1, -1]}):
        found, expected = fast(pixel_values, **arguments), model(pixel_values, **arguments)
        assert found.keys() == expected.keys() and torch.equal(found.logits, expected.logits)
        assert not answers_optimized(fast, pixel_values, **arguments)
        assert answers_optimized(fast, pixel_values), (
            "transformers leaves hooks behind, which must not slow later calls"
        )
    with global_hook():
        assert torch.equal(logits_of(fast, pixel_values), logits_of(model, pixel_values))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(logits_of(fast, pixel_values), logits_of(model, pixel_values))
    traced = torch.jit.trace(lambda pixel_values: fast(pixel_values).logits, pixel_values)
    assert torch.equal(traced(pixel_values), logits_of(model, pixel_values))
    with_own_attention(fast)
    assert not answers_optimized(fast, pixel_values)


@NEEDS_TRACING
@torch.no_grad()
def test_in_the_ordinary_way_when_compiled_or_exported(model, pixel_values):
    fast, expected = optimize(model.requires_grad_(False)), logits_of(model, pixel_values)  # as above
    assert torch.equal(torch.compile(fast, fullgraph=True, backend="eager")(pixel_values).logits, expected)
    assert torch.equal(torch.export.export(fast, (pixel_values,)).module()(pixel_values).logits, expected)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # PyTorch uses it for forward derivatives
def test_derivatives_with_respect_to_the_images(model, pixel_values):
    """Backward, and forward in both ways that PyTorch has, each equal to that of the ordinary model."""
    fast, direction = optimize(model.requires_grad_(False)), torch.randn_like(pixel_values)  # as above
    images = pixel_values.clone().requires_grad_()
    gradients = [torch.autograd.grad(form(images).logits.sum(), images)[0] for form in (fast, model)]
    assert torch.equal(*gradients)
    tangents = []
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the others have no forward derivative
        for form in (fast, model):
            tangents.append(torch.func.jvp(lambda x, form=form: form(x).logits, (pixel_values,), (direction,))[1])
            with torch.autograd.forward_ad.dual_level():
                dual = torch.autograd.forward_ad.make_dual(pixel_values, direction)
                tangents.append(torch.autograd.forward_ad.unpack_dual(form(dual).logits).tangent)
    for tangent in tangents:
        assert relative_difference(tangent, tangents[-1]) < ROUNDING


@torch.no_grad()
def test_errors_are_those_of_the_ordinary_model(model):
    for images in (None, torch.zeros(1, 3, 60, 48), torch.zeros(3, 48, 48)):
        messages = []
        for form in (model, optimize(model)):
            with pytest.raises(ValueError) as caught:
                form(images)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]


# Copies, files, threads, pipelines


def test_copies_and_files(model, pixel_values, tmp_path):
    fast = optimize(model)
    expected = logits_of(fast, pixel_values)
    file = io.BytesIO()
    torch.save(fast, file)
    file.seek(0)
    for other in (copy.deepcopy(fast), pickle.loads(pickle.dumps(fast)), torch.load(file, weights_only=False)):
        assert torch.equal(logits_of(other, pixel_values), expected) and answers_optimized(other, pixel_values)
    model.save_pretrained(tmp_path / "ordinary")
    fast.save_pretrained(tmp_path / "optimized")
    for path in (tmp_path / "ordinary").iterdir():
        assert (tmp_path / "optimized" / path.name).read_bytes() == path.read_bytes(), path.name


def test_threads(model, pixel_values):
    """Eight threads predict, and a ninth makes and drops optimized models."""
    fast = optimize(model)
    expected = logits_of(fast, pixel_values)
    with ThreadPoolExecutor(9) as threads:
        making = threads.submit(lambda: [logits_of(optimize(model), pixel_values) for _ in range(30)])
        predicting = [threads.submit(lambda: [logits_of(fast, pixel_values) for _ in range(50)]) for _ in range(8)]
        for task in (making, *predicting):
            assert all(torch.equal(logits, expected) for logits in task.result())


def test_a_pipeline_takes_it_as_a_model(model, photos, caplog):
    image_processor = CrossViTImageProcessor.from_image_size(48)
    expected, found = (
        pipeline("image-classification", form, image_processor=image_processor)(photos["landscape"])
        for form in (model, optimize(model))
    )
    assert [result["label"] for result in found] == [result["label"] for result in expected]
    assert [result["score"] for result in found] == pytest.approx([result["score"] for result in expected], abs=1e-6)
    assert not caplog.records


# What has no optimized form


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
    torchao = pytest.importorskip("torchao.quantization", reason="torchao needs the newest PyTorch")
    torchao.quantize_(
        model, torchao.Int8WeightOnlyConfig(), lambda module, name: name.endswith(("k_proj", "v_proj", "fc1"))
    )
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


@pytest.mark.parametrize(
    "change",
    [pytest.param(change, id=name, marks=USES_PEFT if name == "LoRA" else ()) for name, change in CHANGES.items()],
)
def test_a_changed_layer_is_refused_by_name(model, change):
    changed = change(model)
    with pytest.raises(
        ValueError, match=r"(_proj|fc1|The model) (is|has) a .*before `optimize`|takes one of .*PeftModel"
    ):
        optimize(changed)


def test_other_classes_are_refused(config):
    class Mine(CrossViTForImageClassification):
        pass

    for model in (Mine(config), nn.Linear(2, 2)):
        with pytest.raises(ValueError, match="takes one of CrossViTModel, CrossViTForImageClassification"):
            optimize(model)
