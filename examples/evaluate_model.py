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
Say how good one or several trained models are on labelled images, with 95 % intervals.

    pip install "transformers-crossvit[use]"
    python evaluate_model.py --models outputs/quickstart/model --validation_dir outputs/quickstart/digits/test
    python evaluate_model.py --models first_model second_model --validation_file test.csv
    accelerate launch evaluate_model.py ...       on several GPUs, with the same numbers

The first evaluation takes 12 seconds on two CPU cores, and at least 0.97 of the images are right. The data are named as for the training
scripts: a folder, a CSV, JSON lines or parquet file, or a data set of the Hub. Labels and the models' classes are matched by name, and
`--label_map` translates names. The folder `--output_dir` receives

    evaluation.json      all numbers
    evaluation.png       a picture of them
    classes_N.csv        precision, recall and F1 of each class, for model N
    predictions_N.csv    for each image its class, the predicted class, how sure the model was, and the rank that it gave to the right class

After Ctrl-C or SIGTERM the same command continues with the images that are left, except for a stream. If a model's folder has the `run.json` of its
training, images that it was trained on are named.

Macro F1 is the mean over the classes that are the label or the prediction of any image, as in scikit-learn. Its interval is right from about
20 images per class. The calibration error is how far the model's confidence in its answer is from how often it is right.
"""

import hashlib
import json
import os
import time
import warnings
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from datasets import Dataset, IterableDataset
from datasets.distributed import split_dataset_by_node
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.errors import EntryNotFoundError
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score, precision_recall_fscore_support
from torch.utils.data import DataLoader
from tqdm import tqdm

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.files import check_writable, replace_file
from crossvit.configuration.image_files import existing_path, image_mode
from crossvit.configuration.stopping import Stopped, resumable
from crossvit.data import DataArguments, ImageData, load_images, print_bad_images, read_image
from crossvit.data.classes import counted
from crossvit.data.loading import warn_of_trained_images
from crossvit.data.reading import image_name
from crossvit.data.samples import AugmentedImages, AugmentedStream, ImageTransform
from crossvit.hub import complete_model_card
from crossvit.trainer import parse_arguments


RESULTS, PICTURE = "evaluation.json", "evaluation.png"
# What a process has done before a signal. The name tells the images, the models and the processes.
UNFINISHED = "unfinished_{}.parquet"
# What is said of an image, in the order of the files.
COLUMNS = ("label", "predicted", "confidence", "rank")
# The classes that the picture names at most.
MAX_NAMES = 25
# The equally wide bins of confidence.
BINS = 15
# The standard deviations on each side of a 95 % interval.
Z = norm.ppf(0.975)


@dataclass
class Arguments:
    _argument_group_name = "evaluation"

    models: list[str] = field(metadata={"help": "One or several folders or Hub repositories of trained models."})
    output_dir: str = field(default="outputs/evaluation", metadata={"help": "Folder for all files that are written."})
    data_name: str | None = field(
        default=None,
        metadata={"help": "Name of the data in the results and in model cards. By default that of the folder, file or data set."},
    )  # fmt: skip
    per_device_eval_batch_size: int = field(default=32, metadata={"help": "Images per process and forward pass."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Number of processes that read images, per GPU."})
    mixed_precision: str | None = field(
        default=None, metadata={"help": "no, fp16 or bf16. By default that of `accelerate config`."}
    )
    update_card: bool = field(
        default=False,
        metadata={"help": "Write the numbers into the model cards, in folders here or in repositories on the Hub."},
    )
    token: str | None = field(
        default=None, metadata={"help": "Token for the Hub. By default that of `hf auth login`."}
    )
    seed: int = field(
        default=0, metadata={"help": "The same seed holds out the same images as in a training run with this seed."}
    )


@dataclass
class Model:
    """A model with its image processor, and the images with its classes."""

    name: str
    classifier: CrossViTForImageClassification
    image_processor: CrossViTImageProcessor
    images: ImageData

    @property
    def classes(self) -> list[str]:
        """The names of the classes. A name that several classes have gets the index of the class: in ImageNet, a crane is a bird or lifts."""
        counts = Counter(self.images.classes)
        return [name if counts[name] == 1 else f"{name} ({index})" for index, name in enumerate(self.images.classes)]


# --- from images to answers ---


class Samples:
    """Turns an encoded image into the inputs of all models. It is read once, and each model prepares it in its own way."""

    def __init__(self, models: list[Model]):
        self.image_range = models[0].images.image_range
        self.parts = [
            ImageTransform(
                one.image_processor,
                one.images.label2id,
                False,
                len(one.classes),
                mode=image_mode(one.classifier.config, one.image_processor),
            )
            for one in models
        ]

    def __call__(self, sample: dict) -> dict:
        image = read_image(sample["image"], self.image_range)
        return {
            "pixel_values": [
                part.transform(image.convert(part.mode), return_tensors="pt").pixel_values[0] for part in self.parts
            ],
            "labels": [part.class_index(sample["label"], sample["image"]) for part in self.parts],
            "name": image_name(sample["image"]),
        }


def check_models(arguments: Arguments):
    """Ends the program if a model cannot be had, or does not take image files. It comes before the images, which may take long to look at."""
    for name in arguments.models:
        try:
            config = CrossViTConfig.from_pretrained(name, token=arguments.token)
            image_mode(config, CrossViTImageProcessor.from_pretrained(name, token=arguments.token))
            if config.problem_type == "multi_label_classification":
                raise ValueError(
                    "The model was trained for several labels per image, and the figures here are for one. Evaluate it with "
                    "run_image_classification.py --do_eval."
                )
        except (OSError, ValueError) as error:
            raise SystemExit(f"{name}: {error}") from error


def load_models(arguments: Arguments, images: ImageData) -> list[Model]:
    """Loads all models before the work starts, because one of them may not fit the data."""
    models = []
    for name in arguments.models:
        try:
            config = CrossViTConfig.from_pretrained(name, token=arguments.token)
            matched = images.match_classes(config.id2label, training=False)
            classifier = CrossViTForImageClassification.from_pretrained(name, token=arguments.token)
            image_processor = CrossViTImageProcessor.from_pretrained(name, token=arguments.token)
        except (OSError, RuntimeError, ValueError) as error:
            raise SystemExit(f"{name}: {error}") from error
        models.append(Model(name, classifier, image_processor, matched))
    return models


def answers(scores: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    What a model says of some images.

    Args:
        scores: The logits, (images, classes).
        labels: The index of the right class, (images,).
    """
    own = scores.gather(1, labels[:, None])
    # Of equal scores, the class with the larger index comes first, as in scikit-learn's top_k_accuracy_score.
    before = (scores > own) | ((scores == own) & (torch.arange(scores.shape[1]) > labels[:, None]))
    return {
        "label": labels,
        "predicted": scores.argmax(dim=1),
        "confidence": scores.double().softmax(dim=1).amax(dim=1),
        "rank": before.sum(dim=1) + 1,
    }


