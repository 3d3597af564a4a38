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
"""Images for the tests of the training examples."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits


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
