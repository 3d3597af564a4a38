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
"""Checkpoints of training loops with `accelerate`: whole ones or none, and one more when the job is told to end."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from accelerate import Accelerator


def last_checkpoint(output: Path) -> Path | None:
    """The newest whole one: a checkpoint gets its name when all of it is written."""
    checkpoints = sorted(output.glob("checkpoint-*"), key=step_of)
    return checkpoints[-1] if checkpoints else None


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def save_checkpoint(accelerator: Accelerator, output: Path, step: int, log: list[dict], keep: int):
    """Writes aside, renames, and only then removes the oldest: whenever the run is killed, a whole checkpoint remains."""
    unfinished = output / "_unfinished-checkpoint"
    if accelerator.is_main_process:
        shutil.rmtree(unfinished, ignore_errors=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(unfinished))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (unfinished / "log.json").write_text(json.dumps(log))
        checkpoint = output / f"checkpoint-{step:07d}"
        shutil.rmtree(checkpoint, ignore_errors=True)
        os.replace(unfinished, checkpoint)
        for old in sorted(output.glob("checkpoint-*"), key=step_of)[:-keep]:
            shutil.rmtree(old)


def load_checkpoint(accelerator: Accelerator, output: Path) -> tuple[int, list[dict]]:
    """Continues from the newest whole checkpoint, if there is one: the number of steps that are done, and their log."""
    checkpoint = last_checkpoint(output)
    if checkpoint is None:
        return 0, []
    accelerator.load_state(str(checkpoint))
    accelerator.print(f"continuing from {checkpoint} (for a new run give another --output_dir)")
    return step_of(checkpoint), json.loads((checkpoint / "log.json").read_text())


def note_sigterm(accelerator: Accelerator):
    """SIGTERM, with which Slurm and others announce the end of a job, lets the loop finish its step: see `end_if_told`."""
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())


def ignore_sigterm(worker: int):
    """For the processes that read images: Slurm signals them too, and the last steps still need them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def end_if_told(accelerator: Accelerator, output: Path, step: int, log: list[dict], keep: int):
    """If any process has received SIGTERM, all save a checkpoint and end the program, with the exit status of that signal."""
    if not accelerator.check_trigger():
        return
    checkpoint = last_checkpoint(output)
    if checkpoint is None or step_of(checkpoint) != step:
        save_checkpoint(accelerator, output, step, log, keep)
    accelerator.print(f"SIGTERM: saved step {step} in {output}; the same command continues from there", flush=True)
    accelerator.end_training()
    sys.exit(128 + signal.SIGTERM)
