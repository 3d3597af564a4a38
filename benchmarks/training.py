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
Measures the accuracies of the training examples on the digits of the quickstart, and how much the losses of two processes differ from
those of one. Writes the tables and pictures of docs/training.md.

    make quickstart                    writes the model and the images
    python -m benchmarks.training      about 8 minutes on two CPU cores

Expected: accuracies of at least 0.95, and losses of two processes within 1e-4 of those of one.
"""

import json
import os
import runpy
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from tqdm import tqdm

from benchmarks.measurements import measured_by
from benchmarks.pages import QUICKSTART, RESULTS, ROOT, check_quickstart, fill, table


DATA = f"--model_name_or_path {QUICKSTART}/model --train_dir {QUICKSTART}/digits"

# The crops keep most of each digit, and no digit is mirrored.
FINE_TUNING = "--num_train_epochs 3 --per_device_train_batch_size 32 --learning_rate 3e-4 --random_crop_scale 0.7 --no_horizontal_flip"
TRAINER = f"examples/run_image_classification.py {DATA} {FINE_TUNING} --do_train --do_eval"
COMMANDS = {
    "`Trainer`": TRAINER,
    "`Trainer`, evaluation alone": f"examples/run_image_classification.py {DATA} --do_eval",
    "`Trainer`, heads alone": f"{TRAINER} --freeze_backbone",
    "`Trainer`, LoRA of rank 8": f"{TRAINER} --lora_rank 8",
    "`Trainer`, a stream": f"{TRAINER} --streaming --max_steps 129 --eval_strategy steps --eval_steps 43",
    "loop of `accelerate`": f"examples/run_image_classification_no_trainer.py {DATA} {FINE_TUNING}",
    "recipe `finetune`": f"examples/pretrain_imagenet.py --recipe finetune {DATA} --num_train_epochs 3 --global_batch_size 32 "
    "--per_device_train_batch_size 32 --learning_rate 5e-4",
}

# One process and two processes have the same images in each step: two epochs of 56 images, in global batches of 8. Mixup, cutmix and
# stochastic depth are off, because their random numbers depend on the process.
LOOP = "run_image_classification_no_trainer.py --max_train_steps 14 --logging_steps 1 --checkpointing_steps 5 --save_total_limit 3"
PARALLEL = {
    "`Trainer`": "run_image_classification.py --do_train --do_eval --max_steps 14 --logging_steps 1 --save_strategy steps --save_steps 5 "
    "--eval_strategy no --save_total_limit 3",
    "loop of `accelerate`": LOOP,
    "loop of `accelerate`, a stream": f"{LOOP} --streaming --num_train_samples 56",
    "the paper's recipe": "pretrain_imagenet.py --mixup 0 --cutmix 0 --drop_path_rate 0 --global_batch_size 8 --num_train_epochs 2 "
    "--warmup_epochs 0 --logging_steps 1",
}
EVERYWHERE = "--max_train_samples 56 --per_device_eval_batch_size 5"
LAUNCHERS = {
    "DDP": "-m torch.distributed.run --standalone --nproc-per-node=2",
    # With two processes in place of the file's eight, and in float32, for the comparison.
    "FSDP2": "-m accelerate.commands.launch --config_file examples/launch/fsdp2.yaml --num_processes 2 --mixed_precision no "
    "--main_process_port 0 benchmarks/fsdp_on_cpu.py",
}


def run(command: str, output: Path) -> str:
    """Runs Python with these arguments in the folder of the project, on one thread of the CPU, and returns what it printed."""
    # The number of threads changes the order of sums, and so the last digits.
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    process = subprocess.run(
        [sys.executable, *shlex.split(command), "--output_dir", str(output)], cwd=ROOT, capture_output=True, text=True, env=environment
    )  # fmt: skip
    if process.returncode != 0:
        raise RuntimeError(f"python {command}\n{process.stderr}")
    return process.stdout


def parallel_command(name: str, data: str, launcher: str | None = None) -> str:
    """The arguments of Python that run a script in one process, or in two processes of a launcher."""
    size = 8 if launcher is None else 4
    command = f"examples/{PARALLEL[name]} {data} {EVERYWHERE} --per_device_train_batch_size {size}"
    return command if launcher is None else f"{LAUNCHERS[launcher]} {command}"


def losses(output: Path) -> np.ndarray:
    """Returns the logged losses of the training, and the loss of the evaluation at the end."""
    (*_, checkpoint) = sorted(output.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    if (checkpoint / "log.json").is_file():
        log = json.loads((checkpoint / "log.json").read_text())
    else:
        log = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    results = json.loads((output / "all_results.json").read_text())
    return np.array([*(entry["loss"] for entry in log if "loss" in entry), results["eval_loss"]])


def draw_recipes(path: Path):
    """
    Draws the learning rate at every epoch, and a batch that the recipe `imagenet` makes of two photos.

    The photos are scikit-learn's china.jpg, by danielbuechele, and flower.jpg, by vultilion, both on Flickr, CC BY 2.0
    (https://creativecommons.org/licenses/by/2.0/). A page that shows the picture must say so.
    """
    script = runpy.run_path(str(ROOT / "examples" / "pretrain_imagenet.py"))
    figure = plt.figure(figsize=(15, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1, 1.6])
    axis = left.subplots()
    for name, recipe in script["RECIPES"].items():
        training = script["Arguments"](**{key: value for key, value in recipe.items() if key != "drop_path_rate"})
        optimizer, schedule = script["optimizer_and_schedule"](torch.nn.Linear(2, 2), training)
        rates = []
        for epoch in range(training.num_train_epochs):
            schedule.step(epoch)
            rates.append(optimizer.param_groups[0]["lr"])
        axis.semilogy(range(training.num_train_epochs), rates, label=name)
    axis.set_xlabel("epoch")
    axis.set_ylabel("learning rate")
    axis.legend()

    training = script["Arguments"]()
    processor = script["CrossViTImageProcessor"].from_image_size(240)
    transform = script["training_transform"](processor, training)
    photos = [Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg")]
    with script["seeded_random_numbers"](2):
        images = torch.stack([transform(photos[number % 2]) for number in range(8)])
        mixed, _ = script["mixup_or_cutmix"](training, 2)(images.roll(1, 0).clone(), torch.arange(8) % 2)
    mean, std = (torch.tensor(values)[:, None, None] for values in (processor.image_mean, processor.image_std))
    axes = right.subplots(2, 6)
    for row, (batch, label) in enumerate(((images, "augmented"), (mixed, "augmented and mixed"))):
        for axis, image in zip(axes[row], batch):
            axis.imshow((image * std + mean).clamp(0, 1).permute(1, 2, 0))
            axis.set_xticks([])
            axis.set_yticks([])
        axes[row, 0].set_ylabel(label)
    figure.savefig(path, dpi=80)
    plt.close(figure)


def main():
    check_quickstart()
    rows, parallel = [], []
    with tempfile.TemporaryDirectory() as folder, tqdm(total=len(COMMANDS) + 3 * len(PARALLEL)) as progress:
        for number, (name, command) in enumerate(COMMANDS.items()):
            progress.set_description(name)
            output = Path(folder) / str(number)
            run(command, output)
            results = json.loads((output / "all_results.json").read_text())
            rows.append([name, f"{results['eval_accuracy']:.4f}", f"{results['eval_macro_f1']:.4f}"])
            if number == 0:
                shutil.copy(output / "training.png", RESULTS / "training_run.png")
            progress.update()
        for name in PARALLEL:
            progress.set_description(f"{name}, one process")
            one = Path(folder) / f"parallel {name}"
            run(parallel_command(name, DATA), one)
            progress.update()
            differences = []
            for launcher in LAUNCHERS:
                progress.set_description(f"{name}, {launcher}")
                two = Path(folder) / f"parallel {name} {launcher}"
                run(parallel_command(name, DATA, launcher), two)
                differences.append(np.abs(losses(one) - losses(two)).max())
                progress.update()
            parallel.append([name, len(losses(one)), *(f"{difference:.1e}" for difference in differences)])
    draw_recipes(RESULTS / "training_recipes.png")

    commands = [f'DATA="{DATA}"', f'FINE_TUNING="{FINE_TUNING}"']
    for name, command in COMMANDS.items():
        command = command.replace(DATA, "$DATA").replace(FINE_TUNING, "$FINE_TUNING")
        commands += ["# " + name.replace("`", ""), f"python {command}"]
    places = {
        # One thread, because `run` asks for that.
        "machine": measured_by("benchmarks.training", "timm", "torch", "transformers", "accelerate", threads=1),
        "results": table(("", "accuracy", "macro F1"), rows) + "\n\n```bash\n" + "\n".join(commands) + "\n```",
        "processes": table(("", "losses", *LAUNCHERS), parallel),
    }
    print(f"wrote {fill('training.md', places)}")


if __name__ == "__main__":
    main()
