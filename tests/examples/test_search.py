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
examples/search.py: the nearest images and the duplicates are those of cosine similarities written out, with the features of transformers'
pipeline; the index reads what is new or changed and nothing else, and is not mixed with that of other weights.

    pytest tests/examples/test_search.py          about 15 seconds
"""

import io
import itertools
import os
import re
import shutil
import signal
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
import torch
from PIL import Image
from small_models import small_config
from transformers import pipeline

import crossvit.data
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, CrossViTModel


@pytest.fixture
def images(digits, tmp_path) -> Path:
    return shutil.copytree(digits / "validation", tmp_path / "images")


@pytest.fixture(autouse=True)
def no_picture(request, monkeypatch):
    """Drawing takes most of the time of a search. Two tests look at the picture."""
    if request.node.name not in ("test_nearest", "test_the_picture_is_not_an_image_of_the_folder"):
        monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda *_, **__: None)


@pytest.fixture
def search(run_here, saved_model, images, tmp_path):
    """Runs the script on the folder of images, and returns what it printed."""

    def search(*others) -> str:
        options = ("--model", saved_model, "--folder", images, "--output_dir", tmp_path / "out")
        return run_here("search.py", *options, *others)

    return search


def cosines(model: Path, paths: list[Path]) -> np.ndarray:
    """The similarities of all pairs of images, with the features of the pipeline."""
    extractor = pipeline("image-feature-extraction", model=str(model), pool=True, device="cpu")
    features = np.array([features[0] for features in extractor(list(map(str, paths)))], dtype=np.float64)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features @ features.T


def listed(printed: str) -> list[tuple[float, str]]:
    """The lines of a similarity and a path."""
    return [(float(number), path) for number, path in re.findall(r"^(-?\d\.\d{4}) (.*)$", printed, re.M)]


def counts(printed: str) -> tuple[int, int]:
    """The number of images, and of those that were read."""
    return tuple(map(int, re.search(r"(\d+) images, (\d+) of them read now", printed).groups()))


def test_nearest(search, images, saved_model, tmp_path):
    paths = sorted(images.rglob("*.png"))
    query = paths[13]
    similarities = cosines(saved_model, paths)[13]
    expected = np.argsort(-similarities)[:5]
    # Neighbours closer to each other than the rounding could change places.
    assert np.diff(similarities[expected]).max() < -1e-6
    found = listed(search("--query", query, "--nearest", 5))
    assert [path for _, path in found] == [str(paths[number]) for number in expected]
    assert [number for number, _ in found] == pytest.approx(
        similarities[expected], abs=1e-4
    )  # four digits are printed
    assert found[0] == (1.0, str(query)) and found[1][0] < 1
    with Image.open(tmp_path / "out" / "nearest.png") as picture:
        assert picture.width > 5 * picture.height / 2, "six images beside each other"
    # More than there are.
    assert len(listed(search("--query", query, "--nearest", 1000))) == len(paths)


def expected_groups(similarities: np.ndarray, least: float) -> set[frozenset[int]]:
    """Connected images, by the definition: whatever is reached through pairs that are similar enough."""
    groups = [{number} for number in range(len(similarities))]
    for first, second in itertools.combinations(range(len(similarities)), 2):
        if similarities[first, second] >= least:
            one, other = (next(group for group in groups if number in group) for number in (first, second))
            if one is not other:
                groups.remove(other)
                one |= other
    return {frozenset(group) for group in groups if len(group) > 1}


def printed_groups(printed: str, paths: list[Path]) -> set[frozenset[int]]:
    blocks = printed.split("similarity to the first one\n")[1].split("\n\n")
    return {frozenset(paths.index(Path(path)) for _, path in listed(block)) for block in blocks if listed(block)}


def test_duplicates(search, images, saved_model):
    """A copy of a file, a copy in another format and in a folder of its own, and a slightly darker one."""
    originals = sorted(images.rglob("*.png"))
    shutil.copy(originals[0], images / "copy.png")
    (images / "others").mkdir()
    with Image.open(originals[0]) as image:
        image.save(images / "others" / "copy.bmp")
        image.convert("RGB").save(images / "others" / "copy.jpg", quality=95)
    with Image.open(originals[9]) as image:
        image.point(lambda value: value * 0.99).save(images / "darker.PNG")
    paths = sorted(path for path in images.rglob("*") if path.is_file())
    similarities = cosines(saved_model, paths)
    exact = [paths.index(path) for path in (originals[0], images / "copy.png", images / "others" / "copy.bmp")]
    assert printed_groups(search("--duplicates", 1), paths) == {frozenset(exact)}
    for least in (0.9999, 0.999, 0.99):
        # No similarity is so near to the threshold that the rounding decides.
        assert np.abs(similarities - least)[np.triu_indices(len(paths), 1)].min() > 2e-6
        printed = search("--duplicates", least)
        groups = printed_groups(printed, paths)
        assert groups == expected_groups(similarities, least)
        assert f"\n{len(groups)} group{'' if len(groups) == 1 else 's'} of similarity {least} or more" in printed
    near = next(group for group in printed_groups(search("--duplicates", 0.9999), paths) if exact[0] in group)
    assert paths.index(images / "others" / "copy.jpg") in near
    for block in printed.split("\n\n")[1:]:
        (_, first), *others = listed(block)
        for similarity, path in others:
            expected = similarities[paths.index(Path(first)), paths.index(Path(path))]
            assert similarity == pytest.approx(expected, abs=1e-4)


def test_index_reads_what_is_new(search, images, saved_model, tmp_path):
    """A changed file is read again, although its name and its size stay; a removed one is gone; the others are not read."""
    paths = sorted(images.rglob("*.png"))
    for path in paths:
        os.truncate(path, 4096)  # zeros at the end, which decoders ignore
    assert counts(search("--duplicates", 1)) == (24, 24)
    assert counts(search("--duplicates", 1)) == (24, 0)
    shutil.copy(paths[0], images / "new.png")
    assert counts(search("--duplicates", 1)) == (25, 1)
    paths[1].write_bytes(paths[2].read_bytes())
    printed = search("--duplicates", 1)
    assert counts(printed) == (25, 1)
    found = {Path(path) for _, path in listed(printed)}
    assert found == {paths[0], images / "new.png", paths[1], paths[2]}, "the features are those of the new content"
    (images / "new.png").unlink()
    printed = search("--query", paths[0], "--nearest", 1000)
    assert counts(printed) == (24, 0)
    assert str(images / "new.png") not in printed
    # The features in the index are those of a new one.
    kept = search("--query", paths[5], "--nearest", 1000)
    (tmp_path / "out" / "index.npz").unlink()
    scores, expected = (
        {path: score for score, path in listed(printed)}
        for printed in (search("--query", paths[5], "--nearest", 1000), kept)
    )
    # Images are read in other batches, which round differently, and the last printed digit can go either way.
    assert scores == pytest.approx(expected, abs=1.1e-4)


def test_the_path_counts(search, images, tmp_path):
    """A folder in the place of another had names, sizes and times in common with it, and got its features."""
    first, second = sorted(images.rglob("*.png"))[:2]
    for folder, image in (("a", first), ("b", second)):
        (tmp_path / folder).mkdir()
        shutil.copy(image, tmp_path / folder / "1.png")
        os.truncate(tmp_path / folder / "1.png", 4096)  # zeros at the end, which decoders ignore
        os.utime(tmp_path / folder / "1.png", (0, 0))
    for folder in ("a", "b"):
        printed = search("--query", first, "--folder", tmp_path / folder)
        assert "1 image, 1 of them read now" in printed
        ((similarity, _),) = listed(printed)
        assert similarity == 1 if folder == "a" else similarity < 1


def test_images_are_found_as_training_finds_them(search, images, tmp_path):
    """Through a link to a folder, with a name that is not UTF-8, and without what Jupyter and macOS leave behind."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    image = next(images.rglob("*.png"))
    shutil.copy(image, elsewhere / os.fsdecode(b"caf\xe9.png"))
    (images / "link").symlink_to(elsewhere)
    for name in (".ipynb_checkpoints/1.png", "._1.png"):
        (images / name).parent.mkdir(exist_ok=True)
        shutil.copy(image, images / name)
    printed = search("--query", image, "--nearest", 2)
    assert counts(printed) == (25, 25)
    assert "left out: 1 x ._ files of macOS, 1 x copies of Jupyter" in printed
    assert {path for _, path in listed(printed)} == {str(image), f"{images}/link/caf\\xe9.png"}
    assert counts(search("--query", image)) == (25, 0)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_keeps_what_was_read(search, images, monkeypatch, capsys, number):
    """A batch has 32 images. The same command reads the rest."""
    for image in sorted(images.rglob("*.png")):
        shutil.copy(image, image.with_name(f"copy {image.name}"))
    read, original = [], crossvit.data.read_image

    def read_image(image: dict, **options) -> Image.Image:
        read.append(image)
        if len(read) == 40:
            os.kill(os.getpid(), number)
        return original(image, **options)

    with monkeypatch.context() as patch, pytest.raises(SystemExit) as ended:
        patch.setattr(crossvit.data, "read_image", read_image)
        search("--duplicates", 1)
    assert ended.value.code == 128 + number and len(read) == 40
    name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
    assert re.search(rf"\n{name}: the features .*index.npz; the same command continues", capsys.readouterr().err)
    assert counts(search("--duplicates", 1)) == (48, 16)


