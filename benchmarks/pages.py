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
"""The places of the pages in docs/ that a script fills with tables. The rest of a page is written by hand."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any


ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"  # pictures of the pages, and measurements that they are made from
QUICKSTART = Path("outputs") / "quickstart"  # what `make quickstart` writes


def check_quickstart() -> None:
    """Ends the program where the model of the quickstart is missing."""
    if not (ROOT / QUICKSTART / "model").is_dir():
        raise SystemExit(f"error: {ROOT / QUICKSTART / 'model'} is missing. Run `make quickstart` first.")


def run_commands(page: str) -> dict[str, str]:
    """Runs the commands of a page that call examples, but for the demo, which never ends. Returns what each script printed."""
    printed = {}
    blocks = re.findall(r"^python (examples/(?!demo)(?:.*\\\n)*.*)$", (DOCS / page).read_text(encoding="utf-8"), re.M)
    for script, *arguments in (shlex.split(block.replace("\\\n", "")) for block in blocks):
        command = [sys.executable, script, *arguments]
        result = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        printed[Path(script).stem] = result.stdout.strip()
    return printed


def table(heads: Iterable[Any], rows: Iterable[Iterable[Any]]) -> str:
    """A table of Markdown."""
    heads = list(heads)
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def fill(page: str, places: dict[str, str]) -> Path:
    """Writes each text into its place of the page, between `<!-- name -->` and `<!-- end -->`, and returns the path of the page."""
    path = DOCS / page
    content = path.read_text(encoding="utf-8")
    for name, text in places.items():
        content, count = re.subn(
            rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)",
            lambda match, text=text: f"{match[1]}{text}\n{match[2]}",
            content,
            flags=re.S,
        )
        if count != 1:
            raise ValueError(f"{path} must have one place <!-- {name} --> ... <!-- end -->, got {count}.")
    path.write_text(content, encoding="utf-8")
    return path
