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

import numpy as np
import torch
from accelerate.utils import parse_flag_from_env
from image_data import ImageData
from torchvision.transforms import v2

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


@dataclass
class LoadArguments:
    _argument_group_name = "model"

    model_name_or_path: str = field(
        default="crossvit_15_dagger_240",
        metadata={
            "help": "Folder or Hub repository of the model, or name of a published architecture to start from random weights."
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={
            "help": "Folder, Hub repository or architecture of the configuration. By default that of the model."
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


def branch_image_sizes(config: CrossViTConfig, image_size: int) -> list[int]:
    """Image size of each branch. Their ratio is that of the configured sizes, rounded to whole patches."""
    first, _ = config.branch_image_size(0)
    sizes = [image_size * config.branch_image_size(branch)[0] / first for branch in range(config.num_branches)]
    return [patch * max(1, round(size / patch)) for size, patch in zip(sizes, config.patch_sizes)]


def load_model(arguments: LoadArguments, data: ImageData):
    """Returns the model with heads for these classes, and its image processor."""
    name = arguments.model_name_or_path
    config_name = arguments.config_name or name
    download = {"cache_dir": arguments.cache_dir, "revision": arguments.model_revision, "token": arguments.token}
    if config_name in CROSSVIT_VARIANTS:
        config = CrossViTConfig.from_variant(config_name)
    else:
        try:
            config = CrossViTConfig.from_pretrained(config_name, **download)
        except OSError as error:
            variants = ", ".join(CROSSVIT_VARIANTS)
            raise SystemExit(f"{error}\nTo start from random weights give one of these names: {variants}.") from error
        except ValueError as error:  # another model
            raise SystemExit(str(error)) from error
    if arguments.image_size is not None:
        if arguments.image_size % config.patch_sizes[0]:
            raise SystemExit(
                f"--image_size must be a multiple of {config.patch_sizes[0]}, the patch size of the small branch; got "
                f"{arguments.image_size}."
            )
        config.image_sizes = branch_image_sizes(config, arguments.image_size)
    config.id2label = dict(enumerate(data.classes))
    config.label2id = {label: number for number, label in enumerate(data.classes)}
    config.problem_type = "multi_label_classification" if data.multi_label else "single_label_classification"
    if arguments.drop_path_rate is not None:
        config.drop_path_rate = arguments.drop_path_rate

    processor_name = arguments.image_processor_name or name
    image_processor = CrossViTImageProcessor.from_image_size(config.branch_image_size(0)[0])
    if processor_name not in CROSSVIT_VARIANTS:
        sizes = (
            {}
            if arguments.image_size is None
            else {key: dict(getattr(image_processor, key)) for key in ("size", "crop_size")}
        )
        image_processor = CrossViTImageProcessor.from_pretrained(processor_name, **sizes, **download)
    if name in CROSSVIT_VARIANTS:
        return CrossViTForImageClassification(config), image_processor
    try:
        model = CrossViTForImageClassification.from_pretrained(
            name, config=config, ignore_mismatched_sizes=arguments.ignore_mismatched_sizes, **download
        )
    except RuntimeError as error:
        raise SystemExit(str(error)) from error
    return model, image_processor


def training_transform(image_processor: CrossViTImageProcessor, augmentation: AugmentationArguments) -> v2.Compose:
    """Random crop and mirror image: PIL image to (3, height, width)."""
    if not 0 < augmentation.random_crop_scale <= 1:
        raise SystemExit(
            f"--random_crop_scale must be more than 0 and at most 1; got {augmentation.random_crop_scale}."
        )
    size = (image_processor.crop_size["height"], image_processor.crop_size["width"])
    return v2.Compose(
        [
            v2.RandomResizedCrop(
                size, scale=(augmentation.random_crop_scale, 1.0), interpolation=v2.InterpolationMode.BICUBIC
            ),
            v2.RandomHorizontalFlip(0.5 if augmentation.horizontal_flip else 0.0),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(image_processor.image_mean, image_processor.image_std),
        ]
    )


def evaluation_transform(image_processor: CrossViTImageProcessor) -> v2.Lambda:
    """The image processor as a transform: PIL image to (3, height, width)."""
    return v2.Lambda(lambda image: image_processor(image, return_tensors="pt").pixel_values[0])


def weighted_loss(weights: torch.Tensor, outputs, labels: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
    """Cross-entropy with a weight per class, averaged over the images of an optimizer step."""
    losses = torch.nn.functional.cross_entropy(
        outputs.logits.float(), labels, weights.to(labels.device), reduction="none"
    )
    return losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)


def class_weights(data: ImageData) -> torch.Tensor:
    """The weight of a class is the average number of images per class, divided by the number of its own images."""
    counts = np.bincount(data.splits["train"]["label"], minlength=len(data.classes))
    return torch.from_numpy(counts.sum() / len(counts) / counts.clip(min=1)).float()


def choose_parameters(model, arguments: ModelArguments):
    """Freezes the backbone with `--freeze_backbone`; adds adapters to the query and value projections with `--lora_rank`."""
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
