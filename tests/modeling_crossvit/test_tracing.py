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
Graphs that `torch.jit.trace`, `torch.onnx.export(dynamo=False)` and `openvino.convert_model(example_input=...)` record from one example
give the numbers of the eager model for images of other sizes and for other batches. Without `interpolate_pos_encoding` they refuse other
sizes.

    pytest tests/modeling_crossvit/test_tracing.py      half a minute

Every image here has two rows and two columns of patches or more. OpenVINO resizes to a single one in its own way, also in ViT.
"""

import io

import onnxruntime
import openvino
import pytest
import torch
from small_models import small_config
from torch.utils.tensorboard import SummaryWriter

from benchmarks.parity import randomize_, relative_difference
from crossvit import CrossViTBackbone, CrossViTForImageClassification, CrossViTModel


# All three are deprecated, and still in use: openvino's own way to convert a model is to trace it.
pytestmark = [
    pytest.mark.filterwarnings("ignore:`torch.jit.trace(_method)?` is deprecated"),
    pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript-based ONNX export:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning"),
    # torch.jit reads every attribute of a module.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning"),
    # transformers compares the number of tokens with 1 to know whether attention is causal, which it never is here.
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning:transformers.integrations.sdpa_attention"),
    pytest.mark.filterwarnings("error::torch.jit.TracerWarning:crossvit"),
]

NATIVE = (48, 48)
OTHER = (72, 60)
# By these factors float32 can scale exactly, by those of the uneven sizes it cannot.
SIZES = [NATIVE, (96, 96), (48, 96), (36, 48)]
UNEVEN_SIZES = [(100, 60), (50, 70)]


def limit(runtime: str, size: tuple[int, int]) -> float:
    """The largest allowed difference, divided by the largest value."""
    if runtime == "jit":
        return 0.0
    # The runtimes compute in float32 where a pixel of the resized image lies. At 100 pixels they are wrong by up to 4e-6 of a pixel, and
    # neighbours in noise differ by several times their size. Elsewhere the limit is that of the parity suite.
    return 3e-5 if size in UNEVEN_SIZES else 5e-6


class Tensors(torch.nn.Module):
    """A model that returns a tuple of tensors, as the older exporters need it."""

    def __init__(self, model: torch.nn.Module, **arguments):
        super().__init__()
        self.model = model
        self.arguments = arguments

    def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        outputs = self.model(pixel_values, return_dict=False, **self.arguments)
        return outputs[0] if isinstance(outputs[0], tuple) else outputs  # feature maps, or else the items themselves


def trace(model: Tensors, example: torch.Tensor):
    return torch.jit.trace(model, example)


def export_to_onnx(model: Tensors, example: torch.Tensor):
    file = io.BytesIO()
    axes = {"pixel_values": {0: "batch", 2: "height", 3: "width"}}
    torch.onnx.export(model, (example,), file, dynamo=False, input_names=["pixel_values"], dynamic_axes=axes)
    quiet = onnxruntime.SessionOptions()
    quiet.log_severity_level = 4  # It would print the errors that a test expects.
    session = onnxruntime.InferenceSession(file.getvalue(), quiet)
    return lambda pixel_values: map(torch.from_numpy, session.run(None, {"pixel_values": pixel_values.numpy()}))


def convert_to_openvino(model: Tensors, example: torch.Tensor):
    converted = openvino.convert_model(model, example_input=example)
    # By default it computes in bfloat16 where the processor can.
    compiled = openvino.compile_model(converted, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return lambda pixel_values: [torch.tensor(output) for output in compiled(pixel_values.numpy()).values()]


RUNTIMES = {"jit": trace, "onnx": export_to_onnx, "openvino": convert_to_openvino}


def small_model(model_class, **arguments) -> torch.nn.Module:
    config = small_config(num_stages=1, depths=[1, 1], **arguments)
    if model_class is CrossViTBackbone:
        config.out_features = config.stage_names
    model = model_class(config).eval()
    randomize_(model)
    torch.manual_seed(0)  # of the images
    return model


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
@pytest.mark.parametrize(("size", "stem"), [(OTHER, "linear"), (NATIVE, "linear"), (OTHER, "convolutional")], ids=str)
@torch.no_grad()
def test_one_graph_serves_all_sizes(runtime, model_class, size, stem):
    model = small_model(model_class, use_convolutional_stem=stem == "convolutional")
    # The backbone takes every size without being asked to.
    model = Tensors(model, **({} if model_class is CrossViTBackbone else {"interpolate_pos_encoding": True}))
    graph = RUNTIMES[runtime](model, torch.randn(2, 3, *size))
    for other in SIZES + UNEVEN_SIZES:
        pixel_values = torch.randn(3, 3, *other)
        for found, expected in zip(graph(pixel_values), model(pixel_values), strict=True):
            assert found.shape == expected.shape, other
            assert relative_difference(found, expected) <= limit(runtime, other), other


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
def test_gradients_may_be_on(runtime, model_class):
    """PyTorch checks a trace without gradients, so that no operation may depend on them."""
    model, pixel_values = Tensors(small_model(model_class)), torch.randn(2, 3, *NATIVE)
    graph = RUNTIMES[runtime](model, torch.randn(2, 3, *NATIVE))
    with torch.no_grad():
        for found, expected in zip(graph(pixel_values), model(pixel_values), strict=True):
            assert relative_difference(found, expected) <= limit(runtime, NATIVE)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
def test_natural_calls(model_class, gradients, tmp_path):
    """As people write them: outputs by name, and the picture of the model in TensorBoard."""
    model, pixel_values = small_model(model_class), torch.randn(2, 3, *NATIVE)
    with torch.set_grad_enabled(gradients):
        graph = torch.jit.trace(model, pixel_values, strict=False)
        found, expected = graph(pixel_values + 1), model(pixel_values + 1)
        for name, value in expected.items():
            assert (
                torch.equal(found[name], value)
                if torch.is_tensor(value)
                else all(map(torch.equal, found[name], value))
            )
        with SummaryWriter(tmp_path) as writer:
            writer.add_graph(model, pixel_values, use_strict_trace=False)
    assert any(tmp_path.iterdir())


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification])
@torch.no_grad()
def test_without_the_flag_a_graph_refuses_other_sizes(runtime, model_class):
    """Also those that have as many patches: in 24 x 96 pixels they lie in another order, and of 50 x 50 a border would be lost."""
    model = Tensors(small_model(model_class))
    graph = RUNTIMES[runtime](model, torch.randn(2, 3, *NATIVE))
    pixel_values = torch.randn(3, 3, *NATIVE)
    for found, expected in zip(graph(pixel_values), model(pixel_values), strict=True):
        assert relative_difference(found, expected) <= limit(runtime, NATIVE)
    for other in [(96, 96), (36, 36), (24, 96), (50, 50)]:
        with pytest.raises(Exception, match=r"(?i)expand|broadcast"):
            list(graph(torch.randn(3, 3, *other)))


@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification])
def test_an_example_that_is_not_accepted_cannot_be_traced(model_class):
    model = Tensors(small_model(model_class))
    with pytest.raises(RuntimeError, match=r"expanded size of the tensor \(48\) must match the existing size \(60\)"):
        trace(model, torch.randn(2, 3, 60, 48))
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        trace(model, torch.randn(2, 1, 48, 48))
