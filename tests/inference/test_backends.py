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
The ways to run a trained model, and the commands about them: every backend gives the numbers of the model as it is, by the code that
the command recommends; it recommends what is fast and keeps the labels; an exported folder works in a pipeline, and a failure
leaves the folder that was there. The reference is the model in PyTorch without changes.

    pytest tests/inference/test_backends.py             two minutes, most of them in exporters
    pytest tests/inference/test_backends.py -m slow     the compiled forms, two minutes
"""

import json
import re
import shlex
import shutil
import subprocess
import time
import venv
from importlib.metadata import version

import numpy as np
import pytest
import torch
from clean_process import run_python
from old_pytorch import NEEDS_ONNX, NEEDS_TRACING
from PIL import Image
from small_models import small_config
from torch._dynamo.utils import counters
from torchvision.transforms.v2.functional import InterpolationMode, _geometry
from transformers import AutoImageProcessor, pipeline
from transformers.exporters import ExportedModel

from benchmarks.parity import randomize_, relative_difference
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, CrossViTImageProcessorPil, CrossViTModel
from crossvit.inference import backends, export, fastest, preprocessing
from crossvit.inference.backends import BACKENDS, Backend, compile_layers, load_exported


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A small model whose weights are as large as trained ones."""
    folder = tmp_path_factory.mktemp("model") / "model"
    torch.manual_seed(0)
    model = CrossViTForImageClassification(small_config(id2label=dict(enumerate("abcde")), label2id=None))
    randomize_(model)
    model.save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(model_folder):
    return CrossViTForImageClassification.from_pretrained(model_folder).eval()


@pytest.fixture(scope="module")
def openvino_folder(model_folder):
    folder = model_folder.parent / "openvino"
    export.main([str(model_folder), str(folder), "--format", "openvino"])
    return folder


def run(command, *arguments) -> None:
    command.main([str(argument) for argument in arguments])


def refuse(capsys, command, *arguments) -> str:
    """Runs the command, which must end with an error and a code other than 0."""
    with pytest.raises(SystemExit) as error:
        run(command, *arguments)
    assert error.value.code not in (0, None)
    return str(error.value.code) + capsys.readouterr().err


@torch.no_grad()
def logits(model, pixel_values) -> torch.Tensor:
    return model(pixel_values=pixel_values).logits.float()


# A compiler takes half a minute for even this model, and calibration half of that.
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[
                *([pytest.mark.slow] if "compile" in form.code or form.needs_calibration else []),
                *([NEEDS_ONNX if "ONNX" in name else NEEDS_TRACING] if form.command or "compile" in form.code else []),
            ],
        )
        for name, form in BACKENDS.items()
    ],
)
def test_code_of_each_backend(name, model_folder, model, digits, tmp_path, monkeypatch):
    """The command and the code that are recommended, for batches of other sizes than the exporter's example."""
    images = backends.read_images(digits, CrossViTImageProcessor.from_pretrained(model_folder), 9)
    monkeypatch.chdir(tmp_path)
    torch.compiler.reset()
    form = BACKENDS[name]
    if form.command:
        command = shlex.split(form.command.format(model=model_folder, images=digits))
        assert command[:3] == ["python", "-m", "crossvit.inference.export"]
        run(export, *command[3:])
    variables = {}
    exec(form.code.format(model=model_folder), variables)
    limit = 0.2 if "int8" in name else 0.03 if "bfloat16" in name or name == "OpenVINO" else 1e-5
    for batch in (images[:8], images[8:]):
        assert relative_difference(logits(variables["model"], batch), logits(model, batch)) < limit


