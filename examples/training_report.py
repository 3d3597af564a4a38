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
"""The metrics of a training run, and its picture: losses, the metric of each evaluation, and what was taken for what."""

from pathlib import Path

import evaluate
import matplotlib.pyplot as plt
import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix


# With more classes than this, their names cannot be read.
PICTURE = "training.png"
PICTURE_OF_CARD = f"""
## Training

![Losses, the metric of each evaluation, and which class was taken for which]({PICTURE})
"""

MAX_NAMES = 25


def load_metrics(multi_label: bool) -> evaluate.Metric:
    return evaluate.load(str(Path(__file__).parent / "metrics" / ("multi_label" if multi_label else "single_label")))


def metric_of(multi_label: bool) -> str:
    """The one that is printed, drawn, and compared."""
    return "mean_average_precision" if multi_label else "accuracy"


def draw_training(log: list[dict], metric: str, path: Path, labels=None, predictions=None, classes=()):
    """
    Args:
        log: Entries with `step` and some of `loss`, `eval_loss` and `eval_{metric}`, as in `trainer.state.log_history`.
        labels, predictions: Class of each evaluated image, and what was predicted; None for several labels per image.
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
        axes[2].set_title("part of each class that was taken for which")
    figure.savefig(path, dpi=110)
    plt.close(figure)
