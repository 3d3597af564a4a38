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
Auto classes and pipelines on a saved folder: what a user of transformers calls, with every kind of input.

    pytest tests/test_pipelines.py
"""

import io
import logging

import numpy as np
import pytest
import torch
from datasets import Dataset, Image
from PIL import Image as PILImage
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline
from transformers.pipelines.pt_utils import KeyDataset

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor, CrossViTModel


@pytest.fixture
def classifier(saved_model):
    return pipeline("image-classification", model=str(saved_model))


@pytest.fixture
def images(photos):
    return [photos[kind] for kind in ("landscape", "portrait", "grey", "RGBA", "small")]


@pytest.fixture
def expected(saved_model, images):
    """The same by hand: processor, model, softmax."""
    model = CrossViTForImageClassification.from_pretrained(saved_model).eval()
    processor = CrossViTImageProcessor.from_pretrained(saved_model)
    with torch.no_grad():
        probabilities = model(**processor(images, return_tensors="pt")).logits.softmax(-1)
    return [
        sorted(({"label": f"LABEL_{i}", "score": p.item()} for i, p in enumerate(row)), key=lambda x: -x["score"])
        for row in probabilities
    ]


def assert_same(predictions, expected):
    assert [[entry["label"] for entry in row] for row in predictions] == [
        [entry["label"] for entry in row] for row in expected
    ]
    # The batch size changes the order of the sums in the matrix products.
    for row, expected_row in zip(predictions, expected):
        assert [entry["score"] for entry in row] == pytest.approx([entry["score"] for entry in expected_row], abs=1e-6)


def test_auto_classes(saved_model):
    assert type(AutoConfig.from_pretrained(saved_model)) is CrossViTConfig
    assert type(AutoModel.from_pretrained(saved_model)) is CrossViTModel
    assert type(AutoModelForImageClassification.from_pretrained(saved_model)) is CrossViTForImageClassification
    assert type(AutoImageProcessor.from_pretrained(saved_model)) is CrossViTImageProcessor


def test_the_pipeline_has_nothing_to_complain_about(saved_model, caplog):
    logging.getLogger("transformers").propagate = True
    with caplog.at_level("WARNING"):
        pipeline("image-classification", model=str(saved_model))
    assert not [record for record in caplog.records if "not supported" in record.message]


def test_one_image(classifier, images, expected):
    assert_same([classifier(images[0])], expected[:1])


def test_path_and_list_of_paths(classifier, images, expected, tmp_path):
    paths = []
    for number, image in enumerate(images):
        paths.append(str(tmp_path / f"{number}.png"))
        image.save(paths[-1])
    assert_same([classifier(paths[0])], expected[:1])
    assert_same(classifier(paths), expected)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_list_and_generator(classifier, images, expected, batch_size):
    assert_same(classifier(images, batch_size=batch_size), expected)
    assert_same(list(classifier((image for image in images), batch_size=batch_size)), expected)


def test_dataset(classifier, images, expected):
    files = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        files.append({"image": {"bytes": buffer.getvalue(), "path": None}})
    dataset = Dataset.from_list(files).cast_column("image", Image())
    assert_same(list(classifier(KeyDataset(dataset, "image"), batch_size=2)), expected)


def test_top_k_and_multi_label(classifier, images):
    assert len(classifier(images[0], top_k=2)) == 2
    classifier.model.config.problem_type = "multi_label_classification"
    assert sum(entry["score"] for entry in classifier(images[0])) != pytest.approx(1, abs=1e-3), "sigmoid, not softmax"


def test_feature_extraction(saved_model, images):
    extractor = pipeline("image-feature-extraction", model=str(saved_model))
    model = CrossViTModel.from_pretrained(saved_model).eval()
    processor = CrossViTImageProcessor.from_pretrained(saved_model)
    with torch.no_grad():
        outputs = model(**processor(images[0], return_tensors="pt"))
    assert np.array_equal(np.float32(extractor(images[0])), outputs.last_hidden_state.numpy())
    assert np.array_equal(np.float32(extractor(images[0], pool=True)), outputs.pooler_output.numpy())
    assert extractor(images[0], return_tensors=True).shape == (1, 5, 24)
    # More images in a batch than branches: whatever is among the outputs is taken apart along the batch.
    batch = extractor(images, batch_size=len(images), pool=True)
    # Another batch size may add up in another order: float32, values of the order of 1.
    np.testing.assert_allclose(np.float32(batch[0]), outputs.pooler_output.numpy(), rtol=0, atol=1e-5)
    assert len(batch) == len(images) == 5


@pytest.mark.parametrize("content", [b"", b"no image", None], ids=["empty", "text", "absent"])
def test_undecodable_file_is_named(classifier, tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises((PILImage.UnidentifiedImageError, ValueError), match="broken.jpg"):
        classifier(str(path))
