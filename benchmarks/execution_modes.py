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
Measures what each way of running the model changes in its numbers: attention implementations, gradient checkpointing, compilation,
export, half precision, quantisation, adapters and several processes. Writes the tables of docs/execution_modes.md.

    make quickstart                           trains the model whose labels are compared
    python -m benchmarks.execution_modes      about 6 minutes on two CPU cores

Expected: float32 modes differ by rounding only, and each precision gives the labels of the trained model. The limits stand below, and
tests/modeling_crossvit/test_execution_modes.py applies them to the same measurements of a smaller model.
"""

import argparse
import copy
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torch._inductor.config
import transformers
from peft import LoraConfig, get_peft_model
from PIL import Image
from sklearn.datasets import load_sample_image
from tqdm import tqdm
from transformers import BitsAndBytesConfig, TorchAoConfig
from transformers.exporters import NNCFOnnxQuantizer, NNCFOpenVINOQuantizer, OnnxRuntimeQuantizer
from transformers.exporters.auto import AutoExportConfig, AutoHfExporter

from benchmarks import parallel
from benchmarks.measurements import measured_by, peak_bytes
from benchmarks.pages import ROOT, fill, table
from benchmarks.parity import randomize_, relative_difference
from crossvit import CrossViTBackbone, CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.weights.checkpoints import to_timm_state_dict


Model = CrossViTForImageClassification

BATCH = torch.export.Dim("batch", min=1, max=64)
# OpenVINO computes in bfloat16 by default if the processor can.
OPENVINO_FLOAT32 = {"config": {"INFERENCE_PRECISION_HINT": "f32"}}


def photos(image_size: int, count: int = 3) -> torch.Tensor:
    """
    `pixel_values` of shape (count, 3, image_size, image_size): scikit-learn's two sample photos, and turned copies of the first.

    china.jpg is by danielbuechele and flower.jpg by vultilion, both on Flickr, CC BY 2.0.
    """
    china, flower = (Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
    images = [china, flower, *(china.rotate(10 * turn) for turn in range(1, count))][:count]
    return CrossViTImageProcessor.from_image_size(image_size)(images, return_tensors="pt").pixel_values


@torch.no_grad()
def logits(model: Model, pixel_values: torch.Tensor) -> torch.Tensor:
    return model(pixel_values).logits


def loss_gradients(
    model: Model, pixel_values: torch.Tensor, call: Callable[..., torch.Tensor] | None = None
) -> list[torch.Tensor]:
    """
    The gradient of the loss for each parameter, in train mode. Each call draws the same random numbers. `call` takes the place of the
    model's own forward pass.
    """
    torch.manual_seed(0)
    model.train().zero_grad()
    labels = torch.arange(len(pixel_values)) % model.num_labels
    (model if call is None else call)(pixel_values, labels=labels).loss.backward()
    return [parameter.grad.clone() for parameter in model.eval().parameters()]


def largest_relative_difference(ours: list[torch.Tensor], reference: list[torch.Tensor]) -> float:
    """
    The largest difference over all tensors, divided by the largest value of all tensors. A tensor's own largest value would not do,
    because some gradients are zero up to rounding.
    """
    scale = max(tensor.abs().max() for tensor in reference)
    return max(((a - b).abs().max() / scale).item() for a, b in zip(ours, reference, strict=True))


def attention_difference(model: Model, pixel_values: torch.Tensor, implementation: str) -> float:
    """The relative difference of the logits between this implementation and eager attention."""
    model.set_attn_implementation("eager")
    expected = logits(model, pixel_values)
    model.set_attn_implementation(implementation)
    return relative_difference(logits(model, pixel_values), expected)


def checkpointing_difference(model: Model, pixel_values: torch.Tensor, use_reentrant: bool) -> float:
    """The relative difference of the gradients with and without checkpointing."""
    expected = loss_gradients(model, pixel_values)
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    found = loss_gradients(model, pixel_values)
    model.activation_checkpointing_disable()
    return largest_relative_difference(found, expected)


def compilation_difference(model: Model, pixel_values: torch.Tensor, training: bool) -> float:
    """The relative difference of the gradients (`training`) or logits between a compiled model and an eager one."""
    torch.compiler.reset()
    call = torch.compile(model, fullgraph=True, dynamic=True)
    differences = []
    # One graph serves every batch size except 1, for which PyTorch always compiles another one.
    no_recompiles = torch._dynamo.config.patch(error_on_recompile=True)
    same_random_numbers = torch._inductor.config.patch(fallback_random=True)
    with no_recompiles, same_random_numbers:
        for count in (2, 3, 5):
            batch = pixel_values.repeat(2, 1, 1, 1)[:count]
            if training:
                found, expected = loss_gradients(model, batch, call), loss_gradients(model, batch)
                differences.append(largest_relative_difference(found, expected))
            else:
                differences.append(relative_difference(logits(call, batch), logits(model, batch)))
    return max(differences)


def torch_export_difference(model: Model, pixel_values: torch.Tensor) -> float:
    """The relative difference of the logits between the model and one exported program for all batch sizes, heights and widths."""
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


def exported_program(model: Model, pixel_values: torch.Tensor, export_format: str, quantizer=None, **runtime):
    """The program that an exporter makes for batches of any size. The example that it traces has two images."""
    shapes = {"dynamic": True, "dynamic_shapes": {"pixel_values": {0: BATCH}}}
    config = AutoExportConfig.from_dict({"export_format": export_format, "quantizer": quantizer, **shapes})
    # The exporters get a copy, because some of them change the model.
    exporter, inputs = AutoHfExporter.from_config(config), {"pixel_values": pixel_values[:2]}
    return exporter.export(copy.deepcopy(model), inputs, config=config).to(**runtime)


def exporter_difference(model: Model, pixel_values: torch.Tensor, export_format: str, **runtime) -> float:
    """The relative difference of the logits between the model and its exported program, for batches of 1 to 3 images."""
    program = exported_program(model, pixel_values, export_format, **runtime)
    batches = [pixel_values[:count] for count in (1, 2, 3)]
    return max(relative_difference(program(pixel_values=batch).logits, logits(model, batch)) for batch in batches)


def merged_adapter_difference(model: Model, pixel_values: torch.Tensor) -> float:
    """The relative difference of the logits between LoRA adapters beside the weights and merged ones."""
    adapters = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    adapted = get_peft_model(copy.deepcopy(model), adapters).eval()
    expected = logits(adapted, pixel_values)
    return relative_difference(logits(adapted.merge_and_unload(), pixel_values), expected)


def backbone_difference(model: Model, pixel_values: torch.Tensor) -> float:
    """The relative difference of all feature maps to timm's. The model must be a crossvit_9_dagger_240."""
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
    """What a mode compares, the function that returns the relative difference, and the largest allowed one."""

    compared: str
    measure: Callable[[Model, torch.Tensor], float]
    # float32 rounds by up to 6e-8, and the fused kernels of each runtime add in an order of their own. Over a dozen layers the
    # difference grows to about 1e-6.
    limit: float = 1e-5


