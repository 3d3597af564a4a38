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
Checkpoints loaded for something else than they were saved for: another number of classes, other image sizes (against timm's
resampling of position embeddings), another dtype, with `device_map`, in shards, in little memory.

    pytest tests/weights/test_loading.py
"""

import json

import pytest
import timm
import torch
from clean_process import run_python
from huggingface_hub.errors import StrictDataclassClassValidationError
from safetensors.torch import save_file
from small_models import TIMM_SMALL, small_config
from timm.layers import resample_abs_pos_embed
from transformers import AutoModel, AutoModelForImageClassification

from benchmarks.parity import timm_model
from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTModel, convert_checkpoint
from crossvit.weights.checkpoints import to_timm_state_dict


HEADS = {f"classifier.heads.{branch}.{name}" for branch in (0, 1) for name in ("weight", "bias")}


@pytest.fixture
def trained(tmp_path, config):
    """A saved model whose every tensor differs from what initialisation gives, biases included."""
    torch.manual_seed(0)
    model = CrossViTForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    model.save_pretrained(tmp_path / "model")
    return model


# Classes


def test_another_number_of_classes_initialises_the_heads_and_only_them(trained, tmp_path):
    torch.manual_seed(1)
    model, info = CrossViTForImageClassification.from_pretrained(
        tmp_path / "model", num_labels=400, ignore_mismatched_sizes=True, output_loading_info=True
    )
    assert {key for key, *_ in info["mismatched_keys"]} == HEADS
    assert not info["missing_keys"] and not info["unexpected_keys"]
    before, after = trained.state_dict(), model.state_dict()
    for key in before.keys() - HEADS:
        assert torch.equal(before[key], after[key]), key
    for branch, width in enumerate(model.config.hidden_sizes):
        head = model.classifier.heads[branch]
        assert head.weight.shape == (400, width) and not head.bias.any()
        # 6,400 numbers or more: their deviation is within 4 standard errors of the configured one.
        assert head.weight.std().item() == pytest.approx(0.02, rel=4 * (2 * head.weight.numel()) ** -0.5)


def test_another_number_of_classes_is_an_error_by_default(trained, tmp_path):
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        CrossViTForImageClassification.from_pretrained(tmp_path / "model", num_labels=9)


def test_a_base_model_from_a_classifier_and_back(trained, tmp_path, pixel_values):
    base = CrossViTModel.from_pretrained(tmp_path / "model").eval()
    with torch.no_grad():
        assert torch.equal(base(pixel_values).pooler_output, trained.crossvit(pixel_values).pooler_output)
    base.save_pretrained(tmp_path / "base")
    _, info = CrossViTForImageClassification.from_pretrained(tmp_path / "base", output_loading_info=True)
    assert set(info["missing_keys"]) == HEADS


# Image sizes


@pytest.mark.parametrize("image_sizes", [[72, 64], [36, 32], [[60, 96], [48, 80]], [96, [32, 48]]])
def test_position_embeddings_are_resized_as_by_timm(trained, tmp_path, image_sizes):
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model", image_sizes=image_sizes)
    assert model.config.image_sizes == image_sizes
    for branch, (old, new) in enumerate(zip(trained.get_position_embeddings(), model.get_position_embeddings())):
        # The release resizes without antialiasing, which is timm's default.
        expected = resample_abs_pos_embed(
            old, model.config.branch_grid_size(branch), trained.config.branch_grid_size(branch), antialias=False
        )
        assert torch.equal(new, expected)
    for key, tensor in trained.state_dict().items():
        if "position_embeddings" not in key:
            assert torch.equal(model.state_dict()[key], tensor), key


def test_from_240_to_408_as_in_the_paper():
    """The published sizes and patches in narrow models, against timm's for 408 pixels with timm's resampling of the same tensors."""
    reference = timm_model("crossvit_15_dagger_240", **TIMM_SMALL)
    config = small_config(image_sizes=[240, 224], num_labels=1000, use_convolutional_stem=True)
    model = convert_checkpoint(reference, config=config)
    model.resize_position_embeddings([408, 384])
    larger = timm.create_model("crossvit_15_dagger_408", **TIMM_SMALL).eval()
    state_dict = reference.state_dict()
    for branch, grid in enumerate((34, 24)):
        state_dict[f"pos_embed_{branch}"] = resample_abs_pos_embed(
            state_dict[f"pos_embed_{branch}"], (grid, grid), antialias=False
        )
    larger.load_state_dict(state_dict)
    photo = torch.randn(1, 3, 408, 408)
    with torch.no_grad():
        expected = larger(photo)
        # Two float32 models, as in the parity suite.
        torch.testing.assert_close(model(photo).logits, expected, rtol=0, atol=5e-6 * expected.abs().max().item())


def test_resized_for_good_is_what_the_flag_does_for_a_moment(trained, tmp_path):
    pixel_values = torch.randn(2, 3, 72, 96)
    with torch.no_grad():
        expected = trained(pixel_values, interpolate_pos_encoding=True).logits
        resized = CrossViTForImageClassification.from_pretrained(tmp_path / "model", image_sizes=[[72, 96], [48, 64]])
        assert torch.equal(resized.eval()(pixel_values).logits, expected)
        # And it is saved.
        resized.save_pretrained(tmp_path / "resized")
        again = CrossViTForImageClassification.from_pretrained(tmp_path / "resized").eval()
        assert torch.equal(again(pixel_values).logits, expected)


def test_it_says_so(trained, tmp_path, caplog):
    AutoModel.from_pretrained(tmp_path / "model", image_sizes=[72, 64])
    assert "image sizes [48, 32] in the checkpoint, [72, 64] now" in caplog.text
    caplog.clear()
    AutoModelForImageClassification.from_pretrained(tmp_path / "model", image_sizes=[48, 32])
    assert "resized" not in caplog.text


def test_every_way_to_ask_for_sizes(trained, tmp_path):
    folder, sizes = tmp_path / "model", [72, 64]
    config = CrossViTConfig.from_pretrained(folder, image_sizes=sizes)
    models = [
        CrossViTModel.from_pretrained(folder, image_sizes=sizes),
        CrossViTModel.from_pretrained(folder, config=config),
        AutoModel.from_pretrained(folder, image_sizes=sizes),
        AutoModelForImageClassification.from_pretrained(folder, config=config),
        CrossViTModel.from_pretrained(folder, image_sizes=sizes, output_loading_info=True)[0],
        CrossViTModel.from_pretrained(folder, image_sizes=sizes, dtype=torch.float32, device_map="auto"),
    ]
    expected = [positions.shape for positions in models[0].get_position_embeddings()]
    for model in models:
        assert model.config.image_sizes == sizes
        assert (
            [positions.shape for positions in model.get_position_embeddings()]
            == expected
            == [(1, 37, 16), (1, 17, 24)]
        )
        assert all(
            torch.equal(*pair) for pair in zip(model.get_position_embeddings(), models[0].get_position_embeddings())
        )
    assert config.image_sizes == sizes  # the caller's configuration is not touched


def test_weights_without_a_configuration_are_what_the_given_one_says(trained, tmp_path):
    (tmp_path / "model" / "config.json").unlink()
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model", config=trained.config)
    assert torch.equal(model.classifier.heads[0].weight, trained.classifier.heads[0].weight)


def test_resized_embeddings_train_as_before(trained):
    trained.crossvit.embeddings[0].position_embeddings.requires_grad_(False)
    trained.resize_position_embeddings([72, 64])
    assert [positions.requires_grad for positions in trained.get_position_embeddings()] == [False, True]


def test_sizes_that_do_not_fit_the_patches(trained, tmp_path):
    with pytest.raises(StrictDataclassClassValidationError, match=r"`image_sizes\[1\]` must be a multiple"):
        CrossViTForImageClassification.from_pretrained(tmp_path / "model", image_sizes=[72, 60])
    with pytest.raises(StrictDataclassClassValidationError, match="one value per branch"):
        trained.resize_position_embeddings([72])
    assert trained.config.image_sizes == [48, 32]


# Dtypes, devices, shards


def test_other_dtypes(trained, tmp_path):
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model", dtype=torch.bfloat16)
    for key, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor.bfloat16()), key
    model.save_pretrained(tmp_path / "half")
    assert CrossViTForImageClassification.from_pretrained(tmp_path / "half", dtype="auto").dtype == torch.bfloat16


@pytest.mark.parametrize("device_map", ["auto", {"": "cpu"}])
def test_device_map(trained, tmp_path, pixel_values, device_map):
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model", device_map=device_map).eval()
    with torch.no_grad():
        assert torch.equal(model(pixel_values).logits, trained(pixel_values).logits)


def test_offloaded_to_disk(trained, tmp_path, pixel_values):
    device_map = {"crossvit.embeddings": "cpu", "crossvit.stages.0": "disk", "crossvit.stages.1": "cpu"}
    device_map |= {"crossvit.layernorms": "cpu", "classifier": "cpu"}
    arguments = {"device_map": device_map, "offload_folder": tmp_path / "offload"}
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "model", **arguments).eval()
    # Layers that are offloaded must be called. Eager attention calls all layers, so that the order of the additions is the same.
    model.set_attn_implementation("eager")
    trained.set_attn_implementation("eager")
    with torch.no_grad():
        assert torch.equal(model(pixel_values).logits, trained(pixel_values).logits)
    device_map["crossvit.embeddings"] = "disk"
    with pytest.raises(ValueError, match="offloaded to disk"):
        CrossViTForImageClassification.from_pretrained(tmp_path / "model", image_sizes=[72, 64], **arguments)


@pytest.mark.parametrize("timm_keys", [False, True])
def test_shards(trained, tmp_path, timm_keys):
    """Also where query, key and value of timm's joint tensor come out of different shards than their neighbours."""
    folder = tmp_path / "shards"
    if timm_keys:
        trained.config.save_pretrained(folder)
        shards, names = {}, {}
        for index, (key, tensor) in enumerate(to_timm_state_dict(trained).items()):
            name = f"model-{index % 3 + 1:05}-of-00003.safetensors"
            shards.setdefault(name, {})[key] = tensor.contiguous()
            names[key] = name
        for name, tensors in shards.items():
            save_file(tensors, folder / name)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    else:
        trained.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) >= 3
    model = CrossViTForImageClassification.from_pretrained(folder)
    for key, tensor in trained.state_dict().items():
        assert torch.equal(model.state_dict()[key], tensor), key


@pytest.mark.slow
def test_memory(tmp_path):
    """CrossViT-B takes no more than its weights, 1.3 times with what surrounds them: no second copy exists at any time."""
    config = CrossViTConfig.from_variant("crossvit_base_240", num_labels=1000)
    CrossViTForImageClassification(config).save_pretrained(tmp_path / "base")
    code = """
from pathlib import Path
from crossvit import CrossViTForImageClassification

def kilobytes(name):
    return int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)).split()[1])

CrossViTForImageClassification.from_pretrained("model")  # what is imported and allocated once
before = kilobytes("VmRSS")
Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
model = CrossViTForImageClassification.from_pretrained("base", **ARGUMENTS)
sum(parameter.sum() for parameter in model.parameters())  # files are mapped: every page is read here
print((kilobytes("VmHWM") - before) / (4 * model.num_parameters() / 1024))
"""
    CrossViTForImageClassification(CrossViTConfig(num_stages=1, depths=[1, 1])).save_pretrained(tmp_path / "model")
    for arguments in ("{}", "{'image_sizes': [408, 384]}"):
        process = run_python(code.replace("ARGUMENTS", arguments), tmp_path, fresh=True)
        assert 0.9 < float(process.stdout) < 1.3, process.stderr
