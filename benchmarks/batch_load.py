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
Runs examples/batch_inference.py on the 2,624 photographs of the package elpv-dataset and on files that are not images, for ten minutes, while
the memory of its processes is read. Fills a table of docs/using_a_model.md. What a killed worker and a killed job change is tested by
tests/examples/test_batch_inference.py.

    python -m benchmarks.batch_load                 11 minutes on two CPU cores
    python -m benchmarks.batch_load --seconds 60    2 minutes

Expected: every image has one row, and the memory does not grow. The weights are random, because neither time nor memory depend on them.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks.measurements import measured_by
from benchmarks.pages import ROOT, fill, table
from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


VARIANT = "crossvit_tiny_240"
ASSUMED_RATE = 35  # images per second, which only decides how many images the job gets
SAMPLE_SECONDS = 5  # between two readings of the memory


def write_model(folder: Path):
    torch.manual_seed(0)
    config = CrossViTConfig.from_variant(VARIANT)
    CrossViTForImageClassification(config).save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(config.image_size).save_pretrained(folder)


def write_images(folder: Path, count: int):
    """Links to the photographs, each as often as needed, and five files that people have too: three of them are not images."""
    photos = sorted((Path(str(files("elpv_dataset"))) / "data" / "images").glob("*.png"))
    folder.mkdir()
    for index in range(count):
        copy, photo = divmod(index, len(photos))
        (folder / f"{copy:03d}_{photos[photo].name}").symlink_to(photos[photo])
    (folder / "png_named.jpg").symlink_to(photos[0])
    Image.open(photos[0]).convert("RGB").resize((10_000, 10_000)).save(folder / "100_megapixels.jpg")
    content = (folder / "100_megapixels.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("This is no picture.\n" * 100)
    (folder / "empty.png").touch()


def memory_of(job: psutil.Popen) -> float:
    """MiB of all processes of a job; what they share counts once."""
    total = 0
    for process in [job, *job.children(recursive=True)]:
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def run(model: Path, images: Path, output: Path) -> dict[str, Any]:
    """One job: what it wrote, how long it took, and its memory from the first written file to the last."""
    given = len(list(images.iterdir()))
    command = [sys.executable, str(ROOT / "examples" / "batch_inference.py"), f"--model={model}", f"--images={images}"]
    command += [f"--output_dir={output}", "--rows_per_file=128"]
    begin, samples = time.monotonic(), []
    with psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as job, tqdm() as bar:
        while job.poll() is None:
            time.sleep(SAMPLE_SECONDS)
            written = sorted((output / "predictions").glob("*.parquet"), key=lambda file: file.stat().st_mtime)
            bar.update(len(written) - bar.n)
            if written:
                samples.append((time.time(), memory_of(job)))
    if job.returncode:
        raise RuntimeError(f"The job ended with {job.returncode}.")
    seconds, rows = time.monotonic() - begin, pd.read_parquet(output / "predictions")
    first, last = (file.stat().st_mtime for file in (written[0], written[-1]))
    rate = (len(rows) - len(pd.read_parquet(written[0]))) / (last - first)
    memory = [mebibytes for moment, mebibytes in samples if moment < last]  # after the last file the processes end
    half = memory[len(memory) // 2 :]
    per_minute = 60 / SAMPLE_SECONDS * np.polyfit(range(len(half)), half, 1)[0]
    return {
        "files": f"{given:,}",
        "rows at the end": f"{len(rows):,}",
        "of them with an error": int(rows["error"].notna().sum()),
        "time in all": f"{seconds / 60:.1f} minutes",
        "images per second, once the models are loaded": f"{rate:.1f}",
        "memory of all processes after the first written file": f"{memory[0]:,.0f} MiB",
        "memory of all processes at the end": f"{memory[-1]:,.0f} MiB",
        "change of the memory in the second half": f"{per_minute:+.1f} MiB per minute",
        "predictions on the disk, per million images": f"{sum(file.stat().st_size for file in written) / len(rows) * 1e6 / 2**20:.0f} MiB",
        "a million such images, at this rate": f"{(seconds - len(rows) / rate + 1e6 / rate) / 3600:.1f} hours",
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=int, default=600, help="about how long the job takes, by default 600")
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model")
        write_images(folder / "images", seconds * ASSUMED_RATE)
        measured = run(folder / "model", folder / "images", folder / "output")
    machine = measured_by("benchmarks.batch_load", "torch", "transformers", "ray")
    print(fill("using_a_model.md", {"batch machine": machine, "batch": table(("a job", ""), measured.items())}))


if __name__ == "__main__":
    main()
