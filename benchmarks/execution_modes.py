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
What every way of running the model changes in its numbers: attention implementations, gradient checkpointing, compilation,
export, half precision, quantisation, adapters, several processes. Writes docs/execution_modes.md.

    make quickstart                           the trained model whose labels are compared
    python benchmarks/execution_modes.py      about 6 minutes on two CPU cores

Expected: differences of float32 rounding, and the labels of the trained model in every precision. The tests in
tests/modeling_crossvit/test_execution_modes.py assert the limits below on the same measurements, with a smaller model.
"""

import argparse
import copy
import itertools
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import parallel
import timm
import torch
import torch._inductor.config
import transformers
from parity import randomize_, relative_difference
from peft import LoraConfig, get_peft_model
from PIL import Image
from sklearn.datasets import load_sample_image
from torchao.quantization import Int8DynamicActivationInt8WeightConfig
from tqdm import tqdm
from transformers import BitsAndBytesConfig, TorchAoConfig
from transformers.exporters import NNCFOnnxQuantizer, NNCFOpenVINOQuantizer, OnnxRuntimeQuantizer
from transformers.exporters.exporter_dynamo import DynamoConfig, DynamoExporter
from transformers.exporters.exporter_executorch import ExecutorchConfig, ExecutorchExporter
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter
from transformers.exporters.exporter_openvino import OpenVINOConfig, OpenVINOExporter

from crossvit import CrossViTBackbone, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.checkpoints import to_timm_state_dict


ROOT = Path(__file__).parent.parent
Model = CrossViTForImageClassification

BATCH = torch.export.Dim("batch", min=1, max=64)
# By default OpenVINO takes bfloat16 where the processor has it.
OPENVINO_FLOAT32 = {"config": {"INFERENCE_PRECISION_HINT": "f32"}}


def photos(image_size: int, count: int = 3) -> torch.Tensor:
    """Photos that ship with scikit-learn, (count, 3, image_size, image_size)."""
    china, flower = (Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
    images = [china, flower, *(china.rotate(10 * turn) for turn in range(1, count))][:count]
    return CrossViTImageProcessor.from_image_size(image_size)(images, return_tensors="pt").pixel_values


@torch.no_grad()
def logits(model: Model, pixel_values: torch.Tensor) -> torch.Tensor:
    return model(pixel_values).logits


def gradients(
    model: Model, pixel_values: torch.Tensor, call: Callable[..., torch.Tensor] | None = None
) -> list[torch.Tensor]:
    """Of the loss with respect to every parameter, in train mode and with the same random numbers each time."""
    torch.manual_seed(0)
    model.train().zero_grad()
    labels = torch.arange(len(pixel_values)) % model.num_labels
    (model if call is None else call)(pixel_values, labels=labels).loss.backward()
    return [parameter.grad.clone() for parameter in model.eval().parameters()]


def largest_difference(ours: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    """Over all tensors, relative to the largest value of all: some gradients are zero but for rounding."""
    scale = max(tensor.abs().max() for tensor in reference)
    return max(((a - b).abs().max() / scale).item() for a, b in zip(ours, reference, strict=True))


def attention(model: Model, pixel_values: torch.Tensor, implementation: str) -> float:
    model.set_attn_implementation("eager")
    expected = logits(model, pixel_values)
    model.set_attn_implementation(implementation)
    return relative_difference(logits(model, pixel_values), expected)


def checkpointing(model: Model, pixel_values: torch.Tensor, use_reentrant: bool) -> float:
    expected = gradients(model, pixel_values)
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    found = gradients(model, pixel_values)
    model.activation_checkpointing_disable()
    return largest_difference(found, expected)


def compiled(model: Model, pixel_values: torch.Tensor, training: bool) -> float:
    torch.compiler.reset()
    model.config.problem_type = (
        "single_label_classification"  # inferred from the first labels otherwise: one more graph
    )
    call = torch.compile(model, fullgraph=True, dynamic=True)
    differences = []
    # One graph for every batch size but 1, for which PyTorch always makes its own.
    no_recompiles = torch._dynamo.config.patch(error_on_recompile=True)
    same_random_numbers = torch._inductor.config.patch(fallback_random=True)
    with no_recompiles, same_random_numbers:
        for count in (2, 3, 5):
            batch = pixel_values.repeat(2, 1, 1, 1)[:count]
            if training:
                found, expected = gradients(model, batch, call), gradients(model, batch)
                differences.append(largest_difference(found, expected))
            else:
                differences.append(relative_difference(logits(call, batch), logits(model, batch)))
    return max(differences)


def torch_export(model: Model, pixel_values: torch.Tensor) -> float:
    """One program for every batch size, height and width."""
    shapes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    arguments = {"pixel_values": pixel_values[:2], "interpolate_pos_encoding": True}
    dynamic_shapes = {"pixel_values": shapes, "interpolate_pos_encoding": None}
    with torch.no_grad():
        program = torch.export.export(model, (), arguments, dynamic_shapes=dynamic_shapes).module()
        differences = []
        for count, crop_height, crop_width in ((1, 0, 0), (2, 12, 0), (3, 1, 9)):
            batch = pixel_values[:count, :, crop_height:, crop_width:]
            arguments = {"pixel_values": batch, "interpolate_pos_encoding": True}
            differences.append(relative_difference(program(**arguments).logits, model(**arguments).logits))
    return max(differences)


def exported(model: Model, pixel_values: torch.Tensor, exporter, export_config, quantizer=None, **runtime):
    """The exported program for batches of any size, of two images in the example."""
    shapes = {"dynamic": True, "dynamic_shapes": {"pixel_values": {0: BATCH}}}
    # Some exporters change the model that they are given.
    program = exporter().export(
        copy.deepcopy(model), {"pixel_values": pixel_values[:2]}, config=export_config(**shapes, quantizer=quantizer)
    )
    return program.to(**runtime)


def export(model: Model, pixel_values: torch.Tensor, *arguments, **runtime) -> float:
    program = exported(model, pixel_values, *arguments, **runtime)
    batches = [pixel_values[:count] for count in (1, 2, 3)]
    return max(relative_difference(program(pixel_values=batch).logits, logits(model, batch)) for batch in batches)


def merged_adapter(model: Model, pixel_values: torch.Tensor) -> float:
    adapters = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(model), adapters).eval()
    expected = logits(adapted, pixel_values)
    return relative_difference(logits(adapted.merge_and_unload(), pixel_values), expected)


def backbone(model: Model, pixel_values: torch.Tensor) -> float:
    """Every feature map against timm's, for the variant that the configuration is of."""
    config = copy.deepcopy(model.config)
    config.out_features = config.stage_names
    ours = CrossViTBackbone(config).eval()
    ours.load_state_dict(model.crossvit.state_dict(), strict=False)
    reference = timm.create_model("crossvit_9_dagger_240").eval()
    reference.load_state_dict(to_timm_state_dict(model))
    with torch.no_grad():
        expected = reference.forward_intermediates(pixel_values, intermediates_only=True)
        return max(map(relative_difference, ours(pixel_values).feature_maps, expected))