def is_own(_, index: int, rank: int, processes: int) -> bool:
    return index % processes == rank


def own_part(images: Dataset | IterableDataset, accelerator: Accelerator, ends_early: bool):
    """The images that this process evaluates. Together, all processes have each image once."""
    if ends_early and isinstance(images, IterableDataset):
        # Processes that read parts of the stream would find other first images. Therefore each reads all of them, and keeps its own.
        own = partial(is_own, rank=accelerator.process_index, processes=accelerator.num_processes)
        return images.filter(own, with_indices=True)
    return split_dataset_by_node(images, accelerator.process_index, accelerator.num_processes)


def identity(accelerator: Accelerator, models: list[Model], images: Dataset) -> str:
    """The same for the same images of this process, with the same weights, image processors, classes and number format."""
    digest = hashlib.sha256(f"{accelerator.process_index} {accelerator.mixed_precision}".encode())
    for one in models:
        digest.update(json.dumps([one.images.label2id, one.classes, one.images.image_range]).encode())
        digest.update(one.image_processor.to_json_string().encode())
        for weight in one.classifier.state_dict().values():
            digest.update(weight.cpu().contiguous().flatten().view(torch.uint8).numpy())
    digest.update(images._fingerprint.encode())
    for batch in images.select_columns("image").with_format("arrow").iter(1000):
        for path in batch["image"].combine_chunks().field("path").to_pylist():
            if path is not None and os.path.exists(file := existing_path(path)):
                found = os.stat(file)
                digest.update(f"{path}|{found.st_size}|{found.st_mtime_ns}".encode())
    return digest.hexdigest()[:16]


