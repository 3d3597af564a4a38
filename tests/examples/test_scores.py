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
What the tools show of a model is what transformers' pipeline shows, whatever the model is for: classes, several labels per image, or values.

    pytest tests/examples/test_scores.py
"""

import importlib.util
import re
import runpy
import sys
from pathlib import Path

import pytest
import ray
import torch
from PIL import Image
from small_models import small_config
from transformers import pipeline

from benchmarks.deletion_curves import deletion_and_insertion
from crossvit import (
    CrossViTConfig,
    CrossViTForImageClassification,
    CrossViTImageProcessor,
    CrossViTImageProcessorPil,
    explain,
)
from crossvit.inference.backends import load_for_inference
from crossvit.inference.scores import same_answers


EXAMPLES = Path(__file__).parents[2] / "examples"
KINDS = {
    "classes": {"num_labels": 3},
    "classes, said": {"num_labels": 3, "problem_type": "single_label_classification"},
    "several labels": {"num_labels": 3, "problem_type": "multi_label_classification"},
    "one label": {"num_labels": 1},
    "one value": {"num_labels": 1, "problem_type": "regression"},
    "several values": {"num_labels": 3, "problem_type": "regression"},
}


@pytest.fixture(params=KINDS)
def folder(request, tmp_path) -> str:
    """A model whose values are not between 0 and 1."""
    torch.manual_seed(0)
    arguments = KINDS[request.param]
    names = dict(enumerate(["ant", "bee", "cat"][: arguments["num_labels"]]))
    model = CrossViTForImageClassification(small_config(**arguments, id2label=names, initializer_range=0.5))
    for head in model.classifier.heads:
        head.bias.data += torch.tensor([26.0, 27.0, 24.0])[: len(names)]
    model.save_pretrained(tmp_path / "model")
    CrossViTImageProcessor.from_image_size(48).save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


@pytest.fixture
def photo(photos, tmp_path) -> str:
    photos["landscape"].save(tmp_path / "photo.png")
    return str(tmp_path / "photo.png")


def expected_scores(folder: str, photo: str, processor=CrossViTImageProcessorPil) -> dict[str, float]:
    answers = pipeline("image-classification", folder, image_processor=processor.from_pretrained(folder))(photo)
    return {answer["label"]: answer["score"] for answer in answers}


def test_batch_job(folder, photo, monkeypatch):
    script = runpy.run_path(str(EXAMPLES / "batch_inference.py"))
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])
    arguments = script["Arguments"](model=folder, images="")
    image_processor, shape = script["load_image_processor"](arguments)
    batch = {"image": [photo], "path": [photo], "bytes": [None], "error": [None]}
    classifier = script["Classifier"](arguments, image_processor, threads=1)
    (row,) = classifier(script["decode"](batch, image_processor, shape)).to_pylist()
    expected = expected_scores(folder, photo, CrossViTImageProcessor)
    assert row["labels"] == list(expected) and row["scores"] == pytest.approx(list(expected.values()), rel=1e-5)


def test_maps(folder, photo, tmp_path, capsys):
    explain.main([folder, photo, "--methods", "attention", "--output", str(tmp_path / "why.png")])
    printed = re.findall(r"^ *([-\d.]+)(%?)  (\w+)$", capsys.readouterr().out, re.M)
    found = {name: float(value) / (100 if percent else 1) for value, percent, name in printed}
    assert found == pytest.approx(expected_scores(folder, photo), abs=0.02)  # as many digits as are shown
    assert list(found) == list(expected_scores(folder, photo))


def test_demo(folder, photo):
    spec = importlib.util.spec_from_file_location("demo_app_of_scores", EXAMPLES / "demo" / "app.py")
    app = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = app
    spec.loader.exec_module(app)
    _, shown, *_, page = app.classify(photo, folder, app.TRAINED_SIZE)
    expected = expected_scores(folder, photo)
    assert shown == pytest.approx(expected, rel=1e-5) and list(shown) == list(expected)
    config = CrossViTConfig.from_pretrained(folder)
    texts = re.findall("<span>(.*?)</span>", page.value)
    assert dict(zip(texts[::2], texts[1::2])) == dict(zip(shown, explain.show_scores(list(shown.values()), config)))
    is_one_class = "single" in str(config.problem_type) or (config.problem_type is None and len(expected) > 1)
    kind = "value" if config.problem_type == "regression" else "class" if is_one_class else "label"
    assert page.label == app.HEADINGS[kind]


def test_curves(folder, photo):
    """They begin and end with the score of the best class, and have values for a model of values."""
    model, image_processor = load_for_inference(folder)
    pixel_values = image_processor(Image.open(photo), return_tensors="pt").pixel_values
    importance = torch.rand(1, *pixel_values.shape[-2:], generator=torch.Generator().manual_seed(0))
    curves = deletion_and_insertion(model, pixel_values, importance, steps=2)
    best = next(iter(expected_scores(folder, photo).values()))
    assert [curves["deletion"][0, 0].item(), curves["insertion"][0, -1].item()] == pytest.approx([best] * 2, rel=1e-5)


def test_forms_of_a_model_are_compared_by_their_answers():
    expected = torch.tensor([[1.0, -1.0, 3.0], [2.0, 1.0, -5.0]])
    classes, several, values = (
        small_config(**KINDS[kind]) for kind in ("classes", "several labels", "several values")
    )
    other = expected + torch.tensor([[0.0, 1.5, 0.0], [0.0, 0.0, 0.0]])  # the same best class, but one label more
    assert same_answers(other, expected, classes).tolist() == [True, True]
    assert same_answers(other, expected, several).tolist() == [False, True]
    assert same_answers(other, expected, values).tolist() == [False, True]
    assert same_answers(expected + 0.05, expected, values).tolist() == [True, True]  # of a range of 8
