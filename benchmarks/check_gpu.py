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
Everything that needs a GPU, for a machine that is rented by the minute: runs the tests of tests/test_on_a_gpu.py, measures inference, training,
memory and the way from JPEG files to labels beside timm, fills the GPU part of docs/speed.md and the README, and names the targets that are
missed. Nothing is downloaded.

    python -m benchmarks.check_gpu                        `make check-gpu`: 4 minutes; given again, it measures what is missing
    python -m benchmarks.check_gpu --device cpu --quick   tries the script without a GPU: small sizes, nothing is written
    python -m benchmarks.check_gpu --page                 measures nothing, and fills the pages from the file of results

Every measurement is saved at once. When the time is over, those that are left are named.
"""

import argparse
import copy
import gc
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import transformers
from torch.utils.data import DataLoader
from transformers import TimmWrapperForImageClassification, TimmWrapperImageProcessor, pipeline
from transformers.image_utils import load_image_as_tensor

from benchmarks.images import Photos, photos, save_timm_model
from benchmarks.measurements import Results, machine_sentence, multiply_adds, peak_bytes, this_machine
from benchmarks.pages import RESULTS, ROOT, fill, table
from benchmarks.parity import timm_model
from benchmarks.speed import (
    VARIANTS,
    load_models,
    random_images,
    ratio_table,
    saved,
    training_step,
    vit_of_the_same_width,
    without_gradients,
    write_readme,
)
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, optimize
from crossvit.data import decode_jpegs
from crossvit.inference.fastest import interleave, ratios
from crossvit.inference.graphs import SharedMemory


PATH = RESULTS / "speed_gpu.json"
BATCHES = (1, 8, 32, 256)
COLUMNS = {
    "inference bfloat16": ("ViT", "timm, CUDA graph", "ordinary", "optimized"),
    "compiled inference bfloat16": ("timm, compiled", "optimized, compiled"),
    "training bfloat16": ("ordinary",),
    "compiled training bfloat16": ("timm, compiled", "ordinary, compiled"),
}
# On an H100, so that what is begun ends in time.
EXPECTED_SECONDS = {"compiled training bfloat16": 140, "compiled inference bfloat16": 30, "files to labels": 40}
FILES = ("TimmWrapper, pipeline", "here, pipeline", "here, pinned memory", "here, decoded on the GPU")

Calls = dict[str, Callable[[], Any]]
# The work, the variant, the batch, and what gives the rest of the row.
Case = tuple[str, str, int, Callable[[], dict[str, Any]]]


class Measurement:
    """What is measured on a device. In the quick form one small size stands for all, and graphs are made without kernels."""

    def __init__(self, device: str, quick: bool):
        self.device, self.quick = device, quick
        self.variants = VARIANTS[:1] if quick else (VARIANTS[1], VARIANTS[0], VARIANTS[2])
        self.batches = (2,) if quick else BATCHES
        self.compile = partial(torch.compile, backend="aot_eager" if quick else "inductor", dynamic=False)
        self.seconds = 0.1 if quick else 2.0
        self.loaded: dict[str, dict[str, torch.nn.Module]] = {}

    def cases(self) -> Iterator[Case]:
        """What matters most comes first."""
        large = self.batches[-1]
        yield "tests", "", 1, self.tests
        yield "ceiling", "", 1, self.ceiling
        for variant in self.variants:
            for batch in self.batches:
                yield "inference bfloat16", variant, batch, partial(self.inference, variant, batch)
            yield "training bfloat16", variant, large, partial(self.training, variant, large)
            yield "memory", variant, large, partial(self.memory, variant, large)
            if variant == self.variants[0]:
                yield "files to labels", variant, 64, partial(self.files_to_labels, variant)
        # A compilation takes longer than all that is above for a model.
        for variant in self.variants:
            for batch in reversed(self.batches):
                compiled = partial(self.compiled_inference, variant, batch)
                yield "compiled inference bfloat16", variant, batch, compiled
        for variant in self.variants:
            yield "compiled training bfloat16", variant, large, partial(self.compiled_training, variant, large)

    def load(self, variant: str, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
        """New copies of timm's model and of ours. They are made once, which takes longer than most measurements."""
        if variant not in self.loaded:
            self.loaded = {variant: load_models(variant, "cpu", torch.float32)}
        models = self.loaded[variant]
        return {name: copy.deepcopy(models[name]).to(self.device, dtype) for name in ("timm", "ordinary")}

    def tests(self) -> dict[str, Any]:
        """tests/test_on_a_gpu.py. What libraries announce to give up is no matter here."""
        command = [sys.executable, "-m", "pytest", "--quiet", "-W", "default", "tests/test_on_a_gpu.py"]
        if self.quick:
            command.append("--collect-only")
        return {"passed": subprocess.run(command, cwd=ROOT).returncode == 0}

    def interleaved(self, calls: Calls) -> dict[str, Any]:
        return {"seconds": interleave(calls, self.seconds)}

    def ceiling(self) -> dict[str, Any]:
        """What a large matrix product reaches, in multiply-adds per second."""
        size = 128 if self.quick else 8192
        left, right = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        seconds = interleave({"product": lambda: left @ right}, self.seconds)["product"]
        return {"multiply_adds_per_second": size**3 / statistics.median(seconds)}

    def in_a_cuda_graph(self, model: torch.nn.Module, images: torch.Tensor) -> Callable[[], Any]:
        if self.device == "cpu":
            return without_gradients(model, images)
        recording = SharedMemory().record(lambda pixel_values: (model(pixel_values),), images)
        return lambda: recording(images)

    def inference(self, variant: str, batch: int) -> dict[str, Any]:
        models = self.load(variant, torch.bfloat16)
        models["optimized"] = optimize(models["ordinary"])
        models["ViT"] = vit_of_the_same_width(models["ordinary"])
        calls = {name: without_gradients(model, random_images(model, batch)) for name, model in models.items()}
        calls["timm, CUDA graph"] = self.in_a_cuda_graph(models["timm"], random_images(models["timm"], batch))
        with torch.device("meta"):
            shapes = CrossViTForImageClassification(models["ordinary"].config).eval()
            counted = multiply_adds(partial(shapes, torch.empty(1, 3, 240, 240)))
        return {**self.interleaved(calls), "multiply_adds": counted}

    def compiled_inference(self, variant: str, batch: int) -> dict[str, Any]:
        """timm's whole model is compiled for the largest batch alone, because each takes half a minute."""
        torch.compiler.reset()
        models = self.load(variant, torch.bfloat16)
        images = random_images(models["timm"], batch)
        calls = {
            "timm": without_gradients(models["timm"], images),
            "optimized, compiled": without_gradients(optimize(models["ordinary"], compile=True), images),
        }
        if batch == self.batches[-1]:
            calls["timm, compiled"] = without_gradients(self.compile(models["timm"]), images)
        return self.interleaved(calls)

    def training(self, variant: str, batch: int) -> dict[str, Any]:
        models = self.load(variant, torch.float32)
        images = random_images(models["timm"], batch)
        calls = {name: training_step(models[name], images, autocast=True) for name in ("timm", "ordinary")}
        return self.interleaved(calls)

    def compiled_training(self, variant: str, batch: int) -> dict[str, Any]:
        torch.compiler.reset()
        models = self.load(variant, torch.float32)
        images = random_images(models["timm"], batch)
        calls = {"timm": training_step(models["timm"], images, autocast=True)}
        for name in ("timm", "ordinary"):
            model = self.load(variant, torch.float32)[name]
            model.compile(**self.compile.keywords)
            calls[f"{name}, compiled"] = training_step(model, images, autocast=True)
        return self.interleaved(calls)

    def memory(self, variant: str, batch: int) -> dict[str, Any]:
        """The most bytes beyond what is there before a call, in inference, and of a training step with autocast."""
        peak = self.cuda_peak if self.device == "cuda" else peak_bytes
        found: dict[str, int] = {}
        models = self.load(variant, torch.bfloat16)
        models["optimized"] = optimize(models["ordinary"])
        images = random_images(models["timm"], batch)
        for name, model in models.items():
            # The first call of the optimized form makes its graph, which counts.
            found[f"inference, {name}"] = peak(without_gradients(model, images))
        for name in ("timm", "ordinary"):
            step = training_step(models[name].float(), images.float(), autocast=True)
            step()  # makes the state of the optimizer
            found[f"training, {name}"] = peak(step)
        return {"bytes": found}

    def cuda_peak(self, call: Callable[[], Any]) -> int:
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def files_to_labels(self, variant: str) -> dict[str, Any]:
        """JPEG files of 640 x 480 pixels to labels. The row has the seconds of all files."""
        count, batch = (8, 4) if self.quick else (512, 64)
        workers = 1 if self.quick else min(16, os.cpu_count() or 1)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            weights = save_timm_model(timm_model(variant), folder / "timm")
            pictures = photos()
            for index in range(count):
                pictures[index % 2].save(folder / f"{index}.jpg", quality=90)
            paths = sorted(map(str, folder.glob("*.jpg")))
            setting = {"num_workers": workers, "batch_size": batch}
            options = {"device": self.device, "dtype": torch.bfloat16}
            wrapper = pipeline(
                "image-classification",
                model=TimmWrapperForImageClassification.from_pretrained(weights, dtype=torch.bfloat16).eval(),
                image_processor=TimmWrapperImageProcessor.from_pretrained(weights),
                **options,
            )
            model = CrossViTForImageClassification.from_pretrained(weights, dtype=torch.bfloat16)
            fast = optimize(model.eval().to(self.device))
            image_processor = CrossViTImageProcessor.from_pretrained(weights)
            here = pipeline("image-classification", model=fast, image_processor=image_processor, **options)
            calls = {
                "TimmWrapper, pipeline": lambda: wrapper(paths, **setting),
                "here, pipeline": lambda: list(here(Photos(paths), **setting)),
                "here, pinned memory": lambda: with_pinned_memory(fast, image_processor, paths, **setting),
                "here, decoded on the GPU": lambda: decoded_on_the_gpu(fast, image_processor, paths, batch),
            }
            return {**self.interleaved(calls), "files": count, "workers": workers}


