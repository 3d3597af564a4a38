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
The README tells the truth: its Python runs and prints what stands below it, its table has the real parameter counts, and the
files and commands that it names exist.

    pytest tests/test_readme.py
"""

import contextlib
import io
import re
from pathlib import Path

import pytest
import torch

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", README, re.S)


@pytest.mark.parametrize(("code", "output"), BLOCKS, ids=[code.splitlines()[0] for code, _ in BLOCKS])
def test_python_prints_what_stands_below_it(code, output, quickstart, monkeypatch):
    folder, _ = quickstart
    monkeypatch.chdir(folder.parents[1])  # where `outputs/quickstart` is
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        # The only thing that a machine without a network cannot do is to download the weights.
        exec(code.replace("pretrained=True", "pretrained=False"), {})
    assert printed.getvalue() == output


def test_there_are_blocks():
    assert len(BLOCKS) >= 3


def test_table_of_variants():
    rows = {
        row[0]: row[1:]
        for row in re.findall(r"^\| `(\w+)` \|.*?\| ([\d, ]+) \| ([\d, ]+) \| ([\d,]+) \|", README, re.M)
    }
    assert rows.keys() == CROSSVIT_VARIANTS.keys()
    for variant, (widths, layers, parameters) in rows.items():
        config = CrossViTConfig.from_variant(variant, num_labels=1000)
        with torch.device("meta"):
            model = CrossViTForImageClassification(config)
        assert widths == ", ".join(map(str, config.hidden_sizes))
        assert layers == ", ".join(map(str, config.depths))
        assert parameters == f"{model.num_parameters():,}"


def test_named_files_and_targets_exist():
    for target in re.findall(r"\]\(((?!http)[^)#]+)\)", README):
        assert (ROOT / target).exists(), target
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for folder in re.findall(r"^    (\w+)/ ", README, re.M):
        assert (ROOT / folder).is_dir(), folder
    for script in re.findall(r"python (\w+/\w+\.py)", README):
        assert (ROOT / script).is_file(), script
