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
Proves that the README and the other pages tell the truth, against the code: their Python runs and prints what stands below it, their
tables have the real names, sizes and flags, the files and commands that they name exist, and all of them name the same versions. The
code of the README is run by tests/test_first_contact.py.

    pytest tests/test_documents.py              a few seconds
    pytest tests/test_documents.py -m slow      what needs the quickstart's model: four minutes
"""

import contextlib
import io
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from timm.models import get_pretrained_cfg
from transformers import HfArgumentParser

from benchmarks import execution_modes, training
from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, __version__
from crossvit.configuration.variants import PUBLISHED_ACCURACIES
from crossvit.weights.convert import _parser


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SETUP = (ROOT / "setup.py").read_text()
CHECKPOINTS = (ROOT / "docs" / "checkpoints.md").read_text()
TRAINING = (ROOT / "docs" / "training.md").read_text()
EXECUTION_MODES = (ROOT / "docs" / "execution_modes.md").read_text()
IMAGES = (ROOT / "docs" / "images.md").read_text()
DEPLOYMENT = (ROOT / "docs" / "deployment.md").read_text()
SPEED = (ROOT / "docs" / "speed.md").read_text()
TESTS = ROOT / "tests"
# Every page for readers.
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), TESTS / "README.md", *(ROOT / "examples").rglob("*.md")]
# The pages whose numbers a script of benchmarks/ measures.
MEASURED = {
    name: (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("parity", "execution_modes", "training", "solar_cells", "deployment", "using_a_model", "learning")
}
BLOCKS = [
    # What needs the model of the quickstart takes a minute of training.
    pytest.param(
        code,
        output,
        marks=[pytest.mark.slow] if "outputs/quickstart" in code else [],
        id=f"{page}: {code.splitlines()[-1]}",
    )
    for page, text in {
        "checkpoints": CHECKPOINTS,
        "execution modes": EXECUTION_MODES,
        "deployment": DEPLOYMENT,
        "images": IMAGES,
        "speed": SPEED,
        "using a model": MEASURED["using_a_model"],
    }.items()
    for code, output in re.findall(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```)?", text, re.S)
]


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
def test_commands_of_using_a_model_run(request, monkeypatch):
    """All but the page for the browser, which never ends: tests/examples/test_demo.py starts it."""
    folder, _ = request.getfixturevalue("quickstart")
    monkeypatch.chdir(folder.parents[1])
    shutil.copytree(folder / "model", "outputs/quickstart_short/model")
    blocks = re.findall(r"```bash\n(python .*?)```", MEASURED["using_a_model"], re.S)
    commands = [shlex.split(block.replace("\\\n", "")) for block in blocks if "demo/app.py" not in block]
    assert len(commands) == 4
    Path("examples").symlink_to(ROOT / "examples")
    for _, *arguments in commands:
        subprocess.run([sys.executable, *arguments], check=True)
    for written in ("evaluation/evaluation.png", "predictions/predictions", "search/nearest.png", "../why.png"):
        assert (Path("outputs") / written).exists()


def test_there_are_blocks():
    assert len(BLOCKS) >= 4


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
    """The tables have a row for each mode and precision that benchmarks/execution_modes.py measures."""
    tables = dict(re.findall(r"<!-- (\w+) -->\n(.*?)<!-- end -->", EXECUTION_MODES, re.S))
    names = {name: re.findall(r"^\| ([^|]+) \|", tables[name], re.M)[1:] for name in ("modes", "precisions")}
    assert names["modes"] == [*execution_modes.MODES, "backbone", *execution_modes.TWO_PROCESSES.values()]
    assert names["precisions"] == list(execution_modes.PRECISIONS)


def test_training_page(monkeypatch):
    """The tables have a row for each command of benchmarks/training.py; the options and the files that the page names exist."""
    assert re.findall(r"^\| ([^|]+) \| 0\.\d{4} \| 0\.\d{4} \|$", TRAINING, re.M) == list(training.COMMANDS)
    assert re.findall(r"^\| ([^|]+) \| \d+ \| \S+ \| \S+ \|$", TRAINING, re.M) == list(training.PARALLEL)
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


def test_tables_of_examples():
    """Beside the scripts of the table there is nothing but the four folders; each part that they share has its row."""
    examples = ROOT / "examples"
    for folder in (examples, examples / "common"):
        rows = re.findall(r"^\| `(\w+\.py)` \|", (folder / "README.md").read_text(), re.M)
        assert sorted(rows) == sorted(path.name for path in folder.glob("*.py"))
    others = {path.name for path in examples.iterdir() if path.suffix != ".py" and not path.name.startswith("__")}
    assert others == {"README.md", "common", "demo", "fusion_schemes", "launch"}


def test_table_of_tests():
    """tests/README.md has a row for each test file, with the make targets that run it."""
    rows = dict(re.findall(r"^\| `([\w/]+\.py)` \|.*\| (`make .*`) \|$", (TESTS / "README.md").read_text(), re.M))
    files = [path for path in TESTS.rglob("test_*.py") if "stand_ins" not in path.parts]
    assert rows.keys() == {str(path.relative_to(TESTS)) for path in files}
    for name, targets in rows.items():
        target = {"conformance": "conformance", "examples": "test-examples"}.get(name.split("/")[0], "test")
        slow = ["`make test-slow`"] if re.search(r"mark\.slow\b", (TESTS / name).read_text()) else []
        assert targets.split(", ") == [f"`make {target}`", *slow], name


def test_named_files_and_targets_exist():
    makefile = (ROOT / "Makefile").read_text()
    for page in PAGES:
        text = page.read_text()
        for link in re.findall(r"\]\(((?!http)[^)#]+)\)", text):
            assert (page.parent / link).exists(), (page, link)
        # At the start of a line, or in backticks.
        for target in re.findall(r"^make ([\w-]+)|`make ([\w-]+)", text, re.M):
            assert re.search(rf"^{''.join(target)}:", makefile, re.M), (page, target)
        for script in re.findall(r"(?:python |`)((?:benchmarks|configuration|docs|examples|tests)/[\w/]+\.py)", text):
            assert (ROOT / script).is_file() or (page.parent / script).is_file(), (page, script)
    for folder in re.findall(r"^    (\w+)/ ", README, re.M):
        assert (ROOT / folder).is_dir(), folder


def test_measured_pages_name_the_same_versions():
    """Each of them says how it was measured, in the sentence of benchmarks/pages.py, and packages that they share have one version."""
    versions = {}
    for page, text in MEASURED.items():
        sentences = re.findall(r"^Measured by `python (\S+)` with (.*)$", text, re.M)
        assert sentences[0][0] == f"benchmarks/{page}.py" and "Python" in sentences[0][1]
        for script, packages in sentences:
            assert (ROOT / script).is_file()
            packages = dict(re.findall(r"\b([A-Za-z]\w*) (\d+(?:\.\d+)+)", packages))
            assert packages.keys() >= {"torch", "transformers"}, page
            for package, version in packages.items():
                versions.setdefault(package, {})[f"{page}, {script}"] = version
    for package, version in json.loads((ROOT / "docs" / "results" / "speed_cpu.json").read_text())["machine"][
        "versions"
    ].items():
        versions.setdefault(package, {})["speed"] = version
    assert not {package: pages for package, pages in versions.items() if len(set(pages.values())) > 1}


def test_one_version_and_one_address():
    """The package, its metadata, the citation and the changelog agree."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    version, date = re.findall(r"^## \[(\d.*)\] - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)[0]
    assert (__version__, citation["version"], citation["date-released"]) == (version, version, date)
    (address,) = re.findall(r'^REPOSITORY = "(.*)"$', SETUP, re.M)
    assert citation["repository-code"] == address
    for page in PAGES:
        for url in re.findall(r"https://github\.com/transformers-crossvit/[\w-]+", page.read_text()):
            assert url == address, page


