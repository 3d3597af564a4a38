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

    python examples/evaluate_model.py --models outputs/quickstart/model --validation_dir outputs/quickstart/digits/test
    python examples/evaluate_model.py --models first_model second_model --validation_file test.csv
    accelerate launch examples/evaluate_model.py ...       on several GPUs, with the same numbers

The first command takes 12 seconds on two CPU cores, and at least 0.97 of the images are right. The data are named as for the training
scripts: a folder, a CSV, JSON lines or parquet file, or a data set of the Hub. Labels and the models' classes are matched by name, and
`--label_map` translates names. The folder `--output_dir` receives

    evaluation.json      all numbers
    evaluation.png       a picture of them
    classes_N.csv        precision, recall and F1 of each class, for model N
    predictions_N.csv    for each image its class, the predicted class, how sure the model was, and the rank that it gave to the right class

Macro F1 is the mean over the classes that are the label or the prediction of any image, as in scikit-learn. Its interval is right from about
20 images per class. The calibration error is how far the model's confidence in its answer is from how often it is right.
"""

import copy
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.errors import EntryNotFoundError
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.command_line import parse_arguments
from common.evaluation_figures import BINS, bins_of, class_table, compare, measure
from common.file_writing import replace_file
from common.image_data import DataArguments, ImageData, load_images, print_bad_images, with_transform
from common.image_loading import ImageTransform
from common.image_model import EvaluationTransform, LoadArguments, load_model
from common.image_reading import image_name, read_image
from common.training_report import MAX_NAMES, draw
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.saving_crossvit import complete_model_card


RESULTS, PICTURE = "evaluation.json", "evaluation.png"
# The longest path of a file on Linux.
NAME_BYTES = 4096


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
class Contestant:
    """A model with its image processor. `data` has its own numbers of the classes."""

    name: str
    data: ImageData
    model: CrossViTForImageClassification
    image_processor: CrossViTImageProcessor

    @property
    def classes(self) -> list[str]:
        """The names of the classes. Those that several classes have get the number of the class: in ImageNet, a crane is a bird or lifts."""
        counts = Counter(self.data.classes)
        return [name if counts[name] == 1 else f"{name} ({n})" for n, name in enumerate(self.data.classes)]


# --- from images to answers ---


class Samples:
    """Turns an encoded image into the inputs of all models. It is read once, and each model prepares it in its own way."""

    def __init__(self, contestants: list[Contestant]):
        self.parts = [
            ImageTransform(EvaluationTransform(one.image_processor), one.data.numbers, False, len(one.data.classes))
            for one in contestants
        ]
        self.image_range = contestants[0].data.image_range

    def __call__(self, sample: dict) -> dict:
        image = read_image(sample["image"], self.image_range)
        # Text cannot be gathered from other processes like a tensor, but its bytes can.
        name = image_name(sample["image"]).encode()[:NAME_BYTES].ljust(NAME_BYTES, b"\0")
        return {
            "pixel_values": [part.transform(image) for part in self.parts],
            "labels": [part.number(sample["label"], sample["image"]) for part in self.parts],
            "name": torch.frombuffer(bytearray(name), dtype=torch.uint8),
        }


def load_contestants(arguments: Arguments, images: ImageData) -> list[Contestant]:
    """Loads all models before the work starts, because one of them may not fit the data."""
    contestants = []
    for name in arguments.models:
        data = copy.copy(images)
        try:
            load = LoadArguments(model_name_or_path=name, token=arguments.token)
            contestants.append(Contestant(name, data, *load_model(load, data, training=False)))
        except SystemExit as error:
            raise SystemExit(f"{name}: {error}") from None
    return contestants


def answers(scores: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
    """
    What a model says of some images.

    Args:
        scores: The logits, (images, classes).
        labels: The number of the right class, (images,).
    """
    own = scores.gather(1, labels[:, None])
    # Of equal scores, the class with the larger number comes first, as in scikit-learn's top_k_accuracy_score.
    before = (scores > own) | ((scores == own) & (torch.arange(scores.shape[1]) > labels[:, None]))
    return {
        "label": labels,
        "predicted": scores.argmax(dim=1),
        "confidence": scores.double().softmax(dim=1).amax(dim=1),
        "rank": before.sum(dim=1) + 1,
    }


@torch.no_grad()
def predict(accelerator: Accelerator, contestants: list[Contestant], loader: DataLoader) -> list[pd.DataFrame]:
    """A row for each image, for each model. `attrs` has how many images per second the model took, without the time to read them."""
    models = [accelerator.prepare_model(one.model.eval(), evaluation_mode=True) for one in contestants]
    names, parts, rates = [], [[] for _ in models], [[] for _ in models]
    loader = accelerator.prepare(loader)
    for batch in tqdm(loader, desc="evaluating (batches)", disable=not accelerator.is_main_process):
        # accelerate fills up the last batch with earlier images, so that all processes have equally many. This drops them again.
        gathered = accelerator.gather_for_metrics(batch["name"]).cpu().numpy()
        names += [row.tobytes().rstrip(b"\0").decode(errors="replace") for row in gathered]
        for number, model in enumerate(models):
            start = time.perf_counter()
            scores = accelerator.gather_for_metrics(model(batch["pixel_values"][number]).logits.float()).cpu()
            rates[number].append(len(scores) / (time.perf_counter() - start))
            wrong = [name for name, row in zip(names[-len(scores) :], scores) if not row.isfinite().all()]
            if wrong:
                raise SystemExit(
                    f"{contestants[number].name} gives scores that are no finite numbers, for {wrong[0]} as the first image. Either its weights "
                    "are broken, or fp16 is too narrow for it: leave out --mixed_precision."
                )
            labels = accelerator.gather_for_metrics(batch["labels"][number]).cpu()
            parts[number].append(pd.DataFrame({key: value.numpy() for key, value in answers(scores, labels).items()}))
    tables = []
    for one, part, rate in zip(contestants, parts, rates):
        table = pd.concat(part, ignore_index=True)
        table.insert(0, "image", names)
        for column in ("label", "predicted"):
            table[column] = np.array(one.classes, dtype=object)[table[column]]
        table.attrs["images_per_second"] = float(np.median(rate))  # the first batches are slower than the others
        tables.append(table)
    return tables


# --- what is shown ---


def in_percent(figure: dict[str, float]) -> str:
    return "{value:.1%} ({low:.1%} to {high:.1%})".format(**figure)


def shortened(name: str, most: int) -> str:
    """One line of at most so many letters. What is too long loses its middle, because names differ at their ends."""
    line = " ".join(name.split())
    return line if len(line) <= most else f"{line[: most // 2]}\u2026{line[1 - (most + 1) // 2 :]}"


def print_tables(results: dict, classes: list[pd.DataFrame]):
    """The figures of all models, the classes that each finds hardest, and the differences."""
    print(f"\n{results['images']} images of {results['classes']} classes; 95 % intervals in brackets\n")
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
    """The figures with their intervals, the reliability of the confidence, and the F1 of the classes."""
    models = results["models"]
    width = 0.8 / len(models)  # of bars that stand side by side
    f1 = pd.concat([table["f1"] for table in classes], axis=1, keys=range(len(models)))
    f1 = f1.loc[f1.mean(axis=1).sort_values(kind="stable").index[:MAX_NAMES]][::-1]  # the hardest at the top
    figure = plt.figure(figsize=(18, max(6, 0.12 * len(f1) * (len(models) + 1))), layout="constrained")
    parts = figure.subfigures(1, 3)
    left, right = parts[0].subplots(), parts[2].subplots()
    middle, below = parts[1].subplots(2, height_ratios=[3, 1], sharex=True)
    order = [name for name in ("accuracy", "macro_f1", "top_5_accuracy") if any(name in model["figures"] for model in models)]  # fmt: skip
    for number, (model, table) in enumerate(zip(models, tables)):
        look = {"color": f"C{number}", "alpha": 0.7}
        shift = width * (number + 0.5) - 0.4
        figures = pd.DataFrame(model["figures"]).T.reindex(order)
        errors = [figures["value"] - figures["low"], figures["high"] - figures["value"]]
        bars = left.bar(np.arange(len(order)) + shift, figures["value"], 0.95 * width, yerr=errors, capsize=4, **look)
        left.bar_label(bars, [f"{value:.1%}" for value in figures["value"]], label_type="center", fontsize=9)
        left.plot([], [], "s", label=shortened(model["name"], 50), **look)
        table = table.assign(right=table["label"] == table["predicted"])
        bins = table.groupby(bins_of(table["confidence"].to_numpy()))
        sure, right_often, images = bins["confidence"].mean(), bins["right"].mean(), bins.size()
        middle.plot(
            sure,
            right_often,
            linewidth=1,
            label=f"calibration error {in_percent(model['figures']['calibration_error'])}",
            **look,
        )
        middle.scatter(sure, right_often, 8 + 200 * images / len(table), clip_on=False, zorder=3, **look)
        places = (images.index + 0.1 + 0.8 * number / len(models)) / BINS
        below.bar(places, images, width / BINS, align="edge", **look)
        bars = right.barh(np.arange(len(f1)) - shift, f1[number], 0.95 * width, **look)
        if len(models) <= 2:
            right.bar_label(bars, fmt="%.3f", padding=2, fontsize=7)
    left.set_xticks(range(len(order)), [name.replace("_", " ") for name in order])
    left.set(ylim=(0, 1.02), title=f"{results['images']} images of {shortened(results['data'], 30)}, 95 % intervals")
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
    replace_file(path, lambda temporary: figure.savefig(temporary, dpi=110))


# --- files ---


def result_files(output: Path, models: int) -> list[tuple[Path, Path]]:
    return [
        (output / f"predictions_{number}.csv", output / f"classes_{number}.csv") for number in range(1, models + 1)
    ]


def earlier_models(output: Path) -> int:
    """The number of models of the evaluation that the folder has already. What else has its name ends the program with a message."""
    file = output / RESULTS
    try:
        return len(json.loads(file.read_text())["models"]) if file.exists() else 0
    except (ValueError, KeyError, TypeError):
        raise SystemExit(
            f"{file} is no result of this script, which would replace it: give another --output_dir."
        ) from None


def save(results: dict, tables: list[pd.DataFrame], classes: list[pd.DataFrame], output: Path, earlier: int):
    """Replaces the files of an earlier evaluation. Files of models that it had in addition are removed."""
    files = result_files(output, len(tables))
    for path in (file for pair in result_files(output, earlier)[len(tables) :] for file in pair):
        path.unlink(missing_ok=True)
    (output / PICTURE).unlink(missing_ok=True)  # an earlier one must not stay if this one cannot be drawn
    for table, by_class, (predictions_file, classes_file) in zip(tables, classes, files):
        replace_file(predictions_file, lambda temporary: table.to_csv(temporary, index=False))
        replace_file(classes_file, by_class.to_csv)
    replace_file(output / RESULTS, lambda temporary: temporary.write_text(json.dumps(results, indent=2)))
    draw(draw_evaluation, results, tables, classes, output / PICTURE)


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


def update_card(contestant: Contestant, figures: dict, where: dict[str, str | None], token: str | None):
    """Puts the figures into the card of a model, in the place of earlier ones on the same data. All else in it stays."""
    name = contestant.name
    card = load_card(name, token) or complete_model_card(None, contestant.model, name)
    entries = {(*entry.unique_identifier, entry.metric_type): entry for entry in card.data.eval_results or []}
    for metric, figure in figures.items():
        entry = EvalResult("image-classification", **where, metric_type=metric, metric_value=figure["value"])
        entries[(*entry.unique_identifier, metric)] = entry
    card.data.eval_results = list(entries.values())
    card.data.model_name = card.data.model_name or Path(name).name
    if Path(name).is_dir():
        replace_file(Path(name) / "README.md", card.save)
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
    one = data_arguments
    path = one.validation_dir or one.validation_file or one.dataset_name or one.train_dir or one.train_file
    name = arguments.data_name or (
        path if path == one.dataset_name and not Path(path).exists() else Path(path).absolute().name
    )
    if path == one.dataset_name and not Path(path).exists():
        return {
            "dataset_type": path,
            "dataset_name": name,
            "dataset_config": one.dataset_config_name,
            "dataset_split": one.validation_split,
        }
    # Without a configuration, all folders would be the same data for a card.
    return {"dataset_type": replace(one, dataset_name=None).source, "dataset_name": name, "dataset_config": name}


def main():
    data_arguments, arguments = parse_arguments(DataArguments, Arguments, description=__doc__.split("\n\n")[0])
    check_arguments(arguments, data_arguments)
    output = Path(arguments.output_dir)
    earlier = earlier_models(output)
    accelerator = Accelerator(mixed_precision=arguments.mixed_precision)
    workers = arguments.dataloader_num_workers
    images = load_images(
        data_arguments, arguments.seed, output, training=False, num_workers=workers, token=arguments.token
    )
    if images.multi_label:
        raise SystemExit(
            "These images have several labels each, and the figures here are for one. Evaluate them with run_image_classification.py --do_eval."
        )
    if next(iter(images.splits["validation"]), None) is None:
        raise SystemExit("There is no image to evaluate: the source of the evaluation images is empty.")
    contestants = load_contestants(arguments, images)
    if accelerator.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        for name in arguments.models if arguments.update_card else ():
            load_card(name, arguments.token)

    dataset = with_transform(contestants[0].data, "validation", None)
    dataset.transform = Samples(contestants)
    tables = predict(
        accelerator, contestants, DataLoader(dataset, arguments.per_device_eval_batch_size, num_workers=workers)
    )
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
            {
                "name": one.name,
                "figures": measure(table, len(one.classes)),
                "images_per_second": table.attrs["images_per_second"],
            }
            for one, table in zip(contestants, tables)
        ],
        "differences": [
            {
                "first": arguments.models[first],
                "second": arguments.models[second],
                **compare(right[first], right[second]),
            }
            for first in range(len(right))
            for second in range(first)
        ],
        "options": {name: value for name, value in asdict(data_arguments).items() if value not in (None, False)},
    }
    save(results, tables, classes, output, earlier)
    print_tables(results, classes)
    if data_arguments.skip_bad_images:
        print_bad_images(output)
    for one, model in zip(contestants, results["models"]):
        if arguments.update_card:
            update_card(one, model["figures"], where, arguments.token)
    print(f"\nnumbers and picture: {output}")


if __name__ == "__main__":
    main()
