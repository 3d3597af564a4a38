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
"""For the tests of the training examples: images, and runs of the scripts in this process."""

import runpy
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from accelerate.state import AcceleratorState, GradientState
from PIL import Image
from sklearn.datasets import load_digits


EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = {"one": 1, "two": 2, "four": 4}


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
def run_here(monkeypatch, capsys):
    """Runs a script of examples/ in this process, which saves the time of the imports, on the CPU; returns what it printed."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def forget_the_last_run():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def run(script: str, *arguments) -> str:
        forget_the_last_run()
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    yield run
    forget_the_last_run()