@dataclass
class Mode:
    compared: str
    measure: Callable[[Model, torch.Tensor], float]
    # Relative to the largest value. float32 has 6e-8, and the fused kernels of each runtime sum in an order of their own; over
    # a dozen layers that grows to some 1e-6.
    limit: float = 1e-5


MODES = {
    **{
        f"attention: {name}": Mode("logits, to eager", lambda *inputs, name=name: attention(*inputs, name))
        for name in ("sdpa", "flex_attention")
    },
    **{
        f"gradient checkpointing, {'' if reentrant else 'not '}re-entrant": Mode(
            "gradients, to none", lambda *inputs, reentrant=reentrant: checkpointing(*inputs, reentrant), 0.0
        )
        for reentrant in (False, True)
    },
    "torch.compile, inference": Mode(
        "logits for batches of 2, 3 and 5, one graph, to eager", lambda *inputs: compiled(*inputs, training=False)
    ),
    "torch.compile, training": Mode(
        "gradients for batches of 2, 3 and 5, one graph, to eager", lambda *inputs: compiled(*inputs, training=True)
    ),
    "torch.export": Mode("logits for batches of 1 to 3 and three sizes, to eager", torch_export),
    **{
        f"exporter: {name}": Mode(
            "logits for batches of 1 to 3, to eager",
            lambda *inputs, arguments=arguments, runtime=runtime: export(*inputs, *arguments, **runtime),
        )
        for name, arguments, runtime in (
            ("Dynamo", (DynamoExporter, DynamoConfig), {}),
            ("ONNX (onnxruntime)", (OnnxExporter, OnnxConfig), {}),
            ("OpenVINO", (OpenVINOExporter, OpenVINOConfig), OPENVINO_FLOAT32),
            ("ExecuTorch (xnnpack)", (ExecutorchExporter, ExecutorchConfig), {}),
        )
    },
    "LoRA, merged": Mode("logits, to adapters beside the weights", merged_adapter),
}


