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
CrossViTImageProcessorPil: equal to timm's evaluation transform of the same model, value for value, on real photos of every
kind; and what both processors share.

    pytest tests/image_processing
"""

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image, ImageOps
from timm.data import create_transform
from transformers import AutoImageProcessor

from crossvit import CrossViTImageProcessor, CrossViTImageProcessorPil
from crossvit.image_processing import base


KINDS = [
    "landscape", "portrait", "square", "small", "odd", "panorama",
    "palette", "grey", "RGBA", "CMYK", "16-bit", "EXIF-rotated",
]  # fmt: skip
# Pixels are equal; the normalisation rounds differently in numpy than in torch, by a unit in the last place of numbers below 4.
TOLERANCE = 1e-6
PROCESSORS = [CrossViTImageProcessor, CrossViTImageProcessorPil]


def timm_transform(variant: str):
    data_config = timm.data.resolve_data_config(timm.get_pretrained_cfg(variant).to_dict())
    return create_transform(**data_config, is_training=False)


@pytest.fixture(scope="module", params=["crossvit_15_dagger_240", "crossvit_15_dagger_408"])
def variant(request):
    return request.param


def processor_of(variant: str, processor_class):
    if variant.endswith("408"):
        return processor_class.from_image_size(408, crop_pct=1.0)
    return processor_class.from_image_size(240)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_the_defaults_are_those_of_the_240_models(processor_class):
    assert processor_class.from_image_size(240).to_dict() == processor_class().to_dict()


@pytest.mark.parametrize("kind", KINDS)
def test_equal_to_timm(photos, variant, kind):
    # timm's datasets convert to RGB before the transform.
    expected = timm_transform(variant)(photos[kind].convert("RGB"))
    ours = processor_of(variant, CrossViTImageProcessorPil)(photos[kind], return_tensors="pt").pixel_values[0]
    assert ours.shape == expected.shape
    assert (ours - expected).abs().max() <= TOLERANCE


class EachStepOnArrays(CrossViTImageProcessorPil):
    """Subclasses go through `process_image`, `resize` and `center_crop`, which they may override."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "16-bit"])
def test_the_short_way_gives_the_same_values(photos, kind):
    sizes = [
        {"size": {"shortest_edge": 274}},
        {"size": {"shortest_edge": 240}},
        {"crop_size": {"height": 99, "width": 40}},
    ]
    long_ways = [{"size": {"shortest_edge": 200}}, {"size": {"height": 250, "width": 260}}, {"do_center_crop": False}]
    for options in (*sizes, *long_ways, *({"resample": resample} for resample in Image.Resampling)):
        ours, expected = (
            processor_class(**options)(photos[kind], return_tensors="pt").pixel_values
            for processor_class in (CrossViTImageProcessorPil, EachStepOnArrays)
        )
        assert torch.equal(ours, expected), options


def test_a_subclass_is_asked_for_each_step(photos):
    class Mirrored(CrossViTImageProcessorPil):
        def resize(self, image, size, **kwargs):
            return super().resize(image[..., ::-1], size, **kwargs)

    mirrored = Mirrored()(photos["landscape"], return_tensors="pt").pixel_values
    expected = CrossViTImageProcessorPil()(ImageOps.mirror(photos["landscape"]), return_tensors="pt").pixel_values
    assert torch.equal(mirrored, expected)


