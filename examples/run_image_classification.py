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
Fine-tune CrossViT for image classification with transformers' `Trainer`.

    python examples/run_image_classification.py \\
        --model_name_or_path models/crossvit_15_dagger_240 --train_dir my_photos --do_train --do_eval

The model is a folder, a repository on the Hub, or the name of a published architecture (`crossvit_15_dagger_240`) for random
weights. The images come from the Hub (`--dataset_name beans`), a folder with a folder of images per class, or a CSV or parquet file.
Everything that `TrainingArguments` offers is an option here, under its name; a run that was interrupted continues when the same
command is given again.

With the model and the digits that `make quickstart` has written, in about 20 seconds on two CPU cores, to an accuracy of at least
0.95 (these augmentations are for photos, not for digits):

    python examples/run_image_classification.py --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --do_train --do_eval --num_train_epochs 1
"""

import os
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import evaluate
import numpy as np
import torch
from image_data import DataArguments, ImageData, ImageTransform, bad_images, collate, leave_out_bad_images, load_images
from torchvision.transforms import v2
from training_report import draw_training
from transformers import HfArgumentParser, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.trainer import CrossViTTrainer


METRICS = Path(__file__).parent / "metrics"


@dataclass
class ModelArguments:
    _argument_group_name = "model"

    model_name_or_path: str = field(
        default="crossvit_15_dagger_240",
        metadata={"help": "Folder, Hub repository, or name of a published architecture for random weights."},
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
    freeze_backbone: bool = field(default=False, metadata={"help": "Train the classification heads alone."})
    lora_rank: int | None = field(
        default=None,
        metadata={"help": "Train adapters of this rank and the heads alone (needs peft); merged at the end."},
    )
    drop_path_rate: float | None = field(
        default=None, metadata={"help": "Stochastic depth, if not that of the model."}
    )
    class_weights: str | None = field(
        default=None, metadata={"help": "`balanced`: every class counts the same, however many images it has."}
    )


@dataclass
class Arguments(TrainingArguments):
    _argument_group_name = "training: transformers' TrainingArguments"

    output_dir: str = field(
        default="outputs/run_image_classification", metadata={"help": "Where everything is written."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two entries of the training loss."})
    save_total_limit: int | None = field(default=2, metadata={"help": "How many checkpoints are kept."})


def branch_image_sizes(config: CrossViTConfig, image_size: int) -> list[int]:
    """The size for each branch that keeps the ratio of the configured ones, as near as whole patches allow."""
    first, _ = config.branch_image_size(0)
    sizes = [image_size * config.branch_image_size(branch)[0] / first for branch in range(config.num_branches)]
    return [patch * max(1, round(size / patch)) for size, patch in zip(sizes, config.patch_sizes)]


def load_model(arguments: ModelArguments, data: ImageData):
    """The model with heads for these classes, and its image processor."""
    name = arguments.model_name_or_path
    download = {"cache_dir": arguments.cache_dir, "revision": arguments.model_revision, "token": arguments.token}
    if name in CROSSVIT_VARIANTS:
        config = CrossViTConfig.from_variant(name)
    else:
        try:
            config = CrossViTConfig.from_pretrained(name, **download)
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

    image_processor = CrossViTImageProcessor.from_image_size(config.branch_image_size(0)[0])
    if name in CROSSVIT_VARIANTS:
        return CrossViTForImageClassification(config), image_processor
    if arguments.image_size is None:
        image_processor = CrossViTImageProcessor.from_pretrained(name, **download)
    model = CrossViTForImageClassification.from_pretrained(
        name, config=config, ignore_mismatched_sizes=True, **download
    )
    return model, image_processor


def training_transform(image_processor: CrossViTImageProcessor) -> v2.Compose:
    size = (image_processor.crop_size["height"], image_processor.crop_size["width"])
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, interpolation=v2.InterpolationMode.BICUBIC),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(image_processor.image_mean, image_processor.image_std),
        ]
    )


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


def check(arguments: ModelArguments, data_arguments: DataArguments, training: TrainingArguments):
    if not (training.do_train or training.do_eval):
        raise SystemExit("Nothing to do: give --do_train, --do_eval or both.")
    if arguments.class_weights not in (None, "balanced"):
        raise SystemExit(f"--class_weights is `balanced` or not given, got {arguments.class_weights}.")
    if data_arguments.streaming and training.do_train and training.max_steps <= 0:
        raise SystemExit("--streaming needs --max_steps: the length of a stream is not known.")
    if data_arguments.streaming and arguments.class_weights:
        raise SystemExit("--class_weights needs to count the images first, which --streaming does not allow.")


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, Arguments), description=__doc__.split("\n\n")[0])
    if len(sys.argv) == 2 and sys.argv[1].endswith((".json", ".yaml", ".yml")):
        arguments, data_arguments, training = parser.parse_json_file(os.path.abspath(sys.argv[1]))
    else:
        *parsed, unknown = parser.parse_args_into_dataclasses(return_remaining_strings=True)
        if unknown:
            parser.error(f"unrecognized arguments: {' '.join(unknown)}; --help lists those that there are")
        arguments, data_arguments, training = parsed
    check(arguments, data_arguments, training)
    training.remove_unused_columns = False  # the transforms need the image
    training.dataloader_pin_memory &= torch.cuda.is_available()
    set_seed(training.seed)
    output = Path(training.output_dir)

    with training.main_process_first(desc="preparing the images"):
        data = load_images(data_arguments, training.seed)
        if data_arguments.skip_bad_images:
            leave_out_bad_images(data, output, training.dataloader_num_workers or None)
    if arguments.class_weights and data.multi_label:
        raise SystemExit("--class_weights is for one label per image.")
    model, image_processor = load_model(arguments, data)
    loss = partial(weighted_loss, class_weights(data)) if arguments.class_weights else None
    model = choose_parameters(model, arguments)

    metric = evaluate.load(str(METRICS / ("multi_label" if data.multi_label else "single_label")))
    name_of_metric = "mean_average_precision" if data.multi_label else "accuracy"
    processed = v2.Lambda(lambda image: image_processor(image, return_tensors="pt").pixel_values[0])
    trainer = CrossViTTrainer(
        model=model,
        args=training,
        train_dataset=ImageTransform(training_transform(image_processor), data).apply_to(data.splits["train"]),
        eval_dataset=ImageTransform(processed, data).apply_to(data.splits["validation"]),
        compute_metrics=lambda prediction: metric.compute(
            predictions=prediction.predictions, references=prediction.label_ids
        ),
        compute_loss_func=loss,
        data_collator=collate,
        processing_class=image_processor,
    )

    if training.do_train:
        checkpoint = training.resume_from_checkpoint
        if checkpoint is None and output.is_dir():
            checkpoint = get_last_checkpoint(str(output))
        if checkpoint is not None:
            print(f"continuing from {checkpoint}")
        result = trainer.train(resume_from_checkpoint=checkpoint)
        trainer.save_metrics("train", result.metrics)
        trainer.save_state()
        if arguments.lora_rank is not None:
            trainer.model = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
        trainer.save_model()

    if training.do_eval:
        prediction = trainer.predict(trainer.eval_dataset, metric_key_prefix="eval")
        trainer.save_metrics("eval", prediction.metrics)
        if trainer.is_world_process_zero():
            labels = None if data.multi_label else prediction.label_ids
            predicted = prediction.predictions.argmax(axis=-1)
            log = [*trainer.state.log_history, {**prediction.metrics, "step": trainer.state.global_step}]
            draw_training(log, name_of_metric, output / "training.png", labels, predicted, data.classes)
            print(f"{name_of_metric.replace('_', ' ')} {prediction.metrics[f'eval_{name_of_metric}']:.4f}")

    if trainer.is_world_process_zero() and data_arguments.skip_bad_images:
        left_out = bad_images(output)
        print(f"{len(left_out)} images could not be read and were left out; {output / 'bad_images.jsonl'} names them.")
    if training.push_to_hub:
        trainer.push_to_hub(dataset=data_arguments.dataset_name)
    elif training.do_train:
        trainer.create_model_card(dataset=data_arguments.dataset_name)


if __name__ == "__main__":
    main()
