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
        --train_dir imagenet --config_name VARIANT [--repeated_augmentation 3]

`imagenet` has the folders train/CLASS/ and val/CLASS/. The images may also be a data set on the Hub (`--dataset_name`), or parquet or
WebDataset shards (`--train_file 'shards/*.tar' --validation_file ... --streaming`). The numbers are the top-1 accuracies in the paper,
after 300 epochs on 32 GPUs:

    --config_name crossvit_tiny_240                                    73.4
    --config_name crossvit_small_240                                   81.0
    --config_name crossvit_base_240                                    82.2
    --config_name crossvit_9_240                                       73.9
    --config_name crossvit_15_240                                      81.5
    --config_name crossvit_18_240 --repeated_augmentation 3            82.5
    --config_name crossvit_9_dagger_240                                77.1
    --config_name crossvit_15_dagger_240                               82.3
    --config_name crossvit_18_dagger_240 --repeated_augmentation 3     82.8

The models for 408 pixels start from the output folders of these commands, and train for 30 epochs:

    --recipe finetune --image_size 408 --model_name_or_path pretrained/crossvit_15_dagger_240    83.5
    --recipe finetune --image_size 408 --model_name_or_path pretrained/crossvit_18_dagger_240    83.9

Transfer to a smaller data set (CIFAR10: 99.0 with CrossViT-15, 99.1 with CrossViT-18):

    --recipe transfer --dataset_name cifar10 --model_name_or_path pretrained/crossvit_15_240

These accuracies were not measured with this script, because we had no 32 GPUs. With the model and the digits of `make quickstart`, it
takes about 15 seconds on two CPU cores and reaches an accuracy of at least 0.95, although its augmentations are made for photos:

    python examples/pretrain_imagenet.py --recipe finetune --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --num_train_epochs 1 --global_batch_size 32 --per_device_train_batch_size 32 \\
        --learning_rate 5e-4
"""

import argparse
import json
import random
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch
from accelerate import Accelerator, skip_first_batches
from accelerate.utils import ProjectConfiguration, set_seed
from datasets.distributed import split_dataset_by_node
from huggingface_hub import create_repo, upload_folder
from timm.data import Mixup, create_transform
from timm.data.auto_augment import rand_augment_transform
from timm.data.distributed_sampler import RepeatAugSampler
from timm.data.random_erasing import RandomErasing
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.transforms import v2
from tqdm import tqdm

from crossvit import CrossViTImageProcessor
from crossvit.configuration.files import check_writable
from crossvit.data import DataArguments, EvaluationTransform, ImageData, load_images, print_bad_images
from crossvit.data.samples import AugmentedStream, seeded_random_numbers
from crossvit.hub import SAVED_FILES, complete_model_card
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
    "model_name_or_path", "config_name", "image_size", "drop_path_rate", "dtype", "image_range", "rand_augment", "mixup", "cutmix", "random_erasing",
    "augment_on_device",
    "label_smoothing_factor", "repeated_augmentation", "recipe", "optimizer", "learning_rate", "min_learning_rate", "warmup_learning_rate",
    "weight_decay", "seed",
}  # fmt: skip

# Options that a recipe does not name have the defaults of `Arguments`, which are the recipe `imagenet`. The paper gives the number of
# epochs of the fine-tuning; its learning rate and weight decay are those of DeiT, because the released code is built on DeiT's.
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
class Arguments:
    _argument_group_name = "training: the defaults are those of the recipe"

    recipe: str = field(default="imagenet", metadata={"help": f"One of {', '.join(RECIPES)}."})
    output_dir: str = field(
        default="outputs/pretrain_imagenet", metadata={"help": "Folder for all files that are written."}
    )
    num_train_epochs: int = field(default=300, metadata={"help": "How often each training image is seen."})
    global_batch_size: int = field(default=4096, metadata={"help": "Images per optimizer step, over all processes."})
    per_device_train_batch_size: int = field(
        default=128,
        metadata={"help": "Images per process and forward pass. Batches are accumulated to the global batch size."},
    )
    per_device_eval_batch_size: int = field(
        default=192, metadata={"help": "Images per process and forward pass in evaluation."}
    )
    optimizer: str = field(default="adamw", metadata={"help": "adamw or sgd (with a momentum of 0.9)."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Learning rate per 512 images of the global batch."})
    min_learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate at the end of the cosine."})
    warmup_learning_rate: float = field(default=1e-6, metadata={"help": "Learning rate at the start of the warm-up."})
    warmup_epochs: int = field(default=30, metadata={"help": "Number of epochs in which the learning rate rises."})
    weight_decay: float = field(
        default=0.05, metadata={"help": "Weight decay of all parameters but biases and normalisations."}
    )
    rand_augment: str = field(
        default="rand-m9-mstd0.5-inc1", metadata={"help": "RandAugment, in timm's notation; '' switches it off."}
    )
    mixup: float = field(default=0.8, metadata={"help": "Alpha of mixup; 0 switches it off."})
    cutmix: float = field(default=1.0, metadata={"help": "Alpha of cutmix; 0 switches it off."})
    random_erasing: float = field(default=0.25, metadata={"help": "Fraction of the images in which a box is erased."})
    label_smoothing_factor: float = field(
        default=0.1, metadata={"help": "Probability that is spread over all classes."}
    )
    repeated_augmentation: int = field(
        default=1,
        metadata={
            "help": "How often an image comes in one epoch. With 3, an epoch has a third of the images, each three times."
        },
    )
    logging_steps: int = field(default=50, metadata={"help": "Number of steps between two logged training losses."})
    num_train_samples: int | None = field(
        default=None,
        metadata={"help": "Number of training images, needed for a stream (ImageNet-1k: 1281167)."},
    )
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16 or bf16. By default that of `accelerate config`."}
    )
    torch_compile: bool = field(default=False, metadata={"help": "Compile the model, for training on a GPU."})
    augment_on_device: bool = field(
        default=False,
        metadata={
            "help": "RandAugment, normalisation and random erasing on the GPU, for machines with few cores per GPU; see `BatchAugmentation`."
        },
    )
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


def recipe_defaults() -> dict:
    """The defaults of the recipe that the command line names, or the JSON file on the command line."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", default="imagenet", choices=RECIPES)
    known, others = parser.parse_known_args()
    name = known.recipe
    if len(others) == 1 and others[0].endswith(".json"):
        with suppress(OSError, ValueError):  # parse_arguments says what is wrong with the file
            name = json.loads(Path(others[0]).expanduser().read_text()).get("recipe", name)
    if name not in RECIPES:
        raise SystemExit(f"The recipe must be one of {', '.join(RECIPES)}, got {name}.")
    return {"drop_path_rate": 0.1, **RECIPES[name]}


