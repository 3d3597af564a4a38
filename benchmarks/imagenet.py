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
Measures the accuracy of the published models on ImageNet-1k's validation set, beside what the paper and timm report.

    python benchmarks/imagenet.py                                     the Hub's ILSVRC/imagenet-1k, once you have accepted its terms
    python benchmarks/imagenet.py --data /data/imagenet/val           a folder with one folder of images per class, n01440764 and so on
    torchrun --nproc_per_node 8 benchmarks/imagenet.py ...            on eight GPUs

timm's repositories are read as they are, and images are prepared by the image processor of each. Answers are kept in `--output_dir` after
every 1,000 images: the same command continues where it was stopped. Expected: all top-1 accuracies within 0.1 of timm's.
"""

import argparse
import hashlib
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState
from accelerate.utils import find_executable_batch_size
from datasets import load_dataset
from PIL import Image
from timm.data import ImageNetInfo
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.datasets import ImageFolder
from tqdm import tqdm

from crossvit import CROSSVIT_VARIANTS, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.convert import PUBLISHED_ACCURACIES


sys.path.append(str(Path(__file__).parent.parent / "examples"))

from common.file_writing import replace_file


HUB_DATA = "ILSVRC/imagenet-1k"
BLOCK = 1000
# Top-1 and top-5 in timm's results-imagenet.csv of April 2023 (commit 0173a13). Later editions differ by up to 0.03: other versions of
# PyTorch and other GPUs.
TIMM = {
    "crossvit_tiny_240": (73.336, 91.908),
    "crossvit_small_240": (81.016, 95.456),
    "crossvit_base_240": (82.216, 95.832),
    "crossvit_9_240": (73.958, 91.968),
    "crossvit_15_240": (81.534, 95.692),
    "crossvit_18_240": (82.396, 96.060),
    "crossvit_9_dagger_240": (76.980, 93.620),
    "crossvit_15_dagger_240": (82.330, 95.960),
    "crossvit_18_dagger_240": (82.516, 96.066),
    "crossvit_15_dagger_408": (83.842, 96.778),
    "crossvit_18_dagger_408": (84.198, 96.816),
}


@dataclass(frozen=True)
class ValidationSet:
    images: Sequence[Any]  # Pillow's images or paths
    labels: list[int]  # from 0 to 999, in the order in which the models count
    name: str

    def identity(self) -> dict[str, Any]:
        """Tells this set from others: answers to it are not continued on another one."""
        labels = hashlib.sha256(np.asarray(self.labels, dtype=np.int64).tobytes()).hexdigest()[:16]
        return {"data": self.name, "images": len(self.labels), "labels": labels}


class Prepared(Dataset):
    """The images as a model sees them."""

    def __init__(self, data: ValidationSet, image_processor: CrossViTImageProcessor):
        self.data, self.image_processor = data, image_processor

    def __len__(self) -> int:
        return len(self.data.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        found = self.data.images[index]
        try:
            image = (found if isinstance(found, Image.Image) else Image.open(found)).convert("RGB")
        except OSError as error:
            name = found if isinstance(found, str) else f"number {index}"
            raise OSError(f"Image {name} cannot be read: {error}") from None
        return self.image_processor(image, return_tensors="pt").pixel_values[0], self.data.labels[index]


def load_folder(folder: Path) -> ValidationSet:
    """A folder with a folder of images for some or all of the classes. Their names, ImageNet's own, tell the number of each class."""
    numbers = {name: number for number, name in enumerate(ImageNetInfo("imagenet-1k").label_names())}
    try:
        found = ImageFolder(folder)
    except FileNotFoundError as error:
        raise SystemExit(f"error: {folder} must have a folder of images per class: {error}") from None
    if unknown := [name for name in found.classes if name not in numbers]:
        raise SystemExit(
            f"error: {folder} has a folder {unknown[0]!r}. Expected ImageNet's names of classes alone, such as 'n01440764' for tench: they tell "
            "which of the 1,000 classes it is."
        )
    return ValidationSet(
        [path for path, _ in found.samples],
        [numbers[found.classes[label]] for _, label in found.samples],
        str(folder.resolve()),
    )


def load_from_hub(name: str) -> ValidationSet:
    """The Hub numbers ImageNet's classes as the models do."""
    data = load_dataset(name, split="validation")
    if data.features["label"].num_classes != 1000:
        raise SystemExit(
            f"error: {name} has {data.features['label'].num_classes} classes, expected the 1,000 of ImageNet-1k."
        )
    return ValidationSet(data["image"], list(data["label"]), name)


