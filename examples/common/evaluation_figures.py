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
"""The figures of examples/evaluate_model.py, each with a 95 % interval."""

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm
from sklearn.metrics import f1_score, precision_recall_fscore_support


# The number of equally wide bins of confidence.
BINS = 15
# How many standard deviations a 95 % interval has on each side.
Z = norm.ppf(0.975)


def interval(value: float, images: float) -> dict[str, float]:
    """Wilson's 95 % interval of a share of so many images, which need not be a whole number."""
    middle = (value + Z**2 / (2 * images)) / (1 + Z**2 / images)
    half = Z / (1 + Z**2 / images) * np.sqrt(value * (1 - value) / images + Z**2 / (4 * images**2))
    # At 0 and 1 the interval ends there, but for the rounding.
    return {
        "value": float(value),
        "low": float(max(min(middle - half, value), 0)),
        "high": float(min(max(middle + half, value), 1)),
    }


def share(right: np.ndarray) -> dict[str, float]:
    """The share of right answers, with Wilson's interval."""
    return interval(right.mean(), len(right))


def macro_f1(table: pd.DataFrame) -> dict[str, float]:
    """
    Macro F1 with an interval of Wilson's form, for as many images as give a share the variance that macro F1 has here. That variance comes
    from the delta method: `influence` is how far each image moves macro F1.
    """
    _, numbers = np.unique(table[["label", "predicted"]].to_numpy(str), return_inverse=True)
    label, predicted = numbers.reshape(-1, 2).T
    f1 = f1_score(label, predicted, average=None)
    occurs = (np.bincount(label, minlength=len(f1)) + np.bincount(predicted, minlength=len(f1))) / len(label)
    influence = (
        2 * (label == predicted) / occurs[label] - f1[label] / occurs[label] - f1[predicted] / occurs[predicted]
    )
    variance = np.mean((influence / len(f1)) ** 2) / len(label)
    value = f1.mean()
    return interval(value, value * (1 - value) / variance if variance > 0 else len(label))


def bins_of(confidence: np.ndarray) -> np.ndarray:
    """The number of the bin of each confidence. An edge belongs to the bin below it, as in scikit-learn's calibration_curve."""
    return np.searchsorted(np.linspace(0, 1, BINS + 1)[1:-1], confidence)


def calibration_error(right: np.ndarray, confidence: np.ndarray) -> dict[str, float]:
    """
    Expected calibration error (Guo et al. 2017): the mean difference between how sure the model is and how often it is right, over bins of
    equal width, each with the weight of its images.

    Chance alone makes it larger, most of all where it is small, and so would drawing the images again. Therefore the interval has those sizes of
    the error that could have given this value: chance is added to the differences, scaled to each size.
    """
    images, bins = len(right), bins_of(confidence)
    gaps = np.bincount(bins, right - confidence, BINS) / images
    error = np.abs(gaps).sum()
    if right.all():  # then the images do not say how large chance is, but the accuracy has an interval
        low, high = error - 1 + share(right)["low"], error + 1 - share(right)["low"]
        return {"value": float(error), "low": float(max(low, 0)), "high": float(min(high, 1))}
    deviations = np.sqrt(np.bincount(bins, (right - confidence) ** 2, BINS)) / images
    chance = np.random.default_rng(0).standard_normal((1000, BINS)) * deviations
    sizes = np.union1d(error * np.linspace(0, 4, 801), np.linspace(0, 1, 201)).clip(max=1)
    possible = []
    for size in sizes:
        drawn = np.abs(size / (error or 1) * gaps + chance).sum(axis=1)
        if min((drawn >= error).mean(), (drawn <= error).mean()) >= 0.025:
            possible.append(size)
    # If it is so small that chance alone would have made it larger, no size is possible.
    return {"value": float(error), "low": float(min([*possible, error])), "high": float(max([*possible, error]))}


def measure(table: pd.DataFrame, num_classes: int) -> dict[str, dict[str, float]]:
    """The figures of one model, each with its interval."""
    right = (table["label"] == table["predicted"]).to_numpy()
    figures = {"accuracy": share(right)}
    if num_classes > 5:
        figures["top_5_accuracy"] = share((table["rank"] <= 5).to_numpy())
    figures["macro_f1"] = macro_f1(table)
    figures["calibration_error"] = calibration_error(right, table["confidence"].to_numpy())
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
    names = np.unique(table[["label", "predicted"]].to_numpy(str))
    columns = precision_recall_fscore_support(table["label"], table["predicted"], labels=names, zero_division=np.nan)
    classes = pd.DataFrame(
        dict(zip(("precision", "recall", "f1", "images"), columns)), index=pd.Index(names, name="class")
    )
    for side in ("low", "high"):
        classes[f"recall_{side}"] = [
            interval(recall, images)[side] if images else np.nan
            for recall, images in zip(classes["recall"], classes["images"])
        ]
    return classes[["images", "precision", "recall", "recall_low", "recall_high", "f1"]]
