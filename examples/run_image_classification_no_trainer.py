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
checkpoint. After SIGTERM, the run saves a checkpoint before it ends.

With the model and the digits of `make quickstart`, it takes about 20 seconds on two CPU cores and reaches an accuracy of at least 0.97.
The last two options keep most of each digit in the crop, and do not mirror it:

    accelerate launch --cpu examples/run_image_classification_no_trainer.py --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --num_train_epochs 1 --random_crop_scale 0.7 --no_horizontal_flip
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, set_seed
from timm.optim import param_groups_weight_decay
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_scheduler

from common.accelerate_loop import LoopArguments, predict, save_results
from common.checkpointing import end_after_sigterm, load_checkpoint, save_checkpoint, watch_for_sigterm
from common.command_line import parse_arguments
from common.image_model import (
    AugmentationArguments,
    EvaluationTransform,
    ModelArguments,
    TrainingTransform,
    check_class_weights,
    choose_parameters,
    class_weights,
    classification_loss,
    load_model,
)
from common.run_identity import check_folder, describe_run
from common.training_report import load_metrics
from crossvit.data import DataArguments, load_images
from crossvit.modeling_crossvit import image_classification_loss


@dataclass
class Arguments(LoopArguments):
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


def main():
    description = __doc__.split("\n\n")[0]
    arguments, data_arguments, augmentation, training = parse_arguments(
        ModelArguments, DataArguments, AugmentationArguments, Arguments, description=description
    )
    training.check_stream(data_arguments.streaming)
    check_class_weights(arguments, data_arguments.streaming)
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
    if accelerator.is_main_process:
        training.create_repository()

    # Data
    download = {"cache_dir": arguments.cache_dir, "token": arguments.token}
    data = load_images(data_arguments, training.seed, output, num_workers=training.dataloader_num_workers, **download)
    model, image_processor, data = load_model(arguments, data)
    images_per_step = (
        training.per_device_train_batch_size * accelerator.num_processes * training.gradient_accumulation_steps
    )
    check_folder(output, describe_run(data, images_per_step, arguments, augmentation, data_arguments, training))
    weights = class_weights(data).to(accelerator.device) if arguments.class_weights else None
    model = choose_parameters(model, arguments)
    train_images = data.with_transform("train", TrainingTransform(image_processor, augmentation), training.seed)
    eval_images = data.with_transform("validation", EvaluationTransform(image_processor))
    train_loader = DataLoader(
        train_images,
        batch_size=training.per_device_train_batch_size,
        shuffle=not data_arguments.streaming,  # load_images has shuffled a stream already
        # Without it, the start of an epoch would draw a random number, and change those of the stochastic depth.
        generator=torch.Generator(),
        num_workers=training.dataloader_num_workers,
    )
    eval_loader = DataLoader(
        eval_images, batch_size=training.per_device_eval_batch_size, num_workers=training.dataloader_num_workers
    )

    # Optimizer and schedule
    optimizer = torch.optim.AdamW(param_groups_weight_decay(model, training.weight_decay), lr=training.learning_rate)
    model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)
    samples = training.num_train_samples if data_arguments.streaming else len(train_images)
    batches_per_epoch = math.ceil(samples / (training.per_device_train_batch_size * accelerator.num_processes))
    steps_per_epoch = math.ceil(batches_per_epoch / training.gradient_accumulation_steps)
    steps = training.max_train_steps or training.num_train_epochs * steps_per_epoch
    scheduler = get_scheduler(training.lr_scheduler_type, optimizer, training.num_warmup_steps, steps)
    accelerator.register_for_checkpointing(scheduler)
    checkpointing_steps = training.checkpointing_steps or steps_per_epoch
    metric = load_metrics(data.multi_label)
    if training.report_to:
        accelerator.init_trackers("run_image_classification_no_trainer", config=training.logged)

    def evaluate_model() -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the metrics to the log, and returns the scores and the labels."""
        scores, labels = predict(accelerator, model, eval_loader)
        loss = image_classification_loss(labels, scores, accelerator.unwrap_model(model).config).item()
        metrics = metric.compute(predictions=scores.numpy(), references=labels.numpy())
        log.append({"step": step, "eval_loss": loss, **{f"eval_{name}": value for name, value in metrics.items()}})
        accelerator.log(log[-1], step=step)
        accelerator.print(", ".join(f"{name} {value:.4g}" for name, value in log[-1].items()))
        return scores, labels

    # Training
    step, log = load_checkpoint(accelerator, output)
    watch_for_sigterm(accelerator)
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
            if step % steps_per_epoch == 0 and step < steps:
                evaluate_model()
            if step % checkpointing_steps == 0 or step == steps:
                save_checkpoint(accelerator, output, step, log, training.save_total_limit)
            end_after_sigterm(accelerator, output, step, log, training.save_total_limit)
            # A stream for training is endless: its epoch ends here.
            if step == steps or (data_arguments.streaming and step % steps_per_epoch == 0):
                break
    progress.close()

    # Results
    scores, labels = evaluate_model()
    state_dict = accelerator.get_state_dict(model)  # called by all processes: under FSDP each gives its part
    accelerator.end_training()
    if accelerator.is_main_process:
        model = accelerator.unwrap_model(model)
        if arguments.lora_rank is not None:
            model, state_dict = model.merge_and_unload(), None
        model.save_pretrained(output, state_dict=state_dict)
        save_results(model, image_processor, training, data_arguments, data, log, scores, labels)


if __name__ == "__main__":
    main()
