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
Fine-tune CrossViT for image classification with a training loop of plain PyTorch and `accelerate`, for users who want to change the loop.

    accelerate launch examples/run_image_classification_no_trainer.py \\
        --model_name_or_path timm/crossvit_15_dagger_240.in1k --train_dir my_photos

Model and data are given as for run_image_classification.py. The same command continues an interrupted run from its last complete
checkpoint. After SIGTERM or Ctrl-C, the run saves a checkpoint before it ends.

With the model and the digits of `make quickstart`, it takes about 20 seconds on two CPU cores and reaches an accuracy of at least 0.97.
The last two options keep most of each digit in the crop, and do not mirror it:

    accelerate launch --cpu examples/run_image_classification_no_trainer.py --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --num_train_epochs 1 --random_crop_scale 0.7 --no_horizontal_flip
"""

import json
import math
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, parse_flag_from_env, set_seed
from huggingface_hub import create_repo, upload_folder
from PIL.Image import Image
from timm.optim import param_groups_weight_decay
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm
from transformers import get_scheduler

from crossvit import CrossViTImageProcessor
from crossvit.configuration.files import check_writable
from crossvit.data import DataArguments, EvaluationTransform, ImageData, load_images, print_bad_images
from crossvit.hub import SAVED_FILES, complete_model_card
from crossvit.modeling_crossvit import image_classification_loss
from crossvit.trainer import (
    CARD_TEXT,
    PICTURE,
    ModelArguments,
    StopSignals,
    check_model,
    check_run,
    compute_metrics,
    draw,
    draw_training,
    end_after_signal,
    load_checkpoint,
    load_model,
    parse_arguments,
    plain_errors,
    print_results,
    save_checkpoint,
    trained_weights,
)


# Options that change what is trained: a folder of a run is not continued with other values of them. A run may be continued for more epochs,
# with other intervals, or on another number of processes.
RUN_OPTIONS = {
    "model_name_or_path", "config_name", "image_size", "drop_path_rate", "dtype", "freeze_backbone", "lora_rank", "class_weights", "image_range",
    "random_crop_scale", "horizontal_flip", "vertical_flip", "quarter_turns", "learning_rate", "weight_decay", "max_grad_norm",
    "lr_scheduler_type", "seed",
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
class Arguments:
    _argument_group_name = "training"

    output_dir: str = field(
        default="outputs/run_image_classification_no_trainer",
        metadata={"help": "Folder for all files that are written."},
    )
    num_train_epochs: int = field(default=3, metadata={"help": "How often each training image is seen."})
    max_train_steps: int | None = field(
        default=None, metadata={"help": "Number of optimizer steps, in place of --num_train_epochs."}
    )
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Images per process and forward pass."})
    per_device_eval_batch_size: int = field(
        default=8, metadata={"help": "Images per process and forward pass in evaluation."}
    )
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Number of batches per optimizer step."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Largest learning rate, after the warm-up."})
    weight_decay: float = field(
        default=0.0, metadata={"help": "Weight decay of AdamW. Biases and normalisations have none."}
    )
    max_grad_norm: float = field(default=1.0, metadata={"help": "Larger gradients are scaled down to this norm."})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "A name of transformers, such as cosine."})
    num_warmup_steps: int = field(default=0, metadata={"help": "Number of steps in which the learning rate rises."})
    checkpointing_steps: int | None = field(
        default=None, metadata={"help": "Number of steps between checkpoints. By default one checkpoint per epoch."}
    )
    num_train_samples: int | None = field(
        default=None,
        metadata={"help": "Number of training images, needed for a stream (ImageNet-1k: 1281167)."},
    )
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16 or bf16. By default that of `accelerate config`."}
    )
    logging_steps: int = field(default=10, metadata={"help": "Number of steps between two logged training losses."})
    torch_compile: bool = field(default=False, metadata={"help": "Compile the model, for training on a GPU."})
    save_total_limit: int = field(default=2, metadata={"help": "Number of newest checkpoints to keep."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Number of processes that read images, per GPU."})
    report_to: str | None = field(
        default=None, metadata={"help": "Tracker of losses and metrics: tensorboard, trackio, wandb, ..."}
    )
    seed: int = field(default=0, metadata={"help": "The same seed gives the same result on the same machine."})
    push_to_hub: bool = field(default=False, metadata={"help": "Publish the model on the Hub at the end."})
    hub_model_id: str | None = field(
        default=None,
        metadata={"help": "Repository on the Hub, as USER/NAME. By default your name and that of the output folder."},
    )
    hub_token: str | None = field(
        default=None, metadata={"help": "Token for the Hub. By default that of `hf auth login`."}
    )

    @property
    def logged(self) -> dict[str, int | float | str | bool]:
        """The options for trackers: those that have a value, without the secret token."""
        return {name: value for name, value in asdict(self).items() if value is not None and name != "hub_token"}

    def create_repository(self):
        """Creates the repository on the Hub, if the model will be published: a wrong token must show before the training, not after it."""
        if self.push_to_hub:
            name = self.hub_model_id or Path(self.output_dir).absolute().name
            self.hub_model_id = create_repo(name, token=self.hub_token, exist_ok=True).repo_id


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


def check_arguments(arguments: FineTuningArguments, data_arguments: DataArguments, training: Arguments):
    """Raises a ValueError if the arguments contradict each other."""
    if data_arguments.streaming and training.num_train_samples is None:
        raise ValueError("--streaming needs --num_train_samples, because the length of a stream is not known.")
    if not data_arguments.streaming and training.num_train_samples is not None:
        raise ValueError(
            "--num_train_samples is for --streaming; these images are counted. To train on some of them give --max_train_samples."
        )
    if arguments.class_weights not in (None, "balanced"):
        raise ValueError(f"--class_weights must be `balanced` or left out, got {arguments.class_weights}.")
    if data_arguments.streaming and arguments.class_weights:
        raise ValueError(
            "--class_weights must count the images first, but a stream is read while training: leave out one of "
            "--class_weights and --streaming."
        )


def prepare(
    arguments: FineTuningArguments, data_arguments: DataArguments, augmentation: AugmentationArguments, training: Arguments, accelerator: Accelerator
):  # fmt: skip
    """The images, the model, its image processor, the transform of the training images, and class weights. Mistakes are ValueErrors."""
    check_arguments(arguments, data_arguments, training)
    output, workers = Path(training.output_dir), training.dataloader_num_workers
    # Before the images, which may take long.
    check_writable(output)
    check_model(arguments)
    if accelerator.is_main_process:
        training.create_repository()
    download = {"cache_dir": arguments.cache_dir, "token": arguments.token}
    data = load_images(data_arguments, training.seed, output, num_workers=workers, **download)
    model, image_processor, data = load_model(arguments, data)
    options = {**vars(arguments), **vars(augmentation), **vars(data_arguments), **vars(training)}
    options = {name: value for name, value in options.items() if name in RUN_OPTIONS}
    images_per_step = (
        training.per_device_train_batch_size * accelerator.num_processes * training.gradient_accumulation_steps
    )
    check_run(output, data, {**options, "images_per_step": images_per_step})
    weights = data.class_weights() if arguments.class_weights else None
    return (
        data,
        choose_parameters(model, arguments),
        image_processor,
        TrainingTransform(image_processor, augmentation),
        weights,
    )


@torch.no_grad()
def predict(accelerator: Accelerator, model, data_loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns the scores (N, classes) and the labels (N,) of all images, each once."""
    model.eval()
    scores, labels = [], []
    for batch in tqdm(data_loader, desc="evaluating", disable=not accelerator.is_main_process, leave=False):
        # accelerate fills up the last batch with earlier images, so that all processes have equally many. This drops them again.
        batch_scores, batch_labels = accelerator.gather_for_metrics(
            (model(batch["pixel_values"]).logits, batch["labels"])
        )
        scores.append(batch_scores.float().cpu())
        labels.append(batch_labels.cpu())
    model.train()
    return torch.cat(scores), torch.cat(labels)


