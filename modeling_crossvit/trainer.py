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
Training that nothing interrupts for good: checkpoints that count only once every process has finished writing, and folders that keep to one
run. In addition, what the training scripts of `examples/` share: options, the model for some images, metrics, and a picture of the run.

    checkpoints    of `Trainer`: CompleteCheckpoints; of a loop with `accelerate`: save_checkpoint, load_checkpoint, end_after_signal,
                   trained_weights
    runs           check_run
    models         ModelArguments, check_model, load_model
    reports        compute_metrics, draw, draw_training, print_results
    options        parse_arguments, plain_errors
"""

import contextlib
import difflib
import glob
import json
import os
import shlex
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from datasets import Dataset
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from transformers import HfArgumentParser, Trainer, TrainerCallback
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import TrainOutput

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.files import replace_file
from crossvit.configuration.image_files import image_mode
from crossvit.configuration.stopping import NO_SPACE
from crossvit.data import ImageData
from crossvit.data.classes import listed
from crossvit.hub import complete_model_card


# --- checkpoints ---


# An empty file in a checkpoint's folder, written when every process has written its part of the checkpoint.
COMPLETE = "complete"


def checkpoint_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def all_checkpoints(output_dir: str | Path) -> list[Path]:
    """The folders `checkpoint-STEP`, lowest step first, whether they are complete or not."""
    folders = Path(output_dir).glob("checkpoint-*")
    return sorted((path for path in folders if path.name.removeprefix("checkpoint-").isdigit()), key=checkpoint_step)


def complete_checkpoints(output_dir: str | Path) -> list[Path]:
    return [checkpoint for checkpoint in all_checkpoints(output_dir) if (checkpoint / COMPLETE).exists()]


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint that every process has finished writing; None if there is none."""
    checkpoints = complete_checkpoints(output_dir)
    return checkpoints[-1] if checkpoints else None


def finish_checkpoint(checkpoint: Path, keep: int | None, best: Path | None = None) -> None:
    """
    Marks a checkpoint as complete, and then removes older ones. One process calls this when all processes have written their parts.

    Args:
        keep: The number of complete checkpoints to keep; None keeps all of them, and the incomplete ones.
        best: A checkpoint that is kept in any case.
    """
    (checkpoint / COMPLETE).touch()
    if keep is None:
        return
    complete = complete_checkpoints(checkpoint.parent)
    removed = [path for path in complete[:-1] if path != best][: max(0, len(complete) - keep)]
    for path in all_checkpoints(checkpoint.parent):
        # A killed run leaves an incomplete checkpoint behind, where it was writing it or removing it.
        is_remnant = path not in complete and checkpoint_step(path) < checkpoint_step(checkpoint)
        if path in removed or is_remnant:
            shutil.rmtree(path)


def forget_later_checkpoints(output_dir: str | Path, step: int) -> None:
    """Takes the mark from checkpoints of later steps, which the run will overwrite."""
    for checkpoint in complete_checkpoints(output_dir):
        if checkpoint_step(checkpoint) > step:
            (checkpoint / COMPLETE).unlink()


class CompleteCheckpoints(TrainerCallback):
    """
    Marks each checkpoint of a `Trainer` when all processes have written it, and only then removes older ones, so that a killed run
    continues from `last_complete_checkpoint`.

    `Trainer` alone does not suffice: it writes into the folder under its final name, and its main process removes older checkpoints
    while other processes may still write. Therefore `TrainingArguments.save_total_limit` must be None.

    Args:
        save_total_limit (`int`, *optional*): The number of complete checkpoints to keep, the best one among them; None keeps all. Each trial
            of `hyperparameter_search` has its own.
    """

    def __init__(self, save_total_limit: int | None = None):
        self.save_total_limit = save_total_limit

    def on_train_begin(self, args, state, control, **kwargs):
        if args.save_total_limit is not None:
            raise ValueError(
                f"TrainingArguments.save_total_limit is {args.save_total_limit}, expected None: give it to CompleteCheckpoints, "
                "because Trainer would remove older checkpoints before the newest is complete."
            )
        # Later checkpoints exist if the run was told to continue from an earlier one. A trial writes into a folder of its own.
        if args.should_save and not state.is_hyper_param_search:
            forget_later_checkpoints(args.output_dir, state.global_step)

    def on_save(self, args, state, control, **kwargs):
        """Waits until every process has written its part of the checkpoint. All processes call this."""
        PartialState().wait_for_everyone()
        if args.should_save:
            best = state.best_model_checkpoint and Path(state.best_model_checkpoint)
            checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            if state.is_hyper_param_search:
                # Callbacks learn the folder of a trial only where the user names it. Trainer writes its state last.
                trial = glob.escape(state.trial_name) if state.trial_name else "*"
                states = Path(args.output_dir).glob(f"{trial}/{checkpoint.name}/{TRAINER_STATE_NAME}")
                checkpoint = max(states, key=os.path.getmtime).parent
                forget_later_checkpoints(checkpoint.parent, state.global_step)
            finish_checkpoint(checkpoint, self.save_total_limit, best)


