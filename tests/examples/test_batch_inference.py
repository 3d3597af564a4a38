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
Batch inference: every image has exactly one row, with the numbers of transformers' pipeline, also when a worker and then the whole job are
killed. The photographs are 1,000 of the package elpv-dataset.

    pytest tests/examples/test_batch_inference.py              about four minutes, most of them in Ray's starts
"""

import io
import os
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from datasets import Dataset, DatasetDict
from PIL import Image
from small_models import small_config
from transformers import pipeline

from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.data import decode_jpegs, list_parts
from crossvit.inference.export import main as export


ROOT = Path(__file__).parents[2]
PHOTOS = sorted((Path(str(files("elpv_dataset"))) / "data" / "images").glob("*.png"))[:1000]


@pytest.fixture(scope="module")
def script() -> dict:
    """The functions of the script."""
    return runpy.run_path(str(ROOT / "examples" / "batch_inference.py"))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model")
    CrossViTForImageClassification(small_config(id2label=dict(enumerate("abcde")))).save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def classify(model):
    """What transformers' pipeline says of an image."""
    return pipeline("image-classification", str(model), image_processor=CrossViTImageProcessor.from_pretrained(model))


@pytest.fixture
def run(model, run_example, tmp_path):
    """
    Runs the script with this model, and returns the folder of the results and what was printed. It runs in a process of its own, because
    Ray ends a process whose cluster has gone.
    """

    def run(images, *options) -> tuple[Path, str]:
        output = tmp_path / "predictions"
        paths = ("--model", str(model), "--images", str(images), "--output_dir", str(output))
        result = run_example("batch_inference.py", *paths, *map(str, options))
        if result.returncode:
            raise SystemExit(result.stderr)
        return output, result.stdout

    return run


def rows_of(output: Path) -> dict[str, dict]:
    rows = pq.read_table(output / "predictions").to_pylist()
    assert len({row["image"] for row in rows}) == len(rows)
    return {row["image"]: row for row in rows}


def assert_same_scores(row: dict, expected: list[dict]):
    assert row["error"] is None
    assert row["labels"] == [answer["label"] for answer in expected]
    # The fused layers and the size of the batch change float32 in its last places.
    np.testing.assert_allclose(row["scores"], [answer["score"] for answer in expected], atol=1e-6)
    assert (row["label"], row["score"]) == (row["labels"][0], row["scores"][0])


# --- where images come from ---


def encoded(path: Path) -> bytes:
    return path.read_bytes()


