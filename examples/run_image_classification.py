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

import signal
import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import default_collate
from transformers import TrainerCallback, TrainingArguments, set_seed

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
from common.training_report import CARD_TEXT, PICTURE, draw, draw_training, load_metrics, main_metric_name
from crossvit.data import DataArguments, EpochCallback, ImageData, load_images, print_bad_images
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


class SigtermCallback(TrainerCallback):
    """Saves a checkpoint and ends the training one step after SIGTERM, the signal by which Slurm announces the end of a job."""

    def __init__(self, accelerator):
        self.accelerator, self.stopped = accelerator, False
        signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())

    def on_step_end(self, args, state, control, **kwargs):
        if self.accelerator.check_trigger():
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


def check_arguments(arguments: ModelArguments, data_arguments: DataArguments, training: TrainingArguments):
    """Ends the program with a message if the arguments contradict each other."""
    if not (training.do_train or training.do_eval):
        raise SystemExit("Nothing to do: give --do_train, --do_eval or both.")
    check_class_weights(arguments, data_arguments.streaming)
    if data_arguments.streaming and training.do_train and training.max_steps <= 0:
        raise SystemExit("--streaming needs --max_steps, because the length of a stream is not known.")
    if training.prediction_loss_only:
        raise SystemExit("--prediction_loss_only leaves nothing to compute the accuracy from: leave it out.")


def training_loss(arguments: ModelArguments, data: ImageData, training: TrainingArguments):
    """The loss with class weights and label smoothing. None without them: the model has its own."""
    if not arguments.class_weights and not training.label_smoothing_factor:
        return None
    if training.label_smoothing_factor and data.multi_label:
        raise SystemExit(
            "--label_smoothing_factor needs one label per image, but these images have several: leave it out."
        )
    weights = class_weights(data) if arguments.class_weights else None
    return partial(classification_loss, weights=weights, label_smoothing=training.label_smoothing_factor)


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

    download = {"cache_dir": arguments.cache_dir, "token": arguments.token}
    data = load_images(
        data_arguments, training.seed, output, training.do_train, training.dataloader_num_workers, **download
    )
    model, image_processor, data = load_model(arguments, data, training.do_train)
    config = model.config
    loss = None
    if training.do_train:
        images_per_step = training.train_batch_size * training.world_size * training.gradient_accumulation_steps
        if (
            training.dataloader_drop_last
            and not data_arguments.streaming
            and len(data.splits["train"]) < images_per_step
        ):
            raise SystemExit(
                f"--dataloader_drop_last leaves none of the {len(data.splits['train'])} training images, because a step takes {images_per_step}: "
                "leave it out."
            )
        check_folder(output, describe_run(data, images_per_step, arguments, augmentation, data_arguments, training))
        loss = training_loss(arguments, data, training)
    model = choose_parameters(model, arguments)

    metric = load_metrics(data.multi_label)
    main_metric = main_metric_name(data.multi_label)

    def compute_metrics(prediction) -> dict[str, float]:
        """Includes the loss, because Trainer's own loss counts some images twice if the batches of the processes do not divide them."""
        scores, labels = torch.from_numpy(prediction.predictions), torch.from_numpy(prediction.label_ids)
        metrics = metric.compute(predictions=prediction.predictions, references=prediction.label_ids)
        return {"loss": image_classification_loss(labels, scores, config).item(), **metrics}

    train_images = None
    if training.do_train:
        train_images = data.with_transform("train", TrainingTransform(image_processor, augmentation), training.seed)
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=train_images,
        eval_dataset=data.with_transform("validation", EvaluationTransform(image_processor)),
        compute_metrics=compute_metrics,
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
            draw(draw_training, log, main_metric, output / PICTURE, labels, predicted, data.classes)
            print(f"{main_metric.replace('_', ' ')} {prediction.metrics[f'eval_{main_metric}']:.4f}")

    if trainer.is_world_process_zero() and data_arguments.skip_bad_images:
        print_bad_images(output)
    card = {"dataset": data_arguments.source, "dataset_tags": data_arguments.source}
    if (output / PICTURE).exists():
        card["text"] = CARD_TEXT
    if training.push_to_hub:
        trainer.push_to_hub(**card)
    elif training.do_train:
        trainer.create_model_card(**card)


if __name__ == "__main__":
    main()
