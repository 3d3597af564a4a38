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
Times CrossViT here against timm's, transformers' wrapper around that, and ViT and DeiT of the same size, in every way of running it.
Writes docs/speed.md, its pictures, and the table in the README.

    make benchmark-speed                                   about 50 minutes on two CPU cores
    python benchmarks/speed.py --quick                     3 minutes; prints the tables and writes nothing
    python benchmarks/speed.py --only training loading     measures a part again
    python benchmarks/speed.py --device cuda               the same on a GPU, and CUDA graphs

Expected on the CPU: at least timm's speed in every row, and the fused form 1.05 times it or more.
"""

import argparse
import copy
import json
import math
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import timm
import torch
import transformers
from images import photos, pipeline_calls, processor_calls, save_timm_model
from measurements import Results, peak_bytes, this_machine
from pages import RESULTS, fill
from parity import timm_model
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm
from transformers import (
    AttentionInterface,
    DeiTConfig,
    DeiTForImageClassification,
    TimmWrapperForImageClassification,
    ViTConfig,
    ViTForImageClassification,
)
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from crossvit import CROSSVIT_VARIANTS, CrossViTConfig, CrossViTForImageClassification
from crossvit.benchmark import interleave, ratios, seconds_of, synchronize
from crossvit.deployment import FORMS
from crossvit.modeling_crossvit import CrossViTFusion, CrossViTSelfAttention


VARIANTS = ("crossvit_tiny_240", "crossvit_small_240", "crossvit_18_dagger_240", "crossvit_base_240")
BATCHES = {"cpu": (1, 4, 8, 32), "cuda": (1, 8, 32, 256)}
TRAINING_BATCH = {"cpu": 8, "cuda": 256}
MODE_BATCHES = {"cpu": (1, 8), "cuda": (1, 256)}

# The ordinary function under a name that the model does not know: its cross-attentions then have keys and values of all tokens.
AttentionInterface.register("sdpa_with_keys", sdpa_attention_forward)


def multiply_adds_by_operation(call: Callable[[], Any]) -> dict[str, int]:
    """The multiply-adds of the matrix products and convolutions in a call, such as `{"aten.addmm": 5530000}`."""

    def attention(query, key, value, *args, **kwargs) -> int:
        batch, heads, queries, width = query
        return 2 * batch * heads * queries * key[2] * (width + value[3])

    # PyTorch's counter does not know this operation, as attention is called on a CPU.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        call()
    return {str(operation): flops // 2 for operation, flops in counter.get_flop_counts()["Global"].items()}


def multiply_adds(call: Callable[[], Any]) -> int:
    return sum(multiply_adds_by_operation(call).values())


class Contenders:
    """The models of one variant with the same random weights, on one device."""

    def __init__(self, variant: str, device: str, dtype: torch.dtype = torch.float32):
        self.device, self.dtype = device, dtype
        reference = timm_model(variant)
        with tempfile.TemporaryDirectory() as folder:
            save_timm_model(reference, Path(folder))
            self.wrapper = self.ready(TimmWrapperForImageClassification.from_pretrained(folder))
            self.here = self.ready(CrossViTForImageClassification.from_pretrained(folder))
        self.timm = self.ready(reference)

    def ready(self, model: torch.nn.Module) -> Any:
        return model.eval().to(self.device, self.dtype)

    def images(self, batch: int, size: int | None = None) -> torch.Tensor:
        size = size or self.here.config.image_size
        return torch.randn(batch, 3, size, size, device=self.device, dtype=self.dtype)

    def of_the_same_size(self, model_class: type, config_class: type) -> Any:
        """Another architecture with the width and the heads of the large branch, and its own default of 12 layers."""
        config = self.here.config
        sizes = {
            "hidden_size": config.hidden_sizes[-1],
            "intermediate_size": 4 * config.hidden_sizes[-1],
            "num_attention_heads": config.num_attention_heads[-1],
            "num_labels": config.num_labels,
        }
        return self.ready(model_class(config_class(**sizes)))

    @property
    def fused(self) -> CrossViTForImageClassification:
        return copy.deepcopy(self.here).fuse_for_inference()


def without_gradients(model: torch.nn.Module, images: torch.Tensor) -> Callable[[], Any]:
    def call() -> Any:
        with torch.inference_mode():
            return model(images)

    return call


def matrix_product(device: str, dtype: torch.dtype) -> dict[str, Callable[[], Any]]:
    """The product of two large matrices, as `nn.Linear` computes it, and on a CPU also with the weight in the layout of oneDNN."""
    size = 2048 if device == "cpu" else 8192
    tokens, weight = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    calls = {"matrix product": lambda: torch.nn.functional.linear(tokens, weight)}
    if device == "cpu" and torch.backends.mkldnn.is_available():
        packed = torch.ops.mkldnn._reorder_linear_weight(weight)
        calls["packed matrix product"] = lambda: torch.ops.mkldnn._linear_pointwise(
            tokens, packed, None, "none", [], ""
        )
    return calls


Case = tuple[str, str, int, dict[str, Callable[[], Any]], dict[str, Any]]


def inference(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """Work, variant, batch, the contenders' calls, and what else belongs to the measurement."""
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        for variant in variants:
            models = Contenders(variant, device, dtype)
            fused = models.fused
            vit = models.of_the_same_size(ViTForImageClassification, ViTConfig)
            deit = models.of_the_same_size(DeiTForImageClassification, DeiTConfig)
            for batch in batches:
                images = models.images(batch)
                small_images = models.images(batch, 224)
                calls = {
                    "timm": without_gradients(models.timm, images),
                    "TimmWrapper": without_gradients(models.wrapper, images),
                    "ViT": without_gradients(vit, small_images),
                    "DeiT": without_gradients(deit, small_images),
                    "here": without_gradients(models.here, images),
                    "here, fused": without_gradients(fused, images),
                    **matrix_product(device, dtype),
                }
                counted = {
                    "here": multiply_adds(calls["here"]),
                    "matrix product": multiply_adds(calls["matrix product"]),
                }
                yield f"inference {name}", variant, batch, calls, {"multiply_adds": counted}


