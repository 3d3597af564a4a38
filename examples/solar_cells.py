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
Train a small CrossViT from random weights to find defects in photographs of solar cells, with the ordinary script, and measure it.

    pip install elpv-dataset
    python examples/solar_cells.py           about 13 minutes on two CPU cores: at least 0.80 of the held-out images are right

The data are the 2,624 electroluminescence photographs of the package elpv-dataset: a current makes the cells glow, and what stays dark
gives no power. Experts gave each cell a defect probability of 0, 1/3, 2/3 or 1. Licence of the photographs: CC BY-NC-SA 4.0, so not for
commercial use. This repository has none of them.

The folder `--output_dir` receives the images in one folder per class, the architecture, the model, the numbers in `results.json`, and two
pictures: `results.png`, and `where_it_looked.png`, which shows cells. docs/solar_cells.md says what the numbers mean.
"""

import json
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap
from sklearn.metrics import ConfusionMatrixDisplay, balanced_accuracy_score, confusion_matrix
from sklearn.model_selection import train_test_split
from tqdm import tqdm
from transformers import pipeline
from transformers.image_utils import load_image

from common.command_line import parse_arguments
from common.training_report import draw
from crossvit import CrossViTConfig, CrossViTImageProcessor
from crossvit.explain import attention_maps, draw_over, visible


CLASSES = ["defective", "functional"]
# A cell has no upper edge: turned and mirrored photographs are as good as new ones. The whole cell is shown, because a defect can be small.
# There is no evaluation before the end, because the held-out images must not influence the training.
OPTIONS = """--do_train --do_eval --vertical_flip --quarter_turns --random_crop_scale 1 --learning_rate 1e-3
--lr_scheduler_type cosine --warmup_steps 0.1 --weight_decay 0.05 --per_device_train_batch_size 32 --per_device_eval_batch_size 32
--eval_strategy no --save_strategy no --report_to none"""


@dataclass
class Arguments:
    output_dir: str = field(default="outputs/solar_cells", metadata={"help": "Folder for all files that are written."})
    num_train_epochs: int = field(default=25, metadata={"help": "How often each training image is seen."})
    seed: int = field(default=0, metadata={"help": "Of weights and augmentations; the held-out images stay."})


def load_cells() -> pd.DataFrame:
    """One row per photograph, with `path`, the `probability` of a defect, `label` and `split`."""
    try:
        folder = Path(str(files("elpv_dataset"))) / "data"
    except ModuleNotFoundError:
        message = "The photographs come from the package elpv-dataset, which is missing: pip install elpv-dataset"
        raise SystemExit(message) from None
    cells = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["path", "probability", "type"])
    cells["path"] = [folder / path for path in cells["path"]]
    cells["label"] = np.where(cells["probability"] > 0.5, *CLASSES)
    # A quarter is held out, with equal shares of each probability. Their rank stands for them, because scikit-learn refuses fractions.
    ranks = cells["probability"].rank(method="dense").astype(int)
    _, held_out = train_test_split(cells.index, test_size=656, stratify=ranks, random_state=0)
    cells["split"] = np.where(cells.index.isin(held_out), "validation", "train")
    return cells


def write_cells(cells: pd.DataFrame, folder: Path):
    """Copies the files, unchanged, to `folder/split/label/name.png`."""
    for cell in tqdm(cells.itertuples(), total=len(cells), desc="copying the images"):
        path = folder / cell.split / cell.label / cell.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cell.path, path)


def write_architecture(folder: Path):
    """Writes the configuration of a CrossViT with 1.4 million parameters, and its image processor."""
    config = CrossViTConfig(
        image_sizes=[144, 128],
        hidden_sizes=[96, 144],
        num_stages=2,
        depths=[1, 2],
        num_attention_heads=[4, 4],
        mlp_ratios=[2.0, 2.0],
        use_convolutional_stem=True,  # needs less data than a linear projection of patches
        initializer_range=0.1,  # about 1 / sqrt(width); the published 0.02 is for wider models
    )
    config.save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(144, crop_pct=1.0).save_pretrained(folder)


def train(output: Path, epochs: int, seed: int):
    """Runs the ordinary script. With `--config_name` alone it starts from random weights."""
    script = Path(__file__).parent / "run_image_classification.py"
    options = {
        "--config_name": output / "architecture",
        "--train_dir": output / "cells",
        "--output_dir": output / "model",
        "--num_train_epochs": epochs,
        "--seed": seed,
    }
    arguments = [str(part) for pair in options.items() for part in pair]
    result = subprocess.run([sys.executable, str(script), *arguments, *OPTIONS.split()])
    if result.returncode != 0:
        raise SystemExit(f"The training ended with status {result.returncode}; the reason stands above.")


def classify(classifier, paths: list[Path]) -> np.ndarray:
    """Returns the model's probability of a defect for each image."""
    predictions = classifier((str(path) for path in paths), batch_size=32, top_k=len(CLASSES))
    predictions = tqdm(predictions, total=len(paths), desc="classifying the held-out images")
    scores = [{entry["label"]: entry["score"] for entry in prediction} for prediction in predictions]
    return np.array([score["defective"] for score in scores])