def test_index_of_other_weights(search, images, saved_model, tmp_path):
    """The folder of the model has the same name, but it was trained again."""
    search("--duplicates", 1)
    index = (tmp_path / "out" / "index.npz").read_bytes()
    model = CrossViTForImageClassification.from_pretrained(saved_model)
    with torch.no_grad():
        next(model.parameters()).add_(1e-3)
    model.save_pretrained(saved_model)
    with pytest.raises(
        SystemExit, match="index.npz has features of another model .* earlier weights.*give another --output_dir"
    ):
        search("--duplicates", 1)
    assert (tmp_path / "out" / "index.npz").read_bytes() == index


def test_unreadable_images_are_named(search, images, tmp_path):
    (images / "broken.png").write_bytes(b"no image")
    (images / "text.txt").write_text("no image")
    for read in (24, 0):
        printed = search("--duplicates", 1)
        assert counts(printed) == (24, read)
        assert re.search(
            rf"left out, because it cannot be read: {re.escape(str(images))}/broken.png: cannot identify", printed
        )
    assert "text.txt" not in printed


def test_the_picture_is_not_an_image_of_the_folder(search, images, tmp_path):
    """The folder of the outputs may lie in that of the images."""
    options = ("--folder", tmp_path, "--output_dir", tmp_path / "out")
    query = next(images.rglob("*.png"))
    for read in (24, 0):
        assert counts(search("--query", query, *options)) == (24, read)


