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
examples/solar_cells.py: its folders are the package elpv-dataset, bit for bit, and the ordinary script trains the architecture on them. The
training runs as a slow test, with one epoch.

    pytest tests/examples/test_solar_cells.py              a few seconds
    pytest tests/examples/test_solar_cells.py -m slow      about 2 minutes
"""

import csv
import json
import re
import runpy
import shlex
import sys
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


EXAMPLE = Path(__file__).parents[2] / "examples" / "solar_cells.py"


@pytest.fixture(scope="module")
def example():
    """The functions of the example."""
    return SimpleNamespace(**runpy.run_path(str(EXAMPLE)))


@pytest.fixture(scope="module")
def cells(example):
    return example.load_cells()


def test_folders(example, cells, tmp_path):
    """Each file of the package lies in one folder, that of its class, with equal bytes. A quarter of each probability is held out."""
    example.write_cells(cells, tmp_path)
    source = Path(str(files("elpv_dataset"))) / "data"
    with open(source / "labels.csv") as file:
        probabilities = {
            Path(name).name: float(value)
            for name, value, _ in csv.reader(map(" ".join, map(str.split, file)), delimiter=" ")
        }
    assert len(probabilities) == 2624
    held_out = dict.fromkeys(set(probabilities.values()), 0)
    written = list(tmp_path.rglob("*.png"))
    assert sorted(path.name for path in written) == sorted(probabilities), "each file once"
    for path in written:
        split, label = path.relative_to(tmp_path).parts[:2]
        assert label == ("defective" if probabilities[path.name] > 0.5 else "functional")
        assert path.read_bytes() == (source / "images" / path.name).read_bytes()
        held_out[probabilities[path.name]] += split == "validation"
    assert sum(held_out.values()) == 656
    for probability, number in held_out.items():
        assert number == pytest.approx(list(probabilities.values()).count(probability) / 4, abs=1)


def test_split_stays_the_same(example, cells):
    assert example.load_cells().equals(cells)


def test_architecture(example, tmp_path):
    """The size is the announced one, and the image processor shows the whole cell."""
    example.write_architecture(tmp_path)
    model = CrossViTForImageClassification(CrossViTConfig.from_pretrained(tmp_path))
    announced = float(re.search(r"CrossViT with ([\d.]+) million parameters", example.write_architecture.__doc__)[1])
    assert model.num_parameters() == pytest.approx(announced * 1e6, rel=0.05)
    image_processor = CrossViTImageProcessor.from_pretrained(tmp_path)
    assert dict(image_processor.size) == {"shortest_edge": 144}
    assert dict(image_processor.crop_size) == {"height": 144, "width": 144}
    assert model.config.image_sizes[0] == 144


def test_missing_package(example, monkeypatch):
    monkeypatch.setitem(sys.modules, "elpv_dataset", None)
    with pytest.raises(SystemExit, match="is missing: pip install elpv-dataset"):
        example.load_cells()


@pytest.mark.slow
def test_one_epoch(run_example, tmp_path):
    """The commands at the top of the example. One epoch is enough to be no worse than the larger class by far."""
    text = re.search(r"^    python solar_cells.*?\n\n", EXAMPLE.read_text(), re.M | re.S)[0].replace("\\\\\n", " ")
    commands = text.replace("--num_train_epochs 25", "--num_train_epochs 1").strip().splitlines()
    for command in commands:
        _, script, *arguments = shlex.split(command.split("     writes")[0])
        run_example(script, *arguments, cwd=tmp_path, check=True)
    results = json.loads((tmp_path / "outputs" / "solar_cells" / "evaluation" / "evaluation.json").read_text())
    assert len(commands) == 3 and results["models"][0]["figures"]["accuracy"]["value"] > 0.55
