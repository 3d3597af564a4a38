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
"""Looks through the images before the training: finds images that cannot be read, and says what is there."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset
from torch.utils.data import DataLoader
from tqdm import tqdm

from crossvit.data.classes import class_order, counted, listed
from crossvit.data.reading import decoding_error, has_wide_values, image_name, open_image
from crossvit.data.splits import Split, count_images, left_out_line


# The headers of at most this many images per split are looked at: it takes a few seconds.
LOOKED_AT = 10_000


def _name_and_problem(sample: Any) -> tuple[str, str | None]:  # DataLoader's types say that it collates lists only
    return image_name(sample["image"]), decoding_error(sample["image"])


def _is_readable(sample: dict, report: Path) -> bool:
    """Tells whether an image of a stream can be decoded. Other images are appended to a file that all processes share."""
    name, problem = _name_and_problem(sample)
    if problem is not None:
        _append(report, [(name, problem)])
    return problem is None


def _append(report: Path, bad_images: list[tuple[str, str]]) -> None:
    with report.open("a") as file:
        file.writelines(json.dumps({"image": name, "problem": problem}) + "\n" for name, problem in bad_images)


def leave_out_bad_images(splits: dict[str, Split], output: Path, num_workers: int) -> dict[str, Split]:
    """
    Removes images that cannot be decoded, and lists them in `bad_images.jsonl`, one line of `{"image": name, "problem": reason}` each.
    The main process looks at the images at each start, because files change; the others take its word. All processes call this.

    Raises:
        ValueError: If no image of a split can be read.
    """
    state = PartialState()
    report = output / "bad_images.jsonl"
    if state.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        report.write_text("")
    readable_splits = {}
    for name, split in splits.items():
        if split.is_stream:
            state.wait_for_everyone()  # for the empty report
            stream = split.images.filter(_is_readable, fn_kwargs={"report": report})
            readable_splits[name] = replace(split, images=stream)
            continue
        found: list[list[int]] = [[]]
        if state.is_main_process:
            # `datasets` would remember the answers of its `map` by the paths of the files, although their bytes may have changed.
            loader = DataLoader(split.images, batch_size=None, collate_fn=_name_and_problem, num_workers=num_workers)
            problems = list(tqdm(loader, desc=f"reading all {name} images"))
            _append(report, [(image, problem) for image, problem in problems if problem is not None])
            found = [[index for index, (_, problem) in enumerate(problems) if problem is None]]
        broadcast_object_list(found)
        (readable,) = found
        if not readable:
            raise ValueError(f"No image of the {name} split can be read: {report} has the reasons.")
        bad = Counter({f"cannot be read: see {report}": len(split.images) - len(readable)})
        readable_splits[name] = replace(split.select(readable), left_out=split.left_out + bad)
    return readable_splits


def print_bad_images(output: Path) -> None:
    """Prints how many images were left out. Each counts once, although a stream may have read it several times."""
    report = output / "bad_images.jsonl"
    images = set(report.read_text().splitlines())
    were = "was" if len(images) == 1 else "were"
    print(f"{counted(len(images), 'image')} could not be read and {were} left out; {report} has the reasons.")


def wide_images(images: Dataset) -> list[str]:
    """The names of images with more than 8 bits per channel, among at most `LOOKED_AT`. Only their headers are read."""
    found = []
    for index in np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int)):
        image = images[int(index)]["image"] or {}
        if str(image.get("path")).lower().endswith((".jpg", ".jpeg")):  # has 8 bits
            continue
        try:
            with open_image(image) as opened:
                if has_wide_values(opened):
                    found.append(image_name(image))
        except Exception:  # a bad image is reported when it is read
            continue
    return found


def description(splits: dict[str, Split], image_range: list[float] | None) -> str:
    """
    What was found: for each split the number of images, of classes, and of images per class, and what was left out. Without `image_range`,
    also how many images have more than 8 bits per channel.
    """
    lines = []
    for name, split in splits.items():
        if split.is_stream:
            lines.append(f"{name}: a stream")
            continue
        counts = count_images(split.labels)
        order = sorted(counts, key=class_order)
        if len(counts) > 20:
            order = sorted(order, key=lambda name: counts[name])
            order = [*order[:3], "...", order[-1]]
        each = ", ".join(f"{label} {counts[label]}" if label in counts else label for label in order)
        lines.append(f"{name}: {counted(len(split.images), 'image')} of {counted(len(counts), 'class')}: {each}")
        if split.left_out:
            lines.append(f"  left out: {left_out_line(split.left_out)}")
        wide = [] if image_range else wide_images(split.images)
        if wide:
            lines.append(
                f"  {len(wide)} of {min(len(split.images), LOOKED_AT)} images have more than 8 bits per channel: {listed(wide, 3)}. Their values "
                "above 255 become white, as in pipelines. Convert them to 8 bits, or give --image_range DARKEST BRIGHTEST (0 65535)."
            )
    return "\n".join(lines)
