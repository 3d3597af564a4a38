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
Train CrossViT from random weights by the paper's recipe (Table 9), on ImageNet-1k or any other images.

    accelerate launch --config_file examples/launch/four_nodes.yaml examples/pretrain_imagenet.py \\
        --train_dir imagenet --model_name_or_path VARIANT [--repeated_augmentation 3]

Top-1 accuracy to expect after 300 epochs on 32 GPUs, of the paper. `imagenet` has the folders train/CLASS/ and val/CLASS/; instead of
it a Hub data set (`--dataset_name`) or parquet or WebDataset shards (`--train_file 'shards/*.tar' --validation_file ... --streaming`).

    --model_name_or_path crossvit_tiny_240                                    73.4
    --model_name_or_path crossvit_small_240                                   81.0
    --model_name_or_path crossvit_base_240                                    82.2
    --model_name_or_path crossvit_9_240                                       73.9
    --model_name_or_path crossvit_15_240                                      81.5
    --model_name_or_path crossvit_18_240 --repeated_augmentation 3            82.5
    --model_name_or_path crossvit_9_dagger_240                                77.1
    --model_name_or_path crossvit_15_dagger_240                               82.3
    --model_name_or_path crossvit_18_dagger_240 --repeated_augmentation 3     82.8

The 408 models continue from the folders that these wrote, for 30 epochs:

    --recipe finetune --image_size 408 --model_name_or_path pretrained/crossvit_15_dagger_240    83.5
    --recipe finetune --image_size 408 --model_name_or_path pretrained/crossvit_18_dagger_240    83.9

Transfer to a smaller data set (CIFAR10: 99.0 with CrossViT-15, 99.1 with CrossViT-18):

    --recipe transfer --dataset_name cifar10 --model_name_or_path pretrained/crossvit_15_240

Nothing of this was measured with this script, for want of 32 GPUs. With the model and the digits that `make quickstart` has written, in
about 15 seconds on two CPU cores, to an accuracy of at least 0.95 (its augmentations are for photos, not for digits):

    python examples/pretrain_imagenet.py --recipe finetune --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --num_train_epochs 1 --global_batch_size 32 --per_device_train_batch_size 32 \\
        --learning_rate 5e-4
