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
"""`Trainer` with a complete model card and whole checkpoints."""

import os
import shutil
from pathlib import Path

from huggingface_hub import ModelCard
from transformers import Trainer
from transformers.trainer_utils import rotate_checkpoints

from crossvit.configuration.saving_crossvit import complete_model_card


class CrossViTTrainer(Trainer):
    """
    transformers' `Trainer`; the model card that it writes, with the results of the last evaluation, says in addition what task the
    model is for and how to use it.

    A checkpoint is written into `output_dir/_unfinished-checkpoint` and gets its name when all of it is there; only then older ones
    are removed. transformers writes it in place, and continues from what a killed run has left of it.
    """

    _is_saving = False

    def _get_output_dir(self, trial):
        directory = super()._get_output_dir(trial)
        return os.path.join(directory, "_unfinished-checkpoint") if self._is_saving else directory

    def _push_from_checkpoint(self, checkpoint_folder):
        if not self._is_saving:  # the upload would still read the folder when it is renamed
            super()._push_from_checkpoint(checkpoint_folder)

    def _save_checkpoint(self, model, trial):
        directory = Path(self._get_output_dir(trial))
        checkpoint = directory / f"checkpoint-{self.state.global_step}"
        unfinished = directory / "_unfinished-checkpoint"
        if self.args.should_save:
            shutil.rmtree(unfinished, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._is_saving = True
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._is_saving = False
        self.accelerator.wait_for_everyone()
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(checkpoint)
        if self.args.should_save:
            self.state.save_to_json(str(unfinished / checkpoint.name / "trainer_state.json"))
            shutil.rmtree(checkpoint, ignore_errors=True)
            os.replace(unfinished / checkpoint.name, checkpoint)
            unfinished.rmdir()
        self.accelerator.wait_for_everyone()
        if self.args.push_to_hub:
            self._push_from_checkpoint(str(checkpoint))
        if self.args.should_save:
            best = self.state.best_model_checkpoint
            rotate_checkpoints(str(directory), self.args.save_total_limit, best_model_checkpoint=best)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False):
        if not self.is_fsdp_enabled or _internal_call:
            return super().save_model(output_dir, _internal_call)
        # transformers writes no model whose checkpoints are of parts (`SHARDED_STATE_DICT`).
        state_dict = self.accelerator.get_state_dict(self.model)  # all processes give their parts
        if self.args.should_save:
            self._save(output_dir or self.args.output_dir, state_dict=state_dict)
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save", revision=self.args.hub_revision)

    def create_model_card(self, *args, tasks: str | list[str] = "image-classification", text: str = "", **kwargs):
        """As in transformers; `text` (`str`, *optional*) is put before the usage."""
        super().create_model_card(*args, tasks=tasks, **kwargs)
        if self.is_world_process_zero():
            path = Path(self.args.output_dir) / "README.md"
            model = self.accelerator.unwrap_model(self.model)
            name = self.hub_model_id or str(path.parent)
            complete_model_card(ModelCard.load(path), model, name, text=text).save(path)


__all__ = ["CrossViTTrainer"]
