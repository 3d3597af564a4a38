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
"""Loads the model for the training examples, chooses the parameters to train, and prepares the images."""

from dataclasses import dataclass, field
from functools import partial

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from PIL.Image import Image
from sklearn.utils.class_weight import compute_class_weight
from torchvision.transforms import v2

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.data import ImageData
from crossvit.data.classes import listed


@dataclass
class LoadArguments:
    _argument_group_name = "model: --model_name_or_path for its weights, or --config_name for random weights"

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub repository of the weights to start from, such as timm/crossvit_15_dagger_240.in1k."
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={
            "help": "Folder, Hub repository or published architecture (crossvit_15_dagger_240) of the configuration. Alone, it gives random "
            "weights. By default that of the weights."
        },
    )
    image_processor_name: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub repository of the image processor. By default that of the model."},
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder for downloaded files."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Token for private repositories. By default that of `hf auth login`."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Pixels per side, a multiple of 12. By default that of the model; otherwise its position embeddings are resized."
        },
    )
    ignore_mismatched_sizes: bool = field(
        default=True,
        metadata={"help": "Give a model with other classes new heads. If switched off, such a model is an error."},
    )
    drop_path_rate: float | None = field(
        default=None, metadata={"help": "Probability of stochastic depth. By default that of the model."}
    )


@dataclass
class ModelArguments(LoadArguments):
    """Adds the options of fine-tuning."""

    freeze_backbone: bool = field(default=False, metadata={"help": "Train the classification heads only."})
    lora_rank: int | None = field(
        default=None,
        metadata={
            "help": "Train only LoRA adapters of this rank and the heads. Adapters are merged at the end. Needs peft."
        },
    )
    class_weights: str | None = field(
        default=None,
        metadata={"help": "`balanced` gives each class the same weight in the loss, although some have fewer images."},
    )


@dataclass
class AugmentationArguments:
    _argument_group_name = "augmentation of the training images"

    random_crop_scale: float = field(
        default=0.08,
        metadata={"help": "Smallest part of an image's area that a random crop shows; 1 shows all of it."},
    )
    horizontal_flip: bool = field(
        default=True,
        metadata={
            "help": "Mirror half of the images. Switch it off for text and digits, which differ from their mirror image."
        },
    )
    vertical_flip: bool = field(
        default=False,
        metadata={
            "help": "Turn half of the images upside down, for images without an up, such as those of microscopes."
        },
    )
    quarter_turns: bool = field(
        default=False, metadata={"help": "Turn each image by 0, 90, 180 or 270 degrees, for images without an up."}
    )


def branch_image_sizes(config: CrossViTConfig, image_size: int) -> list[int]:
    """Image size of each branch. Their ratio is that of the configured sizes, rounded to whole patches."""
    first, _ = config.branch_image_size(0)
    sizes = [image_size * config.branch_image_size(branch)[0] / first for branch in range(config.num_branches)]
    return [patch * max(1, round(size / patch)) for size, patch in zip(sizes, config.patch_sizes)]


def check_model_arguments(arguments: LoadArguments, training: bool):
    name = arguments.model_name_or_path
    if name in CROSSVIT_VARIANTS:
        raise SystemExit(
            f"--model_name_or_path {name} names an architecture, expected weights. Give --model_name_or_path timm/{name}.in1k for those that "
            f"timm has published, or --config_name {name} for random weights."
        )
    if name is None and arguments.config_name is None:
        raise SystemExit(
            "Give --model_name_or_path, such as timm/crossvit_15_dagger_240.in1k, or --config_name crossvit_15_dagger_240 for random weights."
        )
    if name is None and not training:
        raise SystemExit(
            "--config_name alone gives random weights, which are not worth an evaluation: give --model_name_or_path."
        )


def load_config(name: str, download: dict) -> CrossViTConfig:
    if name in CROSSVIT_VARIANTS:
        return CrossViTConfig.from_variant(name)
    try:
        return CrossViTConfig.from_pretrained(name, **download)
    except OSError as error:
        raise SystemExit(f"{error}\nThe published architectures are {', '.join(CROSSVIT_VARIANTS)}.") from error
    except ValueError as error:  # another model
        raise SystemExit(str(error)) from error


