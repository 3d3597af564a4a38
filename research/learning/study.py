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
Does CrossViT learn better than a ViT, and than other ways to fuse its branches? Trains all of them from random weights on real images, with
one recipe and the same seeds, and writes docs/learning.md with its pictures.

    python -m research.learning.study                               about 5 hours on two CPU cores; continues where it was stopped
    python -m research.learning.study --quick                       2 minutes; every step once, and nothing is written to docs/
    python -m research.learning.study --sets digits --models none pairwise
    python -m research.learning.study --sets cifar10 --variant crossvit_small_240 --results outputs/cifar.json          needs a GPU
    python -m research.learning.study --sets cifar10 --models timm/crossvit_15_240.in1k facebook/deit-small-patch16-224 \\
        --results outputs/table_5.json                              the setting of Table 5: trained further from ImageNet's weights

Each run is kept in the file of results as soon as it has ended. Several commands may fill one file at once.
"""

import argparse
import json
import math
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional
from tqdm import tqdm
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    ViTConfig,
    ViTForImageClassification,
    set_seed,
)

from benchmarks.measurements import measured_by, multiply_adds
from benchmarks.pages import RESULTS
from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.files import replace_file
from crossvit.inference.fastest import interleave
from research.fusion_schemes import make_model
from research.learning.data import SETS, Images, ImageSet, Preparation, Recipe, Split
from research.learning.report import NAMES, OTHER_FUSIONS, write_report


# Changes with the meaning of a number in the file of results.
VERSION = 2
# The proportions of CrossViT-Ti at two thirds of its width, with two layers in place of four in the large branch of each stage.
SMALL = {"hidden_sizes": [64, 128], "num_attention_heads": [4, 4], "depths": [1, 2], "initializer_range": 0.05}
FUSIONS = ("cross_attention", *OTHER_FUSIONS)
MODELS = tuple(NAMES)
# What the input of a trained model is changed to: pixels per side over those of training, deviation of the noise where black is 0 and white
# is 1, and deviation of the Gaussian of a blur over the side.
SIZES = (1 / 2, 2 / 3, 1, 4 / 3, 5 / 3, 2)
NOISES = (0.1, 0.2, 0.3, 0.4)
BLURS = (0.02, 0.04, 0.06, 0.08)


def model_fields(variant: str | None) -> dict[str, Any]:
    return {"variant": variant} if variant else {"variant": "crossvit_tiny_240", **SMALL}


def make_vit(crossvit: CrossViTForImageClassification, hidden_size: int) -> ViTForImageClassification:
    """A ViT with the layers, heads and patches of a CrossViT's large branch, at another width."""
    config = crossvit.config
    vit = ViTConfig(
        image_size=config.image_sizes[0],
        patch_size=config.patch_sizes[-1],
        num_channels=config.num_channels,
        hidden_size=hidden_size,
        intermediate_size=int(config.mlp_ratios[-2] * hidden_size),
        num_hidden_layers=config.num_stages * config.depths[-1],
        num_attention_heads=config.num_attention_heads[-1],
        initializer_range=config.initializer_range,
        layer_norm_eps=config.layer_norm_eps,
        num_labels=config.num_labels,
    )
    return ViTForImageClassification(vit)


def cost(model: torch.nn.Module) -> int:
    """Multiply-adds for one image."""
    config = model.config
    size = config.image_sizes[0] if hasattr(config, "image_sizes") else config.image_size
    device = next(model.parameters()).device
    model.eval()
    count = multiply_adds(lambda: model(torch.zeros(1, config.num_channels, size, size, device=device)))
    model.train()
    return count


@cache
def width_of_equal_cost(image_size: int, variant: str | None) -> int:
    """The width at which a ViT comes closest to CrossViT's multiply-adds."""
    crossvit = make_model("cross_attention", image_size, **model_fields(variant))
    step = 4 * crossvit.config.num_attention_heads[-1]
    target, width = cost(crossvit), crossvit.config.hidden_sizes[-1]
    candidates = {}
    while not candidates or candidates[width - step] < target:
        candidates[width] = cost(make_vit(crossvit, width))
        width += step
    return min(candidates, key=lambda width: abs(candidates[width] - target))


@cache
def is_crossvit(name: str) -> bool:
    """Whether a trained model is one. To the Auto classes, timm's repositories are models of timm."""
    config = AutoConfig.from_pretrained(name)
    return config.model_type == "crossvit" or "crossvit" in getattr(config, "architecture", "")


