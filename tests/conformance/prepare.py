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
Unpacks the tests of the installed transformers release for this folder: fetches its source distribution with pip, once per
release, keeps `tests/` of it in a folder that git ignores, and adds `stand_ins/`, our own versions of the few modules that those
tests import and the source distribution leaves out.
"""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import torch
import transformers

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor, CrossViTModel


BUILD = Path(__file__).parents[2] / "build" / "conformance"
STAND_INS = Path(__file__).parent / "stand_ins"

# Two stages; unequal widths, heads and depths, which show what is mixed up between the branches; every kind of dropout.
SMALL = {
    "image_sizes": [48, 32],
    "patch_sizes": [12, 16],
    "hidden_sizes": [16, 24],
    "num_stages": 2,
    "depths": [1, 2],
    "num_attention_heads": [2, 3],
    "mlp_ratios": [2.0, 3.0],
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "drop_path_rate": 0.1,
}


def unpack_tests() -> Path:
    """The folder that has `tests/`, to be put on `sys.path`."""
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
    # The tests look transformers' classes up in `src/`: with an empty package there, they get the installed ones.
    for package in ("tests", "src/transformers"):
        (root / package).mkdir(parents=True, exist_ok=True)
        (root / package / "__init__.py").touch()
    return root


def save_tiny_models(folder: Path) -> Path:
    """What transformers' own pipeline tests load from the Hub, in the layout of its `create_dummy_models.py`."""
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
