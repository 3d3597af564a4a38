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
Writes the model into a checkout or an unpacked source distribution of transformers, as a contribution to it: docs/upstream.md.

    make upstream TREE=../transformers

The model, the configuration and both image processors are those of this package with other imports. `tree/` has the files that exist
there alone: the tests and the page of the documentation.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

from crossvit.configuration.files import replace_file
from crossvit.configuration.saved_code import CORE, copy_of
from crossvit.weights.names import CHECKPOINT_CONVERSION

from transformers.core_model_loading import WeightConverter


MODEL_TYPE = "crossvit"
SOURCE = Path("src/transformers")
FOLDER = SOURCE / "models" / MODEL_TYPE
ONLY_IN_THE_TREE = Path(__file__).parent / "tree"

# The entry of the model in each mapping of the Auto classes.
AUTO_MAPPINGS = {
    "auto_mappings.py": {
        "CONFIG_MAPPING_NAMES": '"CrossViTConfig"',
        "IMAGE_PROCESSOR_MAPPING_NAMES": '{"pil": "CrossViTImageProcessorPil", "torchvision": "CrossViTImageProcessor"}',
    },
    "modeling_auto.py": {
        "MODEL_MAPPING_NAMES": '"CrossViTModel"',
        "MODEL_FOR_IMAGE_MAPPING_NAMES": '"CrossViTModel"',
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES": '"CrossViTForImageClassification"',
        "MODEL_FOR_BACKBONE_MAPPING_NAMES": '"CrossViTBackbone"',
    },
}

LEFT_TO_DO = """\
What a person must still do:
- Ask in an issue whether the model is wanted, and say there what TimmWrapper lacks (README.md of this package).
- Read every line, understand it, and answer for it: the maintainers close requests that only an agent has read.
- Put the weights on the Hub, in an organisation that looks after them, and name them in docs/source/en/model_doc/crossvit.md.
- Add a slow test: these weights, an image from tests/fixtures, and a slice of the logits that timm computes.
- Run `make fix-repo` and RUN_SLOW=1 python -m pytest tests/models/crossvit in a checkout. The source distribution lacks utils/ and docs/."""


# What differs between a file beside a saved model and the same file in the tree, where the loss is transformers' own.
IN_THE_TREE = [
    (r"^from transformers(?:\.(\S+))? import", r"from ...\1 import"),
    (r"^( *>>> )from crossvit import", r"\1from transformers import"),
    (r"^from \.loss_crossvit import .*\n", ""),
    (r"^ *self\.loss_function = image_classification_loss.*\n", ""),
]

# Some entries have several lines.
ENTRY_OF_AUTO_MAPPING = r'(?: *#.*\n)*        \(\s*"([^"]+)".*\n(?:         .*\n|        \).*\n)*'


def for_the_tree(source: str) -> str:
    """The text of a file of the core for transformers' tree."""
    text = copy_of(source)
    for pattern, replacement in IN_THE_TREE:
        text = re.sub(pattern, replacement, text, flags=re.MULTILINE)
    if left := re.search(r"^.*(?:from crossvit|loss_crossvit|image_classification_loss).*$", text, re.MULTILINE):
        raise ValueError(
            f"The tree has no place for {left[0].strip()!r}: the core or IN_THE_TREE in {__file__} has to change."
        )
    return text


def format_code(text: str, path: Path) -> str:
    """`text` as ruff formats it with the settings of the tree that `path` lies in, imports sorted."""
    for command in (["check", "--quiet", "--select=I", "--fix"], ["format"]):
        command = [sys.executable, "-m", "ruff", *command, f"--stdin-filename={path}", "-"]
        result = subprocess.run(command, input=text, capture_output=True, text=True)
        if result.returncode:
            raise ValueError(f"ruff could not format {path}: {result.stderr}")
        text = result.stdout
    return text


def insert_sorted(text: str, start: int, entry: str, new: str, path: Path) -> str:
    """
    `text` with the line `new` at its place among the sorted entries that begin at `start`.

    Args:
        entry: A regular expression for an entry, which captures what the entries are sorted by.
    """
    key, found = re.match(entry, new)[1].lower(), re.compile(entry).match(text, start)
    while found and found[1].lower() < key:
        start = found.end()
        found = re.compile(entry).match(text, start)
    if found and found[1].lower() == key:
        raise ValueError(f"{path} already has an entry of {key!r}. Give a tree without the model.")
    return text[:start] + new + text[start:]


def find(pattern: str, text: str, path: Path) -> re.Match:
    """The one place in the text of `path` that has the form `pattern`."""
    matches = list(re.finditer(pattern, text, re.MULTILINE))
    if len(matches) != 1:
        raise ValueError(
            f"{path} has {len(matches)} places of the form {pattern!r}, expected one as in transformers 5.23 and 5.24. Adapt "
            "upstream/export.py to this release."
        )
    return matches[0]


def names_of_timm(path: Path) -> str:
    """The table of names, as an entry of `conversion_mapping.py`."""
    lines = []
    for rule in CHECKPOINT_CONVERSION:
        # The patterns as they were given. transformers also keeps them in the form that it matches names with.
        sources, targets = rule._original_source_patterns, rule._original_target_patterns
        if isinstance(rule, WeightConverter):
            operations = ", ".join(f"{type(step).__name__}(dim={step.dim})" for step in rule.operations)
            arguments = f"{_raw(sources)}, {_raw(targets)}, operations=[{operations}]"
        else:
            arguments = f"{_raw(sources[0])}, {_raw(targets[0])}"
        lines.append(f"{type(rule).__name__}({arguments}),")
    text = f"def table():\n    mapping = {{\n{MODEL_TYPE!r}: [\n" + "\n".join(lines) + "\n],\n}\n"
    return "".join(format_code(text, path).splitlines(keepends=True)[2:-1])


