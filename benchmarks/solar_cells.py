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
Measures how many held-out solar cells the model of examples/solar_cells.py judges right. Writes the tables and the picture of
docs/solar_cells.md. No picture of a cell goes there, because of their licence.

    pip install elpv-dataset
    python benchmarks/solar_cells.py      about 13 minutes on two CPU cores

Expected: the whole interval of the accuracy lies above the share of the larger class.
"""

import json
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

from pages import RESULTS, fill, measured_by


ROOT = Path(__file__).parent.parent
EXAMPLE = Path("examples") / "solar_cells.py"
OUTPUT = Path("outputs") / "solar_cells"
FRACTIONS = {"0.00": "0", "0.33": "1/3", "0.67": "2/3", "1.00": "1"}


def percent(value: float) -> str:
    return f"{value:.1%}".replace("%", " %")


def row(name: str, result: dict) -> str:
    """A row of a table: a share and its interval, if it has one."""
    interval = f"{percent(result['low'])} to {percent(result['high'])}" if "low" in result else "-"
    return f"| {name} | {percent(result['value'])} | {interval} |"


def data_table(cells) -> str:
    """The number of photographs for each probability of a defect, in both splits."""
    lines = ["| probability of a defect | class | for training | held out |", "|---|---|---|---|"]
    for probability, group in cells.groupby("probability"):
        counts = group["split"].value_counts()
        name = FRACTIONS[f"{probability:.2f}"]
        lines.append(f"| {name} | {group['label'].iloc[0]} | {counts['train']} | {counts['validation']} |")
    counts = cells["split"].value_counts()
    return "\n".join([*lines, f"| all | | {counts['train']} | {counts['validation']} |"])


def results_tables(results: dict) -> str:
    lines = [
        "| of all held-out photographs | | 95 % interval |",
        "|---|---|---|",
        row("accuracy", results["accuracy"]),
        row('accuracy of always saying "functional"', {"value": results["larger_class"]}),
        row("balanced accuracy", results["balanced_accuracy"]),
        row('balanced accuracy of always saying "functional"', {"value": 0.5}),
        "",
        "| probability of a defect, by the experts | right answers | 95 % interval |",
        "|---|---|---|",
    ]
    lines += [row(FRACTIONS[value], result) for value, result in results["by_probability"].items()]
    return "\n".join(lines)


def conclusion(results: dict) -> str:
    """Says what the intervals permit to conclude."""
    accuracy, balanced, groups = results["accuracy"], results["balanced_accuracy"], results["by_probability"]
    if accuracy["low"] > results["larger_class"] and balanced["low"] > 0.5:
        learned = (
            'Both intervals lie wholly above what always saying "functional" reaches. So the model has learned to see defects, and this '
            "is no accident of which photographs were held out."
        )
    else:
        learned = (
            'Not both intervals lie wholly above what always saying "functional" reaches. So this run does not show that the model has '
            "learned to see defects."
        )
    doubts = []
    for label, certain, uncertain in (("functional", "0.00", "0.33"), ("defective", "1.00", "0.67")):
        names = f"probability {FRACTIONS[uncertain]} than of probability {FRACTIONS[certain]}"
        if groups[uncertain]["high"] < groups[certain]["low"]:
            doubts.append(
                f"Of the {label} cells, it judges fewer right of {names}: these two intervals do not overlap."
            )
        else:
            doubts.append(f"Of the {label} cells, this run does not show that it judges fewer right of {names}.")
    doubt = " ".join(doubts)
    smallest = min(groups, key=lambda value: groups[value]["images"])
    group = groups[smallest]
    found, missed = results["confusion_matrix"][0]
    return (
        f"- Of the {found + missed} defective cells, the model misses {missed}. Nobody should sort solar cells with it.\n"
        f"- {learned}\n- {doubt}\n- The interval of probability {FRACTIONS[smallest]} is {100 * (group['high'] - group['low']):.0f} points "
        f"wide, because only {group['images']} such cells are held out. Two models can be compared on so few cells only if they differ a lot."
    )


def main():
    subprocess.run([sys.executable, str(EXAMPLE), "--output_dir", str(OUTPUT)], cwd=ROOT, check=True)
    results = json.loads((ROOT / OUTPUT / "results.json").read_text())
    sys.path.insert(0, str((ROOT / EXAMPLE).parent))  # of what the examples share
    shutil.copy(ROOT / OUTPUT / "results.png", RESULTS / "solar_cells.png")
    packages = ("elpv-dataset", "torch", "transformers", "scikit-learn", "scipy")
    places = {
        "data": data_table(runpy.run_path(str(ROOT / EXAMPLE))["load_cells"]()),
        "training": f"The model sees each training photograph {results['num_train_epochs']} times.",
        "results": results_tables(results),
        "conclusion": conclusion(results),
        "machine": measured_by("benchmarks/solar_cells.py", *packages),
    }
    print(f"wrote {fill('solar_cells.md', places)}")


if __name__ == "__main__":
    main()
