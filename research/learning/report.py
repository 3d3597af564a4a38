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
"""The tables and pictures that the study makes of its file of results."""

import math
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator
from scipy import stats

from benchmarks.pages import RESULTS, fill
from crossvit.inference.fastest import ratios
from research.learning.data import SETS


# The models that are compared: all others with the first.
NAMES = {
    "cross_attention": "CrossViT: cross-attention",
    "none": "no fusion",
    "all_attention": "all-attention",
    "class_token": "class token",
    "pairwise": "pairwise",
    "vit_large_branch": "ViT of the large branch's size",
    "vit_equal_cost": "ViT of CrossViT's multiply-adds",
}
OTHER_FUSIONS = ("none", "all_attention", "class_token", "pairwise")
DISTURBANCES = {
    "size": "pixels per side of the input",
    "noise": "deviation of the noise, of the range of values",
    "blur": "deviation of the blur, of the side",
}
LEVEL = 0.95


def interval(values: pd.Series) -> tuple[float, float]:
    """The 95 % interval of the mean, by Student's t: no width if all values are equal, and NaN for a single one, which has none."""
    if len(values) < 2:
        return math.nan, math.nan
    if values.nunique() == 1:
        return values.iloc[0], values.iloc[0]
    return tuple(stats.ttest_1samp(values, 0).confidence_interval(LEVEL))


def name_of(model: str) -> str:
    return NAMES.get(model, model)


def short_name(model: str) -> str:
    return name_of(model).partition(":")[0]


def runs_table(results: dict[str, Any]) -> pd.DataFrame:
    """One row per run. Its accuracy is that of the last epoch: the best one would be chosen by the images that it is tested on."""
    runs = pd.DataFrame(results["runs"])
    runs["accuracy"] = [100 * accuracies[-1] for accuracies in runs["accuracies"]]
    return runs


def in_order(runs: pd.DataFrame) -> list[str]:
    found = list(runs["model"].unique())
    return [name for name in NAMES if name in found] + [name for name in found if name not in NAMES]


def differences(runs: pd.DataFrame) -> dict[str, pd.Series]:
    """In points, for each model but the first: its accuracy less that of the first with the same seed."""
    by_seed = runs.pivot(index="seed", columns="model", values="accuracy")
    first, *others = in_order(runs)
    return {name: (by_seed[name] - by_seed[first]).dropna() for name in others}


def percent(value: float) -> str:
    return f"{value:.2f} %"


def signed(value: float) -> str:
    text = f"{value:+.2f}".replace("-", "\u2212")
    return "0.00" if float(f"{value:.2f}") == 0 else text


def bounds(values: pd.Series, number: Callable[[float], str]) -> str:
    low, high = interval(values)
    return "one seed" if math.isnan(low) else f"{number(low)} to {number(high)}"


