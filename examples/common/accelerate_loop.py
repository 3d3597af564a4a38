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
"""Options, evaluation, and the files at the end: the common parts of the training loops with `accelerate`."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from accelerate import Accelerator
from huggingface_hub import create_repo, upload_folder
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.training_report import CARD_TEXT, PICTURE, draw, draw_training, main_metric_name
from crossvit.configuration.saving_crossvit import SAVED_FILES, complete_model_card
from crossvit.data import DataArguments, ImageData, print_bad_images


@dataclass
class LoopArguments:
    output_dir: str = field(default="outputs", metadata={"help": "Folder for all files that are written."})
    num_train_samples: int | None = field(
        default=None,
        metadata={"help": "Number of training images, needed for a stream (ImageNet-1k: 1281167)."},
    )
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16 or bf16. By default that of `accelerate config`."}
    )
    logging_steps: int = field(default=10, metadata={"help": "Number of steps between two logged training losses."})
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

    def check_stream(self, streaming: bool):
        """Ends the program with a message if the length of a stream is missing, or given for images that can be counted."""
        if streaming and self.num_train_samples is None:
            raise SystemExit("--streaming needs --num_train_samples, because the length of a stream is not known.")
        if not streaming and self.num_train_samples is not None:
            raise SystemExit(
                "--num_train_samples is for --streaming; these images are counted. To train on some of them give --max_train_samples."
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
    model, image_processor, arguments: LoopArguments, data_arguments: DataArguments, data: ImageData, log: list[dict], scores, labels
):  # fmt: skip
    """
    Writes the image processor, the model card, the metrics of the last entry of the log (all_results.json) and their picture. With
    `--push_to_hub`, publishes them with the model.
    """
    output = Path(arguments.output_dir)
    metric = main_metric_name(data.multi_label)
    results = {name: value for name, value in log[-1].items() if name != "step"}
    (output / "all_results.json").write_text(json.dumps(results, indent=4))
    image_processor.save_pretrained(output)
    metrics = {name.removeprefix("eval_"): value for name, value in results.items() if name != "eval_loss"}
    name = arguments.hub_model_id or str(output)
    card = complete_model_card(None, model, name, dataset=data_arguments.source, metrics=metrics, text=CARD_TEXT)
    card.save(output / "README.md")
    one_label = None if data.multi_label else labels.numpy()
    draw(draw_training, log, metric, output / PICTURE, one_label, scores.argmax(dim=-1).numpy(), data.classes)
    if data_arguments.skip_bad_images:
        print_bad_images(output)
    print(f"{metric.replace('_', ' ')} {results[f'eval_{metric}']:.4f}")
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
