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
A page to try CrossViT in a browser: the five most probable classes of an image, and maps of where both branches looked.

    python examples/demo/app.py                                      published models, downloaded when they are chosen
    python examples/demo/app.py --models outputs/quickstart/model    your own

It runs with the packages of `requirements.txt` and gradio, here or as a Space of the Hub (README.md). With `crossvit_15_dagger_240` on two CPU
cores, a map takes 0.1 seconds, and one by gradients 2 seconds.
"""

import argparse
import base64
import difflib
import html
import importlib.resources
import io
import os
import warnings
from collections import Counter
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import torch
from gradio.utils import get_upload_folder
from huggingface_hub.utils import HFValidationError, validate_repo_id
from PIL import Image
from transformers.image_utils import load_image

from crossvit import CrossViTConfig, explain
from crossvit.configuration.image_files import image_mode
from crossvit.inference.backends import find_missing, load_for_inference
from crossvit.inference.scores import has_several_labels, is_regression, scores_of


try:  # photos of Apple's phones, where the package is installed
    from pillow_heif import register_heif_opener
except ImportError:
    pass
else:
    register_heif_opener()

MODELS = ["timm/crossvit_15_dagger_240.in1k", "timm/crossvit_9_dagger_240.in1k", "timm/crossvit_18_dagger_240.in1k"]
# The memory of attention grows with the fourth power of this.
LONGEST_SIDE = 480
# Of files that are decoded as they are. Pillow decodes a larger JPEG at an eighth of its size or more.
MAX_MEGAPIXELS = 50
GRADIENT_STEPS = 8
SIZES = ["The size of training, cropped", f"Its own size, up to {LONGEST_SIDE} pixels"]
TRAINED_SIZE = SIZES[0]
HEADINGS = {"class": "Most probable classes", "label": "Most probable labels", "value": "Values"}
CREDIT = (
    "Photos: [china](https://www.flickr.com/photos/danielbuechele/6061409035/) by danielbuechele, "
    "[flower](https://www.flickr.com/photos/vultilion/6056698931/) by vultilion, "
    "[CC BY 2.0](https://creativecommons.org/licenses/by/2.0/)"
)
# Fonts of the visitor's computer, because others would come from the network.
FONT = ["system-ui", "sans-serif"]
THEME = gr.themes.Soft(primary_hue="blue", font=FONT, font_mono=FONT, spacing_size="sm")
CSS = """
#image img { width: 100%; height: 100%; object-fit: contain }
#credit * { font-size: 11px }
.scores { display: grid; grid-template-columns: 1fr auto; gap: 2px 12px; padding-top: 28px; overflow-wrap: anywhere }
.scores span:nth-of-type(even) { text-align: right }
.scores meter { grid-column: 1 / -1; width: 100%; height: 8px; margin-bottom: 6px }
.scores meter::-webkit-meter-optimum-value { background: #3b82f6 }
.scores meter::-moz-meter-bar { background: #3b82f6 }
.maps { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px }
.maps figure { margin: 0 }
.maps img { width: 100%; border-radius: 6px }
.maps figcaption { padding-top: 4px; text-align: center; font-size: 13px }
.scale { display: flex; white-space: nowrap; gap: 6px; align-items: center; justify-content: center; font-size: 11px }
.scale i { flex: 0 1 60px; height: 8px; background: linear-gradient(to right, COLOURS), grey }
"""

# `read_image` says in its own words that an image is too large.
warnings.simplefilter("ignore", Image.DecompressionBombWarning)


# What the page shows without an image, in the order of `classify`.
NOTHING = (None, None, "", gr.skip(), gr.skip(), "")


@dataclass
class Seen:
    """What a visitor's page shows: the image as a model sees it, and the maps that were drawn of it."""

    model_name: str
    pixel_values: torch.Tensor  # (1, channels, H, W)
    drawn: dict[tuple, str] = field(default_factory=dict)


def refuse(message: str) -> gr.Error:
    """What a visitor sees for 20 seconds. The log stays free of it."""
    return gr.Error(message, duration=20, print_exception=False)


def can_be_on_the_hub(name: str) -> bool:
    """Whether a name is that of a repository. outputs/modl is that of a misspelled folder, if there is a folder outputs/model."""
    path = Path(name)
    similar = difflib.get_close_matches(path.name, os.listdir(path.parent) if path.parent.is_dir() else [])
    if path.exists() or (len(path.parts) > 1 and similar):
        return False
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return True


def check_models(names: list[str]):
    """Ends the program unless each name is that of a folder with a CrossViT, or can be a name on the Hub."""
    for name in names:
        try:
            if not can_be_on_the_hub(name):
                CrossViTConfig.from_pretrained(name, local_files_only=True)
        except (
            Exception
        ) as error:  # The values of a damaged configuration make the libraries raise many kinds of exceptions.
            raise SystemExit(f"error: --models {name}: {error}")


@lru_cache(maxsize=4)
def load_model(name: str):
    try:
        model, image_processor = load_for_inference(name)
        image_mode(model.config, image_processor)  # refuses a model of more channels than images have
        return model, image_processor
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise refuse(f"{name} cannot be loaded: {reason} Choose another model, or check the name and the network.")


def stored_path(path: str) -> str:
    """The path, if Gradio has stored the file there for a visitor. A request can name any file of the server, and is told nothing of it."""
    if not Path(path).resolve().is_relative_to(Path(get_upload_folder()).resolve()):
        raise refuse("This image was not uploaded here. Choose it again.")
    return path


def read_image(path: str) -> Image.Image:
    """Decodes a file as transformers' pipelines do, to upright RGB. 16 bits become 8, where pipelines make all values above 255 white."""
    try:
        with Image.open(path) as opened:
            if opened.width * opened.height > MAX_MEGAPIXELS * 1e6:
                if opened.format != "JPEG":
                    raise ValueError(
                        f"it has {opened.width * opened.height / 1e6:.0f} megapixels, expected at most {MAX_MEGAPIXELS}. "
                        "Make it smaller, or save it as JPEG"
                    )
                opened.draft("RGB", (2 * LONGEST_SIDE, 2 * LONGEST_SIDE))
            if opened.mode in ("I", "F"):
                raise ValueError("it has 32 bits per channel, expected 8 or 16. Save it with 8")
            if opened.mode.startswith("I;16"):
                scaled = Image.fromarray((np.asarray(opened) / 257).round().astype(np.uint8))
                scaled.info["exif"] = opened.getexif().tobytes()
                return load_image(scaled)
            return load_image(opened)
    # Broken files make Pillow raise many kinds of exceptions.
    except Exception as error:
        raise refuse(f"{Path(path).name} cannot be read: {explain.why_unreadable(path, error)}.")


def prepare(image: Image.Image, model, image_processor, size: str) -> torch.Tensor:
    """(1, channels, H, W): cropped as in training, or the whole image with its aspect ratio."""
    image = image.convert(image_mode(model.config, image_processor))
    if size == TRAINED_SIZE:
        return image_processor(image, return_tensors="pt").pixel_values
    trained, longest = max(model.config.branch_image_size(0)), max(image.size)
    scale = min(max(longest, trained), max(LONGEST_SIDE, trained)) / longest
    # A side has at least one patch.
    width, height = (max(round(scale * side), max(model.config.patch_sizes)) for side in image.size)
    return image_processor(
        image, size={"height": height, "width": width}, do_center_crop=False, return_tensors="pt"
    ).pixel_values


def class_labels(model) -> list[str]:
    """The label of each class. A name that several classes have gets the index of the class: ImageNet has two cranes and two maillots."""
    names = explain.class_names(model)
    counts = Counter(names.values())
    return [f"{name} ({index})" if counts[name] > 1 else name for index, name in names.items()]


def show_scores(scores: dict[str, float], config: Any) -> str:
    """HTML with the score of each class, and a bar for each probability."""
    parts = []
    for (name, score), text in zip(scores.items(), explain.show_scores(list(scores.values()), config)):
        name = html.escape(name)
        parts.append(f"<span>{name}</span><span>{text}</span>")
        if not is_regression(config):
            parts.append(f'<meter aria-label="{name}" value="{score}"></meter>')
    return f'<div class="scores">{"".join(parts)}</div>'


def classify(path: str | None, model_name: str, size: str):
    """
    What the page shows for an image: what was seen, the scores of its best classes, one line about it, the stages, the classes for gradients,
    and HTML with the scores.
    """
    if path is None:
        return NOTHING
    model, image_processor = load_model(model_name)
    pixel_values = prepare(read_image(path), model, image_processor, size)
    with torch.inference_mode():
        scores = scores_of(model(pixel_values, interpolate_pos_encoding=True).logits, model.config)[0]
    labels = class_labels(model)
    best = scores.topk(min(5, len(labels))).indices.tolist()
    shown = {labels[index]: scores[index].item() for index in best}
    kind = "value" if is_regression(model.config) else "label" if has_several_labels(model.config) else "class"
    height, width = pixel_values.shape[-2:]
    patches = " and ".join(f"{columns} × {rows}" for rows, columns in explain.grid_sizes(model, pixel_values))
    stages = model.config.num_stages
    return (
        Seen(model_name, pixel_values),
        shown,
        f"The model saw {width} × {height} pixels, as {patches} patches.",
        gr.Radio(list(range(1, stages + 1)), value=stages),
        gr.Dropdown([(labels[index], index) for index in best], value=best[0], label=kind.capitalize()),
        gr.HTML(show_scores(shown, model.config), label=HEADINGS[kind]),
    )


def draw_maps(seen: Seen | None, method: str, stage: int, target: int | None) -> str:
    """HTML with a picture and its caption for the patches of each branch. What was drawn once is kept with the image."""
    if seen is None:  # also an hour after the image
        return "Choose an image."
    key = (method, target if method == "gradient" else stage)
    if key not in seen.drawn:
        model, image_processor = load_model(seen.model_name)
        options = {"target": target, "steps": GRADIENT_STEPS} if method == "gradient" else {"stage": stage - 1}
        maps = explain.METHODS[method](model, seen.pixel_values, **options)
        colours = explain.visible(seen.pixel_values[0], image_processor)
        figures = (
            f'<figure><img src="{draw_map(colours, values[0])}" alt="Map by {method}">'
            f"<figcaption>{name}, {values.shape[2]} × {values.shape[1]} patches"
            f'<div class="scale">mean <i></i> {explain.scale_end(values):.3g} × mean</div>{explain.describe(values[0])}'
            "</figcaption></figure>"
            for name, values in zip(explain.branch_names(model), maps)
        )
        seen.drawn[key] = f'<div class="maps">{"".join(figures)}</div>'
    return seen.drawn[key]


def draw_map(colours: torch.Tensor, values: torch.Tensor) -> str:
    """
    What `explain.draw_over` draws, with 480 pixels on the longer side, as the address of a JPEG that lies in the address itself. Drawn by
    Pillow, because the memory of a process that draws thousands of figures with matplotlib grows.
    """
    scale = 480 / max(colours.shape[:2])
    height, width = (round(scale * side) for side in colours.shape[:2])
    grey = (255 * colours.mean(dim=-1)).round().byte().numpy()
    background = Image.fromarray(grey).resize((width, height)).convert("RGBA")
    # From 0 at the mean to 1 at the end of the scale.
    heat = (explain.times_mean(values).cpu() - 1) / (explain.scale_end(values) - 1)
    heat = Image.fromarray(heat.numpy()).resize((width, height), Image.Resampling.BILINEAR)
    coloured = Image.fromarray(explain.map_colours()(np.asarray(heat), bytes=True))
    file = io.BytesIO()
    Image.alpha_composite(background, coloured).convert("RGB").save(file, format="jpeg", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def build_page(models: list[str], examples: list[str], credit: str) -> gr.Blocks:
    # Gradio would open the file itself, and say nothing but "Error" about a file that is not an image. `read_image` says more. The class is
    # changed and not the instance, because Gradio makes a new instance for each visitor.
    gr.Image.preprocess = lambda self, file: file and stored_path(file.path)
    with gr.Blocks(title="CrossViT", analytics_enabled=False, fill_width=True, delete_cache=(600, 3600)) as page:
        seen = gr.State(time_to_live=3600)
        gr.Markdown(
            "## CrossViT\nTwo branches look at an image, with fine and with coarse patches: what they see, and where."
        )
        with gr.Row():
            with gr.Column(scale=3, min_width=320):
                # Gradio would send the mirror image that the visitor sees, and a mirrored digit is another one.
                camera = gr.WebcamOptions(mirror=False)
                image = gr.Image(
                    type="filepath",
                    label="Image",
                    height=300,
                    elem_id="image",
                    buttons=["fullscreen"],
                    webcam_options=camera,
                )
                gr.Examples([[path] for path in examples], image, label="Examples")
                if credit:
                    gr.Markdown(credit, elem_id="credit")
            with gr.Column(scale=3, min_width=320):
                model = gr.Dropdown(models, value=models[0], label="Model")
                size = gr.Radio(SIZES, value=TRAINED_SIZE, label="Size of the image")
                # For programs. On the page, it would round all percentages to whole numbers, and show values as percentages too.
                classes = gr.Label(visible=False)
                scores = gr.HTML(label=HEADINGS["class"], show_label=True, container=True, padding=True)
            with gr.Column(scale=5, min_width=320):
                method = gr.Radio(list(explain.METHODS), value="attention", label="Where it looked, by")
                stage = gr.Radio([1, 2, 3], value=3, label="Stage", elem_id="stage")
                target = gr.Dropdown([], label="Class", visible=False)
                maps = gr.HTML()
                status = gr.Markdown(elem_id="status")

        shown = [seen, classes, status, stage, target, scores]
        choices = [seen, method, stage, target]
        # One image at a time uses all cores, and bounds the memory.
        one_at_a_time = {"trigger_mode": "always_last", "concurrency_limit": 1, "concurrency_id": "model"}
        new_image = gr.on(
            [image.change, model.input, size.input], classify, [image, model, size], shown, **one_at_a_time
        )
        new_image.success(draw_maps, choices, maps, **one_at_a_time)
        # Messages about the image before.
        new_image.success(js="() => document.querySelectorAll('.toast-close').forEach(button => button.click())")
        new_image.failure(lambda: (*NOTHING, ""), None, [*shown, maps], api_visibility="private")
        method.input(
            lambda method: (gr.Radio(visible=method != "gradient"), gr.Dropdown(visible=method == "gradient")),
            method,
            [stage, target],
            api_visibility="private",
        )
        events = [method.input, stage.input, target.input]
        gr.on(events, draw_maps, choices, maps, api_visibility="private", **one_at_a_time)
    return page


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--models", nargs="+", default=os.environ.get("MODELS", "").split() or MODELS, metavar="MODEL",
                        help="names on the Hub or folders; by default the variable MODELS, or else three published ones")  # fmt: skip
    parser.add_argument("--examples", nargs="+", metavar="FILE", help="images to click on; by default two photos")
    parser.add_argument("--port", type=int, help="by default the first free one from 7860")
    arguments = parser.parse_args()
    if missing := find_missing([*explain.PACKAGES, "sklearn"]):
        raise SystemExit(
            f"error: this needs {', '.join(missing)}, which is not installed: {explain.INSTALL} scikit-learn"
        )
    # A shell leaves a ~ in quotes as it is.
    models = [os.path.expanduser(name) for name in arguments.models]
    check_models(models)
    photos = importlib.resources.files("sklearn") / "datasets" / "images"
    examples = [os.path.expanduser(path) for path in arguments.examples or []]
    try:
        for path in examples:
            explain.check_file(path)
    except ValueError as error:
        raise SystemExit(f"error: --examples: {error}")
    credit = "" if examples else CREDIT
    examples = examples or [str(photos / name) for name in ("china.jpg", "flower.jpg")]
    page = build_page(models, examples, credit)
    colours = ", ".join(f"rgb({100 * red:.0f}% {100 * green:.0f}% {100 * blue:.0f}% / {opacity:.2f})"
                        for red, green, blue, opacity in explain.map_colours()(np.linspace(0, 1, 9)))  # fmt: skip
    try:
        page.queue(max_size=500).launch(
            server_port=arguments.port,
            allowed_paths=examples,
            max_file_size="100mb",
            state_session_capacity=100,
            footer_links=["api"],
            ssr_mode=False,
            theme=THEME,
            css=CSS.replace("COLOURS", colours),
        )
    except (OSError, OverflowError) as error:
        raise SystemExit(f"error: --port {arguments.port}: {error}")


if __name__ == "__main__":
    main()
