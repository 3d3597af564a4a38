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
What happens around CUDA graphs: which call is recorded, which is replayed, which goes the ordinary way, and what is kept. A recording is
replaced by an ordinary call; tests/test_on_a_gpu.py has real ones.

    pytest tests/inference/test_graphs.py
"""

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from small_models import small_config

from benchmarks.parity import randomize_
from crossvit import CrossViTBackbone, CrossViTForImageClassification, CrossViTModel, optimize
from crossvit.inference.graphs import CudaGraphs


class Replay:
    """Records nothing, and calls the function for the pixels that were copied to its input."""

    made: list[tuple[int, ...]] = []

    def __init__(self, function, pixel_values, *arguments):
        self.made.append(tuple(pixel_values.shape))
        self.input, self.function, self.arguments = pixel_values.clone(), function, arguments
        function(self.input, *arguments)

    def __call__(self, pixel_values):
        self.input.copy_(pixel_values)
        return self.function(self.input, *self.arguments)


@pytest.fixture
def made(monkeypatch):
    monkeypatch.setattr(Replay, "made", [])
    return Replay.made


@pytest.fixture
def model():
    model = CrossViTForImageClassification(small_config()).eval().requires_grad_(False)
    randomize_(model)
    return model


def with_graphs(model):
    fast = optimize(model)
    fast.__dict__["_graphs"] = CudaGraphs(fast._compute, record=Replay)
    return fast


def test_one_recording_for_each_shape_and_the_newest_are_kept(made):
    graphs = CudaGraphs(lambda images: (2 * images,), record=Replay)
    sizes = range(1, CudaGraphs.LIMIT + 1)
    for size in (*sizes, *sizes, 1):
        images = torch.randn(size, 3)
        assert torch.equal(graphs(images)[0], 2 * images)
    assert made == [(size, 3) for size in sizes]
    oldest = weakref.ref(graphs.recordings[(torch.Size([2, 3]), torch.float32, ())])
    graphs(torch.randn(99, 3))
    gc.collect()
    assert oldest() is None and len(graphs.recordings) == CudaGraphs.LIMIT
    graphs(torch.randn(1, 3))
    assert made[-1] == (99, 3), "what was used last is kept"
    graphs(torch.randn(2, 3))
    graphs(torch.randn(2, 3).double())
    assert made[-2:] == [(2, 3), (2, 3)]


def test_what_cannot_be_recorded_is_computed_with_one_warning(caplog):
    def fail(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    graphs = CudaGraphs(lambda images: (2 * images,), record=fail)
    for size in (1, 2, 1, 2):
        images = torch.randn(size, 3)
        assert torch.equal(graphs(images)[0], 2 * images)
    assert [record.getMessage() for record in caplog.records] == [
        "No CUDA graph for images of shape (1, 3) and dtype torch.float32: CUDA out of memory. They are answered without one, which takes "
        "longer at small batches."
    ]


@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
@torch.no_grad()
def test_a_replay_gives_the_numbers_of_the_model(model_class, made, pixel_values):
    model = model_class(small_config()).eval()
    randomize_(model)
    fast, ordinary = with_graphs(model), optimize(model)
    for images in (pixel_values, pixel_values + 1, pixel_values):
        found, expected = fast(images), ordinary(images)
        assert found.keys() == expected.keys()
        for name in expected:
            for ours, reference in zip(found[name], expected[name], strict=True):
                assert torch.equal(ours, reference)
    assert len(made) == 1


OTHER_WAYS = {
    "attentions": lambda model, images: model(images, output_attentions=True),
    "hidden states": lambda model, images: model(images, output_hidden_states=True),
    "gradients": lambda model, images: model(images.clone().requires_grad_()),
    "autocast": lambda model, images: torch.autocast("cpu", torch.bfloat16)(model)(images),
    "forward derivatives": lambda model, images: torch.func.vmap(lambda image: model(image[None]).logits)(images),
}


@pytest.mark.parametrize("way", OTHER_WAYS)
def test_what_a_graph_cannot_do_is_not_recorded(way, made, model, pixel_values):
    fast = with_graphs(model)
    OTHER_WAYS[way](fast, pixel_values)
    assert not made
    fast(pixel_values, labels=torch.tensor([1, 3]))
    assert made == [(2, 3, 48, 48)]


def test_mistakes_are_not_recorded(made, model):
    fast = with_graphs(model)
    for images in (torch.zeros(1, 3, 60, 48), torch.zeros(1, 1, 48, 48)):
        with pytest.raises(ValueError, match="pixel_values|image size"):
            fast(images)
    assert not any(fast._graphs.recordings.values())


@torch.no_grad()
def test_threads(made, model):
    """Each of eight threads gets the numbers of its own images, of two sizes."""
    fast = with_graphs(model)
    batches = [torch.randn(size, 3, 48, 48) for size in (1, 2, 1, 2, 1, 2, 1, 2)]
    expected = [optimize(model)(batch).logits for batch in batches]

    def predict(index):
        return all(torch.equal(fast(batches[index]).logits, expected[index]) for _ in range(50))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(predict, range(8)))
    assert sorted(made) == [(1, 3, 48, 48), (2, 3, 48, 48)]
