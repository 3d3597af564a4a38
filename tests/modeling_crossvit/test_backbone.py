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
CrossViTBackbone: feature maps of either branch after any stage, equal to timm's of the same weights, for any input size, and fit
for transformers' detection and segmentation heads.

    pytest tests/modeling_crossvit/test_backbone.py
"""

import pytest
import timm
import torch
from small_models import TIMM_SMALL, small_config
from transformers import (
    AutoBackbone,
    DetrConfig,
    DetrForObjectDetection,
    UperNetConfig,
    UperNetForSemanticSegmentation,
)

from benchmarks.parity import timm_model
from crossvit import CrossViTBackbone, CrossViTConfig, convert_checkpoint


ALL = ["small_stage1", "small_stage2", "large_stage1", "large_stage2"]


@pytest.fixture
def backbone(config):
    torch.manual_seed(0)
    config.out_features = ALL
    return CrossViTBackbone(config).eval()


@pytest.mark.parametrize("variant", ["crossvit_9_240", "crossvit_9_dagger_240"])
def test_equal_to_timm(variant, tmp_path):
    """Feature by feature, against both of timm's ways: `forward_intermediates` and `features_only`. Narrow models of either kind."""
    narrow = {**TIMM_SMALL, "depth": ((1, 2, 0),) * 3}
    reference = timm_model(variant, **narrow)
    config = small_config(
        image_sizes=[240, 224], num_stages=3, num_labels=1000, use_convolutional_stem="dagger" in variant
    )
    convert_checkpoint(reference, config=config).save_pretrained(tmp_path)
    backbone, info = CrossViTBackbone.from_pretrained(tmp_path, out_indices=list(range(6)), output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "mismatched_keys"))
    features_only = timm.create_model(variant, features_only=True, out_indices=(0, 2, 5), **narrow).eval()
    missing, _ = features_only.model.load_state_dict(reference.state_dict(), strict=False)
    assert not missing
    pixel_values = torch.randn(2, 3, 240, 240)
    with torch.no_grad():
        feature_maps = backbone.eval()(pixel_values).feature_maps
        expected = reference.forward_intermediates(pixel_values, intermediates_only=True)
        for ours, theirs in zip(feature_maps, expected, strict=True):
            # Both are float32, as in the parity suite.
            torch.testing.assert_close(ours, theirs, rtol=0, atol=5e-6 * theirs.abs().max().item())
        for index, theirs in zip((0, 2, 5), features_only(pixel_values), strict=True):
            torch.testing.assert_close(feature_maps[index], theirs, rtol=0, atol=5e-6 * theirs.abs().max().item())


@pytest.mark.parametrize(
    ("size", "grids"),
    [((48, 48), [(4, 4), (2, 2)]), ((48, 96), [(4, 8), (2, 4)]), ((100, 60), [(8, 5), (4, 3)]), ((24, 24), [(2, 2), (1, 1)])],
)  # fmt: skip
def test_shapes_and_places(backbone, size, grids):
    """Each map is the tokens of its branch after its stage, row by row."""
    with torch.no_grad():
        outputs = backbone(torch.randn(2, 3, *size), output_hidden_states=True)
    assert backbone.channels == [16, 16, 24, 24]
    for index, feature_map in enumerate(outputs.feature_maps):
        branch, stage = divmod(index, 2)
        (rows, columns), width = grids[branch], backbone.config.hidden_sizes[branch]
        assert feature_map.shape == (2, width, rows, columns)
        tokens = outputs.hidden_states[(stage + 1) * 2 + branch]
        for row in range(rows):
            for column in range(columns):
                assert torch.equal(feature_map[:, :, row, column], tokens[:, 1 + row * columns + column])


def test_selection_is_a_part_of_all(config, backbone):
    pixel_values = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        expected = dict(zip(ALL, backbone(pixel_values).feature_maps))
        for selection in (["small_stage2"], ["small_stage1", "large_stage2"]):
            backbone.out_features = selection
            found = backbone(pixel_values).feature_maps
            assert len(found) == len(selection)
            assert all(torch.equal(feature_map, expected[name]) for name, feature_map in zip(selection, found))


def test_names(config):
    assert config.out_features == ["large_stage2"] and config.stage_names == ALL
    three = small_config(
        image_sizes=[48, 32, 32], patch_sizes=[12, 16, 16], hidden_sizes=[16, 24, 24], depths=[1, 1, 1],
        num_attention_heads=[2, 3, 3], mlp_ratios=[2, 2, 2], num_stages=1, out_indices=[0, -1],
    )  # fmt: skip
    assert three.out_features == ["branch0_stage1", "branch2_stage1"]
    with pytest.raises(ValueError, match="out_features must be a subset of stage_names.*small_stage1.*got .*stage4"):
        CrossViTConfig(out_features=["stage4"])


def test_round_trip(backbone, tmp_path):
    backbone.config.out_features = ["small_stage2", "large_stage1"]
    backbone.save_pretrained(tmp_path)
    again = CrossViTBackbone.from_pretrained(tmp_path)
    assert again.out_features == ["small_stage2", "large_stage1"] and again.out_indices == [1, 2]
    assert type(AutoBackbone.from_config(again.config)) is CrossViTBackbone


def test_segmentation_head(config):
    config.out_features = ALL
    model = UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=config, hidden_size=16, num_labels=3, use_auxiliary_head=False)
    )
    outputs = model(torch.randn(2, 3, 48, 72), labels=torch.randint(3, (2, 48, 72)))
    assert outputs.logits.shape == (2, 3, 48, 72)
    outputs.loss.backward()
    assert all(parameter.grad is not None for parameter in model.backbone.stages[0].parameters())


def test_detection_head(config):
    config.out_features = ["large_stage2"]
    model = DetrForObjectDetection(
        DetrConfig(
            backbone_config=config, use_timm_backbone=False, d_model=16, encoder_layers=1, decoder_layers=1, num_queries=4,
            encoder_ffn_dim=16, decoder_ffn_dim=16, encoder_attention_heads=2, decoder_attention_heads=2, num_labels=3,
        )
    )  # fmt: skip
    labels = [{"class_labels": torch.tensor([1]), "boxes": torch.tensor([[0.5, 0.5, 0.2, 0.3]])}] * 2
    outputs = model(torch.randn(2, 3, 60, 96), labels=labels)
    assert outputs.pred_boxes.shape == (2, 4, 4)
    outputs.loss.backward()
    # Patch tokens pass the fusion of their stage unchanged: what is used of the last stage is the layers of the large branch.
    unused = {name for name, parameter in model.named_parameters() if parameter.grad is None and "stages.1" in name}
    assert unused and all("stages.1.fusions" in name or "stages.1.layers.0" in name for name in unused)