MODES = {
    **{
        f"attention: {name}": Mode("logits, to eager", lambda *inputs, name=name: attention_difference(*inputs, name))
        for name in ("sdpa", "flex_attention")
    },
    **{
        f"gradient checkpointing, {'' if reentrant else 'not '}re-entrant": Mode(
            "gradients, to none",
            lambda *inputs, reentrant=reentrant: checkpointing_difference(*inputs, reentrant),
            0.0,
        )
        for reentrant in (False, True)
    },
    "torch.compile, inference": Mode(
        "logits for batches of 2, 3 and 5, one graph, to eager",
        lambda *inputs: compilation_difference(*inputs, training=False),
    ),
    "torch.compile, training": Mode(
        "gradients for batches of 2, 3 and 5, one graph, to eager",
        lambda *inputs: compilation_difference(*inputs, training=True),
    ),
    "torch.export": Mode("logits for batches of 1 to 3 and three sizes, to eager", torch_export_difference),
    **{
        f"exporter: {name}": Mode(
            "logits for batches of 1 to 3, to eager",
            lambda *inputs, form=form, runtime=runtime: exporter_difference(*inputs, form, **runtime),
        )
        for name, form, runtime in (
            ("Dynamo", "dynamo", {}),
            ("ONNX (onnxruntime)", "onnx", {}),
            ("OpenVINO", "openvino", OPENVINO_FLOAT32),
            ("ExecuTorch (xnnpack)", "executorch", {}),
        )
    },
    "LoRA, merged": Mode("logits, to adapters beside the weights", merged_adapter_difference),
}


# The rows with two processes, under the names that benchmarks/parallel.py has for them.
TWO_PROCESSES = {"tp": "tensor parallelism, 2 processes", "fsdp": "FSDP2, 2 processes"}


def from_pretrained(folder: Path, **kwargs) -> Callable[[torch.Tensor], torch.Tensor]:
    """A function from pixel values to logits: the saved model, loaded with these arguments."""
    model = Model.from_pretrained(folder, **kwargs).eval()
    return lambda pixel_values: logits(model, pixel_values)


def calibrated_int8_logits(folder: Path, calibration: list[dict], export_format: str, quantizer):
    """A function from pixel values to logits: int8 weights and activations, with ranges from the samples of `calibration`."""
    sample = torch.cat([sample["pixel_values"] for sample in calibration[:2]])
    quantizer = quantizer(calibration_dataset=calibration)
    program = exported_program(Model.from_pretrained(folder).eval(), sample, export_format, quantizer)
    return lambda pixel_values: torch.cat(
        [program(pixel_values=batch).logits for batch in pixel_values.split(BATCH.max)]
    )


def torchao_int8() -> TorchAoConfig:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig  # only with the newest PyTorch

    return TorchAoConfig(Int8DynamicActivationInt8WeightConfig())