def test_image_files_are_found_in_folders_and_by_patterns(tmp_path):
    for name in ("a/1.png", "a/b/2.JPG", "3.webp", "notes.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PHOTOS[0], tmp_path / name)
    found = list_parts(str(tmp_path), size=2)
    assert [part.length for part in found] == [2, 1]
    rows = [row for part in found for row in part.read()]
    assert [row["image"] for row in rows] == [str(tmp_path / name) for name in ("3.webp", "a/1.png", "a/b/2.JPG")]
    (only,) = list_parts(str(tmp_path / "**" / "*.JPG"), size=2)
    assert [row["path"] for row in only.read()] == [str(tmp_path / "a/b/2.JPG")]


@pytest.mark.parametrize("kind", ["struct", "bytes", "path"])
def test_parquet_files_give_each_row_a_name(kind, tmp_path):
    for photo in PHOTOS[:5]:
        shutil.copy(photo, tmp_path)
    values = {
        "struct": [{"bytes": encoded(photo), "path": photo.name} for photo in PHOTOS[:5]],
        "bytes": [encoded(photo) for photo in PHOTOS[:5]],
        "path": [photo.name for photo in PHOTOS[:5]],
    }
    file = tmp_path / "data.parquet"
    pq.write_table(pa.table({"image": [*values[kind], None]}), file, row_group_size=4)
    found = list_parts(str(file), size=100)
    assert [part.length for part in found] == [4, 2]
    rows = [row for part in found for row in part.read()]
    assert [row["image"] for row in rows] == [f"{file}/{number}" for number in range(6)]
    read = [row["bytes"] or (row["path"] and encoded(Path(row["path"]))) for row in rows]
    assert read == [*map(encoded, PHOTOS[:5]), None]


def test_a_group_of_rows_that_is_broken(script, tmp_path):
    """Each of its images has a row with the error, and the other groups are read."""
    file = tmp_path / "data.parquet"
    table = pa.table({"image": [encoded(photo) for photo in PHOTOS[:6]]})
    pq.write_table(table, file, row_group_size=3, use_dictionary=False)
    second = pq.ParquetFile(file).metadata.row_group(1).column(0)
    with open(file, "r+b") as opened:
        opened.seek(second.data_page_offset)
        opened.write(bytes(second.total_compressed_size // 2))
    rows = [
        row
        for part in list_parts(str(file), size=1)
        for table in script["read_part"](part)
        for row in table.to_pylist()
    ]
    assert [row["image"] for row in rows] == [f"{file}/{number}" for number in range(6)]
    assert [row["bytes"] for row in rows] == [*map(encoded, PHOTOS[:3]), None, None, None]
    assert [bool(row["error"]) for row in rows] == [False] * 3 + [True] * 3


def write_shard(file: Path, names: list[str]):
    with tarfile.open(file, "w") as shard:
        for name, photo in zip(names, PHOTOS):
            member = tarfile.TarInfo(name)
            member.size = photo.stat().st_size
            shard.addfile(member, io.BytesIO(encoded(photo)))


def test_shards_give_every_member_a_name_of_its_own(tmp_path):
    write_shard(tmp_path / "0.tar", ["1.png", "1.cls", "1.png", "x/2.png"])
    (part,) = list_parts(str(tmp_path), size=1)
    rows = list(part.read())
    assert len({row["image"] for row in rows}) == 3
    assert [row["bytes"] for row in rows] == [encoded(PHOTOS[number]) for number in (0, 2, 3)]


# A cut through the header of a member is what Python's tarfile takes for the end.
@pytest.mark.parametrize("cut", ["header", "content"])
def test_a_shard_that_breaks_off_is_an_error(cut, tmp_path):
    write_shard(tmp_path / "0.tar", ["1.png", "2.png"])
    first = tarfile.BLOCKSIZE + -(-PHOTOS[0].stat().st_size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    os.truncate(tmp_path / "0.tar", first + {"header": 100, "content": 1000}[cut])
    (part,) = list_parts(str(tmp_path), size=1)
    images = part.read()
    assert next(images)["bytes"] == encoded(PHOTOS[0])
    with pytest.raises((OSError, tarfile.ReadError), match="breaks off|unexpected end"):
        list(images)


def test_data_sets_of_datasets(tmp_path):
    table = Dataset.from_dict({"picture": [str(photo) for photo in PHOTOS[:3]] + [None], "other": [1, 2, 3, 4]})
    DatasetDict({"test": table}).save_to_disk(tmp_path / "saved")
    found = list_parts(str(tmp_path / "saved"), size=3, column="picture")
    rows = [row for part in found for row in part.read()]
    assert [row["image"] for row in rows] == [f"{tmp_path / 'saved'}/test/{number}" for number in range(4)]
    assert [row["path"] for row in rows] == [*map(str, PHOTOS[:3]), None]


# --- one job ---


def test_every_image_has_a_row_with_the_numbers_of_the_pipeline_or_an_error(
    run, run_here, model, classify, photos, tmp_path
):
    folder = tmp_path / "images [1]"  # brackets are a pattern of names, too
    folder.mkdir()
    shutil.copy(files("sklearn.datasets.images") / "flower.jpg", folder)
    photos["EXIF-rotated"].save(folder / "rotated.jpg", exif=photos["EXIF-rotated"].getexif(), quality=95)
    photos["RGBA"].save(folder / "transparent.png")
    for photo in PHOTOS[:40]:
        shutil.copy(photo, folder)
    shutil.copy(PHOTOS[0], folder / "mislabelled.jpg")
    (folder / "text.png").write_text("no image")
    (folder / "truncated.png").write_bytes(encoded(PHOTOS[0])[:5000])
    (folder / "empty.png").touch()
    output, printed = run(folder, "--top_k", 3, "--rows_per_file", 16)
    rows = rows_of(output)
    assert set(rows) == {str(file) for file in folder.iterdir()}
    broken = {name for name, row in rows.items() if row["error"]}
    assert broken == {str(folder / name) for name in ("text.png", "truncated.png", "empty.png")}
    assert "cannot identify image file" in rows[str(folder / "text.png")]["error"]
    for name in rows.keys() - broken:
        assert_same_scores(rows[name], classify(name, top_k=3))
    assert f"{len(rows)} images, of which 3 cannot be read" in printed
    # Given again, it has nothing to do, and does not start Ray. A changed model card changes no row.
    (Path(model) / "README.md").write_text("# A model\n")
    written = {file: file.stat().st_mtime_ns for file in output.glob("*/*.parquet")}
    same = ("batch_inference.py", "--model", model, "--images", folder, "--output_dir", output)
    run_here(*same, "--top_k", 3, "--rows_per_file", 16)
    assert {file: file.stat().st_mtime_ns for file in output.glob("*/*.parquet")} == written
    with pytest.raises(SystemExit, match="another job: top_k was 3 and is 5"):
        run_here(*same)


def test_a_job_given_again_after_images_changed(run, classify, tmp_path):
    """Of one folder and of one parquet file: new and changed inputs are computed, rows without an input go, the others stay."""
    folder = tmp_path / "images"
    folder.mkdir()
    for photo in PHOTOS[:6]:
        shutil.copy(photo, folder)
    weird = folder / os.fsdecode(b"caf\xe9.png")  # not UTF-8
    shutil.copy(PHOTOS[6], weird)
    output, _ = run(folder, "--rows_per_file", 2)
    before = rows_of(output)
    assert before.keys() == {*(str(folder / photo.name) for photo in PHOTOS[:6]), f"{folder}/caf\\xe9.png"}
    assert_same_scores(before[f"{folder}/caf\\xe9.png"], classify(str(PHOTOS[6])))
    gone, changed, new = (folder / photo.name for photo in (PHOTOS[0], PHOTOS[1], PHOTOS[7]))
    gone.unlink()
    shutil.copy(PHOTOS[7], new)
    shutil.copy(PHOTOS[8], changed)
    _, printed = run(folder, "--rows_per_file", 2)
    for what, path in (("new", new), ("changed", changed), ("gone", gone)):
        assert f"{what} since the last run: {path}\n" in printed
    rows = rows_of(output)
    assert rows.keys() == {*before, str(new)} - {str(gone)}
    assert_same_scores(rows.pop(str(new)), classify(str(new)))
    assert_same_scores(rows.pop(str(changed)), classify(str(changed)))
    assert rows == {name: before[name] for name in rows}


@pytest.mark.parametrize("interrupted_at", [0, 1, 2, None])
def test_rows_of_a_parquet_file_that_was_replaced(script, monkeypatch, tmp_path, interrupted_at):
    """All of its rows go, also where the change of one of the three files is interrupted. Other files keep theirs."""
    update, output = script["update_inputs"], tmp_path / "output"
    first, other = (tmp_path / name for name in ("a.parquet", "a.parquet.old.parquet"))
    for file in (first, other):
        pq.write_table(pa.table({"image": [encoded(photo) for photo in PHOTOS[:3]]}), file)
    for name in ("predictions", "finished"):
        (output / name).mkdir(parents=True)
        for number, images in enumerate(([f"{first}/0", f"{other}/0"], [f"{other}/1", f"{other}/2"], [f"{first}/1"])):
            pq.write_table(pa.table({"image": images}), output / name / f"{number}.parquet")

    def inputs() -> dict:
        return script["describe_inputs"](list_parts(str(tmp_path / "*.parquet"), size=9))

    update(inputs(), output)
    assert len(rows_of(output)) == 5
    pq.write_table(pa.table({"image": [encoded(PHOTOS[3])]}), first)
    if interrupted_at is not None:
        replaced, original = [], update.__globals__["replace_file"]

        def replace_file(file):
            replaced.append(file)
            if len(replaced) > interrupted_at:
                raise KeyboardInterrupt
            return original(file)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setitem(update.__globals__, "replace_file", replace_file)
            update(inputs(), output)
    update(inputs(), output)
    for name in ("predictions", "finished"):
        kept = pq.read_table(output / name)["image"].to_pylist()
        assert sorted(kept) == [f"{other}/{number}" for number in range(3)]


def test_shards_on_a_cluster_with_embeddings(run, model, monkeypatch, tmp_path):
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("RAY_ADDRESS", "")
    names = [f"{number}.png" for number in range(20)]
    write_shard(tmp_path / "whole.tar", names)
    write_shard(tmp_path / "broken.tar", names)
    os.truncate(tmp_path / "broken.tar", 5 * tarfile.BLOCKSIZE + PHOTOS[0].stat().st_size)
    with cluster() as address:
        output, _ = run(tmp_path / "*.tar", "--embeddings", "--address", address)
    rows = rows_of(output)
    assert set(rows) == {
        *(f"{tmp_path}/whole.tar/{name}" for name in names),
        f"{tmp_path}/broken.tar/0.png",
        f"{tmp_path}/broken.tar",
    }
    assert "unexpected end of data" in rows[f"{tmp_path}/broken.tar"]["error"]
    features = pipeline(
        "image-feature-extraction",
        str(model),
        image_processor=CrossViTImageProcessor.from_pretrained(model),
        pool=True,
    )
    for name, photo in zip(names, PHOTOS):
        # As above; features are of the size of 1.
        expected = features(str(photo))[0]
        np.testing.assert_allclose(rows[f"{tmp_path}/whole.tar/{name}"]["embedding"], expected, atol=1e-5)


@contextmanager
def cluster():
    """A Ray cluster in processes of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--num-cpus=2", f"--port={port}"]
    process = subprocess.Popen([*command, "--include-dashboard=false", "--block"], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: is_open(port))
        yield f"127.0.0.1:{port}"
    finally:
        for child in [*psutil.Process(process.pid).children(recursive=True), process]:
            child.kill()
        process.wait()


def is_open(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def wait_until(condition, seconds=300):
    """For Ray, which takes half a minute to start on a quiet machine."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} seconds in vain"
        time.sleep(0.05)


def test_an_exported_model(script, classify, model, monkeypatch, tmp_path):
    """A worker of Ray makes the same calls."""
    export([str(model), str(tmp_path / "exported"), "--format", "onnx"])
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])
    arguments = script["Arguments"](model=str(tmp_path / "exported"), images="")
    image_processor, shape = script["load_image_processor"](arguments)
    paths = [str(photo) for photo in PHOTOS[:10]]
    batch = {"image": paths, "path": paths, "bytes": [None] * 10, "error": [None] * 10}
    classifier = script["Classifier"](arguments, image_processor, threads=1)
    rows = classifier(script["decode"](batch, image_processor, shape)).to_pylist()
    assert [row["image"] for row in rows] == paths
    for row in rows:
        assert_same_scores(row, classify(row["image"]))


def save_model_of_channels(folder: Path, channels: int) -> Path:
    CrossViTForImageClassification(small_config(num_channels=channels)).save_pretrained(folder)
    settings = {"do_convert_rgb": False, "image_mean": [0.5] * channels, "image_std": [0.5] * channels}
    CrossViTImageProcessor.from_image_size(48, **settings).save_pretrained(folder)
    return folder


def test_a_model_of_grey_images(script, monkeypatch, photos, tmp_path):
    """Colours become grey as Pillow does it."""
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])
    photos["portrait"].save(tmp_path / "colour.png")
    arguments = script["Arguments"](model=str(save_model_of_channels(tmp_path / "grey", 1)), images="", top_k=1)
    image_processor, shape = script["load_image_processor"](arguments)
    paths = [str(tmp_path / "colour.png"), str(PHOTOS[0])]
    batch = {"image": paths, "path": paths, "bytes": [None] * 2, "error": [None] * 2}
    rows = script["Classifier"](arguments, image_processor, threads=1)(script["decode"](batch, image_processor, shape))
    model = CrossViTForImageClassification.from_pretrained(arguments.model).eval()
    grey = [photos["portrait"].convert("RGB").convert("L"), Image.open(PHOTOS[0]).convert("RGB").convert("L")]
    scores = model(**image_processor(grey, return_tensors="pt")).logits.softmax(-1)
    # As for the scores of colour images.
    np.testing.assert_allclose(rows["score"].to_pylist(), scores.amax(-1).tolist(), atol=1e-6)


