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
"""The machine of a measurement, counts of work and memory, and the file of results."""

import itertools
import json
import os
import platform
import re
import subprocess
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from crossvit.configuration.files import replace_file


# What decides which kernels a processor can run. Linux lists them under these names.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve")


def peak_bytes(call: Callable[[], Any]) -> int:
    """The most bytes that are allocated on the CPU at one moment of a call and were not before it."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


class _Record(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.names.append(function.name())
        return function(*args, **(kwargs or {}))


def operations(call: Callable[[], Any]) -> list[str]:
    """The names of the operations in a call, such as "aten::addmm", in their order."""
    with _Record() as record:
        call()
    return record.names


def multiply_adds(call: Callable[[], Any]) -> int:
    """The multiply-adds of the matrix products and convolutions in a call."""

    def attention(query, key, value, *args, **kwargs) -> int:
        batch, heads, queries, width = query
        return 2 * batch * heads * queries * key[2] * (width + value[3])

    # PyTorch's counter does not know this operation, as attention is called on a CPU.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        call()
    return counter.get_total_flops() // 2


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


def this_machine(*packages: str, device: str = "cpu", threads: int | None = None) -> dict[str, Any]:
    """
    What a measurement depends on: the device, the processor, its instruction sets, the threads of PyTorch, and the versions of Python and
    of the packages. A script that measures in other processes gives their number of threads.
    """
    flags: set[str] = set()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    versions = {"Python": platform.python_version()}
    for package in packages:
        try:
            # The local part of a version, as in "2.15.0+cu132", names the CUDA of the build.
            versions[package] = version(package) if device == "cuda" else version(package).split("+")[0]
        except PackageNotFoundError:
            continue
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "versions": versions,
    }


def machine_sentence(module: str, machine: dict[str, Any]) -> str:
    """Says in the page what was run on which machine. `machine` is what `this_machine` returned, on this computer or on another."""
    packages = ", ".join(f"{name} {number}" for name, number in machine["versions"].items() if name != "Python")
    where = machine["processor"] if machine["device"] == "CPU" else f"{machine['device']} with {machine['processor']}"
    when = f" on {machine['date']}" if "date" in machine else ""
    return (
        f"Measured{when} by `python -m {module}` with {packages} and Python {machine['versions']['Python']} on this processor: {where}, "
        f"{machine['threads']} thread{'s' if machine['threads'] > 1 else ''}, with {', '.join(machine['instructions'])}."
    )


def measured_by(module: str, *packages: str, threads: int | None = None) -> str:
    """What `machine_sentence` says of this computer."""
    return machine_sentence(module, this_machine(*packages, threads=threads))


class Results:
    """Measurements of one machine in a JSON file: a list of rows, each with the name of its work."""

    def __init__(self, path: Path, machine: dict[str, Any], anew: bool = False):
        """
        Args:
            anew: Whether a file with measurements of another machine is replaced, by the first row.

        Raises:
            ValueError: If the file has measurements of another machine, or with other versions or another number of threads.
        """
        self.path, self.machine, self.rows = path, machine, []
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if other := [key for key in machine if found["machine"].get(key) != machine[key]]:
                if anew:
                    print(f"{path} is replaced, because it is of another machine or day: {', '.join(other)}")
                    return
                raise ValueError(
                    f"{path} has measurements that cannot be merged with those of this machine, because these differ: "
                    + "; ".join(f"{key} {found['machine'].get(key)} there, {machine[key]} here" for key in other)
                    + ". Give another file with --results, or delete this one and measure everything again."
                )
            self.rows = found["measurements"]

    def replace(self, work: str, rows: list[dict[str, Any]]) -> None:
        """Writes the rows of a work in the place of all that it had, so that none of an earlier batch or model stays."""
        self.rows = [row for row in self.rows if row["work"] != work] + [{"work": work, **row} for row in rows]
        lines = ",\n".join(json.dumps(row) for row in self.rows)
        with replace_file(self.path) as temporary:
            text = f'{{"machine": {json.dumps(self.machine)},\n"measurements": [\n{lines}\n]}}\n'
            temporary.write_text(text, encoding="utf-8")

    def of(self, work: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["work"] == work]
