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
The losses of CrossViTForImageClassification against those of PyTorch: each kind of labels, gradient accumulation, what is
remembered of earlier labels, losses of the user's own, and refusals.

    pytest tests/modeling_crossvit/test_loss_crossvit.py
"""

import copy

import pytest
import torch
from old_pytorch import NEEDS_TRACING
from small_models import small_config
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForImageClassification, Trainer, TrainingArguments, pipeline

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.loss_crossvit import image_classification_loss


@pytest.fixture
def model(config) -> CrossViTForImageClassification:
    torch.manual_seed(0)
    return CrossViTForImageClassification(config).eval()


@pytest.mark.parametrize(
    ("labels", "num_labels", "problem_type", "expected"),
    [
        (torch.tensor([1, 4]), 5, "single_label_classification", lambda x, y: F.cross_entropy(x, y)),
        (torch.tensor([1, -100]), 5, "single_label_classification", lambda x, y: F.cross_entropy(x, y)),
        (torch.rand(2, 5).softmax(-1), 5, "single_label_classification", lambda x, y: F.cross_entropy(x, y)),
        (torch.eye(5)[:2], 5, "multi_label_classification", lambda x, y: F.binary_cross_entropy_with_logits(x, y)),
        (torch.rand(2, 5), 5, "regression", lambda x, y: F.mse_loss(x, y)),
        (torch.rand(2), 1, "regression", lambda x, y: F.mse_loss(x[:, 0], y)),
        (torch.rand(2, 1), 1, "regression", lambda x, y: F.mse_loss(x, y)),
    ],
    ids=["classes", "ignored class", "soft labels", "multi-label", "regression", "one target", "column of targets"],
)
def test_losses(config, pixel_values, labels, num_labels, problem_type, expected):
    config.num_labels = num_labels
    config.problem_type = problem_type
    outputs = CrossViTForImageClassification(config)(pixel_values, labels=labels)
    torch.testing.assert_close(outputs.loss, expected(outputs.logits, labels))


# Class 156 has the bits of -100 in 8 unsigned bits.
INTEGERS = {
    torch.int8: [3, -100, 120, 7],
    torch.int16: [3, -100, 156, 7],
    torch.int32: [3, -100, 156, 7],
    torch.int64: [3, -100, 156, 7],
    torch.uint8: [3, 0, 156, 7],
    torch.uint16: [3, 0, 156, 7],
    torch.uint32: [3, 0, 156, 7],
    torch.uint64: [3, 0, 156, 7],
}


def loss_and_gradient(labels, logits, **kwargs) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.clone().requires_grad_()
    loss = image_classification_loss(labels, logits, small_config(num_labels=200), **kwargs)
    return loss, *torch.autograd.grad(loss, logits)


@pytest.mark.parametrize("num_items_in_batch", [None, 11, torch.tensor(11)], ids=["alone", "count", "counting tensor"])
@pytest.mark.parametrize("shape", [(4,), (4, 1)], ids=["row", "column"])
@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_classes_in_every_type_of_integers(dtype, shape, num_items_in_batch):
    labels = torch.tensor(INTEGERS[dtype])
    logits = torch.randn(4, 200, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits, labels, reduction="mean" if num_items_in_batch is None else "sum")
    loss, gradient = loss_and_gradient(labels, logits, num_items_in_batch=num_items_in_batch)
    torch.testing.assert_close(loss, expected / (num_items_in_batch or 1))
    got = loss_and_gradient(labels.to(dtype).view(shape), logits, num_items_in_batch=num_items_in_batch)
    assert torch.equal(got[0], loss) and torch.equal(got[1], gradient)
    assert (gradient[labels == -100] == 0).all() and (gradient[labels != -100] != 0).all()


COMPILED = [
    (lambda count: torch.arange(count), None),
    (lambda count: torch.arange(count, dtype=torch.int8)[:, None], None),
    (lambda count: torch.rand(count, 5), "single_label_classification"),
    (lambda count: torch.rand(count, 5), "multi_label_classification"),
    (lambda count: torch.rand(count, 5), "regression"),
]


@NEEDS_TRACING
@pytest.mark.parametrize(("labels", "problem_type"), COMPILED, ids=["classes", "column", "soft", "several", "targets"])
def test_one_compiled_graph_for_all_batch_sizes(labels, problem_type):
    torch.compiler.reset()
    config = small_config(problem_type=problem_type)
    # The backend does not matter here: what the loss does with shapes and the configuration is decided when it is traced.
    compiled = torch.compile(image_classification_loss, fullgraph=True, dynamic=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for count in (2, 3, 5):
            batch = labels(count), torch.randn(count, 5), config
            torch.testing.assert_close(compiled(*batch), image_classification_loss(*batch))


LABELS = {
    "single_label_classification": lambda: torch.randint(5, (8,)),
    "column of small integers": lambda: torch.tensor([[1], [-100], [4], [0], [2], [2], [-100], [3]], dtype=torch.int8),
    "soft labels": lambda: torch.rand(8, 5).softmax(-1),
    "multi_label_classification": lambda: torch.randint(2, (8, 5)).float(),
    "regression": lambda: torch.rand(8, 5),
}


@pytest.mark.parametrize("kind", LABELS)
def test_gradient_accumulation_in_trainer_is_one_large_batch(config, tmp_path, kind):
    """4 batches of 2 and 1 batch of 8: the same loss and the same weights after two steps."""
    torch.manual_seed(0)
    pixel_values, labels = torch.randn(8, 3, 48, 48), LABELS[kind]()
    one_label = kind in ("soft labels", "column of small integers")
    config.problem_type = "single_label_classification" if one_label else kind
    results = []
    for batch_size, steps in ((8, 1), (2, 4)):
        torch.manual_seed(0)
        trainer = Trainer(
            CrossViTForImageClassification(config),
            TrainingArguments(
                tmp_path,
                per_device_train_batch_size=batch_size,
                gradient_accumulation_steps=steps,
                num_train_epochs=2,
                logging_steps=1,
                report_to="none",
                optim="sgd",  # Adam would hide a factor on the loss
                learning_rate=0.1,
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=[{"pixel_values": image, "labels": label} for image, label in zip(pixel_values, labels)],
        )
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        results.append((losses, torch.cat([parameter.flatten() for parameter in trainer.model.parameters()])))
    (expected_losses, expected_weights), (losses, weights) = results
    assert losses == pytest.approx(expected_losses, rel=2e-3)  # Trainer logs four digits
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-6)


# What a model remembers of its labels


def next_labels(num_labels: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {
        "integers (B,)": torch.tensor([0, num_labels - 1]),
        "integers (B, 1)": torch.tensor([[0], [num_labels - 1]]),
        "probabilities (B, L)": torch.rand(2, num_labels, generator=generator).softmax(-1),
        "0 and 1 (B, L)": torch.eye(2, num_labels),
        "floats (B,)": torch.rand(2, generator=generator),
        "floats (B, 1)": torch.rand(2, 1, generator=generator),
    }


def loss_on(labels: torch.Tensor, model: CrossViTForImageClassification, pixel_values: torch.Tensor) -> str:
    """Which of PyTorch's losses the model computes for these labels, or that it refuses them."""
    model = copy.deepcopy(model)  # the labels of one call must not be remembered in the next
    try:
        loss, logits = model(pixel_values, labels=labels, return_dict=False)
    except ValueError:
        return "refused"
    if labels.is_floating_point():
        labels = labels.view_as(logits)
        losses = {"softmax": F.cross_entropy, "sigmoid": F.binary_cross_entropy_with_logits, "squares": F.mse_loss}
    else:
        labels, losses = labels.flatten(), {"softmax": F.cross_entropy}
    (equal,) = (name for name, function in losses.items() if torch.allclose(function(logits, labels), loss))
    return equal


