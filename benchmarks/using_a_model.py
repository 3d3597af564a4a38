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
trusted, and fills the page and its pictures. The page's numbers about load come from batch_load.py and demo_load.py.

    python -m benchmarks.using_a_model          4 minutes, after `make quickstart`
"""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from scipy.stats import bootstrap
from tqdm import tqdm
from transformers.image_utils import load_image

from benchmarks.deletion_curves import deletion_and_insertion
from benchmarks.measurements import measured_by
from benchmarks.pages import QUICKSTART, RESULTS, ROOT, check_quickstart, fill, run_commands, table
from crossvit import explain
from crossvit.inference.backends import load_for_inference


PICTURES = {
    "outputs/evaluation/evaluation.png": "using_a_model_evaluation.png",
    "outputs/search/nearest.png": "using_a_model_search.png",
}
Curves = dict[str, np.ndarray]


def first_rows(folder: Path) -> str:
    """The first predictions, as a table. Long lists are cut off."""
    rows = pd.read_parquet(folder).sort_values("image").head(3)
    rows["image"] = [f".../{Path(image).name}" for image in rows["image"]]
    for column, form in (("labels", "{}"), ("scores", "{:.3f}")):
        rows[column] = [", ".join(map(form.format, values[:3])) + ", ..." for values in rows[column]]
    rows["score"] = rows["score"].map("{:.3f}".format)
    rows = rows.drop(columns="embedding").fillna("")
    return table(rows.columns, rows.to_numpy())


def random_maps(model, pixel_values: torch.Tensor) -> explain.Maps:
    """Maps that know nothing, with the grids of the others."""
    return [torch.rand_like(values) for values in explain.attention_maps(model, pixel_values)]


def measure_maps(model, pixel_values: torch.Tensor) -> dict[str, Curves]:
    """The curves "deletion" and "insertion" of each kind of map, (images, steps + 1)."""
    curves = {}
    for name, method in {**explain.METHODS, "random": random_maps}.items():
        torch.manual_seed(0)
        parts = []
        for batch in tqdm(pixel_values.split(50), desc=name):
            importance = explain.over_image(method(model, batch), tuple(batch.shape[-2:]))
            parts.append(deletion_and_insertion(model, batch, importance))
        curves[name] = {kind: torch.cat([part[kind] for part in parts]).numpy() for kind in parts[0]}
    return curves


def trust_table(curves: dict[str, Curves]) -> str:
    """The mean of each curve over its steps, which is the area below it, and then over the images, with a 95 % interval."""

    def cell(values: np.ndarray) -> str:
        interval = bootstrap((values,), np.mean, method="percentile", random_state=0).confidence_interval
        return f"{values.mean():.3f} ({interval.low:.3f} to {interval.high:.3f})"

    heads = ("map", "deletion (lower is better)", "insertion (higher is better)")
    kinds = ("deletion", "insertion")
    return table(heads, ([name, *(cell(both[kind].mean(axis=1)) for kind in kinds)] for name, both in curves.items()))


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


def main():
    check_quickstart()
    shutil.rmtree(ROOT / "outputs" / "predictions", ignore_errors=True)
    printed = {script: f"```text\n{text}\n```" for script, text in run_commands("using_a_model.md").items()}
    for written, name in PICTURES.items():
        shutil.copy(ROOT / written, RESULTS / name)

    model, image_processor = load_for_inference(str(ROOT / QUICKSTART / "model"))
    paths = sorted((ROOT / QUICKSTART / "digits" / "test").rglob("*.png"))
    pixel_values = image_processor([load_image(str(path)) for path in paths], return_tensors="pt").pixel_values
    curves = measure_maps(model, pixel_values)
    draw(curves, RESULTS / "using_a_model_curves.png")
    picture = RESULTS / "using_a_model_why.png"
    explain.main([str(ROOT / QUICKSTART / "model"), str(paths[0]), "--output", str(picture)])
    packages = ("torch", "transformers", "captum", "ray", "faiss-cpu")
    places = {
        "machine": measured_by("benchmarks.using_a_model", *packages),
        "evaluation": printed["evaluate_model"],
        "batch rows": first_rows(ROOT / "outputs" / "predictions" / "predictions"),
        "search": printed["search"],
        "trust": trust_table(curves),
    }
    print(fill("using_a_model.md", places))


if __name__ == "__main__":
    main()
