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
Runs examples/batch_inference.py on the 2,624 photographs of the package elpv-dataset and on files that are no images: without a fault, with
a worker and then the whole job killed, and for ten minutes while the memory of its processes is read. Writes the key "batch" of
docs/results/using_a_model_load.json.

    python benchmarks/batch_load.py                 15 minutes on two CPU cores
    python benchmarks/batch_load.py --seconds 60    5 minutes

Expected: every image has one row, the rows after the faults are those of the run without, and the memory does not grow. The weights are
random, because neither the time nor the memory depends on them.
"""

import argparse
import math
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import torch
from measurements import SAMPLE_SECONDS, memory_figures, write_load
from PIL import Image
from tqdm import tqdm

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


SCRIPT = Path(__file__).parents[1] / "examples" / "batch_inference.py"
VARIANT = "crossvit_tiny_240"
ROWS_PER_FILE = 128


def write_model(folder: Path):
    torch.manual_seed(0)
    config = CrossViTConfig.from_variant(VARIANT)
    CrossViTForImageClassification(config).save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(config.image_size).save_pretrained(folder)


def write_images(folder: Path, copies: int = 1) -> int:
    """Links to all photographs, so many times, beside files that people have too. Returns the number of files that are no images."""
    photos = sorted((Path(str(files("elpv_dataset"))) / "data" / "images").glob("*.png"))
    folder.mkdir()
    for copy in range(copies):
        for photo in photos:
            (folder / f"{copy:03d}_{photo.name}").symlink_to(photo)
    (folder / "png_named.jpg").symlink_to(photos[0])
    Image.open(photos[0]).convert("RGB").resize((10_000, 10_000)).save(folder / "100_megapixels.jpg")
    content = (folder / "100_megapixels.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(content[: len(content) // 2])
    (folder / "text.png").write_text("This is no picture.\n" * 100)
    (folder / "empty.png").touch()
    return 3


def start(model: Path, images: Path, output: Path, *options: str) -> psutil.Popen:
    paths = [f"--model={model}", f"--images={images}", f"--output_dir={output}", f"--rows_per_file={ROWS_PER_FILE}"]
    command = [sys.executable, str(SCRIPT), *paths, *options]
    return psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finished_files(output: Path) -> list[Path]:
    return sorted((output / "predictions").glob("*.parquet"), key=lambda file: file.stat().st_mtime)


def rows_of(output: Path) -> pd.DataFrame:
    return pd.read_parquet(output / "predictions").sort_values("image").set_index("image")


def wait_until(condition: Callable[[], bool], job: psutil.Popen):
    while not condition():
        if job.poll() is not None:
            raise RuntimeError("The job ended before it could be killed.")
        time.sleep(0.05)


def family(job: psutil.Popen) -> list[psutil.Process]:
    return [job, *job.children(recursive=True)]


def is_worker(process: psutil.Process) -> bool:
    try:
        return "MapWorker(MapBatches(Classifier" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


def memory_of(job: psutil.Popen) -> float:
    """MiB of all processes of a job; what they share counts once."""
    total = 0
    for process in family(job):
        try:
            total += process.memory_full_info().pss
        except psutil.NoSuchProcess:
            continue
    return total / 2**20


def run(model: Path, images: Path, output: Path, label: str) -> dict[str, Any]:
    """A run without faults: its rate between the first and the last file, and the memory of its processes."""
    begin = time.monotonic()
    job, samples, done = start(model, images, output), [], threading.Event()

    def sample():
        while not done.wait(SAMPLE_SECONDS):
            if finished_files(output):
                samples.append((time.time(), memory_of(job)))

    sampler = threading.Thread(target=sample)
    sampler.start()
    with tqdm(desc=label, total=math.ceil(len(list(images.iterdir())) / ROWS_PER_FILE), unit="file") as bar:
        while job.poll() is None:
            time.sleep(1)
            bar.update(len(finished_files(output)) - bar.n)
    done.set()
    sampler.join()
    if job.returncode:
        raise RuntimeError(f"The job ended with {job.returncode}.")
    written = finished_files(output)
    first, last = (file.stat().st_mtime for file in (written[0], written[-1]))
    rows = rows_of(output)
    after_first = len(rows) - len(pd.read_parquet(written[0]))
    rate = after_first / (last - first)
    results = {
        "files given": len(list(images.iterdir())),
        "rows": len(rows),
        "rows with an error": int(rows["error"].notna().sum()),
        "seconds in all": round(time.monotonic() - begin, 1),
        "images per second": round(rate, 2),
        "seconds beside": round(time.monotonic() - begin - len(rows) / rate, 1),
        "bytes per row": round(sum(file.stat().st_size for file in output.rglob("*.parquet")) / len(rows)),
    }
    # After the last file the processes end.
    return results | memory_figures([mebibytes for taken, mebibytes in samples if taken < last])


def run_with_faults(model: Path, images: Path, output: Path, expected: pd.DataFrame) -> dict[str, Any]:
    """Kills a worker, then the whole job, gives the same command again, and compares its rows with those of the run without faults."""
    job = start(model, images, output, "--num_workers=2")
    wait_until(lambda: len(finished_files(output)) >= 3, job)
    worker = next(process for process in family(job) if is_worker(process))
    worker.kill()
    killed_at = len(finished_files(output))
    wait_until(lambda: len(finished_files(output)) >= killed_at + 5, job)
    job.kill()
    job.wait()
    kept = len(rows_of(output))
    again = start(model, images, output, "--num_workers=2")
    if again.wait():
        raise RuntimeError("The job that was given again did not end.")
    rows = rows_of(output)
    both = rows.join(expected, rsuffix="_expected", how="inner")
    differences = np.abs(np.stack(both["scores"].dropna()) - np.stack(both["scores_expected"].dropna()))
    return {
        "files given": len(list(images.iterdir())),
        "rows when the job was killed": kept,
        "rows at the end": len(rows),
        "missing": len(expected.index.difference(rows.index)),
        "twice": int(rows.index.duplicated().sum()),
        "with another label than without faults": int(
            (both["label"].fillna("") != both["label_expected"].fillna("")).sum()
        ),
        "largest difference of a score": float(differences.max()),
    }


def measure(seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_model(folder / "model")
        unreadable = write_images(folder / "images")
        results: dict[str, Any] = {"variant": VARIANT, "files that are no images": unreadable}
        results["undisturbed"] = run(folder / "model", folder / "images", folder / "undisturbed", "without faults")
        expected = rows_of(folder / "undisturbed")
        results["with faults"] = run_with_faults(folder / "model", folder / "images", folder / "faults", expected)
        copies = math.ceil(seconds * results["undisturbed"]["images per second"] / len(expected))
        write_images(folder / "many_images", copies)
        results["long"] = run(
            folder / "model", folder / "many_images", folder / "long", f"about {seconds:.0f} seconds"
        )
        return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="of the long run, by default 600")
    arguments = parser.parse_args()
    write_load("batch", measure(arguments.seconds), "ray")


if __name__ == "__main__":
    main()
