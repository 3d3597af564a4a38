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
Fine-tune CrossViT for image classification with a training loop of plain PyTorch and `accelerate`, for those who change the loop.

    accelerate launch examples/run_image_classification_no_trainer.py \\
        --model_name_or_path models/crossvit_15_dagger_240 --train_dir my_photos

Model and data are given as for run_image_classification.py. A run that was interrupted continues from its last whole checkpoint when
the same command is given again; SIGTERM makes it save one first.

With the model and the digits that `make quickstart` has written, in about 20 seconds on two CPU cores, to an accuracy of at least
0.95 (these augmentations are for photos, not for digits):

    accelerate launch --cpu examples/run_image_classification_no_trainer.py --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --num_train_epochs 1
"""

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path

import evaluate
import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration, ProjectConfiguration, set_seed
from checkpointing import end_if_told, ignore_sigterm, load_checkpoint, note_sigterm, save_checkpoint
from command_line import parse_arguments
from image_data import DataArguments, bad_images, collate, leave_out_bad_images, load_images, transformed
from image_model import (
    ModelArguments,
    choose_parameters,
    class_weights,
    evaluation_transform,
    load_model,
    training_transform,
    weighted_loss,
)
from torch.utils.data import DataLoader
from tqdm import tqdm
from training_report import draw_training
from transformers import get_scheduler

from crossvit.modeling_crossvit import image_classification_loss
from crossvit.saving_crossvit import complete_model_card


METRICS = Path(__file__).parent / "metrics"


@dataclass
class Arguments:
    _argument_group_name = "training"

    output_dir: str = field(
        default="outputs/run_image_classification_no_trainer", metadata={"help": "Where everything is written."}
    )
    num_train_epochs: int = field(default=3, metadata={"help": "How often each training image is seen."})
    max_train_steps: int | None = field(default=None, metadata={"help": "Optimizer steps, instead of epochs."})
    per_device_train_batch_size: int = field(default=8, metadata={"help": "Images per process and forward pass."})
    per_device_eval_batch_size: int = field(default=8, metadata={"help": "The same in evaluation."})
    gradient_accumulation_steps: int = field(default=1, metadata={"help": "Batches per optimizer step."})
    learning_rate: float = field(default=5e-5, metadata={"help": "Largest learning rate, after the warm-up."})
    weight_decay: float = field(default=0.0, metadata={"help": "Of AdamW; not for biases and normalisations."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Larger gradients are scaled down to this norm."})
    lr_scheduler_type: str = field(default="linear", metadata={"help": "A name that transformers knows, as cosine."})
    num_warmup_steps: int = field(default=0, metadata={"help": "Steps in which the learning rate rises."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16 or bf16. By default what `accelerate config` was told."}
    )
    checkpointing_steps: int | None = field(
        default=None, metadata={"help": "Steps between checkpoints. By default one per epoch."}
    )
    keep_checkpoints: int = field(default=2, metadata={"help": "How many checkpoints are kept."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Processes that read images."})
    report_to: str | None = field(default=None, metadata={"help": "tensorboard, trackio, wandb, ..."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same result on the same machine."})


def parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict]:
    """No weight decay on biases, normalisations, CLS tokens and position embeddings."""
    groups = {True: [], False: []}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim == 2 or name.endswith("projection.weight")].append(parameter)
    return [{"params": groups[True], "weight_decay": weight_decay}, {"params": groups[False], "weight_decay": 0.0}]


@torch.no_grad()
def predict(accelerator: Accelerator, model, data_loader: DataLoader) -> tuple[torch.Tensor, torch.Tensor]:
    """Scores (N, classes) and labels of all images."""
    model.eval()
    scores, labels = [], []
    for batch in tqdm(data_loader, desc="evaluating", disable=not accelerator.is_main_process, leave=False):
        # The processes get equally many images, the last batch filled up with earlier ones, which this leaves out again.
        batch_scores, batch_labels = accelerator.gather_for_metrics(
            (model(batch["pixel_values"]).logits, batch["labels"])
        )
        scores.append(batch_scores.float().cpu())
        labels.append(batch_labels.cpu())
    model.train()
    return torch.cat(scores), torch.cat(labels)


def main():
    description = __doc__.split("\n\n")[0]
    arguments, data_arguments, training = parse_arguments(
        ModelArguments, DataArguments, Arguments, description=description
    )
    if data_arguments.streaming:
        raise SystemExit("This loop continues an epoch in its middle, which needs the length: use no --streaming.")
    if arguments.class_weights not in (None, "balanced"):
        raise SystemExit(f"--class_weights is `balanced` or not given, got {arguments.class_weights}.")
    output = Path(training.output_dir)
    accelerator = Accelerator(
        gradient_accumulation_steps=training.gradient_accumulation_steps,
        mixed_precision=training.mixed_precision,
        log_with=training.report_to,
        # The order of the images follows from the seed and the epoch alone, so that a continued run finds its place in it.
        dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=training.seed),
        project_config=ProjectConfiguration(project_dir=training.output_dir, logging_dir=str(output / "logs")),
    )
    set_seed(training.seed)

    # Data
    with accelerator.main_process_first():
        data = load_images(data_arguments, training.seed)
        if data_arguments.skip_bad_images:
            leave_out_bad_images(data, output, training.dataloader_num_workers or None)
    if arguments.class_weights and data.multi_label:
        raise SystemExit("--class_weights is for one label per image.")
    model, image_processor = load_model(arguments, data)
    weights = class_weights(data).to(accelerator.device) if arguments.class_weights else None
    model = choose_parameters(model, arguments)
    train_images = transformed(data.splits["train"], training_transform(image_processor), data, training.seed)
    eval_images = transformed(data.splits["validation"], evaluation_transform(image_processor), data)
    loader_options = {
        "collate_fn": collate,
        "num_workers": training.dataloader_num_workers,
        "worker_init_fn": ignore_sigterm,
    }
    train_loader = DataLoader(
        train_images,
        batch_size=training.per_device_train_batch_size,
        shuffle=True,
        generator=torch.Generator(),  # or starting an epoch would draw from that of the dropout
        **loader_options,
    )
    eval_loader = DataLoader(eval_images, batch_size=training.per_device_eval_batch_size, **loader_options)

    # Optimizer and schedule
    optimizer = torch.optim.AdamW(parameter_groups(model, training.weight_decay), lr=training.learning_rate)
    model, optimizer, train_loader, eval_loader = accelerator.prepare(model, optimizer, train_loader, eval_loader)
    steps_per_epoch = math.ceil(len(train_loader) / training.gradient_accumulation_steps)
    steps = training.max_train_steps or training.num_train_epochs * steps_per_epoch
    scheduler = get_scheduler(training.lr_scheduler_type, optimizer, training.num_warmup_steps, steps)
    accelerator.register_for_checkpointing(scheduler)
    checkpointing_steps = training.checkpointing_steps or steps_per_epoch
    metric = evaluate.load(str(METRICS / ("multi_label" if data.multi_label else "single_label")))
    if training.report_to:
        accelerator.init_trackers("run_image_classification_no_trainer", config=asdict(training))

    def evaluate_model() -> tuple[torch.Tensor, torch.Tensor]:
        """Adds the metrics to the log."""
        scores, labels = predict(accelerator, model, eval_loader)
        loss = image_classification_loss(labels, scores, accelerator.unwrap_model(model).config).item()
        metrics = metric.compute(predictions=scores.numpy(), references=labels.numpy())
        log.append({"step": step, "eval_loss": loss, **{f"eval_{name}": value for name, value in metrics.items()}})
        accelerator.log(log[-1], step=step)
        accelerator.print(", ".join(f"{name} {value:.4g}" for name, value in log[-1].items()))
        return scores, labels

    # Training
    step, log = load_checkpoint(accelerator, output)
    note_sigterm(accelerator)
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
                loss = outputs.loss if weights is None else weighted_loss(weights, outputs, batch["labels"])
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
            if step % 10 == 0 or step == 1:
                log.append({"step": step, "loss": accelerator.reduce(loss.detach(), "mean").item()})
                accelerator.log({"loss": log[-1]["loss"], "learning_rate": scheduler.get_last_lr()[0]}, step=step)
                progress.set_postfix(loss=f"{log[-1]['loss']:.3f}")
            if step % steps_per_epoch == 0 and step < steps:
                evaluate_model()
            if step % checkpointing_steps == 0 or step == steps:
                save_checkpoint(accelerator, output, step, log, training.keep_checkpoints)
            end_if_told(accelerator, output, step, log, training.keep_checkpoints)
            if step == steps:
                break
    progress.close()

    # Results
    scores, labels = evaluate_model()
    accelerator.end_training()
    if not accelerator.is_main_process:
        return
    results = log[-1]
    (output / "all_results.json").write_text(json.dumps(results, indent=4))
    name_of_metric = "mean_average_precision" if data.multi_label else "accuracy"
    one_label = None if data.multi_label else labels.numpy()
    draw_training(log, name_of_metric, output / "training.png", one_label, scores.argmax(dim=-1).numpy(), data.classes)
    model = accelerator.unwrap_model(model)
    if arguments.lora_rank is not None:
        model = model.merge_and_unload()
    model.save_pretrained(output)
    image_processor.save_pretrained(output)
    metrics = {
        name.removeprefix("eval_"): value for name, value in results.items() if name not in ("step", "eval_loss")
    }
    card = complete_model_card(None, model, str(output), dataset=data_arguments.source, metrics=metrics)
    card.save(output / "README.md")
    if data_arguments.skip_bad_images:
        left_out = bad_images(output)
        print(f"{len(left_out)} images could not be read and were left out; {output / 'bad_images.jsonl'} names them.")
    print(f"{name_of_metric.replace('_', ' ')} {results[f'eval_{name_of_metric}']:.4f}")


if __name__ == "__main__":
    main()
