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
examples/quickstart.py as a user runs it: with its defaults (accuracy, files, picture), on a folder of photos, and with mistakes. Two
runs with the same seed give equal weights.

    pytest tests/examples/test_quickstart.py          about 2 minutes
"""

import json
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from safetensors.torch import load_file

from crossvit import CrossViTForImageClassification, CrossViTImageProcessor


EXAMPLES = Path(__file__).parents[2] / "examples"


def test_defaults(quickstart):
    """At least 97 % of the held-out scans are right, and all announced files exist."""
    folder, printed = quickstart
    accuracy = float(re.search(r"test accuracy (0\.\d+) on 450 images", printed)[1])
    assert accuracy >= 0.97
    assert json.loads((folder / "test_results.json").read_text())["eval_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    labels = re.findall(r"digits/test/(\d)/\d+\.png: (\d) \(", printed)
    assert len(labels) == 10 and sum(truth == label for truth, label in labels) >= 8
    assert CrossViTForImageClassification.from_pretrained(folder / "model").config.id2label == {
        digit: str(digit) for digit in range(10)
    }
    picture = np.asarray(Image.open(folder / "where_it_looked.png").convert("RGB"))
    assert picture.shape[0] > 500 and picture.shape[1] > 1500
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 5000, "the attention maps are in colour"


def test_picture_of_one_image(photos, tmp_path):
    """It has the scale of the maps too."""
    script = runpy.run_path(str(EXAMPLES / "quickstart.py"))
    classifier = SimpleNamespace(
        model=script["build_model"](["temple", "flower"], 48).eval(),
        image_processor=CrossViTImageProcessor.from_image_size(48),
    )
    figures = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda figure, *_, **__: figures.append(figure))
        prediction = [{"label": "temple", "score": 0.9}]
        script["draw_attention"](classifier, [photos["square"]], ["temple"], [prediction], tmp_path / "picture.png")
    plt.close("all")
    labels = [axis.get_ylabel() for axis in figures[0].axes]
    assert labels == ["image", "patches of the\nsmall branch", "patches of the\nlarge branch", "attention, × mean"]


def test_same_seed_same_weights(run_here, tmp_path):
    weights = []
    for name in ("first", "second"):
        run_here("quickstart.py", "--num_train_epochs", "1", "--image_size", "48", "--output_dir", tmp_path / name)
        weights.append(load_file(tmp_path / name / "model" / "model.safetensors"))
    assert all(np.array_equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_folder_of_photos(run_here, tmp_path, photos):
    """The two classes are photos of a temple and of a flower, in every color mode, without a test folder."""
    for name in ("landscape", "grey", "CMYK", "small", "odd", "panorama"):
        path = tmp_path / "photos" / "temple" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        photos[name].save(path)
    for name in ("square", "palette", "EXIF-rotated"):
        for angle in (0, 10):
            path = tmp_path / "photos" / "flower" / f"{name}{angle}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            photos[name].rotate(angle).save(path)
    arguments = (
        "--num_train_epochs",
        "1",
        "--per_device_train_batch_size",
        "2",
        "--output_dir",
        str(tmp_path / "out"),
    )
    printed = run_here("quickstart.py", "--train_dir", tmp_path / "photos", *arguments)
    assert re.search(r"test accuracy [01]\.\d+ on 2 images", printed)
    assert "on 2 images" in run_here("quickstart.py", "--dataset_name", tmp_path / "photos", *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epoks", "3"), "unrecognized arguments: --epoks 3"),
        (("--train_dir", "absent"), "--train_dir absent is not a folder. Expected absent/CLASS/IMAGE.jpg"),
        (("--train_dir", "a", "--dataset_name", "b"), "got --dataset_name and --train_dir"),
    ],
)
def test_mistakes(run_here, capsys, arguments, message):
    with pytest.raises(SystemExit) as error:
        run_here("quickstart.py", *arguments)
    assert error.value.code not in (0, None)
    assert message in f"{error.value}{capsys.readouterr().err}"
