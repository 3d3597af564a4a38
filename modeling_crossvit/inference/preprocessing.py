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
The pixels of an exported program without PyTorch: `describe` writes the steps of an image processor into the `preprocessing.md` of an exported
folder, with `resize` and `preprocess` as its code. They need NumPy and Pillow alone.
"""

import inspect
from typing import Any

import numpy as np

from crossvit.image_processing import CrossViTImageProcessorPil


def resize(pixels, length, axis, reach):
    """Resizes bytes along one axis as PyTorch does it. The filter is bicubic with a `reach` of 2, and bilinear with 1."""
    pixels = np.moveaxis(pixels, axis, 0)
    old = len(pixels)
    scale = max(old / length, 1)
    center = old / length * (np.arange(length)[:, None] + 0.5)
    first = (center - reach * scale + 0.5).clip(0).astype(int)
    last = (center + reach * scale + 0.5).astype(int).clip(max=old)
    position = first + np.arange((last - first).max())
    x = abs(position + 0.5 - center) / scale
    near, far = ((1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2) if reach == 2 else (1 - x, 0)
    weights = np.select([position >= last, x < 1, x < reach], [0, near, far])
    weights /= weights.sum(1, keepdims=True)
    bits = min(22, int(np.log2((2**15 - 0.5) / weights.max())))
    weights = np.trunc(weights * 2**bits + np.copysign(0.5, weights)).astype(np.int32)
    taken, sums = position.clip(max=old - 1), 2 ** (bits - 1)
    for k in range(position.shape[1]):
        sums = sums + weights[:, k, None, None] * pixels[taken[:, k]]
    return np.moveaxis((sums >> bits).clip(0, 255).astype(np.uint8), 0, axis)


def preprocess(image, settings):
    """A Pillow image to `pixel_values` (1, 3, height, width). `settings` is the content of preprocessor_config.json."""
    pixels = np.asarray(image.convert("RGB"))  # (height, width, 3)
    size, crop = settings["size"], settings["crop_size"]
    short = min(pixels.shape[:2])
    for axis, side in ((1, "width"), (0, "height")):
        length = size[side] if side in size else int(size["shortest_edge"] * pixels.shape[axis] / short)
        pixels = resize(pixels, length, axis, settings["resample"] - 1)
    for axis, side in enumerate(("height", "width")):
        missing = max(0, crop[side] - pixels.shape[axis])
        border = [(missing // 2, missing - missing // 2) if axis == other else (0, 0) for other in range(3)]
        pixels = np.pad(pixels, border)
        start = round((pixels.shape[axis] - crop[side]) / 2)
        pixels = pixels.take(range(start, start + crop[side]), axis)
    values = pixels * settings["rescale_factor"]
    values = (values - settings["image_mean"]) / settings["image_std"]
    return values.transpose(2, 0, 1)[None].astype(np.float32)


_FILTERS = {2: "bilinear", 3: "bicubic"}

# Loads the program of each format as `classify`, from `pixel_values` to logits (1, labels).
_PROGRAMS = {
    "onnx": (
        "onnxruntime",
        'session = onnxruntime.InferenceSession("model.onnx")\n\n\n'
        "def classify(pixel_values):\n"
        '    return session.run(["logits"], {"pixel_values": pixel_values})[0]',
    ),
    "openvino": (
        "openvino",
        'program = openvino.compile_model("openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})\n\n\n'
        "def classify(pixel_values):\n"
        '    return program(pixel_values)["logits"]',
    ),
}

_TEXT = """\
# Preprocessing

The program takes `pixel_values`: float32 of shape (batch, 3, {height}, {width}), the channels red, green and blue. Each image becomes one of them
by these steps, which `preprocessor_config.json` has in short. Every number here is this folder's.

1. Turn the image upright, as its EXIF orientation says. Cameras of phones write one.
2. Convert it to three bytes per pixel. A grey value stands in all three channels. An alpha channel is left out, and not blended.
3. Resize it to {size}, with a {filter} filter and antialiasing: first the width, then the height, and both steps round to bytes.
   - Pixel i of n has its centre at c = (N / n) (i + 0.5) in the N old pixels. With s = max(N / n, 1), the pixels j from int(c - {reach} s + 0.5) up to
     but without int(c + {reach} s + 0.5) take part, where they exist. Pixel j has the weight f(|j + 0.5 - c| / s), divided by the sum of all weights.
   - {function}
   - PyTorch rounds the weights to integers: it multiplies them by 2^b, with the largest b up to 22 for which all stay below 2^15 after
     rounding (half away from zero). The pixel is (2^(b-1) + sum of weight times byte) >> b, limited to 0..255.
