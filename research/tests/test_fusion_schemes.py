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
The models of research/fusion_schemes: their numbers of parameters and multiply-adds against Tables 1, 6 and 7 of the paper, their tokens
against the equations written out, the T2T stem against the authors' code, and what a model of transformers must be able to do.

    pytest research/tests/test_fusion_schemes.py          about a minute
"""

import contextlib
import io
import json
import math
import re
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from clean_process import run_python
from huggingface_hub.errors import StrictDataclassClassValidationError
from PIL import Image
from small_models import SMALL
from torch import nn
from transformers import AutoModel, AutoModelForImageClassification, Trainer, TrainingArguments

from benchmarks.measurements import multiply_adds as count_multiply_adds
from benchmarks.parity import randomize_, relative_difference
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, convert_checkpoint
from crossvit.hub import complete_model_card
from research import fusion_schemes
from research.fusion_schemes import SCHEMES, make_model, t2t


ROOT = Path(__file__).parents[2]
README = (ROOT / "research" / "fusion_schemes" / "README.md").read_text()

# Those with a model class of their own.
MODELS = ("none", "all_attention", "class_token", "pairwise", "without_class_token", "t2t")

# Sums in another order differ by a few units of the last place of float64, 2e-16, times the number of the layers.
LIMIT = 1e-12
# Where a part is computed in float32, whose last place is 6e-8: the softmax of eager attention, and position embeddings for any size.
FLOAT32_LIMIT = 1e-6


def small_model(scheme: str, **overrides) -> CrossViTForImageClassification:
    """A model that takes milliseconds, in float64, with weights that make every part count."""
    model = make_model(scheme, num_labels=5, **{**SMALL, **overrides}).eval().double()
    randomize_(model)
    return model


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randn(2, 3, 48, 48, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


# Parameters and multiply-adds

# Tables 6 and 7: top-1, GFLOPs, millions of parameters; and the parameters that the last number leaves out, as a pattern of their names.
POSITIONS = "position_embeddings"
POSITIONS_AND_NORMS = r"position_embeddings|_projection\.layernorm"
PAPER = {
    "cross_attention": (81.0, 5.6, 26.7, POSITIONS),
    "none": (80.2, 5.3, 23.7, None),
    "all_attention": (80.0, 7.6, 27.7, None),
    "class_token": (80.3, 5.4, 24.2, None),
    "pairwise": (80.3, 5.5, 24.2, None),
    "patches_8_and_16": (80.8, 6.7, 26.7, POSITIONS_AND_NORMS),
    "wide_small_branch": (80.1, 7.7, 31.4, r"position_embeddings|_projection\."),
    "two_small_layers": (80.7, 6.3, 28.0, POSITIONS_AND_NORMS),
    "two_fusion_layers": (81.0, 5.6, 28.9, POSITIONS_AND_NORMS),
    "twice_the_stages": (80.9, 6.6, 31.1, POSITIONS_AND_NORMS),
}
# Table 1: millions of parameters, and whether position embeddings are among them.
TABLE_1 = {
    "crossvit_tiny_240": (6.9, False),
    "crossvit_small_240": (26.7, False),
    "crossvit_base_240": (104.7, False),
    "crossvit_9_240": (8.6, True),
    "crossvit_15_240": (27.4, False),
    "crossvit_18_240": (43.3, True),
    "crossvit_9_dagger_240": (8.8, True),
    "crossvit_15_dagger_240": (28.2, True),
    "crossvit_18_dagger_240": (44.3, True),
    "crossvit_15_dagger_408": (28.5, True),
    "crossvit_18_dagger_408": (44.6, True),
}


def on_meta(scheme: str, **arguments) -> CrossViTForImageClassification:
    with torch.device("meta"):
        return make_model(scheme, **arguments).eval()


def multiply_adds(model: CrossViTForImageClassification) -> int:
    pixel_values = torch.empty(1, 3, *[model.config.image_size] * 2, device="meta")
    return count_multiply_adds(lambda: model(pixel_values))


def count_parameters(model: nn.Module, without: str | None = None) -> int:
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if without is None or not re.search(without, name)
    )


def readme_rows() -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if line.startswith("|")]
    return {row[0].strip("`"): row[1:] for row in rows if len(row) == 6 and row[0].startswith("`")}


@pytest.mark.parametrize("scheme", PAPER)
def test_counts_of_tables_6_and_7(scheme):
    accuracy, gflops, millions, left_out = PAPER[scheme]
    model = on_meta(scheme)
    counted, parameters = multiply_adds(model), count_parameters(model)
    assert f"{counted / 1e9:.1f}" == str(gflops)
    rounded = f"{count_parameters(model, without=left_out) / 1e6:.1f}"
    if scheme == "all_attention":  # The README has the readings of eq. 2, none of which gives both numbers.
        assert (rounded, parameters) == ("26.9", 26_854_544)
        assert f"{count_parameters(model, without=POSITIONS) / 1e6:.1f}" == "26.7"
    else:
        assert rounded == str(millions)
    assert readme_rows()[scheme] == [
        str(accuracy),
        f"{gflops} G",
        f"{counted / 1e9:.2f} G",
        str(millions),
        f"{parameters:,}",
    ]


def test_counts_that_the_paper_does_not_have():
    without_class_token, t2t = on_meta("without_class_token"), on_meta("t2t", variant="crossvit_18_240")
    row = readme_rows()["without_class_token"]
    assert row == [
        "80.0",
        "",
        f"{multiply_adds(without_class_token) / 1e9:.2f} G",
        "",
        f"{count_parameters(without_class_token):,}",
    ]
    assert f"has {multiply_adds(t2t) / 1e9:.2f} G and {count_parameters(t2t):,} parameters" in README


def test_what_the_paper_leaves_out():
    """The explanations of the README, with their numbers."""
    small = on_meta("cross_attention")
    positions = count_parameters(small) - count_parameters(small, without=POSITIONS)
    assert f"{positions:,} numbers of the position embeddings: 26.856 − 0.153 = 26.704" in README
    twice = on_meta("twice_the_stages")
    assert f"there are {count_parameters(twice, without=POSITIONS) / 1e6:.3f} M" in README
    assert f"there are {count_parameters(twice, without=POSITIONS_AND_NORMS) / 1e6:.3f} M" in README
    assert f"would make it {(count_parameters(on_meta('class_token')) + 3 * 2 * 148_608) / 1e6:.1f}" in README


@pytest.mark.parametrize("variant", TABLE_1)
def test_table_1_counts_position_embeddings_in_some_rows(variant):
    millions, counts_positions = TABLE_1[variant]
    model = on_meta("cross_attention", variant=variant)
    counts = {True: count_parameters(model), False: count_parameters(model, without=POSITIONS)}
    assert [
        f"{counts[counted] / 1e6:.1f}" == str(millions) for counted in (counts_positions, not counts_positions)
    ] == [
        True,
        False,
    ]


def test_readings_of_all_attention():
    """The table of the README, from the sizes of the layers: multiply-adds and parameters of each."""
    small, large, stages = 401, 197, 3
    both = small + large

    def linear(width_in: int, width_out: int, tokens: int) -> np.ndarray:
        return np.array([width_in * width_out * tokens, width_in * width_out + width_out])

    def projection(width_in: int, width_out: int, tokens: int) -> np.ndarray:
        return norm(width_in) + linear(width_in, width_out, tokens)

    def norm(width: int) -> np.ndarray:
        return np.array([0, 2 * width])

    def attention(width: int, queries: int) -> np.ndarray:
        products = np.array([2 * width * queries * both, 0])
        return products + 2 * linear(width, width, queries) + 2 * linear(width, width, both) + norm(width)

    of_the_small_branch = projection(192, 384, small) + projection(384, 192, small)
    of_the_large_branch = 2 * projection(384, 384, large)
    mlp = norm(384) + linear(384, 1536, both) + linear(1536, 384, both)
    small_alone = of_the_small_branch + attention(384, both)
    readings = {
        "$f$ and $g$ in both branches (this folder)": small_alone + of_the_large_branch,
        "$f$ and $g$ in the small branch alone": small_alone,
        "the same, and an MLP of ratio 4 after the attention": small_alone + mlp,
        "the same, with an attention of its own for the queries of each branch": of_the_small_branch
        + attention(384, small)
        + attention(384, large),
        # As many products, and twice the parameters.
        "the same, with q, k, v and o of its own for the tokens of each branch": small_alone
        + attention(384, both) * [0, 1],
        "at the width of the small branch": projection(384, 192, large)
        + projection(192, 384, large)
        + attention(192, both),
    }
    none = on_meta("none")
    for name, added in readings.items():
        flops, parameters = np.array([multiply_adds(none), count_parameters(none)]) + stages * added
        assert f"| {name} | {flops / 1e9:.2f} G | {parameters / 1e6:.2f} M |" in README, name
        assert (f"{flops / 1e9:.1f}", f"{parameters / 1e6:.1f}") != ("7.6", "27.7")


# The equations, written out


def affine(tokens: torch.Tensor, layer: nn.Linear) -> torch.Tensor:
    return tokens @ layer.weight.T + layer.bias


def normalize(tokens: torch.Tensor, layer: nn.LayerNorm) -> torch.Tensor:
    centred = tokens - tokens.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + layer.eps).sqrt() * layer.weight + layer.bias


def project(tokens: torch.Tensor, projection: nn.Module) -> torch.Tensor:
    """f or g: LayerNorm, GELU, linear."""
    if isinstance(projection, nn.Identity):
        return tokens
    normal = normalize(tokens, projection.layernorm)
    return affine(normal * (1 + torch.erf(normal / math.sqrt(2))) / 2, projection.dense)


def attention_by_hand(queries: torch.Tensor, tokens: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """Softmax attention, one head after the other."""
    q, k, v = affine(queries, layer.q_proj), affine(tokens, layer.k_proj), affine(tokens, layer.v_proj)
    heads = []
    for start in range(0, q.shape[-1], layer.head_dim):
        part = slice(start, start + layer.head_dim)
        weights = torch.softmax(q[..., part] @ k[..., part].mT / math.sqrt(layer.head_dim), dim=-1)
        heads.append(weights @ v[..., part])
    return affine(torch.cat(heads, dim=-1), layer.o_proj)


def interpolation_matrix(old: int, new: int) -> torch.Tensor:
    """Linear interpolation of `old` pixels to `new`, of which each is at the middle of its interval."""
    matrix = torch.zeros(new, old, dtype=torch.float64)
    for row in range(new):
        place = min(max((row + 0.5) * old / new - 0.5, 0), old - 1)
        left = min(int(place), old - 2)
        matrix[row, left] += 1 - (place - left)
        matrix[row, left + 1] += place - left
    return matrix


GRIDS = [(3, 5), (2, 4)]  # of no symmetry, so that no two of the four numbers can be exchanged


@pytest.fixture
def tokens() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(2, 1 + math.prod(grid), width, dtype=torch.float64, generator=generator)
        for grid, width in zip(GRIDS, (16, 24))
    ]


def stage_of(scheme: str) -> nn.Module:
    return small_model(scheme).crossvit.stages[1]


@torch.no_grad()
def test_all_attention_is_equation_2(tokens):
    stage = stage_of("all_attention")
    y = torch.cat([project(x, f) for x, f in zip(tokens, stage.input_projections)], dim=1)
    layer = stage.joint_layer
    assert layer.joint_attention.head_dim == 8  # three heads
    normal = normalize(y, layer.layernorm)
    o = y + attention_by_hand(normal, normal, layer.joint_attention)
    small, large = stage.output_projections
    expected = [project(o[:, :16], small), project(o[:, 16:], large)]
    for fused, z in zip(stage.fuse(tokens, GRIDS), expected, strict=True):
        assert relative_difference(fused, z) < LIMIT


@torch.no_grad()
def test_class_token_is_equation_3(tokens):
    stage = stage_of("class_token")
    (f, _), (g, _) = stage.input_projections, stage.output_projections
    (small, large), fused = tokens, stage.fuse(tokens, GRIDS)
    cls_token = project(small[:, 0], f) + large[:, 0]
    assert relative_difference(fused[0][:, 0], project(cls_token, g)) < LIMIT
    assert relative_difference(fused[1][:, 0], cls_token) < LIMIT
    assert all(torch.equal(new[:, 1:], old[:, 1:]) for new, old in zip(fused, tokens, strict=True))


@torch.no_grad()
def test_pairwise_is_equation_4(tokens):
    stage = stage_of("pairwise")
    (f, _), (g, _) = stage.input_projections, stage.output_projections
    small, large = project(tokens[0], f), tokens[1]
    to_small, to_large = (
        torch.kron(*(interpolation_matrix(old, new) for old, new in zip(*grids))) for grids in (GRIDS[::-1], GRIDS)
    )
    expected = [
        project(torch.cat((small[:, :1] + large[:, :1], small[:, 1:] + to_small @ large[:, 1:]), dim=1), g),
        torch.cat((small[:, :1] + large[:, :1], large[:, 1:] + to_large @ small[:, 1:]), dim=1),
    ]
    for fused, z in zip(stage.fuse(tokens, GRIDS), expected, strict=True):
        assert relative_difference(fused, z) < LIMIT


@torch.no_grad()
def test_none_is_two_branches_alone(images):
    """Each branch runs without the other, and the logits are averaged."""
    model = small_model("none")
    base, logits = model.crossvit, []
    for branch, head in enumerate(model.classifier.heads):
        hidden_states = base.embeddings[branch](images)
        for stage in base.stages:
            for layer in stage.layers[branch]:
                hidden_states = layer(hidden_states)
        logits.append(head(base.layernorms[branch](hidden_states)[:, 0]))
    assert relative_difference(model(images).logits, sum(logits) / 2) < LIMIT
    assert not any(
        "fusion" in name or "projection" in name.replace("patch_embeddings.projection", "")
        for name in model.state_dict()
    )


@torch.no_grad()
def test_without_class_token_the_mean_of_the_patches_asks(images):
    model = small_model("without_class_token")
    assert not any("cls_token" in name for name in model.state_dict())
    base = model.crossvit
    states = []
    for embeddings in base.embeddings:
        size = embeddings.image_size[0]
        pixel_values = images if size == 48 else nn.functional.interpolate(images, size, mode="bicubic")
        patches = embeddings.patch_embeddings(pixel_values) + embeddings.position_embeddings[:, 1:]
        states.append(torch.cat((patches.mean(1, True) + embeddings.position_embeddings[:, :1], patches), dim=1))
    for stage in base.stages:
        for branch, layers in enumerate(stage.layers):
            for layer in layers:
                states[branch] = layer(states[branch])
        fused = []
        for fusion, own, other in zip(stage.fusions, states, states[::-1]):
            question = project(own[:, 1:].mean(1, True), fusion.input_projection)
            seen = normalize(torch.cat((question, other[:, 1:]), dim=1), fusion.layernorm)
            answer = question + attention_by_hand(seen[:, :1], seen, fusion.cross_attention)
            fused.append(torch.cat((project(answer, fusion.output_projection), own[:, 1:]), dim=1))
        states = fused
    tokens = [layernorm(state)[:, 0] for layernorm, state in zip(base.layernorms, states)]
    expected = sum(head(token) for head, token in zip(model.classifier.heads, tokens)) / 2
    assert relative_difference(model(images).logits, expected) < LIMIT


# The T2T stem

STEM_NAMES = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.qkv": "attention.qkv_proj",
    "attn.proj": "attention.o_proj",
    "mlp.": "",
    "project": "projection",
    "attention1": "layers.0",
    "attention2": "layers.1",
}


@torch.no_grad()
def test_t2t_equals_the_released_code():
    released = runpy.run_path(str(ROOT / "tests" / "modeling_crossvit" / "test_released_code.py"))
    case = json.loads((ROOT / "tests" / "modeling_crossvit" / "released_code.json").read_text())["T2T stem"]
    config = released["configuration"]("T2T stem", case["arguments"])
    with torch.device("meta"):
        plain = released["with_names_of_the_release"](
            released["to_timm_state_dict"](CrossViTForImageClassification(config))
        )
    shapes = {name: tensor.shape for name, tensor in plain.items() if not name.startswith("patch_embed.")}
    shapes |= {name: torch.Size(shape) for name, shape in case["state"].items()}
    weights = {name: released["weight"](name, shapes[name], k) for k, name in enumerate(sorted(shapes), start=1)}
    assert sum(tensor.numel() for tensor in weights.values()) == case["parameters"]

    # The package converts all but the stem; what it gets in the place of that is left out again.
    unused = {name: torch.zeros(plain[name].shape) for name in plain if name.startswith("patch_embed.")}
    common = convert_checkpoint(
        {**{name: tensor for name, tensor in weights.items() if name not in case["state"]}, **unused}, config=config
    ).state_dict()
    state_dict = {name: tensor for name, tensor in common.items() if ".patch_embeddings." not in name}
    for name in case["state"]:
        _, branch, rest = name.split(".", 2)
        for old, new in STEM_NAMES.items():
            rest = rest.replace(old, new)
        state_dict[f"crossvit.embeddings.{branch}.patch_embeddings.{rest}"] = weights[name]
    fields = {key: value for key, value in config.to_dict().items() if key != "model_type"}
    model = t2t.T2TForImageClassification(t2t.T2TConfig(**fields)).eval().double()
    model.load_state_dict(state_dict)
    assert count_parameters(model) == case["parameters"]

    logits = model(2 * released["numbers"]((2, 3, 72, 72), 0)).logits
    expected = torch.tensor(case["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits, expected, rtol=0, atol=released["LIMIT"] * case["largest"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"patch_sizes": [8, 16]}, r"`patch_sizes` of 12 or 16, got \[8, 16\]\. Use these"),
        ({"use_convolutional_stem": True}, "`use_convolutional_stem` must be False, got True"),
    ],
)
def test_t2t_refuses_what_it_cannot_build(overrides, message):
    with pytest.raises(StrictDataclassClassValidationError, match=message):
        make_model("t2t", **{**SMALL, **overrides})


# What a model of transformers must be able to do


@pytest.mark.parametrize("scheme", MODELS)
def test_trains(scheme, images):
    """The loss falls, and every parameter gets a gradient."""
    torch.manual_seed(0)
    model = make_model(scheme, num_labels=5, **SMALL).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    pixel_values, labels, losses = images.float(), torch.tensor([1, 3]), []
    for _ in range(8):
        loss = model(pixel_values, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
    assert losses[-1] < losses[0] / 2
    # The softmax cancels the bias of the keys.
    idle = {
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any() and not name.endswith("k_proj.bias")
    }
    assert not idle


@pytest.mark.parametrize("scheme", MODELS)
def test_trainer_and_loading(scheme, images, tmp_path):
    """A run of `Trainer`; the Auto classes load what it saved, with equal logits."""
    torch.manual_seed(0)
    model = make_model(scheme, num_labels=5, **SMALL)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    samples = [{"pixel_values": image.float(), "labels": label} for label, image in enumerate(images)]
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, save_steps=2, report_to="none", use_cpu=True, disable_tqdm=True
    )
    Trainer(model, arguments, train_dataset=samples).train()
    assert not all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    # In float64, because in float32 the last place depends on where in memory the weights lie.
    expected = model.eval().double()(images).logits
    for auto in (AutoModelForImageClassification, type(model)):
        loaded = auto.from_pretrained(tmp_path / "checkpoint-2").eval().double()
        assert type(loaded) is type(model) and relative_difference(loaded(images).logits, expected) < LIMIT
    base = AutoModel.from_pretrained(tmp_path / "checkpoint-2").eval().double()
    assert type(base) is type(model.crossvit)
    assert relative_difference(model.classifier(base(images).pooler_output), expected) < LIMIT


@torch.no_grad()
@pytest.mark.parametrize("scheme", MODELS)
def test_attention_implementations(scheme, images):
    """SDPA gives the numbers of eager attention."""
    model = small_model(scheme)
    assert model.config._attn_implementation == "sdpa"
    sdpa = model(images).logits
    model.set_attn_implementation("eager")
    assert relative_difference(sdpa, model(images).logits) < FLOAT32_LIMIT


@torch.no_grad()
@pytest.mark.parametrize("scheme", MODELS)
def test_outputs(scheme, images):
    """Attentions of the layers and between the branches, and the state of both branches after every stage."""
    model = small_model(scheme)
    outputs = model(images, output_attentions=True, output_hidden_states=True)
    assert torch.equal(outputs.logits, model(images, output_attentions=True).logits)
    shapes = [(2, 17, 16), (2, 5, 24)]
    assert [tuple(state.shape) for state in outputs.hidden_states] == 3 * shapes
    last = [layernorm(state)[:, 0] for layernorm, state in zip(model.crossvit.layernorms, outputs.hidden_states[-2:])]
    assert torch.equal(model.classifier(torch.cat(last, dim=-1)), outputs.logits)
    assert [tuple(attention.shape) for attention in outputs.attentions] == 2 * [(2, 2, 17, 17), *[(2, 3, 5, 5)] * 2]
    between = {
        "all_attention": [(2, 3, 22, 22)] * 2,
        "t2t": [(2, 3, 1, 5), (2, 2, 1, 17)] * 2,
        "without_class_token": [(2, 3, 1, 5), (2, 2, 1, 17)] * 2,
    }
    if scheme in between:
        assert [tuple(attention.shape) for attention in outputs.cross_attentions] == between[scheme]
    else:
        assert outputs.cross_attentions is None
    for attention in (*outputs.attentions, *(outputs.cross_attentions or ())):
        assert relative_difference(attention.sum(-1), torch.ones(())) < FLOAT32_LIMIT


@torch.no_grad()
@pytest.mark.parametrize("scheme", MODELS)
def test_export_for_any_size(scheme, images):
    """One exported program for all batches, heights and widths."""
    model = small_model(scheme)
    sizes = dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    program = torch.export.export(
        model,
        (),
        {"pixel_values": images, "interpolate_pos_encoding": True},
        dynamic_shapes={"pixel_values": sizes, "interpolate_pos_encoding": None},
    ).module()
    for pixel_values in (images, images[:1, :, :36], torch.cat((images, images), dim=3)):
        arguments = {"pixel_values": pixel_values, "interpolate_pos_encoding": True}
        assert relative_difference(program(**arguments).logits, model(**arguments).logits) < FLOAT32_LIMIT
    fixed = torch.export.export(model, (images,)).module()
    assert relative_difference(fixed(images).logits, model(images).logits) < LIMIT


@torch.no_grad()
@pytest.mark.parametrize("scheme", MODELS)
def test_bfloat16(scheme, images):
    model = small_model(scheme)
    half = small_model(scheme).bfloat16()(images.bfloat16()).logits
    assert half.dtype == torch.bfloat16
    # Some twenty roundings in a row, of half a unit of the last place each, add up to about two units.
    assert relative_difference(half.double(), model(images).logits) < 4 * torch.finfo(torch.bfloat16).eps


@pytest.mark.parametrize("scheme", MODELS)
def test_gradient_checkpointing(scheme, images):
    gradients = []
    for checkpointing in (False, True):
        model = small_model(scheme).train()
        if checkpointing:
            model.activation_checkpointing_enable()
        model(images, labels=torch.tensor([1, 3])).loss.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    assert relative_difference(*gradients) < LIMIT


def test_a_saved_folder_never_passes_for_the_packages_model(tmp_path):
    """It loads where this folder is imported. Elsewhere it is refused: with remote code it would become a CrossViT, whose fusion is another."""
    for scheme in MODELS:
        make_model(scheme, num_labels=5, **SMALL).save_pretrained(tmp_path / scheme)
        config = json.loads((tmp_path / scheme / "config.json").read_text())
        assert not config.get("auto_map") and not list((tmp_path / scheme).glob("*.py")), scheme
        CrossViTImageProcessor.from_image_size(48).save_pretrained(tmp_path / scheme)
    Image.new("RGB", (60, 50), "teal").save(tmp_path / "photo.png")
    code = f"""
