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
Proves that the model, written into the source distribution of transformers by `make upstream`, passes transformers' own tests and checks
there, with the Auto classes of that tree; that it reads what this package saved, and computes what timm computes.

    make conformance

The source distribution has no `utils/`, so that the checks of `make check-repo` need a checkout: docs/upstream.md.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
import transformers
from prepare import SMALL, unpack_tree
from safetensors.torch import save_file

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from upstream.export import table_of_lines


HERE = Path(__file__).parent
IN_THE_TREE = HERE / "in_the_tree"
MODEL, TESTS = "src/transformers/models/crossvit", "tests/models/crossvit"


@pytest.fixture(scope="module")
def tree():
    return unpack_tree()


def run(tree, *command, **environment):
    """Runs a module of Python in the tree, with the transformers of the tree."""
    path = os.pathsep.join(map(str, (tree / "src", tree / "utils", HERE, IN_THE_TREE)))
    result = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-20000:] + result.stderr[-5000:]
    return result.stdout


def run_pytest(tree, *arguments, **environment):
    options = ("--quiet", "--disable-warnings", "-p", "no:cacheprovider", "-o", "log_cli=false", f"--rootdir={tree}")
    return run(tree, "pytest", *options, *arguments, **environment).splitlines()[-1]


def test_transformers_own_tests(tree, capsys):
    summary = run_pytest(tree, TESTS, "-p", "skips")
    with capsys.disabled():
        print(f"\nin the tree: {summary}")


def test_examples_of_the_docstrings(tree):
    run_pytest(tree, "-p", "parser_of_docstrings", "--doctest-modules", MODEL)


def test_timm_folders_and_folders_of_the_package(tree, tmp_path):
    for name in ("crossvit_tiny_240", "crossvit_9_dagger_240", "crossvit_15_dagger_408"):
        torch.manual_seed(0)
        model = timm.create_model(name)
        for parameter in model.parameters():  # also the biases and norms, which timm sets to 0 and 1
            parameter.data += 0.02 * torch.randn_like(parameter)
        timm.models.save_for_hf(model, tmp_path / name, safe_serialization=True)
        CrossViTConfig.from_variant(name, num_labels=1000).to_json_file(tmp_path / name / "crossvit.json")
    folder = tmp_path / "saved_by_the_package"
    torch.manual_seed(0)
    model = CrossViTForImageClassification(CrossViTConfig(**SMALL, num_labels=5)).eval()
    model.save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
    pixel_values = torch.randn(2, 3, 48, 48)
    with torch.no_grad():
        save_file({"pixel_values": pixel_values, "logits": model(pixel_values).logits}, folder / "expected.bin")
    run_pytest(tree, str(IN_THE_TREE), f"--confcutdir={IN_THE_TREE}", CROSSVIT_FOLDERS=str(tmp_path))


def test_rules_and_style(tree):
    run(tree, "ruff", "check", MODEL, TESTS)
    run(tree, "ruff", "format", "--check", MODEL, TESTS, "src/transformers/conversion_mapping.py")
    assert run(tree, "mlinter", "--no-progress", "--no-cache", MODEL, TESTS).strip() == "OK"


def test_table_of_lines(tree):
    page = (HERE.parents[1] / "docs" / "upstream.md").read_text(encoding="utf-8")
    table = table_of_lines(tree)
    if f"transformers {transformers.__version__}" not in page:  # then the rows of other models may differ
        table = next(row for row in table.splitlines() if row.startswith("| CrossViT"))
    assert table in page, f"docs/upstream.md needs this table:\n{table}"