def from_pretrained(folder: Path, **kwargs) -> Callable[[torch.Tensor], torch.Tensor]:
    model = Model.from_pretrained(folder, **kwargs).eval()
    return lambda pixel_values: logits(model, pixel_values)


def quantized_export(folder: Path, calibration: list[dict], exporter, config, quantizer):
    """int8 weights and activations, whose ranges come from `calibration`."""
    sample = torch.cat([sample["pixel_values"] for sample in calibration[:2]])
    quantizer = quantizer(calibration_dataset=calibration)
    program = exported(Model.from_pretrained(folder).eval(), sample, exporter, config, quantizer)
    return lambda pixel_values: torch.cat(
        [program(pixel_values=batch).logits for batch in pixel_values.split(BATCH.max)]
    )


def torchao_int8(folder: Path):
    return from_pretrained(folder, quantization_config=TorchAoConfig(Int8DynamicActivationInt8WeightConfig()))


# Name: the model in that precision, from a folder and calibration samples, and the smallest allowed part of equal top-1 labels.
PRECISIONS = {
    "bfloat16": (lambda folder, _: from_pretrained(folder, dtype=torch.bfloat16), 0.995),
    "float16": (lambda folder, _: from_pretrained(folder, dtype=torch.float16), 0.995),
    "int8, torchao (dynamic)": (lambda folder, _: torchao_int8(folder), 0.99),
    "int8, bitsandbytes": (
        lambda folder, _: from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True)),
        0.99,
    ),
    **{
        f"int8, {name} (calibrated)": (
            lambda folder, calibration, arguments=arguments: quantized_export(folder, calibration, *arguments),
            0.99,
        )
        for name, arguments in {
            "OpenVINO by NNCF": (OpenVINOExporter, OpenVINOConfig, NNCFOpenVINOQuantizer),
            "ONNX by NNCF": (OnnxExporter, OnnxConfig, NNCFOnnxQuantizer),
            "ONNX by onnxruntime": (OnnxExporter, OnnxConfig, OnnxRuntimeQuantizer),
        }.items()
    },
}


def images_of(quickstart: Path, split: str) -> torch.Tensor:
    """All images of a split of the quickstart's data set, processed."""
    processor = CrossViTImageProcessor.from_pretrained(quickstart / "model")
    paths = sorted((quickstart / "digits" / split).rglob("*.png"))
    return processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt").pixel_values