# The loss for each of `next_labels`.
FRESH = ("softmax", "softmax", "sigmoid", "sigmoid", "refused", "refused")
CLASSES = ("softmax", "softmax", "softmax", "softmax", "refused", "refused")
SEVERAL = ("refused", "refused", "sigmoid", "sigmoid", "refused", "refused")
TARGETS = ("refused", "refused", "squares", "squares", "refused", "refused")
ONE = ("refused", "refused", "squares", "squares", "squares", "squares")

# What the model was before: its number of labels, the problem type that the user set, the labels that it got. Then for each way in which
# it is used next: the losses for the next labels, and the function of the pipeline.
TRANSITIONS = {
    "new": (5, None, None,
        {"same process": (FRESH, "softmax"), "reloaded": (FRESH, "softmax"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "sigmoid")}),
    "after classes": (5, None, torch.tensor([1, 4]),
        {"same process": (FRESH, "softmax"), "reloaded": (FRESH, "softmax"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "sigmoid")}),
    "after several labels": (5, None, torch.eye(2, 5),
        {"same process": (SEVERAL, "sigmoid"), "reloaded": (SEVERAL, "sigmoid"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "sigmoid")}),
    "after targets": (1, None, torch.rand(2),
        {"same process": (ONE, "none"), "reloaded": (ONE, "none"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "none")}),
    "single-label set": (5, "single_label_classification", None,
        {"same process": (CLASSES, "softmax"), "reloaded": (CLASSES, "softmax"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "sigmoid")}),
    "multi-label set": (5, "multi_label_classification", None,
        {"same process": (SEVERAL, "sigmoid"), "reloaded": (SEVERAL, "sigmoid"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "sigmoid")}),
    "regression set": (5, "regression", None,
        {"same process": (TARGETS, "none"), "reloaded": (TARGETS, "none"), "3 labels": (FRESH, "softmax"), "1 label": (ONE, "sigmoid")}),
}  # fmt: skip

