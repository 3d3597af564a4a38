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

The model is a folder or a repository on the Hub. To start from random weights, it is the name of a published architecture such as
`crossvit_15_dagger_240`. The images come from the Hub (`--dataset_name beans`), a folder with a folder of images per class, or a CSV or
parquet file. All of `TrainingArguments` are options too. The same command continues an interrupted run.

With the model and the digits of `make quickstart`, it takes about 20 seconds on two CPU cores and reaches an accuracy of at least 0.97.
The last two options keep most of each digit in the crop, and do not mirror it:

    python examples/run_image_classification.py --model_name_or_path outputs/quickstart/model \\
        --train_dir outputs/quickstart/digits --do_train --do_eval --num_train_epochs 1 \\
        --random_crop_scale 0.7 --no_horizontal_flip
"""

import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from checkpointing import ignore_sigterm
from command_line import parse_arguments
from image_data import DataArguments, collate, leave_out_bad_images, load_images, print_bad_images, with_transform
from image_model import (
    AugmentationArguments,
    ModelArguments,
    choose_parameters,
    class_weights,
    evaluation_transform,
    load_model,
    training_transform,
    weighted_loss,
)
from training_report import CARD_TEXT, PICTURE, draw_training, load_metrics, main_metric_name
from transformers import TrainerCallback, TrainingArguments, set_seed

from crossvit.modeling_crossvit import image_classification_loss
from crossvit.trainer import CompleteCheckpoints, CrossViTTrainer, last_complete_checkpoint


@dataclass
class Arguments(TrainingArguments):
    _argument_group_name = "training: transformers' TrainingArguments"

    output_dir: str = field(
        default="outputs/run_image_classification", metadata={"help": "Folder for all files that are written."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps or epoch."})
    logging_steps: float = field(default=10, metadata={"help": "Number of steps between two logged training losses."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Number of checkpoints to keep."})


class EpochCallback(TrainerCallback):
    """Sets the epoch of the training images, because their augmentations depend on it."""

    def on_epoch_begin(self, args, state, control, train_dataloader=None, **kwargs):
        if hasattr(train_dataloader.dataset, "set_epoch"):
            train_dataloader.dataset.set_epoch(int(state.epoch))


class SigtermCallback(TrainerCallback):
    """Saves a checkpoint and ends the training one step after SIGTERM, the signal by which Slurm announces the end of a job."""

    def __init__(self, accelerator):
        self.accelerator, self.stopped = accelerator, False
        signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        # Slurm signals the processes that read images too. Their loader is wrapped by accelerate.
        getattr(train_dataloader, "base_dataloader", train_dataloader).worker_init_fn = ignore_sigterm

    def on_step_end(self, args, state, control, **kwargs):
        if self.accelerator.check_trigger():
            self.stopped = control.should_save = control.should_training_stop = True

    def on_epoch_end(self, args, state, control, **kwargs):
        if self.stopped:  # the job may have no time left for an evaluation
            control.should_evaluate = control.should_save = False


def check_arguments(arguments: ModelArguments, data_arguments: DataArguments, training: TrainingArguments):
    """Ends the program with a message if the arguments contradict each other."""
    if not (training.do_train or training.do_eval):
        raise SystemExit("Nothing to do: give --do_train, --do_eval or both.")
    if arguments.class_weights not in (None, "balanced"):
        raise SystemExit(f"--class_weights must be `balanced` or left out, got {arguments.class_weights}.")
    if data_arguments.streaming and training.do_train and training.max_steps <= 0:
        raise SystemExit("--streaming needs --max_steps, because the length of a stream is not known.")
    if data_arguments.streaming and arguments.class_weights:
        raise SystemExit(
            "--class_weights must count the images first, but a stream is read while training: leave out one of "
            "--class_weights and --streaming."
        )


def main():
    description = __doc__.split("\n\n")[0]
    arguments, data_arguments, augmentation, training = parse_arguments(
        ModelArguments, DataArguments, AugmentationArguments, Arguments, description=description
    )
    check_arguments(arguments, data_arguments, training)
    training.remove_unused_columns = False  # the transforms need the image
    training.dataloader_pin_memory &= torch.cuda.is_available()
    # CompleteCheckpoints keeps to this limit, not Trainer, which would remove older checkpoints too early.
    save_total_limit, training.save_total_limit = training.save_total_limit, None
    set_seed(training.seed)
    output = Path(training.output_dir)

    with training.main_process_first(desc="preparing the images"):
        data = load_images(data_arguments, training.seed)
        if data_arguments.skip_bad_images:
            leave_out_bad_images(data, output, training.process_index == 0, training.dataloader_num_workers or None)
    if arguments.class_weights and data.multi_label:
        raise SystemExit("--class_weights needs one label per image, but these images have several: leave it out.")
    model, image_processor = load_model(arguments, data)
    config = model.config
    loss = partial(weighted_loss, class_weights(data)) if arguments.class_weights else None
    model = choose_parameters(model, arguments)

    metric = load_metrics(data.multi_label)
    main_metric = main_metric_name(data.multi_label)
    train_transform = training_transform(image_processor, augmentation)

    def compute_metrics(prediction) -> dict[str, float]:
        """Includes the loss, because Trainer's own loss counts some images twice if the batches of the processes do not divide them."""
        scores, labels = torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids)
        metrics = metric.compute(predictions=prediction.predictions, references=prediction.label_ids)
        return {"loss": image_classification_loss(labels, scores, config).item(), **metrics}

    trainer = CrossViTTrainer(
        model=model,
        args=training,
        train_dataset=with_transform(data.splits["train"], train_transform, data, training.seed, training=True),
        eval_dataset=with_transform(data.splits["validation"], evaluation_transform(image_processor), data),
        compute_metrics=compute_metrics,
        compute_loss_func=loss,
        data_collator=collate,
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
        sigterm = SigtermCallback(trainer.accelerator)
        trainer.add_callback(sigterm)
        result = trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        if sigterm.stopped:
            step = trainer.state.global_step
            trainer.accelerator.print(
                f"SIGTERM: saved step {step} in {output}; the same command continues from there", flush=True
            )
            sys.exit(128 + signal.SIGTERM)
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
            draw_training(log, main_metric, output / PICTURE, labels, predicted, data.classes)
            print(f"{main_metric.replace('_', ' ')} {prediction.metrics[f'eval_{main_metric}']:.4f}")

    if trainer.is_world_process_zero() and data_arguments.skip_bad_images:
        print_bad_images(output)
    card = {"dataset": data_arguments.source, "dataset_tags": data_arguments.source}
    if training.do_eval:
        card["text"] = CARD_TEXT
    if training.push_to_hub:
        trainer.push_to_hub(**card)
    elif training.do_train:
        trainer.create_model_card(**card)


if __name__ == "__main__":
    main()
