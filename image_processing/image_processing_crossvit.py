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
"""Image processor class for CrossViT."""

from typing import Any

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tvF
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    PILImageResampling,
    SizeDict,
)
from transformers.processing_utils import ImagesKwargs, Unpack
from transformers.utils import auto_docstring

from crossvit.image_processing.base import TorchvisionBackend


@auto_docstring
class CrossViTImageProcessor(TorchvisionBackend):
    """
    Torchvision backend: the evaluation transform of the released models. The shorter side is resized to `size`, bicubic, the centre is
    cropped, and the values are scaled to 0..1 and normalized with ImageNet's mean and standard deviation. Images of one size are processed
    as a batch, on a GPU where `device="cuda"` is given.
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

    def process_image(self, image: Any, do_convert_rgb: bool | None = None, **kwargs: Any) -> torch.Tensor:
        if do_convert_rgb and isinstance(image, Image.Image):
            # As timm does it, which drops an alpha channel. transformers' own conversion blends it with white.
            image = image.convert("RGB")
        return super().process_image(image, do_convert_rgb=do_convert_rgb, **kwargs)

    def convert_to_rgb(
        self, image: torch.Tensor, input_data_format: str | ChannelDimension | None = None
    ) -> torch.Tensor:
        # Of tensors and arrays, whose channels come first by now: the same.
        return super().convert_to_rgb(image[:3] if image.shape[0] == 4 else image, input_data_format)

    def center_crop(self, image: torch.Tensor, size: SizeDict, **kwargs: Any) -> torch.Tensor:
        # With the rounding of torchvision and timm. transformers' own is one pixel off for some sizes.
        return tvF.center_crop(image, [size.height, size.width])


__all__ = ["CrossViTImageProcessor"]
