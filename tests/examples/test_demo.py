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
Proves that the page of examples/demo does what it says: in a real browser, numbers are those of transformers' pipeline and pictures those of
crossvit.explain; a file that is not an image gets a clear message; visitors do not mix; and the folder is a valid Space. The browser is Chromium of the
Debian packages chromium and chromium-driver. Without them its tests are skipped, but not in CI.

    pytest tests/examples/test_demo.py          about a minute
"""

import ast
import base64
import importlib.util
import io
import os
import re
import shutil
import sys
import time
from pathlib import Path
from urllib.parse import urlparse

import gradio as gr
import httpx
import numpy as np
import psutil
import pytest
import torch
from gradio_client import Client, handle_file
from huggingface_hub import SpaceCard
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from packaging.requirements import Requirement
from packaging.version import Version
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait
from small_models import small_config
from transformers import pipeline
from transformers.image_utils import load_image

from benchmarks.demo_load import TRAINED_SIZE, measure, serve
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor, CrossViTImageProcessorPil, explain


DEMO = Path(__file__).parents[2] / "examples" / "demo"
WORDS = {
    "text": "it is not an image, whatever its name says",
    "truncated": "image file is truncated",
    "empty": "it is empty",
    "drawing": "it is an SVG, which has shapes and no pixels",
}


@pytest.fixture(scope="module")
def app():
    """The module of the page, for its functions."""
    spec = importlib.util.spec_from_file_location("demo_app", DEMO / "app.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[str]:
    """The folders of two models that differ in classes and stages. Large random weights make clear decisions."""
    folders = []
    for number, words in enumerate((["ant", "bee", "cat", "dog", "eel", "fox"], ["up", "down"])):
        torch.manual_seed(number)
        config = small_config(
            initializer_range=0.5, num_stages=2 + number, num_labels=len(words), id2label=dict(enumerate(words))
        )
        folder = tmp_path_factory.mktemp("models") / f"model{number}"
        CrossViTForImageClassification(config).save_pretrained(folder)
        CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
        folders.append(str(folder))
    return folders


@pytest.fixture(scope="module")
def files(photos, tmp_path_factory) -> dict[str, str]:
    """Files as visitors upload them."""
    folder = tmp_path_factory.mktemp("files")
    for name in ("landscape", "portrait"):
        photos[name].save(folder / f"{name}.jpg")
    (folder / "text.jpg").write_text("This is no picture.")
    (folder / "empty.jpg").touch()
    (folder / "drawing.jpg").write_text('<svg xmlns="http://www.w3.org/2000/svg"></svg>')
    (folder / "truncated.jpg").write_bytes((folder / "landscape.jpg").read_bytes()[:20000])
    return {path.stem: str(path) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def page(models):
    """The address of the page, served by a process of its own."""
    with serve("--models", *models) as (address, _, log):
        yield address
        # The log stays free of the mistakes of visitors.
        assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    programs = [shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")]
    if not all(programs):
        message = "needs the Debian packages chromium and chromium-driver"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("headless=new", "no-sandbox", "disable-dev-shm-usage", f"user-data-dir={profile}"):
        options.add_argument(f"--{argument}")
    with webdriver.Chrome(options, Service(programs[1])) as driver:
        yield driver


class Visitor:
    """Does on the page what a visitor does, and reads what a visitor sees."""

    def __init__(self, driver, address: str, size: tuple[int, int] = (1280, 720)):
        self.driver = driver
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.get(address)
        self.wait(lambda: self.all("#image input[type=file]"))

    def all(self, selector: str) -> list:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def wait(self, condition, seconds: float = 20):
        return WebDriverWait(self.driver, seconds, 0.1, (Exception,)).until(lambda _: condition())

    def upload(self, file: str):
        for button in self.all("#image button[title='Remove Image']"):
            button.click()
            self.wait(lambda: not self.all("#image img") and not self.classes())
        self.wait(lambda: self.all("#image input[type=file]"))[0].send_keys(file)

    def classes(self) -> dict[str, float]:
        return {bar.get_attribute("aria-label"): float(bar.get_attribute("value")) for bar in self.all("meter")}

    def maps(self) -> list[str]:
        return [picture.get_attribute("src") for picture in self.all(".maps img")]

    def messages(self) -> list[str]:
        return [message.text for message in self.all(".toast-body")]

    def status(self) -> str:
        return self.all("#status")[0].text

    def choose(self, option: str):
        self.driver.find_element(
            By.XPATH, f"//label[.//input[@type='radio'] and normalize-space()='{option}']"
        ).click()

    def choose_model(self, name: str):
        self.all("input[aria-label='Model']")[0].click()
        self.wait(lambda: self.all(f"[role=option][aria-label='{name}']"))[0].click()

    def stages(self) -> list[str]:
        """Those to choose from, where they can be seen. There is no field for free text."""
        return [choice.text for choice in self.all("#stage label") if choice.is_displayed()]

    def after(self, act):
        """The maps after an act that changes them."""
        before = self.maps()
        act()
        return self.wait(lambda: self.maps() != before and self.maps())


def pixels(address: str) -> np.ndarray:
    """The picture inside a data address, in floats."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.split(",")[1]))), dtype=float)


