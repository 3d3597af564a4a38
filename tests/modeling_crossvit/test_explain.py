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

import shutil
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from benchmarks.parity import randomize_
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, CrossViTImageProcessorPil, explain


# Sums of a few hundred float32 numbers that add up to 1.
ROUNDING = 1e-5
# matplotlib rounds a grey down to one of 256 shades, and its picture has 255 steps.
STEPS = 2 / 255


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
    with pytest.raises(ValueError, match="no stage of index 7: expected 0 to 1, or -1"):
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


@pytest.mark.parametrize("change", [{}, {"do_normalize": False}, {"do_rescale": False}, {"rescale_factor": 1 / 100}])
def test_colours_are_those_of_the_photo(photos, change):
    """Whatever the image processor does to the values."""
    image_processor = CrossViTImageProcessorPil.from_image_size(48)
    plain = {**image_processor.to_dict(), "do_normalize": False, "do_rescale": False}
    expected = CrossViTImageProcessorPil(**plain)(photos["landscape"], return_tensors="pt").pixel_values[0] / 255
    image_processor = CrossViTImageProcessorPil(**{**image_processor.to_dict(), **change})
    pixel_values = image_processor(photos["landscape"], return_tensors="pt").pixel_values[0]
    assert 0.2 < expected.mean() < 0.8
    # The values of float32 reach 255, and are divided by a standard deviation of 0.2.
    torch.testing.assert_close(
        explain.visible(pixel_values, image_processor), expected.movedim(0, -1), atol=1e-6, rtol=0
    )


def drawn_over(values: torch.Tensor, end: float | None = None) -> tuple[np.ndarray, np.ndarray, Any, Any]:
    """The pixels of a photo and of a map over it, from 0 to 1, and what `draw_over` leaves: the axis and the map's image."""
    colours = torch.linspace(0.2, 0.9, 60)[:, None, None].expand(60, 60, 3)
    figure = Figure(figsize=(1, 1), dpi=60)
    axis = figure.add_axes((0, 0, 1, 1))
    drawn = explain.draw_over(axis, colours, values, end)
    axis.set_axis_off()  # its frame
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return colours.numpy(), np.asarray(canvas.buffer_rgba())[..., :3] / 255, axis, drawn


def test_colour_begins_at_the_mean():
    """The photo stays as it is where a patch has the mean or less. The scale ends at the largest patch, in multiples of the mean."""
    values = torch.zeros(6, 6)
    values[0, 0] = 10
    photo, picture, axis, drawn = drawn_over(values)
    assert (drawn.norm.vmin, drawn.norm.vmax) == (1, pytest.approx(36))
    np.testing.assert_allclose(picture[20:], photo[20:], atol=STEPS)
    assert abs(picture[:10, :10] - photo[:10, :10]).max() > 0.3 and axis.get_xlabel() == ""
    assert drawn_over(values, end=50)[3].norm.vmax == 50


def test_a_nearly_uniform_map_says_so():
    """It does not hide the photo, and small differences do not look large."""
    values = torch.full((6, 6), 0.02)
    values[0, 0] *= 1.1
    photo, picture, axis, drawn = drawn_over(values)
    assert axis.get_xlabel() == "nearly uniform:\n1.00 to 1.10 × mean" and drawn.norm.vmax == 2
    assert abs(picture - photo).max() < 0.1
    assert explain.describe(torch.tensor([[1.0, 1.0], [1.0, 0.2]])) == ""
    assert explain.describe(torch.tensor([[1.0, 2.0]])) == "nearly uniform: 0.67 to 1.33 × mean"
    assert explain.describe(torch.tensor([[1.0, 4.0]])) == ""
    assert explain.describe(-torch.ones(2, 2)) == "nothing above zero"
    np.testing.assert_allclose(drawn_over(-torch.ones(2, 2))[1], photo, atol=STEPS)


def test_scores_have_the_digits_that_tell_them_apart(config):
    assert explain.show_scores([0.9, 0.05, 0.04], config) == ["90.0%", "5.0%", "4.0%"]
    assert explain.show_scores([0.0017, 0.00162, 0.00158], config) == ["0.170%", "0.162%", "0.158%"]
    assert explain.show_scores([0.5, 0.5], config) == ["50.0000%", "50.0000%"]
    config.problem_type = "regression"
    assert explain.show_scores([26.04, 0.1], config) == ["26.04", "0.1"]


# The command


