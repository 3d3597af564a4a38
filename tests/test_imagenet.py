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
Proves that benchmarks/imagenet.py measures ImageNet right: folders named as ImageNet's become the models' classes, so that its accuracies
are scikit-learn's, and other folders are refused.

    pytest tests/test_imagenet.py          30 seconds
"""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import top_k_accuracy_score
from small_models import small_config
from timm.data import ImageNetInfo

from benchmarks import imagenet
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.variants import imagenet_classes


def test_accuracies_are_those_of_scikit_learn(tmp_path, monkeypatch, capsys):
    """Each image of noise lies in the folder of a class that the model gives it at some rank, so that many answers are right."""
    torch.manual_seed(0)
    config = small_config(initializer_range=0.5, num_labels=1000, id2label=dict(enumerate(imagenet_classes())))
    model, processor = CrossViTForImageClassification(config).eval(), CrossViTImageProcessor.from_image_size(48)
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    generator, synsets = np.random.default_rng(0), ImageNetInfo("imagenet-1k").label_names()
    labels, logits = [], []
    for index in range(18):
        image = Image.fromarray(generator.integers(0, 255, (60, 70, 3), dtype=np.uint8))
        with torch.no_grad():
            logits.append(model(**processor(image, return_tensors="pt")).logits[0].numpy())
        labels.append(np.argsort(-logits[-1])[(0, 2, 20)[index % 3]])
        folder = tmp_path / "val" / synsets[labels[-1]]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{index}.png")
    arguments = ["--data", tmp_path / "val", "--models", tmp_path / "model", "--output_dir", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["imagenet", *map(str, arguments)])
    imagenet.main()
    (row,) = pd.read_csv(tmp_path / "out" / "results.csv", index_col=0).to_dict("records")
    for k in (1, 5):
        expected = 100 * top_k_accuracy_score(labels, np.array(logits), k=k, labels=range(1000))
        assert row[f"top-{k}"] == pytest.approx(expected) == pytest.approx({1: 100 / 3, 5: 200 / 3}[k])
    assert "18 images" in capsys.readouterr().out


def test_folders_of_other_names_are_refused(tmp_path):
    (tmp_path / "n01440764").mkdir()
    assert imagenet.label_map(str(tmp_path)) == {"n01440764": "tench"}
    (tmp_path / "cat").mkdir()
    with pytest.raises(SystemExit, match="has a folder 'cat', expected ImageNet's names of classes alone"):
        imagenet.label_map(str(tmp_path))


def test_table_beside_the_published_numbers():
    figures = {"accuracy": {"value": 0.74}, "top_5_accuracy": {"value": 0.92}}
    table = imagenet.results_table({"models": [{"name": "timm/crossvit_9_240.in1k", "figures": figures}]})
    assert table.iloc[0].tolist() == pytest.approx([74.0, 73.9, 73.994, 0.006, 92.0])