# Name: a function of the model's folder and the calibration samples, which returns a function from pixel values to logits; and the
# smallest allowed part of equal top-1 labels.
PRECISIONS = {
    "bfloat16": (lambda folder, _: from_pretrained(folder, dtype=torch.bfloat16), 0.995),
    "float16": (lambda folder, _: from_pretrained(folder, dtype=torch.float16), 0.995),
    "int8, torchao (dynamic)": (
        lambda folder, _: from_pretrained(folder, quantization_config=torchao_int8()),
        0.99,
    ),
    "int8, bitsandbytes": (
        lambda folder, _: from_pretrained(folder, quantization_config=BitsAndBytesConfig(load_in_8bit=True)),
        0.99,
    ),
    **{
        f"int8, {name} (calibrated)": (
            lambda folder, calibration, arguments=arguments: calibrated_int8_logits(folder, calibration, *arguments),
            0.99,
        )
        for name, arguments in {
            "OpenVINO by NNCF": ("openvino", NNCFOpenVINOQuantizer),
            "ONNX by NNCF": ("onnx", NNCFOnnxQuantizer),
            "ONNX by onnxruntime": ("onnx", OnnxRuntimeQuantizer),
        }.items()
    },
}


def quickstart_images(quickstart: Path, split: str) -> torch.Tensor:
    """`pixel_values` of all images in a split of the quickstart's data set."""
    processor = CrossViTImageProcessor.from_pretrained(quickstart / "model")
    paths = sorted((quickstart / "digits" / split).rglob("*.png"))
    return processor([Image.open(path).convert("RGB") for path in paths], return_tensors="pt").pixel_values


def measure_precision(quickstart: Path, name: str) -> tuple[int, int, float]:
    """The number of test images that keep their top-1 label, the number of test images, and the relative difference of the logits."""
    test, train = quickstart_images(quickstart, "test"), quickstart_images(quickstart, "train")
    calibration = [{"pixel_values": image} for image in train[::10].split(1)]
    make, _ = PRECISIONS[name]
    found = make(quickstart / "model", calibration)(test).float()
    expected = from_pretrained(quickstart / "model", dtype=torch.float32)(test)
    equal = found.argmax(dim=-1) == expected.argmax(dim=-1)
    return int(equal.sum()), len(equal), relative_difference(found, expected)


def peak_bytes_of_a_training_step(model: Model) -> int:
    """The most bytes that are allocated at one moment of a forward and backward pass, gradients included."""
    model.zero_grad(set_to_none=True)
    batch = {"pixel_values": torch.randn(8, 3, 240, 240), "labels": torch.zeros(8, dtype=torch.long)}
    return peak_bytes(lambda: model(**batch).loss.backward())


def peaks_with_and_without_checkpointing() -> tuple[int, int]:
    """The peak bytes of a training step with gradient checkpointing, and without it."""
    model = Model(CrossViTConfig.from_variant("crossvit_base_240", num_labels=10)).train()
    whole = peak_bytes_of_a_training_step(model)
    model.activation_checkpointing_enable()
    return peak_bytes_of_a_training_step(model), whole


def _number(difference: float) -> str:
    """The text of a difference in the tables."""
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
    modes = {**MODES, "backbone": Mode("all feature maps, to timm's", backbone_difference)}
    modes_rows, precisions_rows = [], []
    for name, mode in tqdm(modes.items(), desc="modes"):
        model.set_attn_implementation("sdpa")
        difference = mode.measure(model, pixel_values)
        modes_rows.append((name, mode.compared, _number(difference), _number(mode.limit)))
    for mode, name in tqdm(TWO_PROCESSES.items(), desc="two processes"):
        difference, _ = parallel.measure(mode)
        compared = "losses and weights of 2 steps in float64, to 1 process"
        modes_rows.append((name, compared, _number(difference), _number(parallel.LIMIT)))
    for name, (_, part) in tqdm(PRECISIONS.items(), desc="precisions"):
        equal, count, difference = measure_precision(quickstart, name)
        precisions_rows.append((name, f"{equal} of {count}", f"{part:.1%}", f"{difference:.1e}"))
    checkpointed, whole = peaks_with_and_without_checkpointing()

    packages = "timm torch transformers onnxruntime openvino nncf executorch torchao bitsandbytes peft".split()
    places = {
        "machine": measured_by("benchmarks.execution_modes", *packages),
        "modes": table(("mode", "compared", "largest difference", "limit"), modes_rows),
        "memory": table(
            ("gradient checkpointing", "memory at the peak"),
            [("without", f"{whole / 2**20:.0f} MiB"), ("with", f"{checkpointed / 2**20:.0f} MiB")],
        ),
        "precisions": table(("precision", "equal labels", "at least", "difference of the logits"), precisions_rows),
    }
    print(f"wrote {fill('execution_modes.md', places)}")


if __name__ == "__main__":
    main()