4. Crop {height} x {width} pixels (height x width) in the centre. The first row is round((height - {height}) / 2) and the first column round((width - {width}) / 2),
   where halves are rounded to even numbers. If a side is shorter than the crop, black is added first: of m missing pixels
   m // 2 come before the image, and the others behind it.
5. Multiply each byte by {factor}, subtract the mean and divide by the standard deviation: {mean} and {std} for red, green and blue.
6. Put the channels first: (height, width, 3) becomes (3, height, width).

Pillow's own resize, `image.resize((width, height), Image.Resampling.{pillow})`, can take the place of step 3. Some bytes then differ by 1, as
those of timm and of `CrossViTImageProcessorPil` do, which resize with Pillow. These steps are those of `CrossViTImageProcessor`.

The names of the classes are the `id2label` of `config.json`, in the order of the logits.

This program does all of it with numpy, pillow and {package}. Save it in this folder as `classify.py`, and run `python classify.py photo.jpg`:

```python
{code}
```
"""

_OTHER_TEXT = """\
# Preprocessing

The settings in `preprocessor_config.json` are not of the usual kind (RGB, resize by a bicubic or bilinear filter, crop, rescale, normalize), and this page
does not describe them. `AutoImageProcessor.from_pretrained` of transformers makes `pixel_values` with them, after `import crossvit`.
"""


def describe(image_processor: CrossViTImageProcessorPil, format: str) -> str:
    """
    A page that says how an image processor makes its pixels, exactly enough to be programmed, and a program for a folder in one of `FORMATS`
    that does it without PyTorch.
    """
    settings: dict[str, Any] = image_processor.to_dict()
    steps = ("do_convert_rgb", "do_resize", "do_center_crop", "do_rescale", "do_normalize")
    size, resample = settings["size"], settings["resample"]
    if (
        not all(settings[step] for step in steps)
        or np.size(settings["image_mean"]) != 3
        or resample not in _FILTERS
        or size.keys() not in ({"shortest_edge"}, {"height", "width"})
    ):
        return _OTHER_TEXT
    package, program = _PROGRAMS[format]
    code = "\n".join(
        [
            f"import json\nimport sys\n\nimport numpy as np\nimport {package}\nfrom PIL import Image, ImageOps\n\n",
            f"{inspect.getsource(resize)}\n\n{inspect.getsource(preprocess)}\n\n{program}\n\n",
            'settings = json.load(open("preprocessor_config.json", encoding="utf-8"))',
            'names = json.load(open("config.json", encoding="utf-8"))["id2label"]',
            "for path in sys.argv[1:]:",
            "    image = ImageOps.exif_transpose(Image.open(path))",
            "    logits = classify(preprocess(image, settings))[0]",
            "    print(path, names[str(logits.argmax())], logits.tolist())",
        ]
    )
    bicubic = "f(x) = 1.5 x^3 - 2.5 x^2 + 1 below 1, and -0.5 x^3 + 2.5 x^2 - 4 x + 2 from 1 to 2."
    if "shortest_edge" in size:
        target = "{0} pixels on the shorter side, and int({0} * longer / shorter) on the longer one".format(
            size["shortest_edge"]
        )
    else:
        target = f"{size['height']} x {size['width']} pixels (height x width)"
    return _TEXT.format(
        **settings["crop_size"],
        size=target,
        filter=_FILTERS[resample],
        reach=resample - 1,
        function=bicubic
        if resample == 3
        else "f(x) = 1 - x. Older releases of torchvision resize in floating point on some processors, where bytes differ by 1.",
        factor=settings["rescale_factor"],
        mean=settings["image_mean"],
        std=settings["image_std"],
        pillow=_FILTERS[resample].upper(),
        package=package,
        code=code,
    )


__all__ = ["describe", "preprocess", "resize"]
