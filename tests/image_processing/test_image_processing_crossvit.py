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
photos of every kind.

    pytest tests/image_processing
"""

import pytest
import torch
from test_image_processing_pil_crossvit import KINDS

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


def test_uses_its_backend():
    assert CrossViTImageProcessor().backend == "torchvision"
    assert CrossViTImageProcessorPil().backend == "pil"
