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
Maps of why a model decided. Attention rollout is compared with one large matrix per layer over the tokens of all branches, and integrated
gradients with the difference that they must add up to.

    pytest tests/modeling_crossvit/test_explain.py
"""

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.parity import randomize_
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, explain


# Sums of a few hundred float32 numbers that add up to 1.
ROUNDING = 1e-5


@pytest.fixture
def model(config):
    model = CrossViTForImageClassification(config).eval()
    randomize_(model)
    return model


def random_attention(*shape: int) -> torch.Tensor:
    return torch.randn(shape).softmax(dim=-1)


def one_matrix_per_step(attentions, cross_attentions, depths, sizes) -> list[torch.Tensor]:
    """The rollout over the tokens of all branches side by side, (T, T) after each stage, of the first image."""
    starts = np.cumsum([0, *sizes])
    attentions, cross_attentions = iter(attentions), iter(cross_attentions)
    total, after_stages = torch.eye(starts[-1]), []
    while True:
        for branch, depth in enumerate(depths):
            own = slice(starts[branch], starts[branch + 1])
            for _ in range(depth):
                try:
                    attention = next(attentions)[0].mean(dim=0)
                except StopIteration:
                    return after_stages
                step = torch.eye(starts[-1])
                step[own, own] = (attention + torch.eye(len(attention))) / 2
                total = step @ total
        step = torch.eye(starts[-1])
        for branch in range(len(depths)):
            other = (branch + 1) % len(depths)
            row = next(cross_attentions)[0].mean(dim=0)[0] / 2
            step[starts[branch]] = 0
            step[starts[branch], starts[branch]] = 0.5
            step[starts[branch], starts[branch]] += row[0]
            step[starts[branch], starts[other] + 1 : starts[other + 1]] += row[1:]
        total = step @ total
        after_stages.append(total)


@pytest.mark.parametrize("depths", [[1, 2], [2, 1, 1]])
def test_rollout_is_a_product_of_matrices(depths):
    sizes, stages = [5, 7, 4][: len(depths)], 3
    attentions, cross_attentions = [], []
    for _ in range(stages):
        for size, depth in zip(sizes, depths):
            attentions += [random_attention(2, 3, size, size) for _ in range(depth)]
        cross_attentions += [random_attention(2, 3, 1, size) for size in sizes[1:] + sizes[:1]]
    found = explain.roll_out(attentions, cross_attentions, depths)
    expected = one_matrix_per_step(attentions, cross_attentions, depths, sizes)
    assert len(found) == len(expected) == stages
    for tokens, matrix in zip(found, expected):
        torch.testing.assert_close(torch.cat(tokens, dim=1)[0], matrix, atol=ROUNDING, rtol=0)
        for rows in tokens:
            torch.testing.assert_close(rows.sum(dim=-1), torch.ones(rows.shape[:2]), atol=ROUNDING, rtol=0)


def test_rollout_of_one_branch_is_the_plain_one():
    """With one branch and fusions that leave the token as it is, it is the rollout of Abnar and Zuidema."""
    attentions = [random_attention(1, 2, 6, 6) for _ in range(4)]
    unchanged = torch.zeros(1, 2, 1, 6)
    unchanged[..., 0] = 1
    (tokens,) = explain.roll_out(attentions, [unchanged, unchanged], [2])[-1]
    plain = torch.eye(6)
    for attention in attentions:
        plain = (attention[0].mean(dim=0) + torch.eye(6)) / 2 @ plain
    torch.testing.assert_close(tokens[0], plain, atol=ROUNDING, rtol=0)


@pytest.mark.parametrize("size", [(48, 48), (48, 72)])
def test_maps_have_the_grids_of_the_branches(model, config, size):
    pixel_values = torch.randn(2, 3, *size)
    grids = [embeddings.grid_size_for(*size) for embeddings in model.crossvit.embeddings]
    for method in (explain.attention_maps, explain.rollout_maps, explain.gradient_maps):
        maps = method(model, pixel_values)
        assert [tuple(values.shape) for values in maps] == [(2, *grid) for grid in grids], method
        assert all(values.isfinite().all() and not values.requires_grad for values in maps)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_attention_is_that_of_the_stage(model, pixel_values):
    with torch.no_grad():
        outputs = model(pixel_values, output_attentions=True)
    for stage in range(model.config.num_stages):
        small, large = explain.attention_maps(model, pixel_values, stage)
        of_small, of_large = outputs.cross_attentions[2 * stage : 2 * stage + 2]
        # The token of the small branch attends to the patches of the large one, and the other way round.
        assert torch.equal(large.flatten(1), of_small.mean(dim=1)[:, 0, 1:])
        assert torch.equal(small.flatten(1), of_large.mean(dim=1)[:, 0, 1:])
    assert torch.equal(explain.attention_maps(model, pixel_values)[0], small)
    with pytest.raises(ValueError, match="no stage 7: expected 0 to"):
        explain.attention_maps(model, pixel_values, 7)


def test_rollout_maps_follow_the_tokens_of_all_branches(model, pixel_values):
    """Averaged over the CLS tokens, with the share of the patches of each branch in its map."""
    with torch.no_grad():
        outputs = model(pixel_values, output_attentions=True)
    for stage in range(model.config.num_stages):
        tokens = explain.roll_out(outputs.attentions, outputs.cross_attentions, model.config.depths)[stage]
        expected = (tokens[0][:, 0] + tokens[1][:, 0]) / 2
        small, large = explain.rollout_maps(model, pixel_values, stage)
        patches = torch.cat((expected[:, 1 : 1 + small[0].numel()], expected[:, 2 + small[0].numel() :]), dim=1)
        torch.testing.assert_close(torch.cat((small.flatten(1), large.flatten(1)), dim=1), patches)


def test_gradients_add_up(model, pixel_values):
    """To the logit of the image less that of the mean colour. With 256 steps the integral is right to a thousandth of it."""
    for target in (0, torch.tensor([1, 4])):
        total = sum(values.sum(dim=(1, 2)) for values in explain.gradient_maps(model, pixel_values, target, steps=256))
        with torch.no_grad():
            logits = model(pixel_values).logits - model(torch.zeros_like(pixel_values)).logits
        expected = logits[torch.arange(2), target]
        torch.testing.assert_close(total, expected, rtol=1e-3, atol=1e-3 * logits.abs().max().item())


def test_gradient_is_of_the_most_probable_class(model, pixel_values):
    with torch.no_grad():
        best = model(pixel_values).logits.argmax(dim=-1)
    for found, expected in zip(
        explain.gradient_maps(model, pixel_values), explain.gradient_maps(model, pixel_values, best)
    ):
        assert torch.equal(found, expected)


def test_maps_over_the_image():
    """Each branch counts as much as any other, negative values count nothing, and the mean of a map is 1."""
    small, large = torch.rand(2, 4, 4), 100 * torch.rand(2, 2, 2) - 20
    over = explain.over_image([small, large], (32, 32))
    assert over.shape == (2, 32, 32)
    expected = (explain.over_image([small], (32, 32)) + explain.over_image([large.clamp(min=0)], (32, 32))) / 2
    torch.testing.assert_close(over, expected)
    torch.testing.assert_close(explain.over_image([torch.ones(1, 3, 5)], (30, 50)), torch.ones(1, 30, 50))


# The command


@pytest.fixture
def model_folder(model, tmp_path):
    model.config.id2label = dict(enumerate(("ant", "bee", "cat", "dog", "eel")))
    model.config.label2id = {name: number for number, name in model.config.id2label.items()}
    model.save_pretrained(tmp_path / "model")
    CrossViTImageProcessor.from_image_size(48).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_command_draws_a_picture(model_folder, photos, tmp_path, capsys):
    photos["landscape"].save(tmp_path / "photo.jpg")
    output = tmp_path / "new" / "folder" / "why.png"
    explain.main([str(model_folder), str(tmp_path / "photo.jpg"), "--output", str(output), "--target", "cat"])
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("ant", "bee", "cat", "dog", "eel")) and str(output) in printed
    with Image.open(output) as picture:
        assert picture.width > 500 and len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing.jpg"], "missing.jpg cannot be read as an image"),
        (["photo.jpg", "--target", "cow"], "no class cow: expected one of ant, bee, cat, dog, eel"),
        (["photo.jpg", "--target", "9"], "no class 9"),
        (["photo.jpg", "--stage", "5"], "no stage 5: expected 0 to 1"),
        (
            ["missing.jpg", "--output", "photo.jpg/why.png"],
            "photo.jpg cannot be written to: Not a directory",
        ),  # is seen first
    ],
)
def test_mistakes_are_named(model_folder, photos, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    photos["landscape"].save("photo.jpg")
    with pytest.raises(SystemExit, match=message):
        explain.main([str(model_folder), *options])
    assert not (tmp_path / "why.png").exists()