def measure_precision(quickstart: Path, name: str) -> tuple[int, int, float]:
    """How many of how many test images keep their top-1 label, and the largest difference of the logits, relative."""
    test, train = images_of(quickstart, "test"), images_of(quickstart, "train")
    calibration = [{"pixel_values": image} for image in train[:: len(train) // 128].split(1)]
    make, _ = PRECISIONS[name]
    found = make(quickstart / "model", calibration)(test).float()
    expected = from_pretrained(quickstart / "model", dtype=torch.float32)(test)
    equal = found.argmax(dim=-1) == expected.argmax(dim=-1)
    return int(equal.sum()), len(equal), relative_difference(found, expected)


def peak_of_a_training_step(model: Model) -> int:
    """Bytes allocated at the worst moment of forward and backward pass, gradients included, from PyTorch's own records."""
    model.zero_grad(set_to_none=True)
    batch = {"pixel_values": torch.randn(8, 3, 240, 240), "labels": torch.zeros(8, dtype=torch.long)}
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        model(**batch).loss.backward()
    events = [event for event in profile.profiler.kineto_results.events() if event.name() == "[memory]"]
    sizes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return max(itertools.accumulate(sizes))


def peaks_with_and_without_checkpointing() -> tuple[int, int]:
    model = Model(CrossViTConfig.from_variant("crossvit_base_240", num_labels=10)).train()
    whole = peak_of_a_training_step(model)
    model.activation_checkpointing_enable()
    return peak_of_a_training_step(model), whole


def _figure(difference: float) -> str:
    return f"{difference:.1e}" if difference else "equal"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--quickstart", type=Path, default=ROOT / "outputs" / "quickstart", help="its output folder")
    quickstart = parser.parse_args().quickstart
    if not (quickstart / "model").is_dir():
        raise SystemExit(f"No trained model in {quickstart}: run `make quickstart` first, or give its folder.")
    transformers.utils.logging.disable_progress_bar()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"

    model = Model(CrossViTConfig.from_variant("crossvit_9_dagger_240", num_labels=1000)).eval()
    randomize_(model)
    pixel_values = photos(model.config.image_size)
    modes = {**MODES, "backbone": Mode("all feature maps, to timm's", backbone)}
    rows = []
    for name, mode in tqdm(modes.items(), desc="modes"):
        model.set_attn_implementation("sdpa")
        difference = mode.measure(model, pixel_values)
        rows.append(f"| {name} | {mode.compared} | {_figure(difference)} | {_figure(mode.limit)} |")
    for mode in tqdm(parallel.MODES, desc="two processes"):
        difference, _ = parallel.measure(mode)
        name = {"tp": "tensor parallelism", "fsdp": "FSDP2"}[mode]
        rows.append(
            f"| {name}, 2 processes | losses and weights of 2 steps in float64, to 1 process | {difference:.1e} | 1e-10 |"
        )
    precisions = []
    for name, (_, part) in tqdm(PRECISIONS.items(), desc="precisions"):
        equal, count, difference = measure_precision(quickstart, name)
        precisions.append(f"| {name} | {equal} of {count} | {part:.1%} | {difference:.1e} |")
    checkpointed, whole = peaks_with_and_without_checkpointing()

    packages = "transformers torch onnxruntime openvino nncf executorch torchao bitsandbytes peft timm".split()
    versions = ", ".join(f"{package} {version(package)}" for package in packages)
    text = f"""# Execution modes

What every way of running the model changes in its numbers, relative to the largest value. Written by
`python benchmarks/execution_modes.py` (the rows with two processes by its `benchmarks/parallel.py`);
`tests/modeling_crossvit/test_execution_modes.py` asserts the limits on a smaller model.

{versions}, Python {platform.python_version()}, {platform.machine()} CPU with {torch.get_num_threads()} threads.

## In short

One ONNX file for every batch size, from the model that `make quickstart` trains. The other exporters, and the quantizers that their
configurations take, are called in the same way; benchmarks/execution_modes.py has all of them.

```python
import torch
from transformers.exporters.exporter_onnx import OnnxConfig, OnnxExporter

from crossvit import CrossViTForImageClassification

model = CrossViTForImageClassification.from_pretrained("outputs/quickstart/model").eval()
example = {{"pixel_values": torch.zeros(2, 3, 72, 72)}}
any_batch = {{"pixel_values": {{0: torch.export.Dim("batch", max=64)}}}}
exported = OnnxExporter().export(model, example, config=OnnxConfig(dynamic=True, dynamic_shapes=any_batch))
exported.save_pretrained("outputs/onnx")
print(tuple(exported(pixel_values=torch.zeros(5, 3, 72, 72)).logits.shape))
```

```text
(5, 10)
```

## The same numbers

crossvit_9_dagger_240 with random weights of the size that trained ones have, on photos, in float32.

| mode | compared | largest difference | limit |
|---|---|---|---|
{chr(10).join(rows)}

Every exporter is transformers' own, with a free batch size. Flash attention needs a GPU and was not measured.

Gradient checkpointing of crossvit_base_240 with a batch of 8: the peak of a training step, gradients included, falls from
{whole / 2**20:.0f} MiB to {checkpointed / 2**20:.0f} MiB.

## The same labels

The model that `make quickstart` trains, on its test images: top-1 labels equal to those in float32. Calibration is on 128 of its
training images.

| precision | equal labels | at least | difference of the logits |
|---|---|---|---|
{chr(10).join(precisions)}
"""
    path = ROOT / "docs" / "execution_modes.md"
    path.write_text(text)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
