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
"""Loads the splits `train` and `validation` that the options name, checks them, says what was found, and gives their samples."""

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from datasets import Dataset, IterableDataset
from PIL.Image import Image

from crossvit.data.checks import description, leave_out_bad_images
from crossvit.data.classes import check_classes, listed, match_classes, read_label_map, rename_classes
from crossvit.data.copies import check_labels, number_images
from crossvit.data.reading import image_name
from crossvit.data.samples import AugmentedImages, AugmentedStream, ImageTransform
from crossvit.data.sources import TRAIN, VALIDATION, Sources, from_file, from_folder, from_hub
from crossvit.data.splits import Label, Split, hold_out


# Each process that reads a stream keeps this many images, and draws the next one from them.
SHUFFLE_BUFFER = 1000

# A folder that is read as a stream is divided into this many parts, for processes and their workers.
STREAM_PARTS = 64

DEFAULT_HELD_OUT = 0.15


@dataclass
class DataArguments:
    """The options of the training scripts that name images and choose among them, for `load_images`. `metadata` describes each."""

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
            "help": f"Part of each class's training images to hold out for the evaluation if there is no split for it. By default "
            f"{DEFAULT_HELD_OUT}; 0 trains on all images."
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
    Images with the names of their classes.

    Args:
        splits: `train` and `validation`, or one of them alone.
        classes: The names of the classes. None for a stream that is only evaluated and does not know them: the model names them.
        multi_label: Whether an image has a list of labels.
        fingerprint: The same for the same training images with the same labels.
        image_range: See `read_image`.
        label2id: The index of each label. By default the place of its class in `classes`.
        source: The options that gave the images, and the seed, for `warn_of_trained_images`. None for a stream.
        image_mode: What `crossvit.configuration.image_files.image_mode` says of the model: RGB, or L for grey.
    """

    splits: dict[str, Dataset | IterableDataset]
    classes: list[str] | None
    multi_label: bool
    fingerprint: str
    image_range: list[float] | None = None
    label2id: dict[str, int] = field(default_factory=dict)
    image_mode: str = "RGB"
    source: dict[str, Any] | None = None

    def __post_init__(self):
        self.label2id = self.label2id or {name: index for index, name in enumerate(self.classes or [])}

    @property
    def known_classes(self) -> list[str]:
        """The names of the classes. Raises a ValueError for a stream that does not know them."""
        if self.classes is None:
            raise ValueError(
                "This stream does not know its classes: take those of the model with "
                "`data.match_classes(model.config.id2label, training=False)`, or give --num_classes."
            )
        return self.classes

    def labels(self, split: str) -> list[Label]:
        """The label of each image of a split that is no stream: the name of its class, or a list of names."""
        return self.splits[split]["label"][:]

    def class_weights(self) -> torch.Tensor:
        """
        The weights of scikit-learn's `balanced` for the loss, (classes,): classes with few training images get large ones.

        Raises:
            ValueError: If images have several labels.
        """
        from sklearn.utils.class_weight import compute_class_weight

        if self.multi_label:
            raise ValueError("--class_weights needs one label per image, but these images have several: leave it out.")
        labels = [self.label2id[name] for name in self.splits["train"]["label"]]
        present = np.unique(labels)
        weights = torch.ones(len(self.known_classes))  # a class without images has no use for its weight
        weights[present] = torch.from_numpy(compute_class_weight("balanced", classes=present, y=labels)).float()
        return weights

    def match_classes(self, id2label: dict[int, str], training: bool = True) -> "ImageData | None":
        """
        The same images with the classes of a model, in its order. See `crossvit.data.classes.match_classes`.

        Returns:
            None if the model is trained and has other classes: it needs new heads, and these data stay as they are.
        """
        label2id = match_classes(self.classes, id2label, training)
        if label2id is None:
            return None
        return replace(self, classes=[str(id2label[index]) for index in range(len(id2label))], label2id=label2id)

    def with_transform(
        self, split: str, transform: Callable[[Image], torch.Tensor], seed: int = 0
    ) -> AugmentedImages | AugmentedStream:
        """
        A split with samples for the model, dictionaries of `pixel_values`, (channels, height, width), and `labels`, the index of the class or, for
        several labels per image, 0 and 1 for each class, (classes,). Its `set_epoch` changes the augmentation. A stream for training is
        endless.

        Args:
            transform: Takes a PIL image of `image_mode` and returns a tensor of shape (channels, height, width).
            seed: Of the random numbers of the transform.

        Raises:
            ValueError: If the classes are not known: see `known_classes`.
        """
        images = self.splits[split]
        samples = ImageTransform(
            transform, self.label2id, self.multi_label, len(self.known_classes), self.image_range, self.image_mode
        )
        if isinstance(images, IterableDataset):
            return AugmentedStream(images, samples, seed, endless=split == "train")
        return AugmentedImages(images, samples, seed)


# --- where the images come from ---


def check_arguments(arguments: DataArguments) -> None:
    """Raises a ValueError if options contradict each other."""
    train = {
        "--dataset_name": arguments.dataset_name, "--train_dir": arguments.train_dir, "--train_file": arguments.train_file
    }  # fmt: skip
    validation = {"--validation_dir": arguments.validation_dir, "--validation_file": arguments.validation_file}
    for sources in (train, validation):
        given = [name for name, value in sources.items() if value]
        if len(given) > 1:
            raise ValueError(f"Give one of {', '.join(sources)} as the source of images; got {' and '.join(given)}.")
    if not any((train | validation).values()):
        raise ValueError(f"Give one of {', '.join(train)} as the source of images; got none.")
    together = {
        "--dataset_config_name": (arguments.dataset_config_name, "--dataset_name", arguments.dataset_name),
        "--num_classes": (arguments.num_classes, "--streaming", arguments.streaming),
    }
    for option, (value, other, needed) in together.items():
        if value and not needed:
            raise ValueError(f"{option} has no meaning without {other}: leave it out, or give {other}.")
    if any(validation.values()):
        for option in ("validation_split", "train_val_split"):
            if getattr(arguments, option) is not None:
                source = next(name for name, value in validation.items() if value)
                raise ValueError(
                    f"--{option} and {source} exclude each other: both choose the evaluation images. Give one."
                )
    if arguments.validation_split is not None and arguments.train_val_split is not None:
        raise ValueError(
            "--validation_split and --train_val_split exclude each other: both choose the evaluation images. Give one."
        )
    if arguments.train_val_split is not None and not 0 <= arguments.train_val_split < 1:
        raise ValueError(f"--train_val_split must be at least 0 and less than 1, got {arguments.train_val_split}.")
    for option in ("max_train_samples", "max_eval_samples"):
        if getattr(arguments, option) is not None and getattr(arguments, option) < 1:
            raise ValueError(f"--{option} must be at least 1, got {getattr(arguments, option)}.")
    if arguments.image_range is not None and not (
        len(arguments.image_range) == 2 and arguments.image_range[0] < arguments.image_range[1]
    ):
        raise ValueError(
            f"--image_range must be the darkest and the brightest value, got {' '.join(map(str, arguments.image_range))}."
        )


def existing_folder(name: str, option: str) -> Path:
    folder = Path(name)
    if not folder.is_dir():
        raise ValueError(f"{option} {folder} is not a folder. Expected {folder}/CLASS/IMAGE.jpg.")
    return folder


def load_source(
    arguments: DataArguments, split: str, other: str, columns: dict[str, str | None], excluded: dict[Path, str]
) -> Sources:
    """The splits of the folder or file for `split`; {} for none. The folder for the other split, which may lie inside, is left out."""
    folder, file, inside = (getattr(arguments, name) for name in (f"{split}_dir", f"{split}_file", f"{other}_dir"))
    if folder:
        if inside:
            excluded = {**excluded, Path(inside).resolve(): f"in --{other}_dir"}
        return from_folder(existing_folder(folder, f"--{split}_dir"), columns, excluded)
    if file:
        return {"": partial(from_file, file, columns, arguments.streaming, f"--{split}_file")}
    return {}


def load_sources(
    arguments: DataArguments, output: Path | None, download: dict[str, str | None]
) -> tuple[Sources, Sources]:
    """The splits of the source of training images, and those of the source of evaluation images; {} for none."""
    columns = {"image": arguments.image_column_name, "label": arguments.label_column_name}
    excluded = {output.resolve(): "in --output_dir"} if output else {}
    # First, so that a misspelled folder shows before a data set is downloaded.
    validation = load_source(arguments, "validation", "train", columns, excluded)
    if arguments.dataset_name:
        name, config = arguments.dataset_name, arguments.dataset_config_name
        train = from_hub(name, config, columns, arguments.streaming, excluded, **download)
    else:
        train = load_source(arguments, "train", "validation", columns, excluded)
    return train, validation


def chosen(splits: Sources, name: str | None, defaults: tuple[str, ...], option: str) -> Split | None:
    """The split with this name; the first of the defaults that exists; the only split, if it has no name."""
    if name is not None and name not in splits:
        existing = listed(split for split in splits if split) or "none, because the source is not divided into splits"
        raise ValueError(f"{option} {name} does not exist; choose one of {existing}.")
    return next((splits[split]() for split in (name, *(() if name else defaults)) if split in splits), None)


def choose_splits(train: Sources, validation: Sources, arguments: DataArguments, training: bool) -> dict[str, Split]:
    """The splits `train` and `validation`. One of them alone if the other is not needed, or must be held out from it."""
    if validation:
        evaluated = chosen(validation, None, ("", *VALIDATION, *TRAIN), "--validation_split")
    else:
        evaluated = chosen(train, arguments.validation_split, VALIDATION, "--validation_split")
    if evaluated is not None and arguments.train_val_split is not None:
        raise ValueError(
            "--train_val_split divides the training images, but there is a split to evaluate on already: leave it out."
        )
    trained = None
    if training or evaluated is None:
        if not train:
            raise ValueError("Training needs images: give one of --dataset_name, --train_dir and --train_file.")
        trained = chosen(train, arguments.train_split, (*TRAIN, ""), "--train_split")
        if trained is None:
            raise ValueError(f"There is no split `train`: choose one of {listed(train)} with --train_split.")
    splits = {"train": trained, "validation": evaluated}
    return {name: split for name, split in splits.items() if split is not None}


def warn_of_copies(images: Dataset, numbers: list[int], trained: list[int], whose: str, state: PartialState) -> None:
    """Prints how many of the images to evaluate are among those to train on, and names some. The numbers are those of `number_images`."""
    copies = np.flatnonzero(np.isin(numbers, trained))
    if len(copies):
        names = listed(image_name(images[int(row)]["image"]) for row in copies[:5])
        state.print(
            f"Warning: {len(copies)} of the {len(images)} images to evaluate {'is' if len(copies) == 1 else 'are'} among {whose} too, so that the "
            f"result will be too good: {names}{' ...' if len(copies) > 5 else ''}. Remove them from one of the two."
        )


def warn_of_trained_images(images: Dataset, folder: str | Path, state: PartialState, token: str | None = None) -> None:
    """
    Prints how many of the images to evaluate the model of a folder was trained on, if `run.json` of its training run says what these were. They
    are looked for anew, by path and content. All processes call this.

    Args:
        images: The images to evaluate.
        folder: The folder of a run, or of one of its checkpoints.
        token: For the Hub.
    """
    file = next(
        (path for path in (Path(folder) / "run.json", Path(folder).parent / "run.json") if path.is_file()), None
    )
    if file is None or (source := json.loads(file.read_text()).get("source")) is None:
        return
    seed = source.pop("seed")
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what a training run says of its images
            trained = load_images(DataArguments(**source), seed, file.parent, token=token).splits["train"]
    except ValueError as error:
        state.print(f"Whether {folder} was trained on images to evaluate is not known: {error}")
        return
    evaluated_numbers, trained_numbers = number_images(images, trained)
    warn_of_copies(images, evaluated_numbers, trained_numbers, f"the training images of {folder}", state)


# --- all of it ---


def fingerprint(split: Split, source: str) -> str:
    """The same for the same labels in the same order, and the same names of files; of a stream, for the same source."""
    known = [source, split.classes] if split.is_stream else [split.places, split.labels]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def absolute_options(arguments: DataArguments) -> dict[str, Any]:
    """The options that choose the images, with absolute paths, to find the same images again from another folder."""
    options = {name: value for name, value in asdict(arguments).items() if value not in (None, False)}
    for name in ("train_dir", "validation_dir", "train_file", "validation_file", "label_map", "dataset_name"):
        # A name of the Hub is none of a folder here.
        if name in options and (name != "dataset_name" or Path(options[name]).exists()):
            options[name] = os.path.abspath(options[name])
    options.pop("skip_bad_images", None)
    return options


def load_images(
    arguments: DataArguments,
    seed: int = 0,
    output: Path | None = None,
    training: bool = True,
    num_workers: int = 0,
    **download: str | None,
) -> ImageData:
    """
    Loads the images that the arguments name, and prints what was found. All processes call this.

    Args:
        seed: Of the choice of images: the held-out ones, those of `max_train_samples`, and the order of a stream.
        output: The folder of the run, for `bad_images.jsonl`. Its images are not taken for data. By default the working directory has
            that file, and all images are data.
        training: Whether the split `train` is needed.
        num_workers: How many processes look for bad images.
        download: `cache_dir` and `token` for the Hub.

    Raises:
        ValueError: If arguments contradict each other, if splits, columns or labels are missing, or if a split is empty. There is no split
            `validation` with `train_val_split=0`, or where nothing is said about evaluation images and no class has two images.
    """
    check_arguments(arguments)
    state = PartialState()
    with state.local_main_process_first():
        train, validation = load_sources(arguments, output, download)
        splits = choose_splits(train, validation, arguments, training)
    if arguments.label_map is not None:
        splits = rename_classes(splits, read_label_map(arguments.label_map))
    if "validation" not in splits:
        held_out = DEFAULT_HELD_OUT if arguments.train_val_split is None else arguments.train_val_split
        if not held_out and not training:
            raise ValueError("--train_val_split 0 leaves no images to evaluate on: leave it out.")
        row_numbers = None
        if not splits["train"].is_stream:
            (row_numbers,) = number_images(splits["train"].images)
            if (repeated := check_labels(splits["train"], row_numbers)) and training and held_out:
                state.print(
                    f"{repeated} of {len(row_numbers)} images {'is' if repeated == 1 else 'are'} there before; all copies are on one side of the split."
                )
        try:
            if held_out:
                splits["train"], splits["validation"] = hold_out(splits["train"], held_out, seed, row_numbers)
        except ValueError as error:
            # One image per class is enough for a training. Who asks for evaluation images gets them or an error.
            if not training or splits["train"].is_stream or arguments.train_val_split is not None:
                raise
            state.print(f"{error} Now all of them are trained on, and none is evaluated.")
    elif training and not any(split.is_stream for split in splits.values()):
        numbers = dict(zip(splits, number_images(*(split.images for split in splits.values())), strict=True))
        for name, split in splits.items():
            check_labels(split, numbers[name])
        images = splits["validation"].images
        warn_of_copies(images, numbers["validation"], numbers["train"], "the training images", state)
    if not training:
        if "train" in splits:
            state.print(
                f"These images are not divided into training and evaluation images: {len(splits['validation'].images)} of "
                f"{len(splits['train'].images) + len(splits['validation'].images)} are evaluated, those that a training run holds out with the "
                f"same --train_val_split ({held_out}) and --seed ({seed}). To evaluate all of them, name them with --validation_dir, "
                "--validation_file or --validation_split."
            )
        splits = {"validation": splits["validation"]}
    classes = check_classes(splits, arguments.num_classes)
    for name, most in (("train", arguments.max_train_samples), ("validation", arguments.max_eval_samples)):
        if name not in splits or most is None:
            continue
        # Shuffled first, because files are usually sorted by their class.
        if splits[name].is_stream:
            splits[name] = replace(splits[name], images=splits[name].images.shuffle(seed=seed).take(most))
        else:
            order = np.random.default_rng(seed).permutation(len(splits[name].images))
            splits[name] = splits[name].select(order[:most].tolist())
    if arguments.skip_bad_images:
        splits = leave_out_bad_images(splits, output or Path(), num_workers)
    if state.is_main_process:
        print(description(splits, arguments.image_range), flush=True)
    tables = {name: split.images for name, split in splits.items()}
    if arguments.streaming:
        for name, table in tables.items():
            if isinstance(table, Dataset):
                tables[name] = table.to_iterable_dataset(num_shards=min(len(table), STREAM_PARTS))
        if training:
            tables["train"] = tables["train"].shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
    split = splits["train" if training else "validation"]
    source = [arguments.dataset_name, arguments.dataset_config_name, arguments.train_file, arguments.train_split]
    return ImageData(
        tables,
        classes,
        split.multi_label,
        fingerprint(split, str(source)),
        arguments.image_range,
        source=None if arguments.streaming else {**absolute_options(arguments), "seed": seed},
    )
