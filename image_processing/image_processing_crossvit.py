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

from typing import Any, cast

import torch
from PIL import Image
from torchvision.transforms.v2 import functional as tvF
from transformers.image_processing_backends import TorchvisionBackend
from transformers.image_utils import ChannelDimension, SizeDict, infer_channel_dimension_format
from transformers.utils import auto_docstring

from crossvit.image_processing.image_processing_pil_crossvit import CrossViTImageProcessorMixin, convert_to_rgb


def _is_interleaved_rgb(image: Any, input_data_format: str | ChannelDimension | None) -> bool:
    """Whether this is (3, height, width) of bytes in the memory of the CPU, where the three bytes of a pixel are neighbours."""
    if not isinstance(image, torch.Tensor) or image.device.type != "cpu" or image.dtype != torch.uint8:
        return False
    if image.ndim != 3 or image.shape[0] != 3 or not image[None].is_contiguous(memory_format=torch.channels_last):
        return False
    layout = input_data_format or infer_channel_dimension_format(cast(Any, image), num_channels=(1, 3, 4))
    return layout == ChannelDimension.FIRST


@auto_docstring
class CrossViTImageProcessor(CrossViTImageProcessorMixin, TorchvisionBackend):
    """Torchvision backend: images of one size are processed as a batch, on a GPU where `device="cuda"` is given."""

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: "torch.device | None" = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        if do_convert_rgb and isinstance(image, Image.Image):
            image = convert_to_rgb(image)
        if isinstance(image, Image.Image) and image.mode == "RGB":
            image, input_data_format = tvF.pil_to_tensor(image), ChannelDimension.FIRST
        # Pillow and the decoders of JPEG give interleaved channels. PyTorch resizes them on the CPU in half the time that it needs for planes,
        # and transformers' copy into planes takes longer than the resize.
        if torch.device(device or "cpu").type == "cpu" and _is_interleaved_rgb(image, input_data_format):
            return image
        tensor = super().process_image(
            image, do_convert_rgb=do_convert_rgb, input_data_format=input_data_format, device=device, **kwargs
        )
        # Images of bytes, the usual case, are not looked at. The PIL backend refuses the same images.
        if not tensor.is_floating_point() and tensor.dtype != torch.uint8 and (largest := tensor.double().max()) > 255:
            raise ValueError(
                f"The image has dtype {tensor.dtype} and values up to {largest:.0f}, expected integers of at most 255. Scale "
                "images of more than 8 bits per channel to 0..255 first."
            )
        return tensor

    def rescale_and_normalize(self, images: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # In planes from here on, because PyTorch normalizes interleaved channels six times slower.
        return super().rescale_and_normalize(images.contiguous(), *args, **kwargs)

    def center_crop(self, image: torch.Tensor, size: SizeDict, **kwargs: Any) -> torch.Tensor:
        return tvF.center_crop(image, [size.height, size.width])


__all__ = ["CrossViTImageProcessor"]
