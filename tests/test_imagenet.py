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
Proves that benchmarks/imagenet.py counts right: its sums are scikit-learn's, classes are numbered as ImageNet's, what was answered is kept,
processes share the images, a batch that is too large becomes smaller, and mistakes are named.

    pytest tests/test_imagenet.py          40 seconds
"""

import json
import subprocess
import sys
from pathlib import Path

import imagenet
import numpy as np
import pytest
import torch
from datasets import ClassLabel, Dataset
from PIL import Image
from sklearn.metrics import top_k_accuracy_score
from small_models import small_config

from crossvit import CROSSVIT_VARIANTS, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.convert import PUBLISHED_ACCURACIES


ROOT = Path(__file__).parents[1]
# ImageNet's own names of classes, and their numbers in the order in which its models count.
CLASSES = {"n01440764": 0, "n01443537": 1, "n02123045": 281, "n15075141": 999}
IMAGES_PER_CLASS = 5


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    """The folders of two models with 1,000 classes. Large random weights make clear decisions."""
    folders = []
    for seed in range(2):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("models") / f"model{seed}"
        CrossViTForImageClassification(small_config(initializer_range=0.5, num_labels=1000)).save_pretrained(folder)
        CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models) -> Path:
    """Images of noise. Each lies in the folder of a class that a model gives it at some rank, so that many answers are right."""
    folder = tmp_path_factory.mktemp("val")
    generator = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir()
        for number in range(IMAGES_PER_CLASS):
            Image.fromarray(generator.integers(0, 255, (60, 70, 3), dtype=np.uint8)).save(
                folder / name / f"{number}.png"
            )
    return folder


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(imagenet, "BLOCK", 3)


def run_main(monkeypatch, *arguments) -> None:
    # No processes that read images: their handler may crash the process of the tests (tests/conftest.py says how).
    arguments = ("--dataloader_num_workers", 0, *arguments)
    monkeypatch.setattr(sys, "argv", ["imagenet.py", *map(str, arguments)])
    imagenet.main()


def logits_of(model: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The right classes, and the logits of each image by itself."""
    paths = sorted(folder.glob("*/*.png"))
    loaded = CrossViTForImageClassification.from_pretrained(model).eval()
    image_processor = CrossViTImageProcessor.from_pretrained(model)
    with torch.no_grad():
        logits = [loaded(**image_processor(Image.open(path), return_tensors="pt")).logits[0] for path in paths]
    return np.array([CLASSES[path.parent.name] for path in paths]), torch.stack(logits).numpy()


def move_to_predicted(folder: Path, model: str, target: Path) -> Path:
    """The same images in folders of classes of which some are the model's first answer, and some its third or twentieth."""
    from timm.data import ImageNetInfo

    names = ImageNetInfo("imagenet-1k").label_names()
    _, logits = logits_of(model, folder)
    for number, (path, scores) in enumerate(zip(sorted(folder.glob("*/*.png")), logits)):
        label = names[np.argsort(-scores)[(0, 2, 20)[number % 3]]]
        (target / label).mkdir(parents=True, exist_ok=True)
        (target / label / f"{number}.png").write_bytes(path.read_bytes())
    return target


def test_sums_are_those_of_scikit_learn(folder, models, tmp_path, monkeypatch, small_blocks, capsys):
    data = move_to_predicted(folder, models[0], tmp_path / "val")
    run_main(monkeypatch, "--data", data, "--models", *models, "--output_dir", tmp_path / "out")
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(results) == models and "20 images of" in printed
    numbers = {name: number for number, name in enumerate(imagenet.ImageNetInfo("imagenet-1k").label_names())}
    for model in models:
        monkeypatch.setattr(sys.modules[__name__], "CLASSES", numbers)
        labels, logits = logits_of(model, data)
        for k in (1, 5):
            expected = 100 * top_k_accuracy_score(labels, logits, k=k, labels=range(1000))
            assert results[model][f"top-{k}"] == pytest.approx(expected), model
    assert results[models[0]]["top-1"] == 35 and results[models[0]]["top-5"] == 70


def test_classes_are_numbered_as_imagenets(folder):
    """A folder with a few of the classes does not number them from zero."""
    data = imagenet.load_folder(folder)
    assert data.labels == [number for number in CLASSES.values() for _ in range(IMAGES_PER_CLASS)]


def test_only_what_is_missing_is_answered(folder, models, tmp_path, monkeypatch, small_blocks):
    arguments = ("--data", folder, "--models", models[0], "--output_dir", tmp_path)
    run_main(monkeypatch, *arguments)
    (kept,) = tmp_path.glob("*/")
    expected = (tmp_path / "results.json").read_text()
    files = sorted(kept.glob("*.npy"))
    assert len(files) == 7  # 20 images in blocks of 3
    times = {path: path.stat().st_mtime_ns for path in files}
    files[2].unlink()
    (tmp_path / "results.json").unlink()
    run_main(monkeypatch, *arguments)
    assert (tmp_path / "results.json").read_text() == expected
    assert [path for path in files if path.stat().st_mtime_ns != times[path]] == [files[2]]