WAYS = {"reloaded": {}, "3 labels": {"num_labels": 3}, "1 label": {"num_labels": 1}}


@pytest.mark.parametrize("way", ["same process", *WAYS])
@pytest.mark.parametrize("before", TRANSITIONS)
def test_loss_and_pipeline_after_other_labels(before, way, pixel_values, photos, tmp_path):
    num_labels, problem_type, labels, expected = TRANSITIONS[before]
    torch.manual_seed(0)
    model = CrossViTForImageClassification(small_config(num_labels=num_labels, problem_type=problem_type)).eval()
    if labels is not None:
        model(pixel_values, labels=labels)
    if way in WAYS:
        model.save_pretrained(tmp_path)
        model = CrossViTForImageClassification.from_pretrained(tmp_path, ignore_mismatched_sizes=True, **WAYS[way])
    losses, function = expected[way]
    labels = next_labels(model.config.num_labels)
    got = {name: loss_on(tensor, model, pixel_values) for name, tensor in labels.items()}
    assert got == dict(zip(labels, losses))

    image_processor = CrossViTImageProcessor.from_image_size(48)
    predictions = pipeline("image-classification", model=model, image_processor=image_processor)(photos["small"])
    (logits,) = model(**image_processor(photos["small"], return_tensors="pt")).logits
    scores = {"softmax": logits.softmax(-1), "sigmoid": logits.sigmoid(), "none": logits}[function]
    by_label = {prediction["label"]: prediction["score"] for prediction in predictions}
    assert [by_label[name] for name in model.config.id2label.values()] == pytest.approx(scores.tolist(), abs=1e-6)