def answer(model_name: str, data: ValidationSet, folder: Path, state: PartialState, num_workers: int) -> None:
    """
    Writes the right class and the five most probable ones of each image, (images, 6), in files of 1,000 images. Processes take turns, and
    what is there already is left out.
    """
    model = CrossViTForImageClassification.from_pretrained(model_name).eval().to(state.device)
    if model.config.num_labels != 1000:
        raise SystemExit(
            f"error: {model_name} has {model.config.num_labels} classes, expected the 1,000 of ImageNet-1k."
        )
    prepared = Prepared(data, CrossViTImageProcessor.from_pretrained(model_name))
    blocks = range(math.ceil(len(prepared) / BLOCK))[state.process_index :: state.num_processes]

    # Makes the batch smaller when the memory does not suffice, and tries again.
    @find_executable_batch_size(starting_batch_size=512 if state.device.type == "cuda" else 32)
    @torch.inference_mode()
    def write_blocks(batch_size: int) -> None:
        for block in tqdm(blocks, desc=f"{model_name}, {BLOCK} images each", disable=not state.is_main_process):
            path = folder / f"{block:04d}.npy"
            if path.exists():
                continue
            part = Subset(prepared, range(block * BLOCK, min((block + 1) * BLOCK, len(prepared))))
            rows = []
            for pixel_values, labels in DataLoader(part, batch_size, num_workers=num_workers):
                best = model(pixel_values.to(state.device)).logits.topk(5).indices.cpu()
                rows.append(torch.cat((labels[:, None], best), dim=1))
            table = torch.cat(rows).to(torch.int16).numpy()
            replace_file(path, lambda temporary, table=table: np.save(temporary, table))

    write_blocks()


def accuracies(folder: Path, images: int) -> dict[str, float]:
    """Top-1 and top-5 in percent, from the files that `answer` wrote."""
    rows = np.concatenate([np.load(path) for path in sorted(folder.glob("[0-9]*.npy"))])
    if len(rows) != images:
        raise RuntimeError(f"{folder} has answers for {len(rows)} of {images} images.")
    right = rows[:, 1:] == rows[:, :1]
    return {"top-1": 100 * right[:, 0].mean(), "top-5": 100 * right.any(axis=1).mean()}


def results_table(measured: dict[str, dict[str, float]]) -> pd.DataFrame:
    """What was measured beside what the paper and timm report."""
    rows = {}
    for name, values in measured.items():
        variant = name.removeprefix("timm/").removesuffix(".in1k")
        paper, timm = PUBLISHED_ACCURACIES.get(variant, (np.nan,))[0], TIMM.get(variant, (np.nan, np.nan))
        rows[name] = {
            "top-1": values["top-1"],
            "paper": paper,
            "timm": timm[0],
            "less timm": values["top-1"] - timm[0],
            "top-5": values["top-5"],
            "timm, top-5": timm[1],
            "less timm, top-5": values["top-5"] - timm[1],
        }
    return pd.DataFrame(rows).T


def check_job(folder: Path, job: dict[str, Any]) -> None:
    """Ends the program if the folder has answers to other images."""
    file = folder / "job.json"
    if file.exists() and (found := json.loads(file.read_text())) != job:
        raise SystemExit(
            f"error: {folder} has answers of another run, {found}; this one is {job}. Give another --output_dir."
        )
    folder.mkdir(parents=True, exist_ok=True)
    replace_file(file, lambda temporary: temporary.write_text(json.dumps(job)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--data", default=HUB_DATA, help=f"a folder, or a data set of the Hub; by default {HUB_DATA}")
    parser.add_argument("--models", nargs="+", default=[f"timm/{variant}.in1k" for variant in CROSSVIT_VARIANTS], help="by default the eleven published ones")  # fmt: skip
    parser.add_argument(
        "--output_dir", type=Path, default=Path("outputs/imagenet"), help="by default outputs/imagenet"
    )
    parser.add_argument("--dataloader_num_workers", type=int, help="processes that read images, per GPU; by default all cores together")  # fmt: skip
    arguments = parser.parse_args()
    # Without an accelerator it would take several processes for one.
    state = PartialState(cpu=not torch.accelerator.is_available())
    num_workers = arguments.dataloader_num_workers
    if num_workers is None:
        num_workers = max(1, (os.cpu_count() or 1) // state.num_processes)
    data = load_folder(Path(arguments.data)) if Path(arguments.data).is_dir() else load_from_hub(arguments.data)
    folders = {name: arguments.output_dir / name.strip("/").replace("/", "--") for name in arguments.models}
    if state.is_main_process:
        for name, folder in folders.items():
            check_job(folder, {"model": name, **data.identity()})
    state.wait_for_everyone()
    measured = {}
    for name, folder in folders.items():
        answer(name, data, folder, state, num_workers)
        state.wait_for_everyone()
        if state.is_main_process:
            measured[name] = accuracies(folder, len(data.labels))
            table = results_table(measured)
            replace_file(
                arguments.output_dir / "results.json",
                lambda temporary: table.to_json(temporary, orient="index", indent=1),
            )
    if state.is_main_process:
        print(
            f"\n{len(data.labels)} images of {data.name}\n{table.to_string(float_format='{:.3f}'.format, na_rep='')}"
        )


if __name__ == "__main__":
    main()