class Crops(Photos):
    """JPEG files as bytes of pixels, (3, H, W), resized and cropped in a worker: a quarter of the size of pixel values."""

    def __init__(self, paths: list[str], image_processor: CrossViTImageProcessor):
        super().__init__(paths)
        self.image_processor = image_processor

    def __getitem__(self, index: int) -> torch.Tensor:
        image = load_image_as_tensor(self.paths[index])
        return self.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="pt").pixel_values[0]


@torch.inference_mode()
def with_pinned_memory(
    fast: torch.nn.Module, image_processor: CrossViTImageProcessor, paths: list[str], batch_size: int, num_workers: int
) -> list[int]:
    """The index of the best class of each file. Workers decode and resize, and the next batch is copied while the model works."""
    device, labels = fast.device, []
    crops = Crops(paths, image_processor)
    loader = DataLoader(crops, batch_size, num_workers=num_workers, pin_memory=device.type == "cuda")
    for batch in loader:
        pixels = list(batch.to(device, non_blocking=True))
        inputs = image_processor(pixels, do_resize=False, do_center_crop=False, device=device, return_tensors="pt")
        labels.append(fast(inputs.pixel_values).logits.argmax(-1))
    return torch.cat(labels).tolist()


@torch.inference_mode()
def decoded_on_the_gpu(
    fast: torch.nn.Module, image_processor: CrossViTImageProcessor, paths: list[str], batch_size: int
) -> list[int]:
    """The same, as docs/images.md does it. The files of the next batch are read while the GPU works."""
    labels = []
    batches = [paths[start : start + batch_size] for start in range(0, len(paths), batch_size)]
    with ThreadPoolExecutor(1) as reader:
        for files in reader.map(lambda batch: [Path(path).read_bytes() for path in batch], batches):
            images = decode_jpegs(files, fast.device)
            inputs = image_processor(images, device=fast.device, return_tensors="pt")
            labels.append(fast(inputs.pixel_values).logits.argmax(-1))
    return torch.cat(labels).tolist()


