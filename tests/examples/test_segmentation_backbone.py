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
examples/segmentation_backbone.py learns the regions in a few steps, against the share of the largest region; its picture and mistakes.

    pytest tests/examples/test_segmentation_backbone.py          about 20 seconds
"""

import re

import numpy as np
import pytest
from PIL import Image


def test_learns_the_regions(run_example, tmp_path):
    printed = run_example("segmentation_backbone.py", "--steps", "15", cwd=tmp_path, check=True).stdout
    accuracy = float(re.search(r"pixels in the right region: ([\d.]+)%", printed)[1])
    assert accuracy > 75  # the largest region, the sky, is 46 % of the photo
    picture = np.asarray(Image.open(tmp_path / "outputs/segmentation_backbone/regions.png").convert("RGB"))
    assert picture.shape[1] > 1000 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 5000


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--steps", "0"), "--steps must be at least 1, got 0"),
        (("--image", "absent.jpg"), "--image absent.jpg"),
        (("--stepps", "3"), "unrecognized arguments: --stepps 3"),
    ],
)
def test_mistakes(run_here, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_here("segmentation_backbone.py", *arguments)
    assert message in f"{error.value}{capsys.readouterr().err}"
