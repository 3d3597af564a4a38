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
        --model_name_or_path timm/crossvit_15_dagger_240.in1k --train_dir my_photos --do_train --do_eval

The model is a folder or a repository on the Hub. `--config_name crossvit_15_dagger_240` in its place starts from random weights of that
architecture. The images come from the Hub (`--dataset_name beans`), a folder with a folder of images per class, or a CSV, JSON lines,
parquet or WebDataset file. All of `TrainingArguments` are options too. The same command continues an interrupted run.

With the model and the digits of `make quickstart`, it takes about 20 seconds on two CPU cores and reaches an accuracy of at least 0.97.
The last two options keep most of each digit in the crop, and do not mirror it:

    python examples/run_image_classification.py --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --do_train --do_eval --num_train_epochs 1 \\
        --random_crop_scale 0.7 --no_horizontal_flip
"""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate.utils import parse_flag_from_env
from PIL.Image import Image
from torch.utils.data import default_collate
from torchvision.transforms import v2
from transformers import TrainerCallback, TrainingArguments, set_seed

from crossvit import CrossViTImageProcessor
from crossvit.configuration.files import check_writable
from crossvit.data import DataArguments, EpochCallback, EvaluationTransform, ImageData, load_images, print_bad_images
from crossvit.modeling_crossvit import image_classification_loss
from crossvit.trainer import (
    CARD_TEXT,
    PICTURE,
    CompleteCheckpoints,
    CrossViTTrainer,
    ModelArguments,
    StopSignals,
    check_model,
    check_run,
    compute_metrics,
    draw,
    draw_training,
    last_complete_checkpoint,
    load_model,
    parse_arguments,
    plain_errors,
    print_results,
)


# Options that change what is trained: a folder of a run is not continued with other values of them. A run may be continued for more epochs,
# with other intervals, or on another number of processes.
RUN_OPTIONS = {
    "model_name_or_path", "config_name", "image_size", "drop_path_rate", "dtype", "freeze_backbone", "lora_rank", "class_weights", "image_range",
    "random_crop_scale", "horizontal_flip", "vertical_flip", "quarter_turns", "label_smoothing_factor", "optim", "learning_rate",
    "weight_decay", "max_grad_norm", "lr_scheduler_type", "seed",
}  # fmt: skip


@dataclass
class FineTuningArguments(ModelArguments):
    """Adds what is trained, and with which weights of the classes."""

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


@dataclass
class Arguments(TrainingArguments):
    _argument_group_name = "training: transformers' TrainingArguments"

    output_dir: str = field(
        default="outputs/run_image_classification", metadata={"help": "Folder for all files that are written."}
    )
    eval_strategy: str | None = field(
        default=None,
        metadata={
            "help": "When to evaluate during the training: no, steps or epoch. By default epoch with --do_eval, otherwise no."
        },
    )
    logging_steps: float = field(default=10, metadata={"help": "Number of steps between two logged training losses."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to write a checkpoint: no, steps or epoch."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Number of checkpoints to keep."})

    def __post_init__(self):
        if self.eval_strategy is None:  # any other value than no would switch on --do_eval
            self.eval_strategy = "epoch" if self.do_train and self.do_eval else "no"
        super().__post_init__()


class TrainingTransform:
    """Random crop, mirror images and turns, then the image processor's own normalisation: PIL image to (3, height, width)."""

    def __init__(self, image_processor: CrossViTImageProcessor, augmentation: AugmentationArguments):
        if not 0 < augmentation.random_crop_scale <= 1:
            raise ValueError(
                f"--random_crop_scale must be more than 0 and at most 1; got {augmentation.random_crop_scale}."
            )
        size = (image_processor.crop_size["height"], image_processor.crop_size["width"])
        if augmentation.quarter_turns and size[0] != size[1]:
            raise ValueError(
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


def choose_parameters(model, arguments: FineTuningArguments):
    """Freezes the backbone with `--freeze_backbone`; adds adapters to the query and value projections with `--lora_rank`."""
    if arguments.model_name_or_path is None and (arguments.freeze_backbone or arguments.lora_rank is not None):
        raise ValueError(
            "--freeze_backbone and --lora_rank train a part of the model, but the rest has random weights: give --model_name_or_path."
        )
    if arguments.freeze_backbone and arguments.lora_rank is not None:
        raise ValueError(
            "--freeze_backbone and --lora_rank exclude each other, because adapters are part of the backbone. Give one of them."
        )
    if arguments.lora_rank is not None and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        raise ValueError(
            "--lora_rank does not work with FSDP, because adapters cannot be merged into divided weights: launch without FSDP."
        )
    if arguments.freeze_backbone:
        model.crossvit.requires_grad_(False)
    if arguments.lora_rank is None:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise ValueError("--lora_rank needs the package peft, which is not installed: pip install peft.") from None
    rank = arguments.lora_rank
    adapters = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules=["q_proj", "v_proj"], modules_to_save=["classifier"]
    )
    return get_peft_model(model, adapters)


