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
`python -m crossvit.weights.convert`: all 11 published architectures from files as timm and the authors publish them (random weights, since
nothing can be downloaded here), compared with timm by the command itself and again here; back to timm; and every refusal, after
which nothing has been written.

    pytest tests/weights/test_convert.py
    pytest tests/weights/test_convert.py -m slow     `--all`, 20 seconds
"""

import argparse
import json
import os
import re
import shutil

import pytest
import timm
import torch
from clean_process import run_python
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from small_models import small_config, with_names_of_the_release
from transformers import pipeline

from benchmarks.parity import timm_model
from crossvit import CROSSVIT_VARIANTS, CrossViTForImageClassification, CrossViTModel, convert_checkpoint
from crossvit.configuration.saved_code import CORE
from crossvit.configuration.variants import imagenet_classes
from crossvit.weights import convert as command


def write_weights(variant: str, path, **kwargs) -> timm.models.CrossVit:
    """Random weights of the size that trained ones have: after the initialisation alone every logit is near zero."""
    model = timm_model(variant, **kwargs)
    save_file(model.state_dict(), path)
    return model


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "crossvit_9_dagger.safetensors"
    write_weights("crossvit_9_dagger_240", path)
    return path


def run(*arguments) -> None:
    command.main([str(argument) for argument in arguments])


def refuse(capsys, *arguments) -> str:
    """Runs the command, which must end with one line of error and a code other than 0."""
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert error.value.code not in (0, None)
    return str(error.value.code) + capsys.readouterr().err


@pytest.mark.slow
def test_all(tmp_path, monkeypatch, capsys):
    """What `--all` does, but for the download."""

    def download(repository, folder):
        variant = repository.removeprefix("timm/").removesuffix(".in1k")
        write_weights(variant, f"{folder}/model.safetensors")
        return f"{folder}/model.safetensors"

    monkeypatch.setattr(command, "_download", download)
    run("--all", "--output", tmp_path / "models")
    printed = capsys.readouterr().out
    for variant, fields in CROSSVIT_VARIANTS.items():
        assert f"{variant}: largest difference to timm on a photo: " in printed
        config = json.loads((tmp_path / "models" / variant / "config.json").read_text())
        assert {name: config[name] for name in fields} == fields
        assert (config["id2label"]["0"], config["id2label"]["999"]) == ("tench", "toilet tissue")
        assert len(config["label2id"]) == 1000
        processor = json.loads((tmp_path / "models" / variant / "preprocessor_config.json").read_text())
        size = 408 if variant.endswith("408") else 240
        assert processor["crop_size"] == {"height": size, "width": size}
        assert processor["size"] == {"shortest_edge": 408 if size == 408 else 274}
        card = ModelCard.load(tmp_path / "models" / variant / "README.md").data.to_dict()
        assert card["base_model"] == f"timm/{variant}.in1k" and card["license"] == "apache-2.0"
        accuracy = card["model-index"][0]["results"][0]["metrics"][0]["value"]
        assert accuracy == pytest.approx(command.PUBLISHED_ACCURACIES[variant][1] / 100, abs=1e-9)


def test_the_folder_is_complete(weights, tmp_path, capsys, photos):
    run("--source", weights, "--output", tmp_path / "deep" / "model")
    difference = float(capsys.readouterr().out.split("on a photo: ")[1].split()[0])
    assert 0 <= difference < 5e-6  # the parity limit of the project
    assert {path.name for path in (tmp_path / "deep" / "model").iterdir()} == {
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        *(f"{module_name}.py" for module_name in CORE),
    }
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["model"]
    # No claim about weights that may be anybody's.
    card = ModelCard.load(tmp_path / "deep" / "model" / "README.md").data.to_dict()
    assert not {"license", "datasets", "metrics", "model-index", "base_model"} & card.keys()
    (prediction,) = pipeline("image-classification", model=str(tmp_path / "deep" / "model"))(photos["square"], top_k=1)
    assert prediction["label"] in imagenet_classes()


def test_a_training_checkpoint_of_the_release(weights, tmp_path, capsys):
    state_dict = with_names_of_the_release(load_file(weights))
    checkpoint = {"model": state_dict, "optimizer": {}, "epoch": 1, "args": argparse.Namespace(lr=0.004)}
    torch.save(checkpoint, tmp_path / "crossvit_9_dagger_224.pth")
    run(
        "--source",
        tmp_path / "crossvit_9_dagger_224.pth",
        "--output",
        tmp_path / "model",
        "--variant",
        "crossvit_9_dagger_240",
    )
    assert "largest difference" in capsys.readouterr().out
    expected = convert_checkpoint(weights).state_dict()
    found = load_file(tmp_path / "model" / "model.safetensors")
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in found)


def test_averaged_weights_are_taken_and_named(weights, tmp_path, capsys):
    """As timm takes them from a training checkpoint; `--no-ema` takes those of the last step."""
    averaged = load_file(weights)
    last = {key: tensor + 1e-3 for key, tensor in averaged.items()}
    checkpoint = {"model": last, "model_ema": {f"_orig_mod.module.{key}": tensor for key, tensor in averaged.items()}}
    torch.save(checkpoint, tmp_path / "training.pth")
    for options, expected, place in (([], averaged, "model_ema module.*"), (["--no-ema"], last, "model")):
        run("--source", tmp_path / "training.pth", "--output", tmp_path / "model", "--overwrite", *options)
        assert f"crossvit_9_dagger_240 from {place}: largest difference to timm" in capsys.readouterr().out
        found = CrossViTForImageClassification.from_pretrained(tmp_path / "model").state_dict()
        assert all(
            torch.equal(found[key], tensor) for key, tensor in convert_checkpoint(expected).state_dict().items()
        )
        assert f"a local checkpoint (`{place}`)" in (tmp_path / "model" / "README.md").read_text()


def test_there_and_back(weights, tmp_path, capsys):
    run("--source", weights, "--output", tmp_path / "model")
    run("--source", tmp_path / "model", "--to-timm", "--output", tmp_path / "timm")
    # The line that is printed loads it.
    line = capsys.readouterr().out.splitlines()[-1]
    assert "largest difference to timm" in line
    model = eval(line.split(": ")[0], {"timm": timm})
    before, after = load_file(weights), model.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)


def test_overwrite_replaces_the_model_and_nothing_else(weights, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model-00001-of-00002.safetensors").write_text("of an older model")
    run("--source", weights, "--output", tmp_path / "model", "--overwrite")
    assert not (tmp_path / "model" / "model-00001-of-00002.safetensors").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_without_timm_it_says_that_nothing_was_compared(weights, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "is_timm_available", lambda: False)
    run("--source", weights, "--output", tmp_path / "model")
    assert "not compared with timm" in capsys.readouterr().out


def test_a_difference_is_an_error_and_nothing_is_written_or_pushed(weights, tmp_path, monkeypatch, capsys):
    def wrong(state_dict, variant):
        model = convert_checkpoint(state_dict, variant)
        with torch.no_grad():
            model.classifier.heads[1].bias.add_(1e-2)
        return model

    monkeypatch.setattr(command, "convert_checkpoint", wrong)
    monkeypatch.setattr(command, "create_repo", lambda *args, **kwargs: pytest.fail("published"))
    error = refuse(capsys, "--source", weights, "--output", tmp_path / "model", "--push-to-hub", "me/model")
    assert "differs from timm's by" in error and "Nothing was written" in error
    assert not list(tmp_path.iterdir())


# Refusals


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--source", "crossvit_15_dager_240"], "Did you mean crossvit_15_dagger_240"),
        (["--source", "timm/resnet50"], "neither a file nor a known model"),
        (["--source", "absent.pth"], "absent.pth is not a file"),
        (["--source", "files/vitt.safetensors"], "Did you mean files/vit.safetensors?"),
        (["--source", "files"], "files is a folder. Give the .pth or .safetensors file in it"),
        (["--source", "files/models", "--to-timm"], "Did you mean 'files/model'?"),
        (["--source", "files/model", "--to-timm"], "--to-timm needs a published architecture"),
        (["--source", "files/damaged", "--to-timm"], "The weights of files/damaged are damaged"),
        (["--source", "files/impossible", "--to-timm"], "multiple of"),
        (["--source", "files/headless", "--to-timm"], "files/headless has no weights for 4 tensors of a classifier"),
        (["--source", "{weights}", "--variant", "crossvit_9"], "Unknown CrossViT variant: got 'crossvit_9'"),
        (["--source", "{weights}", "--variant", "crossvit_9_240"], "does not fit the configuration"),
        (["--source", "{folder}/vit.safetensors"], "not a CrossViT checkpoint"),
        (["--source", "{folder}/cut.safetensors"], "not a whole safetensors file"),
        (["--source", "{folder}/evil.pth"], "never runs code"),
        (["--source", "{folder}/path.safetensors"], "not part of the model"),
        (["--source", "{weights}", "--to-timm", "--variant", "crossvit_9_240"], "--to-timm goes with"),
        (["--source", "{weights}", "--to-timm", "--no-ema"], "--to-timm goes with"),
        (["--all", "--no-ema"], "leave --variant and --no-ema out"),
        (["--all", "--variant", "crossvit_9_240"], "leave --variant and --no-ema out"),
        (["--source", "{weights}", "--all"], "not allowed with"),
        ([], "--source --all is required"),
    ],
)  # fmt: skip
def test_bad_sources(weights, tmp_path, capsys, monkeypatch, arguments, message):
    folder = tmp_path / "files"
    folder.mkdir()
    save_file({"cls_token": torch.zeros(1, 1, 8)}, folder / "vit.safetensors")
    (folder / "cut.safetensors").write_bytes(weights.read_bytes()[:100_000])
    save_file({**load_file(weights), "../../evil": torch.zeros(1)}, folder / "path.safetensors")
    torch.save({"model": load_file(weights), "hook": os.system}, folder / "evil.pth")
    CrossViTForImageClassification(small_config()).save_pretrained(folder / "model")
    CrossViTModel(small_config()).save_pretrained(folder / "headless")
    for name, file, content in (
        ("damaged", "model.safetensors", "cut"),
        ("impossible", "config.json", json.dumps({"model_type": "crossvit", "image_sizes": [241, 224]})),
    ):
        shutil.copytree(folder / "model", folder / name)
        (folder / name / file).write_text(content)
    before = sorted(tmp_path.rglob("*"))
    arguments = [argument.format(weights=weights, folder=folder) for argument in arguments]
    monkeypatch.chdir(tmp_path)
    assert message in refuse(capsys, *arguments, "--output", tmp_path / "out" / "model").replace("\n", " ")
    assert sorted(tmp_path.rglob("*")) == before


def test_bad_outputs(weights, tmp_path, capsys, monkeypatch):
    def output(name):
        return refuse(capsys, "--source", weights, "--output", name)

    (tmp_path / "file").write_text("")
    assert "is a file" in output(tmp_path / "file")
    # /proc takes no folders, whoever asks: as a read-only disk.
    with monkeypatch.context() as patch:  # before the work
        patch.setattr(command, "read_checkpoint", lambda *args: pytest.fail("worked in vain"))
        assert "/proc cannot be written to" in output("/proc/model")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("mine")
    assert "holds cat.jpg, which no saved model has" in output(tmp_path / "photos")
    assert "cat.jpg" in refuse(capsys, "--source", weights, "--output", tmp_path / "photos", "--overwrite")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    assert "already holds a model" in output(tmp_path / "model")
    assert (tmp_path / "model" / "config.json").read_text() == "{}"
    assert {path.name for path in tmp_path.rglob("*")} == {"file", "photos", "cat.jpg", "model", "config.json"}


def test_a_tilde_is_the_home_folder(weights, tmp_path, monkeypatch):
    """Also where quotes kept the shell from replacing it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    shutil.copy(weights, tmp_path / "weights.safetensors")
    run("--source", "~/weights.safetensors", "--output", "~/model")
    run("--source", "~/model", "--to-timm", "--output", "~/timm")
    assert {path.name for path in tmp_path.iterdir()} == {"weights.safetensors", "model", "timm"}


