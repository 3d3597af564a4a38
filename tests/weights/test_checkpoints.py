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
convert_checkpoint and back, against timm's models: every architecture bit for bit, own architectures with other depths, widths,
fusion layers and branches, all kinds of source, and refusals that list what does not fit.

    pytest tests/weights/test_checkpoints.py
"""

import argparse
import itertools
import pickle

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_models import TIMM_SMALL, small_config, with_names_of_the_release
from timm.models import load_state_dict
from timm.models.crossvit import CrossVit

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, convert_checkpoint
from crossvit.weights.checkpoints import read_checkpoint, to_timm_state_dict


TIMM_ARGUMENTS = {
    **TIMM_SMALL,
    "img_size": 240,
    "img_scale": (1.0, 224 / 240),
    "patch_size": (12, 16),
    "num_classes": 5,
}
SIZES = {"image_sizes": [240, 224]}  # timm's class takes no small images


def timm_small(**changes) -> CrossVit:
    torch.manual_seed(0)
    model = CrossVit(**{**TIMM_ARGUMENTS, **changes}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def assert_equal_logits(model: CrossViTForImageClassification, reference: torch.nn.Module, size: int = 240):
    pixel_values = torch.randn(2, 3, size, size)
    with torch.no_grad():
        expected = reference(pixel_values)
        # Both are float32, and these models a few layers deep.
        torch.testing.assert_close(
            model(pixel_values).logits, expected, rtol=0, atol=5e-6 * expected.abs().max().item()
        )


@pytest.mark.parametrize("variant", CROSSVIT_VARIANTS)
def test_there_and_back_bit_for_bit(variant):
    with torch.device("meta"):  # names and shapes, without the time of an initialisation
        reference = timm.create_model(variant, num_classes=7)
    weights = {key: torch.rand(tensor.shape) for key, tensor in reference.state_dict().items()}
    model = convert_checkpoint(weights)
    assert model.config.num_labels == 7
    assert {key: model.config.to_dict()[key] for key in CROSSVIT_VARIANTS[variant]} == CROSSVIT_VARIANTS[variant]
    back = to_timm_state_dict(model)
    assert back.keys() == weights.keys()
    for key, tensor in weights.items():
        assert torch.equal(back[key], tensor), key


@pytest.mark.parametrize(
    ("timm_changes", "config_changes"),
    [
        ({}, {}),
        ({"depth": ((2, 3, 0),)}, {"num_stages": 1, "depths": [2, 3]}),
        ({"depth": ((1, 2, 1), (1, 2, 1))}, {"num_fusion_layers": 1}),
        ({"depth": ((1, 2, 3), (1, 2, 3))}, {"num_fusion_layers": 3}),
        ({"qkv_bias": False}, {"qkv_bias": False}),
        ({"in_chans": 3, "embed_dim": (16, 16), "num_heads": (4, 2)}, {"hidden_sizes": [16, 16], "num_attention_heads": [4, 2]}),
        ({"img_size": 120, "multi_conv": True}, {"image_sizes": [120, 112], "use_convolutional_stem": True}),
    ],
    ids=["small", "deeper", "fusion-list-of-1", "3-fusion-layers", "no-qkv-bias", "equal-widths", "stem-120"],
)  # fmt: skip
def test_own_architectures(timm_changes, config_changes):
    reference = timm_small(**timm_changes)
    model = convert_checkpoint(reference, config=small_config(**{**SIZES, **config_changes}))
    assert_equal_logits(model, reference, size=reference.img_size[0])
    back = to_timm_state_dict(model)
    expected = reference.state_dict()
    if timm_changes.get("depth", ((0,),))[0][-1] == 1:  # a list of one: the same model under another name
        expected = {key.replace("fusion.0.0.", "fusion.0.").replace("fusion.1.0.", "fusion.1."): value for key, value in expected.items()}  # fmt: skip
    assert back.keys() == expected.keys()
    assert all(torch.equal(back[key], expected[key]) for key in expected)


def test_three_branches():
    """timm's forward reads `cls_token_1` and `pos_embed_1` for every branch after the first: with equal ones it is right."""
    reference = timm_small(
        img_scale=(1.0, 224 / 240, 224 / 240),
        patch_size=(12, 16, 16),
        embed_dim=(16, 24, 24),
        depth=((1, 1, 2, 0), (1, 1, 2, 0)),
        num_heads=(2, 3, 4),
        mlp_ratio=(2.0, 3.0, 2.0, 1.0),
    )
    with torch.no_grad():
        reference.cls_token_2.copy_(reference.cls_token_1)
        reference.pos_embed_2.copy_(reference.pos_embed_1)
    config = CrossViTConfig(
        image_sizes=[240, 224, 224],
        patch_sizes=[12, 16, 16],
        hidden_sizes=[16, 24, 24],
        num_stages=2,
        depths=[1, 1, 2],
        num_attention_heads=[2, 3, 4],
        mlp_ratios=[2.0, 3.0, 2.0],
        num_labels=5,
    )
    model = convert_checkpoint(reference, config=config)
    assert_equal_logits(model, reference)