def load_image_processor(name: str, config: CrossViTConfig, image_size: int | None, download: dict):
    """The model's own image processor. Another image size keeps all other settings, and the part of the image that is shown."""
    if name in CROSSVIT_VARIANTS:
        return CrossViTImageProcessor.from_image_size(config.branch_image_size(0)[0])
    image_processor = CrossViTImageProcessor.from_pretrained(name, **download)
    if image_size is None:
        return image_processor
    scale = image_size / image_processor.crop_size["height"]
    sizes = {
        "size": {side: round(scale * image_processor.size[side]) for side in ("shortest_edge", "height", "width") if image_processor.size[side]},
        "crop_size": {"height": image_size, "width": image_size},
    }  # fmt: skip
    return CrossViTImageProcessor.from_dict(image_processor.to_dict(), **sizes)


def with_new_heads(model: CrossViTForImageClassification) -> CrossViTForImageClassification:
    """Gives the model heads with random weights, although the loaded ones fit in size: they were for other classes."""
    model.classifier = type(model.classifier)(model.config)
    model.classifier.apply(model._init_weights)
    return model


def load_model(arguments: LoadArguments, data: ImageData, training: bool = True):
    """
    Returns the model with heads for the classes of the data, its image processor, and the data with the classes in the model's order.
    A model that is trained on other classes gets new heads.
    """
    check_model_arguments(arguments, training)
    name = arguments.model_name_or_path
    download = {"cache_dir": arguments.cache_dir, "revision": arguments.model_revision, "token": arguments.token}
    config = load_config(arguments.config_name or name, download)
    if arguments.image_size is not None:
        if arguments.image_size % config.patch_sizes[0]:
            raise SystemExit(
                f"--image_size must be a multiple of {config.patch_sizes[0]}, the patch size of the small branch; got "
                f"{arguments.image_size}."
            )
        config.image_sizes = branch_image_sizes(config, arguments.image_size)
    if arguments.drop_path_rate is not None:
        config.drop_path_rate = arguments.drop_path_rate

    several = config.problem_type == "multi_label_classification"
    if not training and several != data.multi_label:
        raise SystemExit(
            f"The model was trained for {'several labels' if several else 'one label'} per image, but these images have "
            f"{'several' if data.multi_label else 'one'}. Train it on such images first."
        )
    matched = None if name is None else data.match_classes(config.id2label, training)
    has_classes = matched is not None
    data = matched or data
    if not has_classes:
        if name is not None:
            message = f"The model has other classes ({listed(config.id2label.values(), 5)}) than the data ({listed(data.classes, 5)})"
            if not arguments.ignore_mismatched_sizes:
                raise SystemExit(f"{message}: leave out --no_ignore_mismatched_sizes to give it new heads.")
            PartialState().print(f"{message}: it gets new heads.")
        config.id2label = dict(enumerate(data.classes))
        config.label2id = {label: number for number, label in enumerate(data.classes)}
    config.problem_type = "multi_label_classification" if data.multi_label else "single_label_classification"

    processor_name = arguments.image_processor_name or name or arguments.config_name
    image_processor = load_image_processor(processor_name, config, arguments.image_size, download)
    if name is None:
        return CrossViTForImageClassification(config), image_processor, data
    try:
        model = CrossViTForImageClassification.from_pretrained(
            name, config=config, ignore_mismatched_sizes=not has_classes, **download
        )
    except (OSError, RuntimeError) as error:
        raise SystemExit(str(error)) from error
    return model if has_classes else with_new_heads(model), image_processor, data