def test_workflow_covers_what_is_supported():
    """GitHub tests each Python that the metadata names, and the lowest transformers that they allow."""
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "tests.yml").read_text())["jobs"]
    pythons = jobs["newest-transformers"]["strategy"]["matrix"]["python"]
    first, end = map(int, re.search(r"range\((\d+), (\d+)\)", SETUP).groups())
    assert pythons == [f"3.{minor}" for minor in range(first, end)]
    assert f'python_requires=">={pythons[0]}"' in SETUP
    lowest = jobs["lowest-transformers"]["steps"][-1]["env"]["TRANSFORMERS"]
    assert f'"transformers>={lowest.removesuffix(".0")},<' in SETUP


def test_photos_are_credited():
    """Under each picture that shows photos of scikit-learn stand their authors and their licence."""
    pictures = {"architecture.png": {"danielbuechele"}, "training_recipes.png": {"danielbuechele", "vultilion"}}
    shown = [
        (picture, caption)
        for page in PAGES
        for picture, caption in re.findall(r"!\[[^]]*\]\((?:docs/)?([^)]+)\)\n\n(.*?)\n\n", page.read_text(), re.S)
        if picture in pictures
    ]
    assert {picture for picture, _ in shown} == pictures.keys()
    for picture, caption in shown:
        assert pictures[picture] <= set(re.findall(r"\w+", caption)), picture
        assert "https://creativecommons.org/licenses/by/2.0/" in caption, picture
