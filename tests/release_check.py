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
Builds the wheel and the source distribution into dist/, checks their metadata, and tries each in a clean environment: the package is
imported, a model answers and is saved with its code, and an example that was copied alone into an empty folder shows its options.

    make release-check                              half a minute: the clean environments borrow the dependencies of this one
    python tests/release_check.py --download        as for a user: the dependencies are downloaded into each clean environment
    python tests/release_check.py --tag v0.1.0      an error unless this is the version of the package

It needs the packages `build` and `twine`.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path


ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "examples" / "run_image_classification.py"
TRIAL = """
import os, sys
import torch
import crossvit

assert crossvit.__file__.startswith(sys.prefix), f"imported from {crossvit.__file__}"
config = crossvit.CrossViTConfig.from_variant("crossvit_tiny_240", num_labels=3)
model = crossvit.CrossViTForImageClassification(config).eval()
images = crossvit.CrossViTImageProcessorPil()([torch.zeros(3, 300, 400, dtype=torch.uint8)] * 2, return_tensors="pt")
with torch.no_grad():
    assert model(**images).logits.shape == (2, 3)
model.save_pretrained("saved")
print(f"crossvit {crossvit.__version__} answers; a saved model has", *sorted(os.listdir("saved")))
"""


def run(*command: str | os.PathLike, folder: Path = ROOT) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    result = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{result.stdout}\nerror: {' '.join(map(str, command))} ended with status {result.returncode}")
    return result.stdout


def try_it(distribution: Path, folder: Path, download: bool):
    """Installs a distribution into an environment of its own in the empty folder, and uses it there."""
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    if download:
        run(python, "-m", "pip", "install", "--quiet", f"transformers-crossvit[training] @ {distribution.as_uri()}")
    else:
        run(python, "-m", "pip", "install", "--quiet", "--no-deps", distribution)
        (packages,) = (folder / "venv").glob("lib/python*/site-packages")
        # What lies here comes after the clean environment's own packages, and .pth files of the folders are not read.
        borrowed = [path for path in sys.path if path.endswith("site-packages")] or [sysconfig.get_path("purelib")]
        (packages / "borrowed.pth").write_text("\n".join(borrowed))
    print(f"{distribution.name}: {run(python, '-c', TRIAL, folder=folder)}", end="")
    shutil.copy(EXAMPLE, folder)
    options = run(python, EXAMPLE.name, "--help", folder=folder)
    if "--model_name_or_path" not in options:
        sys.exit(f"error: {EXAMPLE.name} --help does not show its options, but:\n{options}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--download", action="store_true", help="install the dependencies instead of borrowing them")
    parser.add_argument("--tag", help="tag of the release: v and the version of the package")
    arguments = parser.parse_args()
    version = re.search(r'^__version__ = "(.+)"$', (ROOT / "modeling_crossvit" / "__init__.py").read_text(), re.M)[1]
    if arguments.tag is not None and arguments.tag != f"v{version}":
        sys.exit(f"error: the tag is {arguments.tag}, but the package has version {version}. Expected v{version}.")

    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    # Not `python -m build`: from here, Python would take the folder build/ for the module.
    run(Path(sysconfig.get_path("scripts")) / "pyproject-build")
    distributions = sorted((ROOT / "dist").iterdir())
    print(run(sys.executable, "-m", "twine", "check", "--strict", *distributions), end="")
    for distribution in distributions:
        if f"-{version}" not in distribution.name or len(distributions) != 2:
            sys.exit(f"error: expected a wheel and a source distribution of version {version}, got {distributions}.")
        with tempfile.TemporaryDirectory() as folder:
            try_it(distribution, Path(folder), arguments.download)
    print(f"{', '.join(path.name for path in distributions)}: ready to be uploaded.")


if __name__ == "__main__":
    main()
