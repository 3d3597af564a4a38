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
First contact: what the README tells a newcomer to type works as it stands, in a new environment that holds only what the README installs,
with a server on this computer in the place of the Hub, and a photo on the disk in the place of its URL.

    pytest tests/test_first_contact.py -m slow      four minutes, most of them for the installation, which needs a package index
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import HubServer
from PIL import Image
from sklearn.datasets import load_sample_images
from timm.models._hub import save_for_hf

from benchmarks.parity import timm_model
from crossvit.configuration.variants import imagenet_classes


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
CLONE = "git clone https://github.com/transformers-crossvit/transformers-crossvit\ncd transformers-crossvit\n"
# Everything that is copied and run, in the order of the page, with the output that stands below it. The page for a browser, which comes next,
# runs until it is stopped: tests/examples/test_demo.py starts it.
START, _ = README.split("## Try it in a browser")
PHOTO = "http://images.cocodataset.org/val2017/000000039769.jpg"
BLOCKS = re.findall(r"```(bash|python)\n(.*?)```\n(?:\n```text\n(.*?)```)?", START, re.S)


@pytest.fixture
def hub(tmp_path):
    """timm's repository of the model, with random weights in the place of the trained ones, and a client that knows no other Hub."""
    save_for_hf(timm_model("crossvit_15_dagger_240"), tmp_path / "timm", safe_serialization=True)
    with HubServer(users={}) as server:
        server.publish("timm/crossvit_15_dagger_240.in1k", tmp_path / "timm")
        yield server


def test_the_order_of_the_page():
    """A clone and its installation, a published model, fine-tuning, what came out of it, and the attentions."""
    assert [language for language, *_ in BLOCKS] == ["bash", "python", "bash", "python", "python"]
    assert BLOCKS[0][1].startswith(CLONE)


@pytest.mark.slow
def test_every_block_as_it_stands(hub, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    left_out = shutil.ignore_patterns(".*", "build", "outputs", "*.egg-info", "__pycache__")
    clone = shutil.copytree(ROOT, tmp_path / "transformers-crossvit", ignore=left_out)
    photos = [Image.fromarray(image) for image in load_sample_images().images]
    photos[0].save(clone / "photo.jpg")
    for name, photo in zip(("china", "flower"), photos):
        (clone / "my_photos" / name).mkdir(parents=True)
        for left in range(0, 120, 10):
            photo.crop((left, 0, left + 400, 400)).save(clone / "my_photos" / name / f"{left}.jpg")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "PYTHON"))}
    environment |= {
        "PATH": f"{tmp_path / 'venv' / 'bin'}:{environment['PATH']}",
        "HOME": str(tmp_path),
        "HF_HOME": str(tmp_path / "huggingface"),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
    }

    def run(*command: str) -> str:
        result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
        assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def is_installed(*packages: str) -> list[bool]:
        return eval(
            run(
                "python",
                "-c",
                f"from importlib.util import find_spec\nprint([bool(find_spec(name)) for name in {packages}])",
            )
        )

    printed = []
    for language, code, output in BLOCKS:
        if language == "bash":
            run("bash", "-ec", code.removeprefix(CLONE))
            # The first block leaves an environment for the model alone, and none has the packages of the developers.
            assert is_installed("timm", "sklearn", "accelerate", "pytest", "ruff") == [bool(printed)] * 3 + [False] * 2
        else:
            printed.append(run("python", "-c", code.replace(PHOTO, "photo.jpg")))
            assert not output or printed[-1] == output
    of_imagenet, of_my_photos, _ = printed
    labels = re.findall(r"^0\.\d{3}  (.+)$", of_imagenet, re.M)
    assert len(labels) == len(of_imagenet.splitlines()) == 5 and set(labels) <= set(imagenet_classes())
    assert {entry["label"] for entry in eval(of_my_photos)} == {"china", "flower"}
