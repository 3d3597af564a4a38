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
CrossViTConfig: the published variants against the tables of the paper, JSON round trip, and every refusal with a message that
names the field, what it got and how to mend it.

    pytest tests/configuration
"""

import json

import pytest
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError

from crossvit import (
    CROSSVIT_VARIANTS,
    CrossViTConfig,
    CrossViTForImageClassification,
    CrossViTImageProcessor,
    CrossViTModel,
)


# Table 1 of the paper, written here independently of the package: widths, heads, M, mlp ratio, dagger, input size.
TABLE_1 = {
    "crossvit_tiny_240": (96, 192, 3, 4, 4, False, 240),
    "crossvit_small_240": (192, 384, 6, 4, 4, False, 240),
    "crossvit_base_240": (384, 768, 12, 4, 4, False, 240),
    "crossvit_9_240": (128, 256, 4, 3, 3, False, 240),
    "crossvit_15_240": (192, 384, 6, 5, 3, False, 240),
    "crossvit_18_240": (224, 448, 7, 6, 3, False, 240),
    "crossvit_9_dagger_240": (128, 256, 4, 3, 3, True, 240),
    "crossvit_15_dagger_240": (192, 384, 6, 5, 3, True, 240),
    "crossvit_18_dagger_240": (224, 448, 7, 6, 3, True, 240),
    "crossvit_15_dagger_408": (192, 384, 6, 5, 3, True, 408),
    "crossvit_18_dagger_408": (224, 448, 7, 6, 3, True, 408),
}


def test_variants_are_those_of_table_1():
    assert CROSSVIT_VARIANTS.keys() == TABLE_1.keys()
    for variant, (small, large, heads, depth, mlp_ratio, dagger, size) in TABLE_1.items():
        config = CrossViTConfig.from_variant(variant)
        assert config.hidden_sizes == [small, large]
        assert config.num_attention_heads == [heads, heads]
        assert config.depths == [1, depth]
        assert config.mlp_ratios == [mlp_ratio, mlp_ratio]
        assert config.use_convolutional_stem == dagger
        assert config.image_size == size
        assert config.image_sizes[1] == size * 16 // 17 if size == 408 else config.image_sizes[1] == 224
        assert (config.patch_sizes, config.num_stages, config.num_fusion_layers) == ([12, 16], 3, 1)


def test_defaults_are_crossvit_small():
    assert CrossViTConfig().to_dict() == CrossViTConfig.from_variant("crossvit_small_240").to_dict()


def test_from_variant_takes_overrides():
    config = CrossViTConfig.from_variant("crossvit_15_240", num_labels=7, drop_path_rate=0.1)
    assert (config.num_labels, config.drop_path_rate) == (7, 0.1)
    assert CrossViTConfig.from_variant("crossvit_15_240").drop_path_rate == 0.0, "the table must not have changed"


@pytest.mark.parametrize("image_sizes", [(240, 224), [(240, 120), (224, 112)]])
def test_json_round_trip(tmp_path, image_sizes):
    config = CrossViTConfig(image_sizes=image_sizes, id2label={0: "cat", 1: "dog"}, label2id={"cat": 0, "dog": 1})
    assert json.loads(config.to_json_string(use_diff=False))["image_sizes"] == config.image_sizes
    config.save_pretrained(tmp_path)
    assert CrossViTConfig.from_pretrained(tmp_path).to_dict() == config.to_dict()


def test_sizes_that_other_tools_ask_for():
    config = CrossViTConfig(image_sizes=[(240, 120), (224, 112)])
    assert config.image_size == [240, 120]
    assert config.hidden_size == 384
    assert config.num_branches == 2
    assert config.branch_image_size(1) == (224, 112)
    assert config.num_hidden_states == 2 * (3 + 1)


def test_unknown_variant_lists_the_valid_ones():
    with pytest.raises(
        ValueError, match="got 'crossvit_15_224', expected one of crossvit_tiny_240, .*crossvit_18_dagger_408"
    ):
        CrossViTConfig.from_variant("crossvit_15_224")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"depths": [1, 4, 2]}, r"`depths` must have one value per branch.*got \[1, 4, 2\] \(3 values\).*same length"),
        ({"hidden_sizes": [192]}, r"`hidden_sizes`.*at least two branches.*got \[192\].*use ViT"),
        (
            {"num_attention_heads": [5, 6]},
            r"`hidden_sizes\[0\]` must be a multiple of `num_attention_heads\[0\]`, got 192 and 5\. Use 190",
        ),
        (
            {"image_sizes": [250, 224]},
            r"`image_sizes\[0\]` must be a multiple of `patch_sizes\[0\]`.*got 250 and 12\. Use 252.*interpolate_pos_encoding=True",
        ),
        ({"image_sizes": [(240, 250), 224]}, r"`image_sizes\[0\]`.*got \[240, 250\] and 12\. Use \[240, 252\]"),
        ({"image_sizes": [[240, 240, 3], 224]}, r"`image_sizes` takes an int or \[height, width\].*got \[240, 240, 3\]"),
        ({"image_sizes": [(0, 240), 224]}, r"`image_sizes` must be positive.*got \[\[0, 240\], 224\]"),
        ({"depths": [0, 4]}, r"`depths` must be positive.* in every branch, got \[0, 4\]"),
        ({"mlp_ratios": [4.0, -1.0]}, r"`mlp_ratios` must be positive.* in every branch, got \[4\.0, -1\.0\]"),
        ({"patch_sizes": [-12, 16]}, r"`patch_sizes` must be positive"),
        ({"num_stages": 0}, r"`num_stages` must be positive.*, got 0"),
        ({"num_fusion_layers": 0}, r"`num_fusion_layers` must be positive.*, got 0"),
        ({"num_channels": -3}, r"`num_channels` must be positive.*, got -3"),
        ({"layer_norm_eps": 0.0}, r"`layer_norm_eps` must be positive"),
        ({"layer_norm_eps": float("inf")}, r"`layer_norm_eps` must be positive and at most 1.0, got inf"),
        ({"initializer_range": float("nan")}, r"`initializer_range` must be positive.*, got nan"),
        ({"mlp_ratios": [4.0, float("inf")]}, r"`mlp_ratios` must be positive and at most 1024 in every branch.*inf"),
        ({"num_stages": 10**9}, r"`num_stages` must be positive and at most 128, got 1000000000"),
        ({"hidden_sizes": [192] * 10**6}, r"one value per branch, at most 16, got 1000000 values"),
        ({"depths": [1024, 1024]}, r"at most 4096 layers, got 3 stages.*: 6150 layers"),
        ({"image_sizes": [65532, 224]}, r"at most 1048576 patches, got 65532 and 12: 5461 x 5461 patches"),
        ({"drop_path_rate": 1.0}, r"`drop_path_rate` is a probability.*got 1\.0"),
        ({"hidden_dropout_prob": -0.1}, r"`hidden_dropout_prob` is a probability.*got -0\.1"),
        ({"hidden_act": "gelo"}, r"`hidden_act`.*got 'gelo'.*Use 'gelu'"),
        (
            {"use_convolutional_stem": True, "patch_sizes": [8, 16]},
            r"`use_convolutional_stem=True` needs patch sizes of 12 or 16, got `patch_sizes\[0\]` = 8",
        ),
        (
            {"use_convolutional_stem": True, "hidden_sizes": [198, 384]},
            r"multiple of 4.*got `hidden_sizes\[0\]` = 198",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused(overrides, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        CrossViTConfig(**overrides)


@pytest.mark.parametrize(
    ("field", "value"), [("depths", 4), ("hidden_sizes", "192"), ("num_stages", 3.5), ("patch_sizes", [12.0, 16.0])]
)
def test_wrong_types_name_the_field_and_the_value(field, value):
    with pytest.raises(StrictDataclassFieldValidationError, match=f"(?s){field}.*{value}".replace("[", r"\[")):
        CrossViTConfig(**{field: value})


@pytest.mark.parametrize(
    ("field", "right"),
    [
        ("image_size", "image_sizes"),
        ("patch_size", "patch_sizes"),
        ("hidden_size", "hidden_sizes"),
        ("num_hidden_layers", "depths"),
        ("mlp_ratio", "mlp_ratios"),
        ("intermediate_size", "mlp_ratios"),
    ],
)
def test_fields_of_models_with_one_branch(tmp_path, field, right):
    """Most were kept as attributes that nothing reads, the others reported as properties without a setter."""
    config = CrossViTConfig()
    config.save_pretrained(tmp_path)
    for give in (
        lambda: CrossViTConfig(**{field: 84}),
        lambda: CrossViTConfig.from_variant("crossvit_15_240", **{field: 84}),
        lambda: CrossViTConfig.from_dict({}, **{field: 84}),
        lambda: CrossViTConfig.from_pretrained(tmp_path, **{field: 84}),
        lambda: CrossViTModel.from_pretrained(tmp_path, **{field: 84}),
        lambda: setattr(config, field, 84),
    ):
        with pytest.raises(ValueError, match=rf"no `{field}`: give `{right}`, a list.*for example `{right}=\["):
            give()


def test_tuples_become_lists_wherever_they_are_given(tmp_path):
    sizes, lists = ((84, 72), (84, 70)), [[84, 72], [84, 70]]
    config = CrossViTConfig(image_sizes=sizes, patch_sizes=(12, 14), hidden_sizes=(16, 24), num_attention_heads=(2, 3))
    assert config.image_sizes == lists and config.patch_sizes == [12, 14]
    CrossViTModel(config).save_pretrained(tmp_path)
    assert CrossViTConfig.from_pretrained(tmp_path, image_sizes=sizes).image_sizes == lists
    model = CrossViTModel.from_pretrained(tmp_path, image_sizes=((96, 72), (98, 70)))
    assert model.config.image_sizes == [[96, 72], [98, 70]]
    model.resize_position_embeddings(sizes)
    assert model.config.image_sizes == lists
    config.image_sizes = ((96, 72), (98, 70))
    assert config.image_sizes == [[96, 72], [98, 70]]


def test_three_branches_and_other_patch_sizes_are_valid():
    config = CrossViTConfig(
        image_sizes=[48, 48, 64],
        patch_sizes=[8, 12, 16],
        hidden_sizes=[16, 16, 24],
        depths=[1, 1, 2],
        num_attention_heads=[2, 2, 3],
        mlp_ratios=[2, 2, 2],
    )
    assert len(CrossViTModel(config).embeddings) == 3


@pytest.mark.parametrize(
    "load",
    [CrossViTConfig.from_pretrained, CrossViTForImageClassification.from_pretrained, CrossViTImageProcessor.from_pretrained],
    ids=["configuration", "model", "image processor"],
)  # fmt: skip
def test_a_misspelled_folder(load, saved_model, monkeypatch):
    """The nearest folder is named. What may be a repository of the Hub keeps the words of the Hub."""
    monkeypatch.chdir(saved_model.parent)
    right = str(saved_model)
    for wrong, meant in ((f"{right}l", right), (right.replace("model", "modle"), right), ("./modl", "model")):
        with pytest.raises(OSError, match=rf"^There is no folder '{wrong}'\. Did you mean '{meant}'\?$"):
            load(wrong)
    with pytest.raises(OSError, match=r"^There is no folder '/nowhere/at/all'\.$"):
        load("/nowhere/at/all")
    with pytest.raises(OSError, match=r"(?s)huggingface|local directory.*Did you mean 'model'\?$"):
        load("modl")
    with pytest.raises(OSError) as caught:
        load("me/something")
    assert "There is no folder" not in str(caught.value) and "Did you mean" not in str(caught.value)
