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
Proves that what the pages tell people to do works: their Python runs and prints what stands below it, the options in their commands exist,
their links lead somewhere, and the tables of published models have the numbers of the code. tests/test_first_contact.py runs the code of the
README.

    pytest tests/test_documents.py              a few seconds
    pytest tests/test_documents.py -m slow      the `--help` of each command, and what needs the quickstart's model: five minutes
"""

import contextlib
import io
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from timm.models import get_pretrained_cfg

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification
from crossvit.configuration.variants import PUBLISHED_ACCURACIES


ROOT = Path(__file__).parents[1]
# Every page for readers.
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md", "research/**/*.md", "tests/README.md")
    for path in sorted(ROOT.glob(pattern))
}
README, CHECKPOINTS, USING_A_MODEL = (PAGES[name] for name in ("README.md", "docs/checkpoints.md", "docs/using_a_model.md"))  # fmt: skip
BLOCKS = [
    # What needs the model of the quickstart takes a minute of training.
    pytest.param(
        code,
        output,
        marks=[pytest.mark.slow] if "outputs/quickstart" in code else [],
        id=f"{page}: {code.splitlines()[-1]}",
    )
    for page, text in PAGES.items()
    if page.startswith("docs/")
    for code, output in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", text, re.S)
]


def commands() -> dict[tuple[str, ...], set[str]]:
    """The Python programs that the pages run in a shell, as arguments of `python`, and the options that they give to each."""
    found: dict[tuple[str, ...], set[str]] = {}
    for block in re.findall(r"```bash\n(.*?)```", "\n".join(PAGES.values()), re.S):
        for name, value in re.findall(r'^(\w+)="(.*)"$', block, re.M):
            block = block.replace(f"${name}", value)
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            for index, word in enumerate(words):
                if re.fullmatch(r"(examples|benchmarks|research)/.*\.py", word):
                    program = (word,)
                elif word == "-m" and words[index + 1].split(".")[0] in ("crossvit", "benchmarks", "research"):
                    program = ("-m", words[index + 1])
                else:
                    continue
                options = (option.split("=")[0] for option in words[index + len(program) :])
                found.setdefault(program, set()).update(option for option in options if option.startswith("--"))
                break
    return found


COMMANDS = commands()


@pytest.mark.parametrize(("code", "output"), BLOCKS)
def test_python_prints_what_stands_below_it(code, output, request, monkeypatch):
    if "outputs/quickstart" in code:
        folder, _ = request.getfixturevalue("quickstart")
        monkeypatch.chdir(folder.parents[1])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(code, {})
    # Without the progress of torch's ONNX export.
    assert re.sub(r"^\[torch\.onnx\].*\n", "", printed.getvalue(), flags=re.M) == output


@pytest.mark.slow
@pytest.mark.parametrize("program", COMMANDS, ids=" ".join)
def test_options_in_commands_exist(program):
    shown = subprocess.run([sys.executable, *program, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr
    assert COMMANDS[program] <= {"--help", *re.findall(r"--\w[\w-]*", shown.stdout)}


@pytest.mark.slow
def test_commands_of_using_a_model_run(request, monkeypatch):
    """All but the page for the browser, which never ends: tests/examples/test_demo.py starts it."""
    folder, _ = request.getfixturevalue("quickstart")
    monkeypatch.chdir(folder.parents[1])
    blocks = re.findall(r"```bash\n(python .*?)```", USING_A_MODEL, re.S)
    commands = [shlex.split(block.replace("\\\n", "")) for block in blocks if "demo/app.py" not in block]
    assert len(commands) == 5
    Path("examples").symlink_to(ROOT / "examples")
    for _, *arguments in commands:
        subprocess.run([sys.executable, *arguments], check=True)
    for written in ("evaluation/evaluation.png", "predictions/predictions", "search/nearest.png", "../why.png"):
        assert (Path("outputs") / written).exists()


def rows(page: str) -> list[list[str]]:
    """The rows of a page about a published model, without the decoration of their cells."""
    lines = re.findall(r"^\| `crossvit_.*\|$", page, re.M)
    return [[cell.strip(" `") for cell in line.split("|")[1:-1]] for line in lines]


def test_table_of_architectures():
    expected = []
    for variant in CROSSVIT_VARIANTS:
        config = CrossViTConfig.from_variant(variant, num_labels=1000)
        with torch.device("meta"):
            parameters = CrossViTForImageClassification(config).num_parameters()
        stem = "3 convolutions" if config.use_convolutional_stem else "linear"
        paper, timm = PUBLISHED_ACCURACIES[variant]
        sizes = [", ".join(map(str, values)) for values in (config.hidden_sizes, config.depths)]
        expected.append([variant, stem, *sizes, f"{parameters:,}", f"{paper}", f"{timm:.3f}"])
    # tests/test_speed.py counts the GFLOPs.
    found = [row[:5] + row[6:] for row in rows(README[README.index("## Published models") :])]
    assert found == expected


def test_table_of_checkpoints():
    expected = []
    for variant in CROSSVIT_VARIANTS:
        # The release names its files by the size that the paper says.
        file = f"{variant.replace('_240', '_224').replace('_408', '_384')}.pth"
        paper, timm = PUBLISHED_ACCURACIES[variant]
        expected.append([variant, get_pretrained_cfg(variant).hf_hub_id, file, f"{paper}", f"{timm:.3f}"])
    assert [row[:1] + row[2:] for row in rows(CHECKPOINTS)] == expected


@pytest.mark.parametrize("page", PAGES)
def test_links_and_targets_exist(page):
    makefile = (ROOT / "Makefile").read_text()
    for link in re.findall(r"\]\(((?!http)[^)#]+)\)", PAGES[page]):
        assert ((ROOT / page).parent / link).exists(), link
    # At the start of a line, or in backticks.
    for target in re.findall(r"^make ([\w-]+)|`make ([\w-]+)", PAGES[page], re.M):
        assert re.search(rf"^{''.join(target)}:", makefile, re.M), target
