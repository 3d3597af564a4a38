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
"""`Trainer` with a complete model card, and checkpoints that are used only when all of them was written."""

import shutil
from pathlib import Path
from typing import Any

from accelerate import PartialState
from huggingface_hub import ModelCard
from transformers import Trainer, TrainerCallback

from crossvit.hub import complete_model_card


# An empty file in a checkpoint's folder, written when every process has written its part of the checkpoint.
COMPLETE = "complete"


def all_checkpoints(output_dir: str | Path) -> list[Path]:
    """The folders `checkpoint-STEP`, lowest step first, whether they are complete or not."""
    folders = Path(output_dir).glob("checkpoint-*")
    return sorted((path for path in folders if path.name.removeprefix("checkpoint-").isdigit()), key=checkpoint_step)


def complete_checkpoints(output_dir: str | Path) -> list[Path]:
    return [checkpoint for checkpoint in all_checkpoints(output_dir) if (checkpoint / COMPLETE).exists()]


def last_complete_checkpoint(output_dir: str | Path) -> Path | None:
    """The newest checkpoint of a run with `CompleteCheckpoints` that was written to its end; None if there is none."""
    checkpoints = complete_checkpoints(output_dir)
    return checkpoints[-1] if checkpoints else None


def checkpoint_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


class CompleteCheckpoints(TrainerCallback):
    """
    Marks each checkpoint of a `Trainer` when all processes have written it, and only then removes older ones, so that a killed run
    continues from `last_complete_checkpoint`.

    `Trainer` alone does not suffice: it writes into the folder under its final name, and its main process removes older checkpoints
    while other processes may still write. Therefore `TrainingArguments.save_total_limit` must be None.

    Args:
        save_total_limit (`int`, *optional*): The number of complete checkpoints to keep, the best one among them; None keeps all.
    """

    def __init__(self, save_total_limit: int | None = None):
        self.save_total_limit = save_total_limit

    def on_train_begin(self, args, state, control, **kwargs):
        if args.save_total_limit is not None:
            raise ValueError(
                f"TrainingArguments.save_total_limit is {args.save_total_limit}, expected None: give it to CompleteCheckpoints, "
                "because Trainer would remove older checkpoints before the newest is complete."
            )
        if args.should_save:
            # The run overwrites checkpoints of later steps, which exist if it was told to continue from an earlier one.
            for checkpoint in complete_checkpoints(args.output_dir):
                if checkpoint_step(checkpoint) > state.global_step:
                    (checkpoint / COMPLETE).unlink()

    def on_save(self, args, state, control, **kwargs):
        PartialState().wait_for_everyone()
        if not args.should_save:
            return
        (Path(args.output_dir) / f"checkpoint-{state.global_step}" / COMPLETE).touch()
        if self.save_total_limit is None:
            return
        complete = complete_checkpoints(args.output_dir)
        best = state.best_model_checkpoint and Path(state.best_model_checkpoint)
        surplus = max(0, len(complete) - self.save_total_limit)
        removed = [checkpoint for checkpoint in complete[:-1] if checkpoint != best][:surplus]
        for checkpoint in all_checkpoints(args.output_dir):
            # A killed run leaves incomplete checkpoints: one that it wrote, or one that it removed.
            is_remnant = checkpoint not in complete and checkpoint_step(checkpoint) < state.global_step
            if checkpoint in removed or is_remnant:
                shutil.rmtree(checkpoint)


class CrossViTTrainer(Trainer):
    """
    transformers' `Trainer`; the model card that it writes, with the results of the last evaluation, says in addition what task the
    model is for and how to use it. Add the callback `CompleteCheckpoints` if the run may be killed.
    """

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
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


__all__ = ["CompleteCheckpoints", "CrossViTTrainer", "last_complete_checkpoint"]
