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
PEFT: LoRA on the self- and the cross-attention of both branches with the heads trained in full: training, saving, loading and
merging, against the same model without adapters.

    pytest tests/modeling_crossvit/test_peft.py
"""

import peft
import pytest
import torch
from deprecations import USES_PEFT
from packaging.version import Version
from peft import LoraConfig, PeftModel, get_peft_model
from transformers.integrations.peft import MIN_PEFT_VERSION

from crossvit import CrossViTForImageClassification


pytestmark = USES_PEFT


@pytest.fixture
def base(config, tmp_path):
    torch.manual_seed(0)
    CrossViTForImageClassification(config).save_pretrained(tmp_path / "base")
    return tmp_path / "base"


@pytest.fixture
def trained(base, pixel_values):
    """Three steps of training; LoRA begins at zero, so that without training nothing would show."""
    model = get_peft_model(
        CrossViTForImageClassification.from_pretrained(base),
        LoraConfig(r=4, lora_alpha=16, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]),
    )
    optimizer = torch.optim.AdamW([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.05)
    for _ in range(3):
        model(pixel_values=pixel_values, labels=torch.tensor([1, 3])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return model.eval()


@torch.no_grad()
def logits_of(model, pixel_values) -> torch.Tensor:
    # PyTorch 2.6 rounds differently for weights that require gradients.
    return model.requires_grad_(False)(pixel_values=pixel_values).logits


def test_adapters_are_where_they_should_be_and_learn(trained, base):
    adapted = {name.split(".lora_B")[0] for name, _ in trained.named_parameters() if "lora_B" in name}
    attentions = [
        name
        for name, module in CrossViTForImageClassification.from_pretrained(base).named_modules()
        if name.endswith((".attention", ".cross_attention"))
    ]
    assert len(attentions) == 10  # 6 layers, 4 fusions
    assert adapted == {
        f"base_model.model.{name}.{projection}" for name in attentions for projection in ("q_proj", "v_proj")
    }
    before = CrossViTForImageClassification.from_pretrained(base)
    for name, parameter in trained.named_parameters():
        if "lora_B" in name:
            assert parameter.any(), name
    after = trained.base_model.model.classifier.modules_to_save["default"]
    assert not torch.equal(after.heads[0].weight, before.classifier.heads[0].weight)
    frozen = trained.base_model.model.crossvit.stages[0].layers[0][0].attention.q_proj.base_layer.weight
    assert torch.equal(frozen, before.crossvit.stages[0].layers[0][0].attention.q_proj.weight)


def test_save_and_load(trained, base, pixel_values, tmp_path):
    expected = logits_of(trained, pixel_values)
    trained.save_pretrained(tmp_path / "adapter")
    loaded = PeftModel.from_pretrained(
        CrossViTForImageClassification.from_pretrained(base), tmp_path / "adapter"
    ).eval()
    assert torch.equal(logits_of(loaded, pixel_values), expected)
    assert not torch.allclose(
        logits_of(CrossViTForImageClassification.from_pretrained(base).eval(), pixel_values), expected
    )


def test_merged_is_an_ordinary_model(trained, pixel_values, tmp_path):
    expected = logits_of(trained, pixel_values)
    merged = trained.merge_and_unload()
    # W + BA in one matrix instead of two: float32 rounding of logits of the order of 1.
    torch.testing.assert_close(
        logits_of(merged, pixel_values), expected, rtol=0, atol=1e-5 * expected.abs().max().item()
    )
    merged.save_pretrained(tmp_path / "merged")
    again, info = CrossViTForImageClassification.from_pretrained(tmp_path / "merged", output_loading_info=True)
    assert not any(info[name] for name in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert torch.equal(logits_of(again.eval(), pixel_values), logits_of(merged, pixel_values))


def test_the_product_of_patches_is_adapted_as_a_convolution(base, pixel_values):
    """It computes no convolution, but PEFT takes it for one and adds one beside it. As above, and the adapter must matter."""
    model = CrossViTForImageClassification.from_pretrained(base).eval()
    before = logits_of(model, pixel_values)
    adapters = LoraConfig(r=4, target_modules=["projection"], init_lora_weights=False)
    adapted = get_peft_model(model, adapters).eval()
    expected = logits_of(adapted, pixel_values)
    assert not torch.allclose(expected, before, rtol=1e-3)
    merged = logits_of(adapted.merge_and_unload(), pixel_values)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("IA3Config", {"feedforward_modules": [], "init_ia3_weights": False}),
        ("LoKrConfig", {"init_weights": False}),
        ("OFTConfig", {"oft_block_size": 4, "init_weights": False}),
        ("VeraConfig", {"init_weights": False}),
    ],
)
def test_other_adapters_are_merged_where_the_heads_are_named(base, pixel_values, method, arguments):
    """PEFT cannot merge these beside a module to save that has no weight of its own, as `classifier`."""
    adapters = getattr(peft, method)(
        target_modules=["q_proj", "v_proj"],
        modules_to_save=["classifier.heads.0", "classifier.heads.1"],
        **arguments,
    )
    adapted = get_peft_model(CrossViTForImageClassification.from_pretrained(base), adapters).eval()
    assert {
        name.split(".modules_to_save")[0] for name, _ in adapted.named_parameters() if "modules_to_save" in name
    } == {f"base_model.model.classifier.heads.{branch}" for branch in (0, 1)}
    expected = logits_of(adapted, pixel_values)
    merged = logits_of(adapted.merge_and_unload(), pixel_values)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


@pytest.mark.skipif(
    Version(peft.__version__) < Version(MIN_PEFT_VERSION),
    reason=f"this release of transformers needs peft {MIN_PEFT_VERSION} for its adapters, and peft is {peft.__version__}",
)
def test_adapter_of_transformers_itself(base, pixel_values, tmp_path):
    """`model.add_adapter`, without PEFT's wrapper."""
    model = CrossViTForImageClassification.from_pretrained(base)
    model.add_adapter(LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    expected = logits_of(model.eval(), pixel_values)
    model.save_pretrained(tmp_path / "adapter")
    loaded = CrossViTForImageClassification.from_pretrained(base)
    loaded.load_adapter(str(tmp_path / "adapter"))
    assert torch.equal(logits_of(loaded.eval(), pixel_values), expected)
    loaded.disable_adapters()
    without = logits_of(CrossViTForImageClassification.from_pretrained(base).eval(), pixel_values)
    assert torch.equal(logits_of(loaded, pixel_values), without) and not torch.allclose(without, expected)