LOADERS = {
    "configuration": CrossViTConfig.from_pretrained,
    "AutoConfig": AutoConfig.from_pretrained,
    "dictionary": lambda folder, **kwargs: CrossViTConfig.from_dict(
        CrossViTConfig.get_config_dict(folder)[0], **kwargs
    ),
    "model": lambda folder, **kwargs: (
        CrossViTForImageClassification.from_pretrained(folder, ignore_mismatched_sizes=True, **kwargs).config
    ),
    "Auto class": lambda folder, **kwargs: (
        AutoModelForImageClassification.from_pretrained(folder, ignore_mismatched_sizes=True, **kwargs).config
    ),
}


@pytest.mark.parametrize("load", LOADERS.values(), ids=LOADERS)
def test_another_number_of_labels_forgets_the_problem_type(load, tmp_path):
    three_names, five_names = ({number: f"name {number}" for number in range(count)} for count in (3, 5))
    kept, set_now = "multi_label_classification", "regression"
    # A configuration with two labels is saved without their names.
    for num_labels, kwargs, expected in [
        (5, {}, kept),
        (5, {"num_labels": 5}, kept),
        (5, {"id2label": five_names}, kept),
        (5, {"num_labels": 3}, None),
        (5, {"num_labels": 1}, None),
        (5, {"id2label": three_names}, None),
        (5, {"num_labels": 3, "id2label": three_names}, None),
        (5, {"num_labels": 3, "problem_type": set_now}, set_now),
        (5, {"problem_type": set_now}, set_now),
        (5, {"problem_type": None}, None),
        (2, {}, kept),
        (2, {"num_labels": 2}, kept),
        (2, {"num_labels": 1}, None),
        (2, {"id2label": three_names}, None),
    ]:
        model = CrossViTForImageClassification(small_config(num_labels=num_labels, problem_type=kept))
        model.save_pretrained(tmp_path)
        config = load(tmp_path, **kwargs)
        assert config.problem_type == expected, (num_labels, kwargs)
        assert config.num_labels == len(kwargs.get("id2label", range(kwargs.get("num_labels", num_labels))))


def test_dictionaries_of_configurations():
    config_dict = {"num_labels": 3, "problem_type": "multi_label_classification"}
    assert CrossViTConfig.from_dict(config_dict, num_labels=3).problem_type == "multi_label_classification"
    assert CrossViTConfig.from_dict(config_dict, num_labels=2).problem_type is None
    assert config_dict["problem_type"] == "multi_label_classification", "the caller's dictionary is left as it was"
    # transformers would refuse one label for the old problem type before it sees the new one.
    config_dict = {"problem_type": "single_label_classification"}
    assert CrossViTConfig.from_dict(config_dict, num_labels=1, problem_type="regression").problem_type == "regression"


# Losses of the user's own


def focal_loss(labels, logits, config, **kwargs):
    losses = F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype), reduction="none")
    return ((1 - torch.exp(-losses)) ** 2 * losses).mean()


def mixup_loss(labels, logits, config, **kwargs):
    first, second, weight = labels
    loss_of = [image_classification_loss(classes, logits, config, **kwargs) for classes in (first, second)]
    return weight * loss_of[0] + (1 - weight) * loss_of[1]


def loss_of_names(labels, logits, config, **kwargs):
    classes = [config.label2id[name] for name in labels["names"]]
    return (labels["weights"] * F.cross_entropy(logits, torch.tensor(classes), reduction="none")).sum()


def ordinal_loss(labels, logits, config, **kwargs):
    """A label says for all classes but the first how likely the class is this one or a higher one."""
    at_least = logits.softmax(-1).flip(-1).cumsum(-1).flip(-1)[:, 1:]
    return F.mse_loss(at_least, labels)


OWN_LOSSES = [
    (focal_loss, torch.eye(5, dtype=torch.bool)[:2]),
    (mixup_loss, (torch.tensor([1, 4]), torch.tensor([0, 2]), 0.3)),
    (loss_of_names, {"names": ["LABEL_3", "LABEL_0"], "weights": torch.tensor([0.5, 2.0])}),
    (ordinal_loss, torch.rand(2, 4)),
]


