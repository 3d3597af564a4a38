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
Why a model decided: maps over the image, one for the patches of each branch.

    python -m crossvit.explain models/my_model photo.jpg --output why.png

A model is what `from_pretrained` takes. The picture shows the image as the model sees it, and three kinds of maps:

- attention: the cross-attention of one stage, which is what the CLS token of the other branch took from each patch there;
- rollout: the attention of all layers up to a stage, and of the fusions between them, multiplied together;
- gradient: how much each patch speaks for one class, by integrated gradients. The other two do not depend on a class.

Colour begins at the mean of a map, so the photo alone is where a patch counts as much as the mean or less. The bar beside each map gives its
brightest colour in multiples of the mean. The stages count from 1.
"""

import argparse
import os
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image, UnidentifiedImageError
from transformers.image_utils import load_image

from crossvit.configuration.files import check_writable, nearest_file, replace_file
from crossvit.configuration.image_files import image_mode, printable_name
from crossvit.inference.backends import Classifier, find_missing, load_for_inference
from crossvit.inference.scores import is_regression, scores_of, show_score


PACKAGES = ("captum", "matplotlib")
INSTALL = 'pip install "transformers-crossvit[explain]"'

# For each branch (B, rows, columns) of its patches, small branch first.
Maps = list[torch.Tensor]

# A map is called nearly uniform if no patch is further from the mean than this part of the mean.
NEARLY_UNIFORM = 0.5
# The scale of a map ends at its largest value, but not before this many times the mean, so that tiny differences do not look large.
SMALLEST_END = 2.0


def grid_sizes(model: Classifier, pixel_values: torch.Tensor) -> list[tuple[int, int]]:
    """For each branch the (rows, columns) of its patches in images (B, channels, H, W)."""
    height, width = pixel_values.shape[-2:]
    return [embeddings.grid_size_for(height, width) for embeddings in model.crossvit.embeddings]  # type: ignore[operator]


def as_grids(model: Classifier, pixel_values: torch.Tensor, patches: list[torch.Tensor]) -> Maps:
    """Values of the patches of each branch, (B, N), as (B, rows, columns)."""
    return [values.unflatten(1, grid_size) for values, grid_size in zip(patches, grid_sizes(model, pixel_values))]


def branch_names(model: Classifier) -> list[str]:
    """What each branch is called, the one with the small patches first."""
    return ["small branch", *(f"branch {number}" for number in range(2, model.config.num_branches)), "large branch"]


def stage_index(model: Classifier, stage: int) -> int:
    """An index of Python, where 0 is the first stage and -1 the last, as an index from 0."""
    stages = model.config.num_stages
    if not -stages <= stage < stages:
        raise ValueError(f"The model has no stage of index {stage}: expected 0 to {stages - 1}, or -1 for the last.")
    return stage % stages


@torch.no_grad()
def attention_maps(model: Classifier, pixel_values: torch.Tensor, stage: int = -1) -> Maps:
    """
    How strongly each patch is attended to by the CLS token of the branch that fuses it, in one stage, averaged over the heads.

    Args:
        model: A classifier.
        pixel_values: (B, channels, H, W), of any size.
        stage: An index of Python: 0 is the first stage and -1 the last. (The command and the demo count from 1.)

    Returns:
        For each branch, (B, rows, columns). The sum of a map is 1 less what the CLS token gave to itself.

    Raises:
        ValueError: If the model has no such stage.
    """
    branches, stage = model.config.num_branches, stage_index(model, stage)
    outputs = model(pixel_values, interpolate_pos_encoding=True, output_attentions=True)
    attentions = outputs.cross_attentions[stage * branches : (stage + 1) * branches]
    patches = [attention.mean(dim=1)[:, 0, 1:] for attention in attentions]  # (B, h, 1, 1 + N) -> (B, N)
    # The CLS token of a branch attends to the patches of the next one: the first map belongs to the last branch's token.
    return as_grids(model, pixel_values, patches[-1:] + patches[:-1])


def roll_out(
    attentions: tuple[torch.Tensor, ...], cross_attentions: tuple[torch.Tensor, ...], depths: Sequence[int]
) -> list[list[torch.Tensor]]:
    """
    Attention rollout (Abnar and Zuidema 2020, https://aclanthology.org/2020.acl-main.385) through the branches and their fusions: how
    much of each token after a stage comes from each embedding.

    The paper replaces a layer by `(A + I) / 2`, where A is its attention, averaged over the heads, and I is the residual connection, and
    multiplies the layers. Here the tokens of all branches stand side by side. A layer mixes the tokens of its branch. A fusion changes one
    token, the CLS token of its branch, to half of itself and half of what it attends to: itself and the patches of the next branch, as
    they were before all fusions of the stage. A layer of the fusion after the first leaves the token as it is, because there it attends to
    itself alone.

    Args:
        attentions: Of each layer, (B, h, T, T), in the order of the model's output.
        cross_attentions: Of each stage and branch, (B, h, 1, 1 + N of the next branch).
        depths: The number of layers in a stage of each branch.

    Returns:
        For each stage and branch, (B, T of the branch, T of all branches). Each row sums to 1.
    """
    branches = len(depths)
    stages = len(cross_attentions) // branches
    # The last branch's token attends to the patches of the first.
    sizes = [cross_attentions[(branch - 1) % branches].shape[-1] for branch in range(branches)]
    identity = torch.eye(sum(sizes), dtype=cross_attentions[0].dtype, device=cross_attentions[0].device)
    tokens = [rows.expand(len(cross_attentions[0]), -1, -1) for rows in identity.split(sizes)]
    layers, fusions, after_stages = iter(attentions), iter(cross_attentions), []
    for _ in range(stages):
        for branch, depth in enumerate(depths):
            for _ in range(depth):
                attention = next(layers).mean(dim=1)  # (B, T, T)
                tokens[branch] = (tokens[branch] + attention @ tokens[branch]) / 2
        fused = []
        for own, other in zip(tokens, tokens[1:] + tokens[:1]):
            attention = next(fusions).mean(dim=1)  # (B, 1, 1 + N)
            cls_token = own[:, :1]
            attended = attention @ torch.cat((cls_token, other[:, 1:]), dim=1)
            fused.append(torch.cat(((cls_token + attended) / 2, own[:, 1:]), dim=1))
        tokens = fused
        after_stages.append(list(tokens))
    return after_stages


@torch.no_grad()
def rollout_maps(model: Classifier, pixel_values: torch.Tensor, stage: int = -1) -> Maps:
    """
    How much of the CLS tokens after a stage comes from each patch, by `roll_out`, averaged over the CLS tokens of all branches, because
    the logits are the mean of their heads.

    Arguments, result and errors are those of `attention_maps`. The maps of all branches sum to 1 less what comes from the CLS tokens.
    """
    stage = stage_index(model, stage)
    outputs = model(pixel_values, interpolate_pos_encoding=True, output_attentions=True)
    tokens = roll_out(outputs.attentions, outputs.cross_attentions, model.config.depths)[stage]
    from_embeddings = torch.stack([rows[:, 0] for rows in tokens]).mean(dim=0)  # (B, T of all branches)
    parts = from_embeddings.split([rows.shape[1] for rows in tokens], dim=1)
    return as_grids(model, pixel_values, [part[:, 1:] for part in parts])


def gradient_maps(
    model: Classifier, pixel_values: torch.Tensor, target: torch.Tensor | int | None = None, steps: int = 32
) -> Maps:
    """
    How much each patch adds to the logit of a class, of a label or of a value, by integrated gradients (Sundararajan et al. 2017,
    https://arxiv.org/abs/1703.01365) of captum, from an image of the mean colour to this one, at the embeddings of both branches.

    Args:
        model: A classifier.
        pixel_values: (B, channels, H, W), of any size.
        target: The index of the class, label or value, or one for each image, (B,). By default the one with the largest logit.
        steps: The number of gradients along the way.

    Returns:
        For each branch, (B, rows, columns). The sum over all branches is the logit of the image less that of the mean colour, up to the
        error of the integral, which falls with the number of steps.
    """
    from captum.attr import LayerIntegratedGradients  # an extra package

    def logits(pixel_values: torch.Tensor) -> torch.Tensor:
        return model(pixel_values, interpolate_pos_encoding=True).logits

    if target is None:
        with torch.no_grad():
            target = logits(pixel_values).argmax(dim=-1)
    with warnings.catch_warnings():
        # captum reminds of layers that depend on one another. The embeddings of the branches do not.
        warnings.filterwarnings("ignore", "Multiple layers provided", UserWarning)
        integrated_gradients = LayerIntegratedGradients(logits, list(model.crossvit.embeddings))
    # Images of the mean colour are zero after normalisation; without it, zero is black. One step at a time bounds the memory.
    attributions = integrated_gradients.attribute(
        pixel_values, torch.zeros_like(pixel_values), target, n_steps=steps, internal_batch_size=len(pixel_values)
    )
    return as_grids(model, pixel_values, [tokens.detach().sum(dim=-1)[:, 1:] for tokens in attributions])


METHODS: dict[str, Callable[..., Maps]] = {
    "attention": attention_maps,
    "rollout": rollout_maps,
    "gradient": gradient_maps,
}


def times_mean(values: torch.Tensor) -> torch.Tensor:
    """Maps, (..., rows, columns), as multiples of the mean of each. Negative values count as zero."""
    positive = values.clamp(min=0)
    return positive / positive.mean(dim=(-2, -1), keepdim=True).clamp(min=torch.finfo(positive.dtype).tiny)


def over_image(maps: Maps, size: tuple[int, int]) -> torch.Tensor:
    """One map for each image, (B, H, W): the positive part of each branch's map, which counts as much as any other, brought to a size."""
    total = torch.zeros(())
    for branch_map in maps:
        density = times_mean(branch_map)
        total = total + torch.nn.functional.interpolate(density[:, None], size, mode="bilinear")[:, 0] / len(maps)
    return total


def visible(pixel_values: torch.Tensor, image_processor: Any) -> torch.Tensor:
    """One image of the image processor, (channels, H, W), as colours from 0 to 1, (H, W, channels). One channel becomes three equal ones."""
    colours = pixel_values.movedim(0, -1).cpu()
    if image_processor.do_normalize:
        colours = colours * torch.tensor(image_processor.image_std) + torch.tensor(image_processor.image_mean)
    colours = (colours / (255 * image_processor.rescale_factor if image_processor.do_rescale else 255)).clamp(0, 1)
    return colours.expand(-1, -1, 3) if colours.shape[-1] == 1 else colours


def scale_end(values: torch.Tensor) -> float:
    """Where the scale of maps, (..., rows, columns), ends, in multiples of their means. It begins at 1."""
    return max(SMALLEST_END, times_mean(values).max().item())


def describe(values: torch.Tensor) -> str:
    """What the colours of a map, (rows, columns), do not show: that it is nearly uniform or empty. Else an empty text."""
    relative = times_mean(values)
    if not relative.any():
        return "nothing above zero"
    low, high = relative.min().item(), relative.max().item()
    is_uniform = 1 - low < NEARLY_UNIFORM and high - 1 < NEARLY_UNIFORM
    return f"nearly uniform: {low:.2f} to {high:.2f} × mean" if is_uniform else ""


def map_colours() -> Any:
    """A colormap of matplotlib from the mean of a map to the end of its scale. The mean is transparent, so that the photo can be seen."""
    import matplotlib  # an extra package

    steps = torch.linspace(0, 1, 256).numpy()
    return matplotlib.colors.ListedColormap(matplotlib.colormaps["plasma"](steps, alpha=0.8 * steps))


def draw_over(axis: Any, colours: torch.Tensor, values: torch.Tensor, end: float | None = None) -> Any:
    """
    Draws a map over an image, on an axis of matplotlib.

    Args:
        axis: The axis. Under it is written if the map is nearly uniform.
        colours: (H, W, channels), from 0 to 1.
        values: (rows, columns).
        end: Where the scale ends, in multiples of the mean. By default at the largest value.

    Returns:
        What `figure.colorbar` takes.
    """
    height, width = colours.shape[:2]
    extent = (0, width, height, 0)
    axis.imshow(colours.mean(dim=-1).numpy(), cmap="gray", vmin=0, vmax=1, extent=extent)
    drawn = axis.imshow(
        times_mean(values).cpu().numpy(),
        vmin=1,
        vmax=end or scale_end(values),
        cmap=map_colours(),
        interpolation="bilinear",
        extent=extent,
    )
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(describe(values).replace(": ", ":\n"), fontsize=8)
    return drawn


def draw(colours: torch.Tensor, rows: dict[str, Maps], branches: Sequence[str], title: str, path: Path) -> None:
    """Draws an image, (H, W, channels), beside a row of maps for each method: one map per branch, of the first image of a batch."""
    import matplotlib.pyplot as plt  # an extra package

    columns = 1 + len(branches)
    # Names of classes are not formulas, even if they have dollar signs.
    with plt.rc_context({"text.parse_math": False, "text.usetex": False}):
        figure, axes = plt.subplots(
            len(rows), columns, figsize=(3.2 * columns, 3 * len(rows) + 0.6), layout="constrained", squeeze=False
        )
        for (method, maps), (left, *others) in zip(rows.items(), axes):
            left.imshow(colours.numpy())
            left.set(xticks=[], yticks=[], ylabel=method)
            for axis, values, name in zip(others, maps, branches):
                drawn = draw_over(axis, colours, values[0])
                axis.set_title(f"{name}, {values.shape[2]} × {values.shape[1]} patches", fontsize=10)
                ticks = torch.linspace(1, drawn.norm.vmax, 3).tolist()
                bar = figure.colorbar(drawn, ax=axis, ticks=ticks, format="{x:.3g}", label="× mean", shrink=0.7)
                bar.ax.set_facecolor("grey")  # a photo of medium brightness
        figure.suptitle(textwrap.fill(title, 26 * columns))
        path.parent.mkdir(parents=True, exist_ok=True)
        with replace_file(path) as file:
            figure.savefig(file, dpi=110)
        plt.close(figure)


def class_names(model: Classifier) -> dict[int, str]:
    """The name of each class, by its index."""
    return {int(index): str(name) for index, name in (model.config.id2label or {}).items()}


def find_class(model: Classifier, name: str) -> int:
    """The index of a class, given its name or its index as text."""
    names = class_names(model)
    for index, label in names.items():
        if label == name:
            return index
    if name.isdecimal() and int(name) in names:
        return int(name)
    raise ValueError(f"The model has no class {name}: expected one of {', '.join(list(names.values())[:20])}.")


def show_scores(scores: Sequence[float], config: Any) -> list[str]:
    """Scores as `show_score` writes them. Percentages get as many digits as tell them apart, at most 4 after the point."""
    if is_regression(config):
        return [show_score(score, config) for score in scores]
    for digits in range(1, 5):
        shown = [f"{score:.{digits}%}" for score in scores]
        if len(set(shown)) == len(shown):
            break
    return shown


def check_file(path: str) -> None:
    """
    Checks that there is a file.

    Raises:
        ValueError: If there is none. The message names the file of the same folder that may have been meant.
    """
    if os.path.isfile(path):
        return
    if os.path.isdir(path):
        raise ValueError(f"'{printable_name(path)}' is a folder. Give the path of an image.")
    nearest = nearest_file(path)
    hint = f" Did you mean '{printable_name(nearest)}'?" if nearest else ""
    raise ValueError(f"There is no file '{printable_name(path)}'.{hint}")


def why_unreadable(path: str, error: Exception) -> str:
    """What is wrong with a file that Pillow could not open or decode as an image, to follow a colon."""
    if isinstance(error, Image.DecompressionBombError):
        return "it has more than 178 megapixels. Make it smaller"
    if not isinstance(error, UnidentifiedImageError):
        return str(error)
    head = b"?"
    if os.path.isfile(path):
        with open(path, "rb") as file:
            head = file.read(10_000)
    if not head:
        return "it is empty"
    if b"<svg" in head.lower():
        return "it is an SVG, which has shapes and no pixels. Save it as PNG"
    return "it is not an image, whatever its name says. Expected JPEG, PNG, WebP, GIF, BMP or TIFF"


def read_image(source: str) -> Image.Image:
    """
    An image from a file or an address, upright and in RGB.

    Raises:
        ValueError: If there is no such file, or if it is not an image. The message says what is wrong.
    """
    if not source.startswith(("http://", "https://", "data:")):
        check_file(source)
    try:
        return load_image(source)
    except Exception as error:  # Broken files make Pillow raise many kinds of exceptions.
        raise ValueError(f"{source[:200]} cannot be read: {why_unreadable(source, error)}.") from error


def check_output(path: Path) -> None:
    """Raises a ValueError if a picture cannot be written to a path, before there is one."""
    from matplotlib.figure import Figure  # an extra package

    formats = Figure().canvas.get_supported_filetypes()
    if path.is_dir() or path.suffix[1:].lower() not in formats:
        what = "is a folder" if path.is_dir() else "has no ending of a picture"
        raise ValueError(f"--output {path} {what}. Give a name that ends in one of .{', .'.join(sorted(formats))}.")
    check_writable(path.parent)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crossvit.explain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    # A shell leaves a ~ in quotes as it is.
    path = os.path.expanduser
    parser.add_argument("model", type=path, help="name on the Hub or folder of a classifier")
    parser.add_argument("image", type=path, help="an image, as a file or an address")
    parser.add_argument("--output", type=path, default="why.png", help="the picture, by default why.png")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="by default all three")
    parser.add_argument("--stage", type=int, help="of attention and rollout, from 1; by default the last")
    parser.add_argument(
        "--target",
        help="class, label or value of the gradient, by name or index; by default the one with the highest score",
    )
    return parser


def load(name: str) -> tuple[Classifier, Any]:
    """A classifier and its image processor. A ValueError or an OSError says what is wrong with them."""
    try:
        return load_for_inference(name)
    except (ValueError, OSError):
        raise
    except Exception as error:  # Damaged files make the libraries raise many kinds of exceptions.
        raise ValueError(f"{name} cannot be loaded: {error}") from error


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    try:
        if missing := find_missing(PACKAGES):
            raise ValueError(f"this needs {', '.join(missing)}, which is not installed: {INSTALL}")
        output = Path(arguments.output)
        check_output(output)
        model, image_processor = load(arguments.model)
        stages = model.config.num_stages
        stage = stages if arguments.stage is None else arguments.stage
        if not 1 <= stage <= stages:
            raise ValueError(f"The model has no stage {stage}: expected 1 to {stages}.")
        target = None if arguments.target is None else find_class(model, arguments.target)
        image = read_image(arguments.image).convert(image_mode(model.config, image_processor))
        pixel_values = image_processor(image, return_tensors="pt").pixel_values
        methods: dict[str, tuple[str, dict[str, Any]]] = {
            "attention": (f"attention, stage {stage}", {"stage": stage - 1}),
            "rollout": (f"rollout, up to stage {stage}", {"stage": stage - 1}),
            "gradient": ("gradient", {"target": target}),
        }
        rows = {}
        for method in arguments.methods:
            label, options = methods[method]
            rows[label] = METHODS[method](model, pixel_values, **options)
        with torch.no_grad():
            scores = scores_of(model(pixel_values).logits, model.config)[0]
        names = class_names(model)
        best = scores.topk(min(5, len(scores))).indices.tolist()
        shown = best[0] if target is None else target
        title = f"{names[shown]}: {show_score(scores[shown].item(), model.config)}"
        draw(visible(pixel_values[0], image_processor), rows, branch_names(model), title, output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    for index, text in zip(best, show_scores(scores[best].tolist(), model.config)):
        print(f"{text:>8}  {names[index]}")
    print(f"picture: {output}")


if __name__ == "__main__":
    main()
