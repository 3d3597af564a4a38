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
Proves that both image processors of the package, torchvision and PIL, pass the tests of the contribution, which are transformers' own
common tests of image processors (`ImageProcessingTestMixin` of the installed release).

    make conformance
"""

import textwrap
from unittest import mock

from tests.models.crossvit import test_image_processing_crossvit as contribution
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING

from crossvit import CrossViTConfig
from tests import test_image_processing_common


class CrossViTImageProcessingTester(contribution.CrossViTImageProcessingTester):
    def _get_image_processing_classes(self):
        # transformers' tester takes the classes from its own table of names: here they are those of AutoImageProcessor.
        classes = IMAGE_PROCESSOR_MAPPING[CrossViTConfig]
        self.parent.assertEqual(set(classes), {"torchvision", "pil"})
        return classes


class CrossViTImageProcessingTest(contribution.CrossViTImageProcessingTest):
    image_processor_tester_class = CrossViTImageProcessingTester

    def test_pil_can_run_without_torchvision(self):
        # The script of this test imports transformers alone. It has to import this package too.
        def dedent(text):
            return textwrap_dedent(text).replace("from transformers", "import crossvit\nfrom transformers")

        textwrap_dedent = textwrap.dedent
        with mock.patch.object(test_image_processing_common.textwrap, "dedent", dedent):
            super().test_pil_can_run_without_torchvision()
