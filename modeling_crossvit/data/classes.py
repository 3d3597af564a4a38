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
Classes: their names, their order, other names for them, and the indices that a model has for them.

A class is a name, whatever the source has: the name of a folder, the words of a CSV, the name that a data set on the Hub gives to an
index, or the index itself as text. Therefore the classes of different sources, and those of a model, can be compared.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import PartialState

from crossvit.data.splits import Label, Split, count_images, features, with_labels


def class_order(name: str) -> tuple[int, int, str]:
    """The order of classes that have none of their own, as a key for `sorted`: whole numbers by their value, then names by the alphabet."""
    is_number = name.isascii() and name.isdigit() and str(int(name)) == name
    return (0, int(name), "") if is_number else (1, 0, name)


def listed(names: Iterable, most: int = 20) -> str:
    """At most so many of the names, for a message."""
    names = list(map(str, names))
    return ", ".join(names[:most]) + (f" ... ({len(names)} in all)" if len(names) > most else "")


def counted(number: int, noun: str) -> str:
    """`1 image`, `2 images`, `2 classes`."""
    return f"{number} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


# --- from labels to names ---


def class_name(label: Any, names: list[str] | None = None) -> str:
    """
    The name of a class as text.

    Args:
        label: A name, a whole number, or the index of one of `names`.

    Raises:
        ValueError: If there is no label, or if it is neither a word nor a whole number, or if no class has this index.
    """
    if label is None or label == "":
        raise ValueError("it has no label")
    if names is not None and not isinstance(label, str):
        if not 0 <= label < len(names):
            raise ValueError(
                f"it has the label {label}, expected 0 to {len(names) - 1} ({label} often means: not known)"
            )
        return names[label]
    if isinstance(label, float) and label.is_integer():  # an integer column with empty cells
        return str(int(label))
    if isinstance(label, (str, int)):
        return str(label)
    raise ValueError(f"it has the label {label!r}, expected a word or a whole number")


def class_names(label: Any, names: list[str] | None = None) -> Label:
    """The name of the class, or a list of names for a list of labels."""
    if isinstance(label, list):
        return [class_name(one, names) for one in label]
    return class_name(label, names)


def named_labels(
    labels: list[Any], names: list[str] | None, origin: str, place: Callable[[int], str] = lambda index: f"image {index + 1}"
) -> list[Label]:  # fmt: skip
    """
    The names of all labels of a split.

    Raises:
        ValueError: If an image has no label, or a wrong one. The message has the place of the image.
    """
    named = []
    for index, label in enumerate(labels):
        try:
            named.append(class_names(label, names))
        except ValueError as error:
            raise ValueError(f"{origin}, {place(index)}: {error}. Mend the label, or remove the image.") from None
    return named


# --- other names ---


def read_label_map(file: str) -> dict[str, str]:
    """
    Reads `{"name in the data": "other name"}`.

    Raises:
        ValueError: If the file cannot be read, or has another form.
    """
    try:
        names = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"--label_map {file} cannot be read: {error}.") from error
    if not isinstance(names, dict) or not all(isinstance(name, (str, int)) for name in names.values()):
        raise ValueError(f'--label_map {file} must have the form {{"name in the data": "other name"}}.')
    return {name: str(other) for name, other in names.items()}


def renamed(classes: list[str], names: dict[str, str]) -> list[str]:
    """Classes with other names. Of several with one name, one is left."""
    return list(dict.fromkeys(names.get(name, name) for name in classes))


def renamed_label(label: Label, names: dict[str, str]) -> Label:
    """The label of an image, with other names."""
    return renamed(label, names) if isinstance(label, list) else names.get(label, label)


def _rename_sample(sample: dict, names: dict[str, str]) -> dict:
    return {"label": renamed_label(sample["label"], names)}


def rename_classes(splits: dict[str, Split], names: dict[str, str]) -> dict[str, Split]:
    """
    The splits with other names for some of their classes.

    Raises:
        ValueError: If the data do not have a class of `names`.
    """
    with_names = {}
    for name, split in splits.items():
        if split.is_stream:
            images = split.images.map(_rename_sample, fn_kwargs={"names": names}, features=features(split.multi_label))
        else:
            images = with_labels(
                split.images, [renamed_label(label, names) for label in split.labels], split.multi_label
            )
        with_names[name] = replace(split, images=images, classes=split.classes and renamed(split.classes, names))
    known = {name for split in splits.values() for name in split.classes or ()}
    known.update(*(count_images(split.labels) for split in splits.values() if not split.is_stream))
    is_known = all(split.classes is not None or not split.is_stream for split in splits.values())
    if is_known and names.keys() - known:
        raise ValueError(
            f"--label_map has names that the data do not have: {listed(sorted(names.keys() - known))}. The classes of the data are "
            f"{listed(sorted(known, key=class_order))}."
        )
    return with_names