@torch.no_grad()
def predict(
    accelerator: Accelerator,
    models: list[Model],
    images: Dataset | IterableDataset,
    batch_size: int,
    num_workers: int,
    output: Path,
) -> list[pd.DataFrame]:
    """
    A row for each image, for each model. `attrs` has how many images per second the model took, without the time to read them. `images` are
    those of this process. After a signal, its rows are in the folder `output`, and the next call starts with them.
    """
    batches, done, is_stream = [], 0, isinstance(images, IterableDataset)
    if is_stream:
        dataset = AugmentedStream(images, Samples(models), seed=0, endless=False)
    else:
        if any(output.glob(UNFINISHED.format("*"))):
            file = output / UNFINISHED.format(identity(accelerator, models, images))
            batches = [pd.read_parquet(file)] if file.exists() else []
            done = sum(map(len, batches))
        dataset = AugmentedImages(images.select(range(done, len(images))), Samples(models), seed=0)
    prepared = [accelerator.prepare_model(one.classifier.eval(), evaluation_mode=True) for one in models]
    loader = DataLoader(dataset, batch_size, num_workers=num_workers)
    try:
        for batch in tqdm(loader, desc="evaluating (batches)", disable=not accelerator.is_main_process):
            rows = {"image": batch["name"], "batch": done + len(batches)}
            for index, model in enumerate(prepared):
                start = time.perf_counter()
                scores = model(batch["pixel_values"][index].to(accelerator.device)).logits.float().cpu()
                rows[f"rate {index}"] = len(scores) / (time.perf_counter() - start)
                wrong = [name for name, row in zip(batch["name"], scores) if not row.isfinite().all()]
                if wrong:
                    raise SystemExit(
                        f"{models[index].name} gives scores that are not finite numbers, for {wrong[0]} as the first image. Either its weights "
                        "are broken, or fp16 is too narrow for it: leave out --mixed_precision."
                    )
                for column, values in answers(scores, batch["labels"][index]).items():
                    rows[f"{column} {index}"] = values.numpy()
            batches.append(pd.DataFrame(rows))
    except Stopped:
        if batches and not is_stream:
            with replace_file(output / UNFINISHED.format(identity(accelerator, models, images))) as temporary:
                pd.concat(batches, ignore_index=True).to_parquet(temporary)
        raise
    # The median, because the first batches are slower than the others.
    own = [
        float(pd.concat(batches).drop_duplicates("batch")[f"rate {index}"].median()) if batches else 0.0
        for index in range(len(models))
    ]
    rates, rows, tables = (
        np.sum(gather_object([own]), axis=0),
        pd.concat(gather_object(batches), ignore_index=True),
        [],
    )
    for index, one in enumerate(models):
        table = rows[["image", *(f"{column} {index}" for column in COLUMNS)]].set_axis(["image", *COLUMNS], axis=1)
        for column in ("label", "predicted"):
            table[column] = np.array(one.classes, dtype=object)[table[column]]
        table.attrs["images_per_second"] = float(rates[index])
        tables.append(table)
    return tables


# --- figures ---