"""

import argparse
import json
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import ProjectConfiguration, set_seed
from accelerate_loop import LoopArguments, predict, save_results
from checkpointing import end_if_told, ignore_sigterm, load_checkpoint, note_sigterm, save_checkpoint
from command_line import parse_arguments
from datasets import IterableDataset
from datasets.distributed import split_dataset_by_node
from image_data import (
    DataArguments,
    ImageData,
    collate,
    leave_out_bad_images,
    load_images,
    random_numbers,
    transformed,
)
from image_model import LoadArguments, evaluation_transform, load_model
from timm.data import Mixup, create_transform
from timm.data.distributed_sampler import RepeatAugSampler
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from tqdm import tqdm
from training_report import load_metrics

from crossvit import CrossViTImageProcessor


# What is not said here is as in the first recipe. The paper gives the number of epochs of the fine-tuning; its learning rate and its
# weight decay are those of DeiT, on whose code the release is built.
RECIPES = {
    "imagenet": {},
    "finetune": {
        "num_train_epochs": 30,
        "global_batch_size": 512,
        "learning_rate": 5e-6,
        "min_learning_rate": 5e-6,
        "weight_decay": 1e-8,
        "warmup_epochs": 0,
    },
    "transfer": {
        "num_train_epochs": 1000,
        "global_batch_size": 768,
        "optimizer": "sgd",
        "learning_rate": 0.01 * 512 / 768,
        "weight_decay": 1e-4,
        "warmup_epochs": 5,
        "random_erasing": 0.0,
        "drop_path_rate": 0.0,
    },
}


@dataclass
class Arguments(LoopArguments):
    _argument_group_name = "training: the defaults are those of the recipe"

    recipe: str = field(default="imagenet", metadata={"help": f"One of {', '.join(RECIPES)}."})
    output_dir: str = field(default="outputs/pretrain_imagenet", metadata={"help": "Where everything is written."})
    num_train_epochs: int = field(default=300, metadata={"help": "How often each training image is seen."})
    global_batch_size: int = field(default=4096, metadata={"help": "Images per optimizer step, over all processes."})
    per_device_train_batch_size: int = field(
        default=128,
        metadata={"help": "Images per process and forward pass; batches are accumulated to the global one."},
    )
    per_device_eval_batch_size: int = field(default=192, metadata={"help": "The same in evaluation."})
    optimizer: str = field(default="adamw", metadata={"help": "adamw or sgd (with a momentum of 0.9)."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Per 512 images of the global batch."})
    min_learning_rate: float = field(default=1e-5, metadata={"help": "At the end of the cosine."})
    warmup_learning_rate: float = field(default=1e-6, metadata={"help": "At the start of the warm-up."})
    warmup_epochs: int = field(default=30, metadata={"help": "In which the learning rate rises."})
    weight_decay: float = field(default=0.05, metadata={"help": "Not for biases and normalisations."})
    rand_augment: str = field(default="rand-m9-mstd0.5-inc1", metadata={"help": "timm's name of the augmentation."})
    mixup: float = field(default=0.8, metadata={"help": "Alpha of mixup; 0 switches it off."})
    cutmix: float = field(default=1.0, metadata={"help": "Alpha of cutmix; 0 switches it off."})
    random_erasing: float = field(default=0.25, metadata={"help": "Part of the images in which a box is erased."})
    label_smoothing: float = field(default=0.1, metadata={"help": "Probability that is spread over all classes."})
    repeated_augmentation: int = field(
        default=1, metadata={"help": "How often an image comes in one epoch, which then sees that part of the images."}
    )
    logging_steps: int = field(default=50, metadata={"help": "Steps between two entries of the training loss."})


def recipe_defaults() -> dict:
    """Those of the recipe that the command line, or the JSON file there, names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default="imagenet", choices=RECIPES)
    known, others = parser.parse_known_args()
    name = known.recipe
    if len(others) == 1 and others[0].endswith(".json"):
        name = json.loads(Path(others[0]).read_text()).get("recipe", name)
    return {"drop_path_rate": 0.1, **RECIPES[name]}


def training_transform(image_processor: CrossViTImageProcessor, training: Arguments):
    """The released code's, from timm: random crop and flip, RandAugment, random erasing. PIL image to (3, H, W)."""
    return create_transform(
        input_size=image_processor.crop_size["height"],
        is_training=True,
        color_jitter=0.4,  # of which timm makes no use beside RandAugment
        auto_augment=training.rand_augment,
        interpolation="bicubic",
        mean=image_processor.image_mean,
        std=image_processor.image_std,
        re_prob=training.random_erasing,
        re_mode="pixel",
        re_count=1,
    )


def mixing(training: Arguments, num_classes: int) -> Mixup:
    """Mixup or cutmix, either half of the batches: pixel values and classes to pixel values and probabilities (B, classes)."""
    return Mixup(
        mixup_alpha=training.mixup,
        cutmix_alpha=training.cutmix,
        prob=float(training.mixup > 0 or training.cutmix > 0),
        switch_prob=0.5,
        label_smoothing=training.label_smoothing,
        num_classes=num_classes,
    )


def optimizer_and_schedule(model: torch.nn.Module, training: Arguments):
    """
    AdamW or SGD, with the release's groups: no weight decay on what has one dimension. The released model lists its CLS tokens and
    position embeddings as exempt too, but under names that none of its parameters has: they do decay.
    """
    groups = param_groups_weight_decay(model, training.weight_decay)
    learning_rate = training.learning_rate * training.global_batch_size / 512
    if training.optimizer == "sgd":
        optimizer = torch.optim.SGD(groups, lr=learning_rate, momentum=0.9, nesterov=True)
    else:
        optimizer = torch.optim.AdamW(groups, lr=learning_rate, eps=1e-8)
    return optimizer, CosineLRScheduler(
        optimizer,
        t_initial=training.num_train_epochs,
        lr_min=training.min_learning_rate,
        warmup_t=training.warmup_epochs,
        warmup_lr_init=training.warmup_learning_rate,
    )