@pytest.mark.parametrize("fusions", [False, True])
def test_compiled_layers_share_their_graphs(fusions, pixel_values):
    """One graph for the layers of a branch, and one for its fusions. Other sizes of the batch do not end the compilation."""
    torch.manual_seed(0)
    model = CrossViTForImageClassification(small_config(num_stages=3, depths=[3, 4])).eval()
    batches = [pixel_values.repeat(2, 1, 1, 1)[:count] for count in (2, 1, 3, 4)]
    expected = [logits(model, batch) for batch in batches]
    torch.compiler.reset()
    counters.clear()
    assert compile_layers(model, fusions, backend="eager") is model
    graphs = []
    # PyTorch 2.6 has the option under its earlier name.
    limits = ("fail_on_recompile_limit_hit", "fail_on_cache_limit_hit")
    (limit, *_) = (name for name in limits if hasattr(torch._dynamo.config, name))
    with torch._dynamo.config.patch({limit: True}):
        for batch, numbers in zip(batches, expected):
            torch.testing.assert_close(logits(model, batch), numbers)
            graphs.append(counters["stats"]["unique_graphs"])
    assert graphs == ([4, 8, 12, 12] if fusions else [2, 4, 6, 6])


@NEEDS_TRACING
def test_exported_folder_in_a_pipeline(openvino_folder, model_folder, digits, caplog):
    assert {path.name for path in openvino_folder.iterdir()} == {
        "config.json",
        "export.json",
        "openvino_model.bin",
        "openvino_model.xml",
        "preprocessing.md",
        "preprocessor_config.json",
    }
    assert not any("auto_map" in path.read_text() for path in openvino_folder.glob("*.json"))
    images = [Image.open(path) for path in sorted(digits.rglob("*.png"))[:5]]
    exported = load_exported(openvino_folder, config={"INFERENCE_PRECISION_HINT": "f32"})
    image_processor = AutoImageProcessor.from_pretrained(openvino_folder)
    classifier = pipeline("image-classification", model=exported, image_processor=image_processor, device="cpu")
    expected = pipeline("image-classification", model=str(model_folder), device="cpu")(images)
    for batch_size in (1, 3):
        for found, right in zip(classifier(images, batch_size=batch_size), expected, strict=True):
            assert [score["label"] for score in found] == [score["label"] for score in right]
            assert found[0]["score"] == pytest.approx(right[0]["score"], abs=1e-5)
    assert "ImageClassificationPipeline" in repr(classifier)
    assert not caplog.records


SETTINGS = [
    {},
    {"size": {"shortest_edge": 200}},  # smaller than the crop
    {"size": {"height": 250, "width": 261}},
    {"resample": 2},
    {"size": {"shortest_edge": 100}, "crop_size": {"height": 51, "width": 40}, "image_mean": [0.1, 0.5, 0.9]},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_pixels_without_pytorch(photos, settings):
    """
    By NumPy and Pillow alone, equal byte for byte to the resize and crop of the torchvision processor. Older releases of torchvision resize
    bilinearly in floating point on some processors, where bytes differ by 1.
    """
    image_processor = CrossViTImageProcessor(**settings)
    resizes_bytes = _geometry._do_native_uint8_resize_on_cpu(
        InterpolationMode.BILINEAR if settings.get("resample") == 2 else InterpolationMode.BICUBIC
    )
    limit = 1e-6 if resizes_bytes else 1.001 / 255 / min(image_processor.image_std)
    images = {
        **photos,
        "tiny": photos["landscape"].crop((0, 0, 3, 5)),
        "pixel": photos["landscape"].crop((0, 0, 1, 1)),
    }
    del images["16-bit"]
    for kind, image in images.items():
        expected = image_processor(image, return_tensors="np").pixel_values
        found = preprocessing.preprocess(image, json.loads(image_processor.to_json_string()))
        assert found.shape == expected.shape and found.dtype == expected.dtype, kind
        assert abs(found - expected).max() < limit, kind


def exported_program(model_folder, folder, format, photos) -> tuple[str, torch.Tensor]:
    """The program in the page of an exported folder, which also saves its logits for photos; and the logits of the model in PyTorch."""
    run(export, model_folder, folder, "--format", format)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "preprocessing.md").read_text(), re.S)
    kinds = ("landscape", "portrait", "grey", "odd", "small", "RGBA", "EXIF-rotated")
    for kind in kinds:
        photos[kind].save(folder / f"{kind}.png", exif=photos[kind].getexif())
    paths = [str(folder / f"{kind}.png") for kind in kinds]
    code = code.replace("print(", "rows.append(logits)\n    print(").replace("sys.argv[1:]", repr(paths))
    code = f"rows = []\n{code}\nnp.save('logits.npy', rows)"
    image_processor = AutoImageProcessor.from_pretrained(model_folder)
    assert type(image_processor) is CrossViTImageProcessor
    model = CrossViTForImageClassification.from_pretrained(model_folder).eval()
    return code, logits(model, image_processor(paths, return_tensors="pt").pixel_values)


