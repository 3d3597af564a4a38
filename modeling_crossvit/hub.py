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
How models are published and loaded: the model card, the upload in one commit, and the base class of all models, which reads what others
have published. The code that a saved folder carries is written with its configuration (`configuration/saved_code.py`).
"""

import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, EvalResult, ModelCard, create_repo, upload_folder
from huggingface_hub.errors import EntryNotFoundError
from transformers import PreTrainedModel as _PreTrainedModel

from crossvit.weights.loading import LoadingMixin


# The files that `save_pretrained` and a model card leave in a folder.
SAVED_FILES = ("*.safetensors", "*.safetensors.index.json", "*config.json", "*.py", "README.md")

# The arguments of `save_pretrained` that are about the upload.
_HUB_ARGUMENTS = (
    *("repo_id", "license", "dataset", "metrics", "tags", "private"),
    *("commit_message", "commit_description", "token", "revision", "create_pr"),
)

# transformers writes a card with this sentence for a repository that has no card.
_PLACEHOLDER_CARD = "This model card has been automatically generated."


def check_output(output: Path, overwrite: bool, others: tuple[str, ...] = ()) -> None:
    """
    Refuses a folder with files that no saved model has, and without `overwrite` one that holds a model. `others` are patterns of files
    that a command writes beside those of a saved model.
    """
    if output.exists() and not output.is_dir():
        raise ValueError(f"The output {output} is a file. Give a folder.")
    if not output.is_dir() or not any(output.iterdir()):
        return
    patterns = (*SAVED_FILES, ".cache", *others)
    foreign = [path.name for path in output.iterdir() if not any(path.match(pattern) for pattern in patterns)]
    if foreign:
        raise ValueError(
            f"The output {output} holds {', '.join(sorted(foreign)[:3])}, which no saved model has. Give a new or empty folder."
        )
    if not overwrite:
        raise ValueError(
            f"The output {output} already holds a model. Give another folder, or --overwrite to replace it."
        )


def _usage(task: str, name: str) -> str:
    return f"""
## How to use

```python
from transformers import pipeline

pipe = pipeline("{task}", model="{name}", trust_remote_code=True)
print(pipe("photo.jpg"))  # a path, a URL or a PIL image
```

The model carries its code, so that transformers is all it needs. Where transformers-crossvit is installed, write `import crossvit`
instead of `trust_remote_code=True`.
"""


def _introduction(model: _PreTrainedModel, name: str) -> str:
    height, width = model.config.branch_image_size(0)
    purpose = f"{model.config.num_labels} classes" if hasattr(model, "classifier") else "image features"
    # Subclasses may fuse the branches in another way, as the models of research/fusion_schemes do.
    is_ours = model.config.model_type == "crossvit"
    fusion = "that are fused by cross-attention" if is_ours else f"in the form of `{type(model).__name__}`"
    return f"""
# {name.rsplit("/", 1)[-1]}