from transformers import AutoModelForImageClassification, pipeline
for scheme in {MODELS}:
    try:
        AutoModelForImageClassification.from_pretrained(scheme, trust_remote_code=True)
    except ValueError as error:
        assert "crossvit_" in str(error), error
    else:
        raise AssertionError(scheme)
import sys
sys.path.append({str(ROOT)!r})
import research.fusion_schemes
for scheme in {MODELS}:
    classify = pipeline("image-classification", model=scheme)
    print(type(classify.model).__name__, len(classify("photo.png")))
"""
    process = run_python(code, tmp_path, {"HF_MODULES_CACHE": str(tmp_path / "modules")})
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == [
        word for scheme in MODELS for word in (fusion_schemes._MODEL_CLASSES[scheme].__name__, "5")
    ]


@pytest.mark.parametrize("scheme", ["cross_attention", *MODELS])
def test_a_model_card_says_what_the_model_is(scheme):
    model = make_model(scheme, num_labels=5, **SMALL)
    text = complete_model_card(None, model, "user/model").text
    assert ("are fused by cross-attention" in text.replace("\n", " ")) == (scheme == "cross_attention")
    assert (type(model).__name__ in text) == (scheme != "cross_attention")


# Choosing


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_in_a_small_size(scheme):
    """As a benchmark makes them: by name, for small images, with the model type of its own or the package's."""
    model = make_model(scheme, image_size=48, num_labels=3, variant="crossvit_tiny_240", hidden_sizes=[48, 96]).eval()
    assert model.config.image_sizes == [48, 48]
    with torch.no_grad():
        assert model(torch.zeros(1, 3, 48, 48)).logits.shape == (1, 3)
    assert (type(model) is CrossViTForImageClassification) == (scheme not in MODELS)


