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
What this package publishes on the Hub and loads from it, over HTTP: huggingface_hub and transformers as they are, in processes of their
own, with a server on this computer. A published folder has its code and a card whose snippet runs without this package; timm's
repositories are read with every argument of `from_pretrained`; a damaged download is noticed; and no token is written to the disk.

    pytest tests/test_hub.py
"""

import json
import re
from pathlib import Path

import pytest
import timm
import torch
from clean_process import run_python
from hub_server import HubServer, card_errors
from PIL import Image
from safetensors.torch import load
from timm.data import create_transform, resolve_data_config
from timm.models._hub import save_for_hf

from benchmarks.parity import timm_model
from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.saved_code import CORE
from crossvit.configuration.variants import imagenet_classes


EXAMPLES = Path(__file__).parents[1] / "examples"
ALICE, BOB = "hf_alice_secret", "hf_bob_secret"
CODE = {f"{module_name}.py" for module_name in CORE}
MODEL = CODE | {"README.md", "config.json", "model.safetensors", "preprocessor_config.json"}


@pytest.fixture(scope="module")
def hub():
    with HubServer(users={ALICE: "alice", BOB: "bob"}) as server:
        yield server


@pytest.fixture
def client(hub, tmp_path):
    """Runs code as a user: a home of their own, the server for the Hub. Returns what it printed."""

    def run(
        code: str, token: str | None = ALICE, home: str = "home", package: bool = True, fails: bool = False
    ) -> str:
        environment = {
            "HOME": str(tmp_path / home),
            "HF_HOME": str(tmp_path / home / "huggingface"),
            "HF_ENDPOINT": hub.url,
            "HF_HUB_OFFLINE": None,
            "HF_HUB_DISABLE_XET": "1",
            "HF_DEBUG": "1",  # logs every request, as a user who looks for an error would have it
            "HF_TOKEN": token,
        }
        prelude = "import crossvit\n" if package else ""
        process = run_python(prelude + code, tmp_path, environment, without=() if package else ("crossvit",))
        assert (process.returncode != 0) == fails, process.stdout + process.stderr
        for secret in (ALICE, BOB):
            assert secret not in process.stdout + process.stderr
        return process.stderr if fails else process.stdout

    yield run
    for path in tmp_path.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert ALICE.encode() not in content and BOB.encode() not in content, path


@pytest.fixture
def model(saved_model, photos):
    photos["landscape"].save(saved_model.parent / "photo.jpg")
    return CrossViTForImageClassification.from_pretrained(saved_model).eval()


def logits_of(code_path: str, **arguments) -> str:
    """Code that loads a model and an image processor and saves the logits of the photo."""
    options = "".join(f", {name}={value!r}" for name, value in arguments.items())
    return f"""
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained({code_path!r}{options}).eval()
image_processor = AutoImageProcessor.from_pretrained({code_path!r}{options})
with torch.no_grad():
    torch.save(model(**image_processor(Image.open("photo.jpg"), return_tensors="pt")).logits, "logits.pt")
print(type(model).__module__)
"""


def expected_logits(model, folder: Path) -> torch.Tensor:
    inputs = CrossViTImageProcessor.from_image_size(48)(Image.open(folder / "photo.jpg"), return_tensors="pt")
    with torch.no_grad():
        return model(**inputs).logits


def test_publish_and_load(hub, client, model, tmp_path):
    client("""
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
model = CrossViTForImageClassification.from_pretrained("model")
model.push_to_hub("alice/model", license="apache-2.0", dataset="alice/photos", metrics={"accuracy": 0.875}, tags=["photos"])
image_processor = CrossViTImageProcessor.from_pretrained("model")
image_processor.push_to_hub("alice/model")
""")
    files = hub.files("alice/model")
    assert files.keys() == MODEL
    for name in CODE | {"config.json"}:
        assert files[name] == (tmp_path / "model" / name).read_bytes(), name
    # What the Hub shows.
    card = files["README.md"].decode()
    for line in (
        "license: apache-2.0",
        "library_name: transformers",
        "pipeline_tag: image-classification",
        "- photos",
    ):
        assert line in card, card
    assert "value: 0.875" in card and "type: alice/photos" in card

    # The snippet of the card, as it stands, on a machine that has transformers alone.
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.S)
    printed = client(snippet, token=None, home="newcomer", package=False)
    assert {entry["label"] for entry in eval(printed)} == {f"LABEL_{index}" for index in range(5)}

    expected = expected_logits(model, tmp_path)
    # With the package its code is used, without a question; without the package the code that came with the model.
    assert client(logits_of("alice/model"), token=None, home="bob").strip() == "crossvit.modeling_crossvit"
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    remote = logits_of("alice/model", trust_remote_code=True)
    again = """