def wilson(share, images):
    """
    Wilson's 95 % interval of a share of so many images, or of columns of both: the low and the high ends. SciPy's takes whole numbers of
    images only, and macro F1 has others.
    """
    middle = (share + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * np.sqrt(share * (1 - share) / images + Z**2 / (4 * images**2))
    # At 0 and 1 the interval ends there, but for the rounding.
    return np.maximum(np.minimum(middle - half, share), 0), np.minimum(np.maximum(middle + half, share), 1)


def with_interval(share: float, images: float) -> dict[str, float]:
    low, high = wilson(share, images)
    return {"value": float(share), "low": float(low), "high": float(high)}


def macro_f1(table: pd.DataFrame) -> dict[str, float]:
    """
    Macro F1 with an interval of Wilson's form, for as many images as give a share the variance that macro F1 has here. That variance comes
    from the delta method: `influence` is how far each image moves macro F1.
    """
    _, indices = np.unique(table[["label", "predicted"]].to_numpy(str), return_inverse=True)
    label, predicted = indices.reshape(-1, 2).T
    f1 = f1_score(label, predicted, average=None)
    occurs = (np.bincount(label, minlength=len(f1)) + np.bincount(predicted, minlength=len(f1))) / len(label)
    influence = (
        2 * (label == predicted) / occurs[label] - f1[label] / occurs[label] - f1[predicted] / occurs[predicted]
    )
    variance = np.mean((influence / len(f1)) ** 2) / len(label)
    value = f1.mean()
    return with_interval(value, value * (1 - value) / variance if variance > 0 else len(label))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The index of the bin of each confidence. An edge belongs to the bin below it, as in scikit-learn's calibration_curve."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)


def calibration_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """
    Expected calibration error (Guo et al. 2017): the mean difference between how sure the model is and how often it is right, over bins of
    equal width, each with the weight of its images.
    """
    return float(np.abs(np.bincount(bins_of(confidence), right - confidence)).sum() / len(right))


def measure(table: pd.DataFrame, num_classes: int) -> dict[str, dict[str, float]]:
    """The figures of one model. All but the calibration error have an interval."""
    right = (table["label"] == table["predicted"]).to_numpy()
    figures = {"accuracy": with_interval(right.mean(), len(right))}
    if num_classes > 5:
        figures["top_5_accuracy"] = with_interval((table["rank"] <= 5).mean(), len(right))
    figures["macro_f1"] = macro_f1(table)
    figures["calibration_error"] = {"value": calibration_error(right, table["confidence"].to_numpy())}
    return figures


def compare(right: np.ndarray, others: np.ndarray) -> dict[str, float]:
    """
    How much more often one model is right than another on the same images, with the interval of Bonett and Price (2012), and McNemar's
    exact test: the probability that two equally good models differ by as much.
    """
    images, first, second = len(right), int((right & ~others).sum()), int((~right & others).sum())
    middle, apart = (first - second) / (images + 2), (first + second + 2) / (images + 2)
    half = Z * np.sqrt((apart - middle**2) / (images + 2))
    return {
        "value": (first - second) / images, "low": float(max(middle - half, -1)), "high": float(min(middle + half, 1)),
        "only_first_right": first, "only_second_right": second,
        "p": float(binomtest(first, first + second).pvalue) if first + second else 1.0,
    }  # fmt: skip


def class_table(table: pd.DataFrame) -> pd.DataFrame:
    """The measures of each class that is the label or the prediction of any image. Without an image, or a prediction, some are not defined."""
    names = pd.Index(np.unique(table[["label", "predicted"]].to_numpy(str)), name="class")
    columns = precision_recall_fscore_support(table["label"], table["predicted"], labels=names, zero_division=np.nan)
    classes = pd.DataFrame(dict(zip(("precision", "recall", "f1", "images"), columns)), index=names)
    classes["recall_low"], classes["recall_high"] = wilson(classes["recall"], classes["images"])
    return classes[["images", "precision", "recall", "recall_low", "recall_high", "f1"]]


# --- what is shown ---


def in_percent(figure: dict[str, float]) -> str:
    """A share, and its interval if it has one."""
    return ("{value:.1%} ({low:.1%} to {high:.1%})" if "low" in figure else "{value:.1%}").format(**figure)


def shortened(name: str, most: int) -> str:
    """One line of at most so many letters. What is too long loses its middle, because names differ at their ends."""
    line = " ".join(name.split())
    return line if len(line) <= most else f"{line[: most // 2]}\u2026{line[1 - (most + 1) // 2 :]}"


def print_tables(results: dict, classes: list[pd.DataFrame]):
    """Prints the figures of all models, the classes that each finds hardest, and the differences."""
    print(
        f"\n{counted(results['images'], 'image')} of {counted(results['classes'], 'class')}; 95 % intervals in brackets\n"
    )
    rows = {
        model["name"]: {**{name: in_percent(figure) for name, figure in model["figures"].items()}, "images per second": f"{model['images_per_second']:.1f}"}
        for model in results["models"]
    }  # fmt: skip
    print(pd.DataFrame(rows).rename(index=lambda name: name.replace("_", " ")).fillna("").to_string())
    for model, table in zip(results["models"], classes):
        print(f"\nhardest classes of {model['name']}:")
        hardest = table.sort_values("f1", kind="stable").head(10)
        print(hardest.to_string(float_format="{:.3f}".format, na_rep="-", index_names=False))
    for difference in results["differences"]:
        better, other, gain = difference["first"], difference["second"], difference
        if difference["value"] == 0:
            print(
                f"\n{better} is right as often as {other}, a difference of {in_percent(gain)}; McNemar's exact test: p = {difference['p']:.3g}"
            )
            continue
        if difference["value"] < 0:
            better, other = other, better
            gain = {"value": -difference["value"], "low": -difference["high"], "high": -difference["low"]}
        print(
            f"\n{better} is right more often than {other} by {in_percent(gain)}; McNemar's exact test: p = {difference['p']:.3g}"
        )
    if len(results["differences"]) > 1:
        print(
            f"\nEach p is for its pair alone: of {len(results['differences'])} tests, some are small by chance more easily than one."
        )


def draw_evaluation(results: dict, tables: list[pd.DataFrame], classes: list[pd.DataFrame], path: Path):
    """Draws the figures with their intervals, the reliability of the confidence, and the F1 of the classes."""
    models = results["models"]
    width = 0.8 / len(models)  # of bars side by side
    f1 = pd.concat([table["f1"] for table in classes], axis=1, keys=range(len(models)))
    f1 = f1.loc[f1.mean(axis=1).sort_values(kind="stable").index[:MAX_NAMES]][::-1]  # the hardest at the top
    figure = plt.figure(figsize=(18, max(6, 0.12 * len(f1) * (len(models) + 1))), layout="constrained")
    parts = figure.subfigures(1, 3)
    left, right = parts[0].subplots(), parts[2].subplots()
    middle, below = parts[1].subplots(2, height_ratios=[3, 1], sharex=True)
    order = [name for name in ("accuracy", "macro_f1", "top_5_accuracy") if any(name in model["figures"] for model in models)]  # fmt: skip
    for index, (model, table) in enumerate(zip(models, tables)):
        look = {"color": f"C{index}", "alpha": 0.7}
        shift = width * (index + 0.5) - 0.4
        figures = pd.DataFrame(model["figures"]).T.reindex(order)
        errors = [figures["value"] - figures["low"], figures["high"] - figures["value"]]
        bars = left.bar(np.arange(len(order)) + shift, figures["value"], 0.95 * width, yerr=errors, capsize=4, **look)
        left.bar_label(bars, [f"{value:.1%}" for value in figures["value"]], label_type="center", fontsize=9)
        left.plot([], [], "s", label=shortened(model["name"], 50), **look)
        table = table.assign(right=table["label"] == table["predicted"])
        bins = table.groupby(bins_of(table["confidence"].to_numpy()))
        sure, right_often, images = bins["confidence"].mean(), bins["right"].mean(), bins.size()
        error = f"calibration error {in_percent(model['figures']['calibration_error'])}"
        middle.plot(sure, right_often, linewidth=1, label=error, **look)
        middle.scatter(sure, right_often, 8 + 200 * images / len(table), clip_on=False, zorder=3, **look)
        places = (images.index + 0.1 + 0.8 * index / len(models)) / BINS
        below.bar(places, images, width / BINS, align="edge", **look)
        bars = right.barh(np.arange(len(f1)) - shift, f1[index], 0.95 * width, **look)
        if len(models) <= 2:
            right.bar_label(bars, fmt="%.3f", padding=2, fontsize=7)
    left.set_xticks(range(len(order)), [name.replace("_", " ") for name in order])
    left.set(
        ylim=(0, 1.02),
        title=f"{counted(results['images'], 'image')} of {shortened(results['data'], 30)}, 95 % intervals",
    )
    parts[0].legend(loc="outside lower center", fontsize=9)
    middle.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle="--")
    middle.set(
        ylabel="how often it is right", title="calibration (large points: many images)", xlim=(0, 1), ylim=(0, 1)
    )
    parts[1].legend(loc="outside lower center", fontsize=9)
    below.set(xlabel="how sure the model is", ylabel="images", yscale="log", ylim=(0.5, None))
    below.yaxis.set_major_formatter("{x:,.0f}")  # the formatter for logarithms writes formulas
    below.yaxis.set_minor_formatter("")
    right.set_yticks(range(len(f1)), [shortened(name, 30) for name in f1.index], fontsize=8)
    some = f"the {len(f1)} hardest classes" if len(f1) < max(map(len, classes)) else "the classes"
    right.set(title=f"F1 of {some}", xlim=(0, 1.1 if len(models) <= 2 else 1.02), ylim=(-0.6, len(f1) - 0.4))
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=110)


