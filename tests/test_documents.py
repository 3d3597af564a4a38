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
The README and the pages of docs/ tell the truth: their Python runs and prints what stands below it, their tables have the real
numbers and flags, the shell lines work, and the files and commands that they name exist.

    pytest tests/test_documents.py
"""

import contextlib
import io
import re
import runpy
import subprocess
import sys
from pathlib import Path

import execution_modes
import pytest
import timm
import torch
import training
from safetensors.torch import save_file
from timm.models import get_pretrained_cfg
from transformers import HfArgumentParser

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification
from crossvit.convert import PUBLISHED_ACCURACIES, _parser


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
EXECUTION_MODES = (ROOT / "docs" / "execution_modes.md").read_text()
BLOCKS = [
    pytest.param(code, output, id=f"{page}: {code.splitlines()[-1]}")
    for page, text in {"README": README, "checkpoints": CHECKPOINTS, "execution modes": EXECUTION_MODES}.items()
    for code, output in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", text, re.S)
]


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_python_prints_what_stands_below_it(code, output, quickstart, monkeypatch):
    folder, _ = quickstart
    monkeypatch.chdir(folder.parents[1])  # where `outputs/quickstart` is
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    # Without the progress of torch's ONNX export.
    assert re.sub(r"^\[torch\.onnx\].*\n", "", printed.getvalue(), flags=re.M) == output


def test_there_are_blocks():
    assert len(BLOCKS) >= 5


def test_three_lines_to_a_classified_photo(tmp_path, photos):
    """As they stand, but for the download: the source is a file with timm's keys."""
    (lines,) = re.findall(r"```bash\n(pip install \"\.\[convert\]\"\n.*?)```", README, re.S)
    install, convert, classify = lines.splitlines()
    assert install == 'pip install ".[convert]"'
    save_file(timm.create_model("crossvit_15_dagger_240").state_dict(), tmp_path / "weights.safetensors")
    photos["landscape"].save(tmp_path / "photo.jpg")
    convert = convert.replace("--source crossvit_15_dagger_240", "--source weights.safetensors")
    for line in (convert, classify):
        line = line.replace("python ", f"{sys.executable} ", 1)
        process = subprocess.run(line, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert process.returncode == 0, process.stderr
    assert len(eval(process.stdout)) == 5


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


def test_table_of_checkpoints():
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]]
        for line in CHECKPOINTS.splitlines()
        if "| `crossvit" in line
    ]
    assert [row[0] for row in rows] == list(CROSSVIT_VARIANTS)
    for variant, _, repository, file, paper, timm_accuracy in rows:
        assert repository == get_pretrained_cfg(variant).hf_hub_id
        # The release names its files by the size that the paper says.
        assert file == f"{variant.replace('_240', '_224').replace('_408', '_384')}.pth"
        assert (float(paper), float(timm_accuracy)) == PUBLISHED_ACCURACIES[variant]
    readme = re.findall(r"^\| `(\w+)` \|.*\| ([\d.]+) \| ([\d.]+) \|$", README, re.M)
    assert {variant: (float(paper), float(other)) for variant, paper, other in readme} == PUBLISHED_ACCURACIES


def test_table_of_flags():
    documented = re.findall(r"^\| `(--[\w-]+)` \|", CHECKPOINTS, re.M)
    flags = [option for action in _parser()._actions for option in action.option_strings if option.startswith("--")]
    assert sorted(documented) == sorted(set(flags) - {"--help"})
    for command in re.findall(r"^python -m crossvit\.convert (.*)$", README + CHECKPOINTS, re.M):
        _parser().parse_args(command.split())


def test_tables_of_execution_modes():
    """Every mode and precision that benchmarks/execution_modes.py measures is there, within its limit."""
    rows = dict(re.findall(r"^\| ([^|]+) \| .* \| (\S+) \| \S+ \|$", EXECUTION_MODES, re.M))
    for name, mode in execution_modes.MODES.items():
        assert rows[name] == "equal" or float(rows[name]) <= mode.limit, name
    precisions = re.findall(r"^\| ([^|]+) \| (\d+) of (\d+) \|", EXECUTION_MODES, re.M)
    assert {name for name, _, _ in precisions} == execution_modes.PRECISIONS.keys()
    for name, equal, count in precisions:
        assert int(equal) >= execution_modes.PRECISIONS[name][1] * int(count)


def test_training_page(monkeypatch):
    """Accuracies and differences are what benchmarks/training.py expects; the options and the files that the page names exist."""
    accuracies = dict(re.findall(r"^\| ([^|]+) \| (0\.\d{4}) \| 0\.\d{4} \|$", TRAINING, re.M))
    assert accuracies.keys() == training.COMMANDS.keys()
    assert min(map(float, accuracies.values())) >= 0.95
    differences = re.findall(r"^\| ([^|]+) \| 15 \| (\S+) \| (\S+) \|$", TRAINING, re.M)
    assert [name for name, _, _ in differences] == list(training.PARALLEL)
    assert max(float(number) for _, *numbers in differences for number in numbers) <= 1e-4
    described = re.findall(r"^\| `(\w+\.(?:yaml|sh))` \|", TRAINING, re.M)
    assert sorted(described) == sorted(path.name for path in (ROOT / "examples" / "launch").iterdir())

    monkeypatch.syspath_prepend(ROOT / "examples")
    options = {"--config_file", "--max-restarts", "--nproc-per-node"}  # of the launchers
    for script in re.findall(r"^\| `(examples/\w+\.py)` \|", TRAINING, re.M):
        defined = runpy.run_path(str(ROOT / script))
        groups = [value for value in defined.values() if hasattr(value, "_argument_group_name")]
        for action in HfArgumentParser(groups)._actions:
            options.update(action.option_strings)
    assert set(re.findall(r"(?<![\w-])--\w[\w-]*", TRAINING)) <= options


def test_named_files_and_targets_exist():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(((?!http)[^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), (page, target)
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^make (\w+)", README, re.M):
        assert re.search(rf"^{target}:", makefile, re.M), target
    for folder in re.findall(r"^    (\w+)/ ", README, re.M):
        assert (ROOT / folder).is_dir(), folder
    for script in re.findall(r"python (\w+/\w+\.py)", README):
        assert (ROOT / script).is_file(), script