# What an operation belongs to, by a part of its name. All else is "rest".
KINDS = {
    "linear": "matrix products", "addmm": "matrix products", "bmm": "matrix products", "convolution": "matrix products",
    "scaled_dot_product": "self-attention", "layer_norm": "LayerNorm", "bicubic": "resize",
}  # fmt: skip


def sum_by_kind(values: dict[str, float]) -> dict[str, float]:
    """Numbers of operations, summed by what the operations belong to."""
    sums: dict[str, float] = dict.fromkeys([*KINDS.values(), "rest"], 0)
    for operation, value in values.items():
        sums[next((kind for part, kind in KINDS.items() if part in operation), "rest")] += value
    return sums


def profile(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """Where the time of the fused form goes, in float32 on a CPU. A large matrix product takes turns with it."""
    for variant in variants if device == "cpu" else ():
        models = Contenders(variant, device)
        for batch in sorted({1, max(batch for batch in batches if batch <= 8)}):
            images = models.images(batch)
            fused = without_gradients(models.fused, images)
            products = matrix_product(device, torch.float32)
            seconds: Counter[str] = Counter()
            durations: dict[str, list[float]] = {name: [] for name in products}
            fused()  # It prepares its weights.
            for _ in range(10):
                with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
                    fused()
                for event in profiler.key_averages():
                    seconds[event.key] += event.self_cpu_time_total / 1e7
                for name, call in products.items():
                    durations[name].append(seconds_of(call))
            product = min(products, key=lambda name: statistics.mean(durations[name]))
            yield (
                "profile",
                variant,
                batch,
                {},
                {
                    "seconds_by_kind": {kind: float(f"{value:.4g}") for kind, value in sum_by_kind(seconds).items()},
                    # Counted in the ordinary form, because PyTorch's counter does not know oneDNN's operation.
                    "multiply_adds": sum_by_kind(multiply_adds_by_operation(without_gradients(models.here, images))),
                    "matrix_product": {
                        "multiply_adds": multiply_adds(products["matrix product"]),
                        "seconds": statistics.mean(durations[product]),
                    },
                },
            )


def training_step(
    model: torch.nn.Module, images: torch.Tensor, loss_of: Callable[..., torch.Tensor], autocast: bool = False
) -> Callable[[], None]:
    """Forward pass, backward pass and optimizer; with autocast, if it is asked for, to bfloat16."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    labels = torch.arange(len(images), device=images.device) % 1000

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=autocast):
            loss = loss_of(model, images, labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def timm_loss(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.cross_entropy(model(images), labels)


def own_loss(model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return model(pixel_values=images, labels=labels).loss


def training(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """In float32 on a CPU, and with autocast to bfloat16."""
    for name in ("float32", "bfloat16") if device == "cpu" else ("bfloat16",):
        for variant in variants:
            models, batch = Contenders(variant, device), TRAINING_BATCH[device]
            images = models.images(batch)
            with_keys = copy.deepcopy(models.here)
            with_keys.set_attn_implementation("sdpa_with_keys")
            step_of = partial(training_step, images=images, autocast=name == "bfloat16")
            calls = {
                "timm": step_of(models.timm, loss_of=timm_loss),
                "TimmWrapper": step_of(models.wrapper, loss_of=own_loss),
                "here": step_of(models.here, loss_of=own_loss),
                "here, with keys": step_of(with_keys, loss_of=own_loss),
            }
            yield f"training {name}", variant, batch, calls, {}


def with_graphs(model: torch.nn.Module) -> Callable[..., Any]:
    return torch.compile(model, dynamic=False, fullgraph=True, mode="reduce-overhead")


def with_flash_attention(model: torch.nn.Module) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with sdpa_kernel(SDPBackend.FLASH_ATTENTION):
            return model(*args, **kwargs)

    return call


def modes(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """The deployed forms of crossvit.deployment, beside timm's model as it is and compiled. The first call of each is timed too."""
    on_gpu = {"CUDA graphs": with_graphs, "flash attention": with_flash_attention}
    for variant in variants[:2]:
        models = Contenders(variant, device, torch.bfloat16 if device == "cuda" else torch.float32)
        calibration = models.images(16)
        for batch in MODE_BATCHES[device]:
            images = models.images(batch)

            def of_timm(change: Callable[[Any], Any], images=images, models=models) -> Callable[[], Any]:
                return without_gradients(change(copy.deepcopy(models.timm)), images)

            makers = {"timm": partial(of_timm, lambda model: model), "timm, compiled": partial(of_timm, torch.compile)}
            for name, form in FORMS.items():
                if device == "cpu" or not (form.packages or "bfloat16" in name):
                    makers[f"here, {name}"] = lambda form=form: partial(
                        form.make(copy.deepcopy(models.here), calibration), images
                    )
            if device == "cuda":
                for name, change in on_gpu.items():
                    makers[f"timm, {name}"] = partial(of_timm, change)
                    makers[f"here, {name}"] = lambda change=change: without_gradients(
                        change(copy.deepcopy(models.here)), images
                    )
            calls, durations = {}, {}
            torch.compiler.reset()
            for name, make in makers.items():
                with torch.compiler.config.patch(force_disable_caches=True):
                    start = time.perf_counter()
                    calls[name] = make()
                    calls[name]()
                    synchronize()
                    durations[name] = time.perf_counter() - start
            yield "modes", variant, batch, calls, {"until_first_result": durations}


def loading(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """From a folder that timm wrote, and from one that this package wrote."""
    for variant in variants:
        with tempfile.TemporaryDirectory() as folder:
            save_timm_model(timm_model(variant), Path(folder) / "timm")
            CrossViTForImageClassification.from_pretrained(Path(folder) / "timm").save_pretrained(
                Path(folder) / "here"
            )
            calls = {
                "timm": lambda: timm.create_model(f"local-dir:{folder}/timm", pretrained=True),
                "TimmWrapper": lambda: TimmWrapperForImageClassification.from_pretrained(Path(folder) / "timm"),
                "here": lambda: CrossViTForImageClassification.from_pretrained(Path(folder) / "timm"),
                "here, own folder": lambda: CrossViTForImageClassification.from_pretrained(Path(folder) / "here"),
            }
            yield "loading", variant, 1, calls, {}


def images(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """The image processors on one thread, and the pipelines from JPEG files to labels; both with the tiny model."""
    with tempfile.TemporaryDirectory() as folder:
        weights = save_timm_model(timm_model("crossvit_tiny_240"), Path(folder) / "timm")
        pictures = photos()
        threads = torch.get_num_threads()
        for kind, calls in processor_calls(pictures, weights).items():
            torch.set_num_threads(1)
            yield f"processors, {kind}", "crossvit_tiny_240", len(pictures), calls, {}
            torch.set_num_threads(threads)
        for index, photo in enumerate(64 * pictures):
            photo.save(Path(folder) / f"{index}.jpg")
        yield "pipeline", "crossvit_tiny_240", 64 * len(pictures), pipeline_calls(Path(folder), weights), {}


def memory(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """The peak bytes of a forward pass without gradients and of a training step. Nothing is timed."""
    for variant in variants:
        models, batch = Contenders(variant, device), TRAINING_BATCH[device]
        images = models.images(batch)
        forward = {"timm": models.timm, "here": models.here, "here, fused": models.fused}
        calls = {name: without_gradients(model, images) for name, model in forward.items()}
        for call in calls.values():
            call()  # The fused form prepares its weights in the first call.
        yield (
            "memory of inference",
            variant,
            batch,
            {},
            {"bytes": {name: peak_bytes(call) for name, call in calls.items()}},
        )
        steps = {
            "timm": training_step(models.timm, images, timm_loss, autocast=device == "cuda"),
            "here": training_step(models.here, images, own_loss, autocast=device == "cuda"),
        }
        for step in steps.values():
            step()  # The optimizer makes its state in the first step.
        yield (
            "memory of training",
            variant,
            batch,
            {},
            {"bytes": {name: peak_bytes(step) for name, step in steps.items()}},
        )


class AllAttention(torch.nn.Module):
    """
    The fusion that the paper compares with cross-attention (Fig. 3a): the tokens of both branches, at the width of the large one, all
    attend to each other.
    """

    def __init__(self, config: CrossViTConfig):
        super().__init__()
        small, large = config.hidden_sizes
        self.projection, self.back = torch.nn.Linear(small, large), torch.nn.Linear(large, small)
        self.layernorm = torch.nn.LayerNorm(large)
        self.attention = CrossViTSelfAttention(config, branch=1)

    def forward(self, small: torch.Tensor, large: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        tokens = torch.cat((self.projection(small), large), dim=1)  # (B, T of both, C of the large branch)
        tokens = tokens + self.attention(self.layernorm(tokens))[0]
        return self.back(tokens[:, : small.shape[1]]), tokens[:, small.shape[1] :]


def fusion(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """One stage's fusion of CrossViT-S for larger and larger images; the "batch" of these measurements is the size in pixels."""
    for size in (240, 360, 480, 600, 720, 840, 960):
        config = CrossViTConfig(image_sizes=(size, size * 224 // 240))
        config._attn_implementation = "sdpa"
        tokens = [
            torch.randn(1, 1 + math.prod(config.branch_grid_size(branch)), config.hidden_sizes[branch], device=device)
            for branch in range(2)
        ]
        cross = [CrossViTFusion(config, branch, 0.0).eval().to(device) for branch in range(2)]
        attend_to_all = AllAttention(config).eval().to(device)

        def cross_attention(cross=cross, tokens=tokens) -> Any:
            with torch.inference_mode():
                return cross[0](*tokens), cross[1](*reversed(tokens))

        def all_attention(attend_to_all=attend_to_all, tokens=tokens) -> Any:
            with torch.inference_mode():
                return attend_to_all(*tokens)

        calls = {"all-attention": all_attention, "cross-attention": cross_attention}
        yield (
            "fusion",
            "crossvit_small_240",
            size,
            calls,
            {"bytes": {name: peak_bytes(call) for name, call in calls.items()}},
        )


WORKS = {
    "images": images,  # first, because a process that has grown starts the workers of a pipeline slowly
    "inference": inference,
    "profile": profile,
    "training": training,
    "modes": modes,
    "loading": loading,
    "memory": memory,
    "fusion": fusion,
}


# The page


def cell(row: dict[str, Any], name: str, reference: str = "timm") -> str:
    """The ratio of a contender, with the quartiles over the rounds."""
    if name not in row["seconds"]:
        return ""
    median, below, above = ratios(row["seconds"][name], row["seconds"][reference])
    return f"{median:.2f} ({below:.2f} to {above:.2f})"


def throughput(row: dict[str, Any], name: str) -> str:
    images_per_second = row["batch"] / statistics.median(row["seconds"][name])
    return f"{images_per_second:.0f}" if images_per_second >= 100 else f"{images_per_second:.1f}"


def fraction_of_peak(row: dict[str, Any], name: str) -> str:
    """The multiply-adds per second of a forward pass, as a part of those of the faster matrix product in the same rounds."""
    counts = row["multiply_adds"]
    products = [product for product in ("matrix product", "packed matrix product") if product in row["seconds"]]
    work = counts["here"] / counts["matrix product"]
    return f"{work * min(ratios(row['seconds'][name], row['seconds'][product])[0] for product in products):.0%}"


def table(header: str, rows: Iterable[Iterable[Any]]) -> str:
    columns, rows = header.count("|") - 1, list(rows)
    if not rows:
        return "Not measured on this machine yet."
    return "\n".join([header, "|" + "---|" * columns, *("| " + " | ".join(map(str, row)) + " |" for row in rows)])


def ratio_table(results: Results, work: str, names: Iterable[str]) -> str:
    rows = [
        [f"`{row['variant']}`", row["batch"], throughput(row, "timm"), *(cell(row, name) for name in names)]
        for row in results.of(work)
    ]
    return table("| model | batch | timm, images per second | " + " | ".join(names) + " |", rows)


def inference_table(results: Results, dtype: str) -> str:
    names = ("TimmWrapper", "ViT", "DeiT", "here", "here, fused")
    rows = [
        [
            f"`{row['variant']}`",
            row["batch"],
            throughput(row, "timm"),
            *(cell(row, name) for name in names),
            fraction_of_peak(row, "timm"),
            fraction_of_peak(row, "here, fused"),
        ]
        for row in results.of(f"inference {dtype}")
    ]
    header = "| model | batch | timm, images per second | " + " | ".join(names) + " | timm, of peak | fused, of peak |"
    return table(header, rows)


def profile_table(results: Results) -> str:
    """The part of the time that each kind of operation takes, and, where it multiplies, the part of the peak that it reaches."""
    kinds = [*dict.fromkeys(KINDS.values()), "rest"]
    rows = []
    for row in results.of("profile"):
        seconds, product = row["seconds_by_kind"], row["matrix_product"]
        peak = product["multiply_adds"] / product["seconds"]
        shares = [f"{seconds[kind] / sum(seconds.values()):.0%}" for kind in kinds]
        for index, kind in enumerate(kinds):
            if row["multiply_adds"][kind]:
                shares[index] += f" (at {row['multiply_adds'][kind] / seconds[kind] / peak:.0%} of the peak)"
        rows.append([f"`{row['variant']}`", row["batch"], *shares])
    return table("| model | batch | " + " | ".join(kinds) + " |", rows)


def summary_table(results: Results) -> str:
    """The table of the README."""
    rows = []
    training_rows = {row["variant"]: row for row in results.of("training float32")}
    for row in results.of("inference float32"):
        if row["batch"] == 8 and (step := training_rows.get(row["variant"])):
            rows.append(
                [
                    f"`{row['variant']}`",
                    *(
                        f"{ratios(row['seconds'][name], row['seconds']['timm'])[0]:.2f}"
                        for name in ("TimmWrapper", "here", "here, fused")
                    ),
                    *(
                        f"{ratios(step['seconds'][name], step['seconds']['timm'])[0]:.2f}"
                        for name in ("TimmWrapper", "here")
                    ),
                ]
            )
    return table("| model | inference: TimmWrapper | here | here, fused | training: TimmWrapper | here |", rows)


def modes_table(results: Results) -> str:
    rows = [
        [f"`{row['variant']}`", row["batch"], name, cell(row, name), f"{row['until_first_result'][name]:.1f} s"]
        for row in results.of("modes")
        for name in row["seconds"]
    ]
    return table("| model | batch | form | times timm's speed | until the first result |", rows)


def loading_table(results: Results) -> str:
    names = ("TimmWrapper", "here", "here, own folder")
    rows = [
        [
            f"`{row['variant']}`",
            f"{statistics.median(row['seconds']['timm']):.2f} s",
            *(cell(row, name) for name in names),
        ]
        for row in results.of("loading")
    ]
    return table("| model | timm | " + " | ".join(names) + " |", rows)


def time_per_image(row: dict[str, Any], name: str) -> str:
    return f"{1e3 * statistics.median(row['seconds'][name]) / row['batch']:.1f} ms"


def images_table(results: Results, work: str, reference: str) -> str:
    rows = [
        [row["work"].removeprefix("processors, "), name, time_per_image(row, name), cell(row, name, reference)]
        for row in results.measurements
        if row["work"].startswith(work)
        for name in row["seconds"]
    ]
    return table(f"| work | by | per image | times the speed of {reference} |", rows)


def memory_table(results: Results) -> str:
    rows = [
        [f"`{row['variant']}`", work.removeprefix("memory of "), row["batch"]]
        + [
            f"{row['bytes'][name] / 2**20:.0f}" if name in row["bytes"] else ""
            for name in ("timm", "here", "here, fused")
        ]
        for work in ("memory of inference", "memory of training")
        for row in results.of(work)
    ]
    return table("| model | work | batch | timm, MiB | here | here, fused |", rows)


def draw_fusion(results: Results, path: Path) -> None:
    """Time and memory of one stage's fusion against the size of the image."""
    rows = sorted(results.of("fusion"), key=lambda row: row["batch"])
    sizes = [row["batch"] for row in rows]
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for axis, unit, values in (
        (axes[0], "milliseconds", lambda row, name: 1e3 * statistics.median(row["seconds"][name])),
        (axes[1], "MiB at the peak", lambda row, name: row["bytes"][name] / 2**20),
    ):
        for name, marker in (("all-attention", "s"), ("cross-attention", "o")):
            axis.plot(sizes, [values(row, name) for row in rows], marker=marker, label=name)
        axis.set(xlabel="height and width of the image in pixels", ylabel=unit, xticks=sizes, yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=130)
    plt.close(figure)


def saved_sentence() -> str:
    """What the cross-attention saves, counted without computing anything."""
    with torch.device("meta"):
        model = CrossViTForImageClassification(CrossViTConfig.from_variant("crossvit_small_240")).eval()
        images = torch.empty(1, 3, 240, 240)
    counts = []
    for implementation in ("sdpa", "sdpa_with_keys"):
        model.set_attn_implementation(implementation)
        counts.append(multiply_adds(lambda: model(images)))
    return f"Of the multiply-adds of `crossvit_small_240`, {1 - counts[0] / counts[1]:.1%} disappear."


def machine_sentence(results: Results) -> str:
    machine = results.machine
    versions = ", ".join(
        f"{package} {number}" for package, number in machine["versions"].items() if package != "Python"
    )
    where = f"{machine['device']} with {machine['processor']}" if machine["device"] != "CPU" else machine["processor"]
    return (
        f"Measured by `python benchmarks/speed.py` with {versions} and Python {machine['versions']['Python']} on this processor: {where}, "
        f"{machine['threads']} threads, with {', '.join(machine['instructions'])}."
    )


def tables_of(results: Results, device: str) -> dict[str, dict[str, str]]:
    """What was measured, by page and place."""
    tables = {
        "machine": machine_sentence(results),
        "inference float32": inference_table(results, "float32"),
        "inference bfloat16": inference_table(results, "bfloat16"),
        **{
            f"training {name}": ratio_table(results, f"training {name}", ("TimmWrapper", "here", "here, with keys"))
            for name in (("float32", "bfloat16") if device == "cpu" else ("bfloat16",))
        },
        "modes": modes_table(results),
    }
    if device == "cuda":
        return {"speed.md": {f"gpu {place}": text for place, text in tables.items()}}
    summary = summary_table(results)
    own = {
        "saved": saved_sentence(),
        "summary": summary,
        "profile": profile_table(results),
        "loading": loading_table(results),
        "memory": memory_table(results),
    }
    images = {
        "machine": machine_sentence(results),
        "processors": images_table(results, "processors", "timm"),
        "pipeline": images_table(results, "pipeline", "TimmWrapper, default"),
    }
    return {"speed.md": {**tables, **own}, "images.md": images, "../README.md": {"speed": summary}}


def write_pages(results: Results, device: str) -> None:
    for page, places in tables_of(results, device).items():
        print(f"wrote {fill(page, places)}")
    if device == "cpu":
        draw_fusion(results, RESULTS / "speed_fusion.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--quick", action="store_true", help="the smallest model, few rounds, no compilation; nothing is written"
    )
    parser.add_argument("--only", nargs="+", choices=list(WORKS), help="the parts to measure, by default all")
    parser.add_argument("--variants", nargs="+", default=VARIANTS, choices=list(CROSSVIT_VARIANTS))
    parser.add_argument("--batches", nargs="+", type=int, help="the batch sizes of inference")
    parser.add_argument(
        "--seconds", type=float, default=20, help="how long each comparison takes, at least five rounds"
    )
    parser.add_argument(
        "--results",
        type=Path,
        help="the JSON file, by default docs/results/speed_cpu.json or docs/results/speed_cuda.json",
    )
    parser.add_argument("--page", action="store_true", help="measure nothing, and write the page from the results")
    arguments = parser.parse_args()
    device = arguments.device
    parts = arguments.only or [name for name in WORKS if not (arguments.quick and name == "modes")]
    variants, batches = arguments.variants, arguments.batches or BATCHES[device]
    with tempfile.TemporaryDirectory() as temporary:
        path = arguments.results or RESULTS / f"speed_{device}.json"
        if arguments.quick:
            path, variants, batches, arguments.seconds = Path(temporary) / "quick.json", VARIANTS[:1], (1, 8), 2
        machine = json.loads(path.read_text())["machine"] if arguments.page else this_machine(device)
        try:
            results = Results(path, machine)
        except ValueError as error:
            raise SystemExit(str(error)) from None
        transformers.utils.logging.disable_progress_bar()
        for name in [] if arguments.page else tqdm(parts, desc="parts"):
            for work, variant, batch, calls, values in tqdm(
                WORKS[name](device, variants, batches), desc=name, leave=False
            ):
                times = interleave(calls, arguments.seconds) if calls else {}
                results.add(work, variant, batch, seconds=times, **values)
                shown = {
                    contender: f"{ratios(times[contender], times[next(iter(calls))])[0]:.2f}" for contender in calls
                }
                tqdm.write(f"{work}, {variant}, {batch}: {shown or values}")
        if arguments.quick:
            for place, text in tables_of(results, device)["speed.md"].items():
                print(f"\n{place}\n\n{text}")
        elif not arguments.results:
            write_pages(results, device)


if __name__ == "__main__":
    main()