model.save_pretrained("saved_again")
image_processor.save_pretrained("saved_again")
model.push_to_hub("bob/model")
image_processor.push_to_hub("bob/model")
"""
    module = client(remote + again, token=BOB, home="carol", package=False)
    assert module.startswith("transformers_modules.alice.model.")
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)
    # What was saved and published by the copy stands for itself: nothing in it points to the repository that it came from.
    for name in (CODE - {"image_processing_pil_crossvit.py"}) | {"config.json", "model.safetensors"}:
        original = (tmp_path / "model" / name).read_bytes()
        assert (tmp_path / "saved_again" / name).read_bytes() == original, name
        assert hub.files("bob/model")[name] == original, name
    client(logits_of("bob/model", trust_remote_code=True), token=None, home="dave", package=False)
    assert torch.equal(torch.load(tmp_path / "logits.pt"), expected)

    refused = client(logits_of("alice/model"), token=None, home="erin", package=False, fails=True)
    assert "trust_remote_code=True" in refused


def test_save_with_push(hub, client, model):
    """Each part that is published carries the code, and a second upload keeps the text of the card."""
    client("""
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
model = CrossViTForImageClassification.from_pretrained("model")
model.save_pretrained("pushed", push_to_hub=True, repo_id="alice/pushed")
model.push_to_hub("alice/pushed", license="mit")
model.config.save_pretrained("config", push_to_hub=True, repo_id="alice/config")
CrossViTImageProcessor.from_pretrained("model").save_pretrained("processor", push_to_hub=True, repo_id="alice/processor")
""")
    assert hub.files("alice/config").keys() > {"config.json", "modeling_crossvit.py"}
    assert hub.files("alice/processor").keys() > {"preprocessor_config.json", "image_processing_crossvit.py"}
    card = hub.files("alice/pushed")["README.md"].decode()
    assert card.count("## How to use") == 1 and "license: mit" in card


def test_trainer(hub, client, model, tmp_path):
    client("""
import torch
from datasets import Dataset
from transformers import TrainingArguments
from crossvit import CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.trainer import CrossViTTrainer
dataset = Dataset.from_dict({"pixel_values": torch.randn(4, 3, 48, 48).tolist(), "labels": [0, 1, 2, 3]})
trainer = CrossViTTrainer(
    model=CrossViTForImageClassification.from_pretrained("model"),
    args=TrainingArguments(
        output_dir="run", max_steps=2, report_to="none", use_cpu=True, push_to_hub=True, hub_model_id="alice/trained"
    ),
    train_dataset=dataset,
    eval_dataset=dataset,
    compute_metrics=lambda prediction: {"accuracy": float((prediction.predictions.argmax(-1) == prediction.label_ids).mean())},
    processing_class=CrossViTImageProcessor.from_pretrained("model"),
)
trainer.train()
trainer.evaluate()
trainer.push_to_hub(license="apache-2.0", dataset="Noise", dataset_tags="alice/noise", dataset_args="default")
""")
    files = hub.files("alice/trained")
    assert files.keys() > MODEL
    card = files["README.md"].decode()
    assert not card_errors(card)
    for part in (
        "pipeline_tag: image-classification",
        "license: apache-2.0",
        "type: accuracy",
        "## How to use",
        "alice/trained",
    ):
        assert part in card, card
    client(logits_of("alice/trained", trust_remote_code=True), token=None, home="newcomer", package=False)


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("run_image_classification.py", "--do_train --do_eval --max_steps 4 --save_steps 2 --save_strategy steps --logging_steps 1 --use_cpu"),
        ("run_image_classification_no_trainer.py", "--max_train_steps 4 --checkpointing_steps 2"),
    ],
)  # fmt: skip
def test_training_examples_publish(hub, client, model, digits, tmp_path, script, options):
    """The model with its card and its picture, without checkpoints; the repository has the name of the output folder."""
    name = script.removesuffix(".py")
    arguments = ["--model_name_or_path", "model", "--train_dir", str(digits), "--output_dir", name, "--push_to_hub"]
    client(f"""
