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
Runs the commands of docs/using_a_model.md on the digits of the quickstart and its model, measures how far the maps of crossvit.explain can be
trusted, and fills the page and its pictures:

    python benchmarks/using_a_model.py          4 minutes, after `make quickstart`

What the page says about load comes from docs/results/using_a_model_load.json, which batch_load.py and demo_load.py write.
"""

import argparse
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from pages import DOCS, RESULTS, fill, measured_by
from scipy.stats import bootstrap
from tqdm import tqdm
from transformers.image_utils import load_image

from crossvit import explain
from crossvit.deployment import load_for_deployment


ROOT = Path(__file__).parents[1]
QUICKSTART = Path("outputs/quickstart")
SHORT = Path("outputs/quickstart_short")
PICTURES = {
    "outputs/evaluation/evaluation.png": "using_a_model_evaluation.png",
    "outputs/search/nearest.png": "using_a_model_search.png",
}
BATCH = 50
Curves = dict[str, np.ndarray]


def random_maps(model, pixel_values: torch.Tensor) -> explain.Maps:
    """Maps that know nothing, with the grids of the others."""
    return [torch.rand_like(values) for values in explain.attention_maps(model, pixel_values)]


METHODS = {**explain.METHODS, "random": random_maps}


def measure(model, pixel_values: torch.Tensor) -> dict[str, Curves]:
    """The curves "deletion" and "insertion" of each method, (N, steps + 1)."""
    curves = {}
    for name, method in METHODS.items():
        torch.manual_seed(0)
        parts = []
        for batch in tqdm(pixel_values.split(BATCH), desc=name):
            importance = explain.over_image(method(model, batch), tuple(batch.shape[-2:]))
            parts.append(explain.deletion_and_insertion(model, batch, importance))
        curves[name] = {kind: torch.cat([part[kind] for part in parts]).numpy() for kind in parts[0]}
    return curves


def mean_with_interval(values: np.ndarray) -> str:
    interval = bootstrap((values,), np.mean, method="percentile", random_state=0).confidence_interval
    return f"{values.mean():.3f} ({interval.low:.3f} to {interval.high:.3f})"


def table(curves: dict[str, Curves]) -> str:
    """The mean of each curve over its steps, which is the area below it, and then over the images."""
    lines = ["| map | deletion (lower is better) | insertion (higher is better) |", "|---|---|---|"]
    for name, both in curves.items():
        cells = [mean_with_interval(both[kind].mean(axis=1)) for kind in ("deletion", "insertion")]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")
    return "\n".join(lines)


def draw(curves: dict[str, Curves], path: Path):
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained", sharey=True)
    for axis, kind in zip(axes, ("deletion", "insertion")):
        for name, both in curves.items():
            mean = both[kind].mean(axis=0)
            style = {"color": "grey", "linestyle": "--"} if name == "random" else {}
            axis.plot(np.linspace(0, 100, len(mean)), mean, label=name, **style)
        axis.set(title=kind, xlabel="part of the pixels, in percent", ylim=(0, 1))
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("probability of the class")
    axes[0].legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run_commands() -> dict[str, str]:
    """Runs the commands of the page that call examples, and returns what each script printed."""
    page = (DOCS / "using_a_model.md").read_text(encoding="utf-8")
    printed = {}
    for block in re.findall(r"```bash\n(python examples/(?!demo).*?)```", page, re.S):
        _, script, *arguments = shlex.split(block.replace("\\\n", ""))
        print(f"{script} {' '.join(arguments)}")
        result = subprocess.run(
            [sys.executable, script, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
        printed[Path(script).stem] = result.stdout.strip()
    return printed


def as_text(printed: str) -> str:
    return f"```text\n{printed}\n```"


def first_rows(folder: Path) -> str:
    """The first predictions, as a table. Long lists are cut off."""
    rows = pd.read_parquet(folder).sort_values("image").head(3)
    rows["image"] = [f".../{Path(image).name}" for image in rows["image"]]
    for column, form in (("labels", "{}"), ("scores", "{:.3f}")):
        rows[column] = [", ".join(map(form.format, values[:3])) + ", ..." for values in rows[column]]
    rows["score"] = rows["score"].map("{:.3f}".format)
    rows = rows.drop(columns="embedding").fillna("")
    lines = [rows.columns, ["---"] * rows.shape[1], *rows.to_numpy()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine_of(load: dict[str, Any], script: str) -> str:
    machine = load["machine"]
    versions = {
        name: number for name, number in machine["versions"].items() if name in ("torch", "transformers", "ray")
    }
    named = ", ".join(f"{name} {number}" for name, number in versions.items())
    return (
        f"Measured by `python benchmarks/{script}` with {named} on {machine['processor']}, {machine['cores']} cores."
    )


def hours(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours"


def batch_section(load: dict[str, Any]) -> str:
    """What happened to a job with faults, to one of ten minutes, and what a million images would cost."""
    faults, undisturbed, long = load["with faults"], load["undisturbed"], load["long"]
    rate, beside = long["images per second"], long["seconds beside"]
    return f"""{machine_of(load, "batch_load.py")} The photographs are those of elpv-dataset, 300 pixels wide; the model is