def build_model(name: str, images: ImageSet, variant: str | None) -> torch.nn.Module:
    size = images.recipe.image_size
    options = {"num_labels": images.num_labels, "num_channels": images.channels}
    if "/" in name:
        model_class = CrossViTForImageClassification if is_crossvit(name) else AutoModelForImageClassification
        return model_class.from_pretrained(name, num_labels=images.num_labels, ignore_mismatched_sizes=True)
    if name in FUSIONS:
        return make_model(name, size, **options, **model_fields(variant))
    crossvit = make_model("cross_attention", size, **options, **model_fields(variant))
    if name == "vit_large_branch":
        return make_vit(crossvit, crossvit.config.hidden_sizes[-1])
    return make_vit(crossvit, width_of_equal_cost(size, variant))


def preparation_of(name: str, images: ImageSet) -> Preparation:
    """The same for all that start from random weights; trained models have their own."""
    if "/" not in name:
        return Preparation(images.recipe.image_size, images.channels)
    if is_crossvit(name):
        config, processor = CrossViTConfig.from_pretrained(name), CrossViTImageProcessor.from_pretrained(name)
        size = config.branch_image_size(0)[0]
    else:
        config, processor = AutoConfig.from_pretrained(name), AutoImageProcessor.from_pretrained(name)
        size = config.image_size
    return Preparation(size, config.num_channels, tuple(processor.image_mean), tuple(processor.image_std))


@torch.inference_mode()
def share_right(predict: Callable[[torch.Tensor], torch.Tensor], data: Images) -> float:
    """The share of the images whose largest logit is that of their class."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    right = 0
    for batch in DataLoader(data, batch_size=256):
        right += (predict(batch["pixel_values"].to(device)).argmax(-1).cpu() == batch["labels"]).sum().item()
    return right / len(data)


def branch_accuracies(model: CrossViTForImageClassification, data: Images) -> list[float]:
    """What the head on each branch's own CLS token answers right (the last columns of Table 6)."""

    def predict(branch: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def logits(pixel_values: torch.Tensor) -> torch.Tensor:
            cls_tokens = model.crossvit(pixel_values).pooler_output.split(model.config.hidden_sizes, dim=-1)
            return model.classifier.heads[branch](cls_tokens[branch])

        return logits

    return [share_right(predict(branch), data) for branch in range(len(model.classifier.heads))]


def disturbed_accuracies(model: torch.nn.Module, test: Images) -> dict[str, dict[str, float]]:
    """Accuracy at other sizes of the input, with noise, and with blur, by their amount."""
    preparation = test.preparation
    size, patch = preparation.size, 16
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (preparation.mean, preparation.std))

    def predict(pixel_values: torch.Tensor) -> torch.Tensor:
        return model(pixel_values, interpolate_pos_encoding=True).logits

    def with_noise(amount: float) -> Callable[[torch.Tensor], torch.Tensor]:
        generator = torch.Generator().manual_seed(0)  # the same noise for every model

        def add_noise(pixel_values: torch.Tensor) -> torch.Tensor:
            noise = amount * torch.randn(pixel_values.shape, generator=generator)
            # What is darker than black, or lighter than white, no camera can write.
            noisy = (pixel_values.cpu() * std + mean + noise).clamp(0, 1)
            return predict(((noisy - mean) / std).to(pixel_values.device))

        return add_noise

    def with_blur(amount: float) -> Callable[[torch.Tensor], torch.Tensor]:
        width = 2 * math.ceil(3 * amount * size) + 1
        return lambda pixel_values: predict(functional.gaussian_blur(pixel_values, width, amount * size))

    # Sizes in whole patches, because a ViT cuts off what is left over.
    sizes = sorted({patch * round(share * size / patch) for share in SIZES if share * size / patch >= 2})
    noises = {amount: with_noise(amount) for amount in NOISES}
    blurs = {amount: with_blur(amount) for amount in BLURS}
    return {
        "size": {
            str(other): share_right(predict, Images(test.split, replace(preparation, size=other))) for other in sizes
        },
        "noise": {str(amount): share_right(function, test) for amount, function in ({0: predict} | noises).items()},
        "blur": {str(amount): share_right(function, test) for amount, function in ({0: predict} | blurs).items()},
    }


class Progress(TrainerCallback):
    """Moves a bar by an epoch."""

    def __init__(self, bar: tqdm):
        self.bar = bar

    def on_epoch_end(self, args, state, control, **kwargs):
        self.bar.update()