import os, runpy
os.environ["ACCELERATE_USE_CPU"] = "true"
sys.path.insert(0, {str(EXAMPLES)!r})
sys.argv = {[script, *arguments, *options.split()]}
runpy.run_path({str(EXAMPLES / script)!r}, run_name="__main__")
""")
    files = hub.files(f"alice/{name}")
    assert files.keys() >= MODEL | {"all_results.json", "training.png"}
    assert not [path for path in files if "checkpoint" in path]
    card = files["README.md"].decode()
    assert not card_errors(card)
    accuracy = json.loads(files["all_results.json"])["eval_accuracy"]
    for part in ("](training.png)", "type: accuracy", f"value: {accuracy}", f'model="alice/{name}"'):
        assert part in card, card
    snippet = """
from transformers import pipeline
print(pipeline("image-classification", "alice/NAME", trust_remote_code=True)("photo.jpg")[0]["label"] in ("one", "two", "four"))
"""
    assert client(snippet.replace("NAME", name), token=None, home="newcomer", package=False) == "True\n"


# Published weights


@pytest.fixture
def published(hub, tmp_path):
    """timm's repository of a model, with random weights."""
    reference = timm_model("crossvit_9_240")
    save_for_hf(reference, tmp_path / "timm", safe_serialization=True)
    hub.publish("timm/crossvit_9_240.in1k", tmp_path / "timm")
    hub.mend()
    return reference


def test_published_weights_in_a_pipeline(hub, client, published, photos, tmp_path):
    photos["landscape"].save(tmp_path / "photo.png")
    code = """
import json
from transformers import pipeline
from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
name = "timm/crossvit_9_240.in1k"
model, image_processor = (loaded.from_pretrained(name) for loaded in (CrossViTForImageClassification, CrossViTImageProcessor))
assert CrossViTConfig.from_pretrained(name).to_dict().items() >= {"num_attention_heads": [4, 4], "image_sizes": [240, 224]}.items()
print(json.dumps(pipeline("image-classification", model=model, image_processor=image_processor, top_k=3)("photo.png")))
"""
    printed = client(code, token=None)
    # Once more without a network, from the cache.
    assert client("import os\nos.environ['HF_HUB_OFFLINE'] = '1'\n" + code, token=None) == printed
    transform = create_transform(**resolve_data_config(published.pretrained_cfg), is_training=False)
    with torch.no_grad():
        scores, indices = published(transform(photos["landscape"])[None]).softmax(-1)[0].topk(3)
    predictions = json.loads(printed.splitlines()[-1])
    assert [prediction["label"] for prediction in predictions] == [imagenet_classes()[index] for index in indices]
    # The processor of torchvision resizes bytes, and timm's transform PIL images: pixels differ by up to one of 255 levels.
    assert [prediction["score"] for prediction in predictions] == pytest.approx(scores.tolist(), rel=0.02)


