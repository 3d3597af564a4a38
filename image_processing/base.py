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
The bases of both image processors in this package. They add to transformers' own what needs the rest of the package, and what makes them
faster with the same values, so that the files which travel with a saved model stay short.
"""

import contextlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from transformers import image_processing_backends as backends
from transformers.configuration_utils import PreTrainedConfig
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import (
    IMAGENET_DEFAULT_MEAN,
    IMAGENET_DEFAULT_STD,
    ChannelDimension,
    infer_channel_dimension_format,
)
from transformers.utils import is_torchvision_available, logging

from crossvit.configuration.saved_code import IMAGE_PROCESSOR_CLASSES, is_core, save_code
from crossvit.configuration.timm_config import crossvit_config, is_timm_config, timm_input_size, timm_pretrained_cfg
from crossvit.configuration.variants import suggest_model


if is_torchvision_available():
    from torchvision.transforms.v2 import functional as tvF

if TYPE_CHECKING:
    from transformers.image_processing_utils import BaseImageProcessor as _Backend
    from typing_extensions import Self
else:
    _Backend = object  # The mixin below names it for type checkers; its classes bring a backend each.

logger = logging.get_logger(__name__)


def _settings_from_timm(timm_config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """
    The arguments of an image processor that does what timm's evaluation transform of this CrossViT does.

    Raises:
        ValueError: If no image processor of this package can do the same.
    """
    pretrained_cfg = timm_pretrained_cfg(timm_config)
    channels, height, width = timm_input_size(timm_config)
    crop_pct, mode = pretrained_cfg.get("crop_pct") or 0.875, pretrained_cfg.get("crop_mode") or "center"
    resized = {"height": math.floor(height / crop_pct), "width": math.floor(width / crop_pct)}
    interpolation = (pretrained_cfg.get("interpolation") or "bicubic").upper()
    if mode == "center" and height == width:
        size = {"shortest_edge": resized["height"]}
    elif mode == "squash":
        size = resized
    else:
        size = None
    if size is None or interpolation not in Image.Resampling.__members__:
        raise ValueError(
            f"timm resizes images for {name} in a way that this image processor does not have: crop_mode={mode!r}, {height}x{width} "
            f"pixels, interpolation={interpolation.lower()!r}. Use timm's own transform: `AutoImageProcessor.from_pretrained({name!r})`."
        )
    if channels != 3:
        raise ValueError(
            f"{name} takes images of {channels} channels. Make an image processor for them: `from_image_size({height}, "
            "do_convert_rgb=False, image_mean=[...], image_std=[...])` with a value per channel."
        )
    return {
        "size": size,
        "crop_size": {"height": height, "width": width},
        "resample": Image.Resampling[interpolation],
        "image_mean": list(pretrained_cfg.get("mean") or IMAGENET_DEFAULT_MEAN),
        "image_std": list(pretrained_cfg.get("std") or IMAGENET_DEFAULT_STD),
    }


def _check_integers(images: "np.ndarray | torch.Tensor") -> None:
    """Refuses integers outside 0..255. Images of bytes, the usual case, and of floating point are not looked at."""
    if isinstance(images, torch.Tensor):
        is_checked = not (images.is_floating_point() or images.dtype in (torch.uint8, torch.bool))
    else:
        is_checked = images.dtype.kind in "iu" and images.dtype != np.uint8
    if is_checked and 0 not in images.shape:
        values = np.asarray(images.cpu() if isinstance(images, torch.Tensor) else images)
        smallest, largest = values.min(), values.max()
        if smallest < 0 or largest > 255:
            raise ValueError(
                f"The image has dtype {images.dtype} and values of {smallest} to {largest}, expected integers of 0 to 255. Scale images of "
                "more than 8 bits per channel to 0..255 first."
            )


class ImageProcessorMixin(_Backend):
    """
    Reads the settings of timm's models, refuses the settings of other image processors, and saves the code of the core.

    The EXIF orientation is applied where a file is read, by a pipeline or from a path given to the processor. As in transformers' own
    processors, it is not applied to a PIL image.
    """

    if TYPE_CHECKING:
        do_convert_rgb: bool | None

    @classmethod
    def get_image_processor_dict(
        cls, pretrained_model_name_or_path: str | os.PathLike, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """
        As in transformers; for a CrossViT of timm, which has no file for an image processor, the settings that its `config.json` has.

        Raises:
            ValueError: If this is of another model. transformers would take the settings that it knows and ignore the others.
        """
        name = str(pretrained_model_name_or_path)
        try:
            with suggest_model(name):
                settings, unused_kwargs = super().get_image_processor_dict(pretrained_model_name_or_path, **kwargs)
        except OSError:
            # Of the base class, because `CrossViTConfig` keeps nothing of what timm says about preprocessing.
            with contextlib.suppress(OSError):
                config_dict, unused_kwargs = PreTrainedConfig.get_config_dict(pretrained_model_name_or_path, **kwargs)
                if config_dict:
                    crossvit_config(config_dict, name, "crossvit")  # refuses other models
                if is_timm_config(config_dict):
                    return _settings_from_timm(config_dict, name), unused_kwargs
            raise
        own_types = {"CrossViTImageProcessor", "CrossViTImageProcessorPil", *(base.__name__ for base in cls.__mro__)}
        if (found := settings.get("image_processor_type", cls.__name__)) not in own_types:
            raise ValueError(
                f"{name} has the settings of a {found}, and {cls.__name__} would do something else with them. Load it with "
                f"`AutoImageProcessor.from_pretrained({name!r})`, or make one for a CrossViT with `{cls.__name__}.from_image_size`."
            )
        return settings, unused_kwargs

    def save_pretrained(
        self, save_directory: str | os.PathLike, push_to_hub: bool = False, **kwargs: Any
    ) -> list[str]:
        """As in transformers, with the source code of both processors beside it (`trust_remote_code`)."""
        files = super().save_pretrained(save_directory)
        self.auto_map = save_code(self, save_directory, IMAGE_PROCESSOR_CLASSES)
        self.to_json_file(files[0])
        if push_to_hub:
            self.push_to_hub(kwargs.pop("repo_id", Path(save_directory).name), **kwargs)
        return files

    def _preprocess_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        is_empty = len(images.shape) == 4 and not len(images) if hasattr(images, "shape") else images in ([], ())
        if not is_empty:
            return super()._preprocess_image_like_inputs(images, *args, **kwargs)
        # No images, as the last part of a stream can be: what one image gives, without it.
        channels = 3 if isinstance(kwargs["image_mean"], float) else len(kwargs["image_mean"])
        black = [np.zeros((channels, 8, 8), np.uint8)]
        outputs = super()._preprocess_image_like_inputs(
            black, *args, **{**kwargs, "input_data_format": "channels_first"}
        )
        return BatchFeature({name: values[:0] for name, values in outputs.items()})

    def _validate_preprocess_kwargs(self, **kwargs: Any) -> None:
        super()._validate_preprocess_kwargs(**kwargs)
        size, crop_size = kwargs["size"], kwargs["crop_size"]
        if kwargs["do_resize"] and kwargs["do_center_crop"] and size.shortest_edge and crop_size:
            if size.shortest_edge < min(crop_size.height, crop_size.width):
                logger.warning_once(
                    f"Images are resized to {size.shortest_edge} pixels and cropped to {crop_size.height}x{crop_size.width}, so that they "
                    "get a black border. Give `crop_size` as well, or make an image processor with `from_image_size`."
                )

    def fetch_images(self, image_url_or_urls: Any) -> Any:
        """
        As in transformers. An array of two dimensions is a grey image.

        Raises:
            FileNotFoundError: If there is no file of this name.
            ValueError: If integers are outside 0..255, which one backend would take for pixels and the other one would not.
        """
        try:
            images = super().fetch_images(image_url_or_urls)
        except ValueError as error:
            if isinstance(image_url_or_urls, str) and "Incorrect image source" in str(error):
                raise FileNotFoundError(
                    f"There is no image file {image_url_or_urls[:200]!r}. Expected the path of an image, a URL that begins with "
                    "http:// or https://, or an image in base64."
                ) from None
            raise
        if self.do_convert_rgb and isinstance(images, Image.Image) and images.mode.startswith(("I", "F")):
            logger.warning_once(
                f"An image of mode {images.mode!r} has more than 8 bits per channel; converted to RGB, as timm and PIL do it, all "
                "values above 255 become white. Scale such images to 0..255 before the image processor."
            )
        if isinstance(images, np.ndarray | torch.Tensor):
            _check_integers(images)
            images = images[None] if images.ndim == 2 else images
        if isinstance(images, np.ndarray) and min(images.strides, default=0) < 0:
            images = images.copy()  # PyTorch has no negative strides, as `image[..., ::-1]` has them.
        return images

    @classmethod
    def from_image_size(
        cls, image_size: int | list[int] | tuple[int, int], crop_pct: float = 0.875, **kwargs: Any
    ) -> "Self":
        """
        The processor for a model of another input size.

        Args:
            image_size: What the model takes, in pixels: `config.image_size`.
            crop_pct: The part of the resized image's shorter side that the crop keeps, above 0 and at most 1 (timm's and ConvNeXt's name
                of it). The 240 models are evaluated at 0.875, the 408 models at 1.0.
            kwargs: Any other argument of the processor.
        """
        if not 0 < crop_pct <= 1:
            raise ValueError(f"`crop_pct` must be above 0 and at most 1, got {crop_pct}.")
        height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
        return cls(
            size={"shortest_edge": math.floor(max(height, width) / crop_pct)},
            crop_size={"height": height, "width": width},
            **kwargs,
        )


def _resizes_and_crops(
    do_resize: bool,
    size: Any,
    resample: Any,
    do_center_crop: bool,
    crop_size: Any,
    do_convert_rgb: bool,
    **kwargs: Any,
) -> bool:
    """Whether images are converted to RGB, resized by their shorter side with a filter of Pillow and then cropped without padding."""
    return (
        bool(do_convert_rgb and do_resize and do_center_crop)
        and isinstance(resample, int)
        and dict(size).keys() == {"shortest_edge"}
        and dict(crop_size).keys() == {"height", "width"}
        and max(crop_size.height, crop_size.width) <= size.shortest_edge
    )


def _resize_and_crop(image: Image.Image, size: Any, resample: int, crop_size: Any, **kwargs: Any) -> Image.Image:
    """
    The pixels of `resize` and then `center_crop`. Pillow resizes the width first and the height second. Columns that the crop drops are
    dropped before the second step, because it would compute them in vain.
    """
    width, height = (int(size.shortest_edge * length / min(image.size)) for length in image.size)
    left, top = round((width - crop_size.width) / 2), round((height - crop_size.height) / 2)
    image = image.resize((width, image.height), resample).crop((left, 0, left + crop_size.width, image.height))
    return image.resize((crop_size.width, height), resample).crop((0, top, crop_size.width, top + crop_size.height))


class PilBackend(ImageProcessorMixin, backends.PilBackend):
    """transformers' backend; with the usual settings, a Pillow image is resized and cropped before it becomes an array."""

    def _preprocess_image_like_inputs(self, images: Any, *args: Any, **kwargs: Any) -> BatchFeature:
        # A subclass may have steps of its own, which this would leave out.
        if is_core(self) and _resizes_and_crops(**kwargs):
            images = self._prepare_images_structure(images)
            if all(isinstance(image, Image.Image) for image in images):
                # Pillow would copy an image that is RGB already.
                images = [image if image.mode == "RGB" else image.convert("RGB") for image in images]
                images = [_resize_and_crop(image, **kwargs) for image in images]
                kwargs["do_resize"] = False
        return super()._preprocess_image_like_inputs(images, *args, **kwargs)