class RepeatedAugmentationSampler(RepeatAugSampler):
    """
    Instance repetition: the shuffled images, each several times in a row, are dealt out to the processes in turn, until an epoch
    has as many as the data set. Pairs of the image and the number of its repetition, by which the augmentations differ.
    """

    def __init__(self, dataset, num_repeats: int, rank: int, world_size: int):
        super().__init__(dataset, world_size, rank, num_repeats=num_repeats, selected_round=0)

    def __iter__(self):
        for place, index in enumerate(super().__iter__()):
            yield index, (self.rank + place * self.num_replicas) % self.num_repeats

    def __len__(self) -> int:
        return self.num_selected_samples


def training_loader(data: ImageData, transform, training: Arguments, rank: int, world_size: int) -> DataLoader:
    """
    The images of one of the processes. Streams are divided by shards between the processes and their workers, and by samples between
    processes where the number of shards is no multiple of theirs.
    """
    split = data.splits["train"]
    options = {
        "batch_size": training.per_device_train_batch_size,
        "num_workers": training.dataloader_num_workers,
        "collate_fn": collate,
        "drop_last": True,
        "pin_memory": torch.cuda.is_available(),
        "worker_init_fn": ignore_sigterm,
        "generator": torch.Generator(),  # or starting an epoch would draw from that of the stochastic depth
    }
    if isinstance(split, IterableDataset):
        split = split_dataset_by_node(split, rank, world_size)
        return DataLoader(transformed(split, transform, data, training.seed, training=True), **options)
    images = transformed(split, transform, data, training.seed, training=True)
    sampler = RepeatedAugmentationSampler(images, training.repeated_augmentation, rank, world_size)
    return DataLoader(images, sampler=sampler, **options)


def start_epoch(loader: DataLoader, epoch: int):
    loader.dataset.set_epoch(epoch)
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)


def check(training: Arguments, data_arguments: DataArguments, world_size: int):
    if training.optimizer not in ("adamw", "sgd"):
        raise SystemExit(f"--optimizer is adamw or sgd, got {training.optimizer}.")
    if training.per_device_train_batch_size % 2:
        raise SystemExit(
            f"--per_device_train_batch_size must be even, to mix images in pairs; got {training.per_device_train_batch_size}."
        )
    batch_size = training.per_device_train_batch_size * world_size
    if training.global_batch_size % batch_size:
        raise SystemExit(
            f"--global_batch_size {training.global_batch_size} must be a multiple of --per_device_train_batch_size "
            f"{training.per_device_train_batch_size} x {world_size} processes = {batch_size}."
        )
    if data_arguments.streaming and training.num_train_samples is None:
        raise SystemExit("--streaming needs --num_train_samples: the length of a stream is not known.")
    if data_arguments.streaming and training.repeated_augmentation > 1:
        raise SystemExit("--repeated_augmentation needs images that can be read in any order: use no --streaming.")