def test_published_weights_of_a_private_repository(hub, client, tmp_path):
    """With a token, a branch, a folder inside, and a cache of their own; then from that cache alone."""
    reference = timm_model("crossvit_tiny_240", num_classes=7)
    save_for_hf(reference, tmp_path / "timm")  # pytorch_model.bin alone
    hub.publish("alice/birds", tmp_path / "timm", private=True, subfolder="models/tiny/", branch="next")
    code = f"""
import torch
from crossvit import *
options = dict(revision="next", subfolder="models/tiny", cache_dir="cache")
for extra in (dict(token={ALICE!r}), dict(local_files_only=True)):
    for loaded in (CrossViTModel, CrossViTBackbone, CrossViTConfig, CrossViTImageProcessor, CrossViTImageProcessorPil):
        loaded.from_pretrained("alice/birds", **options, **extra)
    model = CrossViTForImageClassification.from_pretrained("alice/birds", **options, **extra)
    assert model.config.num_labels == 7
    torch.save(model.classifier.heads[1].weight, "weight.pt")
"""
    client(code, token=None)
    assert torch.equal(torch.load(tmp_path / "weight.pt"), reference.head[1].weight)
    assert {path.parts[-1] for path in (tmp_path / "cache").glob("models--*")} == {"models--alice--birds"}
    load = "from crossvit import CrossViTModel\nCrossViTModel.from_pretrained('alice/birds', revision='next', subfolder='models/tiny')"
    assert "alice/birds is not a" in client(load, token=BOB, home="bob", fails=True).replace("\n", " ")


def test_names_on_the_hub_that_are_something_else(hub, client, published, tmp_path):
    save_for_hf(timm.create_model("test_vit"), tmp_path / "timm", safe_serialization=True)
    hub.publish("timm/test_vit.r160_in1k", tmp_path / "timm")
    load = "from crossvit import {0}\n{0}.from_pretrained({1!r})"
    for name in ("CrossViTForImageClassification", "CrossViTConfig", "CrossViTImageProcessor"):
        error = client(load.format(name, "timm/test_vit.r160_in1k"), fails=True)
        assert "timm/test_vit.r160_in1k is timm's test_vit, and not a CrossViT." in error
        error = client(load.format(name, "timm/crossvit_9_240"), fails=True)
        assert error.splitlines()[-1] == "Did you mean 'timm/crossvit_9_240.in1k'?"


# The convert command


def convert(client, *arguments: str, **kwargs) -> str:
    return client(f"from crossvit.weights.convert import main\nmain({list(arguments)!r})", **kwargs)


def test_convert_and_publish(hub, client, published, photos, tmp_path):
    source = ["--source", "timm/crossvit_9_240.in1k"]
    printed = convert(client, *source, "--output", "model", "--push-to-hub", "alice/crossvit_9_240")
    assert "crossvit_9_240: largest difference to timm on a photo: " in printed
    files = hub.files("alice/crossvit_9_240")
    assert files.keys() == MODEL
    assert len(load(files["model.safetensors"])) == len(
        CrossViTForImageClassification(CrossViTConfig.from_variant("crossvit_9_240")).state_dict()
    )
    assert json.loads(files["config.json"])["id2label"]["0"] == "tench"
    assert not card_errors(files["README.md"].decode())
    photos["landscape"].save(tmp_path / "photo.jpg")
    (snippet,) = re.findall(r"```python\n(.*?)```", files["README.md"].decode(), re.S)
    assert len(eval(client(snippet, token=None, home="newcomer", package=False))) == 5


def test_convert_what_is_not_there(hub, client, tmp_path):
    error = convert(client, "--source", "alice/nothing", "--output", "model", fails=True)
    assert error.splitlines()[-1].startswith("error: The Hub has no alice/nothing that you may read.")
    assert not (tmp_path / "model").exists()


def test_a_damaged_download_is_noticed(hub, client, published, tmp_path):
    hub.corrupt("timm/crossvit_9_240.in1k", "model.safetensors")
    error = convert(client, "--source", "crossvit_9_240", "--output", "model", fails=True)
    assert "is damaged: its checksum is not the one on the Hub" in error
    assert not (tmp_path / "model").exists()
