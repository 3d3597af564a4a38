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
"""Testing suite for the image processors of CrossViT."""

import unittest

import numpy as np

from transformers.testing_utils import require_torch, require_vision
from transformers.utils import is_torch_available

from ...test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin


if is_torch_available():
    import torch


class CrossViTImageProcessingTester(ImageProcessingTester):
    def __init__(self, parent, **kwargs):
        kwargs.setdefault("size", {"shortest_edge": 54})
        kwargs.setdefault("crop_size", {"height": 48, "width": 42})
        kwargs.setdefault("do_resize", True)
        kwargs.setdefault("do_center_crop", True)
        kwargs.setdefault("do_normalize", True)
        # With the deviation of ImageNet, what bicubic resizing of noise differs by between Pillow and torchvision would be too much.
        kwargs.setdefault("image_mean", [0.5, 0.5, 0.5])
        kwargs.setdefault("image_std", [0.5, 0.5, 0.5])
        kwargs.setdefault("do_convert_rgb", True)
        super().__init__(parent, **kwargs)


@require_torch
@require_vision
class CrossViTImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = CrossViTImageProcessingTester
    test_cast_dtype = torch.float16 if is_torch_available() else None

    def setUp(self):
        super().setUp()
        np.random.seed(0)  # the images are noise

    def test_override_instance_attributes_does_not_affect_other_instances(self):
        # The common test skips itself where the size is a `SizeDict` and the mean a tuple, as they are here.
        for image_processing_class in self.image_processing_classes.values():
            first, second = image_processing_class(), image_processing_class()
            size, mean = dict(second.size), tuple(second.image_mean)
            first.size["shortest_edge"] = -1
            first.crop_size["height"] = -1
            first.image_mean = [-1.0] * 3
            self.assertEqual(dict(second.size), size)
            self.assertEqual(second.crop_size["height"], 240)
            self.assertEqual(tuple(second.image_mean), mean)
            self.assertEqual(dict(image_processing_class().size), size)
