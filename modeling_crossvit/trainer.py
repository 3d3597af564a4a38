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
"""`Trainer` with a complete model card."""

from pathlib import Path

from huggingface_hub import ModelCard
from transformers import Trainer

from .saving_crossvit import complete_model_card


class CrossViTTrainer(Trainer):
    """
    transformers' `Trainer`; the model card that it writes, with the results of the last evaluation, says in addition what task the
    model is for and how to use it.
    """

    def create_model_card(self, *args, tasks: str | list[str] = "image-classification", **kwargs):
        super().create_model_card(*args, tasks=tasks, **kwargs)
        if self.is_world_process_zero():
            path = Path(self.args.output_dir) / "README.md"
            model = self.accelerator.unwrap_model(self.model)
            complete_model_card(ModelCard.load(path), model, self.hub_model_id or str(path.parent)).save(path)


__all__ = ["CrossViTTrainer"]
