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
The ways to run a trained classifier on a CPU: PyTorch as it is, optimized or with compiled layers, in bfloat16 or int8, and exported to ONNX
Runtime or OpenVINO. `BACKENDS` lists them. `python -m crossvit.inference.fastest` measures them with a user's model and images, and
`python -m crossvit.inference.export` writes a folder that `load_exported` loads.
"""

import contextlib
import copy
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from tqdm import tqdm
from transformers import PreTrainedModel
from transformers.image_utils import load_image

from crossvit.configuration.image_files import files_below
from crossvit.image_processing import CrossViTImageProcessorPil
from crossvit.inference.optimized import allow_recompilations, optimize
from crossvit.modeling_crossvit import (
    CrossViTEmbeddings,
    CrossViTForImageClassification,
    CrossViTFusion,
    CrossViTLayer,
)


if TYPE_CHECKING:
    from transformers.exporters import ExportedModel

Classifier = CrossViTForImageClassification
# (B, channels, H, W) in float32 to logits (B, labels) in float32.
Predict = Callable[[torch.Tensor], torch.Tensor]
AnyModel = TypeVar("AnyModel", bound=PreTrainedModel)

# The packages that each format takes to export and to run.
FORMATS = {"onnx": ("onnx", "onnxscript", "onnxruntime"), "openvino": ("openvino",)}
INT8_PACKAGES = ("openvino", "nncf")
# Brings the packages of all backends.
INSTALL = 'pip install "transformers-crossvit[export]"'

# Images beyond this number make the ranges of int8 no better: it is the default of NNCF.
CALIBRATION_IMAGES = 300


def find_missing(packages: Iterable[str]) -> list[str]:
    return [package for package in packages if find_spec(package) is None]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters and quantizers print and log about each of their steps."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def compile_layers(model: AnyModel, fusions: bool = False, **kwargs: Any) -> AnyModel:
    """
    Compiles the layers of a model and not the whole of it. All layers of a branch share one graph. The first call therefore compiles one
    graph for each branch, however deep the model is, and takes a fraction of the time that it takes after `torch.compile(model)`.

    Another batch size compiles them once more: PyTorch makes one set for the first size, one for 1 image, and one for all others.

    Args:
        model: Any CrossViT. It is changed, and its weights are not.
        fusions: Whether the fusions of the branches are compiled too. The first call then takes twice as long, and all others are faster.
            Not for weights of torchao, with which PyTorch 2.14 fails there.
        kwargs: Arguments of `torch.compile`, such as `mode="max-autotune"`.

    Returns:
        The model itself.

    Example:

    ```python
    >>> from crossvit import CrossViTConfig, CrossViTForImageClassification
    >>> from crossvit.inference.backends import compile_layers

    >>> config = CrossViTConfig.from_variant("crossvit_tiny_240")
    >>> model = compile_layers(CrossViTForImageClassification(config).eval())
    ```"""
    # All layers share one `__call__` of transformers, so PyTorch counts their graphs against one recompile limit. With fusions the limit of
    # 8 would be reached at the third batch size, and from then on the layers would not be compiled at all.
    kwargs = {**allow_recompilations(8 * model.config.num_branches), **kwargs}
    for module in model.modules():
        if isinstance(module, CrossViTLayer) or (fusions and isinstance(module, CrossViTFusion)):
            module.compile(**kwargs)
    return model


class _Resize(nn.Module):
    """
    The bicubic resize of the images for a branch as two matrix products, (B, channels, H, W) to (B, channels, h, w). A resize is linear
    in the pixels, and in ONNX Runtime and OpenVINO two matrix products are several times faster than their bicubic resize.
    """

    rows: torch.Tensor  # (h, H)
    columns: torch.Tensor  # (w, W)

    def __init__(self, size: tuple[int, int], branch_size: tuple[int, int]):
        super().__init__()
        for name, length, branch_length in zip(("rows", "columns"), size, branch_size):
            # Resized along one axis, the unit matrix gives the weights of each pixel.
            weights = nn.functional.interpolate(
                torch.eye(length)[None, None], size=(branch_length, length), mode="bicubic", align_corners=False
            )
            self.register_buffer(name, weights[0, 0], persistent=False)

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        # Both weights on the right of the product, because only there they can be int8.
        resized = nn.functional.linear(pixel_values, self.columns)  # (B, channels, H, W) -> (B, channels, H, w)
        return nn.functional.linear(resized.transpose(2, 3), self.rows).transpose(2, 3)  # -> (B, channels, h, w)


def _with_matrix_resize(model: Classifier) -> Classifier:
    """A copy of the model for images of the configured size, whose branches resize them by matrix products."""
    model = copy.deepcopy(model)
    for embeddings in model.modules():
        if isinstance(embeddings, CrossViTEmbeddings) and embeddings.image_size != embeddings.input_size:
            resize = _Resize(embeddings.input_size, embeddings.image_size)
            embeddings.register_forward_pre_hook(lambda _, inputs, resize=resize: (resize(inputs[0]), *inputs[1:]))
            embeddings.input_size = embeddings.image_size  # Nothing is left to resize.
    return model


def export_model(model: Classifier, format: str, calibration: torch.Tensor | None = None) -> "ExportedModel":
    """
    An exported program for batches of any size, made by the exporters of transformers.

    Args:
        model: A trained classifier in evaluation mode. It is not changed.
        format: "onnx" or "openvino".
        calibration: `pixel_values` (B, channels, H, W) of images as the model will see them. With them the program computes in int8,
            which only "openvino" does: in ONNX Runtime int8 was no faster than float32, and changed labels.

    Returns:
        transformers' `ExportedModel`. Calling it with `pixel_values=...` gives an output with `logits`.
    """
    from transformers.exporters import NNCFOpenVINOQuantizer
    from transformers.exporters.auto import AutoExportConfig, AutoHfExporter

    quantizer = None
    if calibration is not None:
        samples = [{"pixel_values": image} for image in calibration[:CALIBRATION_IMAGES].split(1)]
        quantizer = NNCFOpenVINOQuantizer(calibration_dataset=samples)
    config = AutoExportConfig.from_dict(
        {
            "export_format": format,
            "dynamic": True,
            "dynamic_shapes": {"pixel_values": {0: torch.export.Dim("batch")}},
            "quantizer": quantizer,
        }
    )
    # Two images, because PyTorch takes a size of 1 in the example for a constant.
    example = torch.zeros(2, model.config.num_channels, *model.config.branch_image_size(0))
    exporter = AutoHfExporter.from_config(config)
    return exporter.export(_with_matrix_resize(model), {"pixel_values": example}, config=config)


def _runtime_options(format: str, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """Options of a runtime: the threads of PyTorch, because ONNX Runtime counts the cores that the process may not use."""
    if format == "openvino":
        return {"config": {"INFERENCE_NUM_THREADS": torch.get_num_threads(), **(config or {})}}
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return {"session_options": options}


def load_exported(folder: str | Path, **kwargs: Any) -> "ExportedModel":
    """
    Loads a folder that `python -m crossvit.inference.export` wrote, to run on the CPU with as many threads as PyTorch has.

    Args:
        folder: The folder.
        kwargs: Options of the runtime, as `ExportedModel.from_pretrained` of transformers takes them. For OpenVINO
            `config={"INFERENCE_PRECISION_HINT": "f32"}` keeps float32 where it would choose bfloat16.

    Returns:
        An `ExportedModel` of transformers. It takes `pixel_values=...` and returns an output with `logits`, and
        `pipeline("image-classification", model=..., image_processor=...)` takes it as it takes a model.

    Raises:
        ValueError: If the folder holds no exported model.
    """
    from transformers.exporters import ExportedModel
    from transformers.exporters.base import EXPORT_MANIFEST_FILE

    manifest = Path(folder) / EXPORT_MANIFEST_FILE
    if not manifest.is_file():
        raise ValueError(
            f"{folder} holds no exported model: there is no {EXPORT_MANIFEST_FILE}. Give a folder that `python -m crossvit.inference.export MODEL "
            "FOLDER --format openvino` wrote."
        )
    format = json.loads(manifest.read_text(encoding="utf-8"))["export_format"]
    options = {**kwargs, **_runtime_options(format, kwargs.get("config"))} if format in FORMATS else kwargs
    exported = ExportedModel.from_pretrained(folder, device="cpu", **options)
    # A pipeline looks at the name of the class, and says that it does not know `ExportedModel`. It shows these attributes.
    name, attributes = Classifier.__name__, {"input_modalities": ("image",), "can_generate": lambda self: False}
    exported.__class__ = type(name, (ExportedModel,), attributes)
    return exported


def _classify(model: Callable[..., Any]) -> Predict:
    @torch.inference_mode()
    def predict(pixel_values: torch.Tensor) -> torch.Tensor:
        return model(pixel_values=pixel_values).logits.float()

    return predict


def _torchao_int8(model: Classifier) -> Classifier:
    from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_

    quantize_(model, Int8DynamicActivationInt8WeightConfig())
    return compile_layers(model)


@dataclass(frozen=True)
class Backend:
    """
    One way to run a model.

    Args:
        make: From a classifier in evaluation mode, which it may change, and the `pixel_values` of calibration images, if they are needed.
        code: The Python that a user writes for it. {model} stands for the name or folder of the model.
        command: The command that a user runs once before, if there is one, with {model} and {images}.
        packages: The packages that must be installed beside those of transformers-crossvit itself.
        needs_calibration: Whether it needs images from which the ranges of int8 are taken.
    """

    make: Callable[[Classifier, torch.Tensor | None], Predict]
    code: str
    command: str | None = None
    packages: tuple[str, ...] = ()
    needs_calibration: bool = False


def _pytorch(
    change: Callable[[Classifier], Callable[..., Any]],
    code: str = "",
    imports: str = "",
    packages: tuple[str, ...] = (),
) -> Backend:
    """A backend that changes the model, and the line of code that does it."""
    lines = (
        "from crossvit import CrossViTForImageClassification",
        imports,
        'model = CrossViTForImageClassification.from_pretrained("{model}").eval()',
        code,
    )
    return Backend(lambda model, _: _classify(change(model)), "\n".join(filter(None, lines)), packages=packages)


def _runtime(format: str, int8: bool = False, precision: str | None = None) -> Backend:
    """A backend that runs an exported program. `precision` is OpenVINO's `INFERENCE_PRECISION_HINT`."""
    config = {"INFERENCE_PRECISION_HINT": precision} if precision else None
    arguments = f', config={{{{"INFERENCE_PRECISION_HINT": "{precision}"}}}}' if precision else ""

    def make(model: Classifier, calibration: torch.Tensor | None) -> Predict:
        exported = export_model(model, format, calibration if int8 else None)
        return _classify(exported.to("cpu", **_runtime_options(format, config)))

    return Backend(
        make,
        f'from crossvit.inference.backends import load_exported\nmodel = load_exported("exported"{arguments})',
        f"python -m crossvit.inference.export {{model}} exported --format {format}{' --int8 --images {images}' if int8 else ''}",
        INT8_PACKAGES if int8 else FORMATS[format],
        int8,
    )


