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
Proves that both image processors, torchvision and PIL, pass transformers' own common tests of image processors
(`ImageProcessingTestMixin` of the installed release).

    make conformance
"""

import textwrap
import unittest
from unittest import mock

import numpy as np
import torch
from tests.test_image_processing_common import ImageProcessingTester, ImageProcessingTestMixin
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

from crossvit import CrossViTConfig
from tests import test_image_processing_common


class CrossViTImageProcessingTester(ImageProcessingTester):
    def __init__(self, parent, **kwargs):
        kwargs.setdefault("size", {"shortest_edge": 54})
        kwargs.setdefault("crop_size", {"height": 48, "width": 42})
        kwargs.setdefault("do_resize", True)
        kwargs.setdefault("do_center_crop", True)
        kwargs.setdefault("do_normalize", True)
        # Mean and deviation are those of transformers' own tests. Pillow and torchvision differ in the bicubic resizing of noise,
        # with any processor, and a smaller deviation would enlarge the difference.
        kwargs.setdefault("image_mean", [0.5, 0.5, 0.5])
        kwargs.setdefault("image_std", [0.5, 0.5, 0.5])
        kwargs.setdefault("do_convert_rgb", True)
        super().__init__(parent, **kwargs)

    def _get_image_processing_classes(self):
        # transformers' tester takes the classes from the name of the test's folder: here they are those of AutoImageProcessor.
        classes = IMAGE_PROCESSOR_MAPPING[CrossViTConfig]
        self.parent.assertEqual(set(classes), {"torchvision", "pil"})
        return classes


class CrossViTImageProcessingTest(ImageProcessingTestMixin, unittest.TestCase):
    image_processor_tester_class = CrossViTImageProcessingTester
    test_cast_dtype = torch.float16  # without it, `test_cast_dtype_device` tests nothing

    def setUp(self):
        super().setUp()
        np.random.seed(0)  # the images are noise

    def test_pil_can_run_without_torchvision(self):
        # The script of this test imports transformers alone. It has to import this package too.
        def dedent(text):
            return textwrap_dedent(text).replace("from transformers", "import crossvit\nfrom transformers")

        textwrap_dedent = textwrap.dedent
        with mock.patch.object(test_image_processing_common.textwrap, "dedent", dedent):
            super().test_pil_can_run_without_torchvision()

    def test_override_instance_attributes_does_not_affect_other_instances(self):
        # The common test skips itself where the size is a `SizeDict` and the mean a tuple, as they are here. This one is for them.
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