def test_a_full_disk_leaves_the_previous_model(weights, tmp_path):
    """A limit on the size of files, since a disk cannot be filled in a test: the write of the weights fails in the same place."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    code = f"""
import resource, signal
from crossvit.weights.convert import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
main(["--source", {str(weights)!r}, "--output", {str(tmp_path / "model")!r}, "--overwrite"])
"""
    process = run_python(code, tmp_path)
    assert process.returncode == 1
    (error,) = [line for line in process.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith(f"error: {tmp_path / 'model'} could not be written (")
    assert "Traceback" not in process.stderr, process.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "config.json"]


def test_no_network(tmp_path):
    environment = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": None}
    arguments = ["--source", "crossvit_tiny_240", "--output", str(tmp_path / "model")]
    process = run_python(f"from crossvit.weights.convert import main\nmain({arguments!r})", tmp_path, environment)
    assert process.returncode == 1
    # torchao, where it is installed, makes PyTorch log warnings when transformers imports it.
    errors = re.sub(r"^W\d{4} .*_pytree\.py.*\n", "", process.stderr, flags=re.M)
    assert errors.startswith("error: Cannot reach the Hub (http://127.0.0.1:9)"), errors
    assert errors.count("\n") == 1
    assert not (tmp_path / "model").exists()
