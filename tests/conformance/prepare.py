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
Unpacks the tests of the installed release of transformers. pip fetches the source distribution, once per release; its `tests/` is
kept in a folder that git ignores. The tests import a few modules that the source distribution lacks: `stand_ins/` has our own
versions of these, and they are added.
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


BUILD = Path(__file__).parents[2] / "build" / "conformance"
STAND_INS = Path(__file__).parent / "stand_ins"

# The small model of the other tests, with every kind of dropout.
SMALL = {
    **small_models.SMALL,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "drop_path_rate": 0.1,
}


def unpack_tests() -> Path:
    """Returns the folder to put on `sys.path`: it has `tests/`."""
    root = BUILD / f"transformers-{transformers.__version__}"
    if not (root / "tests").is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILD) as folder:
            package = f"transformers=={transformers.__version__}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "transformers"]
            subprocess.run([*pip, "--dest", folder, package], check=True)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                members = [member for member in tar if member.name.startswith(f"{root.name}/tests/")]
                # Python 3.10 and 3.11 have the filter from some patch release on.
                tar.extractall(folder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
            os.replace(Path(folder) / root.name / "tests", root / "tests")
    shutil.copytree(STAND_INS, root, dirs_exist_ok=True)
    # The tests look for transformers' classes in `src/`. An empty package there makes them find the installed ones.
    for package in ("tests", "src/transformers"):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
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