def try_to_draw(*arguments):
    """Draws the evaluation. A picture that fails is a warning, because it must not take the results with it."""
    try:
        # Names of classes are not formulas, even if they have dollar signs.
        with plt.rc_context({"text.parse_math": False, "text.usetex": False}):
            draw_evaluation(*arguments)
    except Exception as error:
        warnings.warn(f"The picture could not be drawn, all else is saved: {error!r}", stacklevel=2)
    finally:
        plt.close("all")


# --- files ---


def table_files(output: Path, number: int) -> tuple[Path, Path]:
    """The files of the predictions and of the classes of a model, counted from 1."""
    return output / f"predictions_{number}.csv", output / f"classes_{number}.csv"


def earlier_models(output: Path) -> int:
    """The number of models of the evaluation that the folder has already. Another file of this name ends the program with a message."""
    file = output / RESULTS
    try:
        return len(json.loads(file.read_text())["models"]) if file.exists() else 0
    except (ValueError, KeyError, TypeError):
        raise SystemExit(
            f"{file} is not a result of this script, which would replace it: give another --output_dir."
        ) from None


def save(results: dict, tables: list[pd.DataFrame], classes: list[pd.DataFrame], output: Path, earlier: int):
    """Replaces the files of an earlier evaluation. Files of models that it had in addition are removed."""
    for number in range(len(tables) + 1, earlier + 1):
        for file in table_files(output, number):
            file.unlink(missing_ok=True)
    (output / PICTURE).unlink(missing_ok=True)  # an earlier one must not stay if this one cannot be drawn
    for number, (table, by_class) in enumerate(zip(tables, classes), start=1):
        predictions_file, classes_file = table_files(output, number)
        with replace_file(predictions_file) as temporary:
            table.to_csv(temporary, index=False)
        with replace_file(classes_file) as temporary:
            by_class.to_csv(temporary)
    with replace_file(output / RESULTS) as temporary:
        temporary.write_text(json.dumps(results, indent=2))
    for file in output.glob(UNFINISHED.format("*")):
        file.unlink()
    try_to_draw(results, tables, classes, output / PICTURE)


