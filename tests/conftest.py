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
"""Fixtures of all tests: a small configuration, real photos and digits, and the folder of a saved model."""

import io
import os
import signal
import subprocess
import sys
from pathlib import Path


# Both are read while the modules below are imported. Nothing here may ask the Hub, and a run without a network must not wait for it. One
# thread, here and in all started processes, because for small models two threads mostly wait for each other, and the tests can run in
# two processes instead. Equal numbers of threads also add numbers in the same order.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import matplotlib.cbook
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image
from sklearn.datasets import load_digits, load_sample_image
from small_models import small_config
from torch.utils.data._utils import signal_handling
from transformers.utils import logging

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


ROOT = Path(__file__).parents[1]

collect_ignore = ["conformance"]  # `make conformance`

logging.disable_progress_bar()

DIGITS = {"one": 1, "two": 2, "four": 4}


@pytest.fixture(autouse=True)
def no_handler_of_ended_processes_stays():
    """
    PyTorch's DataLoader leaves a handler of SIGCHLD behind when it has had workers. Some of the libraries that tests load replace the stack
    on which such handlers run, so that the next program that ended would end the process of the tests, without a message.
    """
    yield
    if signal.getsignal(signal.SIGCHLD) not in (signal.SIG_DFL, None):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal_handling._SIGCHLD_handler_set = False


@pytest.fixture
def config() -> CrossViTConfig:
    return small_config()


@pytest.fixture
def pixel_values() -> torch.Tensor:
    return torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def photos() -> dict[str, Image.Image]:
    """Real photos that ship with scikit-learn and matplotlib, in every kind of image that users have."""
    china, flower = (Image.fromarray(load_sample_image(name)) for name in ("china.jpg", "flower.jpg"))
    hopper, minduka = (
        Image.open(matplotlib.cbook.get_sample_data(name))
        for name in ("grace_hopper.jpg", "Minduka_Present_Blue_Pack.png")
    )
    grey = china.convert("L")
    rotated = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: turn by 90 degrees
    flower.save(rotated, "JPEG", exif=exif, quality=95)
    return {
        "landscape": china,
        "portrait": hopper.convert("RGB"),
        "square": flower.crop((100, 0, 527, 427)),
        "small": china.resize((200, 131)),
        "odd": china.resize((333, 301)),  # leaves an odd number of pixels to crop
        "panorama": china.resize((1999, 300)),
        "palette": flower.convert("P", palette=Image.Palette.ADAPTIVE),
        "grey": grey,
        "RGBA": minduka.convert("RGBA"),
        "CMYK": china.convert("CMYK"),
        "16-bit": Image.fromarray(np.asarray(grey).astype(np.uint16) * 257),
        "EXIF-rotated": Image.open(rotated),
    }


@pytest.fixture(scope="session")
def digits(tmp_path_factory) -> Path:
    """scikit-learn's scans of three digits, `folder/{train,validation}/CLASS/N.png`: 20 and 8 images of each."""
    folder = tmp_path_factory.mktemp("digits")
    data = load_digits()
    for name, digit in DIGITS.items():
        for number, image in enumerate(data.images[data.target == digit][:28]):
            path = folder / ("train" if number < 20 else "validation") / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 255 / 16).astype(np.uint8)).resize((48, 48)).save(path)
    return folder


@pytest.fixture
def saved_model(tmp_path, config):
    """A folder as `save_pretrained` writes it, with model and image processor."""
    torch.manual_seed(0)
    CrossViTForImageClassification(config).save_pretrained(tmp_path / "model")
    CrossViTImageProcessor.from_image_size(48).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture(scope="session")
def run_example():
    """Runs a script of examples/ as a user does, and returns what it printed."""

    def run(script: str, *arguments: str, cwd=None, check=False) -> subprocess.CompletedProcess:
        command = [sys.executable, str(ROOT / "examples" / script), *arguments]
        result = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
        assert not check or result.returncode == 0, result.stderr
        return result

    return run


@pytest.fixture(scope="session")
def quickstart(tmp_path_factory, run_example):
    """One run of the quickstart with its defaults, for all processes of the tests: its output folder, and what it printed."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "quickstart"
    printed = folder / "printed.txt"
    with FileLock(f"{folder}.lock"):
        if not printed.exists():
            folder.mkdir(exist_ok=True)
            printed.write_text(run_example("quickstart.py", cwd=folder, check=True).stdout)
    return folder / "outputs" / "quickstart", printed.read_text()
