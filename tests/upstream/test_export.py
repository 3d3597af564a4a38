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
`make upstream` writes the whole contribution or nothing; the files that travel with a saved model are those of the tree but for imports.
`make conformance` runs transformers' tests on what it writes.

    pytest tests/upstream
"""

import ast
import difflib
import re
import shutil
from pathlib import Path

import pytest
import transformers
from small_models import small_config

from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.saved_code import CORE
from upstream import export


INSTALLED = Path(transformers.__file__).parent
AUTO = Path("src/transformers/models/auto")
TOC = Path("docs/source/en/_toctree.yml")


@pytest.fixture
def tree(tmp_path):
    """Those files of a checkout that the contribution changes, as the installed transformers has them."""
    tree = tmp_path / "tree"
    for name in (
        "conversion_mapping.py",
        "models/__init__.py",
        *(f"models/auto/{file}" for file in export.AUTO_MAPPINGS),
    ):
        (tree / "src/transformers" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(INSTALLED / name, tree / "src/transformers" / name)
    (tree / "pyproject.toml").write_text("[tool.ruff]\nline-length = 119\n")
    (tree / TOC).parent.mkdir(parents=True)
    models = {"bert": "BERT"}, {"convnext": "ConvNeXT", "cvt": "Convolutional Vision Transformer (CvT)", "vit": "ViT"}
    text, vision = (
        "".join(f"      - local: model_doc/{name}\n        title: {title}\n" for name, title in section.items())
        for section in models
    )
    sections = (
        f"    - title: Text models\n      sections:\n{text}    - title: Vision models\n      sections:\n{vision}"
    )
    (tree / TOC).write_text(sections + "    - title: Audio models\n")
    return tree


def content(tree):
    return {path.relative_to(tree): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


def run(monkeypatch, tree):
    monkeypatch.setattr("sys.argv", ["export", str(tree)])
    export.main()


def test_whole_contribution(tree, monkeypatch, capsys):
    before = content(tree)
    run(monkeypatch, tree)
    assert "What a person must still do" in capsys.readouterr().out
    after = content(tree)
    new = {path for path in after if path not in before}
    model, tests = Path("src/transformers/models/crossvit"), Path("tests/models/crossvit")
    assert new == {
        *(model / f"{name}.py" for name in ("__init__", *CORE) if name != "loss_crossvit"),
        *(tests / name for name in ("__init__.py", "test_modeling_crossvit.py", "test_image_processing_crossvit.py")),
        Path("docs/source/en/model_doc/crossvit.md"),
    }
    for path in new:
        assert path.suffix != ".py" or ast.parse(after[path])
    for path, old in before.items():
        diff = difflib.unified_diff(old.decode().splitlines(), after[path].decode().splitlines(), n=0, lineterm="")
        assert not [line for line in list(diff)[2:] if line.startswith("-")], path
    for file, mappings in export.AUTO_MAPPINGS.items():
        found = set()
        for node in ast.parse(after[AUTO / file]).body:
            if isinstance(node, ast.Assign) and node.targets[0].id in mappings:
                keys = [entry.elts[0].value for entry in node.value.args[0].elts]
                position = keys.index("crossvit")
                assert keys[position - 1] < "crossvit" < keys[position + 1]
                found.add(node.targets[0].id)
        assert found == mappings.keys()
    toc = after[TOC].decode()
    assert toc.index("Vision") < toc.index("(CvT)") < toc.index("title: CrossViT") < toc.index("title: ViT")


def test_refusals_leave_the_tree_as_it_was(tree, tmp_path, monkeypatch):
    with pytest.raises(SystemExit, match="is not a tree of transformers"):
        run(monkeypatch, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"tree"}

    mapping = tree / AUTO / "modeling_auto.py"
    text = mapping.read_text()
    mapping.write_text(text.replace("MODEL_FOR_BACKBONE_MAPPING_NAMES = ", "BACKBONES = "))
    before = content(tree)
    with pytest.raises(SystemExit, match=r"modeling_auto.py has 0 places .*expected one"):
        run(monkeypatch, tree)
    assert content(tree) == before

    mapping.write_text(text)
    run(monkeypatch, tree)
    before = content(tree)
    with pytest.raises(SystemExit, match="already has src/transformers/models/crossvit"):
        run(monkeypatch, tree)
    shutil.rmtree(tree / "src/transformers/models/crossvit")
    before = content(tree)
    with pytest.raises(SystemExit, match="already has an entry of 'crossvit'"):
        run(monkeypatch, tree)
    assert content(tree) == before


@pytest.mark.parametrize("number", [0, 5, 12])
def test_failure_while_writing_leaves_the_tree_as_it_was(tree, monkeypatch, number):
    before, folders = content(tree), sorted(tree.rglob("*"))
    texts = export.contribution(tree)
    failing = list(texts)[number]
    replace_file = export.replace_file

    def replace_file_until_the_disk_is_full(path):
        if path == failing:
            raise OSError("No space left on device")
        return replace_file(path)

    monkeypatch.setattr(export, "replace_file", replace_file_until_the_disk_is_full)
    with pytest.raises(OSError, match="No space left"):
        export.write(texts)
    assert content(tree) == before and sorted(tree.rglob("*")) == folders


def without_imports(source):
    """The lines of a module but for its imports, those of its examples, and empty lines."""
    lines = source.splitlines()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return [line for line in lines if line.strip() and not re.match(r" *>>> from \w+ import ", line)]


def test_files_that_travel_are_those_of_the_tree(tree, tmp_path):
    folder = tmp_path / "saved"
    CrossViTForImageClassification(small_config()).save_pretrained(folder)
    CrossViTImageProcessor().save_pretrained(folder)
    texts = export.contribution(tree)
    compared = set()
    for path in folder.glob("*.py"):
        if path.stem == "loss_crossvit":  # the tree has its own
            continue
        travels = without_imports(path.read_text())
        if path.stem == "modeling_crossvit":
            travels.remove("        self.loss_function = image_classification_loss")
        assert travels == without_imports(texts[tree / export.FOLDER / path.name])
        compared.add(path.stem)
    assert compared == CORE.keys() - {"loss_crossvit"}
