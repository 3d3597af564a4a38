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
The fastest way to run a model on this computer, measured with your model and your images:

    python -m crossvit.inference.fastest models/my_model --images photos --batch_size 1 8

A model is what `from_pretrained` takes. Each backend of `crossvit.inference.backends.BACKENDS` is made and timed on the CPU, all of them in turns. Half
of the images calibrate int8, and on the other half the answers of each backend are compared with those of PyTorch without changes ("eager"): the
label, the set of labels, or a value up to 1 % of the range of all values. A backend that keeps fewer than 99 % of them is never recommended.

On two CPU cores it takes two to five minutes for a small model and the images of the quickstart. Compilation and export take most of them, as the
column "ready after" shows: `--backends` leaves out what takes too long. Large models and more images take longer.
"""

import argparse
import copy
import os
import random
import statistics
import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm

from crossvit.configuration.image_files import image_mode
from crossvit.inference.backends import (
    BACKENDS,
    INSTALL,
    Backend,
    Classifier,
    Predict,
    find_missing,
    load_for_inference,
    quiet,
    read_images,
)
from crossvit.inference.scores import same_answers


EAGER = next(iter(BACKENDS))
LEAST_EQUAL_LABELS = 0.99

Name = TypeVar("Name", bound=Hashable)
Call = Callable[[], Any]


def synchronize() -> None:
    """Waits for the device, because the calls of a GPU return before their work is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def seconds_of(call: Call, repeats: int = 1) -> float:
    """The time of one call, the mean of `repeats` calls."""
    synchronize()
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    synchronize()
    return (time.perf_counter() - start) / repeats


def interleave(
    calls: Mapping[Name, Call], seconds: float = 0.0, least_rounds: int = 5, most_rounds: int = 41
) -> dict[Name, list[float]]:
    """
    The seconds of one call of each contender in every round. The contenders take turns, so that a slow moment of the computer meets all of
    them, in an order that changes from round to round.

    Args:
        calls: The contenders by name. Each is called twice beforehand.
        seconds: How long the rounds take together, as far as the smallest and the largest number of rounds allow it.
        least_rounds: The smallest number of rounds.
        most_rounds: The largest number of rounds.
    """
    for call in calls.values():
        call()
    once = {name: seconds_of(call) for name, call in calls.items()}
    # A contender that is done at once is repeated, so that a moment's disturbance does not decide its round.
    repeats = {name: max(1, int(0.05 / duration)) for name, duration in once.items()}
    per_round = sum(repeats[name] * duration for name, duration in once.items())
    rounds = min(most_rounds, max(least_rounds, int(seconds / per_round)))
    times: dict[Name, list[float]] = {name: [] for name in calls}
    order = list(calls)
    shuffle = random.Random(0).shuffle
    for _ in tqdm(range(rounds), desc="rounds", leave=False):
        shuffle(order)
        for name in order:
            times[name].append(float(f"{seconds_of(calls[name], repeats[name]):.5g}"))
    return times


def ratios(seconds: list[float], reference: list[float]) -> tuple[float, float, float]:
    """
    How many times as fast a contender is as the reference, given the seconds of both in every round: the median over the rounds, and the
    quartiles below and above it.
    """
    per_round = [theirs / ours for ours, theirs in zip(seconds, reference, strict=True)]
    if len(per_round) == 1:
        return per_round[0], per_round[0], per_round[0]
    below, median, above = statistics.quantiles(per_round, n=4, method="inclusive")
    return median, below, above


@dataclass
class Row:
    """What was measured of one backend: a note if it could not be, or what is needed for the table."""

    note: str | None = None
    making: float = 0.0  # seconds until it has answered a batch of each size
    equal: int = 0  # images with the label of eager
    seconds: dict[int, list[float]] = field(default_factory=dict)  # by batch size, one number for each round


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:160]


def _logits(predict: Predict, images: torch.Tensor, batch_size: int) -> torch.Tensor:
    return torch.cat([predict(batch) for batch in images.split(batch_size)])


def make(
    backend: Backend, model: Classifier, calibration: torch.Tensor, images: torch.Tensor, batch_sizes: list[int]
) -> tuple[Row, Predict | None, torch.Tensor | None]:
    """The row of a backend so far, the backend as a function, and the logits that it gives to the images."""
    if missing := find_missing(backend.packages):
        return Row(note=f"needs {', '.join(missing)}: {INSTALL}"), None, None
    try:
        with quiet():
            start = time.perf_counter()
            predict = backend.make(copy.deepcopy(model), calibration if backend.needs_calibration else None)
            for batch_size in batch_sizes:
                predict(images[:batch_size])
            making = time.perf_counter() - start
            return Row(making=making), predict, _logits(predict, images, max(batch_sizes))
    except Exception as error:  # Whatever a runtime raises is a row of the table.
        return Row(note=f"failed: {_first_line(error)}"), None, None


