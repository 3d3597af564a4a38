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
The package: what the wheel holds, that it works inside and outside the checkout, that its imports go one way, that importing it is
silent and registers everything, also without torchvision and beside a model of the same name.

    pytest tests/test_package.py
"""

import ast
import re
import shutil
import subprocess
import sys
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from clean_process import run_python


ROOT = Path(__file__).parents[1]

# The folders under the names that they are installed by.
FOLDERS = {
    "crossvit": "modeling_crossvit",
    "crossvit.data": "modeling_crossvit/data",
    "crossvit.inference": "modeling_crossvit/inference",
    "crossvit.weights": "modeling_crossvit/weights",
    "crossvit.image_processing": "image_processing",
    "crossvit.configuration": "configuration",
}

# The rooms of the package, from the ground up. A room imports from itself and from those before it, and the rooms around the model (those
# after "the model") from the model and from those that are named.
ROOMS = {
    "configuration": [],
    "image_processing": ["configuration"],
    "loading": ["configuration"],  # what the base of the models needs: the names of weights, and how they are loaded
    "hub": ["configuration", "loading"],
    "the model": ["configuration", "hub"],
    "weights": ["configuration", "image_processing", "loading", "hub", "the model"],
    "inference": ["configuration", "image_processing", "hub", "the model"],
    "data": ["configuration"],
    "explain": ["configuration", "the model", "inference"],
    "trainer": ["configuration", "hub", "data", "crossvit"],
    "crossvit": [
        "configuration",
        "image_processing",
        "the model",
        "weights",
        "inference",
    ],  # what `import crossvit` gives
}
_OWN_ROOMS = {
    "crossvit.weights.names": "loading",
    "crossvit.weights.loading": "loading",
    "crossvit.modeling_crossvit": "the model",
    "crossvit.loss_crossvit": "the model",
}


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
    expected = {
        f"{package.replace('.', '/')}/{path.name}"
        for package, folder in FOLDERS.items()
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or path.name in ("py.typed", "imagenet_classes.txt")
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
    environment = {"PYTHONPATH": str(installed_wheel), "HOME": str(tmp_path)}
    result = run_python(code, ROOT if inside else tmp_path, environment)
    assert result.stdout.strip() == str(installed_wheel / "crossvit" / "__init__.py"), result.stderr


def own_imports(path: Path) -> set[str]:
    """The modules of this package that a source file imports."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} line {node.lineno}: imports from this package start with `crossvit`"
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                modules.add(submodule if is_own_module(submodule) else node.module)
    return {module for module in modules if module.split(".")[0] == "crossvit"}


def is_own_module(module: str) -> bool:
    """Whether there is a module of this name in the folders; `from package import name` may name a class instead."""
    if module in FOLDERS:
        return True
    package, _, name = module.rpartition(".")
    return package in FOLDERS and (ROOT / FOLDERS[package] / f"{name}.py").is_file()


def room(module: str) -> str:
    return _OWN_ROOMS.get(module) or (module.split(".") + ["crossvit"])[1]


def test_imports_go_one_way(capsys):
    """Between rooms as `ROOMS` says, and between modules in no circle. The graph is printed."""
    graph = {}
    for package, folder in FOLDERS.items():
        for path in sorted((ROOT / folder).glob("*.py")):
            module = package if path.stem == "__init__" else f"{package}.{path.stem}"
            graph[module] = sorted(own_imports(path))
    with capsys.disabled():
        print("\n\nimports of the package, each module with those that it imports:")
        for module, imported in graph.items():
            print(f"    {module} -> {', '.join(imported) or '(none)'}")
    others = {
        (module, name)
        for module, imported in graph.items()
        for name in imported
        if room(name) not in (room(module), *ROOMS[room(module)])
    }
    assert not others
    for name in ("crossvit.configuration.configuration_crossvit", "crossvit.modeling_crossvit"):
        bases = [imported for imported in graph[name] if not imported.endswith("_crossvit")]
        assert len(bases) == 1, "the core imports one base and nothing else of the package"
    TopologicalSorter(graph).prepare()  # raises at a circle
    assert graph.keys() == set(TopologicalSorter(graph).static_order())


def test_an_editor_can_follow_every_import():
    """The package is found on `sys.path` as a folder of files. Type checkers and editors look there, and run no import hooks."""
    (folder,) = {Path(entry, "crossvit") for entry in sys.path if Path(entry, "crossvit").is_dir()}
    for package, source in FOLDERS.items():
        for path in (ROOT / source).glob("*.py"):
            installed = folder.joinpath(*package.split(".")[1:], path.name)
            linked = installed.exists() and installed.samefile(path)
            assert linked, f"{path} is not installed: `pip install --editable .` again"


def test_import_is_silent(tmp_path):
    result = run_python("import crossvit; crossvit.CrossViTImageProcessor()", tmp_path, fresh=True)
    # torchao, where it is installed, makes PyTorch log warnings when transformers imports it.
    errors = re.sub(r"^W\d{4} .*_pytree\.py.*\n", "", result.stderr, flags=re.M)
    assert (result.returncode, result.stdout, errors) == (0, "", "")


def test_import_is_light(tmp_path):
    """It needs no package besides those that any such model of transformers needs, so that it takes no time of its own."""
    code = """
import sys, torch
from transformers import ViTImageProcessor, ViTModel
before = set(sys.modules)
import crossvit
print(*sorted({name.split(".")[0] for name in set(sys.modules) - before if sys.modules[name].__spec__.origin != "built-in"}))
from crossvit.trainer import CompleteCheckpoints, CrossViTTrainer  # only metrics and pictures need scikit-learn and matplotlib
"""
    result = run_python(code, tmp_path, without=("sklearn", "matplotlib"), fresh=True)
    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"crossvit", "transformers", "torch"}, result.stdout


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
    result = run_python(code, tmp_path)
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
    result = run_python(code, tmp_path)
    assert result.returncode == 0, result.stderr


def test_without_torchvision(tmp_path, saved_model, photos):
    """In a process where torchvision cannot be imported, the same folder goes through the PIL processor."""
    photos["landscape"].save(tmp_path / "photo.png")
    code = f"""
import crossvit
from transformers import AutoImageProcessor, pipeline
assert crossvit.CrossViTImageProcessor is crossvit.CrossViTImageProcessorPil
assert type(AutoImageProcessor.from_pretrained({str(saved_model)!r})) is crossvit.CrossViTImageProcessorPil
classifier = pipeline("image-classification", model={str(saved_model)!r})
assert type(classifier.image_processor) is crossvit.CrossViTImageProcessorPil
print(len(classifier({str(tmp_path / "photo.png")!r})))
crossvit.CrossViTImageProcessor().save_pretrained({str(tmp_path)!r})
"""
    result = run_python(code, tmp_path, without=("torchvision",))
    assert result.stdout.strip() == "5", result.stderr
    # What was saved there is what torchvision loads here.
    assert '"image_processor_type": "CrossViTImageProcessor"' in (tmp_path / "preprocessor_config.json").read_text()
