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
"""Keeps a run from continuing another one: a folder says in run.json what was trained in it."""

import json
from pathlib import Path

from accelerate import PartialState

from crossvit.data import ImageData
from crossvit.data.classes import listed


RUN_FILE = "run.json"


# Options that change what is trained, in any of the scripts. The images and the classes are compared themselves, and a run may be
# continued for more epochs, with other intervals, or on another number of processes.
OPTIONS = {
    "model_name_or_path", "config_name", "image_size", "drop_path_rate", "freeze_backbone", "lora_rank", "class_weights", "image_range",
    "random_crop_scale", "horizontal_flip", "vertical_flip", "quarter_turns", "rand_augment", "mixup", "cutmix", "random_erasing",
    "label_smoothing_factor", "repeated_augmentation", "recipe", "optimizer", "optim", "learning_rate",
    "min_learning_rate", "warmup_learning_rate", "weight_decay", "max_grad_norm", "lr_scheduler_type", "seed",
}  # fmt: skip


def describe_run(data: ImageData, images_per_step: int, *arguments) -> dict:
    """What a run is: its images, classes and options. `arguments` are the dataclasses of the options."""
    options = {name: value for group in arguments for name, value in vars(group).items() if name in OPTIONS}
    return {
        "images": data.fingerprint,
        "classes": data.classes,
        "options": json.loads(json.dumps({**options, "images_per_step": images_per_step}, default=str)),
    }


def differences(earlier: dict, now: dict) -> list[str]:
    lines = []
    if earlier["images"] != now["images"]:
        lines.append("the training images or their labels")
    if earlier["classes"] != now["classes"]:
        lines.append(f"the classes: {listed(earlier['classes'])}, now {listed(now['classes'])}")
    for name in sorted(earlier["options"].keys() & now["options"].keys()):
        if earlier["options"][name] != now["options"][name]:
            lines.append(f"{name}: {earlier['options'][name]}, now {now['options'][name]}")
    return lines


def check_folder(output: Path, run: dict):
    """Writes what this run is into its folder. If the folder has results of another run, the program ends with what differs."""
    file = output / RUN_FILE
    has_results = any(output.glob("checkpoint-*")) or (output / "model.safetensors").exists()
    if has_results and file.exists():
        different = differences(json.loads(file.read_text()), run)
        if different:
            raise SystemExit(
                f"{output} has another run, which this one would continue. These differ:\n  "
                + "\n  ".join(different)
                + "\n"
                "Give another --output_dir, or remove this folder."
            )
    if PartialState().is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(run, indent=2) + "\n")
