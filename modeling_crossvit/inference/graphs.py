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
CUDA graphs for the optimized form: a GPU starts all operations of a forward pass at once, and does not wait for Python to start each. What
happens around the recording can be tested without a GPU, because `CudaGraphs` takes what records as an argument.
"""

import logging
import threading
from collections.abc import Callable
from typing import Any

import torch


logger = logging.getLogger(__name__)

Tensors = tuple[torch.Tensor, ...]

# PyTorch records one graph at a time in a process.
_RECORDING = threading.Lock()


class Recording:
    """
    The operations of one call on a GPU, to be replayed for other values of the same shape.

    Args:
        function: What is recorded.
        pixel_values: An example of its input.
        memory: The memory of the intermediate results and of the outputs, which recordings share that are never replayed at the same time.
        arguments: The other arguments of the function.
    """

    def __init__(
        self, function: Callable[..., Tensors], pixel_values: torch.Tensor, memory: "SharedMemory", *arguments: Any
    ):
        self.memory = memory
        # Outside of `inference_mode`, whose tensors could not be written to in calls without it.
        with _RECORDING, torch.cuda.device(pixel_values.device), torch.inference_mode(False), torch.no_grad():
            self.input = torch.empty_like(pixel_values, memory_format=torch.contiguous_format).copy_(pixel_values)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                # PyTorch's own advice: libraries choose their kernels and take their memory in the first calls.
                for _ in range(3):
                    function(self.input, *arguments)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            # What other threads do with the GPU is not recorded, and is no error.
            with torch.cuda.graph(self.graph, pool=memory.pool, capture_error_mode="thread_local"):
                self.outputs = function(self.input, *arguments)

    def __call__(self, pixel_values: torch.Tensor) -> Tensors:
        """The outputs, copied, because the next call writes over the recorded ones."""
        with torch.cuda.device(pixel_values.device):
            stream = torch.cuda.current_stream()
            stream.wait_event(self.memory.is_free)  # an earlier call may run on another stream
            self.input.copy_(pixel_values)
            self.graph.replay()
            outputs = tuple(output.clone() for output in self.outputs)
            self.memory.is_free.record(stream)
        return outputs


class SharedMemory:
    """The memory of several recordings, and the event after which the next one may use it."""

    def __init__(self) -> None:
        self.pool, self.is_free = torch.cuda.graph_pool_handle(), torch.cuda.Event()

    def record(self, function: Callable[..., Tensors], pixel_values: torch.Tensor, *arguments: Any) -> Recording:
        """A recording in this memory."""
        return Recording(function, pixel_values, self, *arguments)


class CudaGraphs:
    """
    A function of images that is recorded at the first call of each shape, and replayed in all others. The shapes that were used last are
    kept; others are recorded again.

    Args:
        function: Of `pixel_values` (B, channels, H, W) and constants, to a tuple of tensors. It must be the same function in each call.
        record: What makes a recording; by default those of a GPU.
    """

    LIMIT = 8

    def __init__(self, function: Callable[..., Tensors], record: Callable[..., Callable[..., Tensors]] | None = None):
        self.function, self.record = function, record or SharedMemory().record
        self.recordings: dict[Any, Callable[..., Tensors] | None] = {}  # None: it cannot be recorded
        self.lock = threading.Lock()

    def __call__(self, pixel_values: torch.Tensor, *arguments: Any) -> Tensors:
        key = (pixel_values.shape, pixel_values.dtype, arguments)
        # Recordings share their memory, so that one thread calls at a time. It does not wait for the GPU, and neither does the next one.
        with self.lock:
            if key in self.recordings:
                recording = self.recordings.pop(key)
            else:
                recording = self._recorded(pixel_values, *arguments)
            self.recordings[key] = recording  # the last of the dictionary is the newest
            if len(self.recordings) > self.LIMIT:
                del self.recordings[next(iter(self.recordings))]
            if recording is not None:
                return recording(pixel_values)
        return self.function(pixel_values, *arguments)

    def _recorded(self, pixel_values: torch.Tensor, *arguments: Any) -> Callable[..., Tensors] | None:
        try:
            return self.record(self.function, pixel_values, *arguments)
        except RuntimeError as error:  # among them too little memory. Images that the model refuses are a ValueError
            if all(recording is not None for recording in self.recordings.values()):
                logger.warning(
                    f"No CUDA graph for images of shape {tuple(pixel_values.shape)} and dtype {pixel_values.dtype}: {error} They are "
                    "answered without one, which takes longer at small batches."
                )
            return None