# Targets


def speed_of(row: dict[str, Any], name: str, reference: str = "timm") -> float:
    return ratios(row["seconds"][name], row["seconds"][reference])[0]


def missed_targets(results: Results) -> list[str]:
    """A line for each target that a measurement does not reach: how many times as fast a form must be as timm's in the same form."""
    targets = []
    for row in results.of("inference bfloat16"):
        targets.append((row, "ordinary", "timm", 1.10 if row["batch"] == 256 else 0.97))
        if "timm, CUDA graph" in row["seconds"]:
            targets.append((row, "optimized", "timm, CUDA graph", 1.3))
    targets += [(row, "ordinary", "timm", 1.05) for row in results.of("training bfloat16")]
    compiled = results.of("compiled training bfloat16")
    targets += [(row, "ordinary, compiled", "timm, compiled", 1.0) for row in compiled]
    return [
        f"{row['work']}, {row['variant']}, batch {row['batch']}: {name} is {found:.2f} times as fast as {reference}, the target is {target}"
        for row, name, reference, target in targets
        if name in row["seconds"] and (found := speed_of(row, name, reference)) < target
    ]


# The pages


def memory_table(rows: list[dict[str, Any]]) -> str:
    heads = ("model", "batch", *rows[0]["bytes"])
    cells = ([f"{value / 2**20:.0f} MiB" for value in row["bytes"].values()] for row in rows)
    return table(heads, ([f"`{row['variant']}`", row["batch"], *values] for row, values in zip(rows, cells)))


def files_table(rows: list[dict[str, Any]]) -> str:
    lines = []
    for row in rows:
        for name in FILES:
            seconds = row["seconds"][name]
            speed = "{:.2f} ({:.2f} to {:.2f})".format(*ratios(seconds, row["seconds"][FILES[0]]))
            lines.append([f"`{row['variant']}`", name, f"{row['files'] / statistics.median(seconds):.0f}", speed])
    return table(("model", "by", "files per second", f"times the speed of {FILES[0]}"), lines)


