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
Runs the commands of docs/solar_cells.md, which train a small CrossViT to find defects in photographs of solar cells and evaluate it on the
held-out ones, and fills the page. No picture of a cell goes there, because of their licence.

    pip install elpv-dataset
    python -m benchmarks.solar_cells      about 13 minutes on two CPU cores

Expected: the whole interval of the accuracy lies above the share of the larger class.
"""

import runpy
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest, bootstrap

from benchmarks.measurements import measured_by
from benchmarks.pages import RESULTS, ROOT, fill, run_commands, table


EVALUATION = ROOT / "outputs" / "solar_cells" / "evaluation"  # where the last command of the page writes
FRACTIONS = {0: "0", 0.33: "1/3", 0.67: "2/3", 1: "1"}


def percent(*values: float) -> str:
    return " to ".join(f"{value:.1%}".replace("%", " %") for value in values)


def share(right: pd.Series) -> tuple[str, str]:
    """The share of right answers, and its 95 % interval by Wilson's method."""
    interval = binomtest(int(right.sum()), len(right)).proportion_ci(0.95, method="wilson")
    return percent(right.mean()), percent(interval.low, interval.high)


def data_table(cells: pd.DataFrame) -> str:
    """The number of photographs for each probability of a defect, in both splits."""
    counts = cells.groupby(["probability", "fraction", "label"])["split"].value_counts().unstack()
    rows = [(fraction, label, row["train"], row["validation"]) for (_, fraction, label), row in counts.iterrows()]
    total = ("all", "", *counts[["train", "validation"]].sum())
    return table(("probability of a defect", "class", "for training", "held out"), [*rows, total])


def results_tables(cells: pd.DataFrame) -> dict[str, str]:
    """All held-out photographs, and those of each probability: the columns `right`, `label` and `fraction`."""
    by_class = [group.to_numpy() for _, group in cells.groupby("label")["right"]]
    # Balanced accuracy is the mean of the classes' shares. Each class is drawn again by itself, with its number of images.
    draws = bootstrap(by_class, lambda a, b, axis: (a.mean(axis) + b.mean(axis)) / 2, method="percentile", rng=0)
    interval, balanced = draws.confidence_interval, np.mean([right.mean() for right in by_class])
    rows = [
        ("accuracy", *share(cells["right"])),
        ('accuracy of always saying "functional"', percent(max(map(len, by_class)) / len(cells)), "-"),
        ("balanced accuracy", percent(balanced), percent(interval.low, interval.high)),
        ('balanced accuracy of always saying "functional"', percent(0.5), "-"),
    ]
    groups = [(name, *share(cells["right"][cells["fraction"] == name])) for name in FRACTIONS.values()]
    heads = ("probability of a defect, by the experts", "right answers", "95 % interval")
    return {
        "results": table(("of all held-out photographs", "", "95 % interval"), rows),
        "by probability": table(heads, groups),
    }


def main():
    run_commands("solar_cells.md")
    cells = runpy.run_path(str(ROOT / "examples" / "solar_cells.py"))["load_cells"]()
    cells["fraction"] = cells["probability"].round(2).map(FRACTIONS)
    answers = pd.read_csv(EVALUATION / "predictions_1.csv")
    right = pd.Series(
        (answers["label"] == answers["predicted"]).to_numpy(), [Path(name).name for name in answers["image"]]
    )
    held_out = cells[cells["split"] == "validation"]
    held_out = held_out.assign(right=right[[path.name for path in held_out["path"]]].to_numpy())
    shutil.copy(EVALUATION / "evaluation.png", RESULTS / "solar_cells.png")
    packages = ("elpv-dataset", "torch", "transformers", "scikit-learn", "scipy")
    machine = measured_by("benchmarks.solar_cells", *packages)
    print(fill("solar_cells.md", {"data": data_table(cells), **results_tables(held_out), "machine": machine}))


if __name__ == "__main__":
    main()
