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
"""The metrics of a training run, and its picture: losses, the metric of each evaluation, and the confusion matrix."""

import warnings
from collections.abc import Callable
from pathlib import Path

import evaluate
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix


PICTURE = "training.png"

# A section of the model card.
CARD_TEXT = f"""
## Training

![Losses, the metric of each evaluation, and the confusion matrix]({PICTURE})
"""

# With more classes, their names in the confusion matrix would be too small to read.
MAX_NAMES = 25


def load_metrics(multi_label: bool) -> evaluate.Metric:
    """The metrics of metrics.py for images with one label, or with several."""
    return evaluate.load(str(Path(__file__).parent / "metrics.py"), "multi_label" if multi_label else "single_label")


def main_metric_name(multi_label: bool) -> str:
    """The name of the metric that is printed and drawn."""
    return "mean_average_precision" if multi_label else "accuracy"


def draw(function: Callable, *arguments, **kwargs):
    """Calls a function that draws. A picture that fails is a warning, because it must not take the results with it."""
    try:
        # Names of classes are not formulas, even if they have dollar signs.
        with plt.rc_context({"text.parse_math": False, "text.usetex": False}):
            function(*arguments, **kwargs)
    except Exception as error:
        warnings.warn(f"The picture could not be drawn, all else is saved: {error!r}", stacklevel=2)
    finally:
        plt.close("all")


def draw_training(log: list[dict], metric: str, path: Path, labels=None, predictions=None, classes=()):
    """
    Draws the losses, the metric and the confusion matrix into the file `path`.

    Args:
        log: Entries with `step` and some of `loss`, `eval_loss` and `eval_{metric}`, as in `trainer.state.log_history`.
        labels, predictions: The class of each evaluated image and the predicted one; None for several labels per image.
    """
    figure, axes = plt.subplots(
        1, 2 if labels is None else 3, figsize=(11 if labels is None else 16, 4.6), layout="constrained"
    )
    curves = {"loss": "training", "eval_loss": "evaluation", f"eval_{metric}": metric.replace("_", " ")}
    for axis, keys in ((axes[0], ("loss", "eval_loss")), (axes[1], (f"eval_{metric}",))):
        for key in keys:
            steps, values = zip(*[(entry["step"], entry[key]) for entry in log if key in entry] or [((), ())])
            axis.plot(steps, values, marker="." if len(steps) < 40 else None, label=curves[key])
        axis.set_xlabel("step")
        axis.legend()
    axes[0].set_ylabel("loss")
    axes[1].set_ylabel(curves[f"eval_{metric}"])
    if labels is not None:
        few = len(classes) <= MAX_NAMES
        matrix = confusion_matrix(labels, predictions, labels=range(len(classes)), normalize="true")
        display = ConfusionMatrixDisplay(np.nan_to_num(matrix), display_labels=classes if few else None)
        display.plot(
            ax=axes[2],
            include_values=len(classes) <= 10,
            values_format=".2f",
            xticks_rotation="vertical",
            cmap="viridis",
        )
        if not few:
            axes[2].set_xticks([])
            axes[2].set_yticks([])
        axes[2].set_title("confusion matrix (each row sums to 1)")
    figure.savefig(path, dpi=110)