# --- the classes of all splits ---


def check_classes(splits: dict[str, Split], num_classes: int | None = None) -> list[str] | None:
    """
    Checks that the labels of the splits fit together.

    Args:
        splits: `train` and `validation`, or one of them.
        num_classes: The number of classes of a stream whose labels are whole numbers from 0.

    Returns:
        The names of the classes in their order; None for a stream that is only evaluated and does not know them.

    Raises:
        ValueError: If one split has lists of labels and the other has not, if only validation images have some class, if there is one class
            alone, or if a stream does not know the classes to train on.
    """
    if len({split.multi_label for split in splits.values()}) > 1:
        raise ValueError(
            "The images of one split have lists of labels, and the images of the other have one label. Expected the same in both."
        )
    first = splits.get("train") or splits["validation"]
    counts = {name: count_images(split.labels) for name, split in splits.items() if not split.is_stream}
    if "train" in counts:
        added = sorted(counts.get("validation", {}).keys() - counts["train"].keys(), key=class_order)
        if added:
            raise ValueError(
                f"Validation images have the label {listed(added)}, but no training image has it; training images have "
                f"{listed(sorted(counts['train'], key=class_order))}. Add such training images, remove these validation images, or give "
                "classes with two names one name with --label_map."
            )
        if len(counts["train"]) < 2 and not first.multi_label:
            raise ValueError(
                f"All training images have the class {listed(counts['train'])}, expected at least two classes to tell apart."
            )
    if "train" not in splits and "validation" in counts:
        order = {name: index for index, name in enumerate(first.classes or ())}
        return sorted(counts["validation"], key=lambda name: (order.get(name, 0), class_order(name)))
    if first.classes is not None:
        return first.classes
    if num_classes is not None:
        return [str(index) for index in range(num_classes)]
    if "train" in counts:
        return sorted(counts["train"], key=class_order)
    if "train" in splits:
        raise ValueError(
            "The classes of this stream are not known before it is read: give --num_classes, use a data set with ClassLabel, or leave out "
            "--streaming."
        )
    return None


def match_classes(classes: list[str] | None, id2label: dict[int, str], training: bool) -> dict[str, int] | None:
    """
    Finds the classes of the data among those of a model: by name, or by index where the labels are whole numbers that are not names.

    Args:
        classes: The classes of the data. None for those of the model, which a stream that is only evaluated has.
        id2label: The names of the model's classes, by index from 0.
        training: A model that is trained must have all of these classes and no others. One that is only evaluated may have more.

    Returns:
        The index of each class; None if a model that is trained has other classes.

    Raises:
        ValueError: If a model that is only evaluated does not have all classes of the data, each once.
    """
    names = [str(id2label[index]) for index in range(len(id2label))]
    ids = [str(index) for index in range(len(names))]
    labels = names if classes is None else classes
    wanted = set(labels)
    for keys in (names, ids):
        indices = {key: index for index, key in enumerate(keys)}
        if len(indices) == len(keys) and (wanted == set(keys) if training else wanted <= set(keys)):
            if keys is ids and names != ids:
                PartialState().print(
                    f"The labels {listed(labels, 5)} are taken for the indices of the model's classes."
                )
            # The labels of a stream are not known yet. They may be indices.
            return (
                {**dict(zip(ids, range(len(ids)))), **indices}
                if classes is None and not set(ids) & set(names)
                else indices
            )
    if not training:
        # A name that several classes of the model have matches none of them.
        without_match = wanted - {name for name, count in Counter(names).items() if count == 1}
        raise ValueError(
            f"The model does not have all classes of the data.\n  without a match: {listed(sorted(without_match, key=class_order))}"
            f"\n  classes of the data: {listed(labels)}\n  classes of the model: {listed(names)}\n"
            'Name them as the model does with --label_map FILE, a JSON file such as {"name in the data": "name of the model"}, or train the '
            "model on these data first."
        )
    return None
