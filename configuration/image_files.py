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
Finds the images in folders, for all commands and scripts in the same way, and says what a model takes of them. Names of files need not be
UTF-8: `printable_name` is for what takes UTF-8 alone, and `existing_path` finds the file again.
"""

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from PIL import Image


try:  # photos of Apple's phones, where the package is installed
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()

# Formats that Pillow recognizes without a decoder for them.
WITHOUT_DECODER = {"BUFR", "GRIB", "HDF5", "MPEG", "EPS"}

# Folders in which programs keep copies or files of their own.
LEFTOVERS = {".ipynb_checkpoints": "copies of Jupyter", "__MACOSX": "files of macOS"}


def image_endings() -> set[str]:
    """The endings of files that can be read, in lower case: `.jpg`, `.png`, `.webp` ..."""
    formats = Image.registered_extensions()
    return {ending for ending, name in formats.items() if name in Image.OPEN and name not in WITHOUT_DECODER}


# --- names that are not UTF-8 ---


def printable_name(name: str) -> str:
    r"""A name of a file with each byte that is not UTF-8 as `\xff`, so that it can be printed and written. Other names as they are."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def existing_path(name: str) -> str:
    """The path of the file that a `printable_name` stands for."""
    if os.path.exists(name):
        return name
    escaped = re.compile(rb"\\x([89a-f][0-9a-f])")
    return os.fsdecode(escaped.sub(lambda byte: bytes.fromhex(byte[1].decode()), os.fsencode(name)))


# --- images in folders ---


def _reason_to_leave_out(path: Path, endings: set[str], is_taken: Callable[[Path], bool]) -> str | None:
    """Why a file is no image and nothing else that is taken; None if it is."""
    ending = printable_name(path.suffix.lower())
    if path.name.startswith("._"):
        return "._ files of macOS"
    if ending in endings or is_taken(path):
        return None
    if ending in (".heic", ".heif"):
        return f"{ending} (photos of Apple's phones: pip install pillow-heif)"
    return f"{ending or 'no ending'}, not an image"


def files_below(
    folder: Path, excluded: Mapping[Path, str] | None = None, is_taken: Callable[[Path], bool] = lambda path: False
) -> tuple[list[Path], dict[Path, str]]:
    """
    All images below a folder, by their endings, relative to it and in a fixed order; and the files that were left out, with the reason. Links to
    folders are followed.

    Args:
        excluded: Folders to leave out, as `Path.resolve` gives them, and why.
        is_taken: Whether a file is taken that is no image.
    """
    excluded, endings = excluded or {}, image_endings()
    files: list[Path] = []
    left_out: dict[Path, str] = {}
    visited: set[Path] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        folders.sort()  # of two names for one folder, always the same one counts
        root = Path(parent)
        reason = LEFTOVERS.get(root.name) or excluded.get(root.resolve())
        if root != folder and reason:
            left_out |= {path.relative_to(folder): reason for path in root.rglob("*") if path.is_file()}
            folders.clear()
            continue
        if root.resolve() in visited:  # a link to a folder above
            folders.clear()
            continue
        visited.add(root.resolve())
        for path in (root / name for name in names):
            reason = _reason_to_leave_out(path, endings, is_taken)
            if reason is None:
                files.append(path.relative_to(folder))
            else:
                left_out[path.relative_to(folder)] = reason
    return sorted(files, key=lambda path: path.parts), left_out


# --- the channels of a model ---


def image_mode(config: Any, image_processor: Any) -> str:
    """
    Pillow's mode of the images for a model: RGB, or L (grey) for a model of one channel.

    Args:
        config: The model's configuration.
        image_processor: The model's image processor.

    Raises:
        ValueError: If the model has another number of channels, or its image processor gives another number.
    """
    modes = {1: "L", 3: "RGB"}
    if (mode := modes.get(config.num_channels)) is None:
        raise ValueError(
            f"The model takes images of {config.num_channels} channels, but an image file gives 3, or 1 if it is made grey. Call the model from "
            f"Python with `pixel_values` of your own, (B, {config.num_channels}, H, W), or choose a model of 3 or 1 channels."
        )
    try:
        found = len(image_processor(Image.new(mode, (64, 64)), return_tensors="np").pixel_values[0])
    except (RuntimeError, ValueError):  # a mean for another number of channels
        found = None
    if found != config.num_channels:
        values = ", ".join(["0.5"] * config.num_channels)
        raise ValueError(
            f"The model takes images of {config.num_channels} channel{'s' if mode == 'RGB' else ''}, but its image processor is for another number. "
            f"Save one that fits into the folder of the model: `CrossViTImageProcessor.from_image_size({config.branch_image_size(0)[0]}, "
            f"do_convert_rgb={mode == 'RGB'}, image_mean=[{values}], image_std=[{values}]).save_pretrained(folder)`."
        )
    return mode


__all__ = ["LEFTOVERS", "existing_path", "files_below", "image_endings", "image_mode", "printable_name"]