@pytest.fixture
def reference():
    return timm_small()


def convert_small(source) -> CrossViTForImageClassification:
    return convert_checkpoint(source, config=small_config(**SIZES))


def test_sources(reference, tmp_path):
    state_dict = reference.state_dict()
    save_file(state_dict, tmp_path / "timm.safetensors")
    torch.save(with_names_of_the_release(state_dict), tmp_path / "ibm.pth")
    training_checkpoint = {
        "model": {f"module.{key}": value for key, value in with_names_of_the_release(state_dict).items()},
        "optimizer": torch.optim.AdamW(reference.parameters()).state_dict(),
        "epoch": 299,
        "args": argparse.Namespace(model="crossvit_15_224", lr=0.004),
    }
    torch.save(training_checkpoint, tmp_path / "training.pth")
    sources = [
        reference,
        state_dict,
        with_names_of_the_release(state_dict),
        tmp_path / "timm.safetensors",
        str(tmp_path / "ibm.pth"),
        tmp_path / "training.pth",
    ]
    for source in sources:
        assert_equal_logits(convert_small(source), reference)


@pytest.mark.parametrize(
    "prefix",
    ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod.", "model.", "net.", "model._orig_mod.module."],
)
def test_what_wrappers_put_in_front_of_the_names(reference, prefix, caplog):
    """DistributedDataParallel, torch.compile, Lightning, and all of them at once. A layer that was compiled has a word inside of its name."""
    tensors = with_names_of_the_release(reference.state_dict())
    state_dict = {
        f"{prefix}{key.replace('blocks.1.', 'blocks.1._orig_mod.', 1)}": value for key, value in tensors.items()
    }
    assert_equal_logits(convert_small({"state_dict": state_dict}), reference)
    assert not caplog.records
    if prefix == "_orig_mod.":  # Without a wrapper they may belong to the model, and are refused.
        return
    convert_small({**state_dict, "n_averaged": torch.tensor(3), "criterion.weight": torch.ones(5)})
    (record,) = caplog.records
    assert "2 tensors of the checkpoint are left out" in record.message
    assert "criterion.weight, n_averaged" in record.message


def test_the_weights_are_those_that_timm_takes(reference, tmp_path):
    """All combinations of entries: those that timm takes, and with `use_ema=False` those that it takes then."""
    names = ("state_dict_ema", "model_ema", "state_dict", "model")
    for entries in (entries for count in (1, 2, 4) for entries in itertools.combinations(names, count)):
        checkpoint = {"epoch": 3}
        for index, name in enumerate(entries):
            checkpoint[name] = {f"module.{key}": tensor + index for key, tensor in reference.state_dict().items()}
        torch.save(checkpoint, tmp_path / "training.pth")
        for use_ema in (True, False) if {"state_dict", "model"} & {*entries} else (True,):
            expected = load_state_dict(str(tmp_path / "training.pth"), use_ema=use_ema)
            found, place = read_checkpoint(tmp_path / "training.pth", use_ema)
            assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)
            assert torch.equal(checkpoint[place.split()[0]]["module.cls_token_0"], found["cls_token_0"])
            model = convert_checkpoint(checkpoint, config=small_config(**SIZES), use_ema=use_ema)
            assert torch.equal(to_timm_state_dict(model)["cls_token_0"], expected["cls_token_0"])


@pytest.mark.parametrize(("plain", "averaged"), [("model.", "model_ema.module."), ("", "ema."), ("net.", "net_ema.")])
def test_averages_beside_the_weights(reference, plain, averaged):
    """As a LightningModule with an averaged copy of its model saves both."""
    tensors = reference.state_dict()
    both = {f"{plain}{key}": value for key, value in tensors.items()}
    both |= {f"{averaged}{key}": value + 1 for key, value in tensors.items()}
    for use_ema, added, place in ((True, 1, averaged), (False, 0, plain)):
        found, taken = read_checkpoint({"state_dict": both}, use_ema)
        assert found.keys() == tensors.keys() and all(torch.equal(found[key], tensors[key] + added) for key in found)
        assert taken == ("state_dict" if not place else f"state_dict {place}*")
    teacher = {f"teacher.{key}": value for key, value in tensors.items()}
    with pytest.raises(ValueError, match=r"holds several models: .*teacher\.\*"):
        read_checkpoint({**both, **teacher}, use_ema=False)