def test_encoded_images_as_a_gpu_decodes_them(script, classify, model, monkeypatch, photos, tmp_path):
    """With the same decoder on the CPU, whose pixels are Pillow's: JPEG files go through it, and other images through Pillow."""
    flower, photo = tmp_path / "flower.jpg", tmp_path / "photo.jpg"
    shutil.copy(files("sklearn.datasets.images") / "flower.jpg", flower)
    photos["portrait"].save(photo, quality=95)
    photos["EXIF-rotated"].save(tmp_path / "rotated.jpg", exif=photos["EXIF-rotated"].getexif(), quality=95)
    photos["CMYK"].save(tmp_path / "cmyk.jpg")
    photos["RGBA"].save(tmp_path / "transparent.png")
    (tmp_path / "broken.jpg").write_bytes(flower.read_bytes()[:5000])
    damaged = bytearray(flower.read_bytes())
    damaged[20:600] = bytes(580)
    (tmp_path / "damaged.jpg").write_bytes(damaged)
    (tmp_path / "text.jpg").write_text("no image")
    (tmp_path / "empty.jpg").touch()
    paths = [str(path) for path in sorted(tmp_path.iterdir())]
    missing = str(tmp_path / "missing.jpg")
    decoded = decode_jpegs([Path(path).read_bytes() for path in paths], "cpu")
    assert [path for path, pixels in zip(paths, decoded) if pixels is not None] == [str(flower), str(photo)]
    monkeypatch.setattr(ray, "get_gpu_ids", lambda: [])
    arguments = script["Arguments"](model=str(model), images="")
    image_processor, _ = script["load_image_processor"](arguments)
    names = [*paths, missing, "shard/row"]
    contents = [*[None] * (len(paths) + 1), flower.read_bytes()]
    batch = {"image": names, "path": [*paths, missing, None], "bytes": contents, "error": [*[None] * len(paths), None, None]}  # fmt: skip
    classifier = script["Classifier"](arguments, image_processor, threads=1)
    rows = {row["image"]: row for row in classifier(script["read_files"](batch)).to_pylist()}
    assert list(rows) == names
    broken = {Path(name).name for name, row in rows.items() if row["error"]}
    assert broken == {"broken.jpg", "damaged.jpg", "text.jpg", "empty.jpg", "missing.jpg"}
    for name in set(paths) - {str(tmp_path / name) for name in broken}:
        assert_same_scores(rows[name], classify(name))
    assert_same_scores(rows["shard/row"], classify(str(flower)))


