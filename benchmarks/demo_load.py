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
Puts load on the page of examples/demo: many visitors at once, some of them with files that are not images, and then a steady stream while the
memory of its process is read. Fills two tables of docs/using_a_model.md.

    python -m benchmarks.demo_load                 12 minutes, after `make quickstart`
    python -m benchmarks.demo_load --seconds 60    3 minutes

Expected: no request is lost, every answer is the model's own, and the memory does not grow.
"""

import argparse
import contextlib
import itertools
import math
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from tqdm import tqdm
from transformers.image_utils import load_image

from benchmarks.measurements import measured_by
from benchmarks.pages import QUICKSTART, ROOT, check_quickstart, fill, table
from crossvit.inference.backends import load_for_inference


APP = ROOT / "examples" / "demo" / "app.py"
TRAINED_SIZE = "The size of training, cropped"
CLIENTS = 10
RATE = 4  # requests per second of the steady stream
Files = dict[str, dict[str, float] | None]


@contextlib.contextmanager
def serve(*arguments: str) -> Iterator[tuple[str, psutil.Process, Path]]:
    """Runs the page in a process of its own: its address, the process, and its log."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        log = Path(folder) / "log"
        environment = {**os.environ, "GRADIO_TEMP_DIR": f"{folder}/files"}
        with log.open("w") as output:
            command = [sys.executable, str(APP), "--port", str(port), *arguments]
            server = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
        try:
            while "Running on" not in log.read_text():
                if server.poll() is not None:
                    raise RuntimeError(f"The page did not start: {log.read_text()}")
                time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", psutil.Process(server.pid), log
        finally:
            server.terminate()
            server.wait(timeout=20)