def _is_interleaved_rgb(image: Any, input_data_format: str | ChannelDimension | None) -> bool:
    """Whether this is (3, height, width) of bytes in the memory of the CPU, where the three bytes of a pixel are neighbours."""
    if not isinstance(image, torch.Tensor) or image.device.type != "cpu" or image.dtype != torch.uint8:
        return False
    if image.ndim != 3 or image.shape[0] != 3 or not image[None].is_contiguous(memory_format=torch.channels_last):
        return False
    layout = input_data_format or infer_channel_dimension_format(cast(Any, image), num_channels=(1, 3, 4))
    return layout == ChannelDimension.FIRST


class TorchvisionBackend(ImageProcessorMixin, backends.TorchvisionBackend):
    """transformers' backend, without copies of a whole photo."""

    def process_image(
        self,
        image: Any,
        do_convert_rgb: bool | None = None,
        input_data_format: str | ChannelDimension | None = None,
        device: "torch.device | None" = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """As in transformers: one image to (channels, height, width)."""
        if isinstance(image, Image.Image) and image.mode == "RGB":
            image, input_data_format = tvF.pil_to_tensor(image), ChannelDimension.FIRST
        # Pillow and the decoders of JPEG give interleaved channels. PyTorch resizes them on the CPU in half the time that it needs for planes,
        # and transformers' copy into planes takes longer than the resize.
        if torch.device(device or "cpu").type == "cpu" and _is_interleaved_rgb(image, input_data_format):
            return image
        return super().process_image(
            image, do_convert_rgb=do_convert_rgb, input_data_format=input_data_format, device=device, **kwargs
        )

    def rescale_and_normalize(self, images: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        # In planes from here on, because PyTorch normalizes interleaved channels six times slower.
        return super().rescale_and_normalize(images.contiguous(), *args, **kwargs)


__all__ = ["PilBackend", "TorchvisionBackend"]
