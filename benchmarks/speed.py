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
    python benchmarks/speed.py --quick                     4 minutes; prints the tables and writes nothing
    python benchmarks/speed.py --only training loading     measures a part again
    python benchmarks/speed.py --device cuda               the same on a GPU, and CUDA graphs

Expected on the CPU: at least timm's speed in every row, and the fused form 1.05 times it or more.
"""

import argparse
import copy
import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import timm
import torch
from interleaving import Results, Times, interleave, ratios, seconds_of, this_machine
from pages import DOCS, fill
from parity import randomize_, timm_model
from timm.models._hub import save_for_hf
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

from crossvit import CrossViTConfig, CrossViTForImageClassification
from crossvit.checkpoints import convert_checkpoint


VARIANTS = ("crossvit_tiny_240", "crossvit_small_240", "crossvit_18_dagger_240", "crossvit_base_240")
BATCHES = {"cpu": (1, 4, 8, 32), "cuda": (1, 8, 32, 256)}
TRAINING_BATCH = {"cpu": 8, "cuda": 256}

# The ordinary function under a name that the model does not know: its cross-attentions then have keys and values of all tokens.
AttentionInterface.register("sdpa_with_keys", sdpa_attention_forward)


def multiply_adds(call: Callable[[], Any]) -> int:
    """The multiply-adds of all matrix products and convolutions in a call."""

    def attention(query, key, value, *args, **kwargs) -> int:
        batch, heads, queries, width = query
        return 2 * batch * heads * queries * key[2] * (width + value[3])

    # PyTorch's counter does not know this operation, as attention is called on a CPU.
    on_cpu = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with torch.no_grad(), FlopCounterMode(display=False, custom_mapping=on_cpu) as counter:
        call()
    return counter.get_total_flops() // 2


def save_timm_model(model: torch.nn.Module, folder: Path) -> None:
    """As timm saves it, but without the number of classes among the arguments, where transformers 5.24 fails on it."""
    save_for_hf(model, folder, safe_serialization=True)
    config = json.loads((folder / "config.json").read_text())
    config.get("model_args", {}).pop("num_classes", None)
    (folder / "config.json").write_text(json.dumps(config))


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
        config = self.here.config
        sizes = {
            "hidden_size": config.hidden_sizes[-1],
            "intermediate_size": 4 * config.hidden_sizes[-1],
            "num_attention_heads": config.num_attention_heads[-1],
            "num_labels": config.num_labels,
        }
        self.vit = self.ready(ViTForImageClassification(ViTConfig(**sizes)))
        self.deit = self.ready(DeiTForImageClassification(DeiTConfig(**sizes)))

    def ready(self, model: torch.nn.Module) -> Any:
        return model.eval().to(self.device, self.dtype)

    def images(self, batch: int, size: int | None = None) -> torch.Tensor:
        size = size or self.here.config.image_size
        return torch.randn(batch, 3, size, size, device=self.device, dtype=self.dtype)

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
            for batch in batches:
                images = models.images(batch)
                small_images = models.images(batch, 224)
                calls = {
                    "timm": without_gradients(models.timm, images),
                    "TimmWrapper": without_gradients(models.wrapper, images),
                    "ViT": without_gradients(models.vit, small_images),
                    "DeiT": without_gradients(models.deit, small_images),
                    "here": without_gradients(models.here, images),
                    "here, fused": without_gradients(fused, images),
                    **matrix_product(device, dtype),
                }
                counted = {
                    "here": multiply_adds(calls["here"]),
                    "matrix product": multiply_adds(calls["matrix product"]),
                }
                yield f"inference {name}", variant, batch, calls, {"multiply_adds": counted}


def training_step(
    model: torch.nn.Module, images: torch.Tensor, loss_of: Callable[..., torch.Tensor]
) -> Callable[[], None]:
    """Forward pass, backward pass and optimizer; on a GPU with autocast to bfloat16."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    labels = torch.arange(len(images), device=images.device) % 1000

    def step() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=images.is_cuda):
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
    for variant in variants:
        models, batch = Contenders(variant, device), TRAINING_BATCH[device]
        images = models.images(batch)
        with_keys = copy.deepcopy(models.here)
        with_keys.set_attn_implementation("sdpa_with_keys")
        calls = {
            "timm": training_step(models.timm, images, timm_loss),
            "TimmWrapper": training_step(models.wrapper, images, own_loss),
            "here": training_step(models.here, images, own_loss),
            "here, with keys": training_step(with_keys, images, own_loss),
        }
        yield "training", variant, batch, calls, {}


def compile_layers(model, **kwargs):
    """TEMPORARY"""
    for module in model.modules():
        if type(module).__name__ in ("CrossViTLayer", "CrossViTFusion"):
            module.compile(**kwargs)
    return model


def compiled(device: str, variants: tuple[str, ...], batches: tuple[int, ...]) -> Iterator[Case]:
    """The ways of `torch.compile`, on a GPU with CUDA graphs too. The first call of each is timed as well: it compiles."""
    for variant in variants:
        models = Contenders(variant, device, torch.bfloat16 if device == "cuda" else torch.float32)
        for batch in batches:
            images = models.images(batch)
            whole = {"dynamic": False, "fullgraph": True}
            forms = {
                "timm": models.timm,
                "timm, compiled": torch.compile(copy.deepcopy(models.timm), **whole),
                "here": models.here,
                "here, fused": models.fused,
                "here, compiled": torch.compile(copy.deepcopy(models.here), **whole),
                "here, layers compiled": compile_layers(copy.deepcopy(models.here), dynamic=False),
            }
            if device == "cuda":
                graphs = {**whole, "mode": "reduce-overhead"}
                forms["timm, CUDA graphs"] = torch.compile(copy.deepcopy(models.timm), **graphs)
                forms["here, CUDA graphs"] = torch.compile(copy.deepcopy(models.here), **graphs)
                with_keys = copy.deepcopy(models.here)
                with_keys.set_attn_implementation("sdpa_with_keys")
                forms["here, with keys"] = with_keys
            calls = {name: without_gradients(model, images) for name, model in forms.items()}
            torch.compiler.reset()
            with torch.compiler.config.patch(force_disable_caches=True):
                cold = {name: seconds_of(call) for name, call in calls.items()}
            yield "compiled", variant, batch, calls, {"first_call": cold}


WORKS = {"inference": inference, "training": training, "compiled": compiled}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="one small variant, few rounds, nothing is written")
    parser.add_argument("--only", nargs="+", choices=list(WORKS), default=list(WORKS), help="the parts to measure")
    parser.add_argument("--variants", nargs="+", default=VARIANTS)
    parser.add_argument("--batches", nargs="+", type=int)
    parser.add_argument("--seconds", type=float, default=20, help="how long each comparison may take")
    parser.add_argument("--results", type=Path, help="the JSON file")
    arguments = parser.parse_args()
    results = Results(arguments.results, this_machine(arguments.device))
    for name in arguments.only:
        for work, variant, batch, calls, values in WORKS[name](
            arguments.device, arguments.variants, arguments.batches or BATCHES[arguments.device]
        ):
            times = interleave(calls, arguments.seconds)
            results.add(work, variant, batch, seconds=times, **values)
            print(
                work,
                variant,
                batch,
                {name: [round(x, 3) for x in ratios(times, name, "timm")] for name in calls},
                values,
                flush=True,
            )


if __name__ == "__main__":
    main()
