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
"""Torchvision image processor class for CrossViT."""

from typing import Any

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import ImageInput, SizeDict
from transformers.utils import auto_docstring

from crossvit.image_processing.image_processing_pil_crossvit import CrossViTImageProcessorMixin, convert_to_rgb


@auto_docstring
class CrossViTImageProcessor(CrossViTImageProcessorMixin, TorchvisionBackend):
    """Torchvision backend: images of one size are processed as a batch, on a GPU where `device="cuda"` is given."""

    def process_image(self, image: ImageInput, do_convert_rgb: bool | None = None, **kwargs: Any) -> torch.Tensor:
        if do_convert_rgb and isinstance(image, Image.Image):
            image = convert_to_rgb(image)
        tensor = super().process_image(image, do_convert_rgb=do_convert_rgb, **kwargs)
        # Images of bytes, the usual case, are not looked at. The PIL backend refuses the same images.
        if not tensor.is_floating_point() and tensor.dtype != torch.uint8 and (largest := tensor.double().max()) > 255:
            raise ValueError(
                f"The image has dtype {tensor.dtype} and values up to {largest:.0f}, expected integers of at most 255. Scale "
                "images of more than 8 bits per channel to 0..255 first."
            )
        return tensor

    def center_crop(self, image: torch.Tensor, size: SizeDict, **kwargs: Any) -> torch.Tensor:
        return tvF.center_crop(image, [size.height, size.width])


__all__ = ["CrossViTImageProcessor"]
