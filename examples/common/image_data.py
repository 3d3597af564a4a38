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
"""Loads the splits `train` and `validation` from the options of a script, checks them, and says what was found."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import broadcast_object_list
from datasets import Dataset, IterableDataset
from torch.utils.data import DataLoader
from tqdm import tqdm

from common.image_loading import AugmentedImages, AugmentedStream, ImageTransform
from common.image_reading import decoding_error, has_wide_values, image_name, open_image
from common.image_sources import (
    TRAIN,
    VALIDATION,
    Split,
    features,
    from_file,
    from_folder,
    from_hub,
    left_out_line,
    number_or_name,
    with_labels,
)


# Each process that reads a stream keeps this many images, and draws the next one from them.
SHUFFLE_BUFFER = 1000

# A folder that is read as a stream is divided into this many parts, for processes and their workers.
STREAM_PARTS = 64

# The headers of at most this many images per split are looked at before the training: it takes a few seconds.
LOOKED_AT = 10_000

DEFAULT_HELD_OUT = 0.15


# Splits by name. A function loads each, because only those that are used must be right.
Sources = dict[str, Callable[[], Split]]


@dataclass
class DataArguments:
    _argument_group_name = "data: one of --dataset_name, --train_dir and --train_file"

    dataset_name: str | None = field(
        default=None, metadata={"help": "Name of a data set on the Hub, or a folder that `datasets` has saved."}
    )
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set, if it has several."}
    )
    train_dir: str | None = field(
        default=None,
        metadata={
            "help": "Folder with a folder of images per class; or with the folders train and validation of such folders."
        },
    )
    validation_dir: str | None = field(default=None, metadata={"help": "Such a folder with the evaluation images."})
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "CSV or JSON lines with a column of paths and one of classes, or images in parquet or WebDataset (.tar) shards."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Such a file with the evaluation images."})
    train_split: str | None = field(
        default=None, metadata={"help": "Name of the split to train on. By default train."}
    )
    validation_split: str | None = field(
        default=None, metadata={"help": "Name of the split to evaluate on. By default validation, val, valid or test."}
    )
    train_val_split: float | None = field(
        default=None,
        metadata={
            "help": f"Part of each class's training images to evaluate on if there is no split for it: {DEFAULT_HELD_OUT}."
        },
    )
    image_column_name: str | None = field(
        default=None, metadata={"help": "Column of images. By default the only one that is recognized."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Column of classes. By default the only one that is recognized."}
    )
    label_map: str | None = field(
        default=None,
        metadata={
            "help": 'JSON file with other names for classes of the data, such as {"zero": "0"}. Classes with one name become one class.'
        },
    )
    max_train_samples: int | None = field(default=None, metadata={"help": "Train on this many images only."})
    max_eval_samples: int | None = field(default=None, metadata={"help": "Evaluate on this many images only."})
    streaming: bool = field(
        default=False, metadata={"help": "Read the images while training, instead of loading all of them first."}
    )
    num_classes: int | None = field(
        default=None,
        metadata={"help": "Number of classes, needed for a stream whose labels are plain numbers from 0."},
    )
    skip_bad_images: bool = field(
        default=False, metadata={"help": "Leave out images that cannot be read, and list them in bad_images.jsonl."}
    )
    image_range: list[float] | None = field(
        default=None,
        metadata={
            "help": "Darkest and brightest value of images with more than 8 bits per channel, such as 0 65535. By default, all values above "
            "255 become white, as in pipelines."
        },
    )

    @property
    def source(self) -> str:
        """The name of the data in a model card: their name on the Hub, or the kind of file they come from."""
        if self.dataset_name:
            return self.dataset_name
        file = self.train_file or self.validation_file
        return Path(file).suffix[1:] if file else "imagefolder"


@dataclass
class ImageData:
    """
    Args:
        splits: `train` and `validation`, or `validation` alone.
        classes: The names of the classes. None for a stream that is only evaluated and does not know them: the model names them.
        numbers: The number of each class.
        fingerprint: The same for the same training images with the same labels.
    """

    splits: dict[str, Dataset | IterableDataset]
    classes: list[str] | None
    multi_label: bool
    fingerprint: str
    image_range: list[float] | None = None

    def __post_init__(self):
        self.numbers = {name: number for number, name in enumerate(self.classes or [])}

    def labels(self, split: str) -> list:
        """The label of each image: the name of its class, or a list of names."""
        return self.splits[split]["label"][:]


def listed(names: Iterable, most: int = 20) -> str:
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" ... ({len(names)} in all)" if len(names) > most else "")


def occurring(labels: list) -> Counter:
    """How many images each class has."""
    return Counter(name for label in labels for name in (set(label) if isinstance(label, list) else (label,)))


# --- where the images come from ---


def check_arguments(arguments: DataArguments):
    """Ends the program with a message if options contradict each other."""
    train = {
        "--dataset_name": arguments.dataset_name, "--train_dir": arguments.train_dir, "--train_file": arguments.train_file
    }  # fmt: skip
    validation = {"--validation_dir": arguments.validation_dir, "--validation_file": arguments.validation_file}
    for sources in (train, validation):
        given = [name for name, value in sources.items() if value]
        if len(given) > 1:
            raise SystemExit(f"Give one of {', '.join(sources)} as the source of images; got {' and '.join(given)}.")
    if not any((train | validation).values()):
        raise SystemExit(f"Give one of {', '.join(train)} as the source of images; got none.")
    together = {
        "--dataset_config_name": (arguments.dataset_config_name, "--dataset_name", arguments.dataset_name),
        "--num_classes": (arguments.num_classes, "--streaming", arguments.streaming),
    }
    for option, (value, other, needed) in together.items():
        if value and not needed:
            raise SystemExit(f"{option} has no meaning without {other}: leave it out, or give {other}.")
    if any(validation.values()):
        for option in ("validation_split", "train_val_split"):
            if getattr(arguments, option) is not None:
                given = next(name for name, value in validation.items() if value)
                raise SystemExit(
                    f"--{option} and {given} exclude each other: both choose the evaluation images. Give one."
                )
    if arguments.validation_split is not None and arguments.train_val_split is not None:
        raise SystemExit(
            "--validation_split and --train_val_split exclude each other: both choose the evaluation images. Give one."
        )
    if arguments.train_val_split is not None and not 0 < arguments.train_val_split < 1:
        raise SystemExit(f"--train_val_split must be between 0 and 1, got {arguments.train_val_split}.")
    for option in ("max_train_samples", "max_eval_samples"):
        if getattr(arguments, option) is not None and getattr(arguments, option) < 1:
            raise SystemExit(f"--{option} must be at least 1, got {getattr(arguments, option)}.")
    if arguments.image_range is not None and not (
        len(arguments.image_range) == 2 and arguments.image_range[0] < arguments.image_range[1]
    ):
        raise SystemExit(
            f"--image_range must be the darkest and the brightest value, got {' '.join(map(str, arguments.image_range))}."
        )


def existing_folder(name: str, option: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise SystemExit(f"{option} {folder} is not a folder. Expected {folder}/CLASS/IMAGE.jpg.")
    return folder


def load_source(arguments: DataArguments, split: str, other: str, columns: dict, excluded: dict[Path, str]) -> Sources:
    """The splits of the folder or file for `split`; {} for none. The folder for the other split, which may lie inside, is left out."""
    folder, file, inside = (getattr(arguments, name) for name in (f"{split}_dir", f"{split}_file", f"{other}_dir"))
    if folder:
        if inside:
            excluded = {**excluded, Path(inside).resolve(): f"in --{other}_dir"}
        return from_folder(existing_folder(folder, f"--{split}_dir"), columns, excluded)
    if file:
        return {"": partial(from_file, file, columns, arguments.streaming, f"--{split}_file")}
    return {}


def load_sources(arguments: DataArguments, output: Path, download: dict) -> tuple[Sources, Sources]:
    """The splits of the source of training images, and those of the source of evaluation images; {} for none."""
    columns = {"image": arguments.image_column_name, "label": arguments.label_column_name}
    excluded = {output.resolve(): "in --output_dir"}
    if arguments.dataset_name:
        name, config = arguments.dataset_name, arguments.dataset_config_name
        train = from_hub(name, config, columns, arguments.streaming, excluded, **download)
    else:
        train = load_source(arguments, "train", "validation", columns, excluded)
    return train, load_source(arguments, "validation", "train", columns, excluded)


def chosen(splits: Sources, name: str | None, defaults: tuple[str, ...], option: str) -> Split | None:
    """The split with this name; the first of the defaults that exists; the only split, if it has no name."""
    if name is not None and name not in splits:
        existing = listed(split for split in splits if split) or "none, because the source is not divided into splits"
        raise SystemExit(f"{option} {name} does not exist; choose one of {existing}.")
    return next((splits[split]() for split in (name, *(() if name else defaults)) if split in splits), None)


def choose_splits(train: Sources, validation: Sources, arguments: DataArguments, training: bool) -> dict[str, Split]:
    """The splits `train` and `validation`. One of them alone if the other is not needed, or must be held out from it."""
    splits = {"train": None}
    if validation:
        splits["validation"] = chosen(validation, None, ("", *VALIDATION, *TRAIN), "--validation_split")
    else:
        splits["validation"] = chosen(train, arguments.validation_split, VALIDATION, "--validation_split")
    if splits["validation"] is not None and arguments.train_val_split is not None:
        raise SystemExit(
            "--train_val_split divides the training images, but there is a split to evaluate on already: leave it out."
        )
    if training or splits["validation"] is None:
        if not train:
            raise SystemExit("Training needs images: give one of --dataset_name, --train_dir and --train_file.")
        splits["train"] = chosen(train, arguments.train_split, (*TRAIN, ""), "--train_split")
        if splits["train"] is None:
            raise SystemExit(f"There is no split `train`: choose one of {listed(train)} with --train_split.")
    return {name: split for name, split in splits.items() if split is not None}


def hold_out(split: Split, part: float, seed: int) -> tuple[Split, Split]:
    """
    Divides a split so that each class with at least two images is on both sides. An image with several labels counts for the rarest of
    them.
    """
    if split.is_stream:
        raise SystemExit(
            "A stream cannot be divided, and it has no split to evaluate on: give --validation_dir, --validation_file or "
            "--validation_split."
        )
    labels, counts = split.labels, occurring(split.labels)
    groups = defaultdict(list)
    for number, label in enumerate(labels):
        names = label if isinstance(label, list) else [label]
        groups[min(names, key=lambda name: (counts[name], name), default="")].append(number)
    random, held_out = np.random.default_rng(seed), []
    for name in sorted(groups):
        most = len(groups[name]) - 1
        held_out += random.permutation(groups[name])[: min(max(round(part * len(groups[name])), 1), most)].tolist()
    if not held_out:
        raise SystemExit(
            f"The {len(labels)} training images cannot be divided, because no class has two of them. Add images, or give --validation_dir, "
            "--validation_file or --validation_split."
        )
    kept = sorted(set(range(len(labels))) - set(held_out))
    # What was left out is said once, beside the training images.
    return select(split, kept), replace(select(split, sorted(held_out)), left_out=Counter())


def select(split: Split, numbers: list[int]) -> Split:
    places = split.places and [split.places[number] for number in numbers]
    return replace(split, images=split.images.select(numbers), places=places)


# --- classes ---


class RenamedLabels:
    """Gives the labels of a sample other names."""

    def __init__(self, names: dict[str, str]):
        self.names = names

    def new_label(self, label):
        if isinstance(label, list):
            return list(dict.fromkeys(self.names.get(name, name) for name in label))
        return self.names.get(label, label)

    def __call__(self, sample: dict) -> dict:
        return {"label": self.new_label(sample["label"])}


def read_label_map(file: str) -> dict[str, str]:
    try:
        names = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SystemExit(f"--label_map {file} cannot be read: {error}.") from error
    if not isinstance(names, dict) or not all(isinstance(name, (str, int)) for name in names.values()):
        raise SystemExit(f'--label_map {file} must have the form {{"name in the data": "other name"}}.')
    return {name: str(other) for name, other in names.items()}


def rename_classes(splits: dict[str, Split], names: dict[str, str]) -> dict[str, Split]:
    """The splits with other names for some of their classes."""
    rename, renamed = RenamedLabels(names), {}
    for name, split in splits.items():
        if split.is_stream:
            images = split.images.map(rename, features=features(split.multi_label))
        else:
            images = with_labels(split.images, [rename.new_label(label) for label in split.labels], split.multi_label)
        renamed[name] = replace(split, images=images, classes=split.classes and rename.new_label(split.classes))
    known = {name for split in splits.values() for name in split.classes or ()}
    known.update(*(occurring(split.labels) for split in splits.values() if not split.is_stream))
    is_known = all(split.classes is not None or not split.is_stream for split in splits.values())
    if is_known and names.keys() - known:
        raise SystemExit(
            f"--label_map has names that the data do not have: {listed(sorted(names.keys() - known))}. The classes of the data are "
            f"{listed(sorted(known, key=number_or_name))}."
        )
    return renamed


def check_classes(splits: dict[str, Split], arguments: DataArguments) -> list[str] | None:
    """Checks that the labels of the splits fit together, and returns the names of the classes in their order."""
    if len({split.multi_label for split in splits.values()}) > 1:
        raise SystemExit(
            "The images of one split have lists of labels, those of the other have one label. Expected the same in both."
        )
    first = splits.get("train", splits["validation"])
    counts = {name: occurring(split.labels) for name, split in splits.items() if not split.is_stream}
    if "train" in counts:
        added = sorted(counts.get("validation", {}).keys() - counts["train"].keys(), key=number_or_name)
        if added:
            raise SystemExit(
                f"Validation images have the label {listed(added)}, but no training image has it; training images have "
                f"{listed(sorted(counts['train'], key=number_or_name))}. Add such training images, remove these validation images, or give "
                "classes with two names one name with --label_map."
            )
        if len(counts["train"]) < 2 and not first.multi_label:
            raise SystemExit(
                f"All training images have the class {listed(counts['train'])}, expected at least two classes to tell apart."
            )
    if "train" not in splits and "validation" in counts:
        order = {name: number for number, name in enumerate(first.classes or ())}
        return sorted(counts["validation"], key=lambda name: (order.get(name, 0), number_or_name(name)))
    if first.classes is not None:
        return first.classes
    if arguments.num_classes is not None:
        return [str(number) for number in range(arguments.num_classes)]
    if "train" in counts:
        return sorted(counts["train"], key=number_or_name)
    if "train" in splits:
        raise SystemExit(
            "The classes of this stream are not known before it is read: give --num_classes, use a data set with ClassLabel, or leave out "
            "--streaming."
        )
    return None


def match_classes(data: ImageData, id2label: dict[int, str], training: bool) -> bool:
    """
    Numbers the classes of the data as the model does, by name, or by its numbers where the labels are whole numbers that are no names.

    Returns:
        Whether the model has these classes. A model that is only evaluated must have them; one that is trained must have no others.
    """
    names = [str(id2label[number]) for number in range(len(id2label))]
    ids = [str(number) for number in range(len(names))]
    classes = names if data.classes is None else data.classes
    for keys in (names, ids):
        numbers = {key: number for number, key in enumerate(keys)}
        if len(numbers) == len(keys) and (set(classes) == set(keys) if training else set(classes) <= set(keys)):
            data.classes, data.numbers = names, numbers
            if keys is ids and names != ids:
                PartialState().print(
                    f"The labels {listed(classes, 5)} are taken for the numbers of the model's classes."
                )
            if classes is names:  # a stream: its labels are not known yet
                data.numbers = {**dict(zip(ids, range(len(ids)))), **numbers} if not set(ids) & set(names) else numbers
            return True
    if not training:
        raise SystemExit(
            f"The model does not have all classes of the data.\n  without a match: {listed(sorted(set(classes) - set(names), key=number_or_name))}"
            f"\n  classes of the data: {listed(classes)}\n  classes of the model: {listed(names)}\n"
            'Name them as the model does with --label_map FILE, a JSON file such as {"name in the data": "name of the model"}, or train the '
            "model on these data first."
        )
    return False


# --- images that cannot be read ---


class Problems(torch.utils.data.Dataset):
    """Reads images, and gives a pair for each: its name and the reason why it cannot be read, or None."""

    def __init__(self, images: Dataset):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, number: int) -> tuple[str, str | None]:
        image = self.images[number]["image"]
        return image_name(image), decoding_error(image)


class _IsReadable:
    """Tells whether an image of a stream can be decoded. Other images are appended to a file that all processes share."""

    def __init__(self, report: Path):
        self.report = report

    def __call__(self, sample: dict) -> bool:
        problem = decoding_error(sample["image"])
        if problem is not None:
            _append(self.report, [(image_name(sample["image"]), problem)])
        return problem is None


def _append(report: Path, bad_images: list[tuple[str, str]]):
    with report.open("a") as file:
        file.writelines(json.dumps({"image": name, "problem": problem}) + "\n" for name, problem in bad_images)


def leave_out_bad_images(splits: dict[str, Split], output: Path, num_workers: int):
    """
    Removes images that cannot be decoded, and lists them in `bad_images.jsonl`, one line of `{"image": name, "problem": reason}` each.
    The main process looks at the images at each start, because files change; the others take its word.
    """
    state = PartialState()
    report = output / "bad_images.jsonl"
    if state.is_main_process:
        output.mkdir(parents=True, exist_ok=True)
        report.write_text("")
    for name, split in splits.items():
        if split.is_stream:
            state.wait_for_everyone()  # for the empty report
            split.images = split.images.filter(_IsReadable(report))
            continue
        found = [None]
        if state.is_main_process:
            loader = DataLoader(Problems(split.images), batch_size=None, num_workers=num_workers)
            problems = list(tqdm(loader, desc=f"reading all {name} images"))
            _append(report, [(place, problem) for place, problem in problems if problem is not None])
            found = [[number for number, (_, problem) in enumerate(problems) if problem is None]]
        broadcast_object_list(found)
        (readable,) = found
        if not readable:
            raise SystemExit(f"No image of the {name} split can be read: {report} has the reasons.")
        bad = Counter({f"cannot be read: see {report}": len(split.images) - len(readable)})
        splits[name] = replace(select(split, readable), left_out=split.left_out + bad)


def print_bad_images(output: Path):
    """Prints how many images were left out. Each counts once, although a stream may have read it several times."""
    report = output / "bad_images.jsonl"
    print(f"{len(set(report.open()))} images could not be read and were left out; {report} names them.")


def wide_images(images: Dataset) -> list[str]:
    """The names of images with more than 8 bits per channel, among at most `LOOKED_AT`. Only their headers are read."""
    found = []
    for number in np.unique(np.linspace(0, len(images) - 1, min(len(images), LOOKED_AT)).astype(int)):
        image = images[int(number)]["image"] or {}
        if str(image.get("path")).lower().endswith((".jpg", ".jpeg")):  # has 8 bits
            continue
        try:
            with open_image(image) as opened:
                if has_wide_values(opened):
                    found.append(image_name(image))
        except Exception:  # a bad image is reported when it is read
            continue
    return found


# --- all of it ---


def description(splits: dict[str, Split], arguments: DataArguments) -> str:
    """What was found: for each split the number of images, of classes, and of images per class, and what was left out."""
    lines = []
    for name, split in splits.items():
        if split.is_stream:
            lines.append(f"{name}: a stream")
            continue
        counts = occurring(split.labels)
        order = sorted(counts, key=number_or_name)
        if len(counts) > 20:
            order = sorted(order, key=counts.get)
            order = [*order[:3], "...", order[-1]]
        each = ", ".join(f"{label} {counts[label]}" if label in counts else label for label in order)
        lines.append(f"{name}: {len(split.images)} images of {len(counts)} classes: {each}")
        if split.left_out:
            lines.append(f"  left out: {left_out_line(split.left_out)}")
        wide = [] if arguments.image_range else wide_images(split.images)
        if wide:
            lines.append(
                f"  {len(wide)} of {min(len(split.images), LOOKED_AT)} images have more than 8 bits per channel: {listed(wide, 3)}. Their values "
                "above 255 become white, as in pipelines. Convert them to 8 bits, or give --image_range DARKEST BRIGHTEST (0 65535)."
            )
    return "\n".join(lines)


def fingerprint(split: Split, source: str) -> str:
    """The same for the same labels in the same order, and the same names of files; of a stream, for the same source."""
    known = [source, split.classes] if split.is_stream else [split.places, split.labels]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def load_images(
    arguments: DataArguments, seed: int, output: Path, training: bool = True, num_workers: int = 0, **download
) -> ImageData:
    """
    Loads the images that the arguments name. Mistakes in the arguments, missing splits, columns or labels, and empty splits end the
    program with a message. All processes call this.

    Args:
        output: The folder of the run, for `bad_images.jsonl`. Its images are not taken for data.
        training: Whether the split `train` is needed.
        num_workers: How many processes look for bad images.
        download: `cache_dir` and `token` for the Hub.
    """
    check_arguments(arguments)
    state = PartialState()
    with state.local_main_process_first():
        train, validation = load_sources(arguments, output, download)
        splits = choose_splits(train, validation, arguments, training)
    if arguments.label_map is not None:
        splits = rename_classes(splits, read_label_map(arguments.label_map))
    if "validation" not in splits:
        held_out = arguments.train_val_split or DEFAULT_HELD_OUT
        splits["train"], splits["validation"] = hold_out(splits["train"], held_out, seed)
    if not training:
        if "train" in splits:
            state.print(
                f"These images are not divided into training and evaluation images: {len(splits['validation'].images)} of "
                f"{len(splits['train'].images) + len(splits['validation'].images)} are evaluated, those that a training run holds out with the "
                f"same --train_val_split ({held_out}) and --seed ({seed}). To evaluate all of them, name them with --validation_dir, "
                "--validation_file or --validation_split."
            )
        splits = {"validation": splits["validation"]}
    classes = check_classes(splits, arguments)
    for name, most in (("train", arguments.max_train_samples), ("validation", arguments.max_eval_samples)):
        if name not in splits or most is None:
            continue
        # Shuffled first, because files are usually sorted by their class.
        if splits[name].is_stream:
            splits[name].images = splits[name].images.shuffle(seed=seed).take(most)
        else:
            order = np.random.default_rng(seed).permutation(len(splits[name].images))
            splits[name] = select(splits[name], order[:most].tolist())
    if arguments.skip_bad_images:
        leave_out_bad_images(splits, output, num_workers)
    if state.is_main_process:
        print(description(splits, arguments), flush=True)
    images = {name: split.images for name, split in splits.items()}
    if arguments.streaming:
        for name, table in images.items():
            if isinstance(table, Dataset):
                images[name] = table.to_iterable_dataset(num_shards=min(len(table), STREAM_PARTS))
        if training:
            images["train"] = images["train"].shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
    split = splits["train" if training else "validation"]
    source = [arguments.dataset_name, arguments.dataset_config_name, arguments.train_file, arguments.train_split]
    return ImageData(images, classes, split.multi_label, fingerprint(split, str(source)), arguments.image_range)


def with_transform(data: ImageData, split: str, transform, seed: int = 0):
    """
    Returns a split with samples for the model; its `set_epoch` changes the augmentation. A stream for training is endless.

    Args:
        transform: Takes a PIL image and returns a tensor of shape (3, height, width).
    """
    images = data.splits[split]
    transform = ImageTransform(transform, data.numbers, data.multi_label, len(data.classes), data.image_range)
    if isinstance(images, IterableDataset):
        return AugmentedStream(images, transform, seed, endless=split == "train")
    return AugmentedImages(images, transform, seed)