def load(folder: str):
    return CrossViTForImageClassification.from_pretrained(folder).eval(), CrossViTImageProcessorPil.from_pretrained(
        folder
    )


def as_pipeline(folder: str, file: str) -> dict[str, float]:
    model, image_processor = load(folder)
    classifier = pipeline("image-classification", model=model, image_processor=image_processor)
    return {row["label"]: row["score"] for row in classifier(file, top_k=5)}


def test_numbers_are_the_pipelines_and_pictures_those_of_explain(app, chromium, page, models, files):
    """Upload, all stages and methods, another class, another model, another size."""
    visitor = Visitor(chromium, page)
    visitor.upload(files["landscape"])
    expected = as_pipeline(models[0], files["landscape"])
    visitor.wait(visitor.classes)
    assert list(visitor.classes()) == list(expected) and len(expected) == 5
    assert visitor.classes() == pytest.approx(expected, abs=1e-4)
    visitor.wait(visitor.maps)

    model, image_processor = load(models[0])
    pixel_values = image_processor(load_image(files["landscape"]), return_tensors="pt").pixel_values
    colours = explain.visible(pixel_values[0], image_processor)

    def check(shown: list[str], maps: list[torch.Tensor]):
        assert len(shown) == len(maps) == 2
        for address, values in zip(shown, maps):
            np.testing.assert_allclose(pixels(address), pixels(app.draw_map(colours, values[0])), atol=1)

    check(visitor.maps(), explain.attention_maps(model, pixel_values))
    check(visitor.after(lambda: visitor.choose("1")), explain.attention_maps(model, pixel_values, 0))
    check(visitor.after(lambda: visitor.choose("rollout")), explain.rollout_maps(model, pixel_values, 0))
    check(visitor.after(lambda: visitor.choose("gradient")), explain.gradient_maps(model, pixel_values, steps=8))
    second = list(expected)[1]
    target = explain.find_class(model, second)

    def choose_class():
        visitor.all("input[aria-label='Class']")[0].click()
        visitor.wait(lambda: visitor.all(f"[role=option][aria-label='{second}']"))[0].click()

    check(visitor.after(choose_class), explain.gradient_maps(model, pixel_values, target, steps=8))
    assert not visitor.stages()

    visitor.after(lambda: visitor.choose_model(models[1]))
    assert visitor.classes() == pytest.approx(as_pipeline(models[1], files["landscape"]), abs=1e-4)
    visitor.after(lambda: visitor.choose("attention"))
    assert visitor.stages() == ["1", "2", "3"]
    assert "48 × 48 pixels, as 4 × 4 and 2 × 2 patches" in visitor.status()
    shown = visitor.after(lambda: visitor.choose(app.SIZES[1]))
    assert "480 × 320 pixels, as 40 × 27 and 20 × 13 patches" in visitor.status()
    assert pixels(shown[0]).shape == (320, 480, 3)
    # Nothing came from anywhere else.
    addresses = chromium.execute_script("return performance.getEntriesByType('resource').map(entry => entry.name)")
    assert {urlparse(address).netloc for address in addresses if not address.startswith("data:")} == {page[7:]}


