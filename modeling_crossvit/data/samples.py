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
"""Turns encoded images into samples for the model, in the processes that read them."""

import atexit
import os
import random
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

import numpy as np
import torch
from datasets import Dataset, IterableDataset
from PIL.Image import Image
from transformers import BaseImageProcessor, TrainerCallback

from crossvit.data.reading import image_name, read_image


class SignalGuard:
    """
    Lets the processes that read images finish their batch after SIGTERM and Ctrl-C, because Slurm and a terminal signal them too and the last
    step still needs their images. They end when the training process ends, which sends them the same signal: a flag in shared memory tells them apart.
    """

    def __init__(self):
        self.training_ends = torch.zeros((), dtype=torch.bool).share_memory_()
        self.is_installed = False
        atexit.register(self.training_ends.fill_, True)

    def __getstate__(self) -> dict:
        return {"training_ends": self.training_ends, "is_installed": False}

    def install_in_worker(self):
        """Called by a process that reads images, before each of them."""
        if not self.is_installed and torch.utils.data.get_worker_info() is not None:
            signal.signal(signal.SIGTERM, self.on_sigterm)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self.is_installed = True

    def on_sigterm(self, *_):
        if self.training_ends:
            os._exit(128 + signal.SIGTERM)


class EvaluationTransform:
    """An image processor as a transform: PIL image to (channels, height, width)."""

    def __init__(self, image_processor: BaseImageProcessor):
        self.image_processor = image_processor

    def __call__(self, image: Image) -> torch.Tensor:
        return self.image_processor(image, return_tensors="pt").pixel_values[0]


class ImageTransform:
    """
    Turns a sample with an encoded image and the name of its class into one with `pixel_values`, (channels, height, width), and `labels`: the
    index of the class, or 0 and 1 for each class, (num_labels,), if an image has several.

    Args:
        transform: Takes a PIL image and returns a tensor of shape (channels, height, width).
        label2id: The index of each class in the model.
        multi_label: Whether a sample has a list of names.
        num_labels: The number of classes of the model.
        image_range, mode: See `read_image`.

    A call raises a ValueError if the image cannot be decoded, or has a label that is not in `label2id`.
    """

    def __init__(
        self,
        transform: Callable[[Image], torch.Tensor],
        label2id: dict[str, int],
        multi_label: bool,
        num_labels: int,
        image_range: list[float] | None = None,
        mode: str = "RGB",
    ):
        self.transform, self.label2id, self.multi_label = transform, label2id, multi_label
        self.num_labels, self.image_range, self.mode = num_labels, image_range, mode

    def class_index(self, name: str, image: dict) -> int:
        if name not in self.label2id:
            raise ValueError(
                f"{image_name(image)} has the label {name}, expected one of {', '.join(list(self.label2id)[:20])}"
                f"{' ...' if len(self.label2id) > 20 else ''}. A stream is not looked through before: mend the data, or name the classes with "
                "--label_map or --num_classes."
            )
        return self.label2id[name]

    def __call__(self, sample: dict) -> dict:
        image, label = sample["image"], sample["label"]
        labels: torch.Tensor | int
        if self.multi_label:
            labels = torch.zeros(self.num_labels)
            labels[[self.class_index(name, image) for name in label]] = 1
        else:
            labels = self.class_index(label, image)
        return {"pixel_values": self.transform(read_image(image, self.image_range, self.mode)), "labels": labels}


@contextmanager
def seeded_random_numbers(*key: int) -> Iterator[None]:
    """
    Inside, the random numbers of Python, NumPy and PyTorch depend on the key only. Outside, they are the same as without this block.
    """
    python, numpy = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(key).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(words[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)  # PyTorch takes signed integers
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class AugmentedImages(torch.utils.data.Dataset):
    """
    A data set with a random transform that depends on the seed, the epoch and the image only. Therefore a continued run, and a run
    with another number of processes or workers, augments each image in the same way. The model's random numbers stay the same too.

    `images[index]` is one sample. If an image comes several times in one epoch, `images[index, repetition]` augments each differently.
    """

    def __init__(self, dataset: Dataset, transform: ImageTransform, seed: int):
        self.dataset, self.transform, self.seed, self.guard = dataset, transform, seed, SignalGuard()
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # shared with workers that run already

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        self.guard.install_in_worker()
        index, *repetition = index if isinstance(index, tuple) else (index,)
        with seeded_random_numbers(self.seed, int(self._epoch), index, *repetition):
            return self.transform(self.dataset[index])


class AugmentedStream(torch.utils.data.IterableDataset):
    """
    A stream with such a transform. Its images have no index, therefore the random numbers depend on the bytes or the name of the
    file. A stream for training is endless: the next epoch follows the last image. Otherwise a process with fewer images would end
    earlier than the others, and they would wait for it forever.
    """

    def __init__(self, dataset: IterableDataset, transform: ImageTransform, seed: int, endless: bool):
        self.dataset, self.transform, self.seed, self.endless = dataset, transform, seed, endless
        self.guard = SignalGuard()
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        self._epoch.fill_(epoch)

    def __iter__(self):
        self.guard.install_in_worker()
        for epoch in count(int(self._epoch)):
            self.dataset.set_epoch(epoch)
            sample = None
            for sample in self.dataset:
                image = sample["image"] or {}
                key = zlib.crc32(image.get("bytes") or str(image.get("path")).encode())
                with seeded_random_numbers(self.seed, epoch, key):
                    transformed = self.transform(sample)
                yield transformed
            if sample is None or not self.endless:  # a worker without images would search forever
                return


class EpochCallback(TrainerCallback):
    """Sets the epoch of the training images, because their augmentations depend on it."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if hasattr(train_dataloader.dataset, "set_epoch"):
            train_dataloader.dataset.set_epoch(int(state.epoch))