def load_card(model: str, token: str | None) -> ModelCard | None:
    """The card of a model, if it has one. A card that cannot be read ends the program with a message."""
    file = Path(model) / "README.md"
    try:
        if Path(model).is_dir():
            return ModelCard.load(file) if file.exists() else None
        return ModelCard.load(model, token=token)
    except EntryNotFoundError:
        return None
    except ValueError as error:
        raise SystemExit(
            f"The model card of {model} cannot be read: {error}. Mend it, or leave out --update_card."
        ) from error


def update_card(model: Model, figures: dict, where: dict[str, str | None], token: str | None):
    """Puts the figures into the card of a model, in the place of earlier ones on the same data. All else in it stays."""
    name = model.name
    card = load_card(name, token) or complete_model_card(None, model.classifier, name)
    entries = {(*entry.unique_identifier, entry.metric_type): entry for entry in card.data.eval_results or []}
    for metric, figure in figures.items():
        entry = EvalResult("image-classification", **where, metric_type=metric, metric_value=figure["value"])
        entries[(*entry.unique_identifier, metric)] = entry
    card.data.eval_results = list(entries.values())
    card.data.model_name = card.data.model_name or Path(name).name
    if Path(name).is_dir():
        with replace_file(Path(name) / "README.md") as temporary:
            card.save(temporary)
    else:
        card.push_to_hub(name, token=token, commit_message=f"Add the evaluation on {where['dataset_name']}")
    print(f"model card with the numbers: {name}")


# --- options ---


def check_arguments(arguments: Arguments, data_arguments: DataArguments):
    """Ends the program with a message if options contradict each other."""
    twice = [name for name, count in Counter(arguments.models).items() if count > 1]
    if twice:
        raise SystemExit(f"--models has {twice[0]} twice; give each model once.")
    if arguments.per_device_eval_batch_size < 1:
        raise SystemExit(
            f"--per_device_eval_batch_size must be at least 1, got {arguments.per_device_eval_batch_size}."
        )
    if arguments.update_card and data_arguments.max_eval_samples is not None:
        raise SystemExit("--update_card is for numbers on all images: leave out --max_eval_samples.")


