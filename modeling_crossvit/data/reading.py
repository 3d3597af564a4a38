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
"""Reads one image, in the way of transformers' pipelines, and says what is wrong with it."""

import io
import warnings
import zlib
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from PIL import ExifTags, Image
from transformers.image_utils import load_image
from transformers.utils import is_torchcodec_greater_or_equal, is_torchcodec_usable

from crossvit.configuration.image_files import existing_path


ADVICE = "Mend or remove it. --skip_bad_images looks at all images before the training, and leaves out those that it cannot read"


def image_name(image: dict | None) -> str:
    """The path of an encoded image; if it has none, its size and checksum, which tell it from others."""
    image = image or {}
    content = image.get("bytes") or b""
    return image.get("path") or f"an image of {len(content)} bytes (CRC-32 {zlib.crc32(content):08x})"


def open_image(image: dict | None) -> Image.Image:
    """Opens an encoded image, `{"path": ..., "bytes": ...}`, without decoding its pixels."""
    if not image or (image.get("bytes") is None and not image.get("path")):
        raise OSError("there is no image")
    if image.get("bytes") == b"":
        raise OSError("the file is empty")
    return Image.open(io.BytesIO(image["bytes"]) if image.get("bytes") is not None else existing_path(image["path"]))


def has_wide_values(opened: Image.Image) -> bool:
    """Whether an image has 16 bits or more per channel, or floating-point values."""
    return opened.mode.startswith(("I", "F"))


def read_image(image: dict | None, image_range: list[float] | None = None, mode: str = "RGB") -> Image.Image:
    """
    Decodes an image as transformers' `load_image` does: turned upright by its EXIF orientation; of an animation, the first
    frame.

    Args:
        image: The encoded image, `{"path": ..., "bytes": ...}`, one of them not None.
        image_range: The darkest and the brightest value of images with more than 8 bits per channel. They become 0 and 255. Without
            it, all values above 255 become white, as in pipelines.
        mode: "RGB", or "L" for grey. `crossvit.configuration.image_files.image_mode` has that of a model.

    Raises:
        ValueError: If the image cannot be decoded. The message names the image.
    """
    try:
        with open_image(image) as opened, warnings.catch_warnings():
            # Pillow announces oddities of metadata, which every worker would print for every image.
            warnings.filterwarnings("ignore", module="PIL", category=UserWarning)
            if image_range is not None and has_wide_values(opened):
                low, high = image_range
                values = (np.asarray(opened, dtype=np.float64) - low) * 255 / (high - low)
                scaled = Image.fromarray(np.nan_to_num(values).clip(0, 255).round().astype(np.uint8))
                scaled.info["exif"] = opened.getexif().tobytes()
                return load_image(scaled).convert(mode)
            return load_image(opened).convert(mode)
    # Broken files make Pillow raise many kinds of exceptions.
    except Exception as error:
        raise ValueError(f"{image_name(image)} cannot be read: {error}. {ADVICE}.") from error


def _is_plain_jpeg(encoded: bytes) -> bool:
    """Whether bytes are a JPEG file to its end, in RGB or grey, that is not to be turned."""
    try:
        with Image.open(io.BytesIO(encoded)) as opened:
            is_upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
            is_plain = opened.format == "JPEG" and opened.mode in ("RGB", "L") and is_upright
    except Exception:  # as above; `read_image` says what is wrong
        return False
    # A decoder on a GPU fills up what is missing.
    return is_plain and encoded.rstrip(b"\0").endswith(b"\xff\xd9")


def decode_jpegs(images: list[bytes], device: str | torch.device) -> list[torch.Tensor | None]:
    """
    Decodes JPEG files on a GPU, with torchcodec, or with torchvision where torchcodec is missing. It computes the colours between the pixels
    in another way than Pillow, so that edges of strong colours differ.

    Returns:
        For each file its pixels, (3, height, width) of uint8 on the device. None for what `read_image` must decode: other formats and
        colours, files that are to be turned, and broken ones.
    """
    has_torchcodec = is_torchcodec_greater_or_equal("0.16.0") and is_torchcodec_usable(decode="image")
    library = import_module("torchcodec.decoders" if has_torchcodec else "torchvision.io")
    decode = partial(library.decode_jpeg, mode=library.ImageReadMode.RGB, device=device)
    decoded: list[torch.Tensor | None] = [None] * len(images)
    places = [place for place, encoded in enumerate(images) if _is_plain_jpeg(encoded)]
    files = [torch.frombuffer(bytearray(images[place]), dtype=torch.uint8) for place in places]
    try:
        pixels = decode(files) if files else []
    except (RuntimeError, ValueError):  # One of them cannot be decoded there, and the decoders do not say which.
        pixels = [_attempt(decode, file) for file in files]
    for place, image in zip(places, pixels, strict=True):
        decoded[place] = image
    return decoded


def _attempt(decode: Callable[[Any], Any], file: torch.Tensor) -> torch.Tensor | None:
    try:
        return decode(file)
    except (RuntimeError, ValueError):
        return None


def decoding_error(image: dict | None) -> str | None:
    """The reason why an encoded image cannot be decoded; None if it can."""
    try:
        read_image(image)
    except ValueError as error:
        return str(error.__cause__)
    return None