def train(
    name: str, images: ImageSet, variant: str | None, seed: int, train_data: Images, test: Images, bar: tqdm
) -> dict:
    """One run: from random weights to its record in the file of results."""
    recipe = images.recipe
    set_seed(seed)  # of the weights
    model = build_model(name, images, variant)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=folder,
                num_train_epochs=recipe.num_train_epochs,
                per_device_train_batch_size=recipe.batch_size,
                per_device_eval_batch_size=256,
                learning_rate=recipe.learning_rate,
                lr_scheduler_type="cosine",
                warmup_steps=recipe.warmup_steps,
                optim=recipe.optim,
                optim_args="momentum=0.9" if recipe.optim == "sgd" else None,
                weight_decay=recipe.weight_decay,
                bf16=torch.cuda.is_available(),
                dataloader_num_workers=8 if torch.cuda.is_available() else 0,
                dataloader_pin_memory=torch.cuda.is_available(),
                eval_strategy="epoch",
                logging_strategy="no",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
                seed=seed,  # of the order of the images and of their augmentation, the same for all models
            ),
            train_dataset=train_data,
            eval_dataset=test,
            compute_metrics=lambda result: {"accuracy": (result.predictions == result.label_ids).mean().item()},
            preprocess_logits_for_metrics=lambda logits, labels: logits.argmax(-1),
            callbacks=[Progress(bar)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    model.eval()
    accuracies = [entry["eval_accuracy"] for entry in trainer.state.log_history if "eval_accuracy" in entry]
    return {
        "model": name,
        "seed": seed,
        "parameters": model.num_parameters(),
        "multiply_adds": cost(model),
        "accuracies": accuracies,
        "branches": branch_accuracies(model, test) if hasattr(model, "crossvit") else None,
        "disturbed": disturbed_accuracies(model, test),
        "seconds": round(time.monotonic() - start, 1),
    }


def time_steps(images: ImageSet, names: list[str], variant: str | None, rounds: int) -> dict[str, list[float]]:
    """Seconds of a training step of every model, in turns."""
    recipe = images.recipe
    device = "cuda" if torch.cuda.is_available() else "cpu"
    labels = torch.arange(recipe.batch_size, device=device) % images.num_labels

    def make_step(name: str) -> Callable[[], None]:
        preparation = preparation_of(name, images)
        shape = (recipe.batch_size, preparation.channels, preparation.size, preparation.size)
        pixel_values = torch.randn(shape, device=device)
        model = build_model(name, images, variant).to(device).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)

        def step():
            model(pixel_values=pixel_values, labels=labels).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

        return step

    calls = {name: make_step(name) for name in names}
    return interleave(calls, least_rounds=rounds, most_rounds=rounds)


class Results:
    """The file of results. Every change is written at once, under a lock, so that several commands can fill one file."""

    def __init__(self, path: Path):
        self.path = path
        self.lock = FileLock(path.with_name(f".{path.name}.lock"))

    def read(self) -> dict[str, Any]:
        if not self.path.exists():
            return {"version": VERSION, "settings": {}, "runs": [], "steps": {}}
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
        except ValueError:
            raise SystemExit(
                f"error: {self.path} is not a file of results. Give another one with --results."
            ) from None
        if content.get("version") != VERSION:
            raise SystemExit(
                f"error: {self.path} was written by version {content.get('version')} of this script, and this is version {VERSION}. "
                "Give another file with --results, or delete this one and train everything again."
            )
        return content

    def change(self, change: Callable[[dict[str, Any]], Any]) -> None:
        with self.lock:
            content = self.read()
            change(content)
            lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in content.items() if key != "runs"]
            runs = ",\n".join(json.dumps(run) for run in content["runs"])
            text = "{" + ",\n".join([*lines, f'"runs": [\n{runs}\n]']) + "}\n"
            with replace_file(self.path) as temporary:
                temporary.write_text(text, encoding="utf-8")

    def add(self, run: dict[str, Any]) -> None:
        """Keeps a run, if another command has not done the same in the meantime."""
        key = (run["set"], run["model"], run["seed"])

        def append(content: dict[str, Any]) -> None:
            if key not in {(other["set"], other["model"], other["seed"]) for other in content["runs"]}:
                content["runs"].append(run)

        self.change(append)

    def expect(self, name: str, settings: dict[str, Any]) -> None:
        """Ends the program if the file has runs of a set by another recipe."""
        found = self.read()["settings"].get(name, settings)
        if other := [key for key in settings if found.get(key) != settings[key]]:
            raise SystemExit(
                f"error: {self.path} has runs on {name} with another recipe: "
                + "; ".join(f"{key} {found.get(key)} there, {settings[key]} here" for key in other)
                + ". Give another file with --results."
            )
        self.change(lambda content: content["settings"].update({name: settings}))

    def missing(self, name: str, models: list[str], seeds: int) -> list[tuple[str, int]]:
        done = {(run["model"], run["seed"]) for run in self.read()["runs"] if run["set"] == name}
        return [(model, seed) for seed in range(seeds) for model in models if (model, seed) not in done]