def describe_data(arguments: Arguments, data_arguments: DataArguments) -> dict[str, str | None]:
    """The data as model cards name them: of the Hub by their name there, others by the kind of file and a name."""
    data = data_arguments
    path = data.validation_dir or data.validation_file or data.dataset_name or data.train_dir or data.train_file
    if path == data.dataset_name and not Path(path).exists():
        config, split = data.dataset_config_name, data.validation_split
        name = arguments.data_name or path
        return {"dataset_type": path, "dataset_name": name, "dataset_config": config, "dataset_split": split}
    name, kind = arguments.data_name or Path(path).absolute().name, replace(data, dataset_name=None).source
    # Without a configuration, all folders would be the same data for a card.
    return {"dataset_type": kind, "dataset_name": name, "dataset_config": name}


def work(arguments: Arguments, data_arguments: DataArguments, output: Path):
    earlier = earlier_models(output)
    accelerator = Accelerator(mixed_precision=arguments.mixed_precision)
    workers = arguments.dataloader_num_workers
    check_writable(output)
    check_models(arguments)
    options = {"num_workers": workers, "token": arguments.token}
    images = load_images(data_arguments, arguments.seed, output, training=False, **options)
    if images.multi_label:
        raise SystemExit(
            "These images have several labels each, and the figures here are for one. Evaluate them with run_image_classification.py --do_eval."
        )
    if next(iter(images.splits["validation"]), None) is None:
        raise SystemExit("There is no image to evaluate: the source of the evaluation images is empty.")
    models = load_models(arguments, images)
    output.mkdir(parents=True, exist_ok=True)
    if not isinstance(images.splits["validation"], IterableDataset):
        for name in arguments.models:
            warn_of_trained_images(images.splits["validation"], name, accelerator.state, token=arguments.token)
    if accelerator.is_main_process:
        for name in arguments.models if arguments.update_card else ():
            load_card(name, arguments.token)

    own = own_part(images.splits["validation"], accelerator, data_arguments.max_eval_samples is not None)
    tables = predict(accelerator, models, own, arguments.per_device_eval_batch_size, workers, output)
    if not accelerator.is_main_process:
        return
    classes = [class_table(table) for table in tables]
    where = describe_data(arguments, data_arguments)
    right = [(table["label"] == table["predicted"]).to_numpy() for table in tables]
    results = {
        "data": where["dataset_name"],
        "images": len(tables[0]),
        "classes": tables[0]["label"].nunique(),
        "processes": accelerator.num_processes,
        "models": [
            {"name": one.name, "figures": measure(table, len(one.classes)), **table.attrs}
            for one, table in zip(models, tables)
        ],
        "differences": [
            {"first": models[first].name, "second": models[second].name, **compare(right[first], right[second])}
            for first in range(len(right))
            for second in range(first)
        ],
        "options": {name: value for name, value in asdict(data_arguments).items() if value not in (None, False)},
    }
    save(results, tables, classes, output, earlier)
    print_tables(results, classes)
    if data_arguments.skip_bad_images:
        print_bad_images(output)
    for model, found in zip(models, results["models"]):
        if arguments.update_card:
            update_card(model, found["figures"], where, arguments.token)
    print(f"\nnumbers and picture: {output}")


def main():
    data_arguments, arguments = parse_arguments(DataArguments, Arguments, description=__doc__.split("\n\n")[0])
    arguments.models = [os.path.expanduser(name) for name in arguments.models]
    check_arguments(arguments, data_arguments)
    output = Path(arguments.output_dir)
    kept = (
        "a stream is evaluated from its beginning"
        if data_arguments.streaming
        else f"the images that were evaluated are in {output}"
    )
    with resumable(kept):
        try:
            work(arguments, data_arguments, output)
        except ValueError as error:
            # A process that reads images puts its traceback before the message.
            raise SystemExit(str(error).rsplit("\nValueError: ")[-1].strip()) from error


if __name__ == "__main__":
    main()