def save_results(
    model, image_processor, arguments: Arguments, data_arguments: DataArguments, data: ImageData, log: list[dict], scores=None, labels=None
):  # fmt: skip
    """
    Writes the image processor, the model card, the metrics of the last entry of the log (all_results.json) and their picture. With
    `--push_to_hub`, publishes them with the model. There are no scores and labels without images to evaluate on.
    """
    output = Path(arguments.output_dir)
    metric = "mean_average_precision" if data.multi_label else "accuracy"
    # The last entry, if it is of an evaluation.
    results = {name: value for name, value in log[-1].items() if name.startswith("eval_")}
    (output / "all_results.json").write_text(json.dumps(results, indent=4))
    image_processor.save_pretrained(output)
    metrics = {name.removeprefix("eval_"): value for name, value in results.items() if name != "eval_loss"}
    name = arguments.hub_model_id or str(output)
    card = complete_model_card(None, model, name, dataset=data_arguments.source, metrics=metrics, text=CARD_TEXT)
    card.save(output / "README.md")
    one_label = scores is not None and not data.multi_label
    confusion = (labels.numpy(), scores.argmax(dim=-1).numpy(), data.classes) if one_label else ()
    draw(draw_training, log, metric, output / PICTURE, *confusion)
    if data_arguments.skip_bad_images:
        print_bad_images(output)
    if scores is not None:
        print(f"{metric.replace('_', ' ')} {results[f'eval_{metric}']:.4f}")
    print_results(output, output / PICTURE, data)
    if arguments.push_to_hub:
        upload_folder(
            repo_id=name,
            folder_path=output,
            allow_patterns=[*SAVED_FILES, "all_results.json", PICTURE],
            ignore_patterns="*/*",  # checkpoints
            commit_message="Upload the trained model",
            token=arguments.hub_token,
        )
        print(f"published as {name}")