def describe_machine() -> str:
    sentence = measured_by("research.learning.study", "torch", "transformers")
    return f"{sentence} On {torch.cuda.get_device_name()}." if torch.cuda.is_available() else sentence


def measure(name: str, images: ImageSet, results: Results, arguments: argparse.Namespace) -> None:
    """The runs and steps on a set that are not in the file of results yet."""
    recipe, models = images.recipe, list(arguments.models)
    settings = {"model": arguments.variant or SMALL} | asdict(recipe)
    del settings["seeds"]  # more can be added later
    results.expect(name, settings)
    machine = describe_machine()
    missing = results.missing(name, models, recipe.seeds) if "runs" in arguments.parts else []
    if missing:
        splits = images.load()
        if arguments.quick:
            splits = [Split(split.images[:96], split.labels[:96]) for split in splits]
        with tqdm(total=len(missing) * recipe.num_train_epochs, unit="epoch") as bar:
            for model, seed in missing:
                if (model, seed) not in results.missing(name, models, recipe.seeds):
                    bar.update(recipe.num_train_epochs)  # another command has done it
                    continue
                bar.set_description(f"{name}, {model}, seed {seed}")
                preparation = preparation_of(model, images)
                train_data = Images(splits[0], preparation, images.augmentation)
                test = Images(splits[1], preparation)
                run = train(model, images, arguments.variant, seed, train_data, test, bar)
                larger_class = max(Counter(map(int, splits[1].labels)).values()) / len(test)
                run = {"set": name, **run, "larger_class": larger_class, "machine": machine}
                results.add(run)
    if "steps" in arguments.parts and set(results.read()["steps"].get(name, {"seconds": {}})["seconds"]) != set(
        models
    ):
        seconds = time_steps(images, models, arguments.variant, rounds=3 if arguments.quick else 21)
        results.change(lambda content: content["steps"].update({name: {"machine": machine, "seconds": seconds}}))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    ours = [name for name, images in SETS.items() if images.package != "datasets"]
    parser.add_argument("--sets", nargs="+", choices=SETS, default=ours, help="by default those that packages ship")
    parser.add_argument("--models", nargs="+", default=MODELS, help=f"of {', '.join(MODELS)}; or models of the Hub, which are trained further")  # fmt: skip
    parser.add_argument("--variant", choices=CROSSVIT_VARIANTS, help="a published size, by default a small one")
    parser.add_argument("--parts", nargs="+", choices=("runs", "steps", "report"), default=("runs", "steps", "report"))
    parser.add_argument("--quick", action="store_true", help="a few images and one epoch, in a folder that is deleted")
    parser.add_argument("--results", type=Path, help="by default docs/results/learning.json; with another file, tables and pictures lie beside it")  # fmt: skip
    for option in fields(Recipe):
        parser.add_argument(f"--{option.name}", type=type(option.default) if isinstance(option.default, (str, float)) else int, help="in place of each set's own")  # fmt: skip
    arguments = parser.parse_args()
    for name in arguments.models:
        if name not in MODELS and "/" not in name:
            parser.error(f"unknown model {name!r}: expected some of {', '.join(MODELS)}, or OWNER/NAME of the Hub")
    return arguments


def main():
    arguments = parse_arguments()
    changes = {
        option.name: value for option in fields(Recipe) if (value := getattr(arguments, option.name)) is not None
    }
    if arguments.quick:
        changes = {"num_train_epochs": 1, "seeds": 2} | changes
    for name in arguments.sets:
        SETS[name].check()
    with tempfile.TemporaryDirectory() as temporary:
        default = RESULTS / "learning.json"
        path = arguments.results or (Path(temporary) / "learning.json" if arguments.quick else default)
        results = Results(path)
        for name in arguments.sets:
            measure(name, SETS[name].with_recipe(changes), results, arguments)
        if "report" in arguments.parts:
            write_report(results.read(), path, is_page=path.resolve() == default.resolve())


if __name__ == "__main__":
    main()