def write_files(folder: Path, model_name: str, images: list[Path]) -> tuple[Files, Files]:
    """Files to upload, with the probabilities that the model gives directly, or None for a file that is not an image: usual ones and hostile ones."""
    model, image_processor = load_for_inference(model_name)
    usual: Files = {}
    for path in images:
        with torch.no_grad():
            scores = model(**image_processor(load_image(str(path)), return_tensors="pt")).logits.softmax(dim=-1)[0]
        best = scores.topk(min(5, len(scores)))
        usual[str(path)] = {model.config.id2label[i]: score for score, i in zip(*(part.tolist() for part in best))}
    image = load_image(str(images[0]))
    image.save(folder / "png_named.jpg", "PNG")
    scale = math.sqrt(1e8 / (image.width * image.height))
    large = (math.ceil(scale * image.width), math.ceil(scale * image.height))
    image.resize(large, Image.Resampling.BICUBIC).save(folder / "100_megapixels.jpg")
    photo = (folder / "100_megapixels.jpg").read_bytes()
    (folder / "truncated.jpg").write_bytes(photo[: len(photo) // 2])
    (folder / "text.jpg").write_text("This is no picture.\n" * 100)
    right = usual[str(images[0])]
    hostile: Files = {"png_named.jpg": right, "100_megapixels.jpg": right, "truncated.jpg": None, "text.jpg": None}
    return usual, {str(folder / name): expected for name, expected in hostile.items()}


def outcome(job: Any, file: str, expected: dict[str, float] | None) -> str:
    """ "right", "refused", or what went wrong instead."""
    try:
        rows = job.result(timeout=120)[0]["confidences"]
    except AppError as error:
        in_clear_words = f"{Path(file).name} cannot be read: " in str(error)
        return "refused" if expected is None and in_clear_words else f"{Path(file).name}: {error}"
    except Exception as error:
        return f"{Path(file).name}: {type(error).__name__} {error}"
    found = {row["label"]: row["confidence"] for row in rows}
    if expected is None:
        return f"{Path(file).name}: classified"
    # A JPEG of 100 megapixels is decoded at a smaller size: only its class is that of the small image.
    tolerance = 1.0 if "100_megapixels" in file else 1e-4
    is_right = next(iter(found)) == next(iter(expected)) and (
        tolerance == 1 or all(abs(found.get(label, 9) - score) < tolerance for label, score in expected.items())
    )
    return "right" if is_right else f"{Path(file).name}: {found}, expected {expected}"


class Load:
    """Requests that were sent, their outcomes, and the seconds that each took."""

    def __init__(self, address: str, model_name: str):
        self.address, self.model_name = address, model_name
        self.outcomes: Counter[str] = Counter()
        self.times: list[float] = []

    def client(self) -> Client:
        return Client(self.address, verbose=False)

    def send(self, client: Client, file: str) -> tuple[Any, list[float]]:
        start, seconds = time.monotonic(), []
        job = client.submit(handle_file(file), self.model_name, TRAINED_SIZE, api_name="/classify")
        job.future.add_done_callback(lambda _: seconds.append(time.monotonic() - start))
        return job, seconds

    def run(self, requests: list[tuple[Client, str, dict[str, float] | None]], pause: float = 0):
        """Sends all requests, at once or with a pause between them, and waits for their answers."""
        sent, begin = [], time.monotonic()
        for number, (client, file, expected) in enumerate(requests):
            time.sleep(max(0.0, begin + number * pause - time.monotonic()))
            sent.append((*self.send(client, file), file, expected))
        for job, _, file, expected in sent:
            self.outcomes[outcome(job, file, expected)] += 1
        self.times += [seconds[0] for _, seconds, _, _ in sent]

    def summary(self) -> dict[str, Any]:
        """What became of all requests so far. The next ones are counted anew."""
        outcomes, times = self.outcomes, self.times
        self.outcomes, self.times = Counter(), []
        results = {
            "sent": len(times),
            "right": outcomes.pop("right", 0),
            "refused in clear words": outcomes.pop("refused", 0),
            "lost": outcomes.total(),
            "median": f"{statistics.median(times):.2f} s",
            "95th percentile": f"{np.percentile(times, 95):.2f} s",
        }
        for what in list(outcomes)[:5]:
            tqdm.write(f"lost: {what}")
        return results


def measure(
    seconds: float, model_name: str, images: list[Path], sessions: int = 100, burst: int = 200
) -> dict[str, Any]:
    """
    Puts load on the page, with one model.

    Args:
        seconds: How long the steady stream lasts.
        model_name: Of a model, as `from_pretrained` takes it.
        images: Files to upload, beside the hostile ones. The first becomes the content of these.
        sessions: The number of visitors before the memory is read for the first time. The page remembers 100.
        burst: The number of requests that are sent at once, beside 5 of each hostile file.
    """
    with tempfile.TemporaryDirectory() as folder, serve("--models", model_name) as (address, process, _):
        usual, hostile = write_files(Path(folder), model_name, images)
        load = Load(address, model_name)
        turns = itertools.cycle(usual.items())

        def memory() -> float:
            return process.memory_info().rss / 2**20

        for number in tqdm(range(sessions), desc="visitors"):
            visitor = load.client()
            load.run([(visitor, *next(turns))])
            visitor.predict("attention", 1, None, api_name="/draw_maps")
            visitor.predict("rollout", 1, None, api_name="/draw_maps")
            if number < 3:
                load.run([(load.client(), *item) for item in hostile.items()])
        load.summary()
        clients = [load.client() for _ in range(CLIENTS)]
        at_once = [next(turns) for _ in range(burst)] + 5 * list(hostile.items())
        results: dict[str, Any] = {"MiB after warm-up": round(memory())}
        load.run([(clients[n % CLIENTS], *item) for n, item in enumerate(at_once)])
        results["at once"] = load.summary()
        results["MiB after all at once"] = round(memory())

        # Each visitor stays for 10 seconds, draws two maps, and one of 40 requests has a hostile file.
        samples, hostile_turns = [], itertools.cycle(hostile.items())
        for _ in tqdm(range(max(1, round(seconds / 10))), desc="10 seconds each"):
            client = load.client()
            requests = [(client, *next(turns)) for _ in range(10 * RATE - 1)] + [(client, *next(hostile_turns))]
            load.run(requests, pause=1 / RATE)
            client.predict("attention", 1, None, api_name="/draw_maps")
            client.predict("rollout", 1, None, api_name="/draw_maps")
            samples.append(memory())
        results["steady"] = load.summary()
        results["MiB at the end"] = round(memory())
        half = samples[len(samples) // 2 :]
        if len(half) > 1:
            results["MiB per minute in the second half"] = f"{6 * np.polyfit(range(len(half)), half, 1)[0]:+.1f}"
        return results


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=600, help="of the steady stream, by default 600")
    parser.add_argument("--model", default=str(ROOT / QUICKSTART / "model"), help="by default that of the quickstart")
    arguments = parser.parse_args()
    check_quickstart()
    images = sorted((ROOT / QUICKSTART / "digits" / "test").rglob("*.png"))[::10]
    results = measure(arguments.seconds, arguments.model, images)
    streams = {"at once": "at once", f"{RATE} per second, {arguments.seconds / 60:.0f} minutes": "steady"}
    requests = {name: results.pop(key) for name, key in streams.items()}
    places = {
        "demo machine": measured_by("benchmarks.demo_load", "torch", "transformers", "gradio"),
        "demo": table(("requests", *requests["at once"]), ([name, *row.values()] for name, row in requests.items())),
        "demo memory": table(("memory of the page", ""), results.items()),
    }
    print(fill("using_a_model.md", places))


if __name__ == "__main__":
    main()