`{load["variant"]}` with random weights, because time and memory do not depend on them.

| job | files | rows at the end | of them with an error |
|---|---|---|---|
| without faults | {undisturbed["files given"]:,} | {undisturbed["rows"]:,} | {undisturbed["rows with an error"]} |
| a worker killed, then the whole job, then given again | {faults["files given"]:,} | {faults["rows at the end"]:,} | {undisturbed["rows with an error"]} |
| {long["seconds in all"] / 60:.0f} minutes long | {long["files given"]:,} | {long["rows"]:,} | {long["rows with an error"]} |

The second job had {faults["rows when the job was killed"]:,} rows when it was killed. At its end, {faults["missing"]} images had no row,
{faults["twice"]} had two, and {faults["with another label than without faults"]} labels differed from those of the first job; the largest difference of a score was
{faults["largest difference of a score"]:.1g}. Each job had a JPEG of 100 megapixels and a PNG named .jpg, which were classified, and
{load["files that are no images"]} files that are no images, whose rows have an error. The memory of all processes of the long job was
{long["MiB every 5 seconds"][0]:,} MiB after the first file and {long["MiB every 5 seconds"][-1]:,} MiB at the end; in the second half it changed by
{long["MiB per minute, second half"]:+.1f} MiB per minute.

**A million images** would take this machine {hours(beside + 1e6 / rate)}: {beside:.0f} seconds until the models are loaded, and {rate:.1f} images per second, as in
the long job. That assumes that all images are like these (PNG, 300 x 300 pixels, on a local disk), that nothing else runs on the machine,
and that the rate stays as it was for {long["seconds in all"] / 60:.0f} minutes. N such machines would take an Nth of the time if the files reach them as fast. The
predictions would take {long["bytes per row"] * 1e6 / 2**20:.0f} MiB, without embeddings."""


def demo_section(load: dict[str, Any]) -> str:
    """What happened when many visitors came at once, and in ten minutes."""
    rows = {"at once": load["at once"], f"{load['steady']['seconds'] / 60:.0f} minutes": load["steady"]}
    lines = [
        "| requests | sent | answered right | refused in clear words | lost | median | 95th percentile |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        pace = f", {row['requests per second']} per second" if "requests per second" in row else ""
        counts = " | ".join(str(row[key]) for key in ("sent", "right", "refused in clear words", "lost"))
        times = " | ".join(f"{row[key]:.2f} s" for key in ("median seconds", "95th percentile seconds"))
        lines.append(f"| {name}{pace} | {counts} | {times} |")
    table = "\n".join(lines)
    return f"""{machine_of(load, "demo_load.py")}

{table}

Among the files were JPEGs of 100 megapixels, PNGs named .jpg, JPEGs that break off, and texts named .jpg. "Right" are answers with the numbers
that the model gives directly. The memory was {load["MiB after warm-up"]:,} MiB before and {load["MiB at the end"]:,} MiB at the end; in the second half of the ten
minutes it changed by {load["MiB per minute, second half"]:+.1f} MiB per minute."""


def measure_commands() -> dict[str, str]:
    """What the commands of the page print, and what became of the load that other scripts put on them."""
    if not (SHORT / "model").exists():
        command = [sys.executable, "examples/quickstart.py", "--num_train_epochs", "4", "--output_dir", str(SHORT)]
        subprocess.run(command, cwd=ROOT, check=True)
    load = json.loads((RESULTS / "using_a_model_load.json").read_text(encoding="utf-8"))
    shutil.rmtree("outputs/predictions", ignore_errors=True)
    printed = run_commands()
    for written, name in PICTURES.items():
        shutil.copy(written, RESULTS / name)
    return {
        "evaluation": as_text(printed["evaluate_model"]),
        "batch rows": first_rows(Path("outputs/predictions/predictions")),
        "batch": batch_section(load["batch"]),
        "search": as_text(printed["search"]),
        "demo": demo_section(load["demo"]),
    }


def measure_maps() -> dict[str, str]:
    model, image_processor = load_for_deployment(str(QUICKSTART / "model"))
    paths = sorted((QUICKSTART / "digits" / "test").rglob("*.png"))
    pixel_values = image_processor([load_image(str(path)) for path in paths], return_tensors="pt").pixel_values
    curves = measure(model, pixel_values)
    draw(curves, RESULTS / "using_a_model_curves.png")
    explain.main([str(QUICKSTART / "model"), str(paths[0]), "--output", str(RESULTS / "using_a_model_why.png")])
    return {"trust": f"On {len(paths)} scanned digits:\n\n{table(curves)}"}


PARTS = {"commands": measure_commands, "maps": measure_maps}


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n\n")[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="by default all")
    arguments = parser.parse_args()
    if not (QUICKSTART / "model").exists():
        raise SystemExit(f"{QUICKSTART}/model is missing: run `make quickstart` first.")
    packages = ("torch", "transformers", "captum", "ray", "faiss-cpu")
    places = {"machine": measured_by("benchmarks/using_a_model.py", *packages)}
    for part in arguments.parts:
        places |= PARTS[part]()
    print(fill("using_a_model.md", places))


if __name__ == "__main__":
    main()