def test_the_whole_photo_stays_a_pillow_image(photos, monkeypatch):
    """Only the crop becomes an array, and the second step of the resize computes no column that the crop drops."""
    resized, arrays = [], []
    resize, tobytes = Image.Image.resize, Image.Image.tobytes
    monkeypatch.setattr(
        Image.Image, "resize", lambda self, size, *args: resized.append((self.size, size)) or resize(self, size, *args)
    )
    monkeypatch.setattr(Image.Image, "tobytes", lambda self, *args: arrays.append(self.size) or tobytes(self, *args))
    width, height = photos["landscape"].size
    resized_width = 274 * width // height
    CrossViTImageProcessorPil()(photos["landscape"], return_tensors="pt")
    assert resized == [((width, height), (resized_width, height)), ((240, height), (240, 274))]
    assert arrays == [(240, 240)]


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_exif_orientation_is_applied_where_a_file_is_read(photos, tmp_path, processor_class):
    """As in transformers: a path is read upright; a PIL image is taken as it is, its reader having had the choice."""
    rotated = photos["EXIF-rotated"]
    rotated.save(tmp_path / "rotated.png", exif=rotated.getexif())
    processor = processor_class()
    upright = processor(ImageOps.exif_transpose(rotated), return_tensors="pt").pixel_values
    from_path = processor(str(tmp_path / "rotated.png"), return_tensors="pt").pixel_values
    as_it_is = processor(rotated, return_tensors="pt").pixel_values
    assert torch.equal(from_path, upright)
    assert not torch.equal(as_it_is, upright)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_defaults_are_the_release_s(processor_class):
    processor = processor_class()
    assert dict(processor.size) == {"shortest_edge": 274}
    assert dict(processor.crop_size) == {"height": 240, "width": 240}
    processor = processor_class.from_image_size(408, crop_pct=1.0)
    assert dict(processor.size) == {"shortest_edge": 408}
    assert dict(processor.crop_size) == {"height": 408, "width": 408}


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_save_and_load(photos, tmp_path, processor_class):
    processor = processor_class.from_image_size([96, 48], image_mean=[0.5, 0.5, 0.5])
    processor.save_pretrained(tmp_path)
    loaded = [
        processor_class.from_pretrained(tmp_path),
        AutoImageProcessor.from_pretrained(tmp_path, backend=processor.backend),
    ]
    expected = processor(photos["landscape"], return_tensors="pt").pixel_values
    assert expected.shape == (1, 3, 96, 48)
    for other in loaded:
        assert type(other) is processor_class
        assert other.to_dict() == processor.to_dict()
        assert torch.equal(other(photos["landscape"], return_tensors="pt").pixel_values, expected)


def test_auto_image_processor_prefers_torchvision(tmp_path):
    CrossViTImageProcessorPil().save_pretrained(tmp_path)
    assert type(AutoImageProcessor.from_pretrained(tmp_path)) is CrossViTImageProcessor


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_arrays_and_tensors_are_taken_like_pil_images(photos, processor_class):
    processor = processor_class()
    array = np.asarray(photos["landscape"])
    expected = processor(photos["landscape"], return_tensors="pt").pixel_values
    assert torch.equal(processor(array, return_tensors="pt").pixel_values, expected)
    assert torch.equal(processor(torch.from_numpy(array).permute(2, 0, 1), return_tensors="pt").pixel_values, expected)
    batch = processor([photos["landscape"], photos["portrait"]], return_tensors="np").pixel_values
    assert batch.shape == (2, 3, 240, 240)
    assert np.array_equal(batch[0], expected[0].numpy())


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_steps_can_be_left_out(photos, processor_class):
    small = photos["small"]  # 200 x 131
    processor = processor_class(do_resize=False, do_normalize=False, do_rescale=False)
    # A crop larger than the image pads it with zeros on all sides.
    expected = torchvision.transforms.CenterCrop(240)(small)
    pixels = processor(small, return_tensors="np").pixel_values[0]
    assert np.array_equal(pixels, np.moveaxis(np.asarray(expected), -1, 0))
    assert processor(small, do_center_crop=False, return_tensors="np").pixel_values.shape == (1, 3, 131, 200)


@pytest.mark.parametrize("crop_pct", [0, 1.5])
def test_impossible_crop_pct_is_refused(crop_pct):
    with pytest.raises(ValueError, match=f"`crop_pct` must be above 0 and at most 1, got {crop_pct}"):
        CrossViTImageProcessorPil.from_image_size(240, crop_pct=crop_pct)


