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
"""What the benchmarks measure besides time, and the file of their results."""

import itertools
import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pages import RESULTS, processor_name

from crossvit.benchmark import Call


# What decides which kernels a processor can run. Linux lists them under these names.
INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve")
SAMPLE_SECONDS = 5  # between two readings of the memory
PACKAGES = ("torch", "torchvision", "transformers", "timm", "onnxruntime", "openvino", "nncf", "torchao")


def peak_bytes(call: Call) -> int:
    """The most bytes that are allocated at one moment of a call and were not before it."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(itertools.accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())))


def this_machine(device: str) -> dict[str, Any]:
    """What a time depends on: the device, the processor, its instruction sets, the threads, and the versions."""
    flags: set[str] = set()
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        flags = {flag for line in lines if line.startswith(("flags", "Features")) for flag in line.split()}
    versions = {"Python": platform.python_version()}
    for package in PACKAGES:
        try:
            # The local part of a version, as in "2.15.0+cu132", names the CUDA of the build.
            versions[package] = version(package) if device == "cuda" else version(package).split("+")[0]
        except PackageNotFoundError:
            continue
    return {
        "device": torch.cuda.get_device_name() if device == "cuda" else "CPU",
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "versions": versions,
    }


class Results:
    """Measurements of one machine in a JSON file: each has a work, a variant, a batch, and the seconds of every contender by round."""

    def __init__(self, path: Path, machine: dict[str, Any]):
        """
        Raises:
            ValueError: If the file has measurements of another machine, or with other versions or another number of threads.
        """
        self.path, self.machine, self.measurements = path, machine, []
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if other := [key for key in machine if found["machine"].get(key) != machine[key]]:
                raise ValueError(
                    f"{path} has measurements that cannot be merged with those of this machine, because these differ: "
                    + "; ".join(f"{key} {found['machine'].get(key)} there, {machine[key]} here" for key in other)
                    + ". Give another file with --results, or delete this one and measure everything again."
                )
            self.measurements = found["measurements"]

    def add(self, work: str, variant: str, batch: int, **values: Any) -> None:
        """Writes a measurement, in the place of an earlier one of the same work, variant and batch."""
        key = {"work": work, "variant": variant, "batch": batch}
        places = [index for index, row in enumerate(self.measurements) if {name: row[name] for name in key} == key]
        place = places[0] if places else len(self.measurements)
        self.measurements[place : place + 1] = [{**key, **values}]
        text = json.dumps({"machine": self.machine, "measurements": self.measurements}, indent=1)
        temporary = self.path.with_suffix(".tmp")
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, self.path)

    def of(self, work: str) -> list[dict[str, Any]]:
        return [row for row in self.measurements if row["work"] == work]


def memory_figures(samples: list[float]) -> dict[str, Any]:
    """
    How fast the memory of a process grew, by a straight line through all samples and through the second half of them, which tells growth
    without end from caches that fill.

    Args:
        samples: MiB, one every `SAMPLE_SECONDS`.
    """
    halves = {"MiB per minute": samples, "MiB per minute, second half": samples[len(samples) // 2 :]}
    slopes = {
        name: round(60 / SAMPLE_SECONDS * float(np.polyfit(range(len(part)), part, 1)[0]), 2)
        for name, part in halves.items()
        if len(part) > 1
    }
    return slopes | {f"MiB every {SAMPLE_SECONDS} seconds": [round(sample) for sample in samples]}


def write_load(key: str, values: dict[str, Any], package: str) -> None:
    """Writes what a part of docs/using_a_model.md did under load, with this machine and the version of the package that it runs on."""
    path = RESULTS / "using_a_model_load.json"
    machine = this_machine("cpu")
    machine["versions"][package] = version(package)
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found[key] = {"machine": machine, **values}
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(values, indent=1))