def run(
    arguments: FineTuningArguments,
    data_arguments: DataArguments,
    augmentation: AugmentationArguments,
    training: Arguments,
):
    output = Path(training.output_dir)
    accelerator = Accelerator(
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        mixed_precision=training.mixed_precision,
        log_with=training.report_to,
        # The order of the images depends on the seed and the epoch only, so that a continued run finds its place in it.
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=training.seed),
        project_config=ProjectConfiguration(project_dir=training.output_dir, logging_dir=str(output / "logs")),
    )
    set_seed(training.seed)

    # Data and model
    data, model, image_processor, transform, weights = prepare(
        arguments, data_arguments, augmentation, training, accelerator
    )
    weights = None if weights is None else weights.to(accelerator.device)
    train_images = data.with_transform("train", transform, training.seed)
    train_loader = DataLoader(
        train_images,
        batch_size=training.per_device_train_batch_size,
        shuffle=not data_arguments.streaming,  # load_images has shuffled a stream already
        # Without it, the start of an epoch would draw a random number, and change those of the stochastic depth.
        generator=torch.Generator(),
        num_workers=training.dataloader_num_workers,
    )
    eval_loader = None
    if "validation" in data.splits:
        eval_loader = DataLoader(
            data.with_transform("validation", EvaluationTransform(image_processor)),
            batch_size=training.per_device_eval_batch_size,
            num_workers=training.dataloader_num_workers,
        )

    # Optimizer and schedule
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, training.weight_decay), lr=training.learning_rate)
    model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)
    if training.torch_compile:
        accelerator.unwrap_model(model).compile()
    samples = training.num_train_samples if data_arguments.streaming else len(train_images)
    batches_per_epoch = math.ceil(samples / (training.per_device_train_batch_size * accelerator.num_processes))
    steps_per_epoch = math.ceil(batches_per_epoch / training.gradient_accumulation_steps)
    steps = training.max_train_steps or training.num_train_epochs * steps_per_epoch
    scheduler = get_scheduler(training.lr_scheduler_type, optimizer, training.num_warmup_steps, steps)
    accelerator.register_for_checkpointing(scheduler)
    checkpointing_steps = training.checkpointing_steps or steps_per_epoch
    if training.report_to:
        accelerator.init_trackers("run_image_classification_no_trainer", config=training.logged)

    def evaluate_model() -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the metrics to the log, and returns the scores and the labels."""
        scores, labels = predict(accelerator, model, eval_loader)
        loss = image_classification_loss(labels, scores, accelerator.unwrap_model(model).config).item()
        metrics = compute_metrics(scores.numpy(), labels.numpy())
        log.append({"step": step, "eval_loss": loss, **{f"eval_{name}": value for name, value in metrics.items()}})
        accelerator.log(log[-1], step=step)
        accelerator.print(", ".join(f"{name} {value:.4g}" for name, value in log[-1].items()))
        return scores, labels

    # Training
    step, log = load_checkpoint(accelerator, output)
    signals = StopSignals(accelerator)
    progress = tqdm(total=steps, initial=step, desc="training", disable=not accelerator.is_main_process)
    model.train()
    while step < steps:
        epoch, steps_done = divmod(step, steps_per_epoch)
        train_images.set_epoch(epoch)
        train_loader.set_epoch(epoch)
        batches = train_loader
        if steps_done:
            batches = accelerator.skip_first_batches(train_loader, steps_done * training.gradient_accumulation_steps)
            batches.set_epoch(epoch)
        for batch in batches:
            with accelerator.accumulate(model):
                outputs = model(**batch)
                loss = (
                    outputs.loss if weights is None else classification_loss(outputs, batch["labels"], weights=weights)
                )
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(model.parameters(), training.max_grad_norm)
                optimizer.step()
                optimizer.zero_grad()
            if not accelerator.sync_gradients:
                continue
            scheduler.step()
            step += 1
            progress.update()
            if step % training.logging_steps == 0 or step == 1:
                log.append({"step": step, "loss": accelerator.reduce(loss.detach(), "mean").item()})
                accelerator.log({"loss": log[-1]["loss"], "learning_rate": scheduler.get_last_lr()[0]}, step=step)
                progress.set_postfix(loss=f"{log[-1]['loss']:.3f}")
            if step % steps_per_epoch == 0 and step < steps and eval_loader is not None:
                evaluate_model()
            if step % checkpointing_steps == 0 or step == steps:
                save_checkpoint(accelerator, output, step, log, training.save_total_limit)
            end_after_signal(signals, output, step, log, training.save_total_limit)
            # A stream for training is endless: its epoch ends here.
            if step == steps or (data_arguments.streaming and step % steps_per_epoch == 0):
                break
    progress.close()

    # Results
    evaluated = evaluate_model() if eval_loader is not None else ()
    model, state_dict = trained_weights(accelerator, model)
    accelerator.end_training()
    if accelerator.is_main_process:
        if arguments.lora_rank is not None:
            model, state_dict = model.merge_and_unload(), None
        model.save_pretrained(output, state_dict=state_dict)
        save_results(model, image_processor, training, data_arguments, data, log, *evaluated)


def main():
    description = __doc__.split("\n\n")[0]
    arguments, data_arguments, augmentation, training = parse_arguments(
        FineTuningArguments, DataArguments, AugmentationArguments, Arguments, description=description
    )
    with plain_errors(Path(training.output_dir)):
        run(arguments, data_arguments, augmentation, training)


if __name__ == "__main__":
    main()