_OPTIMIZE = "from crossvit import optimize"
_COMPILE = "from crossvit.inference.backends import compile_layers"

# The first is what the others are compared with. OpenVINO chooses bfloat16 by itself where the processor has instructions for it.
BACKENDS = {
    "eager": _pytorch(lambda model: model),
    "optimized": _pytorch(optimize, "model = optimize(model)", _OPTIMIZE),
    "bfloat16": _pytorch(lambda model: model.bfloat16(), "model.bfloat16()"),
    "optimized, bfloat16": _pytorch(
        lambda model: optimize(model.bfloat16()), "model = optimize(model.bfloat16())", _OPTIMIZE
    ),
    "compiled": _pytorch(torch.compile, "model = torch.compile(model)", "import torch"),
    "compiled by layers": _pytorch(compile_layers, "compile_layers(model)", _COMPILE),
    "torchao, int8": _pytorch(
        _torchao_int8,
        "quantize_(model, Int8DynamicActivationInt8WeightConfig())\ncompile_layers(model)",
        f"from torchao.quantization import Int8DynamicActivationInt8WeightConfig, quantize_\n{_COMPILE}",
        ("torchao",),
    ),
    "ONNX Runtime": _runtime("onnx"),
    "OpenVINO, float32": _runtime("openvino", precision="f32"),
    "OpenVINO": _runtime("openvino"),
    "OpenVINO, int8": _runtime("openvino", int8=True),
}


