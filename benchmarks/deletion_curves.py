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
"""How far a map of `crossvit.explain` can be trusted: the curves of Petsiuk et al. 2018 (https://arxiv.org/abs/1806.07421)."""

import torch
from torchvision.transforms.v2 import functional

from crossvit import CrossViTForImageClassification
from crossvit.inference.scores import scores_of


@torch.no_grad()
def deletion_and_insertion(
    model: CrossViTForImageClassification, pixel_values: torch.Tensor, importance: torch.Tensor, steps: int = 20
) -> dict[str, torch.Tensor]:
    """
    The score of the class, label or value with the highest one, while the pixels disappear into the mean colour, the most important first
    ("deletion"), and while they appear on a blurred image ("insertion"). A good map has a low mean of the first curve and a high mean of the
    second. Scores are those of transformers' pipeline: probabilities, or the values of a regression.

    Args:
        model: A classifier in evaluation mode.
        pixel_values: (B, channels, H, W), of any size.
        importance: (B, H, W), larger for pixels that count more.
        steps: The number of equal parts in which the pixels go.

    Returns:
        "deletion" and "insertion", each (B, steps + 1), from none to all of the pixels.
    """

    def scores(images: torch.Tensor) -> torch.Tensor:
        return scores_of(model(images, interpolate_pos_encoding=True).logits, model.config)

    target = scores(pixel_values).argmax(dim=-1, keepdim=True)  # (B, 1)
    # The blur is so wide that nothing smaller than a quarter of the image keeps its shape.
    sigma = min(pixel_values.shape[-2:]) / 8
    kernel = 2 * round(3 * sigma) + 1
    blurred = functional.gaussian_blur(pixel_values, [kernel, kernel], [sigma, sigma])
    # The place of each pixel, from 0 for the most important one.
    order = importance.flatten(1).argsort(dim=1, descending=True).argsort(dim=1).view(importance.shape)
    curves: dict[str, list[torch.Tensor]] = {"deletion": [], "insertion": []}
    for step in range(steps + 1):
        is_among_first = (order < step * order[0].numel() / steps)[:, None]  # (B, 1, H, W)
        images = {
            "deletion": torch.where(is_among_first, torch.zeros_like(pixel_values), pixel_values),
            "insertion": torch.where(is_among_first, pixel_values, blurred),
        }
        for name, changed in images.items():
            curves[name].append(scores(changed).gather(1, target))
    return {name: torch.cat(points, dim=1) for name, points in curves.items()}