def test_image_sizes():
    widths = {"hidden_sizes": [12, 24]}
    for size, expected in ((None, [240, 224]), (240, [240, 224]), (72, [72, 64]), (408, [408, 384])):
        assert make_model("none", size, **widths).config.image_sizes == expected
    assert make_model("patches_8_and_16", **widths).config.image_sizes == [224, 224]
    small = make_model("patches_8_and_16", 24, patch_sizes=[3, 4], **widths).config
    assert (small.patch_sizes, small.image_sizes) == ([2, 4], [24, 24])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("pair",),
            "Unknown fusion scheme: got 'pair', expected one of cross_attention, none, all_attention, .*README",
        ),
        (
            ("none", None, 10, "crossvit"),
            "Unknown CrossViT variant: got 'crossvit', expected one of crossvit_tiny_240",
        ),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model(*arguments)


def test_readme(monkeypatch, tmp_path):
    """Its code prints what stands below it, its own scheme is saved and loaded, and it names every scheme."""
    monkeypatch.chdir(ROOT)
    blocks = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.S)
    assert len(blocks) == 2
    for code, output in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, namespace := {"__name__": "readme"})
        assert printed.getvalue() == output
        model = namespace["model"]
        model.save_pretrained(tmp_path / type(model).__name__)
        loaded = type(model).from_pretrained(tmp_path / type(model).__name__).state_dict()
        assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
    assert set(SCHEMES) <= set(re.findall(r"`(\w+)`", README))