def test_variant_by_name_or_from_the_shapes():
    with torch.device("meta"):
        reference = timm.create_model("crossvit_9_dagger_240", num_classes=3, in_chans=4)
    state_dict = {key: torch.zeros(tensor.shape) for key, tensor in reference.state_dict().items()}
    for model in (convert_checkpoint(state_dict), convert_checkpoint(state_dict, variant="crossvit_9_dagger_240")):
        assert model.config.use_convolutional_stem
        assert (model.config.num_labels, model.config.num_channels) == (3, 4)


def test_the_model_has_weights_of_its_own(reference):
    model = convert_small(reference)
    before = {key: tensor.clone() for key, tensor in reference.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(torch.equal(tensor, before[key]) for key, tensor in reference.state_dict().items())


def test_half_precision_is_kept(reference):
    assert convert_small(reference.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("release", ["timm", "IBM"])
def test_from_pretrained_reads_the_keys_of_the_releases(reference, tmp_path, release):
    state_dict = reference.state_dict()
    small_config(**SIZES).save_pretrained(tmp_path)
    save_file(
        state_dict if release == "timm" else with_names_of_the_release(state_dict), tmp_path / "model.safetensors"
    )
    model, info = CrossViTForImageClassification.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert_equal_logits(model, reference)
    back = to_timm_state_dict(model)
    assert back.keys() == state_dict.keys() and all(torch.equal(back[key], state_dict[key]) for key in back)
    model.save_pretrained(tmp_path / "again")
    assert_equal_logits(CrossViTForImageClassification.from_pretrained(tmp_path / "again"), reference)


def test_keys_that_do_not_fit_are_all_listed(reference):
    state_dict = reference.state_dict()
    del state_dict["blocks.0.fusion.1.attn.wk.bias"]
    del state_dict["norm.0.weight"]
    state_dict["extra.weight"] = torch.zeros(3)
    state_dict["head.1.bias"] = torch.zeros(6)
    with pytest.raises(ValueError, match="4 of its tensors differ") as error:
        convert_small(state_dict)
    for line in (
        "blocks.0.fusion.1.attn.wk.bias: missing, expected shape (16,)",
        "norm.0.weight: missing, expected shape (16,)",
        "extra.weight: not part of the model, shape (3,)",
        "head.1.bias: shape (6,), expected (5,)",
    ):
        assert line in str(error.value)


def test_unknown_shapes_ask_for_the_configuration(reference):
    with pytest.raises(ValueError, match=r"No published variant has the shapes.*\[16, 24\].*`config=CrossViTConfig"):
        convert_checkpoint(reference)


def test_another_model_is_refused():
    with pytest.raises(ValueError, match="not a CrossViT checkpoint.*cls_token"):
        convert_checkpoint(timm.create_model("vit_tiny_patch16_224"))


def test_variant_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="does not fit the configuration"):
        convert_checkpoint(timm.create_model("crossvit_9_240"), variant="crossvit_15_240")


def test_variant_and_config_together_are_refused(reference):
    with pytest.raises(ValueError, match="either `variant` or `config`"):
        convert_checkpoint(reference, variant="crossvit_9_240", config=small_config(**SIZES))


def test_unknown_variant_lists_the_valid_ones(reference):
    with pytest.raises(ValueError, match="expected one of crossvit_tiny_240"):
        convert_checkpoint(reference, variant="crossvit_9")


@pytest.mark.parametrize("source", [3, [1, 2], {"a": 1}])
def test_no_checkpoint_at_all(source):
    with pytest.raises(ValueError, match="Expected a state dict"):
        convert_checkpoint(source)


def test_unreadable_files(reference, tmp_path):
    with pytest.raises(FileNotFoundError, match="No checkpoint at .*absent.pth"):
        convert_checkpoint(tmp_path / "absent.pth")
    save_file(reference.state_dict(), tmp_path / "whole.safetensors")
    whole = (tmp_path / "whole.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="cut.safetensors.*not a whole safetensors file"):
        convert_checkpoint(tmp_path / "cut.safetensors")
    (tmp_path / "text.pth").write_text("not a checkpoint")
    with pytest.raises(ValueError, match="text.pth.*weights_only=True"):
        convert_checkpoint(tmp_path / "text.pth")


class _Payload:
    """Runs `exec` when unpickled."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self):
        return exec, (self.command,)


@pytest.mark.parametrize("legacy", [False, True])
def test_code_in_a_checkpoint_is_not_run(reference, tmp_path, legacy):
    marker = tmp_path / "was_run"
    checkpoint = {"model": reference.state_dict(), "args": _Payload(f"open({str(marker)!r}, 'w').close()")}
    torch.save(checkpoint, tmp_path / "evil.pth", _use_new_zipfile_serialization=not legacy, pickle_module=pickle)
    with pytest.raises(ValueError, match="evil.pth.*never runs code"):
        convert_checkpoint(tmp_path / "evil.pth")
    assert not marker.exists()