def recipes_table(settings: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| images | pixels per side | epochs | batch | optimizer | largest learning rate | weight decay |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, recipe in settings.items():
        keys = ("image_size", "num_train_epochs", "batch_size", "optim", "learning_rate", "weight_decay")
        lines.append("| " + " | ".join([SETS[name].title, *(str(recipe[key]) for key in keys)]) + " |")
    warmups = " or ".join(dict.fromkeys(f"{100 * recipe['warmup_steps']:g} %" for recipe in settings.values()))
    return (
        "\n".join(lines)
        + f"\n\nThe learning rate rises in the first {warmups} of the steps, and falls to zero along a cosine."
    )


def table(runs: pd.DataFrame, steps: dict[str, list[float]]) -> str:
    """What one set gave, as a table of Markdown."""
    names, paired = in_order(runs), differences(runs)
    first = names[0]
    lines = [
        f"| | parameters | multiply-adds | accuracy | 95 % interval | difference to {short_name(first)}, in points | 95 % interval "
        "| small CLS token alone | large CLS token alone | time of a training step |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names:
        own = runs[runs["model"] == name]
        cells = [
            name_of(name),
            f"{own['parameters'].iloc[0] / 1e6:.2f} M",
            f"{own['multiply_adds'].iloc[0] / 1e6:.1f} M",
            percent(own["accuracy"].mean()),
            bounds(own["accuracy"], "{:.2f}".format),
        ]
        cells += [signed(paired[name].mean()), bounds(paired[name], signed)] if name in paired else ["", ""]
        branches = [run for run in own["branches"] if run is not None]
        cells += [percent(100 * value) for value in np.mean(branches, axis=0)] if branches else ["", ""]
        cells.append(f"{1 / ratios(steps[name], steps[first])[0]:.2f} x" if {name, first} <= set(steps) else "")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdicts(runs: pd.DataFrame) -> str:
    """Which differences the intervals show, in words."""
    first = short_name(in_order(runs)[0])
    groups: dict[str, list[str]] = {f"worse than {first}": [], f"better than {first}": [], "not told apart": []}
    worse, better, unknown = groups.values()
    for name, values in differences(runs).items():
        low, high = interval(values)
        if high < 0:
            worse.append(name_of(name))
        elif low > 0:
            better.append(name_of(name))
        else:
            # A single very different seed makes an interval wide.
            agreed = {-1: "worse", 1: "better"}.get(np.sign(values).mean()) if len(values) > 1 else None
            unknown.append(name_of(name) + (f" ({agreed} with each of the {len(values)} seeds)" if agreed else ""))
    return "\n".join(f"- {verdict}: {', '.join(names) or 'none'}" for verdict, names in groups.items())


def draw_learning(runs: pd.DataFrame, path: Path) -> None:
    """Accuracy over the epochs, and at the end over the cost, for every set."""
    sets = list(runs["set"].unique())
    figure, axes = plt.subplots(2, len(sets), figsize=(5 * len(sets), 8), layout="constrained", squeeze=False)
    colours = {name: f"C{number}" for number, name in enumerate(in_order(runs))}
    for (top, bottom), name_of_set in zip(axes.T, sets):
        here = runs[runs["set"] == name_of_set]
        floor, bottom_edge = 100.0, here.groupby("model")["accuracy"].mean().median() - 10
        for name in in_order(here):
            own = here[here["model"] == name]
            curves = 100 * np.array(own["accuracies"].to_list())
            mean, deviation = curves.mean(axis=0), curves.std(axis=0, ddof=1) if len(curves) > 1 else 0 * curves[0]
            epochs = np.arange(1, len(mean) + 1)
            top.plot(epochs, mean, color=colours[name], label=name_of(name), linewidth=1.2)
            top.fill_between(epochs, mean - deviation, mean + deviation, color=colours[name], alpha=0.15, linewidth=0)
            floor = min(floor, mean[len(mean) // 4])
            multiply_adds = own["multiply_adds"].iloc[0] / 1e6
            if mean[-1] < bottom_edge:  # would press all others into one line
                text = f"far below: {mean[-1]:.1f} % \u25bc"
                bottom.text(multiply_adds, 0.02, text, color=colours[name], ha="right", transform=bottom.get_xaxis_transform())  # fmt: skip
                bottom.update_datalim([(multiply_adds, mean[-1])], updatey=False)
                continue
            low, high = interval(own["accuracy"])
            error = [[mean[-1] - low], [high - mean[-1]]]
            bottom.errorbar(multiply_adds, mean[-1], yerr=error, color=colours[name], marker="o", capsize=4)
        top.set(title=f"{SETS[name_of_set].title}\n{len(here['seed'].unique())} seeds", xlabel="epoch")
        top.set_ylim(floor, min(100, top.get_ylim()[1]))
        top.xaxis.set_major_locator(MaxNLocator(integer=True))
        bottom.set(xlabel="multiply-adds for an image, in millions")
    axes[0, 0].set_ylabel("test accuracy in %: mean, and one standard deviation")
    axes[1, 0].set_ylabel("test accuracy in %: mean, and its 95 % interval")
    axes[0, 0].legend(fontsize=9, loc="lower right")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def draw_disturbed(runs: pd.DataFrame, path: Path) -> None:
    """Accuracy of trained models when their input changes. Of the fusions, CrossViT's alone is shown."""
    sets = list(runs["set"].unique())
    shown = [name for name in in_order(runs) if name not in OTHER_FUSIONS]
    figure, axes = plt.subplots(len(sets), 3, figsize=(13, 3.8 * len(sets)), layout="constrained", squeeze=False)
    for row, name_of_set in zip(axes, sets):
        for axis, (disturbance, label) in zip(row, DISTURBANCES.items()):
            for name in shown:
                own = runs[(runs["set"] == name_of_set) & (runs["model"] == name)]
                accuracies = pd.DataFrame([run[disturbance] for run in own["disturbed"]]) * 100
                mean = accuracies.mean()
                intervals = np.array([interval(accuracies[amount]) for amount in accuracies])
                errors = np.abs(intervals.T - mean.to_numpy())
                axis.errorbar(
                    [float(amount) for amount in mean.index], mean, errors, marker=".", capsize=3, label=name_of(name)
                )
            axis.set(xlabel=label)
        row[0].set_ylabel(f"{SETS[name_of_set].title}\ntest accuracy in %")
    axes[0, 0].legend(fontsize=9)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def disturbed_table(runs: pd.DataFrame) -> str:
    """Accuracy at the smallest and largest size, and with the most noise and blur: the first model and those drawn beside it."""
    first, *others = [name for name in in_order(runs) if name not in OTHER_FUSIONS]
    lines = [
        f"| | | {short_name(first)} | compared with | its accuracy | difference in points | 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for (name_of_set, disturbance), name in product(product(runs["set"].unique(), DISTURBANCES), others):
        here = runs[runs["set"] == name_of_set].set_index(["model", "seed"])["disturbed"]
        ours, theirs = (
            pd.DataFrame({seed: run[disturbance] for seed, run in here.get(key, pd.Series()).items()}).T * 100
            for key in (first, name)
        )
        amounts = [amount for amount in ours if amount in theirs]  # trained models may have other sizes
        for amount in [*amounts[:1], *amounts[-1:]] if disturbance == "size" else amounts[-1:]:
            difference = (theirs[amount] - ours[amount]).dropna()
            cells = [SETS[name_of_set].title, f"{disturbance} {amount}", percent(ours[amount].mean()), name_of(name)]
            cells += [percent(theirs[amount].mean()), signed(difference.mean()), bounds(difference, signed)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write_report(results: dict[str, Any], path: Path, is_page: bool) -> None:
    """Prints the tables, and draws the pictures: into docs/ with its page, or beside the file of results."""
    if not results["runs"]:
        raise SystemExit(f"error: {path} has no runs yet. Leave --parts away, or name `runs`.")
    runs = runs_table(results)
    places = {"recipes": recipes_table({name: results["settings"][name] for name in runs["set"].unique()})}
    for name in runs["set"].unique():
        here = runs[runs["set"] == name]
        steps = results["steps"].get(name, {"seconds": {}})["seconds"]
        larger_class = (
            f"Always naming the most frequent class would be right in {percent(100 * here['larger_class'].iloc[0])}."
        )
        places[name] = f"{table(here, steps)}\n\n{verdicts(here)}\n\n{larger_class}"
    places["disturbed"] = disturbed_table(runs)
    machines = dict.fromkeys([*runs["machine"], *(steps["machine"] for steps in results["steps"].values())])
    places["machine"] = "\n\n".join(machines)
    for place, text in places.items():
        print(f"\n{place}\n{text}")
    folder = RESULTS if is_page else path.parent
    draw_learning(runs, folder / "learning.png")
    draw_disturbed(runs, folder / "learning_disturbed.png")
    if is_page:
        print(f"wrote {fill('learning.md', places)}")