def ceiling_table(results: Results) -> str:
    """Which part of what a large product reaches the matrix products of the model reach, at the largest batch."""
    ceiling = results.of("ceiling")[0]["multiply_adds_per_second"]
    lines = []
    for row in results.of("inference bfloat16"):
        if "multiply_adds" in row and row["batch"] == max(BATCHES):
            work = row["multiply_adds"] * row["batch"]
            part = {
                name: work / statistics.median(row["seconds"][name]) / ceiling
                for name in ("timm", "ordinary", "optimized")
            }
            lines.append([f"`{row['variant']}`", *(f"{100 * value:.0f} %" for value in part.values())])
    return table(("model", "timm", "ordinary", "optimized"), lines)


def gpu_part(results: Results) -> str:
    """The GPU part of docs/speed.md."""
    parts = [machine_sentence("benchmarks.check_gpu", results.machine), results.machine.get("note", "")]
    titles = {
        "inference bfloat16": "Inference in bfloat16:",
        "inference float32": "Inference in float32:",
        "compiled inference bfloat16": "Inference in bfloat16, compiled:",
        "training bfloat16": "Training with autocast to bfloat16:",
        "compiled training bfloat16": "Training with autocast to bfloat16, compiled:",
        "CUDA graphs": "CUDA graphs of PyTorch's compiler, in bfloat16:",
    }
    for work, title in titles.items():
        if rows := results.of(work):
            known = COLUMNS.get(work, ())
            names = dict.fromkeys(
                name for row in rows for name in (*known, *row["seconds"]) if name in row["seconds"] and name != "timm"
            )
            parts += [title, ratio_table(rows, tuple(names))]
    if rows := results.of("files to labels"):
        parts += ["From JPEG files of 640 x 480 pixels to labels:", files_table(rows)]
    if rows := results.of("memory"):
        parts += ["The peak of the memory beyond the weights, for a batch:", memory_table(rows)]
    if results.of("ceiling"):
        parts += ["The part of what a large matrix product reaches on this card:", ceiling_table(results)]
    return "\n\n".join(filter(None, parts))


def measure(results: Results, measurement: Measurement, deadline: float) -> list[str]:
    """Adds the rows that are missing, as long as there is time for them. Returns those that are left."""
    left = []
    for work, variant, batch, call in measurement.cases():
        name = " ".join(filter(None, (work, variant, f"batch {batch}" if variant else "")))
        rows = [row for row in results.of(work) if row.get("passed", True)]
        if any((row["variant"], row["batch"]) == (variant, batch) for row in rows):
            continue
        start = time.monotonic()
        if start + EXPECTED_SECONDS.get(work, 10) > deadline:
            left.append(name)
            continue
        row = {"variant": variant, "batch": batch, **call()}
        results.replace(work, [*rows, row])
        print(f"{name}: measured in {time.monotonic() - start:.0f} s", flush=True)
        if measurement.device == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
    return left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes, which try the script; nothing is written")
    parser.add_argument(
        "--minutes", type=float, default=4, help="for the tests and the measurements together, by default 4"
    )
    parser.add_argument("--page", action="store_true", help="measure nothing, and fill the pages from the results")
    arguments = parser.parse_args()
    deadline = time.monotonic() + 60 * arguments.minutes
    if arguments.device == "cpu" and not arguments.quick:
        parser.error("--device cpu only tries the script: give --quick too. `make benchmark-speed` measures a CPU")
    if not arguments.page and arguments.device == "cuda" and not torch.cuda.is_available():
        parser.error(f"PyTorch {torch.__version__} finds no GPU here: use a machine that has one")
    transformers.utils.logging.disable_progress_bar()
    left: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "quick.json" if arguments.quick else PATH
        if arguments.page:
            results = saved("gpu")
        else:
            packages = ("transformers-crossvit", "torch", "torchvision", "transformers", "timm")
            machine = this_machine(*packages, device=arguments.device)
            results = Results(path, {**machine, "date": date.today().isoformat()}, anew=True)
            left = measure(results, Measurement(arguments.device, arguments.quick), deadline)
        if arguments.quick:
            print(gpu_part(results))
        else:
            fill("speed.md", {"gpu": gpu_part(results)})
            write_readme()
    for line in missed_targets(results):
        print(f"missed: {line}")
    if left:
        print(f"The time is over; the same command measures what is left: {'; '.join(left)}.")
    if not all(row["passed"] for row in results.of("tests")):
        raise SystemExit("error: tests of tests/test_on_a_gpu.py fail, see above.")


if __name__ == "__main__":
    main()