def test_a_killed_worker_a_signal_and_a_killed_job_lose_nothing_and_repeat_nothing(model, tmp_path, run_example):
    folder, output = tmp_path / "images", tmp_path / "output"
    folder.mkdir()
    for photo in PHOTOS:
        (folder / photo.name).symlink_to(photo)
    (folder / "broken.png").write_text("no image")
    options = [
        f"--model={model}",
        f"--images={folder}",
        f"--output_dir={output}",
        "--rows_per_file=40",
        "--num_workers=2",
    ]
    command = [sys.executable, str(ROOT / "examples" / "batch_inference.py"), *options]

    def start() -> subprocess.Popen:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    job = start()

    def finished() -> set[Path]:
        return {file for file in output.glob("finished/*.parquet") if ".pending" not in file.name}

    def workers() -> list[psutil.Process]:
        processes = psutil.Process(job.pid).children(recursive=True)
        return [
            process
            for process in processes
            if "MapWorker(MapBatches(Classifier" in process.name() + "".join(process.cmdline())
        ]

    wait_until(lambda: len(finished()) >= 2 or job.poll() is not None)
    assert job.poll() is None, job.stderr.read()
    killed = workers()[0]
    killed.kill()
    before = len(finished())
    wait_until(lambda: len(finished()) >= before + 3 or job.poll() is not None)
    assert job.poll() is None, "the job ended before it was killed"
    job.send_signal(signal.SIGTERM)
    _, errors = job.communicate()
    assert job.returncode == 128 + signal.SIGTERM and "Traceback" not in errors
    assert errors.endswith(f"SIGTERM: the rows that are done are in {output}; the same command continues from there\n")
    before, job = len(finished()), start()
    wait_until(lambda: len(finished()) > before or job.poll() is not None)
    assert job.poll() is None, "the job ended before it was killed"
    job.send_signal(signal.SIGKILL)
    job.communicate()
    kept = {file: file.stat().st_mtime_ns for file in finished()}
    assert 0 < len(kept) < 25
    run_example("batch_inference.py", *options, check=True)
    rows = rows_of(output)
    assert set(rows) == {str(file) for file in folder.iterdir()}
    assert [name for name, row in rows.items() if row["error"]] == [str(folder / "broken.png")]
    assert {file: file.stat().st_mtime_ns for file in finished() & kept.keys()} == kept