class StopCallback(TrainerCallback):
    """Saves a checkpoint and ends the training one step after a signal."""

    def __init__(self, accelerator):
        self.signals, self.stopped = StopSignals(accelerator), False

    def on_step_end(self, args, state, control, **kwargs):
        if self.signals.accelerator.check_trigger():
            self.stopped = control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.stopped:  # the job may have no time left for an evaluation
            control.should_evaluate = control.should_save = False


class Trainer(CrossViTTrainer):
    """Evaluates all images, also with `--dataloader_drop_last`, which transformers' Trainer applies to the evaluation too."""

    def get_eval_dataloader(self, eval_dataset=None):
        return self.with_all_images(super().get_eval_dataloader, eval_dataset)

    def get_test_dataloader(self, test_dataset):
        return self.with_all_images(super().get_test_dataloader, test_dataset)

    def with_all_images(self, get_dataloader, dataset):
        drop_last, self.args.dataloader_drop_last = self.args.dataloader_drop_last, False
        try:
            return get_dataloader(dataset)
        finally:
            self.args.dataloader_drop_last = drop_last


def check_arguments(arguments: FineTuningArguments, data_arguments: DataArguments, training: TrainingArguments):
    """Raises a ValueError if the arguments contradict each other."""
    if not (training.do_train or training.do_eval):
        raise ValueError("Nothing to do: give --do_train, --do_eval or both.")
    if arguments.class_weights not in (None, "balanced"):
        raise ValueError(f"--class_weights must be `balanced` or left out, got {arguments.class_weights}.")
    if data_arguments.streaming and arguments.class_weights:
        raise ValueError(
            "--class_weights must count the images first, but a stream is read while training: leave out one of "
            "--class_weights and --streaming."
        )
    if data_arguments.streaming and training.do_train and training.max_steps <= 0:
        raise ValueError("--streaming needs --max_steps, because the length of a stream is not known.")
    if training.prediction_loss_only:
        raise ValueError("--prediction_loss_only leaves nothing to compute the accuracy from: leave it out.")


def training_loss(arguments: FineTuningArguments, data: ImageData, training: TrainingArguments):
    """The loss with class weights and label smoothing. None without them: the model has its own."""
    if not arguments.class_weights and not training.label_smoothing_factor:
        return None
    if training.label_smoothing_factor and data.multi_label:
        raise ValueError(
            "--label_smoothing_factor needs one label per image, but these images have several: leave it out."
        )
    weights = data.class_weights() if arguments.class_weights else None
    return partial(classification_loss, weights=weights, label_smoothing=training.label_smoothing_factor)


