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
"""

import argparse
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers.image_utils import load_image

from crossvit.configuration.files import check_writable
from crossvit.inference.backends import Classifier, find_missing, load_for_inference
from crossvit.inference.scores import scores_of, show_score


PACKAGES = ("captum", "matplotlib")
INSTALL = 'pip install "transformers-crossvit[explain]"'

# For each branch (B, rows, columns) of its patches, small branch first.
Maps = list[torch.Tensor]


def grid_sizes(model: Classifier, pixel_values: torch.Tensor) -> list[tuple[int, int]]:
    """For each branch the (rows, columns) of its patches in images (B, channels, H, W)."""
    height, width = pixel_values.shape[-2:]
    return [embeddings.grid_size_for(height, width) for embeddings in model.crossvit.embeddings]  # type: ignore[operator]


def as_grids(model: Classifier, pixel_values: torch.Tensor, patches: list[torch.Tensor]) -> Maps:
    """Values of the patches of each branch, (B, N), as (B, rows, columns)."""
    return [values.unflatten(1, grid_size) for values, grid_size in zip(patches, grid_sizes(model, pixel_values))]


def stage_index(model: Classifier, stage: int) -> int:
    """The index of a stage, from 0, where -1 stands for the last."""
    stages = model.config.num_stages
    if not -stages <= stage < stages:
        raise ValueError(f"The model has no stage {stage}: expected 0 to {stages - 1}, or -1 for the last.")
    return stage % stages


@torch.no_grad()
def attention_maps(model: Classifier, pixel_values: torch.Tensor, stage: int = -1) -> Maps:
    """
    How strongly each patch is attended to by the CLS token of the branch that fuses it, in one stage, averaged over the heads.

    Args:
        model: A classifier.
        pixel_values: (B, channels, H, W), of any size.
        stage: From 0, or -1 for the last.

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
    How much each patch adds to the logit of a class, by integrated gradients (Sundararajan et al. 2017,
    https://arxiv.org/abs/1703.01365) of captum, from an image of the mean colour to this one, at the embeddings of both branches.

    Args:
        model: A classifier.
        pixel_values: (B, channels, H, W), of any size.
        target: The index of the class, or one for each image, (B,). By default the most probable one.
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
    # Images of the mean colour are zero after normalisation. One step at a time bounds the memory.
    attributions = integrated_gradients.attribute(
        pixel_values, torch.zeros_like(pixel_values), target, n_steps=steps, internal_batch_size=len(pixel_values)
    )
    return as_grids(model, pixel_values, [tokens.detach().sum(dim=-1)[:, 1:] for tokens in attributions])


METHODS: dict[str, Callable[..., Maps]] = {
    "attention": attention_maps,
    "rollout": rollout_maps,
    "gradient": gradient_maps,
}


def over_image(maps: Maps, size: tuple[int, int]) -> torch.Tensor:
    """One map for each image, (B, H, W): the positive part of each branch's map, which counts as much as any other, brought to a size."""
    total = torch.zeros(())
    for branch_map in maps:
        positive = branch_map.clamp(min=0)
        share = positive / positive.sum(dim=(1, 2), keepdim=True).clamp(min=torch.finfo(positive.dtype).tiny)
        # Each pixel has its part of the patch.
        density = share * share[0].numel()
        total = total + torch.nn.functional.interpolate(density[:, None], size, mode="bilinear")[:, 0] / len(maps)
    return total


def visible(pixel_values: torch.Tensor, image_processor: Any) -> torch.Tensor:
    """One image of the image processor, (channels, H, W), as colours from 0 to 1, (H, W, channels)."""
    mean, std = torch.tensor(image_processor.image_mean), torch.tensor(image_processor.image_std)
    return (pixel_values.movedim(0, -1).cpu() * std + mean).clamp(0, 1)


def draw_over(axis: Any, colours: torch.Tensor, values: torch.Tensor) -> None:
    """Draws a map, (rows, columns), over an image, (H, W, channels), on an axis of matplotlib."""
    height, width = colours.shape[:2]
    extent = (0, width, height, 0)
    axis.imshow(colours.mean(dim=-1).numpy(), cmap="gray", extent=extent)
    # Colours start at zero: otherwise tiny differences of an even map would look large.
    heat = values.clamp(min=0).cpu().numpy()
    axis.imshow(heat, vmin=0, cmap="inferno", alpha=0.65, interpolation="bilinear", extent=extent)
    axis.set(xticks=[], yticks=[])


def draw(colours: torch.Tensor, rows: dict[str, Maps], title: str, path: Path) -> None:
    """Draws an image, (H, W, channels), beside a row of maps for each method: one map per branch, of the first image of a batch."""
    import matplotlib.pyplot as plt  # an extra package

    branches = len(next(iter(rows.values())))
    figure, axes = plt.subplots(
        len(rows), 1 + branches, figsize=(3 * (1 + branches), 3 * len(rows) + 0.6), layout="constrained", squeeze=False
    )
    names = ["small branch", *(f"branch {branch}" for branch in range(2, branches)), "large branch"]
    for (method, maps), (left, *others) in zip(rows.items(), axes):
        left.imshow(colours.numpy())
        left.set(xticks=[], yticks=[], ylabel=method)
        for axis, values, name in zip(others, maps, names):
            draw_over(axis, colours, values[0])
            axis.set_title(name, fontsize=10)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crossvit.explain", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name on the Hub or folder of a classifier")
    parser.add_argument("image", help="an image, as a file or an address")
    parser.add_argument("--output", type=Path, default=Path("why.png"), help="the picture, by default why.png")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="by default all three")
    parser.add_argument("--stage", type=int, default=-1, help="of attention and rollout, from 0; by default the last")
    parser.add_argument("--target", help="class of the gradient, by name or index; by default the most probable")
    return parser


def main(argv: list[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    try:
        if missing := find_missing(PACKAGES):
            raise ValueError(f"this needs {', '.join(missing)}, which is not installed: {INSTALL}")
        check_writable(arguments.output.parent)
        model, image_processor = load_for_inference(arguments.model)
        try:
            image: Image.Image = load_image(arguments.image)
        except Exception as error:
            raise ValueError(f"{arguments.image} cannot be read as an image: {error}") from error
        target = None if arguments.target is None else find_class(model, arguments.target)
        pixel_values = image_processor(image, return_tensors="pt").pixel_values
        options = {
            "attention": {"stage": arguments.stage},
            "rollout": {"stage": arguments.stage},
            "gradient": {"target": target},
        }
        rows = {method: METHODS[method](model, pixel_values, **options[method]) for method in arguments.methods}
        with torch.no_grad():
            scores = scores_of(model(pixel_values).logits, model.config)[0]
        names = class_names(model)
        best = scores.topk(min(5, len(scores))).indices.tolist()
        shown = best[0] if target is None else target
        title = f"{names[shown]}: {show_score(scores[shown].item(), model.config)}"
        draw(visible(pixel_values[0], image_processor), rows, title, arguments.output)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    for index in best:
        print(f"{show_score(scores[index].item(), model.config):>6}  {names[index]}")
    print(f"picture: {arguments.output}")


if __name__ == "__main__":
    main()
