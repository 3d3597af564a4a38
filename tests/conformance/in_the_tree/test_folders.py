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
Runs with the transformers of the tree, for `test_in_the_tree.py`: on the folders that it wrote, without code from these folders.
"""

import os
from pathlib import Path

import pytest
import timm
import torch
import transformers
from safetensors.torch import load_file
from transformers import (
    AutoBackbone,
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    CrossViTConfig,
    CrossViTForImageClassification,
)


FOLDERS = Path(os.environ["CROSSVIT_FOLDERS"])


@pytest.mark.parametrize("name", ["crossvit_tiny_240", "crossvit_9_dagger_240", "crossvit_15_dagger_408"])
def test_logits_are_those_of_timm(name):
    config = CrossViTConfig.from_json_file(FOLDERS / name / "crossvit.json")
    model = CrossViTForImageClassification.from_pretrained(FOLDERS / name, config=config).eval()
    reference = timm.create_model(name).eval()
    reference.load_state_dict(load_file(FOLDERS / name / "model.safetensors"))
    pixel_values = torch.randn(2, 3, *config.branch_image_size(0), generator=torch.Generator().manual_seed(0))
    for dtype, limit in ((torch.float32, 1e-6), (torch.float64, 1e-14)):
        with torch.no_grad():
            expected = reference.to(dtype)(pixel_values.to(dtype))
            logits = model.to(dtype)(pixel_values.to(dtype)).logits
        assert (logits - expected).abs().max() <= limit * expected.abs().max(), dtype


def test_folder_of_the_package():
    folder = FOLDERS / "saved_by_the_package"
    expected = load_file(folder / "expected.bin")
    model, loading_info = AutoModelForImageClassification.from_pretrained(folder, output_loading_info=True)
    assert not loading_info["missing_keys"] and not loading_info["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(model(expected["pixel_values"]).logits, expected["logits"])
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is transformers.CrossViTConfig
    assert type(AutoModel.from_pretrained(folder)) is transformers.CrossViTModel
    assert type(AutoBackbone.from_config(config)) is transformers.CrossViTBackbone
    for backend, name in (("torchvision", "CrossViTImageProcessor"), ("pil", "CrossViTImageProcessorPil")):
        processor = AutoImageProcessor.from_pretrained(folder, backend=backend)
        assert type(processor) is getattr(transformers, name)
        assert dict(processor.crop_size) == {"height": 48, "width": 48}
    # The tree's own, and not a copy from the folder.
    assert type(model).__module__ == "transformers.models.crossvit.modeling_crossvit"
    assert Path(transformers.__file__).is_relative_to(Path.cwd())
