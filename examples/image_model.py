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
"""The model that the training examples fine-tune, what of it is trained, and how its images are prepared."""

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
        metadata={"help": "Folder, Hub repository, or name of a published architecture for random weights."},
    )
    config_name: str | None = field(default=None, metadata={"help": "The same for its configuration, if not that."})
    image_processor_name: str | None = field(
        default=None, metadata={"help": "Folder or Hub repository of the image processor, if not that of the model."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where downloads are kept."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "For private repositories. Default: that of `hf auth login`."}
    )
    image_size: int | None = field(
        default=None,
        metadata={"help": "Pixels per side, a multiple of 12, if not that of the model: resizes its positions."},
    )
    ignore_mismatched_sizes: bool = field(
        default=True, metadata={"help": "New heads for a model of other classes. Otherwise that is an error."}
    )
    drop_path_rate: float | None = field(
        default=None, metadata={"help": "Stochastic depth, if not that of the model."}
    )


@dataclass
class ModelArguments(LoadArguments):
    """And for fine-tuning."""

    freeze_backbone: bool = field(default=False, metadata={"help": "Train the classification heads alone."})
    lora_rank: int | None = field(
        default=None,
        metadata={"help": "Train adapters of this rank and the heads alone (needs peft); merged at the end."},
    )
    class_weights: str | None = field(
        default=None, metadata={"help": "`balanced`: every class counts the same, however many images it has."}
    )


@dataclass
class AugmentationArguments:
    _argument_group_name = "augmentation of the training images"

    random_crop_scale: float = field(
        default=0.08, metadata={"help": "Smallest part of an image's area that a crop shows; 1 shows all of it."}
    )
    horizontal_flip: bool = field(
        default=True,
        metadata={"help": "Mirrors half of the images; not for text, digits and other things with a side."},
    )


def branch_image_sizes(config: CrossViTConfig, image_size: int) -> list[int]:
    """The size for each branch that keeps the ratio of the configured ones, as near as whole patches allow."""
    first, _ = config.branch_image_size(0)
    sizes = [image_size * config.branch_image_size(branch)[0] / first for branch in range(config.num_branches)]
    return [patch * max(1, round(size / patch)) for size, patch in zip(sizes, config.patch_sizes)]


def load_model(arguments: LoadArguments, data: ImageData):
    """The model with heads for these classes, and its image processor."""
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
            raise SystemExit(f"{error}\nFor random weights give one of these names: {variants}.") from error
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

    if arguments.image_processor_name or (name not in CROSSVIT_VARIANTS and arguments.image_size is None):
        image_processor = CrossViTImageProcessor.from_pretrained(arguments.image_processor_name or name, **download)
    else:
        image_processor = CrossViTImageProcessor.from_image_size(config.branch_image_size(0)[0])
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
    if not 0 < augmentation.random_crop_scale <= 1:
        raise SystemExit(
            f"--random_crop_scale is a part of the image, more than 0 and at most 1; got {augmentation.random_crop_scale}."
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
    return v2.Lambda(lambda image: image_processor(image, return_tensors="pt").pixel_values[0])


def weighted_loss(weights: torch.Tensor, outputs, labels: torch.Tensor, num_items_in_batch=None) -> torch.Tensor:
    """Cross-entropy with a weight per class, as the mean over all images of an optimizer step."""
    losses = torch.nn.functional.cross_entropy(
        outputs.logits.float(), labels, weights.to(labels.device), reduction="none"
    )
    return losses.sum() / (len(losses) if num_items_in_batch is None else num_items_in_batch)


def class_weights(data: ImageData) -> torch.Tensor:
    """The weight of a class is the mean number of images per class, divided by its own number."""
    counts = np.bincount(data.splits["train"]["label"], minlength=len(data.classes))
    return torch.from_numpy(counts.sum() / len(counts) / counts.clip(min=1)).float()


def choose_parameters(model, arguments: ModelArguments):
    """Freezes what the arguments say; with `--lora_rank`, puts adapters beside the query and value projections."""
    if arguments.freeze_backbone and arguments.lora_rank is not None:
        raise SystemExit("--freeze_backbone and --lora_rank exclude each other: adapters are part of the backbone.")
    if arguments.lora_rank is not None and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise SystemExit(
            "--lora_rank leaves little that FSDP could divide, and adapters cannot be merged into divided weights: launch without FSDP."
        )
    if arguments.freeze_backbone:
        model.crossvit.requires_grad_(False)
    if arguments.lora_rank is None:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise SystemExit("--lora_rank needs the package peft: pip install peft.") from None
    rank = arguments.lora_rank
    adapters = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]
    )
    return get_peft_model(model, adapters)
