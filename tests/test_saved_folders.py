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
Saved models carry their code: in a process where this package cannot be imported, transformers alone loads the folder through
every Auto class and pipeline with the same numbers bit for bit, saves it again, and loads that copy; where the package is
installed, its code is used and nothing is asked. Model cards say what the model is.

    pytest tests/test_saved_folders.py
"""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from clean_process import run_python
from datasets import Dataset
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForImageClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

import crossvit.configuration.saved_code
from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor, CrossViTModel
from crossvit.configuration.saved_code import CORE
from crossvit.hub import complete_model_card
from crossvit.trainer import CrossViTTrainer


def run(code: str, folder: Path, without: tuple[str, ...] = ()) -> str:
    """What the code prints in another process, in which the packages of `without` cannot be imported."""
    process = run_python(code, folder, {"HF_MODULES_CACHE": str(folder / "modules")}, without)
    assert process.returncode == 0, process.stderr
    return process.stdout


LOAD = """
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline

folder, trust = "{folder}", {{"trust_remote_code": True}}
config = AutoConfig.from_pretrained(folder, **trust)
model = AutoModelForImageClassification.from_pretrained(folder, **trust).eval()
base = AutoModel.from_pretrained(folder, **trust).eval()
image_processor = AutoImageProcessor.from_pretrained(folder, **trust)
for loaded in (config, model, base, image_processor):
    assert type(loaded).__module__.startswith("transformers_modules"), type(loaded)
