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
The core: the files that travel with every saved model, so that it loads with transformers alone (`trust_remote_code=True`). They import
nothing else of this package but a base class, and a copy has transformers' own in its place. Only imports differ.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from crossvit.configuration.files import replace_file


_PACKAGE = Path(__file__).parents[1]

# All files that travel, and no others, by the name of their module.
CORE = {
    "configuration_crossvit": _PACKAGE / "configuration" / "configuration_crossvit.py",
    "modeling_crossvit": _PACKAGE / "modeling_crossvit.py",
    "loss_crossvit": _PACKAGE / "loss_crossvit.py",
    "image_processing_crossvit": _PACKAGE / "image_processing" / "image_processing_crossvit.py",
    "image_processing_pil_crossvit": _PACKAGE / "image_processing" / "image_processing_pil_crossvit.py",
}

# The classes that load a saved model where this package is not installed, by the Auto class that looks for them.
MODEL_CLASSES = {
    "AutoBackbone": "modeling_crossvit.CrossViTBackbone",
    "AutoConfig": "configuration_crossvit.CrossViTConfig",
    "AutoModel": "modeling_crossvit.CrossViTModel",
    "AutoModelForImageClassification": "modeling_crossvit.CrossViTForImageClassification",
}
IMAGE_PROCESSOR_CLASSES = {
    "AutoImageProcessor": {
        "torchvision": "image_processing_crossvit.CrossViTImageProcessor",
        "pil": "image_processing_pil_crossvit.CrossViTImageProcessorPil",
    }
}

# The imports of this package in the core, and what stands in their place in a copy.
_IMPORTS_OF_A_COPY = [
    (r"^from crossvit\.configuration\.base import", "from transformers.configuration_utils import"),
    (r"^from crossvit\.image_processing\.base import", "from transformers.image_processing_backends import"),
    (r"^from crossvit\.hub import", "from transformers.modeling_utils import"),
    (r"^from crossvit\.(?:\w+\.)*(\w+_crossvit) import", r"from .\1 import"),
]


def copy_of(source: str) -> str:
    """The text of a file of the core for a folder in which all of them lie side by side."""
    for pattern, replacement in _IMPORTS_OF_A_COPY:
        source = re.sub(pattern, replacement, source, flags=re.MULTILINE)
    return source


def is_core(instance: object) -> bool:
    """Whether the class of an object is one of the core, and not a subclass with code of its own, which may come from a notebook."""
    return Path(getattr(sys.modules.get(type(instance).__module__), "__file__", None) or "") in CORE.values()


def save_code(saved: object, folder: str | os.PathLike, auto_map: Mapping[str, Any]) -> dict[str, Any]:
    """
    Writes the core into the folder of a saved configuration or image processor.

    Args:
        saved: What is saved. The core does not have the code of a subclass, so that none is written for it.
        folder: The folder, made if it is missing.
        auto_map: Names of Auto classes and the classes for them.

    Returns:
        The `auto_map` for the saved file: the given one, and classes of the user's own that are registered with `saved` and whose source
        lies in the folder (transformers' `register_for_auto_class`).
    """
    folder = Path(folder)
    registered = {
        auto: reference
        for auto, reference in (getattr(saved, "auto_map", None) or {}).items()
        if isinstance(reference, str)
        and (module_name := reference.split(".")[0]) not in CORE
        and (folder / f"{module_name}.py").is_file()
    }
    if not is_core(saved):
        return registered
    folder.mkdir(parents=True, exist_ok=True)
    for module_name, path in CORE.items():
        with replace_file(folder / f"{module_name}.py") as new:
            new.write_text(copy_of(path.read_text(encoding="utf-8")), encoding="utf-8")
    return {**auto_map, **registered}


def remove_code(folder: Path) -> None:
    """Takes the core out of a saved folder that needs none, as that of an exported program, and the names of its classes out of the configurations."""
    for module_name in CORE:
        (folder / f"{module_name}.py").unlink(missing_ok=True)
    for file in folder.glob("*config.json"):
        settings = json.loads(file.read_text(encoding="utf-8"))
        if settings.pop("auto_map", None):
            file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


__all__ = ["CORE", "IMAGE_PROCESSOR_CLASSES", "MODEL_CLASSES", "copy_of", "is_core", "remove_code", "save_code"]
