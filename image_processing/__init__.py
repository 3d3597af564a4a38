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
"""The image processors. Installed as `crossvit.image_processing`; they import from `crossvit.configuration` only."""

from transformers.utils import is_torchvision_available

from crossvit.image_processing.image_processing_pil_crossvit import CrossViTImageProcessorPil


if is_torchvision_available():
    from crossvit.image_processing.image_processing_crossvit import CrossViTImageProcessor
else:
    # Under the public name too, so that code and saved models work alike with and without torchvision.
    CrossViTImageProcessor = CrossViTImageProcessorPil  # type: ignore[misc, assignment]


__all__ = ["CrossViTImageProcessor", "CrossViTImageProcessorPil"]
