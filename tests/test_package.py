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
The package: what the wheel holds, that it works inside and outside the checkout, that importing it is silent and registers
everything, also without torchvision and beside a model of the same name.

    pytest tests/test_package.py
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[1]


def run_python(code: str, cwd: Path, path: Path | None = None) -> subprocess.CompletedProcess:
    environment = {"HF_HUB_OFFLINE": "1", "PATH": "/usr/bin:/bin", "HOME": str(cwd)}
    if path:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def installed_wheel(tmp_path_factory):
    """The wheel's files as pip would install them, built from a copy so that nothing is written into the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    files = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    names = files.stdout.splitlines() or [str(path.relative_to(ROOT)) for path in ROOT.rglob("*") if path.is_file()]
    for name in names:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / "source" / name)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation", "--wheel-dir", ".."]
    build = subprocess.run(command, cwd=folder / "source", capture_output=True, text=True)
    assert build.returncode == 0, build.stdout + build.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "installed")
    return folder / "installed"


def test_wheel_holds_nothing_but_the_package(installed_wheel):
    top = sorted(path.name for path in installed_wheel.iterdir())
    assert len(top) == 2 and top[0] == "crossvit" and top[1].endswith(".dist-info")
    sources = {
        "crossvit": "modeling_crossvit",
        "crossvit/configuration": "configuration",
        "crossvit/image_processing": "image_processing",
    }
    expected = {
        f"{package}/{path.name}"
        for package, folder in sources.items()
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or path.name == "py.typed"
    }
    found = {
        str(path.relative_to(installed_wheel)) for path in (installed_wheel / "crossvit").rglob("*") if path.is_file()
    }
    assert found == expected
    metadata = next(installed_wheel.glob("*.dist-info/METADATA")).read_text()
    assert "Name: transformers-crossvit" in metadata and "License-Expression: Apache-2.0" in metadata
    assert "Requires-Dist: transformers<6,>=5.23" in metadata


@pytest.mark.parametrize("inside", [True, False])
def test_wheel_works_inside_and_outside_the_checkout(installed_wheel, tmp_path, inside):
    code = "import crossvit; print(crossvit.__file__); crossvit.CrossViTModel(crossvit.CrossViTConfig())"
    result = run_python(code, cwd=ROOT if inside else tmp_path, path=installed_wheel)
    assert result.stdout.strip() == str(installed_wheel / "crossvit" / "__init__.py"), result.stderr


def test_import_is_silent(tmp_path):
    result = run_python("import crossvit; crossvit.CrossViTImageProcessor()", cwd=tmp_path)
    # torchao, where it is installed, makes PyTorch log warnings when transformers imports it.
    errors = re.sub(r"^W\d{4} .*_pytree\.py.*\n", "", result.stderr, flags=re.M)
    assert (result.returncode, result.stdout, errors) == (0, "", "")


def test_import_is_fast(tmp_path):
    """At most half a second more than what anybody needs for such a model. The faster of three runs, since machines are noisy."""
    common = "import torch; from transformers import ViTModel, ViTImageProcessor"
    seconds = {
        code: min(
            float(run_python(f"import time; start = time.time(); {code}; print(time.time() - start)", tmp_path).stdout)
            for _ in range(3)
        )
        for code in (common, f"{common}; import crossvit")
    }
    assert seconds[f"{common}; import crossvit"] - seconds[common] < 0.5, seconds


def test_import_registers_everything(tmp_path):
    code = """
import crossvit
from transformers import AutoBackbone, AutoConfig, AutoModel, AutoModelForImageClassification
config = AutoConfig.for_model("crossvit")
assert type(config) is crossvit.CrossViTConfig
assert type(AutoBackbone.from_config(config)) is crossvit.CrossViTBackbone
assert type(AutoModel.from_config(config)) is crossvit.CrossViTModel
assert type(AutoModelForImageClassification.from_config(config)) is crossvit.CrossViTForImageClassification
"""
    result = run_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_a_crossvit_that_is_there_already_is_no_obstacle(tmp_path):
    code = """
from transformers import AutoConfig, AutoModel, PreTrainedConfig, ViTModel
class Other(PreTrainedConfig):
    model_type = "crossvit"
class OtherModel(ViTModel):
    config_class = Other
AutoConfig.register("crossvit", Other)
AutoModel.register(Other, OtherModel)
import crossvit
assert type(AutoConfig.for_model("crossvit")) is crossvit.CrossViTConfig
"""
    result = run_python(code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr


def test_without_torchvision(tmp_path, saved_model, photos):
    """In a process where torchvision cannot be imported, the same folder goes through the PIL processor."""
    photos["landscape"].save(tmp_path / "photo.png")
    code = f"""
import sys
sys.modules["torchvision"] = None
import crossvit
from transformers import AutoImageProcessor, pipeline
assert crossvit.CrossViTImageProcessor is crossvit.CrossViTImageProcessorPil
assert type(AutoImageProcessor.from_pretrained({str(saved_model)!r})) is crossvit.CrossViTImageProcessorPil
classifier = pipeline("image-classification", model={str(saved_model)!r})
assert type(classifier.image_processor) is crossvit.CrossViTImageProcessorPil
print(len(classifier({str(tmp_path / "photo.png")!r})))
crossvit.CrossViTImageProcessor().save_pretrained({str(tmp_path)!r})
"""
    result = run_python(code, cwd=tmp_path)
    assert result.stdout.strip() == "5", result.stderr
    # What was saved there is what torchvision loads here.
    assert '"image_processor_type": "CrossViTImageProcessor"' in (tmp_path / "preprocessor_config.json").read_text()