[CrossViT](https://huggingface.co/papers/2103.14899), two vision transformers with fine and coarse patches
{fusion}: {model.num_parameters():,} parameters, images of {height}x{width} pixels, {purpose}.
"""


def complete_model_card(
    card: ModelCard | None,
    model: _PreTrainedModel,
    name: str,
    *,
    license: str | None = None,
    dataset: str | None = None,
    metrics: Mapping[str, float] | None = None,
    text: str = "",
) -> ModelCard:
    """
    Adds to a model card the pipeline tag, the library, the tags and the usage that it lacks, and what is given here.

    Args:
        card: The card so far, by a user or by `Trainer`. Its text stays. Where there is none, or only transformers' placeholder, a new
            card is written.
        model: The model that it describes.
        name: A Hub id or a folder, as `from_pretrained` takes it.
        license: Licence of the weights, as the Hub writes it: `"apache-2.0"`.
        dataset: Hub id of the data that `metrics` were measured on.
        metrics: Results by their Hub names, `{"accuracy": 0.98}`.
        text: Sections to put before the usage.

    Raises:
        ValueError: If there are metrics without a data set.
    """
    if metrics and dataset is None:
        raise ValueError(
            f"`metrics` need the `dataset` that they were measured on, got {dict(metrics)} and no data set."
        )
    task = "image-classification" if hasattr(model, "classifier") else "image-feature-extraction"
    if card is None or _PLACEHOLDER_CARD in card.text:
        card = ModelCard("---\n{}\n---\n" + _introduction(model, name))
    if text not in card.text:
        card.text = card.text.rstrip() + "\n" + text
    if "## How to use" not in card.text:
        card.text = card.text.rstrip() + "\n" + _usage(task, name)

    data: Any = card.data
    data.library_name = data.library_name or "transformers"
    data.pipeline_tag = data.pipeline_tag or task
    data.tags = list(dict.fromkeys([*(data.tags or []), "crossvit"]))
    data.license = license or data.license
    if dataset is not None:
        data.datasets = [dataset]
    if metrics and dataset is not None:
        data.metrics = list(metrics)
        data.model_name = name.rsplit("/", 1)[-1]
        data.eval_results = [EvalResult(task, dataset, dataset, metric, value) for metric, value in metrics.items()]
    return card


class PreTrainedModel(LoadingMixin, _PreTrainedModel):
    """transformers' base of all models, which also reads what timm has published, and publishes with a complete model card."""

    def save_pretrained(
        self,
        save_directory: str | os.PathLike,
        is_main_process: bool = True,
        state_dict: dict | None = None,
        push_to_hub: bool = False,
        **kwargs: Any,
    ) -> CommitInfo | None:
        """
        As in transformers. With `push_to_hub=True`, the other arguments of [`CrossViTPreTrainedModel.push_to_hub`] are accepted too, and
        `repo_id`, by default the name of the folder.
        """
        hub_kwargs = {name: kwargs.pop(name) for name in _HUB_ARGUMENTS if name in kwargs}
        super().save_pretrained(save_directory, is_main_process=is_main_process, state_dict=state_dict, **kwargs)
        if push_to_hub and is_main_process:
            return self._upload(Path(save_directory), **{"repo_id": Path(save_directory).name, **hub_kwargs})
        return None

    def _upload(
        self,
        folder: Path,
        repo_id: str,
        license: str | None = None,
        dataset: str | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Iterable[str] = (),
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo:
        token = kwargs.get("token")
        repo_id = create_repo(repo_id, private=private, token=token, exist_ok=True).repo_id
        try:
            card = ModelCard.load(repo_id, token=token)
        except EntryNotFoundError:
            card = None
        card = complete_model_card(card, self, repo_id, license=license, dataset=dataset, metrics=metrics)
        data: Any = card.data
        data.tags = list(dict.fromkeys([*data.tags, *(self.model_tags or []), *tags]))
        card.save(folder / "README.md")
        # The folder may hold more than the model, for example the checkpoints of a training run.
        allow_patterns = [path.name for pattern in SAVED_FILES for path in folder.glob(pattern)]
        kwargs = {"commit_message": "Upload model", **kwargs}
        return upload_folder(repo_id=repo_id, folder_path=folder, allow_patterns=allow_patterns, **kwargs)

    def push_to_hub(self, repo_id: str, *, max_shard_size: int | str = "50GB", **kwargs: Any) -> CommitInfo | None:
        """
        As in transformers, in one commit with a model card that says what the model is and how to use it. A card that the
        repository has already keeps its text.

        Args:
            repo_id (`str`): Name of the repository, `"user/name"`; it is made if it does not exist.
            max_shard_size (`int` or `str`, *optional*, defaults to `"50GB"`): Largest size of a file of weights.
            license (`str`, *optional*): Licence of the weights, as the Hub writes it: `"apache-2.0"`.
            dataset (`str`, *optional*): Hub id of the data that `metrics` were measured on.
            metrics (`dict[str, float]`, *optional*): Results for the card, such as `{"accuracy": 0.98}`.
            tags (`list[str]`, *optional*): Tags to add to the card.
            commit_message, commit_description, private, token, revision, create_pr: As in transformers.
        """
        with tempfile.TemporaryDirectory() as folder:
            return self.save_pretrained(
                folder, push_to_hub=True, repo_id=repo_id, max_shard_size=max_shard_size, **kwargs
            )


__all__ = ["SAVED_FILES", "PreTrainedModel", "check_output", "complete_model_card"]