class CrossViTTrainer(Trainer):
    """
    transformers' `Trainer`; the model card that it writes, with the results of the last evaluation, says in addition what task the
    model is for and how to use it. Add the callback `CompleteCheckpoints` if the run may be killed. Weights in 16 bits are trained with a
    warning.
    """

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """As in transformers. DeepSpeed keeps weights in 32 bits of its own; elsewhere 16 bits are too few, and a warning says so."""
        model: Any = self.model
        dtypes = {str(weight.dtype) for weight in model.parameters() if weight.requires_grad}
        if not self.is_deepspeed_enabled and dtypes & {"torch.bfloat16", "torch.float16"}:
            warnings.warn(
                f"The weights to train are in {' and '.join(sorted(dtypes))}, in which small updates are lost or overflow. Load the model with "
                "`dtype=torch.float32`; for speed give TrainingArguments `bf16=True`.",
                stacklevel=2,
            )
        return super().train(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in transformers; under FSDP the whole model, whatever the type of its state dict. All processes call this."""
        if not self.is_fsdp_enabled or _internal_call:
            return super().save_model(output_dir, _internal_call)
        # With `SHARDED_STATE_DICT`, transformers' checkpoints have each process's part, and it would write no whole model here.
        state_dict = self.accelerator.get_state_dict(self.model)  # called by all processes: each gives its part
        if self.args.should_save:
            self._save(output_dir or self.args.output_dir, state_dict=state_dict)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def create_model_card(
        self, *args: Any, tasks: str | list[str] = "image-classification", text: str = "", **kwargs: Any
    ) -> None:
        """As in transformers; `text` (`str`, *optional*) is put before the usage."""
        super().create_model_card(*args, **{"tasks": tasks, **kwargs})
        if self.is_world_process_zero():
            path = Path(self.args.output_dir or ".") / "README.md"
            model = self.accelerator.unwrap_model(self.model)
            name = self.hub_model_id or str(path.parent)
            complete_model_card(ModelCard.load(path), model, name, text=text).save(path)


def save_checkpoint(accelerator: Accelerator, output: Path, step: int, log: list[dict], keep: int) -> None:
    """
    Writes a checkpoint of a loop with `accelerate`, then removes all but the newest `keep` checkpoints. Whenever the run is killed, a complete
    checkpoint remains. All processes call this.

    Args:
        log: What was measured so far, for `load_checkpoint`.
    """
    checkpoint = output / f"checkpoint-{step:07d}"
    if accelerator.is_main_process:
        shutil.rmtree(checkpoint, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(checkpoint))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (checkpoint / "log.json").write_text(json.dumps(log))
        finish_checkpoint(checkpoint, keep)


def load_checkpoint(accelerator: Accelerator, output: Path) -> tuple[int, list[dict]]:
    """Loads the newest complete checkpoint, if there is one. Returns the number of steps that are done, and their log."""
    checkpoint = last_complete_checkpoint(output)
    if checkpoint is None:
        return 0, []
    accelerator.load_state(str(checkpoint))
    accelerator.print(f"continuing from {checkpoint} (for a new run give another --output_dir)")
    return checkpoint_step(checkpoint), json.loads((checkpoint / "log.json").read_text())


def trained_weights(accelerator: Accelerator, model: Any) -> tuple[Any, dict[str, Any]]:
    """The model without what `accelerate` has wrapped it into, and its weights under their own names. All processes call this."""
    state_dict = accelerator.get_state_dict(model)  # under FSDP each process gives its part
    # `accelerate config` can ask for compilation, and accelerate keeps its prefix.
    state_dict = {name.removeprefix("_orig_mod."): weight for name, weight in state_dict.items()}
    return accelerator.unwrap_model(model, keep_torch_compile=False), state_dict


class StopSignals:
    """
    Lets a run finish its step after SIGTERM, the signal by which Slurm announces the end of a job, and after Ctrl-C. A second Ctrl-C ends it at
    once. Launchers pass a signal on to processes that have it already, therefore what comes within two seconds is no second one.

    Args:
        accelerator: All processes learn by its trigger that one of them has received a signal.
    """

    def __init__(self, accelerator: Accelerator):
        self.accelerator, self.received = accelerator, signal.SIGTERM
        self.time: float | None = None  # of the first signal
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.on_signal)

    def on_signal(self, number: int, frame: Any) -> None:
        if self.time is None:
            self.received, self.time = signal.Signals(number), time.monotonic()
            self.accelerator.set_trigger()
            if number == signal.SIGINT and self.accelerator.is_main_process:
                # Not by `print`, which the signal may have interrupted and which cannot be entered twice.
                os.write(2, b"\nCtrl-C: the run is saved after this step. Once more ends it at once.\n")
        elif number == signal.SIGINT and time.monotonic() > self.time + 2:
            os._exit(128 + number)

    def exit(self, step: int, output: Path) -> NoReturn:
        """Says what is saved, and ends the process with the exit status of the signal."""
        name = "Ctrl-C" if self.received == signal.SIGINT else self.received.name
        self.accelerator.print(
            f"{name}: saved step {step} in {output}; the same command continues from there", flush=True
        )
        sys.exit(128 + self.received)


def end_after_signal(signals: StopSignals, output: Path, step: int, log: list[dict], keep: int) -> None:
    """If any process has received a signal, all processes save a checkpoint and end."""
    accelerator = signals.accelerator
    if not accelerator.check_trigger():
        return
    checkpoint = last_complete_checkpoint(output)
    if checkpoint is None or checkpoint_step(checkpoint) != step:
        save_checkpoint(accelerator, output, step, log, keep)
    accelerator.end_training()
    signals.exit(step, output)


# --- runs ---


RUN_FILE = "run.json"


def check_run(output: Path, data: ImageData, options: dict[str, Any]) -> None:
    """
    Writes into the folder of a run what the run is: its training images, its classes, and the options that change what is trained.

    Raises:
        ValueError: If the folder has results of another run, which this one would continue. The message says what differs.
    """
    # Values as JSON gives them back, to compare them.
    options = json.loads(json.dumps(options, default=str))
    run = {"images": data.fingerprint, "classes": data.classes, "options": options, "source": data.source}
    file = output / RUN_FILE
    has_results = any(output.glob("checkpoint-*")) or (output / "model.safetensors").exists()
    if has_results and file.exists():
        earlier, different = json.loads(file.read_text()), []
        if earlier["images"] != run["images"]:
            different.append("the training images or their labels")
        if earlier["classes"] != run["classes"]:
            different.append(f"the classes: {listed(earlier['classes'])}, now {listed(data.known_classes)}")
        different += [
            f"{name}: {earlier['options'][name]}, now {options[name]}"
            for name in sorted(earlier["options"].keys() & options.keys())
            if earlier["options"][name] != options[name]
        ]
        if different:
            differences = "\n  ".join(different)
            raise ValueError(
                f"{output} has another run, which this one would continue. These differ:\n  {differences}\n"
                "Give another --output_dir, or remove this folder."
            )
    if PartialState().is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        with replace_file(file) as temporary:
            temporary.write_text(json.dumps(run, indent=2) + "\n")


# --- models ---


@dataclass
class ModelArguments:
    """The options of the training scripts that name a model and change it, for `load_model`. `metadata` describes each."""

    _argument_group_name = "model: --model_name_or_path for its weights, or --config_name for random weights"

    model_name_or_path: str | None = field(
        default=None,
        metadata={
            "help": "Folder or Hub repository of the weights to start from, such as timm/crossvit_15_dagger_240.in1k."
        },
    )
    config_name: str | None = field(
        default=None,
        metadata={
            "help": "Folder, Hub repository or published architecture (crossvit_15_dagger_240) of the configuration. Alone, it gives random "
            "weights. By default that of the weights."
        },
    )
    image_processor_name: str | None = field(
        default=None,
        metadata={"help": "Folder or Hub repository of the image processor. By default that of the model."},
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder for downloaded files."})
    model_revision: str = field(default="main", metadata={"help": "Branch, tag or commit on the Hub."})
    token: str | None = field(
        default=None, metadata={"help": "Token for private repositories. By default that of `hf auth login`."}
    )
    image_size: int | None = field(
        default=None,
        metadata={
            "help": "Pixels per side, a multiple of 12. By default that of the model; otherwise its position embeddings are resized."
        },
    )
    ignore_mismatched_sizes: bool = field(
        default=True,
        metadata={"help": "Give a model with other classes new heads. If switched off, such a model is an error."},
    )
    drop_path_rate: float | None = field(
        default=None, metadata={"help": "Probability of stochastic depth. By default that of the model."}
    )
    dtype: str | None = field(
        default=None,
        metadata={
            "help": "Type of the weights, in which they are saved, too. By default float32 for training, because 16 bits lose small updates, "
            "and `auto`, that of the file, for evaluation alone.",
            "choices": ["auto", "float32", "bfloat16", "float16"],
        },
    )

    @property
    def download(self) -> dict[str, Any]:
        """The arguments of `from_pretrained` that are about the Hub."""
        return {"cache_dir": self.cache_dir, "revision": self.model_revision, "token": self.token}


def branch_image_sizes(config: CrossViTConfig, image_size: int) -> list[int]:
    """Image size of each branch. Their ratio is that of the configured sizes, rounded to whole patches."""
    first, _ = config.branch_image_size(0)
    sizes = [image_size * config.branch_image_size(branch)[0] / first for branch in range(config.num_branches)]
    return [patch * max(1, round(size / patch)) for size, patch in zip(sizes, config.patch_sizes)]


def load_config(arguments: ModelArguments, training: bool = True) -> CrossViTConfig:
    """
    The configuration of a model or of a published architecture, with the image size and drop path rate of the arguments.

    Raises:
        ValueError: If no weights or no configuration are named, if they cannot be had, or if the image size does not fit.
    """
    name = arguments.model_name_or_path
    if name in CROSSVIT_VARIANTS:
        raise ValueError(
            f"--model_name_or_path {name} names an architecture, expected weights. Give --model_name_or_path timm/{name}.in1k for the weights "
            f"that timm has published, or --config_name {name} for random weights."
        )
    name = arguments.config_name or arguments.model_name_or_path
    if name is None:
        raise ValueError(
            "Give --model_name_or_path, such as timm/crossvit_15_dagger_240.in1k, or --config_name crossvit_15_dagger_240 for random weights."
        )
    if arguments.model_name_or_path is None and not training:
        raise ValueError(
            "--config_name alone gives random weights, which are not worth an evaluation: give --model_name_or_path."
        )
    if name in CROSSVIT_VARIANTS:
        config = CrossViTConfig.from_variant(name)
    else:
        try:
            config = CrossViTConfig.from_pretrained(name, **arguments.download)
        except OSError as error:
            if not arguments.config_name:
                published = ", ".join(f"timm/{variant}.in1k" for variant in CROSSVIT_VARIANTS)
                hint = "" if "Did you mean" in str(error) else f"\nPublished weights are {published}."
                raise ValueError(f"--model_name_or_path: {error}{hint}") from error
            if close := difflib.get_close_matches(name, CROSSVIT_VARIANTS, 1, 0.8):
                raise ValueError(f"--config_name {name} was not found. Did you mean {close[0]}?") from error
            hint = (
                ""
                if "Did you mean" in str(error)
                else f"\nPublished architectures are {', '.join(CROSSVIT_VARIANTS)}."
            )
            raise ValueError(f"--config_name: {error}{hint}") from error
    if arguments.image_size is not None:
        if arguments.image_size % config.patch_sizes[0]:
            raise ValueError(
                f"--image_size must be a multiple of {config.patch_sizes[0]}, the patch size of the small branch; got {arguments.image_size}."
            )
        config.image_sizes = [*branch_image_sizes(config, arguments.image_size)]
    if arguments.drop_path_rate is not None:
        config.drop_path_rate = arguments.drop_path_rate
    return config


def set_classes(config: CrossViTConfig, classes: Sequence[str]) -> None:
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}


def load_image_processor(arguments: ModelArguments, config: CrossViTConfig) -> CrossViTImageProcessor:
    """The model's own image processor. Another image size keeps all other settings, and the part of the image that is shown."""
    name = arguments.image_processor_name or arguments.model_name_or_path or arguments.config_name or ""
    if name in CROSSVIT_VARIANTS:
        return CrossViTImageProcessor.from_image_size(config.branch_image_size(0)[0])
    try:
        image_processor = CrossViTImageProcessor.from_pretrained(name, **arguments.download)
    except OSError as error:
        raise ValueError(f"{error}\nName an image processor with --image_processor_name.") from error
    image_size = arguments.image_size
    if image_size is None:
        return image_processor
    scale, size = image_size / image_processor.crop_size["height"], image_processor.size
    sides = {side: round(scale * size[side]) for side in ("shortest_edge", "height", "width") if size[side]}
    crop_size = {"height": image_size, "width": image_size}
    return CrossViTImageProcessor.from_dict(image_processor.to_dict(), size=sides, crop_size=crop_size)


def check_model(arguments: ModelArguments, training: bool = True) -> None:
    """
    Loads the small files of a model, so that a mistake in a name shows before the images are looked at, which may take long.

    Raises:
        ValueError: As `load_model`.
    """
    config = load_config(arguments, training)
    image_mode(config, load_image_processor(arguments, config))


def load_model(
    arguments: ModelArguments, data: ImageData, training: bool = True
) -> tuple[CrossViTForImageClassification, CrossViTImageProcessor, ImageData]:
    """
    Loads the model for some images. A model that is trained on other classes than its own gets new heads.

    Returns:
        The model, its image processor, and the images with the classes in the order of the model.

    Raises:
        ValueError: As `load_config`; if weights or an image processor cannot be had, if they are of another kind of model, if image files do not
            have the channels of the model, or if a model that is only evaluated has other classes.
    """
    name, config = arguments.model_name_or_path, load_config(arguments, training)
    several = config.problem_type == "multi_label_classification"
    if not training and several != data.multi_label:
        raise ValueError(
            f"The model was trained for {'several labels' if several else 'one label'} per image, but these images have "
            f"{'several' if data.multi_label else 'one'}. Train it on such images first."
        )
    id2label = {int(index): label for index, label in (config.id2label or {}).items()}
    matched = None if name is None else data.match_classes(id2label, training)
    if matched is None:
        if name is not None:
            message = f"The model has other classes ({listed(id2label.values(), 5)}) than the data ({listed(data.known_classes, 5)})"
            if not arguments.ignore_mismatched_sizes:
                raise ValueError(f"{message}: leave out --no_ignore_mismatched_sizes to give it new heads.")
            PartialState().print(f"{message}: it gets new heads.")
    config.problem_type = "multi_label_classification" if data.multi_label else "single_label_classification"

    image_processor = load_image_processor(arguments, config)
    mode = image_mode(config, image_processor)
    data, matched = replace(data, image_mode=mode), matched and replace(matched, image_mode=mode)
    dtype = arguments.dtype or ("float32" if training else "auto")
    if name is None:
        set_classes(config, data.known_classes)
        model = CrossViTForImageClassification(config)
        return model if dtype == "auto" else model.to(getattr(torch, dtype)), image_processor, data
    if not id2label:
        set_classes(config, data.known_classes)
    try:
        # With its own classes, because transformers would report at length that the heads do not fit the new ones.
        model = CrossViTForImageClassification.from_pretrained(
            name, config=config, ignore_mismatched_sizes=matched is None, dtype=dtype, **arguments.download
        )
    except (OSError, RuntimeError) as error:
        raise ValueError(str(error)) from error
    if matched is None:
        # Loaded heads may fit in size, but they were for other classes.
        set_classes(model.config, data.known_classes)
        model.num_labels = model.config.num_labels
        model.classifier = type(model.classifier)(model.config).to(model.dtype)
        model.classifier.apply(model._init_weights)
    return model, image_processor, matched or data


# --- reports ---


def compute_metrics(scores: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """
    Metrics of scikit-learn, between 0 and 1. `evaluate` has them too, but loads each from the Hub.

    Args:
        scores: (N, classes).
        labels: The index of the class of each image, (N,), or 0 and 1 for several labels per image, (N, classes).

    Returns:
        `accuracy`, `macro_f1` (the mean over the classes that occur) and, with more than five classes, `top_5_accuracy`. For several labels
        `mean_average_precision`, of all classes that occur in the labels.

    Raises:
        ValueError: If scores are not finite, or if no image has a label.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, f1_score, top_k_accuracy_score

    wrong = ~np.isfinite(scores).all(axis=-1)
    if wrong.any():
        raise ValueError(
            f"The scores of {wrong.sum()} of {len(scores)} images are not finite, so the training has failed. Give a smaller learning rate, and "
            "no 16-bit floats if you gave them (fp16, or a dtype of float16), in another output folder."
        )
    if labels.ndim == 2:
        occur = labels.any(axis=0)
        if not occur.any():
            raise ValueError(
                "No image has a label, expected at least one: the average precision of no label is not defined. Evaluate on images with labels."
            )
        return {"mean_average_precision": float(average_precision_score(labels[:, occur], scores[:, occur]))}
    predicted = scores.argmax(axis=-1)
    metrics = {
        "accuracy": accuracy_score(labels, predicted),
        "macro_f1": f1_score(labels, predicted, average="macro"),
    }
    if scores.shape[-1] > 5:
        metrics["top_5_accuracy"] = top_k_accuracy_score(labels, scores, k=5, labels=range(scores.shape[-1]))
    return {name: float(value) for name, value in metrics.items()}


# The picture of a run, and the section of the model card that shows it.
PICTURE = "training.png"
CARD_TEXT = f"""
## Training

![Losses, the metric of each evaluation, and the confusion matrix]({PICTURE})
"""

# With more classes, their names in the confusion matrix would be too small to read.
MAX_NAMES = 25


def draw(function: Callable[..., object], *arguments: Any, **options: Any) -> None:
    """Calls a function that draws. A picture that fails is a warning, because it must not take the results with it."""
    import matplotlib.pyplot as plt

    try:
        # Names of classes are not formulas, even if they have dollar signs.
        with plt.rc_context({"text.parse_math": False, "text.usetex": False}):
            function(*arguments, **options)
    except Exception as error:
        warnings.warn(f"The picture could not be drawn, all else is saved: {error!r}", stacklevel=2)
    finally:
        plt.close("all")


def draw_training(
    log: list[dict],
    metric: str,
    path: Path,
    labels: np.ndarray | None = None,
    predictions: np.ndarray | None = None,
    classes: Sequence[str] = (),
) -> None:
    """
    Draws the losses and, if there was an evaluation, the metric and the confusion matrix into the file `path`.

    Args:
        log: Entries with `step` and some of `loss`, `eval_loss` and `eval_{metric}`, as in `trainer.state.log_history`.
        labels, predictions: The index of the class of each evaluated image, (N,), and the predicted one, (N,); None for several labels per image.
        classes: The names of the classes.
    """
    import matplotlib.pyplot as plt
    from sklearn.metrics import ConfusionMatrixDisplay

    curves = {"loss": "training", "eval_loss": "evaluation", f"eval_{metric}": metric.replace("_", " ")}
    panels: list[tuple[str, ...]] = [("loss", "eval_loss")]
    if any(f"eval_{metric}" in entry for entry in log):
        panels.append((f"eval_{metric}",))
    columns = len(panels) + (labels is not None)
    figure, (axes,) = plt.subplots(1, columns, figsize=(1 + 5 * columns, 4.6), layout="constrained", squeeze=False)
    for axis, keys in zip(axes, panels):
        for key in keys:
            points = [(entry["step"], entry[key]) for entry in log if key in entry]
            if points:
                axis.plot(*zip(*points), marker="." if len(points) < 40 else None, label=curves[key])
        axis.set_xlabel("step")
        if axis.lines:
            axis.legend()
        axis.set_ylabel("loss" if "loss" in keys else curves[keys[0]])
    if labels is not None:
        few = len(classes) <= MAX_NAMES
        ConfusionMatrixDisplay.from_predictions(
            labels, predictions, labels=range(len(classes)), display_labels=classes if few else None, normalize="true", ax=axes[2],
            include_values=len(classes) <= 10, values_format=".2f", xticks_rotation="vertical",
        )  # fmt: skip
        if not few:
            axes[2].set_xticks([])
            axes[2].set_yticks([])
        axes[2].set_title("confusion matrix (each row sums to 1)")
    figure.savefig(path, dpi=110)


def print_results(model: Path, picture: Path, data: ImageData) -> None:
    """Says where the model of a run, its card and its picture are, as far as there are any, and what to type next."""
    is_saved = (model / "config.json").exists()
    for name, path in (("picture", picture), ("model card", model / "README.md")):
        if path.exists():
            print(f"{name}: {path}")
    if is_saved:
        print(f"model: {model}")
        images = next(iter(reversed(data.splits.values())))
        file = images[0]["image"]["path"] if isinstance(images, Dataset) else None
        image = file if file and file.isprintable() and Path(file).exists() else "IMAGE"
        print(
            f"What it says of an image, and where it looks: python -m crossvit.explain {shlex.join([str(model), image])}"
        )


# --- options ---


# Parts of the messages when a file cannot be written to its end: those of the system, and those of torch, which hides them.
FULL_DISK = (*map(os.strerror, NO_SPACE), "unexpected pos", "PytorchStreamWriter failed")


@contextlib.contextmanager
def plain_errors(output: Path) -> Iterator[None]:
    """
    Ends the script with one message in place of a traceback where a user can mend what went wrong: options, images and settings (ValueErrors),
    what the Hub refuses, a full disk, and Ctrl-C where it does not save.

    Args:
        output: The folder of the run.
    """

    def same_command() -> str:
        checkpoint = last_complete_checkpoint(output)
        return f"the same command {f'continues from {checkpoint}' if checkpoint else 'starts from the beginning'}"

    try:
        yield
    except KeyboardInterrupt:
        print(f"\nCtrl-C: {same_command()}.", file=sys.stderr)
        raise SystemExit(128 + signal.SIGINT) from None
    except Exception as error:
        if any(part in str(error) for part in FULL_DISK):
            raise SystemExit(
                f"The disk of {output} is full, or your part of it. Make space; then {same_command()}."
            ) from error
        if not isinstance(error, (ValueError, HfHubHTTPError)):
            raise
        # A process that reads images puts its traceback before the message.
        raise SystemExit(str(error).rsplit("\nValueError: ")[-1].strip()) from error


def parse_arguments(*dataclasses: Any, description: str, defaults: dict[str, Any] | None = None) -> tuple:
    """
    Reads the options of a script. The command line gives the values, or names one JSON file that gives them.

    Args:
        defaults: Values in place of those that the dataclasses have.

    Returns:
        One instance of each dataclass.
    """
    # Without a usage of its own, each error would show all options.
    parser = HfArgumentParser(dataclasses, description=description, usage="%(prog)s [options]")
    try:
        if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
            values = json.loads(Path(sys.argv[1]).expanduser().read_text())
            parsed = parser.parse_dict({**(defaults or {}), **values})
        else:
            parsed = parse_command_line(parser, defaults or {})
    except (OSError, ValueError) as error:
        parser.exit(2, f"{error}\n")
    for arguments in parsed:
        for name, value in vars(arguments).items():
            # The shell leaves ~ in quotes as it is.
            if isinstance(value, str) and value.startswith("~"):
                setattr(arguments, name, os.path.expanduser(value))
    return parsed


def parse_command_line(parser: HfArgumentParser, defaults: dict[str, Any]) -> tuple:
    parser.set_defaults(**defaults)
    options = [option for action in parser._actions for option in action.option_strings]
    # Looked for here, because argparse complains about missing options first, of which one may be misspelled.
    unknown, is_unknown = [], False
    for argument in sys.argv[1:]:
        if argument.startswith("--"):
            is_unknown = not any(option.startswith(argument.split("=")[0]) for option in options)
        if is_unknown:
            unknown.append(argument)
    if not unknown:
        *parsed, unknown = parser.parse_args_into_dataclasses(return_remaining_strings=True)
    if unknown:
        names = [name.split("=")[0] for name in unknown if name.startswith("--")]
        similar = [option for name in names for option in difflib.get_close_matches(name, options, 1)]
        hint = f"; did you mean {', '.join(similar)}?" if similar else ""
        parser.exit(2, f"unrecognized arguments: {' '.join(unknown)}{hint} (--help lists all arguments)\n")
    return tuple(parsed)


__all__ = [
    "CARD_TEXT",
    "PICTURE",
    "CompleteCheckpoints",
    "CrossViTTrainer",
    "ModelArguments",
    "StopSignals",
    "check_model",
    "check_run",
    "compute_metrics",
    "draw",
    "draw_training",
    "end_after_signal",
    "last_complete_checkpoint",
    "load_checkpoint",
    "load_model",
    "parse_arguments",
    "plain_errors",
    "print_results",
    "save_checkpoint",
    "trained_weights",
]