@pytest.mark.parametrize("kind", WORDS)
def test_what_is_no_image(chromium, page, models, files, kind):
    visitor = Visitor(chromium, page)
    visitor.upload(files["landscape"])
    visitor.wait(visitor.maps)
    visitor.all("#image input[type=file]")[0].send_keys(
        files[kind]
    )  # in the place of the photo, as when it is dropped there
    message = visitor.wait(lambda: visitor.all(".toast-body")[0].text)
    assert f"{kind}.jpg cannot be read: {WORDS[kind]}" in message and "/" not in message
    visitor.wait(lambda: not visitor.classes() and not visitor.maps() and not visitor.status())
    assert visitor.messages()
    visitor.upload(files["portrait"])
    visitor.wait(visitor.maps)
    visitor.wait(lambda: not visitor.messages(), seconds=5)  # of 20 that it would stay
    assert visitor.classes() == pytest.approx(as_pipeline(models[0], files["portrait"]), abs=1e-4)


def test_files_of_the_server_stay_there(page, models, files, tmp_path):
    """A request that names a file of the server learns neither what it shows nor whether it exists."""
    answers = []
    for path in (files["landscape"], str(tmp_path / "missing.jpg"), "/etc/passwd"):
        named = {"path": path}  # Gradio looks only at what says that it is a file
        # Its own client would upload the file first.
        call = f"{page.rstrip('/')}/gradio_api/call/classify"
        event = httpx.post(call, json={"data": [named, models[0], TRAINED_SIZE]}).json()["event_id"]
        answers.append(httpx.get(f"{call}/{event}", timeout=60).text.replace(path, ""))
    assert answers[0].startswith("event: error") and len(set(answers)) == 1, answers


def test_photos_of_a_camera_are_not_mirrored(app, models):
    page = app.build_page(models, [], "")
    (image,) = (block for block in page.blocks.values() if isinstance(block, gr.Image))
    assert image.webcam_options.mirror is False


@pytest.mark.parametrize("width", [390, 800, 1280])
def test_nothing_sticks_out(chromium, page, width):
    """The examples work; no window scrolls sideways, and the wide one shows everything at once."""
    visitor = Visitor(chromium, page, (width, 720))
    visitor.wait(lambda: visitor.all("button.gallery-item"))[0].click()
    visitor.wait(visitor.maps)
    inner, page_width = chromium.execute_script("return [document.documentElement.clientWidth, document.documentElement.scrollWidth]")  # fmt: skip
    assert page_width <= inner <= width
    parts = [*visitor.all("meter"), *visitor.all(".maps img"), *visitor.all("#image img"), *visitor.all("#status")]
    for part in (part.rect for part in parts):
        assert 0 <= part["x"] and part["x"] + part["width"] <= inner
        assert width < 1280 or (0 <= part["y"] and part["y"] + part["height"] <= 720)


def test_visitors_do_not_mix(page, models, files):
    """Two of them take turns; each gets the maps of the own image."""
    first, second = (Client(page, verbose=False) for _ in range(2))

    def ask(client: Client, file: str, model: str) -> dict[str, float]:
        classes, *_ = client.predict(handle_file(files[file]), model, TRAINED_SIZE, api_name="/classify")
        return {row["label"]: row["confidence"] for row in classes["confidences"]}

    def maps(client: Client) -> str:
        return client.predict("attention", 1, None, api_name="/draw_maps")

    assert ask(first, "landscape", models[0]) == pytest.approx(as_pipeline(models[0], files["landscape"]), abs=1e-4)
    alone = maps(first)
    assert ask(second, "portrait", models[1]) == pytest.approx(as_pipeline(models[1], files["portrait"]), abs=1e-4)
    assert maps(second) != alone and maps(first) == alone


