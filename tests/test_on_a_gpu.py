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
What only a GPU can show: real CUDA graphs, compiled kernels, its decoder of JPEG, and numbers beside those of timm and of the CPU. Without a
GPU the same calls run on the CPU, as far as there are such, so that this file works at the first try on a machine that is rented for it.

    pytest tests/test_on_a_gpu.py          `make check-gpu` runs it first
"""

import io
import tempfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from old_pytorch import NEEDS_TRACING
from PIL import Image
from small_models import small_config
from transformers import TrainingArguments, pipeline

from benchmarks.parity import FORWARD, randomize_, relative_difference, timm_model
from crossvit import (
    CrossViTBackbone,
    CrossViTForImageClassification,
    CrossViTImageProcessor,
    CrossViTModel,
    convert_checkpoint,
    optimize,
)
from crossvit.data import decode_jpegs
from crossvit.inference.graphs import CudaGraphs
from crossvit.trainer import CrossViTTrainer


HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
NEEDS_GPU = pytest.mark.skipif(not HAS_GPU, reason="needs a GPU: `make check-gpu`")
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.fixture(autouse=True)
def exact_products():
    """Without TF32, which has three digits, in products and convolutions."""
    before, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before)
    torch.backends.cudnn.allow_tf32 = convolutions


def make(model_class=CrossViTForImageClassification, dtype=torch.float32, **arguments):
    model = model_class(small_config(**arguments)).eval().requires_grad_(False)
    randomize_(model)
    return model.to(DEVICE, dtype)


@pytest.fixture
def images(pixel_values):
    return pixel_values.to(DEVICE)


@torch.no_grad()
def test_logits_are_those_of_timm():
    reference, images = timm_model("crossvit_tiny_240").to(DEVICE).eval(), torch.randn(2, 3, 240, 240, device=DEVICE)
    model = convert_checkpoint(reference.state_dict(), "crossvit_tiny_240").eval().to(DEVICE)
    expected = reference(images)
    for form in (model, optimize(model)):
        assert relative_difference(form(images).logits, expected) < FORWARD["logits sdpa"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
@torch.no_grad()
def test_a_replay_is_the_call_without_a_graph_bit_for_bit(model_class, dtype, images):
    """Also in `inference_mode` and in eight threads. What an earlier call returned stays as it was."""
    model, images = make(model_class, dtype), images.to(dtype)
    fast = optimize(model)
    assert isinstance(fast._graphs, CudaGraphs) == HAS_GPU
    eager = fast._compute(images, True)

    def answers(expected=eager) -> bool:
        found = fast._graphs(images, True)
        return all(torch.equal(ours, theirs) for ours, theirs in zip(found, expected, strict=True))

    assert answers()
    first = fast._graphs(images, True)
    other = fast._graphs(images + 1, True)
    assert not torch.equal(first[0], other[0])
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(first, eager, strict=True))
    with torch.inference_mode():
        assert answers()
    assert answers()
    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(lambda _: answers(), range(50)))
    expected, found = model(images), fast(images)
    assert found.keys() == expected.keys()
    for name in expected:
        for ours, theirs in zip(found[name], expected[name], strict=True):
            assert relative_difference(ours, theirs) < 30 * torch.finfo(dtype).eps, name


@torch.no_grad()
def test_what_has_no_graph_is_right(images):
    model = make()
    fast = optimize(model)
    for arguments in ({"output_attentions": True}, {"output_hidden_states": True}):
        assert torch.equal(fast(images, **arguments).logits, model(images, **arguments).logits)
    with torch.autocast(DEVICE, torch.bfloat16):
        assert torch.equal(fast(images).logits, model(images).logits)
    with torch.enable_grad():
        gradients = []
        for form in (fast, model):
            leaf = images.clone().requires_grad_()
            gradients.append(torch.autograd.grad(form(leaf).logits.sum(), leaf)[0])
    assert relative_difference(*gradients) < 1e-5  # A GPU adds the gradients of a resize in any order.


@NEEDS_GPU
@torch.no_grad()
def test_a_part_of_another_graph():
    model = make()
    fast, images = optimize(model), torch.randn(2, 3, 48, 48, device=DEVICE)
    expected = fast(images).logits
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = fast(images).logits
    images.copy_(images.flip(0))
    graph.replay()
    assert torch.equal(logits, expected.flip(0)) or relative_difference(logits, expected.flip(0)) < 2e-6


@NEEDS_GPU
@torch.no_grad()
def test_memory_is_bounded_when_sizes_change():
    """41 shapes, of which eight are kept: what the largest takes alone, and the inputs of eight."""
    model = make(num_stages=3)

    def reserved(shapes) -> int:
        torch.cuda.empty_cache()
        before, fast = torch.cuda.memory_reserved(), optimize(model)
        for batch in shapes:
            fast(torch.randn(batch, 3, 48, 48, device=DEVICE))
        assert len(fast._graphs.recordings) <= CudaGraphs.LIMIT
        torch.cuda.empty_cache()
        return torch.cuda.memory_reserved() - before

    alone, one_input = reserved([840]), 840 * 3 * 48 * 48 * 4
    assert reserved(range(800, 841)) <= alone + 1.3 * CudaGraphs.LIMIT * one_input


@NEEDS_TRACING
@torch.no_grad()
def test_compiled_layers(images):
    model = make()
    fast = optimize(model, compile=True)
    for batch in (images, images[:1], images):
        assert relative_difference(fast(batch).logits, model(batch).logits) < 2e-6


@NEEDS_GPU
@NEEDS_TRACING
def test_compiled_training_in_bfloat16(images):
    samples = [{"pixel_values": image, "labels": index % 5} for index, image in enumerate(torch.randn(32, 3, 48, 48))]
    losses = []
    for compiled in (False, True):
        torch.manual_seed(0)
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder,
                bf16=True,
                torch_compile=compiled,
                max_steps=8,
                logging_steps=1,
                save_strategy="no",
                report_to=[],
            )
            model = CrossViTForImageClassification(small_config())
            trainer = CrossViTTrainer(model=model, args=arguments, train_dataset=samples)
            trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    # bfloat16 has three digits, and the compiler keeps more of them between two operations.
    np.testing.assert_allclose(*losses, rtol=0.02)


def test_images_are_resized_alike(photos):
    """A GPU resizes in another order of additions: at most one of 255 levels."""
    image_processor = CrossViTImageProcessor.from_image_size(48)
    photo = np.asarray(photos["landscape"])
    exact = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    expected = image_processor(photo, **exact).pixel_values
    found = image_processor(photo, device=DEVICE, **exact).pixel_values
    assert found.device.type == DEVICE
    assert (found.cpu().int() - expected.int()).abs().max() <= 1


def test_jpeg_files_are_decoded_alike(photos):
    """
    A GPU fills in the colours between the pixels in another way. On a photo, resized for the model, the mean difference is below one of 255
    levels, and 99 % of the values differ by at most 8.
    """
    files = []
    for name in ("landscape", "portrait", "grey"):
        file = io.BytesIO()
        photos[name].save(file, "JPEG", quality=90)
        files.append(file.getvalue())
    image_processor = CrossViTImageProcessor.from_image_size(240)
    exact = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    decoded = decode_jpegs([*files, files[0][:1000]], DEVICE)
    assert decoded.pop() is None
    for pixels, file in zip(decoded, files, strict=True):
        assert pixels.device.type == DEVICE and pixels.dtype == torch.uint8
        expected = image_processor(Image.open(io.BytesIO(file)), **exact).pixel_values.int()
        found = image_processor(pixels, device=DEVICE, **exact).pixel_values.cpu().int()
        difference = (found - expected).abs().float()
        assert difference.mean() < 1 and difference.quantile(0.99) <= 8


def test_a_pipeline(photos):
    model = make()
    image_processor = CrossViTImageProcessor.from_image_size(48)
    answers = [
        pipeline("image-classification", form, image_processor=image_processor, device=DEVICE)(photos["landscape"])
        for form in (model, optimize(model))
    ]
    assert [answer["label"] for answer in answers[0]] == [answer["label"] for answer in answers[1]]
    assert [answer["score"] for answer in answers[0]] == pytest.approx(
        [answer["score"] for answer in answers[1]], abs=1e-5
    )