@pytest.fixture
def model_folder(model, tmp_path):
    model.config.id2label = dict(enumerate(("ant", "bee", "$c_{at$", "dog", "eel")))
    model.config.label2id = {name: number for number, name in model.config.id2label.items()}
    model.save_pretrained(tmp_path / "model")
    CrossViTImageProcessor.from_image_size(48).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_command_draws_a_picture(model_folder, photos, tmp_path, monkeypatch, capsys):
    """Paths may have a ~ in quotes, and names of classes may have dollar signs. The stages count from 1."""
    monkeypatch.setenv("HOME", str(tmp_path))
    photos["landscape"].save(tmp_path / "photo.jpg")
    output = tmp_path / "new" / "folder" / "why.webp"
    figures = []
    draw = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *args, **kw: figures.append(figure) or draw(figure, *args, **kw))  # fmt: skip
    command = ["~/model", "~/photo.jpg", "--output", "~/new/folder/why.webp", "--target", "$c_{at$", "--stage", "1"]
    explain.main(command)
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("ant", "bee", "$c_{at$", "dog", "eel")) and str(output) in printed
    with Image.open(output) as picture:
        assert picture.width > 500 and len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 1000
    (figure,) = figures
    assert figure.get_suptitle().startswith("$c_{at$: ")
    assert [axis.get_ylabel() for axis in figure.axes[::3] if axis.get_ylabel() != "× mean"] == [
        "attention, stage 1",
        "rollout, up to stage 1",
        "gradient",
    ]
    assert {axis.get_title() for axis in figure.axes} == {"", "small branch, 4 × 4 patches", "large branch, 2 × 2 patches"}  # fmt: skip
    assert [axis.get_ylabel() for axis in figure.axes].count("× mean") == 6


@pytest.mark.parametrize("method", explain.METHODS)
def test_grey_models(config, photos, tmp_path, monkeypatch, method):
    """A model of one channel sees the photo in grey, and the picture shows it so."""
    monkeypatch.chdir(tmp_path)
    photos["landscape"].save("photo.jpg")
    config.num_channels = 1
    CrossViTForImageClassification(config).save_pretrained("model")
    image_processor = CrossViTImageProcessor.from_image_size(
        48, do_convert_rgb=False, image_mean=[0.5], image_std=[0.5]
    )
    image_processor.save_pretrained("model")
    shown = []
    monkeypatch.setattr(explain, "draw", lambda colours, *_: shown.append(colours))
    explain.main(["model", "photo.jpg", "--methods", method])
    expected = image_processor(photos["landscape"].convert("L"), return_tensors="pt").pixel_values[0, 0] / 2 + 0.5
    # The photo was saved as a JPEG.
    torch.testing.assert_close(shown[0], expected.clamp(0, 1)[..., None].expand(48, 48, 3), atol=0.05, rtol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["phoot.jpg"], "error: There is no file 'phoot.jpg'. Did you mean 'photo.jpg'?"),
        (["no/photo.jpg"], "error: There is no file 'no/photo.jpg'."),
        (["model"], "error: 'model' is a folder. Give the path of an image."),
        (["empty.jpg"], "error: empty.jpg cannot be read: it is empty."),
        (["drawing.jpg"], "error: drawing.jpg cannot be read: it is an SVG, which has shapes and no pixels. Save it as PNG."),
        (["text.jpg"], "error: text.jpg cannot be read: it is not an image, whatever its name says. Expected JPEG"),
        (["photo.jpg", "--target", "cow"], "error: The model has no class cow: expected one of ant, bee, $c_{at$, dog, eel"),
        (["photo.jpg", "--target", "9"], "error: The model has no class 9"),
        (["missing.jpg", "--stage", "3"], "error: The model has no stage 3: expected 1 to 2."),  # is seen first
        (["missing.jpg", "--stage", "0"], "error: The model has no stage 0: expected 1 to 2."),
        (["missing.jpg", "--output", "photo.jpg/why.png"], "error: photo.jpg cannot be written to: Not a directory"),
        (["missing.jpg", "--output", "why"], "error: --output why has no ending of a picture. Give a name that ends in one of"),
        (["missing.jpg", "--output", "why.doc"], "error: --output why.doc has no ending of a picture"),
        (["missing.jpg", "--output", "model"], "error: --output model is a folder. Give a name that ends in one of"),
    ],
)  # fmt: skip
def test_mistakes_are_named(model_folder, photos, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    photos["landscape"].save("photo.jpg")
    for name, text in {"empty": "", "text": "no picture", "drawing": '<?xml version="1.0"?>\n<SVG/>'}.items():
        (tmp_path / f"{name}.jpg").write_text(text)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SystemExit) as error:
        explain.main([str(model_folder), *options])
    assert str(error.value).startswith(message)
    assert set(tmp_path.rglob("*")) == before


def test_models_that_cannot_be_loaded(model_folder, photos, tmp_path):
    """They are found before an image is read."""
    (model_folder / "preprocessor_config.json").write_text("[]")
    with pytest.raises(SystemExit, match="error: .*model cannot be loaded: "):
        explain.main([str(model_folder), "missing.jpg"])
    shutil.rmtree(model_folder)
    (tmp_path / "models").mkdir()
    with pytest.raises(SystemExit, match="There is no folder .*/model'. Did you mean .*/models'?"):
        explain.main([str(model_folder), "missing.jpg"])