@pytest.mark.parametrize(
    "format", [pytest.param("onnx", marks=NEEDS_ONNX), pytest.param("openvino", marks=NEEDS_TRACING)]
)
def test_the_program_of_an_exported_folder(model_folder, tmp_path, photos, format):
    """As it stands in the page, where PyTorch, transformers and this package cannot be imported."""
    code, expected = exported_program(model_folder, tmp_path / "exported", format, photos)
    without = ("torch", "torchvision", "transformers", "crossvit")
    process = run_python(code, tmp_path / "exported", without=without)
    assert process.returncode == 0, process.stderr
    found = torch.from_numpy(np.load(tmp_path / "exported" / "logits.npy"))
    assert relative_difference(found, expected) < 1e-5
    label = re.match(r".*landscape.png (\w) \[", process.stdout)[1]
    assert label == "abcde"[expected[0].argmax()]


@NEEDS_ONNX
@pytest.mark.slow
def test_the_program_of_an_exported_folder_in_a_clean_environment(model_folder, tmp_path, photos):
    """Nothing is installed but the three packages that the page names."""
    code, expected = exported_program(model_folder, tmp_path / "exported", "onnx", photos)
    venv.create(tmp_path / "environment", with_pip=True)
    python = tmp_path / "environment" / "bin" / "python"
    packages = [f"{name}=={version(name)}" for name in ("numpy", "pillow", "onnxruntime")]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
    subprocess.run([python, "-I", "-c", code], cwd=tmp_path / "exported", check=True)
    found = torch.from_numpy(np.load(tmp_path / "exported" / "logits.npy"))
    assert relative_difference(found, expected) < 1e-5


def test_the_steps_name_the_settings():
    page = preprocessing.describe(CrossViTImageProcessorPil(), "onnx")
    for part in ("(batch, 3, 240, 240)", "274 pixels on the shorter side", "bicubic", "numpy, pillow and onnxruntime"):
        assert part in page
    changed = {"size": {"height": 50, "width": 60}, "crop_size": {"height": 40, "width": 30}, "resample": 2}
    page = preprocessing.describe(CrossViTImageProcessorPil(image_mean=[0.1, 0.2, 0.3], **changed), "openvino")
    for part in (
        "(batch, 3, 40, 30)",
        "50 x 60 pixels",
        "bilinear",
        "(height - 40) / 2",
        "(0.1, 0.2, 0.3)",
        "and openvino.",
    ):
        assert part in page
    for unusual in (
        {"do_resize": False},
        {"resample": 1},
        {"size": {"shortest_edge": 50, "longest_edge": 60}},
        {"image_mean": [0.5], "image_std": [0.5]},
    ):
        page = preprocessing.describe(CrossViTImageProcessorPil(**unusual), "onnx")
        assert "are not of the usual kind" in page and "```" not in page


def test_load_exported_refuses_other_folders(model_folder):
    with pytest.raises(
        ValueError, match="holds no exported model: there is no export.json. .*python -m crossvit.inference.export"
    ):
        load_exported(model_folder)