def measure(
    model: Classifier, images: torch.Tensor, batch_sizes: list[int], names: list[str], rounds: int
) -> tuple[dict[str, Row], int]:
    """A row for each backend, and the number of images whose labels were compared."""
    calibration, images = images[::2], images[1::2]
    rows: dict[str, Row] = {}
    functions: dict[str, Predict] = {}
    expected: torch.Tensor | None = None
    bar = tqdm(names)
    for name in bar:
        bar.set_description(f"making {name}")
        rows[name], predict, logits = make(BACKENDS[name], model, calibration, images, batch_sizes)
        if predict is None or logits is None:
            continue
        functions[name] = predict
        expected = logits if expected is None else expected  # Eager is the first.
        rows[name].equal = int(same_answers(logits, expected, model.config).sum())
    calls = {
        (name, batch_size): partial(predict, images[:batch_size])
        for name, predict in functions.items()
        for batch_size in batch_sizes
    }
    for (name, batch_size), seconds in interleave(calls, least_rounds=rounds, most_rounds=rounds).items():
        rows[name].seconds[batch_size] = seconds
    return rows, len(images)


def speed(rows: dict[str, Row], name: str, batch_size: int) -> tuple[float, float, float]:
    """How many times as fast as eager the backend is: the median over the rounds, and the quartiles below and above it."""
    return ratios(rows[name].seconds[batch_size], rows[EAGER].seconds[batch_size])


def table(rows: dict[str, Row], compared: int, batch_sizes: list[int]) -> str:
    """
    The table that is printed. The time of a batch is eager's median, divided by how many times as fast the backend is: medians of each backend's
    own rounds would contradict these ratios on a busy computer, because each may be of another round.
    """
    heads = ["backend", "ready after", "equal labels"]
    for batch_size in batch_sizes:
        heads += [f"batch of {batch_size}", "times as fast (middle half)"]
    lines = [heads, ["---"] * len(heads)]
    for name, row in rows.items():
        if row.note:
            lines.append([name, row.note, *[""] * (len(heads) - 2)])
            continue
        cells = [name, f"{row.making:.1f} s", f"{row.equal} of {compared}"]
        for batch_size in batch_sizes:
            middle, low, high = speed(rows, name, batch_size)
            seconds = statistics.median(rows[EAGER].seconds[batch_size]) / middle
            cells += [f"{1000 * seconds:.1f} ms", f"{middle:.2f} ({low:.2f} to {high:.2f})"]
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def fastest(rows: dict[str, Row], compared: int, batch_size: int) -> str:
    """The name of the fastest backend that keeps the labels."""
    equal = [name for name, row in rows.items() if not row.note and row.equal >= LEAST_EQUAL_LABELS * compared]
    return max(equal, key=lambda name: speed(rows, name, batch_size))


def advice(rows: dict[str, Row], compared: int, batch_sizes: list[int], model: str, images: Path) -> str:
    """What to write for the fastest backend of each batch size."""
    chosen: dict[str, list[str]] = {}
    for batch_size in batch_sizes:
        chosen.setdefault(fastest(rows, compared, batch_size), []).append(str(batch_size))
    text = []
    for name, sizes in chosen.items():
        backend = BACKENDS[name]
        text.append(f"Fastest for batches of {' and '.join(sizes)}: {name}.")
        if backend.command:
            text.append(f"Once:\n\n{backend.command.format(model=model, images=images)}\n\nThen:")
        text.append(f"{backend.code.format(model=model)}\nlogits = model(pixel_values=pixel_values).logits")
    return "\n\n".join(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crossvit.inference.fastest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=os.path.expanduser, help="name on the Hub or folder of a classifier")
    parser.add_argument(
        "--images",
        required=True,
        type=lambda name: Path(name).expanduser(),
        help="folder of images like those that the model will see",
    )
    parser.add_argument("--batch_size", type=int, nargs="+", default=[1, 8], help="one or several, by default 1 and 8")
    parser.add_argument(
        "--backends", nargs="+", choices=BACKENDS, default=list(BACKENDS), help="by default all", metavar="BACKEND"
    )
    parser.add_argument("--rounds", type=int, default=20, help="how often each backend is timed, by default 20")
    parser.add_argument(
        "--max_images", type=int, default=1000, help="how many images are read, by default at most 1000"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    for option, least in (("batch_size", 1), ("rounds", 2), ("max_images", 2)):
        value = getattr(arguments, option)
        if min(value if isinstance(value, list) else [value]) < least:
            parser.error(f"--{option} {value} is too small: expected at least {least}")
    batch_sizes = list(dict.fromkeys(arguments.batch_size))
    # Eager is always there, because the others are compared with it.
    names = [name for name in BACKENDS if name == EAGER or name in arguments.backends]
    try:
        model, image_processor = load_for_inference(arguments.model)
        mode = image_mode(model.config, image_processor)
        images = read_images(arguments.images, image_processor, arguments.max_images, mode)
        if len(images) < 2 * max(batch_sizes):
            raise ValueError(
                f"--images {arguments.images} gave {len(images)} image{'' if len(images) == 1 else 's'}. Half of them calibrate, and the other half must fill a batch of "
                f"{max(batch_sizes)}: give at least {2 * max(batch_sizes)} images, or a smaller --batch_size."
            )
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    rows, compared = measure(model, images, batch_sizes, names, arguments.rounds)
    if rows[EAGER].note:
        raise SystemExit(f"error: the model itself does not run: {rows[EAGER].note}")
    print(table(rows, compared, batch_sizes))
    changed = [name for name, row in rows.items() if not row.note and row.equal < LEAST_EQUAL_LABELS * compared]
    if changed:
        print(f"\nNot recommended, because fewer than 99 % of the labels are equal: {'; '.join(changed)}.")
    print(f"\n{advice(rows, compared, batch_sizes, arguments.model, arguments.images)}")


if __name__ == "__main__":
    main()