@pytest.mark.parametrize(("loss_function", "labels"), OWN_LOSSES)
def test_own_loss_gets_its_labels_as_they_are(model, pixel_values, loss_function, labels):
    received = []

    def recorded(*arguments, **kwargs):
        received.append((*arguments, kwargs))
        return loss_function(*arguments, **kwargs)

    model.loss_function = recorded
    outputs = model(pixel_values, labels=labels, num_items_in_batch=2)
    ((got, logits, config, kwargs),) = received
    assert got is labels and logits is outputs.logits and config is model.config
    assert kwargs["num_items_in_batch"] == 2
    assert torch.equal(outputs.loss, loss_function(labels, outputs.logits, model.config, **kwargs))
    outputs.loss.backward()
    assert all(head.weight.grad.any() for head in model.classifier.heads)


def test_own_loss_leaves_the_problem_type_alone(model, pixel_values):
    model.loss_function = ordinal_loss
    model(pixel_values, labels=torch.rand(2, 4))
    assert model.config.problem_type is None


# Refusals


@pytest.mark.parametrize(
    ("labels", "problem_type", "message"),
    [
        ([1, 2], None, "`labels` must be a tensor, got list"),
        (torch.tensor([1]), None, r"shape \(1,\) and dtype torch.int64, expected the class of each image, integers of shape \(2,\)"),
        (torch.tensor([[1, 2]]), None, r"shape \(1, 2\) and dtype torch.int64, expected.*\(2,\) or \(2, 1\).*Reshape or convert"),
        (torch.ones(2, 5, dtype=torch.bool), None, r"dtype torch.bool, expected integers.*`labels.long\(\)` or `labels.float\(\)`"),
        (torch.ones(2, dtype=torch.bool), None, "dtype torch.bool, expected integers"),
        (torch.ones(2, 5, dtype=torch.bool), "multi_label_classification", "dtype torch.bool, expected integers"),
        (torch.ones(2, dtype=torch.complex64), None, "dtype torch.complex64, expected the class of each image"),
        (torch.tensor([1.0, 2.0]), "single_label_classification", r"dtype torch.float32, expected the class.*labels.long"),
        (torch.zeros(2, 4), None, r"shape \(2, 4\).*0 or 1 for each label, floating point of shape \(2, 5\).*num_labels=5"),
        (torch.zeros(2, 5, dtype=torch.long), "multi_label_classification", "dtype torch.int64, expected 0 or 1 for each"),
        (torch.tensor([1, 2]), "multi_label_classification", "may be remembered from earlier labels: set it to None to infer it"),
        (torch.tensor([1, 2]), "regression", "dtype torch.int64, expected the target values.*remembered from earlier labels"),
        (torch.tensor([1, 2]), "classification", "'classification', expected one of single_label.*regression, or None to infer it"),
        (torch.zeros(2), "regression", r"expected the target values, floating point of shape \(2, 5\)"),
    ],
)  # fmt: skip
def test_unusable_labels(model, pixel_values, labels, problem_type, message):
    model.config.problem_type = problem_type
    with pytest.raises(ValueError, match=message):
        model(pixel_values, labels=labels)
    assert model.config.problem_type == problem_type, "a refused call leaves the configuration as it was"


@pytest.mark.parametrize("labels", [torch.rand(2, 1), torch.ones(2, 1)])
def test_values_for_a_single_class(config, pixel_values, labels):
    """transformers refuses this in a new configuration only. The loss would be 0, and nothing would be learnt."""
    config.num_labels = 1
    config.problem_type = "single_label_classification"
    model = CrossViTForImageClassification(config)
    with pytest.raises(
        ValueError, match="floating point: the loss would always be 0.*'regression'.*left from earlier"
    ):
        model(pixel_values, labels=labels)
    # As in transformers, whose common tests compute it.
    assert model(pixel_values, labels=torch.tensor([0, 0])).loss == 0