@pytest.mark.parametrize(("height", "width"), [(96, 96), (96, 60), (240, 480)])
def test_a_map_looks_as_matplotlib_draws_it(app, height, width):
    """A grey of the image's own range, and colours from zero. Of 255 steps, rounding and JPEG change one on average."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.linspace(0.2, 0.7, height)[:, None, None]
    colours = (rows + 0.2 * torch.linspace(0, 1, width)[:, None]).expand(height, width, 3)
    values = torch.rand(5, 4, generator=generator) - 0.2
    figure = Figure(figsize=(width / 100, height / 100), dpi=480 / max(height, width) * 100)
    axis = figure.add_axes((0, 0, 1, 1))
    explain.draw_over(axis, colours, values)
    axis.set_axis_off()  # its frame
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    expected = np.asarray(canvas.buffer_rgba(), dtype=float)[..., :3]
    drawn = pixels(app.draw_map(colours, values))
    assert drawn.shape == expected.shape and max(drawn.shape) == 480
    assert np.abs(drawn - expected).mean() < 1
    assert np.isfinite(pixels(app.draw_map(torch.zeros(48, 48, 3), torch.zeros(4, 4)))).all()


def test_maps_are_drawn_once(app, models, files, monkeypatch):
    seen, *_ = app.classify(files["landscape"], models[0], app.TRAINED_SIZE)
    calls = []
    monkeypatch.setitem(explain.METHODS, "rollout", lambda *args, **kwargs: calls.append(1) or explain.rollout_maps(*args, **kwargs))  # fmt: skip
    first = app.draw_maps(seen, "rollout", 1, None)
    assert app.draw_maps(seen, "rollout", 1, 3) == first and len(calls) == 1
    assert app.draw_maps(seen, "rollout", 2, None) != first and len(calls) == 2
    assert app.draw_maps(None, "rollout", 1, None) == "Choose an image."
    assert app.classify(None, models[0], app.TRAINED_SIZE)[:3] == (None, None, "")


@pytest.mark.parametrize("kind", ["EXIF-rotated", "CMYK", "RGBA", "palette", "grey", "GIF", "HEIC"])
def test_kinds_of_images(app, photos, tmp_path, kind):
    """They become what pipelines make of them."""
    path = tmp_path / f"image.{ {'CMYK': 'jpg', 'GIF': 'gif', 'HEIC': 'heic'}.get(kind, 'png') }"
    if kind == "GIF":
        photos["small"].save(path, save_all=True, append_images=[photos["small"].rotate(90)])
    elif kind == "HEIC":
        photos["small"].save(path)
    else:
        exif = photos[kind].getexif()
        photos[kind].save(path, exif=exif)
    image = app.read_image(str(path))
    assert image.mode == "RGB" and np.array_equal(image, load_image(str(path)))
    if kind == "EXIF-rotated":
        assert image.size == photos[kind].size[::-1]


def test_16_bits(app, photos, tmp_path):
    """They are as bright as with 8 bits, and upright."""
    exif = Image.Exif()
    exif[0x0112] = 6
    photos["16-bit"].save(tmp_path / "image.png", exif=exif)
    upright = photos["grey"].convert("RGB").transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(app.read_image(str(tmp_path / "image.png")), upright)
    Image.fromarray(np.zeros((9, 9), np.float32)).save(tmp_path / "image.tiff")
    with pytest.raises(gr.Error, match="image.tiff cannot be read: it has 32 bits per channel, expected 8 or 16"):
        app.read_image(str(tmp_path / "image.tiff"))


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_100_megapixels(app, photos, tmp_path):
    """A JPEG is decoded at a smaller size, with little memory; anything else is refused before it is decoded."""
    photos["landscape"].resize((10000, 10000)).save(tmp_path / "image.jpg")
    Image.new("L", (10000, 10000)).save(tmp_path / "image.png")
    Image.new("L", (20000, 10000)).save(tmp_path / "bomb.png")
    before, start = psutil.Process().memory_info().rss, time.monotonic()
    image = app.read_image(str(tmp_path / "image.jpg"))
    for name, message in (
        ("image", "has 100 megapixels, expected at most 50"),
        ("bomb", "has more than 178 megapixels"),
    ):
        with pytest.raises(gr.Error, match=f"{name}.png cannot be read: it {message}. Make it smaller"):
            app.read_image(str(tmp_path / f"{name}.png"))
    assert psutil.Process().memory_info().rss - before < 50e6 and time.monotonic() - start < 5
    difference = np.subtract(image.resize((100, 100)), photos["landscape"].resize((100, 100)), dtype=float)
    assert min(image.size) >= 960 and abs(difference).mean() < 5


def test_own_sizes(app, models):
    """The whole image keeps its aspect ratio, between the size of training and 480 pixels, with at least a patch on each side."""
    model, image_processor = load(models[0])
    for size, expected in {(640, 427): (480, 320), (300, 400): (300, 400), (8, 4): (48, 24), (2000, 20): (480, 16)}.items():  # fmt: skip
        pixel_values = app.prepare(Image.new("RGB", size), model, image_processor, app.SIZES[1])
        assert tuple(pixel_values.shape) == (1, 3, *expected[::-1])
        assert model(pixel_values, interpolate_pos_encoding=True).logits.isfinite().all()


def test_scores_on_the_page(app, monkeypatch):
    """Scores that are alike have the digits that tell them apart; names are not read as HTML; values have no bars."""
    config = small_config(num_labels=3)
    page = app.show_scores({"<b>": 0.0017, "bee": 0.00168}, config)
    assert re.findall(r"<span>(.*?)</span>", page) == ["&lt;b&gt;", "0.170%", "bee", "0.168%"]
    assert re.findall(r'value="(.*?)"', page) == ["0.0017", "0.00168"]
    config.problem_type = "regression"
    page = app.show_scores({"height": 26.04, "width": -3.0}, config)
    assert re.findall(r"<span>(.*?)</span>", page) == ["height", "26.04", "width", "-3"] and "meter" not in page


def test_maps_name_their_branch_and_their_scale(app, models, files, monkeypatch):
    """And a nearly uniform one says so."""
    seen, *_ = app.classify(files["landscape"], models[0], app.TRAINED_SIZE)
    page = app.draw_maps(seen, "attention", 2, None)
    assert "small branch, 4 × 4 patches" in page and "large branch, 2 × 2 patches" in page
    ends = [explain.scale_end(values) for values in explain.attention_maps(load(models[0])[0], seen.pixel_values)]
    assert re.findall(r"mean <i></i> (.*?) × mean", page) == [f"{end:.3g}" for end in ends]
    assert "uniform" not in page
    monkeypatch.setitem(explain.METHODS, "rollout", lambda *args, **kwargs: [torch.ones(1, 4, 4), torch.ones(1, 2, 2)])
    assert app.draw_maps(seen, "rollout", 2, None).count("nearly uniform: 1.00 to 1.00 × mean") == 2


def test_grey_models(app, files, tmp_path):
    folder = str(tmp_path / "model")
    CrossViTForImageClassification(small_config(num_channels=1)).save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(
        48, do_convert_rgb=False, image_mean=[0.5], image_std=[0.5]
    ).save_pretrained(folder)
    for size in app.SIZES:
        seen, *_ = app.classify(files["landscape"], folder, size)
        assert seen.pixel_values.shape[1] == 1 and app.draw_maps(seen, "attention", 1, None).count("<img") == 2
    CrossViTImageProcessor.from_image_size(48).save_pretrained(folder)
    app.load_model.cache_clear()
    with pytest.raises(gr.Error, match="cannot be loaded: The model takes images of 1 channel"):
        app.classify(files["landscape"], folder, app.TRAINED_SIZE)


def test_two_classes_of_one_name(app):
    config = small_config(num_labels=3, id2label={0: "crane", 1: "maillot", 2: "crane"})
    model = CrossViTForImageClassification(config)
    assert app.class_labels(model) == ["crane (0)", "maillot", "crane (2)"]


def test_a_model_that_cannot_be_loaded(app):
    with pytest.raises(gr.Error, match="nobody/nothing cannot be loaded: .*Choose another model"):
        app.load_model("nobody/nothing")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--models a/b outputs/no/such", "error: --models outputs/no/such: There is no folder 'outputs/no/such'."),
        ("--models ~/a/modle", "error: --models EMPTY/a/modle: There is no folder 'EMPTY/a/modle'. Did you mean 'EMPTY/a/model'?"),
        ("--models a/modle", "Did you mean 'a/model'?"),
        ("--models EMPTY", "error: --models EMPTY: EMPTY has no config.json"),
        ("--models a/b --examples EMPTY/none.jpg", "error: --examples: There is no file 'EMPTY/none.jpg'."),
        ("--models nobody/b --examples ~/a/potho.jpg", "error: --examples: There is no file 'EMPTY/a/potho.jpg'. Did you mean 'EMPTY/a/photo.jpg'?"),
        ("--modles a/b", "unrecognized arguments: --modles"),
    ],
)  # fmt: skip
def test_mistakes_end_before_the_page_starts(app, monkeypatch, capsys, tmp_path, arguments, message):
    (tmp_path / "a" / "model").mkdir(parents=True)
    (tmp_path / "a" / "photo.jpg").touch()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["app.py", *arguments.replace("EMPTY", str(tmp_path)).split()])
    monkeypatch.setattr(app, "build_page", lambda *_: pytest.fail("the page was built"))
    with pytest.raises(SystemExit) as error:
        app.main()
    assert message.replace("EMPTY", str(tmp_path)) in f"{error.value}{capsys.readouterr().err}"


# https://huggingface.co/docs/hub/spaces-config-reference
SPACE = {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "python_version", "app_file", "fullWidth", "pinned", "license", "short_description", "tags", "models", "preload_from_hub"}  # fmt: skip
COLOURS = {"red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray"}


def test_header_of_the_space(app):
    header = SpaceCard.load(DEMO / "README.md").data.to_dict()
    assert header.keys() == SPACE
    assert header["sdk"] == "gradio" and {header["colorFrom"], header["colorTo"]} <= COLOURS
    assert Version(header["sdk_version"]).major == Version(gr.__version__).major
    assert re.fullmatch(r"3\.\d+", header["python_version"]) and (DEMO / header["app_file"]).is_file()
    assert header["license"] == "apache-2.0" and len(header["short_description"]) <= 60
    assert header["models"] == app.MODELS
    assert {line.split()[0] for line in header["preload_from_hub"]} <= set(app.MODELS)


def test_requirements_of_the_space():
    """What app.py imports comes with Python, gradio of the Space, these requirements, or what transformers-crossvit takes along."""
    lines = [Requirement(line) for line in (DEMO / "requirements.txt").read_text().splitlines()]
    named = {line.name for line in lines}
    assert lines[-1].extras == {"explain"} and lines[-1].url.startswith(
        "git+https://github.com/transformers-crossvit/"
    )
    setup = (DEMO.parents[1] / "setup.py").read_text()
    (taken_along,) = re.findall(r"install_requires=(\[.*\])", setup)
    named |= {Requirement(text).name for text in ast.literal_eval(taken_along)} | set(explain.PACKAGES)
    distributions = {"crossvit": "transformers-crossvit", "PIL": "pillow", "pillow_heif": "pillow-heif"}
    imported = set()
    for node in ast.walk(ast.parse((DEMO / "app.py").read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    imported -= {*sys.stdlib_module_names, "gradio", "huggingface_hub"}  # the last is transformers' and gradio's
    assert {distributions.get(name, name) for name in imported} <= named
    assert "scikit-learn" in named  # its photos


def test_nothing_is_lost_under_load(models, files):
    """Many at once, and files that are not images; the benchmark counts as lost what is neither the model's own answer nor refused."""
    results = measure(10, models[0], [Path(files["landscape"]), Path(files["portrait"])], sessions=1, burst=20)
    assert results["at once"].items() >= {"sent": 40, "right": 30, "refused in clear words": 10, "lost": 0}.items(), (
        results
    )
    assert results["steady"].items() >= {"sent": 40, "right": 40, "lost": 0}.items(), results
