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
Unpacks the source distribution of the installed release of transformers. pip fetches it, once per release, into a folder that git
ignores. Its tests import a few modules that it lacks: `stand_ins/` has our own versions of these, and they are added.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import small_models
import torch
import transformers

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor, CrossViTModel
from upstream.export import ONLY_IN_THE_TREE, contribution, write


BUILD = Path(__file__).parents[2] / "build" / "conformance"
NAME = f"transformers-{transformers.__version__}"
STAND_INS = Path(__file__).parent / "stand_ins"

# The small model of the other tests, with every kind of dropout.
SMALL = {
    **small_models.SMALL,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "drop_path_rate": 0.1,
}


def source_distribution() -> Path:
    archive = BUILD / f"{NAME}.tar.gz"
    if not archive.is_file():
        BUILD.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            package = f"transformers=={transformers.__version__}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
            subprocess.run([*pip, "--dest", folder, package], check=True)
            os.replace(Path(folder) / archive.name, archive)
    return archive


def unpack(folder: Path, part: str = "") -> Path:
    """A part of the source distribution, new in `folder`, with the stand-ins. Returns the folder that has `tests/`."""
    shutil.rmtree(folder, ignore_errors=True)
    with tarfile.open(source_distribution()) as tar:
        members = [member for member in tar if member.name.startswith(f"{NAME}/{part}")]
        # Python 3.10 and 3.11 have the filter from some patch release on.
        tar.extractall(folder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    root = folder / NAME
    shutil.copytree(STAND_INS, root, dirs_exist_ok=True)
    for package in (root / "tests", root / "tests" / "models"):
        package.mkdir(exist_ok=True)
        (package / "__init__.py").touch()
    return root


def unpack_tests() -> Path:
    """The tests of transformers and of the contribution, for the classes of this package."""
    root = unpack(BUILD / "package", "tests/")
    shutil.copytree(ONLY_IN_THE_TREE / "tests", root / "tests", dirs_exist_ok=True)
    # The tests look for transformers' classes in `src/`. An empty package there makes them find the installed ones.
    (root / "src" / "transformers").mkdir(parents=True)
    (root / "src" / "transformers" / "__init__.py").touch()
    return root


def unpack_tree() -> Path:
    """All of transformers, with the contribution in it."""
    root = unpack(BUILD / "tree")
    write(contribution(root))
    return root


def save_tiny_models(folder: Path) -> Path:
    """
    Saves small models for the pipeline tests, which otherwise load some from the Hub. The layout of the folder is that of
    transformers' `create_dummy_models.py`.
    """
    summary = {}
    for model_class in (CrossViTModel, CrossViTForImageClassification):
        torch.manual_seed(0)
        path = folder / "crossvit" / model_class.__name__
        model_class(CrossViTConfig(**SMALL, num_labels=5)).save_pretrained(path)
        CrossViTImageProcessor.from_image_size(48).save_pretrained(path)
        processors = ["CrossViTImageProcessor", "CrossViTImageProcessorPil"]
        summary[model_class.__name__] = {"tokenizer_classes": [], "processor_classes": processors}
    (folder / "reports").mkdir(parents=True, exist_ok=True)
    (folder / "reports" / "tiny_model_summary.json").write_text(json.dumps(summary))
    return folder
