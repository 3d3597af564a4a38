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

    python -m crossvit.export models/my_model exported --format openvino
    python -m crossvit.export models/my_model exported --format openvino --int8 --images photos

A model is what `from_pretrained` takes. The folder then holds the program, the configuration with the names of the classes, and the
image processor. `crossvit.deployment.load_exported` loads it. `--int8` takes the ranges of its numbers from the images: a few hundred like
those that the model will see, without labels.
"""

import argparse
from pathlib import Path

from crossvit.convert import check_output, replace_folder
from crossvit.deployment import (
    CALIBRATION_IMAGES,
    FORMATS,
    INSTALL,
    export_model,
    find_missing,
    load_for_deployment,
    quiet,
    read_images,
    required_packages,
)


# What an exported program leaves in a folder, beside the configurations.
EXPORTED_FILES = ("export.json", "model.onnx", "model.onnx.data", "openvino_model.xml", "openvino_model.bin")


def export(model: str, output: Path, format: str, images: Path | None = None) -> None:
    """Writes the exported model to `output`, all or nothing. With a folder of images it computes in int8."""
    if missing := find_missing(required_packages(format, images is not None)):
        raise ValueError(f"--format {format} needs {', '.join(missing)}, which is not installed: {INSTALL}")
    classifier, image_processor = load_for_deployment(model)
    calibration = None if images is None else read_images(images, image_processor, CALIBRATION_IMAGES)
    with quiet():
        exported = export_model(classifier, format, calibration)
    with replace_folder(output) as folder:
        exported.save_pretrained(folder)
        image_processor.save_pretrained(folder)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crossvit.export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name on the Hub or folder of a classifier")
    parser.add_argument("output", type=Path, help="folder to write, made if it does not exist")
    parser.add_argument("--format", required=True, choices=FORMATS, help="the runtime: ONNX Runtime or OpenVINO")
    parser.add_argument("--int8", action="store_true", help="compute in int8, with ranges taken from --images")
    parser.add_argument("--images", type=Path, help="folder of images for --int8")
    parser.add_argument("--overwrite", action="store_true", help="replace the model that the output folder holds")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.int8 != (arguments.images is not None):
        parser.error("--int8 and --images go together: int8 takes the ranges of its numbers from images")
    try:
        check_output(arguments.output, arguments.overwrite, EXPORTED_FILES)
        export(arguments.model, arguments.output, arguments.format, arguments.images)
    except (ValueError, OSError) as error:
        raise SystemExit(f"error: {error}") from error
    print(
        f"{arguments.output} is written. Load it with:\n\n"
        f'from crossvit.deployment import load_exported\nmodel = load_exported("{arguments.output}")'
    )


if __name__ == "__main__":
    main()