def _raw(pattern: str | list[str]) -> str:
    return f'r"{pattern}"' if isinstance(pattern, str) else f"[{', '.join(map(_raw, pattern))}]"


def contribution(tree: Path) -> dict[Path, str]:
    """
    All files to write into a tree, with their texts. Nothing is written.

    Raises:
        ValueError: If `tree` is not a tree of transformers, if it has the model, or if it is laid out in another way than 5.23 and 5.24.
    """
    if not (tree / SOURCE / "models" / "auto" / "auto_mappings.py").is_file():
        raise ValueError(
            f"{tree} is not a tree of transformers: it has no {SOURCE}/models/auto/auto_mappings.py. Give a checkout, or the "
            "unpacked source distribution (`pip download --no-deps --no-binary transformers transformers`)."
        )
    if (tree / FOLDER).exists():
        raise ValueError(f"{tree} already has {FOLDER}. Give a tree without the model.")
    texts = {}
    for name, source in CORE.items():
        if name != "loss_crossvit":
            path = tree / FOLDER / f"{name}.py"
            texts[path] = format_code(for_the_tree(source.read_text(encoding="utf-8")), path)
    for source in ONLY_IN_THE_TREE.rglob("*.*"):
        if source.suffix in (".py", ".md"):
            texts[tree / source.relative_to(ONLY_IN_THE_TREE)] = source.read_text(encoding="utf-8")

    def insert(path: Path, after: str, entry: str, *lines: str) -> None:
        text = texts.get(path) or path.read_text(encoding="utf-8")
        for line in lines:
            text = insert_sorted(text, find(after, text, path).end(), entry, line, path)
        texts[path] = text

    models = tree / SOURCE / "models"
    line = f"    from .{MODEL_TYPE} import *\n"
    insert(models / "__init__.py", r"^if TYPE_CHECKING:\n", r"    from \.(\w+) import \*\n", line)
    for file, mappings in AUTO_MAPPINGS.items():
        for mapping, value in mappings.items():
            line = f'        ("{MODEL_TYPE}", {value}),\n'
            insert(models / "auto" / file, rf"^{mapping} = OrderedDict\(\n    \[\n", ENTRY_OF_AUTO_MAPPING, line)
    path = tree / SOURCE / "conversion_mapping.py"
    text = path.read_text(encoding="utf-8")
    place = find(r"^    mapping = \{\n", text, path).end()
    texts[path] = text[:place] + names_of_timm(path) + text[place:]
    # The source distribution has no documentation.
    path = tree / "docs" / "source" / "en" / "_toctree.yml"
    if path.is_file():
        text = path.read_text(encoding="utf-8")
        vision_models = find(r"(?:^ *- local: model_doc/.*\n *title: .*\n)*^( *)- local: model_doc/vit\n", text, path)
        indent = vision_models[1]
        line = f"{indent}- local: model_doc/{MODEL_TYPE}\n{indent}  title: CrossViT\n"
        texts[path] = insert_sorted(text, vision_models.start(), r" *- local: .*\n *title: (.*)\n", line, path)
    return texts


def write(texts: dict[Path, str]) -> None:
    """Writes all files, or none: if one cannot be written, the others are as they were."""
    previous = {path: path.read_bytes() if path.exists() else None for path in texts}
    folders = []
    try:
        for path, text in texts.items():
            missing = [folder for folder in path.parents if not folder.exists()]
            for folder in reversed(missing):
                folder.mkdir()
                folders.append(folder)
            with replace_file(path) as new:
                new.write_text(text, encoding="utf-8")
    except BaseException:
        for path, content in previous.items():
            if content is None:
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(content)
        for folder in reversed(folders):
            folder.rmdir()
        raise


def table_of_lines(tree: Path) -> str:
    """The lines of the files of this model in a tree that has it, beside those of models of transformers: a table in Markdown."""
    rows = ["| | configuration | modeling | image processors |", "|---|---|---|---|"]
    for name, model_type in (("CrossViT", MODEL_TYPE), ("ViT", "vit"), ("DINOv3", "dinov3_vit"), ("Swin", "swin")):
        cells = []
        for kind in ("configuration", "modeling", "image_processing"):
            files = sorted((tree / SOURCE / "models" / model_type).glob(f"{kind}_*.py"))
            cells.append(" + ".join(str(len(file.read_text(encoding="utf-8").splitlines())) for file in files))
        rows.append(f"| {name} | {' | '.join(cell or '-' for cell in cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes CrossViT into a tree of transformers.")
    parser.add_argument("tree", type=Path, help="a checkout, or an unpacked source distribution")
    tree = parser.parse_args().tree
    try:
        texts = contribution(tree)
        write(texts)
    except (OSError, ValueError) as error:
        raise SystemExit(f"Nothing was written. {error}")
    print("Wrote", *sorted(str(path.relative_to(tree)) for path in texts), sep="\n  ")
    print(f"\n{table_of_lines(tree)}\n\n{LEFT_TO_DO}")


if __name__ == "__main__":
    main()