def read_images(
    folder: str | Path, image_processor: CrossViTImageProcessorPil, limit: int, mode: str = "RGB"
) -> torch.Tensor:
    """
    `pixel_values` of the images in a folder and in the folders inside it. If there are more than `limit`, they are taken at equal
    distances, so that classes in folders of their own have their share. `image_mode` gives the `mode` of a model.

    Raises:
        ValueError: If the folder holds no images, or one that cannot be read.
    """
    folder = Path(folder)
    paths = [folder / path for path in files_below(folder)[0]]
    if not paths:
        raise ValueError(
            f"--images {folder} {'holds no images' if folder.is_dir() else 'is not a folder'}. Expected a folder with image files, which "
            "may lie in folders inside it."
        )
    count = min(limit, len(paths))
    pixel_values = []
    for path in tqdm([paths[index * len(paths) // count] for index in range(count)], desc="images"):
        try:
            pixel_values.append(image_processor(load_image(str(path)).convert(mode), return_tensors="pt").pixel_values)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{path} cannot be read as an image: {error}. Repair it or take it out of --images."
            ) from error
    return torch.cat(pixel_values)


def load_for_inference(name: str) -> tuple[Classifier, CrossViTImageProcessorPil]:
    """
    A classifier in evaluation mode and in float32, and its image processor, by the name or folder that `from_pretrained` takes.

    Raises:
        ValueError: If the configuration is of no model, or if weights are missing and would be random, as those of the heads in a model without
            a classifier.
        OSError: If there is no such model.
    """
    if Path(name).is_file():
        raise ValueError(f"{name} is a file. Give the folder of a saved model.")
    try:
        model, loading_info = Classifier.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True
        )
    except StrictDataclassError as error:
        raise ValueError(f"The config.json of {name} describes no model. {error}") from error
    if missing := sorted([*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])]):
        raise ValueError(
            f"{name} has no weights for {len(missing)} tensors of a classifier, such as {missing[0]}, and they would be random. Give the "
            "folder of a trained classifier, with the config.json that was saved with it."
        )
    return model.eval(), CrossViTImageProcessorPil.from_pretrained(name)
