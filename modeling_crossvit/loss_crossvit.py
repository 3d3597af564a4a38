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
The loss of image classification, and the check of the labels that it gets. It travels with every saved model.

transformers' own loss computes the same for one batch. It divides by `num_items_in_batch` for single-label
problems only: with gradient accumulation, its multi-label and regression losses are too large by the number of accumulated batches.
"""

from typing import Any, Literal, get_args

import torch
from torch import nn

from crossvit.configuration.configuration_crossvit import CrossViTConfig


ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
# Read here, because PyTorch 2.6 cannot compile the call.
PROBLEM_TYPES: tuple[ProblemType, ...] = get_args(ProblemType)


def infer_problem_type(labels: torch.Tensor, config: CrossViTConfig) -> ProblemType:
    """
    `config.problem_type`, or what transformers infers where that is not set: regression for one label, and else classes from integers and
    several labels per image from floating point.
    """
    if not isinstance(labels, torch.Tensor):
        raise ValueError(f"`labels` must be a tensor, got {type(labels).__name__}. Use `torch.tensor(labels)`.")
    if config.problem_type is not None:
        return config.problem_type
    if config.num_labels == 1:
        return "regression"
    return "multi_label_classification" if labels.is_floating_point() else "single_label_classification"


def check_labels(labels: torch.Tensor, logits: torch.Tensor, problem_type: str) -> None:
    """
    Refuses labels of a wrong shape or type, and a problem type without a loss. The values of the labels are not looked at, because that
    would wait for the device.

    Args:
        labels: As `image_classification_loss` takes them.
        logits: (B, labels).
        problem_type: What the loss will be computed for.

    Raises:
        ValueError: With the shape and type that the labels have, and the shapes and types that fit `problem_type`.
    """
    if problem_type not in PROBLEM_TYPES:
        raise ValueError(
            f"`config.problem_type` is {problem_type!r}, expected one of {', '.join(PROBLEM_TYPES)}, or None to infer it."
        )
    if labels.dtype == torch.bool:
        raise ValueError(
            "`labels` has dtype torch.bool, expected integers for the class of each image, or floating point for one value per label. "
            "Use `labels.long()` or `labels.float()`."
        )
    batch_size, num_labels = logits.shape
    # Integers are taken as in transformers: they say that there are classes, and that there is one of them.
    if problem_type == "single_label_classification" and num_labels == 1 and labels.is_floating_point():
        raise ValueError(
            "`config.problem_type` is 'single_label_classification' and num_labels is 1, with labels in floating point: the loss would "
            "always be 0. Set `config.problem_type` to 'regression' for a value per image, to 'multi_label_classification' for yes or "
            "no, or to None if it is left from earlier labels."
        )
    one_per_image, one_per_label = (batch_size,), (batch_size, num_labels)
    # Pairs of a shape and whether the labels are floating point. A list and not a set, because a set would hash the batch size, and a
    # compiled graph would then be bound to it.
    allowed: list[tuple[tuple[int, ...], bool]] = [(one_per_label, True)]
    if problem_type == "single_label_classification":
        allowed += [(one_per_image, False), ((batch_size, 1), False)]
    elif problem_type == "regression" and num_labels == 1:
        allowed.append((one_per_image, True))  # as in transformers: the one target needs no dimension of its own
    if (tuple(labels.shape), labels.is_floating_point()) not in allowed or labels.is_complex():
        expected = {
            "single_label_classification": f"the class of each image, integers of shape {one_per_image} or {(batch_size, 1)} between "
            f"0 and {num_labels - 1}, or probabilities (mixup, label smoothing), floating point of shape {one_per_label}",
            "multi_label_classification": f"0 or 1 for each label, floating point of shape {one_per_label}",
            "regression": f"the target values, floating point of shape {one_per_label}",
        }[problem_type]
        raise ValueError(
            f"`labels` has shape {tuple(labels.shape)} and dtype {labels.dtype}, expected {expected} "
            f"(problem_type={problem_type!r}, num_labels={num_labels}). Reshape or convert the labels (`labels.float()`, "
            "`labels.long()`), or set `config.problem_type` and `num_labels` to what they are. `config.problem_type` may be remembered "
            "from earlier labels: set it to None to infer it from these."
        )


def image_classification_loss(
    labels: torch.Tensor,
    logits: torch.Tensor,
    config: CrossViTConfig,
    num_items_in_batch: torch.Tensor | int | None = None,
    **kwargs: Any,
) -> torch.Tensor:
    """
    Cross-entropy, binary cross-entropy per label, or mean squared error, as `config.problem_type` says. If it is None it is inferred from
    the labels, and regression or several labels per image are then written to `config.problem_type`.

    Args:
        labels: Classes (B,) or (B, 1) in any type of integers, with -100 for images to leave out; or in floating point, probabilities
            (B, labels), 0 and 1 (B, labels), or targets (B, labels), for one label also (B,).
        logits: (B, labels).
        num_items_in_batch: Number of elements of `labels` in all batches of one optimizer step, as `Trainer` counts them. The sum of
            the losses is divided by it, so that the losses of these batches add up to the mean over all of them.

    Returns:
        A scalar in float32, or in float64 for float64 logits.

    Raises:
        ValueError: If the labels do not fit, as `check_labels` says.
    """
    problem_type = infer_problem_type(labels, config)
    check_labels(labels, logits, problem_type)
    # The pipeline needs to know where its default, the softmax, is wrong. Classes are not remembered, because integers say what they are
    # in each call, and what is remembered stays in the saved model and would choose the loss of its next task.
    if config.problem_type is None and problem_type != "single_label_classification":
        config.problem_type = problem_type
    labels = labels.to(logits.device)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    elements_per_loss = 1
    if problem_type == "single_label_classification" and not labels.is_floating_point():
        # PyTorch takes few types of integers, and in 8 unsigned bits, the class 156 would be equal to -100 below.
        labels = labels.to(torch.int64).flatten()  # (B,) or (B, 1) -> (B,)
        losses = nn.functional.cross_entropy(logits, labels, reduction="none")  # (B,)
        # PyTorch and `Trainer` leave out images with the label -100; their losses are zero.
        count: int | torch.Tensor = (labels != -100).sum()
    elif problem_type == "single_label_classification":
        # Written out, because PyTorch before 2.14 compiles its own once for each batch size where labels are probabilities.
        losses = -(labels.to(logits.dtype) * logits.log_softmax(dim=-1)).sum(dim=-1)  # (B,)
        # There is one loss per image, but `Trainer` has counted each of the probabilities of an image.
        elements_per_loss, count = logits.shape[-1], losses.numel()
    else:
        labels = labels.view_as(logits).to(logits.dtype)
        if problem_type == "regression":
            losses = nn.functional.mse_loss(logits, labels, reduction="none")  # (B, labels)
        else:
            losses = nn.functional.binary_cross_entropy_with_logits(logits, labels, reduction="none")  # (B, labels)
        count = losses.numel()
    if num_items_in_batch is None:
        return losses.sum() / count
    if isinstance(num_items_in_batch, torch.Tensor):
        num_items_in_batch = num_items_in_batch.to(losses.device)
    return losses.sum() / (num_items_in_batch / elements_per_loss)


__all__ = ["check_labels", "image_classification_loss", "infer_problem_type"]