def training_transform(image_processor: CrossViTImageProcessor, training: Arguments):
    """
    timm's augmentations, as in the released code: random crop and flip, RandAugment, random erasing. PIL image to (3, H, W). With
    `--augment_on_device`, crop and flip alone, and bytes.
    """
    return create_transform(
        input_size=image_processor.crop_size["height"],
        is_training=True,
        # 0.4 as in the released code, although timm ignores it beside RandAugment
        color_jitter=None if training.augment_on_device else 0.4,
        auto_augment=None if training.augment_on_device else training.rand_augment,
        interpolation="bicubic",
        mean=image_processor.image_mean,
        std=image_processor.image_std,
        re_prob=training.random_erasing,
        re_mode="pixel",
        re_count=1,
        use_prefetcher=training.augment_on_device,  # timm then leaves the rest to the device, too
    )


class BatchAugmentation(torch.nn.Module):
    """
    The rest of the recipe on the device of a batch, (B, 3, H, W) of bytes to pixel values of the same shape. Random erasing is timm's, as in
    the other way. timm's RandAugment needs Pillow, so that this is torchvision's, with the number of operations, their probability and their
    strength that timm's notation says. torchvision has no Invert and no SolarizeAdd, reduces the bits of a channel less, and interpolates
    linearly. Groups of eight images get the same operations, because each operation on a GPU takes as long for eight images as for one.
    """

    GROUP = 8

    def __init__(self, image_processor: CrossViTImageProcessor, training: Arguments, device: torch.device):
        super().__init__()
        mean, std = image_processor.image_mean, image_processor.image_std
        self.fill = [round(255 * value) for value in mean]
        self.policy = rand_augment_transform(training.rand_augment, {}) if training.rand_augment else None
        self.normalize = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
        self.erase = RandomErasing(training.random_erasing, mode="pixel", device=device)

    def rand_augment(self, images: torch.Tensor) -> torch.Tensor:
        """One operation for all of the images, or none."""
        operation = random.choice(self.policy.ops)
        if random.random() > operation.prob:
            return images
        # timm counts magnitudes from 0 to 10, and torchvision from 0 to 30.
        magnitude = round(3 * random.gauss(operation.magnitude, operation.magnitude_std))
        return v2.RandAugment(
            1, min(max(magnitude, 0), 30), interpolation=v2.InterpolationMode.BILINEAR, fill=self.fill
        )(images)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        groups = list(images.split(self.GROUP))
        for _ in range(self.policy.num_layers if self.policy else 0):
            groups = [self.rand_augment(group) for group in groups]
        return self.erase(self.normalize(torch.cat(groups)))


