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
What a saved CrossViT carries beside its weights: the source files that load it where this package is not installed, and its model
card. This file travels with them, so that a copy can be saved again.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import EvalResult, ModelCard


if TYPE_CHECKING:
    from transformers import PreTrainedModel


# What `save_pretrained` and a model card leave in a folder.
SAVED_FILES = ("*.safetensors", "*.safetensors.index.json", "*config.json", "*.py", "README.md")

_RELATIVE_IMPORT = re.compile(r"^from \.+(?:\w+\.)*(\w+) import", re.MULTILINE)

# transformers writes this into the card of a repository that has none.
_PLACEHOLDER_CARD = "This model card has been automatically generated."


def _sources() -> dict[str, Path]:
    """Module names and source files of this package, whose folders are one where this file is a copy beside a saved model."""
    folders = [Path(__file__).parent]
    for package in ("configuration", "image_processing"):
        if module := sys.modules.get(f"{__package__}.{package}"):
            folders.append(Path(module.__path__[0]))
    return {path.stem: path for folder in folders for path in folder.glob("*_crossvit.py")}


def _write(path: Path, text: str):
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
    """An entry of an `auto_map`, or the backends of it, as far as the source is at hand: a copy may lack the other files."""
    if isinstance(reference, Mapping):
        return {backend: entry for backend, entry in reference.items() if _available(entry, sources)}
    return reference if _module_name(reference) in sources else None


def save_code(
    folder: str | os.PathLike,
    auto_map: Mapping[str, str | Mapping[str, str]],
    registered: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """
    Writes the source files of the classes into the folder of a saved model, with those that they import, each as it is but for
    its relative imports: transformers loads custom code from files that lie side by side.

    Args:
        folder: The folder, made if it is missing.
        auto_map: Auto class names and the classes for them, as `module.class`, or a dictionary of these by backend.
        registered: The `auto_map` so far. What a user's subclass has put there (`register_for_auto_class`) stays.

    Returns:
        The `auto_map` for the folder.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    sources = _sources()
    saved = {auto: kept for auto, reference in auto_map.items() if (kept := _available(reference, sources))}
    entries = [
        entry
        for reference in saved.values()
        for entry in (reference.values() if isinstance(reference, dict) else [reference])
    ]
    module_names = list(dict.fromkeys(map(_module_name, entries)))
    for module_name in module_names:  # which grows
        text = sources[module_name].read_text(encoding="utf-8")
        module_names += [name for name in _RELATIVE_IMPORT.findall(text) if name not in module_names]
        _write(folder / f"{module_name}.py", _RELATIVE_IMPORT.sub(r"from .\1 import", text))
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
    return f"""
# {name.rsplit("/", 1)[-1]}

[CrossViT](https://huggingface.co/papers/2103.14899), two vision transformers with fine and coarse patches that are fused by
cross-attention: {model.num_parameters():,} parameters, images of {height}x{width} pixels, {purpose}.
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
    Adds to a model card what it lacks: pipeline tag, library, tags, how to use the model; and what is given here.

    Args:
        card: The card so far: by a user or by `Trainer`. Its text stays. Without one, or with transformers' placeholder, a new one
            is written.
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