def test_two_processes_share_the_images(folder, models, tmp_path):
    script = tmp_path / "run.py"
    # Two processes that print at once mix their lines, so each counts its files in a file of its own.
    script.write_text(
        "import imagenet, numpy\n"
        "imagenet.BLOCK = 3\n"
        "original = numpy.save\n"
        "def save(file, table):\n"
        f"    with open(f'{tmp_path}/wrote_{{imagenet.PartialState().process_index}}', 'a') as log:\n"
        "        log.write('.')\n"
        "    original(file, table)\n"
        "numpy.save = save\n"
        "imagenet.main()\n"
    )
    arguments = ["--data", str(folder), "--models", models[0], "--output_dir", str(tmp_path / "out")]
    environment = {"PYTHONPATH": str(ROOT / "benchmarks"), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", str(script), *arguments],
        capture_output=True, text=True, env={**imagenet.os.environ, **environment},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    assert [(tmp_path / f"wrote_{process}").read_text() for process in (0, 1)] == ["....", "..."]
    (name,) = json.loads((tmp_path / "out" / "results.json").read_text())
    labels, logits = logits_of(models[0], folder)
    assert imagenet.accuracies(tmp_path / "out" / name.strip("/").replace("/", "--"), 20)["top-5"] == pytest.approx(
        100 * top_k_accuracy_score(labels, logits, k=5, labels=range(1000))
    )


def test_a_batch_that_is_too_large_becomes_smaller(folder, models, tmp_path, monkeypatch):
    forward = CrossViTForImageClassification.forward
    batches = []

    def limited(self, pixel_values, **kwargs):
        batches.append(len(pixel_values))
        if len(pixel_values) > 8:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(self, pixel_values, **kwargs)

    monkeypatch.setattr(CrossViTForImageClassification, "forward", limited)
    run_main(monkeypatch, "--data", folder, "--models", models[0], "--output_dir", tmp_path)
    refused = [size for size in batches if size > 8]
    assert refused and batches[: len(refused)] == refused
    assert sum(batches[len(refused) :]) == 20  # each image once


def test_a_set_of_the_hub(folder, monkeypatch):
    names = [str(number) for number in range(1000)]
    images = [Image.open(path) for path in sorted(folder.glob("*/*.png"))[:3]]
    data = Dataset.from_dict({"image": images, "label": [5, 999, 0]}).cast_column("label", ClassLabel(names=names))
    monkeypatch.setattr(imagenet, "load_dataset", lambda name, split: {"validation": data}[split])
    found = imagenet.load_from_hub("ILSVRC/imagenet-1k")
    assert found.labels == [5, 999, 0] and len(found.images) == 3
    few = data.cast_column("label", ClassLabel(names=names[:1000] + ["1000"]))
    monkeypatch.setattr(imagenet, "load_dataset", lambda name, split: few)
    with pytest.raises(SystemExit, match="some/set has 1001 classes, expected the 1,000 of ImageNet-1k"):
        imagenet.load_from_hub("some/set")


def test_mistakes_are_named(folder, models, tmp_path, monkeypatch):
    (tmp_path / "cats" / "cat").mkdir(parents=True)
    Image.new("RGB", (50, 50)).save(tmp_path / "cats" / "cat" / "1.png")
    with pytest.raises(SystemExit, match="has a folder 'cat'. Expected ImageNet's names of classes alone"):
        imagenet.load_folder(tmp_path / "cats")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SystemExit, match="must have a folder of images per class"):
        imagenet.load_folder(tmp_path / "empty")
    (tmp_path / "broken" / "n01440764").mkdir(parents=True)
    (tmp_path / "broken" / "n01440764" / "1.png").write_text("no image")
    with pytest.raises(OSError, match=r"n01440764/1\.png cannot be read"):
        imagenet.Prepared(imagenet.load_folder(tmp_path / "broken"), CrossViTImageProcessor.from_image_size(48))[0]
    CrossViTForImageClassification(small_config(num_labels=3)).save_pretrained(tmp_path / "three")
    with pytest.raises(SystemExit, match="three has 3 classes, expected the 1,000 of ImageNet-1k"):
        run_main(monkeypatch, "--data", folder, "--models", tmp_path / "three", "--output_dir", tmp_path / "out")
    with pytest.raises(SystemExit, match="has answers of another run"):
        (tmp_path / "cats" / "cat").rename(tmp_path / "cats" / "n02123045")
        run_main(
            monkeypatch, "--data", tmp_path / "cats", "--models", tmp_path / "three", "--output_dir", tmp_path / "out"
        )


def test_reported_numbers_are_there_for_all_published_models():
    """timm's two editions differ by less than 0.04, and neither by more than 0.4 from the paper's."""
    assert list(imagenet.TIMM) == list(CROSSVIT_VARIANTS) == list(PUBLISHED_ACCURACIES)
    for variant, (top_1, top_5) in imagenet.TIMM.items():
        paper, timm = PUBLISHED_ACCURACIES[variant]
        assert abs(top_1 - timm) < 0.04 and abs(top_1 - paper) < 0.4 and top_1 < top_5
    table = imagenet.results_table({"timm/crossvit_9_240.in1k": {"top-1": 74.0, "top-5": 92.0}})
    assert table.iloc[0].tolist() == pytest.approx([74.0, 73.9, 73.958, 0.042, 92.0, 91.968, 0.032])
