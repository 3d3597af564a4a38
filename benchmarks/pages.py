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
What the benchmarks share when they write their results into the pages of docs/: the sentence that says how a number was measured, and
the places of a page that a script fills. The rest of a page is written by hand.
"""

import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS / "results"  # pictures of the pages, and measurements that they are made from


def processor_name() -> str:
    """The name that the processor gives itself, such as "AMD EPYC", or else its architecture, such as "x86_64"."""
    name = None
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        name = re.search(r"^model name\s*: (.+)$", cpuinfo.read_text(), re.M)
    elif platform.system() == "Darwin":
        brand = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True).stdout
        name = re.search(r"(.+)", brand)
    return name[1].strip() if name else platform.processor() or platform.machine()


def measured_by(script: str, *packages: str, threads: int | None = None) -> str:
    """
    One sentence: the script (its path in the repository), the versions of the packages and of Python, the processor, and the threads of
    PyTorch. A script that measures in other processes gives their number of threads.
    """
    threads = threads or torch.get_num_threads()
    # The local part of a version, as in "2.15.0+cu132", names the device of the build. All measurements run on the CPU.
    versions = ", ".join(f"{package} {version(package).split('+')[0]}" for package in packages)
    return (
        f"Measured by `python {script}` with {versions} and Python {platform.python_version()} "
        f"on this processor: {processor_name()}, {threads} thread{'s' if threads > 1 else ''}."
    )


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
