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
"""Loads images with their classes from the Hub, folders, CSV or parquet files, and leaves out images that cannot be read."""

import io
import json
import random
import zlib
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from itertools import count
from pathlib import Path

import numpy as np
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Image, IterableDataset, IterableDatasetDict, Value, load_dataset
from PIL import Image as PILImage


Splits = DatasetDict | IterableDatasetDict

# The ending of a file, and the builder of `datasets` that reads such files.
BUILDERS = {".csv": "csv", ".parquet": "parquet", ".tar": "webdataset"}

# Each process that reads a stream keeps this many images, and draws the next one from them.
SHUFFLE_BUFFER = 1000


@dataclass
class DataArguments:
    _argument_group_name = "data: one of --dataset_name, --train_dir and --train_file"

    dataset_name: str | None = field(default=None, metadata={"help": "Name of a data set on the Hub."})
    dataset_config_name: str | None = field(
        default=None, metadata={"help": "Configuration of the data set, if it has several."}
    )
    train_dir: str | None = field(default=None, metadata={"help": "Folder with a folder of images per class."})
    validation_dir: str | None = field(default=None, metadata={"help": "Such a folder with the evaluation images."})
    train_file: str | None = field(
        default=None,
        metadata={
            "help": "CSV with a column of paths and one of classes, or images in parquet or WebDataset (.tar) shards."
        },
    )
    validation_file: str | None = field(default=None, metadata={"help": "Such a file with the evaluation images."})
    train_split: str = field(default="train", metadata={"help": "Name of the split to train on."})
    validation_split: str | None = field(
        default=None, metadata={"help": "Name of the split to evaluate on. By default validation, val or test."}
    )
    train_val_split: float = field(
        default=0.15, metadata={"help": "Part of the training images to evaluate on if there is no split for it."}
    )
    image_column_name: str | None = field(
        default=None, metadata={"help": "Column of images. By default the first that is recognized."}
    )
    label_column_name: str | None = field(
        default=None, metadata={"help": "Column of classes. By default the first that is recognized."}
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

    @property
    def source(self) -> str:
        """The name of the data in a model card: their name on the Hub, or the kind of file they come from."""
        if self.dataset_name:
            return self.dataset_name
        return Path(self.train_file).suffix[1:] if self.train_file else "imagefolder"


@dataclass
class ImageData:
    """Splits `train` and `validation` with the columns `image` (encoded) and `label`, and the names of the classes."""

    splits: Splits
    classes: list[str]
    multi_label: bool


def decoding_error(image: dict) -> str | None:
    """The reason why an encoded image, `{"path": ..., "bytes": ...}`, cannot be decoded; None if it can."""
    try:
        read_image(image)
    except ValueError as error:
        return str(error.__cause__)
    return None


def image_name(image: dict) -> str:
    """The path of an encoded image, or its size if it has no path."""
    return image["path"] or f"an image of {len(image['bytes'] or b'')} bytes"


def read_image(image: dict) -> PILImage.Image:
    """
    Decodes an image to RGB; of an animation, the first frame.

    Raises:
        ValueError: If the image cannot be decoded. The message names the image.
    """
    try:
        if image["bytes"] == b"":
            raise OSError("the file is empty")
        source = io.BytesIO(image["bytes"]) if image["bytes"] is not None else image["path"]
        with PILImage.open(source) as decoded:
            return decoded.convert("RGB")
    # Broken files make Pillow raise many kinds of exceptions.
    except Exception as error:
        raise ValueError(
            f"{image_name(image)} cannot be read: {error}. Mend or remove it, or leave out all such images with --skip_bad_images."
        ) from error


def _load_dataset(*arguments, **kwargs) -> Splits:
    try:
        return load_dataset(*arguments, **kwargs)
    # An absent repository, a missing network, an empty file and an unknown configuration each raise an exception of their own kind.
    except Exception as error:
        raise SystemExit(f"The images cannot be loaded: {error}") from error


def _load(arguments: DataArguments) -> Splits:
    sources = {
        "--dataset_name": arguments.dataset_name,
        "--train_dir": arguments.train_dir or arguments.validation_dir,
        "--train_file": arguments.train_file or arguments.validation_file,
    }
    given = [name for name, value in sources.items() if value]
    if len(given) != 1:
        raise SystemExit(
            f"Give one of {', '.join(sources)} as the source of images; got {' and '.join(given) or 'none'}."
        )
    if arguments.dataset_name:
        return _load_dataset(arguments.dataset_name, arguments.dataset_config_name, streaming=arguments.streaming)

    if arguments.train_dir or arguments.validation_dir:
        folders = {"train": arguments.train_dir, "validation": arguments.validation_dir}
        folders = {split: Path(folder) for split, folder in folders.items() if folder}
        for split, folder in folders.items():
            if not folder.is_dir():
                option = {"train": "--train_dir", "validation": "--validation_dir"}[split]
                raise SystemExit(f"{option} {folder} is not a folder. Expected {folder}/CLASS/IMAGE.jpg.")
        if len(folders) == 1:
            (folder,) = folders.values()
            return _load_dataset("imagefolder", data_dir=str(folder), streaming=arguments.streaming)
        files = {split: str(folder / "**") for split, folder in folders.items()}
        return _load_dataset("imagefolder", data_files=files, streaming=arguments.streaming)

    files = {"train": arguments.train_file, "validation": arguments.validation_file}
    files = {split: file for split, file in files.items() if file}
    for split, file in files.items():
        if "://" not in file and not glob(file):
            raise SystemExit(
                f"--{split}_file {file} does not exist. Give the path of a file, or a pattern such as 'shards/*.tar'."
            )
    kinds = {Path(file).suffix for file in files.values()}
    if not kinds <= BUILDERS.keys() or len(kinds) > 1:
        raise SystemExit(
            f"--train_file and --validation_file must both end in one of {', '.join(BUILDERS)}; got {', '.join(files.values())}."
        )
    return _load_dataset(BUILDERS[kinds.pop()], data_files=files, streaming=arguments.streaming)


def _choose_splits(splits: Splits, arguments: DataArguments, seed: int) -> Splits:
    """Returns the splits `train` and `validation`."""
    if arguments.train_split not in splits:
        raise SystemExit(f"--train_split {arguments.train_split} does not exist; choose one of {', '.join(splits)}.")
    validation = arguments.validation_split
    if validation is None:
        validation = next((name for name in ("validation", "val", "test") if name in splits), None)
    elif validation not in splits:
        raise SystemExit(f"--validation_split {validation} does not exist; choose one of {', '.join(splits)}.")
    chosen = {"train": splits[arguments.train_split]}
    if validation is not None:
        chosen["validation"] = splits[validation]
    elif arguments.streaming:
        raise SystemExit(
            "A stream cannot be divided, and it has no split to evaluate on: give --validation_dir, --validation_file or "
            "--validation_split."
        )
    else:
        if not 0 < arguments.train_val_split < 1:
            raise SystemExit(f"--train_val_split must be between 0 and 1, got {arguments.train_val_split}.")
        if len(chosen["train"]) < 2:
            raise SystemExit(
                f"The number of training images is {len(chosen['train'])}, expected at least 2 to evaluate on a part of them. Add images, or "
                "give --validation_dir, --validation_file or --validation_split."
            )
        parts = chosen["train"].train_test_split(arguments.train_val_split, seed=seed)
        chosen = {"train": parts["train"], "validation": parts["test"]}
    for split, dataset in chosen.items():
        if not arguments.streaming and len(dataset) == 0:
            raise SystemExit(f"The {split} split is empty.")
    return type(splits)(chosen)


def _choose_columns(splits: Splits, arguments: DataArguments) -> Splits:
    """Returns the splits with the columns `image` and `label` only; the images stay encoded."""
    features = splits["train"].features or {}
    images = [name for name, feature in features.items() if isinstance(feature, Image)]
    labels = [
        name for name, feature in features.items() if isinstance(getattr(feature, "feature", feature), ClassLabel)
    ]
    guesses = {"image": [*images, "image", "path", "file_name"], "label": [*labels, "label", "labels", "cls"]}
    columns = {"image": arguments.image_column_name, "label": arguments.label_column_name}
    for kind, column in columns.items():
        column = column or next((name for name in guesses[kind] if name in features), None)
        if column not in features:
            hint = (
                "In a folder, put the images of each class into a folder of its own. " if arguments.train_dir else ""
            )
            raise SystemExit(
                f"There is no column of {kind}s{f' named {column}' if column else ''}; the columns are {', '.join(features)}. "
                f"{hint}Name the column with --{kind}_column_name."
            )
        columns[kind] = column
    files = {"train": arguments.train_file, "validation": arguments.validation_file}
    for split, dataset in splits.items():
        is_path = isinstance(features[columns["image"]], Value)
        if not is_path:  # before all other steps, because a stream would decode the image at each of them
            dataset = dataset.cast_column(columns["image"], Image(decode=False))
        dataset = dataset.select_columns(list(columns.values()))
        dataset = dataset.rename_columns({column: kind for kind, column in columns.items() if column != kind})
        if is_path:  # relative to the CSV
            folder = Path(files.get(split) or arguments.train_file).parent
            features_of_map = dataset.features  # given to `map`, because a stream forgets them
            dataset = dataset.map(
                lambda sample, folder=folder: {"image": str(folder / sample["image"])}, features=features_of_map
            )
            dataset = dataset.cast_column("image", Image(decode=False))
        splits[split] = dataset
    return splits


def _occurring_labels(dataset: Dataset) -> set:
    return {value for label in dataset["label"] for value in (label if isinstance(label, list) else [label])}


def _check_labels(splits: Splits, names: list | None = None):
    """Ends the program if a label has no training image."""
    values = {split: _occurring_labels(dataset) for split, dataset in splits.items()}
    if None in values["train"] | values["validation"]:
        raise SystemExit(
            "Some images have no label, because the column of labels has empty cells. Fill these cells or remove the rows."
        )
    added = sorted(values["validation"] - values["train"])
    if added:
        added = added if names is None else [names[value] for value in added]
        raise SystemExit(
            f"Validation images have the label {', '.join(map(str, added))}, but no training image has it. Add such training images, "
            "or remove these validation images."
        )


def _encode_labels(splits: Splits, arguments: DataArguments) -> tuple[Splits, list[str], bool]:
    """Returns the splits with numbers as labels, the names of the classes, and whether an image has several labels."""
    features = {split: dataset.features["label"] for split, dataset in splits.items()}
    inner = {split: getattr(feature, "feature", feature) for split, feature in features.items()}
    if isinstance(inner["train"], ClassLabel):
        names = inner["train"].names
        if getattr(inner["validation"], "names", None) != names:
            raise SystemExit(
                f"The validation images have the classes {getattr(inner['validation'], 'names', inner['validation'])}, expected those of the "
                f"training images, {names}. Give both the same classes in the same order."
            )
        if not arguments.streaming:
            _check_labels(splits, names)
        return splits, names, inner["train"] is not features["train"]
    if arguments.streaming and arguments.num_classes is None:
        raise SystemExit(
            "The classes of this stream are not known before it is read: give --num_classes, use a data set with ClassLabel, or leave out "
            "--streaming."
        )
    if arguments.streaming:
        for split, dataset in splits.items():
            # WebDataset shards have labels as text.
            splits[split] = dataset.map(lambda sample: {"label": int(sample["label"])})
        return splits, [str(number) for number in range(arguments.num_classes)], False
    _check_labels(splits)
    names = [str(value) for value in sorted(_occurring_labels(splits["train"]))]
    numbers = {name: number for number, name in enumerate(names)}
    for split, dataset in splits.items():
        dataset = dataset.map(lambda sample: {"label": numbers[str(sample["label"])]})
        splits[split] = dataset.cast_column("label", ClassLabel(names=names))
    return splits, names, False


def load_images(arguments: DataArguments, seed: int) -> ImageData:
    """
    Loads the images that the arguments name. Mistakes in the arguments, missing splits, columns or labels, and empty splits end the
    program with a message.
    """
    splits = _choose_columns(_choose_splits(_load(arguments), arguments, seed), arguments)
    splits, classes, multi_label = _encode_labels(splits, arguments)
    for split, most in (("train", arguments.max_train_samples), ("validation", arguments.max_eval_samples)):
        if most is not None:
            dataset = splits[split]
            # Shuffled first, because files are usually sorted by their class.
            shuffled = dataset.shuffle(seed=seed)
            splits[split] = (
                shuffled.take(most) if arguments.streaming else shuffled.select(range(min(most, len(dataset))))
            )
        if not arguments.streaming and len(splits[split]) == 0:
            raise SystemExit(f"The {split} split is empty.")
    if arguments.streaming:
        splits["train"] = splits["train"].shuffle(seed=seed, buffer_size=SHUFFLE_BUFFER)
    return ImageData(splits, classes, multi_label)


class _IsReadable:
    """Tells whether an image of a stream can be decoded. Other images are appended to a file that all processes share."""

    def __init__(self, report: Path):
        self.report = report

    def __call__(self, sample: dict) -> bool:
        problem = decoding_error(sample["image"])
        if problem is not None:
            _append(self.report, [{"image": image_name(sample["image"]), "problem": problem}])
        return problem is None


def _append(report: Path, bad_images: list[dict[str, str]]):
    with report.open("a") as file:
        file.writelines(json.dumps(image) + "\n" for image in bad_images)


def leave_out_bad_images(data: ImageData, output_dir: Path, is_main_process: bool, num_proc: int | None = None):
    """
    Removes images that cannot be decoded from both splits, and lists them in `bad_images.jsonl`, one line of `{"image": name,
    "problem": reason}` each. All processes call this, the main one first.
    """
    report = output_dir / "bad_images.jsonl"
    if is_main_process:
        output_dir.mkdir(parents=True, exist_ok=True)
        report.write_text("")
    for split, dataset in data.splits.items():
        if isinstance(dataset, IterableDataset):
            data.splits[split] = dataset.filter(_IsReadable(report))
            continue
        images = dataset.map(
            lambda sample: {"name": image_name(sample["image"]), "problem": decoding_error(sample["image"])},
            remove_columns=dataset.column_names,
            num_proc=num_proc,
            desc=f"reading all {split} images",
        )
        if is_main_process:
            bad = [image for image in images if image["problem"] is not None]
            _append(report, [{"image": image["name"], "problem": image["problem"]} for image in bad])
        readable = [index for index, problem in enumerate(images["problem"]) if problem is None]
        if not readable:
            raise SystemExit(f"No image of the {split} split can be read: {report} has the reasons.")
        data.splits[split] = dataset.select(readable)


def print_bad_images(output_dir: Path):
    """Prints how many images were left out. Each counts once, although a stream may have read it several times."""
    report = output_dir / "bad_images.jsonl"
    print(f"{len(set(report.open()))} images could not be read and were left out; {report} names them.")


def collate(samples: list[dict]) -> dict[str, torch.Tensor]:
    return {name: torch.stack([torch.as_tensor(sample[name]) for sample in samples]) for name in samples[0]}


class ImageTransform:
    """Turns a sample with an encoded image into one with `pixel_values` and `labels`."""

    def __init__(self, transform, data: ImageData):
        self.transform, self.num_classes, self.multi_label = transform, len(data.classes), data.multi_label

    def __call__(self, sample: dict) -> dict:
        label = sample["label"]
        if self.multi_label:
            label = torch.zeros(self.num_classes).index_fill_(0, torch.tensor(label).long(), 1)
        return {"pixel_values": self.transform(read_image(sample["image"])), "labels": label}


@contextmanager
def seeded_random_numbers(*key: int):
    """
    Inside, the random numbers of Python, NumPy and PyTorch depend on these numbers only. Outside, they are the same as without this
    block.
    """
    python, numpy = random.getstate(), np.random.get_state()
    words = np.random.SeedSequence(key).generate_state(2)
    random.seed(int(words[0]))
    np.random.seed(words[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(words[0]) << 31 | int(words[1]) >> 1)  # PyTorch takes signed integers
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


class AugmentedImages(torch.utils.data.Dataset):
    """
    A data set with a random transform that depends on the seed, the epoch and the image only. Therefore a continued run, and a run
    with another number of processes or workers, augments each image in the same way. The model's random numbers stay the same too.

    An index is the number of an image. If an image comes several times in one epoch, the index is a pair of the number of the image
    and the number of its repetition.
    """

    def __init__(self, dataset: Dataset, transform: ImageTransform, seed: int):
        self.dataset, self.transform, self.seed = dataset, transform, seed
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()  # shared with workers that run already

    def set_epoch(self, epoch: int):
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int | tuple[int, int]) -> dict:
        image, *repetition = index if isinstance(index, tuple) else (index,)
        with seeded_random_numbers(self.seed, int(self._epoch), image, *repetition):
            return self.transform(self.dataset[image])


class AugmentedStream(torch.utils.data.IterableDataset):
    """
    A stream with such a transform. Its images have no number, therefore the random numbers depend on the bytes or the name of the
    file. A stream for training is endless: the next epoch follows the last image. Otherwise a process with fewer images would end
    earlier than the others, and they would wait for it forever.
    """

    def __init__(self, dataset: IterableDataset, transform: ImageTransform, seed: int, endless: bool):
        self.dataset, self.transform, self.seed, self.endless = dataset, transform, seed, endless
        self._epoch = torch.zeros((), dtype=torch.long).share_memory_()

    def set_epoch(self, epoch: int):
        self._epoch.fill_(epoch)

    def __iter__(self):
        for epoch in count(int(self._epoch)):
            self.dataset.set_epoch(epoch)
            sample = None
            for sample in self.dataset:
                image = sample["image"]
                key = zlib.crc32(image["path"].encode() if image["bytes"] is None else image["bytes"])
                with seeded_random_numbers(self.seed, epoch, key):
                    transformed = self.transform(sample)
                yield transformed
            if sample is None or not self.endless:  # a worker without images would search forever
                return


def with_transform(
    dataset: Dataset | IterableDataset, transform, data: ImageData, seed: int = 0, training: bool = False
):
    """Returns a split with samples for the model; its `set_epoch` changes the augmentation. A stream for training is endless."""
    transform = ImageTransform(transform, data)
    if isinstance(dataset, IterableDataset):
        return AugmentedStream(dataset, transform, seed, endless=training)
    return AugmentedImages(dataset, transform, seed)