class TrainingTransform:
    """Random crop, mirror images and turns, then the image processor's own normalisation: PIL image to (3, height, width)."""

    def __init__(self, image_processor: CrossViTImageProcessor, augmentation: AugmentationArguments):
        if not 0 < augmentation.random_crop_scale <= 1:
            raise SystemExit(
                f"--random_crop_scale must be more than 0 and at most 1; got {augmentation.random_crop_scale}."
            )
        size = (image_processor.crop_size["height"], image_processor.crop_size["width"])
        if augmentation.quarter_turns and size[0] != size[1]:
            raise SystemExit(
                f"--quarter_turns needs square images, but the image processor gives {size[0]} x {size[1]} pixels."
            )
        turns = [v2.RandomRotation((angle, angle)) for angle in (0, 90, 180, 270)]
        self.augment = v2.Compose(
            [
                v2.RandomResizedCrop(
                    size, scale=(augmentation.random_crop_scale, 1.0), interpolation=v2.InterpolationMode.BICUBIC
                ),
                v2.RandomHorizontalFlip(0.5 if augmentation.horizontal_flip else 0.0),
                *([v2.RandomVerticalFlip()] if augmentation.vertical_flip else []),
                *([v2.RandomChoice(turns)] if augmentation.quarter_turns else []),
            ]
        )
        self.normalize = partial(image_processor, do_resize=False, do_center_crop=False, return_tensors="pt")

    def __call__(self, image: Image) -> torch.Tensor:
        return self.normalize(self.augment(image)).pixel_values[0]


class EvaluationTransform:
    """The image processor as a transform: PIL image to (3, height, width)."""

    def __init__(self, image_processor: CrossViTImageProcessor):
        self.image_processor = image_processor

    def __call__(self, image: Image) -> torch.Tensor:
        return self.image_processor(image, return_tensors="pt").pixel_values[0]


def classification_loss(
    outputs, labels: torch.Tensor, num_items_in_batch=None, weights: torch.Tensor | None = None, label_smoothing: float = 0.0
) -> torch.Tensor:  # fmt: skip
    """Cross-entropy with a weight per class and smooth labels, averaged over the images of an optimizer step."""
    losses = torch.nn.functional.cross_entropy(
        outputs.logits.float(),
        labels,
        weights if weights is None else weights.to(labels.device),
        reduction="none",
        label_smoothing=label_smoothing,
    )
    return losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)


def check_class_weights(arguments: ModelArguments, streaming: bool):
    """Ends the program with a message if `--class_weights` has no such value, or does not go together with a stream."""
    if arguments.class_weights not in (None, "balanced"):
        raise SystemExit(f"--class_weights must be `balanced` or left out, got {arguments.class_weights}.")
    if streaming and arguments.class_weights:
        raise SystemExit(
            "--class_weights must count the images first, but a stream is read while training: leave out one of "
            "--class_weights and --streaming."
        )


def class_weights(data: ImageData) -> torch.Tensor:
    """The weights of scikit-learn's `balanced`: classes with few images get large ones. A class without images has no use for its."""
    if data.multi_label:
        raise SystemExit("--class_weights needs one label per image, but these images have several: leave it out.")
    labels = [data.label2id[name] for name in data.labels("train")]
    occurring = np.unique(labels)
    weights = torch.ones(len(data.classes))
    weights[occurring] = torch.from_numpy(compute_class_weight("balanced", classes=occurring, y=labels)).float()
    return weights


def choose_parameters(model, arguments: ModelArguments):
    """Freezes the backbone with `--freeze_backbone`; adds adapters to the query and value projections with `--lora_rank`."""
    if arguments.model_name_or_path is None and (arguments.freeze_backbone or arguments.lora_rank is not None):
        raise SystemExit(
            "--freeze_backbone and --lora_rank train a part of the model, but the rest has random weights: give --model_name_or_path."
        )
    if arguments.freeze_backbone and arguments.lora_rank is not None:
        raise SystemExit(
            "--freeze_backbone and --lora_rank exclude each other, because adapters are part of the backbone. Give one of them."
        )
    if arguments.lora_rank is not None and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise SystemExit(
            "--lora_rank does not work with FSDP, because adapters cannot be merged into divided weights: launch without FSDP."
        )
    if arguments.freeze_backbone:
        model.crossvit.requires_grad_(False)
    if arguments.lora_rank is None:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise SystemExit("--lora_rank needs the package peft, which is not installed: pip install peft.") from None
    rank = arguments.lora_rank
    adapters = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]
    )
    return get_peft_model(model, adapters)
