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
What a saved CrossViT carries beside its weights, and how it is published: the source files that load it where this package is not
installed, and its model card. This file travels with them, so that a copy can be saved again.

It lies in the folder of the configuration because configuration, image processors and models all save, and imports go one way.
"""

import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import CommitInfo, EvalResult, ModelCard, create_repo, upload_folder
from huggingface_hub.errors import EntryNotFoundError


if TYPE_CHECKING:
    from transformers import PreTrainedModel
else:
    PreTrainedModel = object  # The mixin below names it for type checkers; importing it would need PyTorch.


# Folders whose `*_crossvit.py` files are saved. `crossvit/__init__.py` adds those of the package; where this file is a copy beside a
# saved model, all of them lie in its own folder.
SOURCE_FOLDERS = [Path(__file__).parent]

# The files that `save_pretrained` and a model card leave in a folder.
SAVED_FILES = ("*.safetensors", "*.safetensors.index.json", "*config.json", "*.py", "README.md")

# Imports of another file that travels: from the package in a source file, from the same folder in a copy.
_OWN_IMPORT = re.compile(r"^from (?:crossvit)?\.(?:\w+\.)*(\w+_crossvit) import", re.MULTILINE)

# transformers writes a card with this sentence for a repository that has no card.
_PLACEHOLDER_CARD = "This model card has been automatically generated."


def _source_files() -> dict[str, Path]:
    """The files that can travel, by module name."""
    return {path.stem: path for folder in SOURCE_FOLDERS for path in folder.glob("*_crossvit.py")}


def _write(path: Path, text: str) -> None:
    """All or nothing: a full disk leaves the previous file as it was."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _module_name(reference: str) -> str:
    return reference.split(".")[0]


def _available(reference: Any, sources: Mapping[str, Path]) -> Any:
    """
    An entry of an `auto_map` if its source is at hand, else None; of an entry per backend, those that are. A copy may lack files, because
    transformers fetches only those that it needs.
    """
    if isinstance(reference, Mapping):
        return {backend: entry for backend, entry in reference.items() if _available(entry, sources)}
    return reference if _module_name(reference) in sources else None


def save_code(
    folder: str | os.PathLike,
    auto_map: Mapping[str, str | Mapping[str, str]],
    registered: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Writes the source files of the classes into the folder of a saved model, and those that they import. Only their imports of each other
    are changed, because transformers loads custom code from files that lie side by side.

    Args:
        folder: The folder, made if it is missing.
        auto_map: Auto class names and the classes for them, as `module.class`, or a dictionary of these by backend.
        registered: The `auto_map` so far. Classes of the user's own, entered by `register_for_auto_class`, stay.

    Returns:
        The `auto_map` for the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = _source_files()
    saved = {auto: kept for auto, reference in auto_map.items() if (kept := _available(reference, sources))}
    entries = [
        entry
        for reference in saved.values()
        for entry in (reference.values() if isinstance(reference, dict) else [reference])
    ]
    module_names = list(dict.fromkeys(map(_module_name, entries)))
    for module_name in module_names:  # The list grows by what each file imports.
        text = sources[module_name].read_text(encoding="utf-8")
        module_names += [name for name in _OWN_IMPORT.findall(text) if name not in module_names]
        _write(folder / f"{module_name}.py", _OWN_IMPORT.sub(r"from .\1 import", text))
    own = {
        auto: reference
        for auto, reference in (registered or {}).items()
        if isinstance(reference, str)
        and _module_name(reference) not in module_names
        and (folder / f"{_module_name(reference)}.py").is_file()
    }
    return {**saved, **own}


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


def _introduction(model: "PreTrainedModel", name: str) -> str:
    height, width = model.config.branch_image_size(0)
    purpose = f"{model.config.num_labels} classes" if hasattr(model, "classifier") else "image features"
    # Subclasses may fuse the branches in another way, as those of examples/fusion_schemes do.
    is_ours = model.config.model_type == "crossvit"
    fusion = "that are fused by cross-attention" if is_ours else f"in the form of `{type(model).__name__}`"
    return f"""
# {name.rsplit("/", 1)[-1]}

[CrossViT](https://huggingface.co/papers/2103.14899), two vision transformers with fine and coarse patches
{fusion}: {model.num_parameters():,} parameters, images of {height}x{width} pixels, {purpose}.
"""


def complete_model_card(
    card: ModelCard | None,
    model: "PreTrainedModel",
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


class CrossViTSavingMixin(PreTrainedModel):
    """Publishing with a complete model card, for a [`PreTrainedModel`]. The source files come with its configuration."""

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
        hub_arguments = "repo_id license dataset metrics tags commit_message commit_description private token revision create_pr".split()
        hub_kwargs = {name: kwargs.pop(name) for name in hub_arguments if name in kwargs}
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


__all__ = ["SAVED_FILES", "SOURCE_FOLDERS", "CrossViTSavingMixin", "complete_model_card", "save_code"]