@NEEDS_TRACING
def test_export_replaces_all_or_nothing(openvino_folder, model_folder, capsys, monkeypatch):
    arguments = (model_folder, openvino_folder, "--format", "openvino")
    assert "already holds a model. Give another folder, or --overwrite" in refuse(capsys, export, *arguments)

    def full_disk(self, folder):
        (folder / "openvino_model.xml").write_text("half")
        raise OSError(28, "No space left on device")

    before = {path.name: path.read_bytes() for path in openvino_folder.iterdir()}
    neighbours = sorted(openvino_folder.parent.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(ExportedModel, "save_pretrained", full_disk)
        assert "No space left on device" in refuse(capsys, export, *arguments, "--overwrite")
    assert {path.name: path.read_bytes() for path in openvino_folder.iterdir()} == before
    assert sorted(openvino_folder.parent.iterdir()) == neighbours

    run(export, *arguments, "--overwrite")
    assert f'load_exported("{openvino_folder}")' in capsys.readouterr().out
    (openvino_folder / "thesis.doc").write_text("mine")
    assert "holds thesis.doc, which no saved model has" in refuse(capsys, export, *arguments, "--overwrite")
    (openvino_folder / "thesis.doc").unlink()


def test_export_refuses_mistakes(model_folder, tmp_path, capsys, monkeypatch):
    output = tmp_path / "exported"
    arguments = (model_folder, output, "--format", "openvino")
    assert "--int8 and --images go together" in refuse(capsys, export, *arguments, "--int8")
    assert "--int8 and --images go together" in refuse(capsys, export, *arguments, "--images", tmp_path)
    int8 = (*arguments, "--int8", "--images")
    onnx = (model_folder, output, "--format", "onnx", "--int8", "--images", tmp_path)
    assert "int8 is for openvino, got onnx" in refuse(capsys, export, *onnx)
    assert f"{tmp_path} holds no images" in refuse(capsys, export, *int8, tmp_path)
    assert "is not a folder" in refuse(capsys, export, *int8, tmp_path / "missing")
    (tmp_path / "photo.png").write_text("text")
    assert "photo.png cannot be read as an image" in refuse(capsys, export, *int8, tmp_path)
    with monkeypatch.context() as patch:  # before the work
        patch.setattr(export, "load_for_inference", lambda *args: pytest.fail("worked in vain"))
        assert "/proc cannot be written to" in refuse(
            capsys, export, model_folder, "/proc/exported", "--format", "onnx"
        )
    monkeypatch.setattr(backends, "find_spec", lambda package: None if package == "nncf" else package)
    message = refuse(capsys, export, *int8, tmp_path)
    assert 'needs nncf, which is not installed: pip install "transformers-crossvit[export]"' in message
    assert not output.exists()


def test_export_refuses_damaged_models(model_folder, tmp_path, capsys):
    def changed(name, file="config.json", **fields):
        shutil.copytree(model_folder, tmp_path / name)
        content = json.dumps({**json.loads((model_folder / "config.json").read_text()), **fields}) if fields else "cut"
        (tmp_path / name / file).write_text(content)
        return tmp_path / name

    CrossViTModel(small_config()).save_pretrained(tmp_path / "headless")
    for folder, message in (
        (tmp_path / "models", f"Did you mean '{tmp_path / 'model'}'"),
        (model_folder / "config.json", "config.json is a file. Give the folder"),
        (tmp_path / "headless", "has no weights for 4 tensors of a classifier, such as classifier.heads.0.bias"),
        (changed("model", "model.safetensors"), "model are damaged"),
        (changed("json"), "not a valid JSON file"),
        (changed("impossible", image_sizes=[47, 32]), "impossible describes no model. Class validation error"),
        (changed("narrower", mlp_ratios=[1.0, 1.0]), "has no weights for"),
        (changed("deeper", depths=[1, 3]), "has no weights for"),
    ):
        assert message in refuse(capsys, export, folder, tmp_path / "out", "--format", "openvino"), folder
    assert not (tmp_path / "out").exists()


@NEEDS_TRACING
@pytest.mark.parametrize("format", [pytest.param("onnx", marks=NEEDS_ONNX), "openvino"])
def test_export_to_a_full_disk(model_folder, tmp_path, format):
    """A limit on the size of files, since a disk cannot be filled in a test. The tilde is the home folder, also in quotes."""
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "config.json").write_text("{}")
    code = f"""
import resource, signal
from transformers.exporters import ExportedModel
from crossvit.inference import export

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
save = ExportedModel.save_pretrained
def save_with_limit(*args):
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, 2**14))
    save(*args)

ExportedModel.save_pretrained = save_with_limit
export.main(["~/model", "~/exported", "--format", {format!r}, "--overwrite"])
"""
    process = run_python(code, tmp_path)
    assert process.returncode == 1
    (error,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")] or [process.stderr]
    assert error.startswith(f"error: {tmp_path / 'exported'} could not be written (")
    assert "Traceback" not in process.stderr, process.stderr
    assert [path.name for path in (tmp_path / "exported").iterdir()] == ["config.json"]
    assert not list(tmp_path.glob(".exported*"))


def small_backends(monkeypatch, **others) -> None:
    """The first two backends, and others from functions of the model that return a function of the pixel values."""
    chosen = {name: BACKENDS[name] for name in ("eager", "optimized")}
    chosen |= {name: Backend(lambda model, _, make=make: make(model), f"# {name}") for name, make in others.items()}
    monkeypatch.setattr(fastest, "BACKENDS", chosen)


def rows_of(printed: str) -> dict[str, list[str]]:
    lines = re.findall(r"^\| (.*) \|$", printed, re.M)
    return {cells[0]: cells[1:] for cells in (line.split(" | ") for line in lines)}


def test_ratios_are_of_the_same_round():
    """A round in which the machine is ten times as slow changes nothing, because it meets both contenders."""
    assert fastest.ratios([1.0, 10.0, 2.0, 0.5, 1.0], [2.0, 20.0, 4.0, 2.0, 3.0]) == (2.0, 2.0, 3.0)


def test_the_table_does_not_contradict_itself():
    """On a busy machine, what was slower in most rounds had the smaller median, because that was of another round."""
    seconds = {"eager": [1.0, 5.0, 5.0], "optimized": [2.0, 2.0, 10.0]}
    rows = {name: fastest.Row(equal=9, seconds={1: times}) for name, times in seconds.items()}
    cells = rows_of(fastest.table(rows, 9, [1]))
    assert {name: cells[name][2:] for name in seconds} == {
        "eager": ["5000.0 ms", "1.00 (1.00 to 1.00)"],
        "optimized": ["10000.0 ms", "0.50 (0.50 to 1.50)"],
    }
    assert fastest.fastest(rows, 9, 1) == "eager"


def test_models_of_other_channels(tmp_path, digits, capsys, monkeypatch):
    """A model of grey images is measured with such; for other channels the commands do not blame the images."""
    for channels in (1, 4):
        folder = tmp_path / str(channels)
        CrossViTForImageClassification(small_config(num_channels=channels)).save_pretrained(folder)
        settings = {"do_convert_rgb": False, "image_mean": [0.5] * channels, "image_std": [0.5] * channels}
        CrossViTImageProcessor.from_image_size(48, **settings).save_pretrained(folder)
    small_backends(monkeypatch)
    run(fastest, tmp_path / "1", "--images", digits, "--batch_size", 2, "--rounds", 2)
    assert rows_of(capsys.readouterr().out)["eager"][1] == "42 of 42"
    for command, options in ((fastest, ()), (export, (tmp_path / "out", "--format", "openvino", "--int8"))):
        message = refuse(capsys, command, tmp_path / "4", *options, "--images", digits)
        assert "The model takes images of 4 channels, but an image file gives 3" in message


def test_contenders_take_turns_in_changing_order(monkeypatch):
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    monkeypatch.setattr(fastest, "seconds_of", lambda call, repeats=1: call() or 0.06)
    times = fastest.interleave(calls, seconds=0.06 * 3 * 8)
    rounds = ["".join(order[start : start + 3]) for start in range(6, len(order), 3)]
    assert all(sorted(round_) == ["a", "b", "c"] for round_ in rounds) and len(rounds) == 8
    assert len(set(rounds)) > 2
    assert times == {name: [0.06] * 8 for name in "abc"}


def test_fastest_recommends_the_fastest(model_folder, digits, capsys, monkeypatch):
    """A form that answers at once keeps the labels if it knows them, and is recommended; one that does not know them never is."""

    def knows(model):
        answers = {}

        def predict(pixel_values):
            key = pixel_values.sum().item()
            if key not in answers:
                answers[key] = logits(model, pixel_values)
            time.sleep(0.0005)  # slower than to guess
            return answers[key]

        return predict

    def guesses(model):
        return lambda pixel_values: torch.eye(5)[pixel_values.shape[0] * [0]]

    small_backends(monkeypatch, knows=knows, guesses=guesses, breaks=lambda model: 1 / 0)
    run(fastest, model_folder, "--images", digits, "--batch_size", 2, 5, "--rounds", 5)
    printed, progress = capsys.readouterr()
    rows = rows_of(printed)
    assert list(rows) == ["backend", "---", "eager", "optimized", "knows", "guesses", "breaks"]
    assert rows["eager"][1] == rows["optimized"][1] == rows["knows"][1] == "42 of 42"
    assert rows["guesses"][1] != "42 of 42"
    assert rows["breaks"][0] == "failed: ZeroDivisionError: division by zero"
    for cells in (rows["eager"], rows["optimized"], rows["knows"], rows["guesses"]):
        assert re.fullmatch(r"\d+\.\d s", cells[0])
        for milliseconds, ratio in (cells[2:4], cells[4:6]):
            assert re.fullmatch(r"\d+\.\d ms", milliseconds)
            middle, low, high = map(float, re.fullmatch(r"([\d.]+) \(([\d.]+) to ([\d.]+)\)", ratio).groups())
            assert low <= middle <= high
    assert rows["eager"][3] == "1.00 (1.00 to 1.00)"
    assert "Not recommended, because fewer than 99 % of the labels are equal: guesses." in printed
    assert "Fastest for batches of 2 and 5: knows.\n\n# knows\nlogits = model(pixel_values" in printed
    assert "rounds: 100%" in progress


@pytest.mark.slow
def test_fastest_of_exported_backends(model_folder, digits, capsys, monkeypatch):
    """The backends themselves, in one process with the others; a package that is missing costs a row and nothing else."""
    monkeypatch.setattr(backends, "find_spec", lambda package: None if package == "onnxruntime" else package)
    names = ("ONNX Runtime", "OpenVINO, float32", "OpenVINO, int8")
    run(fastest, model_folder, "--images", digits, "--backends", *names, "--rounds", 2)
    rows = rows_of(capsys.readouterr().out)
    assert list(rows)[2:] == ["eager", *names]
    assert rows["ONNX Runtime"][0] == 'needs onnxruntime: pip install "transformers-crossvit[export]"'
    assert rows["OpenVINO, float32"][1] == "42 of 42"
    assert int(rows["OpenVINO, int8"][1].split()[0]) > 30


def test_int8_is_calibrated_on_other_images_than_labels_are_compared_on(model, monkeypatch):
    seen = {}

    def make(model, calibration):
        seen["calibration"] = calibration
        return lambda images: seen.setdefault("compared", []).append(images) or logits(model, images)

    monkeypatch.setattr(
        fastest, "BACKENDS", {"eager": BACKENDS["eager"], "int8": Backend(make, "", needs_calibration=True)}
    )
    images = torch.arange(10.0).view(-1, 1, 1, 1).expand(-1, 3, 48, 48)
    fastest.measure(model, images, [2], ["eager", "int8"], rounds=2)
    assert seen["calibration"][:, 0, 0, 0].tolist() == [0, 2, 4, 6, 8]
    assert set(torch.cat(seen["compared"])[:, 0, 0, 0].tolist()) == {1, 3, 5, 7, 9}


def test_fastest_refuses_mistakes(model_folder, digits, tmp_path, capsys):
    few = ("--images", digits / "validation" / "one", "--batch_size", 5)
    assert "gave 8 images" in (message := refuse(capsys, fastest, model_folder, *few))
    assert "give at least 10 images, or a smaller --batch_size" in message
    assert "holds no images" in refuse(capsys, fastest, model_folder, "--images", tmp_path)
    assert "--rounds 1 is too small: expected at least 2" in refuse(
        capsys, fastest, model_folder, "--images", digits, "--rounds", 1
    )
    assert "invalid choice: 'warp'" in refuse(capsys, fastest, model_folder, "--images", digits, "--backends", "warp")
    assert "error: " in refuse(capsys, fastest, tmp_path / "missing", "--images", digits)