def mixup_or_cutmix(training: Arguments, num_classes: int) -> Mixup:
    """
    Mixes the images of a batch, half of the batches by mixup and half by cutmix. Takes pixel values and classes, and returns pixel
    values and probabilities (B, classes).
    """
    return Mixup(
        mixup_alpha=training.mixup,
        cutmix_alpha=training.cutmix,
        prob=float(training.mixup > 0 or training.cutmix > 0),
        switch_prob=0.5,
        label_smoothing=training.label_smoothing_factor,
        num_classes=num_classes,
    )


def optimizer_and_schedule(model: torch.nn.Module, training: Arguments):
    """
    AdamW or SGD. As in the released code, parameters of one dimension have no weight decay, and all others have it. (The released
    model wants to exempt its CLS tokens and position embeddings too, but gives names that no parameter has, so they decay.)
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
    Repeats each of the shuffled images several times in a row, and deals them out to the processes in turn. An epoch ends after as
    many images as the data set has. It gives pairs of the index of an image and the index of its repetition, because repeated images are
    augmented differently.
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
    Loads the images of one process. A stream is divided by shards between the processes and their workers. If the number of shards is
    no multiple of the number of processes, it is divided by images between the processes.
    """
    images = data.with_transform("train", transform, training.seed)
    options = {
        "batch_size": training.per_device_train_batch_size,
        "num_workers": training.dataloader_num_workers,
        "drop_last": True,
        "pin_memory": torch.cuda.is_available(),
        # Without it, the start of an epoch would draw a random number, and change those of the stochastic depth.
        "generator": torch.Generator(),
    }
    if isinstance(images, AugmentedStream):
        images.dataset = split_dataset_by_node(images.dataset, rank, world_size)
        return DataLoader(images, **options)
    sampler = RepeatedAugmentationSampler(images, training.repeated_augmentation, rank, world_size)
    return DataLoader(images, sampler=sampler, **options)


def start_epoch(loader: DataLoader, epoch: int):
    """Sets the epoch that the order and the augmentation of the images depend on."""
    loader.dataset.set_epoch(epoch)
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)


def check_arguments(training: Arguments, data_arguments: DataArguments, world_size: int):
    """Raises a ValueError if the arguments contradict each other."""
    if training.optimizer not in ("adamw", "sgd"):
        raise ValueError(f"--optimizer must be adamw or sgd, got {training.optimizer}.")
    try:
        training_transform(CrossViTImageProcessor(), training)
    except (AssertionError, ValueError, KeyError):  # timm's, without a word about the notation
        raise ValueError(
            f"--rand_augment must be in timm's notation, such as rand-m9-mstd0.5-inc1, or '', got {training.rand_augment}."
        ) from None
    if training.per_device_train_batch_size % 2:
        raise ValueError(
            f"--per_device_train_batch_size must be even, because images are mixed in pairs; got {training.per_device_train_batch_size}."
        )
    batch_size = training.per_device_train_batch_size * world_size
    if training.global_batch_size % batch_size:
        raise ValueError(
            f"--global_batch_size {training.global_batch_size} must be a multiple of --per_device_train_batch_size "
            f"{training.per_device_train_batch_size} x {world_size} processes = {batch_size}."
        )
    if data_arguments.streaming and training.num_train_samples is None:
        raise ValueError("--streaming needs --num_train_samples, because the length of a stream is not known.")
    if not data_arguments.streaming and training.num_train_samples is not None:
        raise ValueError(
            "--num_train_samples is for --streaming; these images are counted. To train on some of them give --max_train_samples."
        )
    if data_arguments.streaming and training.repeated_augmentation > 1:
        raise ValueError(
            "--repeated_augmentation needs images that can be read in any order, but a stream has one order: leave out --streaming."
        )


def prepare(
    load_arguments: ModelArguments, data_arguments: DataArguments, training: Arguments, accelerator: Accelerator
):
    """The images, the model, its image processor, and the number of steps per epoch. Mistakes are ValueErrors."""
    check_arguments(training, data_arguments, accelerator.num_processes)
    output, workers = Path(training.output_dir), training.dataloader_num_workers
    # Before the images, which may take long.
    check_writable(output)
    check_model(load_arguments)
    if accelerator.is_main_process:
        training.create_repository()
    download = {"cache_dir": load_arguments.cache_dir, "token": load_arguments.token}
    data = load_images(data_arguments, training.seed, output, num_workers=workers, **download)
    if data.multi_label:
        raise ValueError(
            "The images have several labels each, expected one: use run_image_classification.py, or give --label_column_name."
        )
    model, image_processor, data = load_model(load_arguments, data)
    options = {**vars(load_arguments), **vars(data_arguments), **vars(training)}
    options = {name: value for name, value in options.items() if name in RUN_OPTIONS}
    check_run(output, data, {**options, "images_per_step": training.global_batch_size})
    samples = training.num_train_samples if data_arguments.streaming else len(data.splits["train"])
    if samples < training.global_batch_size:
        raise ValueError(
            f"--global_batch_size {training.global_batch_size} is more than the number of training images, {samples}: give a smaller one."
        )
    return data, model, image_processor, samples // training.global_batch_size


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
    # The last entry, if it is of an evaluation.
    results = {name: value for name, value in log[-1].items() if name.startswith("eval_")}
    (output / "all_results.json").write_text(json.dumps(results, indent=4))
    image_processor.save_pretrained(output)
    metrics = {name.removeprefix("eval_"): value for name, value in results.items() if name != "eval_loss"}
    name = arguments.hub_model_id or str(output)
    card = complete_model_card(None, model, name, dataset=data_arguments.source, metrics=metrics, text=CARD_TEXT)
    card.save(output / "README.md")
    confusion = () if scores is None else (labels.numpy(), scores.argmax(dim=-1).numpy(), data.classes)
    draw(draw_training, log, "accuracy", output / PICTURE, *confusion)
    if data_arguments.skip_bad_images:
        print_bad_images(output)
    if scores is not None:
        print(f"accuracy {results['eval_accuracy']:.4f}")
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