def test_errors_of_a_worker_are_one_line(script):
    """Ray's have the traceback of the worker above them."""

    def reason(cause: Exception) -> str:
        error = ray.exceptions.RayTaskError("write", "Traceback\n  line 1\n", cause)
        return script["reason_of"](error.as_instanceof_cause())

    full = "There is no space for files (No space left on device). Free some: the same command continues with what was saved before."
    assert reason(OSError(28, "Error writing bytes to file", "To change retry attempts, configure")) == full
    assert reason(ValueError("first\nsecond")) == "The job stopped: second. The same command goes on from here."


# --- mistakes ---


def test_a_cluster_gets_absolute_paths(script, monkeypatch, tmp_path):
    """Its machines start in other folders. Names of the Hub stay as they are."""
    absolute = script["absolute"]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images [1]").mkdir()
    (tmp_path / "images [1]" / "1.tar").touch()
    assert absolute("images [1]") == str(tmp_path / "images [1]")
    assert absolute("images*/*.tar") == str(tmp_path / "images*/*.tar")
    assert absolute("uoft-cs/cifar10") == "uoft-cs/cifar10"


def test_mistakes_are_named_before_the_work_starts(run_here, model, monkeypatch, tmp_path):
    def run(images, *options, model=model):
        run_here(
            "batch_inference.py", "--model", model, "--images", images, "--output_dir", tmp_path / "output", *options
        )

    folder = tmp_path / "images"
    folder.mkdir()
    with pytest.raises(SystemExit, match="images has no image files. The images cannot be loaded"):
        run(folder)
    shutil.copy(PHOTOS[0], folder)
    write_shard(folder / "0.tar", ["1.png"])
    with pytest.raises(SystemExit, match=r"files of several kinds, image and \.tar: give a pattern .*\*\*/\*\.tar"):
        run(folder)
    (folder / "0.tar").unlink()
    pq.write_table(pa.table({"image": ["1.png"], "img": ["1.png"]}), tmp_path / "data.parquet")
    with pytest.raises(SystemExit, match="several columns that may be the images: image, img. .*--image_column_name"):
        run(tmp_path / "data.parquet")
    with pytest.raises(SystemExit, match="no column of images named picture in .*; the columns are image, img"):
        run(tmp_path / "data.parquet", "--image_column_name", "picture")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:9")  # what `auto` finds
    for address in ("127.0.0.1:9", "auto"):
        with pytest.raises(
            SystemExit, match=f"{address}: no Ray cluster can be reached there .*refused.*`ray start --head`"
        ):
            run(folder, "--address", address)
    with pytest.raises(SystemExit, match="The model cannot be loaded: .*missing"):
        run(folder, model=tmp_path / "missing")
    with pytest.raises(SystemExit, match="The model takes images of 4 channels, but an image file gives 3"):
        run(folder, model=save_model_of_channels(tmp_path / "four", 4))
    with pytest.raises(SystemExit, match="--top_k must be at least 1, got 0"):
        run(folder, "--top_k", 0)
    with pytest.raises(SystemExit, match="--embeddings needs a model of PyTorch"):
        (tmp_path / "exported").mkdir()
        (tmp_path / "exported" / "export.json").touch()
        run(folder, "--embeddings", model=tmp_path / "exported")
    for file in model.iterdir():
        shutil.copy(file, tmp_path / "exported")
    CrossViTImageProcessor(size={"shortest_edge": 48}, do_center_crop=False).save_pretrained(tmp_path / "exported")
    with pytest.raises(
        SystemExit, match=r"gives images of different shapes different sizes, \(3, 48, 72\) and \(3, 72, 48\)"
    ):
        run(folder, model=tmp_path / "exported")
    assert not (tmp_path / "output" / "predictions").exists()
