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
Times CrossViT here, in its ordinary form and as `crossvit.optimize` returns it, against timm's CrossViT, transformers' wrapper around that,
and a ViT of the same width. Fills the tables of docs/speed.md and that of the README.

    python -m benchmarks.speed                     at most 15 minutes on two CPU cores
    python -m benchmarks.speed --quick             2 minutes: the smallest model; prints the tables and writes nothing
    python -m benchmarks.speed --only training     measures a part again
    python -m benchmarks.speed --page              measures nothing, and fills the pages from the file of results

`python -m benchmarks.check_gpu` measures a GPU. Expected on the CPU: about timm's speed in the ordinary form (at the smallest model and a batch of 1 up to 5 % less), and at least 1.06 of it in the
optimized form.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from tqdm import tqdm
from transformers import TimmWrapperForImageClassification, ViTConfig, ViTForImageClassification

from benchmarks.images import save_timm_model
from benchmarks.measurements import Results, machine_sentence, this_machine
from benchmarks.pages import RESULTS, fill, table
from benchmarks.parity import timm_model
from crossvit import CrossViTForImageClassification, optimize
from crossvit.inference.fastest import interleave, ratios


VARIANTS = ("crossvit_tiny_240", "crossvit_small_240", "crossvit_base_240")
BATCHES = (1, 8)
DTYPES = (torch.float32, torch.bfloat16)

Calls = dict[str, Callable[[], Any]]
Case = tuple[str, str, int, Calls]  # the work, the variant, the batch, and the call of each model


def load_models(variant: str, device: str, dtype: torch.dtype) -> dict[str, torch.nn.Module]:
    """timm's model, its wrapper, and ours in its ordinary form, with the same random weights."""
    reference = timm_model(variant)
    with tempfile.TemporaryDirectory() as folder:
        save_timm_model(reference, Path(folder))
        models = {
            "timm": reference,
            "TimmWrapper": TimmWrapperForImageClassification.from_pretrained(folder),
            "ordinary": CrossViTForImageClassification.from_pretrained(folder),
        }
    return {name: model.eval().to(device, dtype) for name, model in models.items()}


def vit_of_the_same_width(crossvit: CrossViTForImageClassification) -> ViTForImageClassification:
    """A ViT with the width and the heads of the large branch, and its own default of 12 layers and 224 pixels."""
    width, heads = crossvit.config.hidden_sizes[-1], crossvit.config.num_attention_heads[-1]
    config = ViTConfig(hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads, num_labels=1000)
    with crossvit.device:
        return ViTForImageClassification(config).eval().to(crossvit.dtype)


def random_images(model: torch.nn.Module, batch: int) -> torch.Tensor:
    # timm's model says its device and dtype by its parameters, and an optimized model has none.
    of = model if isinstance(model, transformers.PreTrainedModel) else next(model.parameters())
    size = model.config.image_size if isinstance(model, ViTForImageClassification) else 240
    return torch.randn(batch, 3, size, size, device=of.device, dtype=of.dtype)


def without_gradients(model: Callable[..., Any], images: torch.Tensor) -> Callable[[], Any]:
    def call() -> Any:
        with torch.inference_mode():
            return model(images)

    return call


