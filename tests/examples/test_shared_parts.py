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
"""What the scripts share."""

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.utils.class_weight import compute_sample_weight

from crossvit import CrossViTConfig, CrossViTImageProcessor
from crossvit.data import DataArguments, ImageData, load_images


@pytest.fixture
def common(monkeypatch):
    """The modules of examples/common, as attributes."""
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "examples")
    import common
    import common.image_model
    import common.metrics
    import common.run_identity
    import common.training_report

    return common


def write_images(folder: Path, counts: dict[str, int]) -> Path:
    for name, count in counts.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.new("L", (8, 8), number % 256).save(folder / name / f"{number}.png")
    return folder


def test_another_image_size_keeps_the_preprocessing(common, tmp_path):
    """Also the part of the image that is shown, whether the size is that of the shorter side or of both."""
    config, load = CrossViTConfig.from_variant("crossvit_tiny_240"), common.image_model.load_image_processor
    for name, size, expected in (("side", {"shortest_edge": 240}, {"shortest_edge": 480}), ("sides", {"height": 250, "width": 300}, {"height": 500, "width": 600})):  # fmt: skip
        CrossViTImageProcessor(size=size, crop_size={"height": 240, "width": 240}, resample=2).save_pretrained(
            tmp_path / name
        )
        changed = load(str(tmp_path / name), config, 480, {})
        assert {side: changed.size[side] for side in expected} == expected and changed.resample == 2
        assert changed.crop_size["height"] == changed.crop_size["width"] == 480


def test_turns_and_flips(common):
    """Each of the eight ways to lay a square comes, and no pixel is changed; a transform survives pickling for new processes."""
    processor = CrossViTImageProcessor.from_image_size(12, crop_pct=1.0)
    options = common.image_model.AugmentationArguments(random_crop_scale=1.0, vertical_flip=True, quarter_turns=True)
    transform = pickle.loads(pickle.dumps(common.image_model.TrainingTransform(processor, options)))
    square = Image.fromarray(np.arange(144, dtype=np.uint8).reshape(12, 12)).convert("RGB")
    torch.manual_seed(0)
    seen = {transform(square).numpy().tobytes() for _ in range(100)}
    plain = processor(square, return_tensors="pt").pixel_values[0]
    turned = [torch.rot90(plain, turn, (1, 2)) for turn in range(4)]
    expected = {image.contiguous().numpy().tobytes() for turn in turned for image in (turn, turn.flip(2))}
    assert seen == expected and len(expected) == 8


def test_class_weights_are_those_of_scikit_learn(common, tmp_path):
    data = load_images(DataArguments(train_dir=str(write_images(tmp_path / "photos", {"a": 40, "b": 4}))))
    weights = common.image_model.class_weights(data)
    labels = [data.label2id[name] for name in data.labels("train")]
    assert weights[labels].tolist() == pytest.approx(compute_sample_weight("balanced", labels).tolist())


# --- metrics, pictures and folders ---


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_that_are_not_finite(common, multi_label):
    scores = np.zeros((4, 8))
    scores[1] = np.nan
    references = np.eye(8, dtype=int)[:4] if multi_label else [0, 1, 2, 3]
    with pytest.raises(ValueError, match="The scores of 1 of 4 images are not finite, so the training has failed"):
        common.training_report.load_metrics(multi_label).compute(predictions=scores, references=references)


def test_names_are_no_formulas(common, tmp_path):
    names = ["$x_", "50%_", "two\nlines", "$\\frac$"]
    log = [{"step": 1, "loss": 1.0, "eval_accuracy": 0.5}]
    labels = np.arange(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        common.training_report.draw(
            common.training_report.draw_training, log, "accuracy", tmp_path / "a.png", labels, labels, names
        )
    assert Image.open(tmp_path / "a.png").width > 1000
    with pytest.warns(UserWarning, match="could not be drawn, all else is saved: .*FileNotFoundError"):
        common.training_report.draw(common.training_report.draw_training, log, "accuracy", tmp_path / "no" / "a.png")


def test_a_folder_with_another_run(common, tmp_path):
    """What differs is said. A folder without results may be taken, and an option that a run may change is no difference."""
    identity, check = common.run_identity, common.run_identity.check_folder
    data = ImageData({}, ["a", "b"], False, "1")

    class Options:
        learning_rate = 0.1
        num_train_epochs = 3
        token = "secret"

        def __init__(self, **values):
            vars(self).update({"learning_rate": 0.1, "num_train_epochs": 3, "token": "secret", **values})

    check(tmp_path, identity.describe_run(data, 8, Options()))
    assert "secret" not in (tmp_path / "run.json").read_text()
    check(tmp_path, identity.describe_run(data, 16, Options()))  # nothing was trained yet
    (tmp_path / "checkpoint-1").mkdir()
    check(tmp_path, identity.describe_run(data, 16, Options(num_train_epochs=5)))
    other = ImageData({}, ["a", "c"], False, "2")
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(SystemExit) as error:
        check(tmp_path, identity.describe_run(other, 8, Options(learning_rate=0.2)))
    for part in (
        "the training images or their labels",
        "the classes: a, b, now a, c",
        "learning_rate: 0.1, now 0.2",
        "images_per_step: 16, now 8",
    ):
        assert part in str(error.value)
    assert (tmp_path / "run.json").read_text() == before
