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
Times the image processors beside timm's transform, and pipelines from JPEG files to labels beside that of transformers' TimmWrapper. All do
the same work on the same photos, with the same weights. Fills the tables of docs/images.md.

    python -m benchmarks.images             3 minutes on two CPU cores
    python -m benchmarks.images --page      measures nothing, and fills the page from docs/results/images.json
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.models import save_for_hf
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor
from transformers import TimmWrapperForImageClassification, TimmWrapperImageProcessor, pipeline
from transformers.image_utils import load_image_as_tensor

from benchmarks.measurements import Results, machine_sentence, this_machine
from benchmarks.pages import RESULTS, fill, table
from benchmarks.parity import timm_model
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, CrossViTImageProcessorPil, optimize
from crossvit.inference.fastest import interleave, ratios


VARIANT = "crossvit_tiny_240"
# Of docs/images.md.
SETTING = {"num_workers": 1, "batch_size": 4}
Call = Callable[[], Any]


def photos(width: int = 640, height: int = 480) -> list[Image.Image]:
    """scikit-learn's two photos in the size that cameras and data sets have most often."""
    return [Image.fromarray(array).resize((width, height)) for array in load_sample_images().images]


def save_timm_model(model: torch.nn.Module, folder: Path, **kwargs) -> Path:
    """
    The folder of a model as timm writes it, but without the number of classes among the arguments, where transformers 5.24 fails on it.
    `kwargs` are those of timm's `save_for_hf`.
    """
    save_for_hf(model, folder, safe_serialization=True, **kwargs)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.get("model_args", {}).pop("num_classes", None)
    path.write_text(json.dumps(config))
    return folder


def processor_calls(images: list[Image.Image], folder: Path) -> dict[str, dict[str, Call]]:
    """
    For each kind of input the image processors by name, which process the photos one after the other. Tensors are bytes with interleaved channels, as
    JPEG decoders give them; timm's transform needs floats of 0..1 and gets them by a division inside the measured call.

    Args:
        images: RGB photos.
        folder: Where timm's model lies, whose evaluation transform is the standard (`save_timm_model`).
    """
    data_config = timm.data.resolve_data_config(timm.get_pretrained_cfg(VARIANT).to_dict())
    transform = timm.data.create_transform(**data_config)
    wrapper = TimmWrapperImageProcessor.from_pretrained(folder)
    tensors = [pil_to_tensor(image) for image in images]

    def call(processor, inputs: list[Any]) -> Call:
        return lambda: [processor(each) for each in inputs]

    def pixels(processor):
        return lambda image: processor(image, return_tensors="pt").pixel_values

    here = {
        "here, torchvision": pixels(CrossViTImageProcessor.from_pretrained(folder)),
        "here, PIL": pixels(CrossViTImageProcessorPil.from_pretrained(folder)),
    }
    of_images = {"timm": transform, "TimmWrapper": pixels(wrapper), **here}
    of_tensors = {
        "timm": lambda tensor: transform(tensor / 255),
        "TimmWrapper": lambda tensor: pixels(wrapper)(tensor / 255),
        **here,
    }
    return {
        "PIL images to tensors": {name: call(processor, images) for name, processor in of_images.items()},
        "tensors to tensors": {name: call(processor, tensors) for name, processor in of_tensors.items()},
    }


class Photos(Dataset):
    """JPEG files as tensors. This is the class of docs/images.md."""

    def __init__(self, paths: list[str]):
        self.paths = paths

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        return load_image_as_tensor(self.paths[index])


def pipeline_calls(jpegs: Path, folder: Path) -> dict[str, Call]:
    """
    The pipelines for all JPEG files of a folder: as transformers calls them by default, and with the setting of docs/images.md.

    Args:
        jpegs: A folder with JPEG files.
        folder: Where timm's model lies (`save_timm_model`). Both pipelines have its weights.
    """
    paths = sorted(map(str, jpegs.glob("*.jpg")))
    wrapper = pipeline(
        "image-classification",
        model=TimmWrapperForImageClassification.from_pretrained(folder).eval(),
        image_processor=TimmWrapperImageProcessor.from_pretrained(folder),
    )
    here = pipeline(
        "image-classification",
        model=CrossViTForImageClassification.from_pretrained(folder).eval(),
        image_processor=CrossViTImageProcessor.from_pretrained(folder),
    )
    optimized = pipeline("image-classification", model=optimize(here.model), image_processor=here.image_processor)
    return {
        "TimmWrapper, default": lambda: wrapper(paths),
        # Its image processor refuses tensors of bytes, so that it gets the paths.
        "TimmWrapper, same setting": lambda: wrapper(paths, **SETTING),
        "here, default": lambda: here(paths),
        "here, setting of this page": lambda: list(optimized(Photos(paths), **SETTING)),
    }


def measure() -> Iterator[tuple[str, int, dict[str, Call]]]:
    """The work, the number of images in a call, and the calls: image processors on one thread, and pipelines."""
    with tempfile.TemporaryDirectory() as folder:
        weights = save_timm_model(timm_model(VARIANT), Path(folder) / "timm")
        pictures = photos()
        for index, photo in enumerate(64 * pictures):
            photo.save(Path(folder) / f"{index}.jpg")
        # First, because a process that has grown starts the workers of a pipeline slowly.
        yield "pipeline", 64 * len(pictures), pipeline_calls(Path(folder), weights)
        torch.set_num_threads(1)
        for kind, calls in processor_calls(pictures, weights).items():
            yield f"processors, {kind}", len(pictures), calls


def times_table(results: Results, work: str, reference: str) -> str:
    rows = []
    for row in results.rows:
        for name, seconds in row["seconds"].items() if row["work"].startswith(work) else ():
            per_image = f"{1e3 * statistics.median(seconds) / row['batch']:.1f} ms"
            speed = "{:.2f} ({:.2f} to {:.2f})".format(*ratios(seconds, row["seconds"][reference]))
            rows.append([row["work"].removeprefix("processors, "), row["batch"], name, per_image, speed])
    return table(("work", "images", "by", "per image", f"times the speed of {reference}"), rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--page", action="store_true", help="measure nothing, and fill the page from the results")
    path = RESULTS / "images.json"
    if parser.parse_args().page:
        results = Results(path, json.loads(path.read_text())["machine"])
    else:
        machine = this_machine("torch", "torchvision", "transformers", "timm")
        measured = {work: {"batch": images, "seconds": interleave(calls, 20)} for work, images, calls in measure()}
        path.unlink(missing_ok=True)  # everything was measured again
        results = Results(path, machine)
        for work, row in measured.items():
            results.replace(work, [row])
    places = {
        "machine": machine_sentence("benchmarks.images", results.machine),
        "processors": times_table(results, "processors", "timm"),
        "pipeline": times_table(results, "pipeline", "TimmWrapper, default"),
    }
    print(f"wrote {fill('images.md', places)}")


if __name__ == "__main__":
    main()