def main():
    description = __doc__.split("\n\n")[0]
    load_arguments, data_arguments, training = parse_arguments(
        LoadArguments, DataArguments, Arguments, description=description, defaults=recipe_defaults()
    )
    output = Path(training.output_dir)
    accelerator = Accelerator(
        mixed_precision=training.mixed_precision,
        log_with=training.report_to,
        project_config=ProjectConfiguration(project_dir=training.output_dir, logging_dir=str(output / "logs")),
    )
    rank, world_size = accelerator.process_index, accelerator.num_processes
    check(training, data_arguments, world_size)
    accumulation = training.global_batch_size // (training.per_device_train_batch_size * world_size)
    set_seed(training.seed)
    if accelerator.is_main_process:
        training.create_repository()

    # Data and model
    with accelerator.main_process_first():
        data = load_images(data_arguments, training.seed)
        if data_arguments.skip_bad_images:
            leave_out_bad_images(data, output, accelerator.is_main_process, training.dataloader_num_workers or None)
    if data.multi_label:
        raise SystemExit("This recipe is for one label per image.")
    model, image_processor = load_model(load_arguments, data)
    loader = training_loader(data, training_transform(image_processor, training), training, rank, world_size)
    eval_images = transformed(data.splits["validation"], evaluation_transform(image_processor), data)
    eval_loader = DataLoader(
        eval_images,
        batch_size=training.per_device_eval_batch_size,
        collate_fn=collate,
        num_workers=training.dataloader_num_workers,
        worker_init_fn=ignore_sigterm,
    )
    mix = mixing(training, len(data.classes))
    samples = training.num_train_samples if data_arguments.streaming else len(data.splits["train"])
    steps_per_epoch = samples // training.global_batch_size
    if steps_per_epoch == 0:
        raise SystemExit(
            f"--global_batch_size {training.global_batch_size} is more than the {samples} training images."
        )

    optimizer, schedule = optimizer_and_schedule(model, training)
    # The training batches are divided already; each process moves its own to its device.
    model, optimizer, eval_loader = accelerator.prepare(model, optimizer, eval_loader)
    metric = load_metrics(multi_label=False)
    if training.report_to:
        accelerator.init_trackers("pretrain_imagenet", config=training.logged)

    # Training
    step, log = load_checkpoint(accelerator, output)
    note_sigterm(accelerator)
    steps = training.num_train_epochs * steps_per_epoch
    progress = tqdm(total=steps, initial=step, desc="training", disable=not accelerator.is_main_process)
    model.train()
    while step < steps:
        epoch, steps_done = divmod(step, steps_per_epoch)
        start_epoch(loader, epoch)
        schedule.step(epoch)
        batches = iter(skip_first_batches(loader, steps_done * accumulation))
        for step in range(step + 1, (epoch + 1) * steps_per_epoch + 1):
            mean_loss = 0.0
            for number, batch in enumerate(islice(batches, accumulation)):
                with random_numbers(training.seed, rank, step, number):
                    pixel_values, targets = mix(batch["pixel_values"], batch["labels"])
                pixel_values, targets = pixel_values.to(accelerator.device), targets.to(accelerator.device)
                # The processes exchange their gradients once per step.
                with accelerator.no_sync(model) if number < accumulation - 1 else nullcontext():
                    with accelerator.autocast():
                        logits = model(pixel_values).logits
                    loss = cross_entropy(logits.float(), targets) / accumulation
                    accelerator.backward(loss)
                mean_loss += loss.detach()
            optimizer.step()
            optimizer.zero_grad()
            progress.update()
            if step % training.logging_steps == 0 or step == 1:
                log.append({"step": step, "loss": accelerator.reduce(mean_loss, "mean").item()})
                rate = optimizer.param_groups[0]["lr"]
                accelerator.log({"loss": log[-1]["loss"], "learning_rate": rate}, step=step)
                progress.set_postfix(epoch=epoch, loss=f"{log[-1]['loss']:.3f}", lr=f"{rate:.2e}")
            if step % steps_per_epoch != 0:
                end_if_told(accelerator, output, step, log, training.keep_checkpoints)
        scores, labels = predict(accelerator, model, eval_loader)
        metrics = metric.compute(predictions=scores.numpy(), references=labels.numpy())
        metrics = {"loss": cross_entropy(scores, labels).item(), **metrics}
        log.append({"step": step, **{f"eval_{name}": value for name, value in metrics.items()}})
        accelerator.log(log[-1], step=step)
        accelerator.print(f"epoch {epoch + 1}: " + ", ".join(f"{name} {value:.4g}" for name, value in metrics.items()))
        save_checkpoint(accelerator, output, step, log, training.keep_checkpoints)
        end_if_told(accelerator, output, step, log, training.keep_checkpoints)
    progress.close()

    # Results
    scores, labels = predict(accelerator, model, eval_loader)
    state_dict = accelerator.get_state_dict(model)  # all processes give their parts, if they share the model
    accelerator.end_training()
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(model)
        model.save_pretrained(output, state_dict=state_dict)
        save_results(model, image_processor, training, data_arguments, data, log, scores, labels)


if __name__ == "__main__":
    main()