def prepare(
    arguments: FineTuningArguments,
    data_arguments: DataArguments,
    augmentation: AugmentationArguments,
    training: Arguments,
):
    """The images, the model, its image processor, the transform of the training images, and the loss. Mistakes are ValueErrors."""
    check_arguments(arguments, data_arguments, training)
    output, workers = Path(training.output_dir), training.dataloader_num_workers
    # Before the images, which may take long.
    check_writable(output)
    check_model(arguments, training.do_train)
    download = {"cache_dir": arguments.cache_dir, "token": arguments.token}
    data = load_images(data_arguments, training.seed, output, training.do_train, workers, **download)
    if training.do_eval and "validation" not in data.splits:
        raise ValueError(
            "There are no images to evaluate on: leave out --do_eval, or give --validation_dir, --validation_file or --validation_split."
        )
    if not training.do_eval and "validation" in data.splits and training.process_index == 0:
        print("No image is evaluated, because --do_eval was not given.")
    model, image_processor, data = load_model(arguments, data, training.do_train)
    transform = loss = None
    if training.do_train:
        images_per_step = training.train_batch_size * training.world_size * training.gradient_accumulation_steps
        if (
            training.dataloader_drop_last
            and not data_arguments.streaming
            and len(data.splits["train"]) < images_per_step
        ):
            raise ValueError(
                f"--dataloader_drop_last leaves none of the training images ({len(data.splits['train'])}), because a step takes "
                f"{images_per_step}: leave it out."
            )
        options = {**vars(arguments), **vars(augmentation), **vars(data_arguments), **vars(training)}
        options = {name: value for name, value in options.items() if name in RUN_OPTIONS}
        check_run(output, data, {**options, "images_per_step": images_per_step})
        loss = training_loss(arguments, data, training)
        transform = TrainingTransform(image_processor, augmentation)
    return data, choose_parameters(model, arguments), image_processor, transform, loss


def run(
    arguments: FineTuningArguments,
    data_arguments: DataArguments,
    augmentation: AugmentationArguments,
    training: Arguments,
):
    training.remove_unused_columns = False  # the transforms need the image
    training.dataloader_pin_memory &= torch.cuda.is_available()
    # CompleteCheckpoints keeps to this limit, not Trainer, which would remove older checkpoints too early.
    save_total_limit, training.save_total_limit = training.save_total_limit, None
    set_seed(training.seed)
    output = Path(training.output_dir)
    data, model, image_processor, transform, loss = prepare(arguments, data_arguments, augmentation, training)
    config, main_metric = model.config, "mean_average_precision" if data.multi_label else "accuracy"

    def metrics_with_loss(prediction) -> dict[str, float]:
        """Trainer's own loss counts some images twice if the batches of the processes do not divide them."""
        scores, labels = torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids)
        loss = image_classification_loss(labels, scores, config).item()
        return {"loss": loss, **compute_metrics(prediction.predictions, prediction.label_ids)}

    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=data.with_transform("train", transform, training.seed) if training.do_train else None,
        eval_dataset=data.with_transform("validation", EvaluationTransform(image_processor))
        if training.do_eval
        else None,
        compute_metrics=metrics_with_loss,
        compute_loss_func=loss,
        data_collator=default_collate,
        processing_class=image_processor,
        callbacks=[EpochCallback(), CompleteCheckpoints(save_total_limit)],
    )

    if training.do_train:
        checkpoint = training.resume_from_checkpoint or last_complete_checkpoint(output)
        if checkpoint is not None:
            print(f"continuing from {checkpoint} (for a new run give another --output_dir)")
        elif any(output.glob("checkpoint-*")):
            print(
                f"starting anew, because no checkpoint in {output} was written to its end; to use one nevertheless give "
                "--resume_from_checkpoint FOLDER"
            )
        stop = StopCallback(trainer.accelerator)
        trainer.add_callback(stop)
        result = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if stop.stopped:
            stop.signals.exit(trainer.state.global_step, output)
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
            draw(draw_training, log, main_metric, output / PICTURE, labels, predicted, data.classes)
            print(f"{main_metric.replace('_', ' ')} {prediction.metrics[f'eval_{main_metric}']:.4f}")
    elif trainer.is_world_process_zero():
        draw(draw_training, trainer.state.log_history, main_metric, output / PICTURE)

    if trainer.is_world_process_zero() and data_arguments.skip_bad_images:
        print_bad_images(output)
    card = {"dataset": data_arguments.source, "dataset_tags": data_arguments.source}
    if (output / PICTURE).exists():
        card["text"] = CARD_TEXT
    if training.push_to_hub:
        trainer.push_to_hub(**card)
    elif training.do_train:
        trainer.create_model_card(**card)
    if trainer.is_world_process_zero():
        print_results(output, output / PICTURE, data)


def main():
    description = __doc__.split("\n\n")[0]
    arguments, data_arguments, augmentation, training = parse_arguments(
        FineTuningArguments, DataArguments, AugmentationArguments, Arguments, description=description
    )
    with plain_errors(Path(training.output_dir)):
        run(arguments, data_arguments, augmentation, training)


if __name__ == "__main__":
    main()