def run(load_arguments: ModelArguments, data_arguments: DataArguments, training: Arguments):
    output = Path(training.output_dir)
    accelerator = Accelerator(
        mixed_precision=training.mixed_precision,
        log_with=training.report_to,
        project_config=ProjectConfiguration(project_dir=training.output_dir, logging_dir=str(output / "logs")),
    )
    rank, world_size = accelerator.process_index, accelerator.num_processes
    set_seed(training.seed)

    # Data and model
    data, model, image_processor, steps_per_epoch = prepare(load_arguments, data_arguments, training, accelerator)
    accumulation = training.global_batch_size // (training.per_device_train_batch_size * world_size)
    loader = training_loader(data, training_transform(image_processor, training), training, rank, world_size)
    eval_loader = None
    if "validation" in data.splits:
        eval_loader = DataLoader(
            data.with_transform("validation", EvaluationTransform(image_processor)),
            batch_size=training.per_device_eval_batch_size,
            num_workers=training.dataloader_num_workers,
        )
    mix = mixup_or_cutmix(training, len(data.classes))
    augment = None
    if training.augment_on_device:
        augment = BatchAugmentation(image_processor, training, accelerator.device)

    optimizer, schedule = optimizer_and_schedule(model, training)
    # Not the training loader, because its images are divided already. Each process moves its batches to its device itself.
    model, optimizer, eval_loader = accelerator.prepare(model, optimizer, eval_loader)
    if training.torch_compile:
        accelerator.unwrap_model(model).compile()
    if training.report_to:
        accelerator.init_trackers("pretrain_imagenet", config=training.logged)

    # Training
    step, log = load_checkpoint(accelerator, output)
    signals = StopSignals(accelerator)
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
            for index, batch in enumerate(islice(batches, accumulation)):
                pixel_values, labels = (
                    batch[name].to(accelerator.device, non_blocking=True) for name in ("pixel_values", "labels")
                )
                with seeded_random_numbers(training.seed, rank, step, index):
                    pixel_values, targets = mix(augment(pixel_values) if augment else pixel_values, labels)
                # The processes exchange their gradients only with the last batch of a step.
                with accelerator.no_sync(model) if index < accumulation - 1 else nullcontext():
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
                end_after_signal(signals, output, step, log, training.save_total_limit)
        if eval_loader is not None:
            scores, labels = predict(accelerator, model, eval_loader)
            metrics = compute_metrics(scores.numpy(), labels.numpy())
            metrics = {"loss": cross_entropy(scores, labels).item(), **metrics}
            log.append({"step": step, **{f"eval_{name}": value for name, value in metrics.items()}})
            accelerator.log(log[-1], step=step)
            described = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
            accelerator.print(f"epoch {epoch + 1}: {described}")
        save_checkpoint(accelerator, output, step, log, training.save_total_limit)
        end_after_signal(signals, output, step, log, training.save_total_limit)
    progress.close()

    # Results
    evaluated = predict(accelerator, model, eval_loader) if eval_loader is not None else ()
    model, state_dict = trained_weights(accelerator, model)
    accelerator.end_training()
    if accelerator.is_main_process:
        model.save_pretrained(output, state_dict=state_dict)
        save_results(model, image_processor, training, data_arguments, data, log, *evaluated)


def main():
    description = __doc__.split("\n\n")[0]
    load_arguments, data_arguments, training = parse_arguments(
        ModelArguments, DataArguments, Arguments, description=description, defaults=recipe_defaults()
    )
    with plain_errors(Path(training.output_dir)):
        run(load_arguments, data_arguments, training)


if __name__ == "__main__":
    main()
