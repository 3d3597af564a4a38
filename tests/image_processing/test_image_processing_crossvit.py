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
CrossViTImageProcessor (torchvision): within the rounding of its resize of the PIL processor, which equals timm's, on real
photos of every kind, and without a copy of the whole photo.

    pytest tests/image_processing
"""

import pytest
import torch
from test_image_processing_pil_crossvit import KINDS
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms.functional import pil_to_tensor
from transformers.image_utils import load_image, load_image_as_tensor

from crossvit import CrossViTImageProcessor, CrossViTImageProcessorPil


# One step of 1/255 is 0.0175 after the division by the standard deviation of 0.225: torchvision's bicubic resize of bytes
# rounds its weights, which moves some pixels by one step, at most by two.
MEAN_TOLERANCE, MAX_TOLERANCE = 5e-4, 0.05


@pytest.mark.parametrize("image_size", [240, 408])
@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_pil_within_the_rounding_of_the_resize(photos, image_size, kind):
    crop_pct = 1.0 if image_size == 408 else 0.875
    expected, ours = (
        processor_class.from_image_size(image_size, crop_pct)(photos[kind], return_tensors="pt").pixel_values
        for processor_class in (CrossViTImageProcessorPil, CrossViTImageProcessor)
    )
    difference = (ours - expected).abs()
    assert difference.mean() < MEAN_TOLERANCE
    assert difference.max() < MAX_TOLERANCE


def test_images_of_different_sizes_are_one_batch_in_order(photos):
    processor = CrossViTImageProcessor()
    batch = [photos["landscape"], photos["portrait"], photos["landscape"].rotate(180), photos["small"]]
    together = processor(batch, return_tensors="pt", disable_grouping=False).pixel_values
    alone = torch.cat([processor(image, return_tensors="pt").pixel_values for image in batch])
    assert torch.equal(together, alone)


class LargeReads(TorchDispatchMode):
    """Names the operations that read a whole photo; views do not."""

    def __init__(self, size):
        super().__init__()
        self.size, self.names = size, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view and any(isinstance(each, torch.Tensor) and each.numel() >= self.size for each in args):
            self.names.append(function.overloadpacket.__name__)
        return result


@pytest.mark.parametrize("read", [lambda photo: photo, pil_to_tensor], ids=["PIL image", "tensor"])
def test_only_the_resize_reads_the_whole_photo(photos, read):
    """Both have the three bytes of a pixel side by side. Neither they nor what the resize leaves is copied as a whole."""
    image, processor = read(photos["landscape"]), CrossViTImageProcessor()
    with LargeReads(pil_to_tensor(photos["landscape"]).numel()) as reads:
        processor(image, return_tensors="pt")
    assert reads.names == ["_upsample_bicubic2d_aa"]
    with LargeReads(3 * 274 * 274) as reads:
        processor(image, return_tensors="pt")
    assert reads.names == ["_upsample_bicubic2d_aa"]


@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("step", ["all", "do_resize", "do_center_crop", "do_normalize"])
def test_the_order_in_memory_changes_nothing(photos, step, device):
    interleaved = pil_to_tensor(photos["landscape"])
    planes = interleaved.contiguous()
    assert interleaved.stride() != planes.stride()
    processor = CrossViTImageProcessor(**({} if step == "all" else {step: False}))
    ours, expected = (
        processor(image, return_tensors="pt", device=device).pixel_values for image in (interleaved, planes)
    )
    assert torch.equal(ours, expected)
    assert ours.is_contiguous()


def test_normalizes_planes(photos):
    """PyTorch takes six times longer for interleaved channels."""
    planes = []

    class Recording(CrossViTImageProcessor):
        def normalize(self, image, *args, **kwargs):
            planes.append(image.is_contiguous())
            return super().normalize(image, *args, **kwargs)

    Recording()([photos["landscape"], photos["small"]], return_tensors="pt")
    assert planes == [True, True]


@pytest.mark.parametrize(
    "options", [{}, {"quality": 30, "subsampling": 2}, {"quality": 95, "subsampling": 0}, {"progressive": True}]
)
@pytest.mark.parametrize("kind", ["landscape", "odd", "small", "grey", "CMYK", "EXIF-rotated"])
def test_transformers_decoder_gives_pillow_s_pixels(photos, tmp_path, kind, options):
    """What docs/images.md says of JPEG files, which a pipeline reads with Pillow and a data set may read as tensors."""
    path = str(tmp_path / "photo.jpg")
    photos[kind].save(path, exif=photos[kind].getexif(), **options)
    assert torch.equal(load_image_as_tensor(path), pil_to_tensor(load_image(path)))


def test_uses_its_backend():
    assert CrossViTImageProcessor().backend == "torchvision"
    assert CrossViTImageProcessorPil().backend == "pil"