inputs = image_processor(Image.open("photo.png"), return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
    assert torch.equal(model.classifier(base(**inputs).pooler_output), logits)
classifier = pipeline("image-classification", model=folder, **trust)
features = pipeline("image-feature-extraction", model=folder, **trust)("photo.png", return_tensors=True)
torch.save({{"logits": logits, "classes": classifier("photo.png"), "features": features}}, "{output}.pt")
model.save_pretrained("{output}")
image_processor.save_pretrained("{output}")
print(type(image_processor).__name__)
"""


@pytest.fixture
def folder(saved_model, photos):
    """The saved model, and a photo beside it."""
    photos["landscape"].save(saved_model.parent / "photo.png")
    return saved_model.parent


@pytest.mark.parametrize(
    ("without", "processor"),
    [(("crossvit",), "CrossViTImageProcessor"), (("crossvit", "torchvision"), "CrossViTImageProcessorPil")],
    ids=["torchvision", "pil"],
)
def test_loads_without_the_package_again_and_again(folder, without, processor):
    model = CrossViTForImageClassification.from_pretrained(folder / "model").eval()
    backend = "pil" if "torchvision" in without else "torchvision"
    image_processor = AutoImageProcessor.from_pretrained(folder / "model", backend=backend)
    inputs = image_processor(Image.open(folder / "photo.png"), return_tensors="pt")
    with torch.no_grad():
        expected = model(**inputs).logits
    classes = pipeline("image-classification", model=model, image_processor=image_processor)(str(folder / "photo.png"))

    assert run(LOAD.format(folder="model", output="copy"), folder, without).strip() == processor
    assert run(LOAD.format(folder="copy", output="copy_of_copy"), folder, without).strip() == processor
    for output in ("copy", "copy_of_copy"):
        results = torch.load(folder / f"{output}.pt")
        assert torch.equal(results["logits"], expected)
        assert results["classes"] == classes
        for file in ("config.json", "model.safetensors", "modeling_crossvit.py", "configuration_crossvit.py"):
            assert (folder / output / file).read_bytes() == (folder / "model" / file).read_bytes(), file
    # And back: the copy is an ordinary folder for the package.
    assert type(AutoImageProcessor.from_pretrained(folder / "copy_of_copy")).__module__.startswith("crossvit")
    with torch.no_grad():
        again = CrossViTForImageClassification.from_pretrained(folder / "copy_of_copy").eval()(**inputs).logits
    assert torch.equal(again, expected)


def test_the_configuration_alone_carries_what_it_needs(folder, config):
    config.save_pretrained(folder / "config")
    code = """
from transformers import AutoConfig
config = AutoConfig.from_pretrained("config", trust_remote_code=True)
config.save_pretrained("copy")
print(AutoConfig.from_pretrained("copy", trust_remote_code=True).hidden_sizes)
"""
    assert run(code, folder, without=("crossvit",)).strip() == str(config.hidden_sizes)


def test_use_without_the_package(folder):
    """Other labels, other sizes in the call, a step of training, attentions, a configuration with tuples; and refusals stay clear."""
    code = """
import torch
from transformers import AutoConfig, AutoModelForImageClassification
torch.manual_seed(0)
model = AutoModelForImageClassification.from_pretrained(
    "model", trust_remote_code=True, num_labels=3, ignore_mismatched_sizes=True
).train()
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
images, labels = torch.randn(4, 3, 72, 60), torch.tensor([0, 1, 2, 0])
losses = []
for _ in range(20):
    optimizer.zero_grad()
    loss = model(images, labels=labels, interpolate_pos_encoding=True).loss
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < 0.2 * losses[0], losses
# The loss that travels divides by the number of labels in all batches of a step, for several labels per image too.
several = torch.ones(4, 3)
model.config.problem_type = "multi_label_classification"
halves = model(images, labels=several, interpolate_pos_encoding=True, num_items_in_batch=24).loss
assert torch.isclose(2 * halves, model(images, labels=several, interpolate_pos_encoding=True).loss)
model.config.problem_type = None
model.save_pretrained("trained")
again = AutoModelForImageClassification.from_pretrained("trained", trust_remote_code=True).eval()
with torch.no_grad():
    outputs = again(images, interpolate_pos_encoding=True, output_attentions=True)
    assert torch.equal(outputs.logits, model.eval()(images, interpolate_pos_encoding=True, output_attentions=True).logits)
print(len(outputs.cross_attentions))
try:
    again(images)
except ValueError as error:
    print(error)
config = type(again.config)(image_sizes=((48, 36), 32), hidden_sizes=(16, 24), num_attention_heads=(2, 3))
config.save_pretrained("tuples")
assert AutoConfig.from_pretrained("tuples", trust_remote_code=True).to_dict() == config.to_dict()
"""
    printed = run(code, folder, without=("crossvit",))
    assert printed.startswith(
        "4\nInput image size (72x60) doesn't match the model's (48x48). Pass `interpolate_pos_encoding=True`"
    )


@pytest.mark.parametrize("version", ["0.1.0", "eb23735"])
def test_folders_of_earlier_versions(tmp_path, photos, version):
    """
    Saved by 0.1.0, and by the last commit with nine files that travel. Their own code, without this package, is the reference for what this
    package computes with their weights.
    """
    shutil.unpack_archive(Path(__file__).parent / "saved_folders" / f"{version}.zip", tmp_path / "model")
    photos["landscape"].save(tmp_path / "photo.png")
    run(LOAD.format(folder="model", output="copy"), tmp_path, without=("crossvit",))
    expected = torch.load(tmp_path / "copy.pt")
    for name in ("model", "copy"):
        model = AutoModelForImageClassification.from_pretrained(tmp_path / name).eval()
        image_processor = AutoImageProcessor.from_pretrained(tmp_path / name)
        assert type(model) is CrossViTForImageClassification and type(image_processor) is CrossViTImageProcessor
        weights = load_file(tmp_path / "model" / "model.safetensors")
        assert weights.keys() == model.state_dict().keys()
        assert all(torch.equal(weight, weights[key]) for key, weight in model.state_dict().items())
        inputs = image_processor(Image.open(tmp_path / "photo.png"), return_tensors="pt")
        with torch.no_grad():
            logits = model(**inputs).logits
        # The last state had a cross-attention without keys in the ordinary model, which added in another order.
        assert (logits - expected["logits"]).abs().max() < 2e-6 * expected["logits"].abs().max()
    model.save_pretrained(tmp_path / "again")
    image_processor.save_pretrained(tmp_path / "again")
    run(LOAD.format(folder="again", output="copy_of_again"), tmp_path, without=("crossvit",))
    assert torch.equal(torch.load(tmp_path / "copy_of_again.pt")["logits"], logits)


def test_with_the_package_its_code_is_used_and_nothing_is_asked(folder):
    code = """
import crossvit
from transformers import AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification, pipeline
for loaded in (
    AutoConfig.from_pretrained("model"),
    AutoModel.from_pretrained("model"),
    AutoModelForImageClassification.from_pretrained("model", trust_remote_code=True),
    AutoImageProcessor.from_pretrained("model"),
    pipeline("image-classification", model="model").model,
):
    assert type(loaded).__module__.startswith("crossvit."), type(loaded)
"""
    assert run(code, folder) == ""
    assert not (folder / "modules").exists() or not list((folder / "modules").rglob("*_crossvit.py"))


def test_five_files_travel_and_differ_by_their_imports_alone(saved_model):
    """So a reader of a saved model reads this repository, and each file finds the others beside it."""
    saved = {path.stem: path for path in saved_model.glob("*.py")}
    assert saved.keys() == CORE.keys() and len(CORE) == 5
    for name, path in saved.items():
        lines, source_lines = path.read_text().splitlines(), CORE[name].read_text().splitlines()
        for line, source_line in zip(lines, source_lines, strict=True):
            if not source_line.startswith("from crossvit"):
                assert line == source_line
            elif imported := re.fullmatch(r"from \.(\w+) import (.*)", line):
                assert imported[1] in saved and source_line.endswith(f"{imported[1]} import {imported[2]}")
            else:  # a base of this package, in the place of transformers' own
                assert re.fullmatch(
                    r"from transformers\.\w+ import (PreTrained(Config|Model)|(Pil|Torchvision)Backend)", line
                )


def train(config: CrossViTConfig, output: Path, trainer_class=Trainer, **kwargs) -> Trainer:
    image_processor = CrossViTImageProcessor.from_image_size(48)
    dataset = Dataset.from_dict({"pixel_values": torch.randn(4, 3, 48, 48).tolist(), "labels": [0, 1, 2, 3]})
    trainer = trainer_class(
        model=CrossViTForImageClassification(config),
        args=TrainingArguments(
            output_dir=str(output),
            max_steps=2,
            save_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            **kwargs,
        ),
        train_dataset=dataset,
        eval_dataset=dataset,
        compute_metrics=lambda prediction: {
            "accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())
        },
        processing_class=image_processor,
    )
    trainer.train()
    return trainer


def test_trainer_checkpoints(config, tmp_path):
    train(config, tmp_path / "run")
    code = """
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification
AutoImageProcessor.from_pretrained("run/checkpoint-2", trust_remote_code=True)
model = AutoModelForImageClassification.from_pretrained("run/checkpoint-2", trust_remote_code=True).eval()
with torch.no_grad():
    torch.save(model(torch.ones(1, 3, 48, 48)).logits, "logits.pt")
"""
    run(code, tmp_path, without=("crossvit",))
    model = CrossViTForImageClassification.from_pretrained(tmp_path / "run" / "checkpoint-2").eval()
    with torch.no_grad():
        expected = model(torch.ones(1, 3, 48, 48)).logits
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)


def test_a_registered_subclass_stays(config, tmp_path, monkeypatch):
    """As transformers documents it for custom models; the module is imported from a file, as a user's is."""
    (tmp_path / "my_crossvit.py").write_text(
        "from crossvit import CrossViTForImageClassification\nclass MyCrossViT(CrossViTForImageClassification):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    from my_crossvit import MyCrossViT

    MyCrossViT.register_for_auto_class("AutoModelForImageClassification")
    MyCrossViT(config).save_pretrained(tmp_path / "model")
    auto_map = json.loads((tmp_path / "model" / "config.json").read_text())["auto_map"]
    assert auto_map["AutoModelForImageClassification"] == "my_crossvit.MyCrossViT"
    assert auto_map["AutoModel"] == "modeling_crossvit.CrossViTModel"
    assert (tmp_path / "model" / "my_crossvit.py").is_file()


@pytest.mark.parametrize("registered", [True, False])
@pytest.mark.parametrize("parent", ["CrossViTImageProcessor", "CrossViTImageProcessorPil"])
def test_a_subclass_of_an_image_processor(tmp_path, monkeypatch, parent, registered):
    """A registered one is loaded as what it is. One that is not is refused; the stock class would prepare images in another way."""
    module_name = f"inverting_{parent.lower()}_{registered}"
    (tmp_path / f"{module_name}.py").write_text(
        f"from crossvit import {parent}\nclass Inverting({parent}):\n"
        "    def normalize(self, image, *args, **kwargs):\n        return -super().normalize(image, *args, **kwargs)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    processor_class = __import__(module_name).Inverting
    if registered:
        processor_class.register_for_auto_class()
    photo = Image.new("RGB", (60, 60), "orange")
    expected = processor_class.from_image_size(48)(photo, return_tensors="pt").pixel_values
    assert torch.equal(
        expected, -getattr(crossvit, parent).from_image_size(48)(photo, return_tensors="pt").pixel_values
    )

    processor_class.from_image_size(48).save_pretrained(tmp_path / "model")
    assert torch.equal(
        processor_class.from_pretrained(tmp_path / "model")(photo, return_tensors="pt").pixel_values, expected
    )
    with pytest.raises(ValueError, match="has the settings of a Inverting"):
        getattr(crossvit, parent).from_pretrained(tmp_path / "model")
    if not registered:
        with pytest.raises(ValueError, match="has the settings of a Inverting"):
            AutoImageProcessor.from_pretrained(tmp_path / "model", trust_remote_code=True)
        return
    for _ in range(2):  # what was loaded is saved again
        loaded = AutoImageProcessor.from_pretrained(tmp_path / "model", trust_remote_code=True)
        assert type(loaded).__name__ == "Inverting"
        assert torch.equal(loaded(photo, return_tensors="pt").pixel_values, expected)
        loaded.save_pretrained(tmp_path / "model")


def test_trust_remote_code_is_no_reason_for_a_warning(saved_model, caplog, monkeypatch):
    """For the Auto classes and pipelines that pass it on; a root logger sees what a user's terminal shows."""
    folder = str(saved_model)
    monkeypatch.setattr(logging.getLogger("transformers"), "propagate", True)
    for load in (
        lambda: pipeline("image-classification", folder, trust_remote_code=True),
        lambda: AutoConfig.from_pretrained(folder, trust_remote_code=True),
        lambda: AutoModel.from_pretrained(folder, trust_remote_code=True),
        lambda: AutoModelForImageClassification.from_pretrained(folder, trust_remote_code=True),
        lambda: AutoImageProcessor.from_pretrained(folder, trust_remote_code=True),
        lambda: CrossViTForImageClassification.from_pretrained(folder, trust_remote_code=True),
        lambda: CrossViTConfig.from_pretrained(folder, trust_remote_code=True),
        lambda: CrossViTImageProcessor.from_pretrained(folder, trust_remote_code=True),
    ):
        load()
    assert not [record.message for record in caplog.records if "no effect" in record.message]


def test_entries_that_point_to_another_repository_are_replaced(config, tmp_path):
    config.auto_map = {"AutoModel": "someone/model--modeling_crossvit.CrossViTModel", "AutoConfig": "gone.Gone"}
    config.save_pretrained(tmp_path)
    auto_map = AutoConfig.from_pretrained(tmp_path).auto_map
    assert auto_map["AutoModel"] == "modeling_crossvit.CrossViTModel"
    assert auto_map["AutoConfig"] == "configuration_crossvit.CrossViTConfig"


def test_a_write_that_fails_leaves_the_previous_files(config, tmp_path, monkeypatch):
    config.save_pretrained(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def full_disk(self, text, **kwargs):
        with open(self, "w") as file:
            file.write(text[:100])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(crossvit.configuration.saved_code.Path, "write_text", full_disk)
    config.num_labels = 7
    with pytest.raises(OSError, match="No space left"):
        config.save_pretrained(tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_in_place_of_the_folder(config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(AssertionError, match="should be a directory, not a file"):
        config.save_pretrained(tmp_path / "file")


# Model cards


def run_usage(card: ModelCard, monkeypatch, folder: Path, photos):
    """The snippet of a card, as it stands, in a folder with a photo."""
    photos["landscape"].save(folder / "photo.jpg")
    monkeypatch.chdir(folder)
    (snippet,) = [block for block in card.text.split("```") if block.startswith("python\n")]
    assert "pipeline" in snippet
    return run(snippet.removeprefix("python\n"), folder, without=("crossvit",))


def test_a_new_card(saved_model, monkeypatch, photos):
    model = CrossViTForImageClassification.from_pretrained(saved_model)
    card = complete_model_card(
        None, model, str(saved_model), license="mit", dataset="user/data", metrics={"accuracy": 0.875}
    )
    data = card.data.to_dict()
    assert data["pipeline_tag"] == "image-classification" and data["library_name"] == "transformers"
    assert (data["license"], data["datasets"], data["metrics"]) == ("mit", ["user/data"], ["accuracy"])
    assert data["model-index"][0]["results"][0]["metrics"] == [{"type": "accuracy", "value": 0.875}]
    assert f"{model.num_parameters():,} parameters" in card.text and "48x48" in card.text
    assert "LABEL_0" in run_usage(card, monkeypatch, saved_model.parent, photos)


def test_a_card_of_a_model_without_a_head(config, saved_model, monkeypatch, photos):
    model = CrossViTModel(config)
    card = complete_model_card(None, model, str(saved_model))
    assert card.data.pipeline_tag == "image-feature-extraction" and "image features" in card.text
    assert run_usage(card, monkeypatch, saved_model.parent, photos).startswith("[[[")


def test_a_card_that_is_there_keeps_its_text(config):
    written = ModelCard(
        "---\nlicense: mit\npipeline_tag: other\ntags: [mine]\n---\n# Mine\n\n## How to use\n\nAsk me.\n"
    )
    card = complete_model_card(written, CrossViTForImageClassification(config), "user/model")
    assert card.text == "# Mine\n\n## How to use\n\nAsk me.\n"
    assert (card.data.license, card.data.pipeline_tag, card.data.tags) == ("mit", "other", ["mine", "crossvit"])


def test_metrics_need_a_data_set(config):
    with pytest.raises(ValueError, match=r"need the `dataset`.*\{'accuracy': 0.5\}"):
        complete_model_card(None, CrossViTForImageClassification(config), "user/model", metrics={"accuracy": 0.5})


def test_trainer_writes_a_complete_card(config, tmp_path, monkeypatch, photos):
    trainer = train(config, tmp_path / "run", CrossViTTrainer)
    metrics = trainer.evaluate()
    trainer.save_model()
    trainer.create_model_card(
        license="apache-2.0", dataset="digits", dataset_tags="user/digits", dataset_args="default"
    )
    card = ModelCard.load(tmp_path / "run" / "README.md")
    data = card.data.to_dict()
    assert (data["pipeline_tag"], data["library_name"], data["license"]) == (
        "image-classification",
        "transformers",
        "apache-2.0",
    )
    (result,) = data["model-index"][0]["results"]
    assert result["task"]["type"] == "image-classification" and result["dataset"]["type"] == "user/digits"
    # transformers gives the value that was logged.
    assert {entry["type"]: entry["value"] for entry in result["metrics"]} == {"accuracy": metrics["eval_accuracy"]}
    assert "Training hyperparameters" in card.text
    assert "LABEL_0" in run_usage(card, monkeypatch, tmp_path, photos)


def test_saved_folders_work_with_pipeline_after_a_move(saved_model, tmp_path, photos):
    shutil.move(saved_model, tmp_path / "elsewhere")
    assert len(pipeline("image-classification", model=str(tmp_path / "elsewhere"))(photos["square"])) == 5
