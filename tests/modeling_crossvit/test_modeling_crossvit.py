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
CrossViTModel and CrossViTForImageClassification: outputs, attention implementations, input sizes, gradient checkpointing, stochastic
depth, initialisation, and refusals. Numbers against timm are in test_parity.py, the losses in test_loss_crossvit.py.

    pytest tests/modeling_crossvit/test_modeling_crossvit.py
"""

import pickle
import re

import pytest
import torch
from accelerate.utils.operations import convert_to_fp32, send_to_device
from old_pytorch import NEEDS_TRACING
from small_models import small_config
from timm.models.crossvit import CrossVit
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map
from transformers import Trainer, TrainingArguments

from crossvit import CrossViTBackbone, CrossViTConfig, CrossViTForImageClassification, CrossViTModel
from crossvit.modeling_crossvit import CrossViTAttention, CrossViTDropPath, drop_path_rates


@pytest.fixture
def model(config) -> CrossViTForImageClassification:
    torch.manual_seed(0)
    model = CrossViTForImageClassification(config).eval()
    for parameter in model.parameters():  # at initialisation the branches hardly differ
        torch.nn.init.normal_(parameter, std=0.2)
    return model


# Outputs


def test_shapes_and_names_of_the_outputs(model, pixel_values):
    outputs = model.crossvit(pixel_values, output_hidden_states=True, output_attentions=True)
    small, large = (2, 1 + 16, 16), (2, 1 + 4, 24)
    assert outputs.last_hidden_state.shape == large
    assert outputs.pooler_output.shape == (2, 16 + 24)
    assert [tokens.shape for tokens in outputs.branch_hidden_states] == [small, large]
    assert [tokens.shape for tokens in outputs.hidden_states] == [small, large] * 3
    # A stage has one layer in the small branch (2 heads, 17 tokens) and two in the large one (3 heads, 5 tokens).
    assert [tuple(weights.shape) for weights in outputs.attentions] == [(2, 2, 17, 17), (2, 3, 5, 5), (2, 3, 5, 5)] * 2
    # The small branch attends at the width and with the heads of the large one, and the other way round.
    assert [tuple(weights.shape) for weights in outputs.cross_attentions] == [(2, 3, 1, 5), (2, 2, 1, 17)] * 2
    for weights in (*outputs.attentions, *outputs.cross_attentions):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    assert model(pixel_values).keys() == {"logits"}
    default = model.crossvit(pixel_values)
    assert default.keys() == {"last_hidden_state", "pooler_output"} and default.branch_hidden_states is None
    model.config.output_hidden_states = True
    assert len(model.crossvit(pixel_values).branch_hidden_states) == 2
    assert model.crossvit(pixel_values, output_hidden_states=False).branch_hidden_states is None


def test_relations_between_the_outputs(model, pixel_values):
    outputs = model.crossvit(pixel_values, output_hidden_states=True)
    for branch, (layernorm, tokens) in enumerate(zip(model.crossvit.layernorms, outputs.branch_hidden_states)):
        assert torch.equal(layernorm(outputs.hidden_states[-2 + branch]), tokens)
        assert torch.equal(model.crossvit.embeddings[branch](pixel_values), outputs.hidden_states[branch])
    assert torch.equal(outputs.branch_hidden_states[-1], outputs.last_hidden_state)
    cls_tokens = [tokens[:, 0] for tokens in outputs.branch_hidden_states]
    assert torch.equal(torch.cat(cls_tokens, dim=-1), outputs.pooler_output)
    heads = [head(cls_token) for head, cls_token in zip(model.classifier.heads, cls_tokens)]
    torch.testing.assert_close(model(pixel_values).logits, (heads[0] + heads[1]) / 2)


def test_each_stage_fuses_both_branches_from_the_same_inputs(model, pixel_values):
    first, second = model.crossvit.stages
    hidden_states = [embeddings(pixel_values) for embeddings in model.crossvit.embeddings]
    small = first.layers[0][0](hidden_states[0])
    large = first.layers[1][1](first.layers[1][0](hidden_states[1]))
    outputs = first(hidden_states)
    assert torch.equal(outputs[0], first.fusions[0](small, large))
    assert torch.equal(outputs[1], first.fusions[1](large, small))
    assert torch.equal(outputs[0][:, 1:], small[:, 1:]), "own patch tokens pass unchanged"


REBUILD = {
    "tree_map, as in DDP": lambda model, inputs: tree_map(torch.clone, model(**inputs)),
    "accelerate, mixed precision": lambda model, inputs: convert_to_fp32(model(**inputs)),
    "accelerate, offloading": lambda model, inputs: send_to_device(model(**inputs), "cpu"),
    "torch.export": lambda model, inputs: torch.export.export(model, (), inputs).module()(**inputs),
    "pickle": lambda model, inputs: pickle.loads(pickle.dumps(model(**inputs))),
}


@pytest.mark.parametrize("requested", [False, True])
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=NEEDS_TRACING) if kind == "torch.export" else kind for kind in REBUILD]
)
@torch.no_grad()
def test_outputs_survive_rebuilding(model, pixel_values, kind, requested):
    """Many tools make a new output of the items of one, so an attribute that is no item would be lost."""
    inputs = {"pixel_values": pixel_values, "output_hidden_states": requested, "output_attentions": requested}
    expected, rebuilt = model.crossvit(**inputs), REBUILD[kind](model.crossvit, inputs)
    assert type(rebuilt) is type(expected) and rebuilt is not expected
    assert (rebuilt.branch_hidden_states is not None) == requested
    for name in vars(expected):
        torch.testing.assert_close(getattr(rebuilt, name), getattr(expected, name), rtol=0, atol=0)


def test_hidden_states_can_be_selected(model, pixel_values):
    everything = model(pixel_values, output_hidden_states=True).hidden_states
    selected = model(pixel_values, output_hidden_states=[1, -1]).hidden_states
    assert [tokens is not None for tokens in selected] == [False, True, False, False, False, True]
    assert torch.equal(selected[-1], everything[-1])


def test_tuple_output(model, pixel_values):
    assert torch.equal(model(pixel_values, return_dict=False)[0], model(pixel_values).logits)
    assert torch.equal(
        model.crossvit(pixel_values, return_dict=False)[0], model.crossvit(pixel_values).last_hidden_state
    )


@torch.no_grad()
def test_attention_implementations_agree(model, pixel_values):
    """Flex attention, which takes a compilation, is among the execution modes."""
    model.set_attn_implementation("eager")
    expected = model(pixel_values, output_attentions=True)
    model.set_attn_implementation("sdpa")
    torch.testing.assert_close(model(pixel_values).logits, expected.logits, rtol=0, atol=1e-5)
    outputs = model(pixel_values, output_attentions=True)
    assert len(outputs.attentions) == 6 and len(outputs.cross_attentions) == 4
    assert torch.equal(outputs.cross_attentions[0], expected.cross_attentions[0])


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize(
    ("at_construction", "later", "argument", "is_returned"),
    [
        (False, None, {}, False),
        (False, None, {"output_attentions": True}, True),
        (True, None, {}, True),
        (False, True, {}, True),
        (True, None, {"output_attentions": False}, False),
        (False, True, {"output_attentions": False}, False),
    ],
    ids=["nobody asks", "argument", "config", "config later", "argument against config", "argument against later"],
)
@pytest.mark.parametrize("model_class", [CrossViTModel, CrossViTForImageClassification, CrossViTBackbone])
@torch.no_grad()
def test_who_asks_for_attentions_gets_them(
    model_class, at_construction, later, argument, is_returned, implementation, pixel_values, monkeypatch
):
    calls = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *a, **k: calls.append(1) or original(*a, **k))
    # Two fusion layers, because their attentions are computed as well and must not be among the outputs.
    model = model_class(small_config(num_fusion_layers=2, output_attentions=at_construction)).eval()
    assert model.config._attn_implementation == "sdpa"
    if later:
        # transformers takes the request only while the implementation is eager.
        model.set_attn_implementation("eager")
        model.config.output_attentions = True
    model.set_attn_implementation(implementation)
    outputs = model(pixel_values, **argument)
    assert ("attentions" in outputs) == ("cross_attentions" in outputs) == is_returned
    assert bool(calls) == (implementation == "sdpa" and not is_returned), (
        "eager attention runs for those alone who ask"
    )
    if is_returned:
        model.set_attn_implementation("eager")
        expected = model(pixel_values, output_attentions=True)
        for name, number in (("attentions", 6), ("cross_attentions", 4)):
            assert len(outputs[name]) == len(expected[name]) == number
            assert all(map(torch.equal, outputs[name], expected[name]))


def cross_attention_allocations(size: int) -> tuple[int, int]:
    """Bytes that a cross-attention allocates in eager mode for an image of `size` pixels, and its largest tensor's elements."""
    config = CrossViTConfig.from_variant("crossvit_tiny_240")
    config._attn_implementation = "eager"
    attention = CrossViTAttention(config, branch=0).eval()
    total, largest = 0, 0

    class Allocations(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal total, largest
            output = function(*args, **(kwargs or {}))
            for tensor in output if isinstance(output, (tuple, list)) else [output]:
                if isinstance(tensor, torch.Tensor) and tensor._base is None:
                    total, largest = total + tensor.nbytes, max(largest, tensor.numel())
            return output

    with torch.no_grad(), Allocations():
        tokens = torch.zeros(1, 1 + (size // 12) ** 2, config.hidden_sizes[0])
        attention(tokens[:, :1], tokens)
    return total, largest


def test_cross_attention_is_linear_in_the_number_of_patches():
    """16 times the patches, 16 times the memory; a matrix of tokens x tokens would take 256 times as much."""
    (small, _), (large, largest) = cross_attention_allocations(240), cross_attention_allocations(960)
    assert 15 < large / small <= 16
    tokens, width = 1 + 80**2, 96
    assert largest == tokens * width < tokens * tokens


def test_configured_attention_is_what_runs(model, pixel_values, monkeypatch):
    calls = []
    original = F.scaled_dot_product_attention
    monkeypatch.setattr(
        F,
        "scaled_dot_product_attention",
        lambda query, *a, **k: calls.append(query.shape[2]) or original(query, *a, **k),
    )
    model.set_attn_implementation("sdpa")
    model(pixel_values)
    # Self-attention of 17 and 5 tokens, then a cross-attention with one query in each branch.
    assert calls == [17, 5, 5, 1, 1] * 2
    calls.clear()
    model.set_attn_implementation("eager")
    model(pixel_values)
    assert calls == []


def test_save_and_load(model, pixel_values, tmp_path):
    model.save_pretrained(tmp_path)
    loaded = CrossViTForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(loaded(pixel_values).logits, model(pixel_values).logits)
    base = CrossViTModel.from_pretrained(tmp_path).eval()
    assert torch.equal(base(pixel_values).pooler_output, model.crossvit(pixel_values).pooler_output)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_takes_float32_pixels(model, pixel_values, dtype):
    expected = model(pixel_values).logits
    logits = model.to(dtype)(pixel_values).logits
    assert logits.dtype == dtype
    # 8 (bfloat16) and 11 bits of mantissa through 6 layers of small width.
    tolerance = {torch.bfloat16: 5e-2, torch.float16: 5e-3}[dtype]
    assert (logits.float() - expected).abs().max() <= tolerance * expected.abs().max()


# Input sizes


def test_flag_changes_nothing_at_the_configured_size(model, pixel_values):
    assert torch.equal(model(pixel_values, interpolate_pos_encoding=True).logits, model(pixel_values).logits)


@pytest.mark.parametrize(
    ("size", "grids"),
    # The input is 48 with patches of 12; the large branch sees two thirds of it with patches of 16, so 1 of its patches is 24.
    [
        ((96, 96), [(8, 8), (4, 4)]),
        ((48, 96), [(4, 8), (2, 4)]),
        ((50, 70), [(4, 6), (2, 3)]),  # 4.17 and 5.83; 2.08 and 2.92
        ((12, 12), [(1, 1), (1, 1)]),
        ((42, 30), [(4, 3), (2, 1)]),  # halves are rounded up: 3.5 and 2.5; 1.75 and 1.25
    ],
)
def test_any_size_is_taken_with_the_flag(model, size, grids):
    outputs = model.crossvit(torch.randn(1, 3, *size), interpolate_pos_encoding=True, output_hidden_states=True)
    for tokens, (rows, columns) in zip(outputs.branch_hidden_states, grids):
        assert tokens.shape[1] == 1 + rows * columns


def test_other_size_equals_a_model_built_for_it(model, config):
    """Twice the size: the same weights, with position embeddings resized as IBM's fine-tuning code does it."""
    config.image_sizes = [[96, 144], [64, 96]]
    state_dict = model.state_dict()
    for branch, (old, new) in enumerate([((4, 4), (8, 12)), ((2, 2), (4, 6))]):
        key = f"crossvit.embeddings.{branch}.position_embeddings"
        grid = state_dict[key][:, 1:].reshape(1, *old, -1).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, size=new, mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
        state_dict[key] = torch.cat([state_dict[key][:, :1], grid], dim=1)
    built = CrossViTForImageClassification(config).eval()
    built.load_state_dict(state_dict)
    pixel_values = torch.randn(1, 3, 96, 144)
    torch.testing.assert_close(
        model(pixel_values, interpolate_pos_encoding=True).logits, built(pixel_values).logits, rtol=0, atol=1e-6
    )


def test_transposed_grid_would_show(model):
    """Rows and columns of a non-square image are not mixed up: a model with positions that differ by row only."""
    with torch.no_grad():
        for embeddings in model.crossvit.embeddings:
            rows = embeddings.grid_size[0]
            by_row = torch.arange(rows, dtype=torch.float)[:, None].expand(rows, rows).reshape(1, -1, 1)
            embeddings.position_embeddings[:, 1:] = by_row
        positions = model.crossvit.embeddings[0].interpolate_pos_encoding(4, 10)[0, 1:, 0].view(4, 10)
    torch.testing.assert_close(positions, torch.arange(4.0)[:, None].expand(4, 10))


# Training


def test_activation_checkpointing_in_trainer(config, tmp_path):
    losses = []
    for activation_checkpointing in (False, True):
        torch.manual_seed(0)
        dataset = [{"pixel_values": torch.randn(3, 48, 48), "labels": index % 5} for index in range(4)]
        trainer = Trainer(
            model=CrossViTForImageClassification(config),
            args=TrainingArguments(
                output_dir=str(tmp_path), max_steps=3, logging_steps=1, save_strategy="no", report_to="none",
                use_cpu=True, disable_tqdm=True, activation_checkpointing=activation_checkpointing,
            ),
            train_dataset=dataset,
        )  # fmt: skip
        trainer.train()
        assert trainer.model.is_activation_checkpointing == activation_checkpointing
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
    assert len(losses[0]) == 3 and losses[0] == losses[1]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_adapters_behind_checkpoints_get_gradients_in_every_branch(config, pixel_values, use_reentrant):
    """As PEFT does it: the base is frozen, and the inputs of the layers are made to require gradients."""
    model = CrossViTForImageClassification(config).train()
    model.requires_grad_(False)
    adapters = [layer.attention.q_proj.weight for layers in model.crossvit.stages[0].layers for layer in layers]
    for adapter in adapters:
        adapter.requires_grad_(True)
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model.enable_input_require_grads()
    model(pixel_values, labels=torch.tensor([1, 3])).loss.backward()
    assert all(adapter.grad is not None and adapter.grad.any() for adapter in adapters)


def timm_drop_paths(depth) -> dict[str, float]:
    model = CrossVit(
        240, (1.0, 224 / 240), (12, 16), embed_dim=(16, 24), depth=depth, num_heads=(2, 3), drop_path_rate=0.3
    )
    return {name: module.drop_prob for name, module in model.named_modules() if hasattr(module, "drop_prob")}


@pytest.mark.parametrize("fusion_layers", [1, 2])
def test_drop_path_rates_are_timm_s(fusion_layers):
    """Layer i of a stage takes step k x M + i in either branch, the fusion the last; with L = 2 it has steps of its own."""
    depth = ((2, 4, 0 if fusion_layers == 1 else fusion_layers),) * 3
    expected = timm_drop_paths(depth)
    config = CrossViTConfig(depths=[2, 4], num_fusion_layers=fusion_layers, drop_path_rate=0.3)
    model = CrossViTModel(config)
    assert len(drop_path_rates(config)[0]) == 4 + (2 if fusion_layers == 2 else 0)
    for k, stage in enumerate(model.stages):
        for branch, layers in enumerate(stage.layers):
            for i, layer in enumerate(layers):
                rate = expected.get(f"blocks.{k}.blocks.{branch}.{i}.drop_path1", 0.0)
                assert layer.drop_path.drop_probability == pytest.approx(rate, abs=1e-7)
        for branch, fusion in enumerate(stage.fusions):
            name = f"blocks.{k}.fusion.{branch}." + ("drop_path" if fusion_layers == 1 else "0.drop_path")
            assert fusion.drop_path.drop_probability == pytest.approx(expected[name], abs=1e-7)


def test_drop_path_keeps_the_mean_and_drops_whole_samples():
    torch.manual_seed(0)
    drop_path = CrossViTDropPath(0.25)
    ones = torch.ones(20000, 3, 2)
    dropped = drop_path.train()(ones)
    assert dropped.unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(dropped[:, :1, :1].expand_as(dropped), dropped)
    # Standard error of the mean: sqrt(0.25 * 0.75) / 0.75 / sqrt(20000) = 0.004.
    assert dropped.mean().item() == pytest.approx(1, abs=0.016)
    assert drop_path.eval()(ones) is ones


def test_initialisation_is_the_release_s():
    torch.manual_seed(0)
    model = CrossViTForImageClassification(
        CrossViTConfig.from_variant("crossvit_9_dagger_240", initializer_range=0.05)
    )
    for name, parameter in model.named_parameters():
        if re.search(r"conv\d\.", name):
            convolution = model.get_submodule(name.rpartition(".")[0])
            bound = convolution.weight[0].numel() ** -0.5  # PyTorch's default
            assert parameter.abs().max() <= bound and parameter.abs().max() > 0.8 * bound, name
        elif "layernorm" in name:
            assert torch.equal(parameter, torch.full_like(parameter, float(name.endswith("weight")))), name
        elif name.endswith("bias"):
            assert not parameter.any(), name
        elif parameter.numel() > 1000:
            assert parameter.std().item() == pytest.approx(0.05, rel=0.1), name
        else:
            assert parameter.any(), name


# Refusals


@pytest.mark.parametrize(
    ("pixel_values", "flag", "message"),
    [
        (None, False, r"You have to specify pixel_values: got NoneType.*image_processor\(images"),
        ([[1.0]], False, "got list, expected a tensor"),
        (
            torch.zeros(1, 3, 48, 48, dtype=torch.uint8),
            False,
            r"dtype torch.uint8 and shape.*The image processor makes it",
        ),
        (
            torch.zeros(3, 48, 48),
            False,
            r"shape \(3, 48, 48\), expected floating point of shape \(batch_size, 3,.*unsqueeze\(0\)",
        ),
        (torch.zeros(2, 1, 3, 48, 48), False, r"shape \(2, 1, 3, 48, 48\), expected.*flatten\(0, 1\)"),
        (torch.zeros(1, 48, 48, 3), False, r"shape \(1, 48, 48, 3\), expected.*channels before height and width"),
        (
            torch.zeros(1, 1, 48, 48),
            False,
            r"shape \(1, 1, 48, 48\), expected.*The image processor makes it from images of any kind",
        ),
        (
            torch.zeros(1, 3, 60, 48),
            False,
            r"\(60x48\) doesn't match the model's \(48x48\).*interpolate_pos_encoding=True",
        ),
        (torch.zeros(1, 3, 8, 48), True, r"\(8x48\) is smaller than one patch.*at least 16x16"),
    ],
)
def test_unusable_pixel_values(model, pixel_values, flag, message):
    for called in (model, model.crossvit):
        with pytest.raises(ValueError, match=message):
            called(pixel_values, interpolate_pos_encoding=flag)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
@pytest.mark.parametrize("requested", ["nothing", "output_attentions", "output_hidden_states"])
def test_a_batch_of_no_images(config, implementation, requested):
    """As timm's model: outputs of the usual shapes, of no images. In a training step the weights get gradients of zero."""
    arguments = {} if requested == "nothing" else {requested: True}
    for model_class in (CrossViTModel, CrossViTForImageClassification, CrossViTBackbone):
        model = model_class(config).eval()
        model.set_attn_implementation(implementation)
        one, none = (model(torch.zeros(size, 3, 48, 48), **arguments) for size in (1, 0))
        assert one.keys() == none.keys()
        for name, expected in one.items():
            for tensor, found in zip(*((item,) if torch.is_tensor(item) else item for item in (expected, none[name]))):
                assert found.shape == (0, *tensor.shape[1:]), name
    model = CrossViTForImageClassification(config)
    model(torch.zeros(0, 3, 48, 48)).logits.sum().backward()
    assert not any(parameter.grad.any() for parameter in model.parameters())


def test_the_head_can_be_exchanged_as_in_other_models(model, pixel_values):
    assert model.classifier.in_features == sum(model.config.hidden_sizes) and model.classifier.out_features == 5
    model.classifier = torch.nn.Linear(model.classifier.in_features, 7)
    assert model(pixel_values).logits.shape == (2, 7)


def test_no_labels_at_all_is_refused(config):
    config.num_labels = 0
    with pytest.raises(ValueError, match="`num_labels` of at least 1, got 0.*CrossViTModel"):
        CrossViTForImageClassification(config)


def test_nothing_waits_for_the_device(config):
    """On the meta device, which has no values, any look at them would fail."""
    with torch.device("meta"):
        model = CrossViTForImageClassification(config)
        labels = torch.zeros(2, dtype=torch.long)
        outputs = model(torch.zeros(2, 3, 60, 48), labels=labels, interpolate_pos_encoding=True)
    assert outputs.loss.device.type == "meta"
