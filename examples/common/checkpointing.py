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
"""Checkpoints of training loops with `accelerate`: each is written completely or not at all; SIGTERM saves one more."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from accelerate import Accelerator


def last_checkpoint(output: Path) -> Path | None:
    """The newest checkpoint. It is complete, because a folder gets the name `checkpoint-STEP` when all of it is written."""
    checkpoints = sorted(output.glob("checkpoint-*"), key=checkpoint_step)
    return checkpoints[-1] if checkpoints else None


def checkpoint_step(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def save_checkpoint(accelerator: Accelerator, output: Path, step: int, log: list[dict], keep: int):
    """
    Writes a checkpoint into another folder, then renames the folder, then removes all but the newest `keep` checkpoints. Whenever the
    run is killed, a complete checkpoint remains.
    """
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
        for old in sorted(output.glob("checkpoint-*"), key=checkpoint_step)[:-keep]:
            shutil.rmtree(old)


def load_checkpoint(accelerator: Accelerator, output: Path) -> tuple[int, list[dict]]:
    """Loads the newest checkpoint, if there is one. Returns the number of steps that are done, and their log."""
    checkpoint = last_checkpoint(output)
    if checkpoint is None:
        return 0, []
    accelerator.load_state(str(checkpoint))
    accelerator.print(f"continuing from {checkpoint} (for a new run give another --output_dir)")
    return checkpoint_step(checkpoint), json.loads((checkpoint / "log.json").read_text())


def watch_for_sigterm(accelerator: Accelerator):
    """Lets the loop finish its step after SIGTERM, the signal by which Slurm announces the end of a job: see `end_after_sigterm`."""
    signal.signal(signal.SIGTERM, lambda *_: accelerator.set_trigger())


def end_after_sigterm(accelerator: Accelerator, output: Path, step: int, log: list[dict], keep: int):
    """If any process has received SIGTERM, all processes save a checkpoint and end with the exit status of that signal."""
    if not accelerator.check_trigger():
        return
    checkpoint = last_checkpoint(output)
    if checkpoint is None or checkpoint_step(checkpoint) != step:
        save_checkpoint(accelerator, output, step, log, keep)
    accelerator.print(f"SIGTERM: saved step {step} in {output}; the same command continues from there", flush=True)
    accelerator.end_training()
    sys.exit(128 + signal.SIGTERM)
