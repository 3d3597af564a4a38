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
"""PIL image processor class for CrossViT."""

from typing import Any

import numpy as np
from PIL import Image
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
    infer_channel_dimension_format,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import auto_docstring

from crossvit.image_processing.base import PilBackend


@auto_docstring
class CrossViTImageProcessorPil(PilBackend):
    """
    PIL backend: the evaluation transform of the released models, and timm's, value for value. The shorter side is resized to `size`, bicubic,
    the centre is cropped, and the values are scaled to 0..1 and normalized with ImageNet's mean and standard deviation.
    """

    resample = PILImageResampling.BICUBIC
    image_mean = IMAGENET_DEFAULT_MEAN
    image_std = IMAGENET_DEFAULT_STD
    size = {"shortest_edge": 274}
    default_to_square = False
    crop_size = {"height": 240, "width": 240}
    do_resize = True
    do_center_crop = True
    do_rescale = True
    do_normalize = True
    do_convert_rgb = True

    def __init__(self, **kwargs: Unpack[ImagesKwargs]):
        super().__init__(**kwargs)

    def convert_to_rgb(self, image: Any, input_data_format: str | ChannelDimension | None = None) -> np.ndarray:
        # Without the alpha channel, as timm does it. transformers' own conversion blends it with white.
        if isinstance(image, Image.Image):
            image = image.convert("RGB")
        elif image.ndim == 3:
            layout = input_data_format or infer_channel_dimension_format(image, num_channels=(1, 3, 4))
            image = image[:3] if layout == ChannelDimension.FIRST else image[..., :3]
        return super().convert_to_rgb(image, input_data_format=input_data_format)

    def center_crop(self, image: np.ndarray, size: SizeDict, **kwargs: Any) -> np.ndarray:
        # With the rounding of torchvision and timm. transformers' own is one pixel off for some sizes.
        missing = [max(0, crop - length) for crop, length in zip((size.height, size.width), image.shape[-2:])]
        if any(missing):
            image = np.pad(image, [(0, 0), *((pixels // 2, (pixels + 1) // 2) for pixels in missing)])
        height, width = image.shape[-2:]
        top, left = int(round((height - size.height) / 2.0)), int(round((width - size.width) / 2.0))
        return np.ascontiguousarray(image[..., top : top + size.height, left : left + size.width])


__all__ = ["CrossViTImageProcessorPil"]