def test_a_failure_leaves_the_index(search, images, tmp_path, monkeypatch):
    search("--duplicates", 1)
    index = (tmp_path / "out" / "index.npz").read_bytes()
    shutil.copy(next(images.rglob("*.png")), images / "new.png")

    def fail(file, **_):
        Path(file).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(SystemExit, match="There is no space for files .*Free some: the same command continues"):
        search("--duplicates", 1)
    assert (tmp_path / "out" / "index.npz").read_bytes() == index


def test_a_damaged_index_is_refused(search, images, tmp_path):
    """It is named, and stays as it is."""
    file = tmp_path / "out" / "index.npz"
    search("--duplicates", 1)
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    other = io.BytesIO()
    np.savez(other, identity="a", keys=["b"], features=np.zeros(3))
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    for content in (whole[:-100], whole[:200], bytes(flipped), b"", b"text", array.getvalue(), other.getvalue()):
        file.write_bytes(content)
        with pytest.raises(
            SystemExit, match=r"index.npz (is damaged|has features of another model).*the same command|give another"
        ):
            search("--duplicates", 1)
        assert file.read_bytes() == content
    file.unlink()
    search("--duplicates", 1)
    assert file.exists()


@pytest.mark.parametrize("channels", [1, 4])
def test_models_of_other_channels(search, images, tmp_path, channels):
    """Images become grey for a model of one channel. For four, the images are not blamed."""
    CrossViTModel(small_config(num_channels=channels)).save_pretrained(tmp_path / "other")
    settings = {"do_convert_rgb": False, "image_mean": [0.5] * channels, "image_std": [0.5] * channels}
    CrossViTImageProcessor.from_image_size(48, **settings).save_pretrained(tmp_path / "other")
    options = ("--duplicates", 1, "--model", tmp_path / "other")
    if channels == 1:
        assert counts(search(*options)) == (24, 24)
    else:
        with pytest.raises(SystemExit, match="cannot be loaded: The model takes images of 4 channels"):
            search(*options)


def test_mistakes(search, images, saved_model, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "note.png").write_text("no image")
    for options, message in (
        ((), "Nothing to do: give --query IMAGE, --duplicates SIMILARITY"),
        (("--query", tmp_path / "none.png"), "--query .*none.png cannot be read: .*No such file"),
        (("--query", tmp_path / "note.png"), "--query .*note.png cannot be read: cannot identify"),
        (
            ("--duplicates", 1, "--folder", tmp_path / "empty"),
            "empty has no image that can be read. Expected files such as",
        ),
        (("--duplicates", 1, "--folder", tmp_path / "none"), "none has no image that can be read"),
        (("--duplicates", 0), "--duplicates more than 0 and at most 1"),
        (("--duplicates", 99), "--duplicates more than 0 and at most 1"),
        (("--duplicates", 1, "--nearest", 0), "--nearest must be at least 1"),
        (("--duplicates", 1, "--model", tmp_path / "none"), "The model cannot be loaded"),
        (
            ("--duplicates", 1, "--output_dir", next(images.rglob("*.png")) / "out"),
            "--output_dir .*cannot be written to",
        ),
    ):
        with pytest.raises(SystemExit, match=message):
            search(*options)
    assert not (tmp_path / "out").exists()
    model = CrossViTModel.from_pretrained(saved_model)
    next(model.parameters()).data.fill_(float("nan"))
    model.save_pretrained(saved_model)
    with pytest.raises(SystemExit, match="gives features that are not finite numbers"):
        search("--duplicates", 1, "--output_dir", tmp_path / "second")
