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
"""From logits to what a user sees, in the way of transformers' pipeline: probabilities of classes, of several labels, or values."""

from typing import Any

import torch


def is_regression(config: Any) -> bool:
    """Whether the logits are values. Such a model says so by its problem type."""
    return config.problem_type == "regression"


def has_several_labels(config: Any) -> bool:
    """Whether each logit is a yes or no of its own."""
    return config.problem_type == "multi_label_classification" or (
        config.num_labels == 1 and not is_regression(config)
    )


def scores_of(logits: torch.Tensor, config: Any) -> torch.Tensor:
    """Scores of the same shape as the logits, (B, labels), in float32: values of a regression, else probabilities."""
    logits = logits.float()
    if is_regression(config):
        return logits
    return logits.sigmoid() if has_several_labels(config) else logits.softmax(dim=-1)


def show_score(score: float, config: Any) -> str:
    """A score as text: "97.3%", or a value such as "26.04"."""
    return f"{score:.4g}" if is_regression(config) else f"{score:.1%}"


def same_answers(logits: torch.Tensor, expected: torch.Tensor, config: Any) -> torch.Tensor:
    """
    For each image whether two forms of a model give the same answer, (B,): the same class, the same set of labels, or values that differ by
    at most 1 % of the range of the expected ones.
    """
    if is_regression(config):
        spread = expected.amax() - expected.amin() if expected.numel() > 1 else expected.abs().amax()
        return (logits - expected).abs().amax(dim=-1) <= 0.01 * spread
    if has_several_labels(config):
        return ((logits > 0) == (expected > 0)).all(dim=-1)
    return logits.argmax(dim=-1) == expected.argmax(dim=-1)


__all__ = ["has_several_labels", "is_regression", "same_answers", "scores_of", "show_score"]