def training_step(model: torch.nn.Module, images: torch.Tensor, autocast: bool = False) -> Callable[[], None]:
    """Forward pass, backward pass and AdamW; with autocast to bfloat16, if it is asked for."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    labels = torch.arange(len(images), device=images.device) % 1000

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            if isinstance(model, transformers.PreTrainedModel):
                loss = model(pixel_values=images, labels=labels).loss
            else:
                loss = torch.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def inference(variants: tuple[str, ...]) -> Iterator[Case]:
    for dtype in DTYPES:
        for variant in variants:
            models = load_models(variant, "cpu", dtype)
            models["optimized"] = optimize(models["ordinary"])
            models["ViT"] = vit_of_the_same_width(models["ordinary"])
            for batch in BATCHES:
                calls = {name: without_gradients(model, random_images(model, batch)) for name, model in models.items()}
                yield f"inference {name_of(dtype)}", variant, batch, calls


def training(variants: tuple[str, ...]) -> Iterator[Case]:
    """In float32, and with autocast to bfloat16."""
    for dtype in DTYPES:
        for variant in variants:
            models = load_models(variant, "cpu", torch.float32)
            for batch in BATCHES:
                images = random_images(models["timm"], batch)
                calls = {name: training_step(model, images, dtype == torch.bfloat16) for name, model in models.items()}
                yield f"training {name_of(dtype)}", variant, batch, calls


PARTS = {"inference": inference, "training": training}
COLUMNS = {
    "inference": ("TimmWrapper", "ViT", "ordinary", "optimized"),
    "training": ("TimmWrapper", "ordinary"),
}


# The pages


def ratio_table(rows: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    """How many times as fast as timm each model is: the median over the rounds, and the quartiles."""

    def cells(row: dict[str, Any]) -> Iterator[str]:
        timm = row["seconds"]["timm"]
        images_per_second = row["batch"] / statistics.median(timm)
        yield f"{images_per_second:.0f}" if images_per_second >= 100 else f"{images_per_second:.1f}"
        for name in names:
            measured = row["seconds"].get(name)
            yield "{:.2f} ({:.2f} to {:.2f})".format(*ratios(measured, timm)) if measured else ""

    heads = ("model", "batch", "timm, images per second", *names)
    return table(heads, ([f"`{row['variant']}`", row["batch"], *cells(row)] for row in rows))


def summary_table(*measured: tuple[str, Results]) -> str:
    """
    How many times as fast as timm in inference, at the smallest and the largest batch that were measured.

    Args:
        measured: The work that is shown and the results that have it.
    """
    names = ("ViT", "ordinary", "optimized")
    lines = []
    for work, results in measured:
        device = results.machine["device"]
        rows = sorted(results.of(work), key=lambda row: row["batch"])
        for row in rows:
            if row["variant"] not in VARIANTS or row["batch"] not in (rows[0]["batch"], rows[-1]["batch"]):
                continue
            medians = (ratios(row["seconds"][name], row["seconds"]["timm"])[0] for name in names)
            place = (device, work.split()[-1], row["batch"], f"`{row['variant']}`")
            lines.append([*place, *(f"{median:.2f}" for median in medians)])
    return table(("device", "numbers", "batch", "model", *names), lines)


def tables_of(results: Results) -> dict[str, str]:
    """What was measured, by place of docs/speed.md."""
    works = dict.fromkeys(row["work"] for row in results.rows)
    tables = {work: ratio_table(results.of(work), COLUMNS[work.split()[0]]) for work in works}
    return {"machine": machine_sentence("benchmarks.speed", results.machine), **tables}


def saved(device: str) -> Results:
    """The results of docs/results/, whichever machine they are of."""
    path = RESULTS / f"speed_{device}.json"
    return Results(path, json.loads(path.read_text(encoding="utf-8"))["machine"])


def write_readme() -> None:
    """The table of the README has both devices."""
    summary = summary_table(("inference float32", saved("cpu")), ("inference bfloat16", saved("gpu")))
    fill("../README.md", {"speed": summary})


def write_pages(results: Results) -> None:
    fill("speed.md", tables_of(results))
    write_readme()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quick", action="store_true", help="the smallest model and few rounds; nothing is written")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="the parts to measure, by default all")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=10, help="how long the rounds of a row take, at least five")
    parser.add_argument("--results", type=Path, help="by default docs/results/speed_cpu.json; with another file, the pages stay")  # fmt: skip
    parser.add_argument("--page", action="store_true", help="measure nothing, and fill the pages from the results")
    arguments = parser.parse_args()
    variants, seconds = VARIANTS, arguments.seconds
    with tempfile.TemporaryDirectory() as temporary:
        path = arguments.results or RESULTS / "speed_cpu.json"
        if arguments.quick:
            path, variants, seconds = Path(temporary) / "quick.json", VARIANTS[:1], 1
        if arguments.page:
            machine = json.loads(path.read_text())["machine"]
        else:
            machine = this_machine("torch", "transformers", "timm")
        try:
            results = Results(path, machine)
        except ValueError as error:
            raise SystemExit(f"error: {error}") from None
        transformers.utils.logging.disable_progress_bar()
        rows: dict[str, list[dict[str, Any]]] = {}
        for part in () if arguments.page else arguments.only:
            for work, variant, batch, calls in tqdm(PARTS[part](variants), desc=part):
                times = interleave(calls, seconds)
                rows.setdefault(work, []).append({"variant": variant, "batch": batch, "seconds": times})
        for work in rows:
            results.replace(work, rows[work])
        if arguments.quick:
            for place, text in tables_of(results).items():
                print(f"\n{place}\n\n{text}")
        elif not arguments.results:
            write_pages(results)


if __name__ == "__main__":
    main()