def test_grey_array_becomes_three_equal_channels(photos):
    processor = CrossViTImageProcessorPil()
    ours = processor(np.asarray(photos["grey"])[None], input_data_format="channels_first", return_tensors="pt")
    assert torch.equal(ours.pixel_values, processor(photos["grey"], return_tensors="pt").pixel_values)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_an_alpha_channel_is_dropped(photos, processor_class):
    """Of PIL images as timm does it, and of arrays and tensors alike."""
    processor = processor_class()
    photo = photos["landscape"].convert("RGBA")
    photo.putalpha(photos["landscape"].convert("L"))
    array = np.asarray(photo)
    expected = processor(photos["landscape"], return_tensors="pt").pixel_values
    for image in (photo, array, torch.from_numpy(array.copy()).permute(2, 0, 1)):
        assert torch.equal(processor(image, return_tensors="pt").pixel_values, expected), type(image)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_arrays_with_negative_strides(photos, processor_class):
    processor, array = processor_class(), np.asarray(photos["landscape"])
    for view in (array[..., ::-1], array[::-1], array[:, ::-1]):  # BGR, upside down, mirrored
        expected = processor(view.copy(), return_tensors="pt").pixel_values
        assert torch.equal(processor(view, return_tensors="pt").pixel_values, expected)


@pytest.mark.parametrize("processor_class", PROCESSORS)
@pytest.mark.parametrize("as_tensor", [False, True], ids=["array", "tensor"])
@pytest.mark.parametrize("do_resize", [True, False])
@pytest.mark.parametrize(("dtype", "value"), [(np.uint16, 40000), (np.int16, -1), (np.int32, 256), (np.int8, -1)])
def test_integers_outside_a_byte_are_refused(processor_class, as_tensor, do_resize, dtype, value):
    image = np.zeros((50, 50, 3), dtype)
    image[7, 8, 0] = value
    with pytest.raises(ValueError, match=f"dtype.* and values of .*{value}.*, expected integers of 0 to 255"):
        processor_class()(torch.from_numpy(image) if as_tensor else image, do_resize=do_resize)


@pytest.mark.parametrize("processor_class", PROCESSORS)
@pytest.mark.parametrize("images", [[], (), np.zeros((0, 3, 9, 9), np.uint8), torch.zeros(0, 3, 9, 9)], ids=type)
@pytest.mark.parametrize("options", [{}, {"do_resize": False}, {"do_normalize": False}], ids=str)
def test_a_batch_of_no_images(processor_class, images, options):
    for kind in ("pt", "np"):
        outputs = processor_class()(images, return_tensors=kind, **options)
        assert outputs.pixel_values.shape == (0, 3, 240, 240)
        assert (
            outputs.pixel_values.dtype
            == processor_class()(np.zeros((9, 9, 3), np.uint8), return_tensors=kind, **options).pixel_values.dtype
        )
    assert processor_class()(images, **options).pixel_values == []
    grey = processor_class(do_convert_rgb=False, image_mean=[0.5], image_std=[0.5])
    assert grey([], return_tensors="pt").pixel_values.shape == (0, 1, 240, 240)


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_a_missing_file_is_named(processor_class):
    with pytest.raises(FileNotFoundError, match="There is no image file 'misspelled.jpg'"):
        processor_class()(["misspelled.jpg"], return_tensors="pt")


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_a_crop_larger_than_the_resize_is_warned_of(photos, processor_class, monkeypatch):
    warnings = []
    monkeypatch.setattr(base.logger, "warning_once", warnings.append)
    processor = processor_class()
    processor(photos["landscape"])
    processor(photos["landscape"], size=96, crop_size=96)
    assert not warnings
    processor(photos["landscape"], size=96)
    assert len(warnings) == 1 and "resized to 96 pixels and cropped to 240x240" in warnings[0]


def test_more_than_8_bits_in_an_image_are_warned_of(photos, monkeypatch):
    warnings = []
    monkeypatch.setattr(base.logger, "warning_once", warnings.append)
    CrossViTImageProcessorPil()([photos["landscape"], photos["16-bit"]])
    assert len(warnings) == 1 and "'I;16' has more than 8 bits per channel" in warnings[0]