def share(right: np.ndarray) -> dict:
    """The share of right answers with its 95 % interval, by Wilson's method."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
    return {"value": float(right.mean()), "low": interval.low, "high": interval.high, "images": len(right)}


def measure(probability: np.ndarray, scores: np.ndarray) -> dict:
    """Compares the model's probabilities of a defect with those of the experts."""
    truth, predicted = (np.where(values > 0.5, *CLASSES) for values in (probability, scores))
    right = truth == predicted
    by_class = [right[truth == label] for label in CLASSES]
    # Balanced accuracy is the mean of the classes' shares. Each class is drawn again by itself, with its number of images.
    draws = bootstrap(
        by_class, lambda a, b, axis: (a.mean(axis) + b.mean(axis)) / 2, method="percentile", random_state=0
    )
    interval = draws.confidence_interval
    balanced = balanced_accuracy_score(truth, predicted)
    return {
        "accuracy": share(right),
        "balanced_accuracy": {"value": balanced, "low": interval.low, "high": interval.high},
        "larger_class": max(map(len, by_class)) / len(right),
        "confusion_matrix": confusion_matrix(truth, predicted, labels=CLASSES).tolist(),
        "by_probability": {f"{value:.2f}": share(right[probability == value]) for value in np.unique(probability)},
    }


def draw_results(results: dict, path: Path):
    """Draws the confusion matrix, and the share of right answers for each probability that the experts gave."""
    figure, (left, axis) = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained", width_ratios=[1, 1.25])
    matrix = np.array(results["confusion_matrix"])
    ConfusionMatrixDisplay(matrix, display_labels=CLASSES).plot(ax=left, cmap="Blues", colorbar=False)
    left.set(title=f"what the model says of {matrix.sum()} held-out cells", xlabel="the model", ylabel="the experts")
    groups = pd.DataFrame(results["by_probability"].values())
    names = ["0\nfunctional", "1/3\nfunctional", "2/3\ndefective", "1\ndefective"]
    errors = [groups["value"] - groups["low"], groups["high"] - groups["value"]]
    labels = [f"{name}\n{images} cells" for name, images in zip(names, groups["images"])]
    axis.bar(labels, groups["value"], yerr=errors, capsize=6, width=0.6, color="#7fa8d1")
    overall = results["accuracy"]["value"]
    axis.axhline(overall, color="black", linewidth=1, linestyle="--", label=f"all cells: {overall:.1%}")
    axis.set(title="how many it judges right (with 95 % intervals)", ylim=(0, 1.02))
    axis.set_xlabel("probability of a defect, by the experts")
    axis.yaxis.set_major_formatter("{x:.0%}")
    axis.legend(loc="lower left", framealpha=1)
    figure.savefig(path, dpi=110)


def draw_attention(classifier, cells: pd.DataFrame, path: Path, columns: int = 4):
    """
    Draws cells of each quadrant of the confusion matrix, chosen at random, with the cross-attention of both branches in the last stage,
    averaged over the heads.
    """
    model = classifier.model
    figure = plt.figure(figsize=(13, 11), layout="constrained")
    quadrants = [(truth, predicted) for truth in CLASSES for predicted in CLASSES]
    for (truth, predicted), part in zip(quadrants, figure.subfigures(2, 2, wspace=0.04, hspace=0.04).flat):
        group = cells[(cells["label"] == truth) & (cells["predicted"] == predicted)]
        group = group.sample(min(columns, len(group)), random_state=0)
        verdict, color = ("right", "black") if truth == predicted else ("wrong", "red")
        part.suptitle(f"experts: {truth}, model: {predicted} ({verdict})", color=color)
        axes = part.subplots(3, columns)
        for axis, name in zip(axes[:, 0], ("image", "small branch\nlooked at", "large branch\nlooked at")):
            axis.set_ylabel(name)
        for axis in axes.flat:
            axis.set(xticks=[], yticks=[])
        for cell, (top, *below) in zip(group.itertuples(), axes.T):
            image = load_image(str(cell.path))
            top.set_title(f"defect: {cell.score:.0%}", fontsize=10)
            top.imshow(image)
            pixels = classifier.image_processor(image, return_tensors="pt").pixel_values.to(model.device)
            # Each branch looks at the patches of the other.
            for axis, maps in zip(below, reversed(attention_maps(model, pixels))):
                draw_over(axis, visible(pixels[0], classifier.image_processor), maps[0])
    figure.savefig(path, dpi=90)


def main():
    (arguments,) = parse_arguments(Arguments, description=__doc__.split("\n\n")[0])
    output = Path(arguments.output_dir)
    cells = load_cells()
    write_cells(cells, output / "cells")
    write_architecture(output / "architecture")
    start = time.monotonic()
    train(output, arguments.num_train_epochs, arguments.seed)
    minutes = (time.monotonic() - start) / 60

    # From here on, only the saved folder and image files are used, as by any user of the model.
    classifier = pipeline("image-classification", model=str(output / "model"))
    held_out = cells[cells["split"] == "validation"].copy()
    held_out["score"] = classify(classifier, held_out["path"].tolist())
    held_out["predicted"] = np.where(held_out["score"] > 0.5, *CLASSES)
    results = measure(held_out["probability"].to_numpy(), held_out["score"].to_numpy())
    results |= {"training_minutes": minutes, **vars(arguments)}
    (output / "results.json").write_text(json.dumps(results, indent=2))
    draw(draw_results, results, output / "results.png")
    draw(draw_attention, classifier, held_out, output / "where_it_looked.png")
    for name in ("accuracy", "balanced_accuracy"):
        print("{} {value:.1%}, 95 % interval {low:.1%} to {high:.1%}".format(name.replace("_", " "), **results[name]))
    print(f"always saying the larger class: {results['larger_class']:.1%}")
    print(f"numbers, pictures and model: {output}")


if __name__ == "__main__":
    main()
