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
A trained classifier as a folder that ONNX Runtime or OpenVINO runs, for batches of any size:

    python -m crossvit.inference.export models/my_model exported --format openvino
    python -m crossvit.inference.export models/my_model exported --format openvino --int8 --images photos

A model is what `from_pretrained` takes. The folder then holds the program, the configuration with the names of the classes, the
image processor, and `preprocessing.md`, which says how to make the pixels without PyTorch. `crossvit.inference.backends.load_exported` loads
the folder. `--int8` takes the ranges of its numbers from the images: a few hundred like
those that the model will see, without labels.
"""

import argparse
import os
from pathlib import Path

from crossvit.configuration.files import check_writable, replace_folder
from crossvit.configuration.image_files import image_mode
from crossvit.configuration.saved_code import remove_code
from crossvit.hub import check_output
from crossvit.inference.backends import (
    CALIBRATION_IMAGES,
    FORMATS,
    INSTALL,
    INT8_PACKAGES,
    export_model,
    find_missing,
    load_for_inference,
    quiet,
    read_images,
)
from crossvit.inference.preprocessing import describe


# What an exported program leaves in a folder, beside the configurations.
EXPORTED_FILES = (
    *("export.json", "model.onnx", "model.onnx.data", "openvino_model.xml", "openvino_model.bin"),
    "preprocessing.md",
)


def export(
    model: str, output: str | Path, format: str, images: str | Path | None = None, overwrite: bool = False
) -> None:
    """
    Writes an exported model to a folder, all or nothing.

    Args:
        model: What `from_pretrained` takes.
        output: The folder, made if it does not exist.
        format: "onnx" or "openvino".
        images: A folder of images for int8, in OpenVINO alone. Without it the program computes in floating point.
        overwrite: Whether a model that the folder holds is replaced.

    Raises:
        ValueError: If the folder is not free, a package is missing, or the model or an image cannot be read.
        OSError: If there is no such model, or the disk is full. The folder is then what it was.
    """
    if images is not None and format != "openvino":
        raise ValueError(
            f"int8 is for openvino, got {format}: in ONNX Runtime it was no faster than float32, and changed labels. Leave the images out."
        )
    output = Path(output)
    check_output(output, overwrite, EXPORTED_FILES)
    # The folder is replaced as a whole, which takes a place to write beside it.
    check_writable(output.absolute().parent)
    if missing := find_missing(INT8_PACKAGES if images else FORMATS[format]):
        raise ValueError(f"--format {format} needs {', '.join(missing)}, which is not installed: {INSTALL}")
    classifier, image_processor = load_for_inference(model)
    calibration = None
    if images is not None:
        mode = image_mode(classifier.config, image_processor)
        calibration = read_images(images, image_processor, CALIBRATION_IMAGES, mode)
    with quiet():
        exported = export_model(classifier, format, calibration)
    with replace_folder(output) as folder:
        try:
            exported.save_pretrained(folder)
        except (OSError, RuntimeError) as error:  # the latter is OpenVINO's, on a full disk
            raise OSError(f"{output} could not be written ({error}). What was there before is unchanged.") from error
        image_processor.save_pretrained(folder)
        remove_code(folder)
        (folder / "preprocessing.md").write_text(describe(image_processor, format), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crossvit.inference.export",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", type=os.path.expanduser, help="name on the Hub or folder of a classifier")
    parser.add_argument("output", type=os.path.expanduser, help="folder to write, made if it does not exist")
    parser.add_argument("--format", required=True, choices=FORMATS, help="the runtime: ONNX Runtime or OpenVINO")
    parser.add_argument("--int8", action="store_true", help="compute in int8; takes --format openvino and --images")
    parser.add_argument("--images", type=os.path.expanduser, help="folder of images for --int8")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that the output folder holds")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.int8 != (arguments.images is not None):
        parser.error("--int8 and --images go together: int8 takes the ranges of its numbers from images")
    try:
        export(arguments.model, arguments.output, arguments.format, arguments.images, arguments.overwrite)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(
        f"{arguments.output} is written. Load it with:\n\n"
        f'from crossvit.inference.backends import load_exported\nmodel = load_exported("{arguments.output}")'
    )


if __name__ == "__main__":
    main()
