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
Proves that the table "Why not timm" tells the truth: for each feature it runs this package, timm's CrossViT and transformers' wrapper
around it, all with the same small weights, and compares what happened with the cell of the table. A "no" is an error for the expected
reason; any other error fails the test.

    pytest tests/test_peers.py          about 40 seconds
"""

import re
from importlib.metadata import version
from pathlib import Path

import pytest
import timm
import torch
from clean_process import run_python
from old_pytorch import NEEDS_TRACING
from packaging.version import Version
from PIL import Image
from small_models import SMALL_TIMM_MODEL, TIMM_SMALL
from timm.layers import set_fused_attn
from timm.models import create_feature_extractor
from timm.models._hub import save_for_hf
from timm.utils import AttentionExtract
from transformers import (
    TimmBackbone,
    TimmBackboneConfig,
    TimmWrapperForImageClassification,
    Trainer,
    TrainingArguments,
    pipeline,
)

from benchmarks import parity
from benchmarks.images import save_timm_model
from crossvit import CrossViTBackbone, CrossViTForImageClassification, CrossViTImageProcessor


ROOT = Path(__file__).parents[1]
TEXT = re.search(r"<!-- peers -->\n(.*?)<!-- /peers -->", (ROOT / "README.md").read_text(), re.S)[1]
HEADER, _, *TABLE = (
    [cell.strip() for cell in line.split("|")[1:-1]] for line in TEXT.splitlines() if line.startswith("|")
)
VERSIONS = dict(re.findall(r"\b(timm|transformers) (\d+(?:\.\d+)+)", TEXT))

# Older versions can do less than the table says. What newer ones change in it must be found.
pytestmark = pytest.mark.skipif(
    any(Version(version(package)) < Version(named) for package, named in VERSIONS.items()),
    reason="the table is about newer versions",
)

ARGUMENTS = {name: value for name, value in SMALL_TIMM_MODEL.items() if name != "num_classes"}
STAGES = len(TIMM_SMALL["depth"])
ATTENTIONS = sum(sum(layers) + 2 for layers in TIMM_SMALL["depth"])  # two fusions per stage


class Here:
    """This package. It reads the folder that timm wrote, as do the other two."""

    input_name = "pixel_values"
    options = {"interpolate_pos_encoding": True}
    last_norm = "crossvit.layernorms.0"

    def __init__(self, folder: Path, tmp_path: Path):
        self.folder, self.tmp_path = folder, tmp_path

    def load(self, **options):
        return CrossViTForImageClassification.from_pretrained(self.folder, **options).eval()

    def load_for_size(self, size: int):
        return self.load(image_sizes=[size, size * 32 // 48])

    def load_for_channels(self, channels: int):
        return self.load(num_channels=channels, ignore_mismatched_sizes=True)

    def logits(self, model, images):
        return model(images, **self.options).logits

    def number_of_patches(self, model, images):
        return model(images, output_hidden_states=True, **self.options).hidden_states[0].shape[1] - 1


class Timm(Here):
    """timm's own model."""

    input_name = "x"
    options = {}
    last_norm = "norm.0"

    def load(self, **options):
        return timm.create_model(f"local-dir:{self.folder}", pretrained=True, **options).eval()

    def load_for_size(self, size):
        return self.load(img_size=size)

    def load_for_channels(self, channels):
        return self.load(in_chans=channels)

    def logits(self, model, images):
        return model(images)

    def number_of_patches(self, model, images):
        return model.forward_features(images)[0].shape[1] - 1


class Wrapper(Here):
    """timm's model inside transformers' class for it."""

    options = {}
    last_norm = "timm_model.norm.0"

    def load(self, **options):
        return TimmWrapperForImageClassification.from_pretrained(self.folder, **options).eval()

    def load_for_size(self, size):
        return self.load(model_args={**ARGUMENTS, "img_size": size})

    def load_for_channels(self, channels):
        return self.load(model_args={**ARGUMENTS, "in_chans": channels}, ignore_mismatched_sizes=True)

    def number_of_patches(self, model, images):
        return model(images, output_hidden_states=True).hidden_states[0][0, 0].numel()


COLUMNS = {"here": Here, "timm's CrossViT": Timm, "transformers' TimmWrapper": Wrapper}


def images(count: int = 2, height: int = 48, width: int = 48, channels: int = 3) -> torch.Tensor:
    return torch.randn(count, channels, height, width, generator=torch.Generator().manual_seed(0))


def possible(attempt, error: str) -> str:
    """Whether the attempt succeeds, or fails for the reason that the pattern describes."""
    try:
        attempt()
    except Exception as exception:
        if not re.search(error, str(exception)):
            raise
        return "no"
    return "yes"


# Each function does one thing with one of the three, and returns the cell of the table.


def other_sizes(peer: Here) -> str:
    """Whether an image of twice the height and width has four times as many patches."""
    model = peer.load()
    trained, larger = (peer.number_of_patches(model, images(1, size, size)) for size in (48, 96))
    return {4 * trained: "yes", trained: "resized to trained size"}[larger]


def parameters_before_and_after(peer: Here, model) -> list[tuple[str, torch.Tensor, torch.Tensor]]:
    """The parameters that are not those of the folder: their names, what the folder has, and what the model has."""
    saved = dict(peer.load().named_parameters())
    assert saved.keys() == dict(model.named_parameters()).keys()
    return [
        (name, saved[name], value) for name, value in model.named_parameters() if not torch.equal(saved[name], value)
    ]


def weights_for_another_size(peer: Here) -> str:
    """Whether all weights are those of the folder, with more positions behind that of the CLS token."""

    def attempt():
        model = peer.load_for_size(72)
        assert peer.logits(model, images(2, 72, 72)).shape == (2, 5)
        positions = parameters_before_and_after(peer, model)
        assert len(positions) == 2
        for _, before, after in positions:
            assert torch.equal(before[:, 0], after[:, 0]) and before.shape[1] < after.shape[1]

    return possible(attempt, "size mismatch for pos_embed_0|set `ignore_mismatched_sizes` to `False`")


def attention_maps(peer: Here) -> str:
    """All self- and cross-attentions. timm's fused attention has none to extract, and can be switched off for all new models."""
    maps, answer = [], "`output_attentions=True`"
    if isinstance(peer, Timm):
        answer = "`AttentionExtract`"
        set_fused_attn(False)
        try:
            maps.extend(AttentionExtract(peer.load())(images()).values())
        finally:
            set_fused_attn(True)
    else:

        def attempt():
            outputs = peer.load()(images(), output_attentions=True)
            maps.extend((*outputs.attentions, *outputs.cross_attentions))

        if possible(attempt, "Cannot set `output_attentions` for timm models") == "no":
            return "no"
    assert len(maps) == ATTENTIONS
    for attention in maps:
        torch.testing.assert_close(attention.sum(-1), torch.ones(attention.shape[:-1]))
    return answer


def feature_maps(peer: Here) -> str:
    """Those of both branches after every stage, and whether transformers' models for detection and segmentation can get them."""
    if isinstance(peer, Wrapper):
        answer = "`output_hidden_states`, no backbone"
        maps = peer.load()(images(), output_hidden_states=True).hidden_states
        for index in range(len(maps)):
            config = TimmBackboneConfig(backbone="crossvit_tiny_240", out_indices=[index])
            error = "out_features must be in the same order as stage_names"
            assert possible(lambda config=config: TimmBackbone(config, **ARGUMENTS), error) == "no"
    elif isinstance(peer, Timm):
        answer = "`features_only=True`"
        maps = peer.load(features_only=True, out_indices=range(2 * STAGES))(images())
    else:
        answer = "`CrossViTBackbone`"
        names = [f"{branch}_stage{stage}" for branch in ("small", "large") for stage in range(1, STAGES + 1)]
        maps = CrossViTBackbone.from_pretrained(peer.folder, out_features=names)(images()).feature_maps
    assert [tuple(each.shape) for each in maps] == [(2, 16, 4, 4)] * STAGES + [(2, 24, 2, 2)] * STAGES
    return answer


def gradient_checkpointing(peer: Here) -> str:
    model = peer.load().train()
    enable = model.set_grad_checkpointing if isinstance(peer, Timm) else model.activation_checkpointing_enable

    def attempt():
        enable()
        peer.logits(model, images()).sum().backward()
        assert all(parameter.grad is not None for parameter in model.parameters())

    return possible(attempt, "does not support activation checkpointing|gradient checkpointing not supported")


def export_for_any_size(peer: Here) -> str:
    """`torch.export` with free batch, height and width."""
    model, free = peer.load(), dict.fromkeys((0, 2, 3), torch.export.Dim.AUTO)
    shapes = {peer.input_name: free, **dict.fromkeys(peer.options)}

    @torch.no_grad()
    def attempt():
        inputs = {peer.input_name: images(), **peer.options}
        program = torch.export.export(model, (), inputs, dynamic_shapes=shapes).module()
        for count, height, width in ((2, 48, 48), (3, 72, 60)):
            batch = images(count, height, width)
            outputs = program(**{**inputs, peer.input_name: batch})
            logits = outputs if isinstance(outputs, torch.Tensor) else outputs.logits
            assert parity.relative_difference(logits, peer.logits(model, batch)) < 1e-5

    return possible(attempt, r"Guard failed: \w+\.size\(\)\[2\] == 48")


def pipelines(peer: Here) -> str:
    """For classes and for features."""
    photo, model, folder = Image.radial_gradient("L").convert("RGB"), peer.load(), str(peer.tmp_path / "saved")
    processor = CrossViTImageProcessor.from_pretrained(peer.folder)
    if isinstance(peer, Timm):
        error = "'CrossVit' object has no attribute"
        return possible(lambda: pipeline("image-classification", model, image_processor=processor)(photo), error)
    model.save_pretrained(folder)
    if not isinstance(peer, Wrapper):  # whose config.json holds the settings of its image processor
        processor.save_pretrained(folder)
    assert len(pipeline("image-classification", folder)(photo)) == 5
    features = pipeline("image-feature-extraction", folder)
    assert len(features(photo, pool=True)[0]) == sum(TIMM_SMALL["embed_dim"])
    tokens = possible(lambda: features(photo), "'list' object has no attribute 'tolist'")
    return {"yes": "yes", "no": "features only pooled"}[tokens]


def own_loss(outputs, labels, num_items_in_batch):
    logits = outputs if isinstance(outputs, torch.Tensor) else outputs.logits
    return torch.nn.functional.cross_entropy(logits, labels, reduction="sum") / num_items_in_batch


def trainer(peer: Here) -> str:
    """
    Whether a run that continues from a checkpoint ends with the weights of one without a break, and whether an accumulated step over
    batches of two images and of one is the step of one batch with the three.
    """

    def train(loss, checkpoint=None, **options) -> tuple[torch.Tensor, int]:
        """The weights after the training, and the number of forward passes."""
        model, calls = peer.load(), []
        model.register_forward_hook(lambda *_: calls.append(True))
        data = [{peer.input_name: image, "labels": label} for label, image in enumerate(images(3))]
        arguments = TrainingArguments(
            str(peer.tmp_path / "out"),
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
            remove_unused_columns=False,
            learning_rate=1e-2,
            **options,
        )
        torch.manual_seed(0)
        Trainer(model, arguments, train_dataset=data, compute_loss_func=loss).train(resume_from_checkpoint=checkpoint)
        return torch.cat([parameter.detach().flatten() for parameter in model.parameters()]), len(calls)

    def continues(loss) -> bool:
        options = {"max_steps": 4, "save_steps": 2, "per_device_train_batch_size": 1}
        whole, steps = train(loss, **options)
        continued, other_steps = train(loss, str(peer.tmp_path / "out" / "checkpoint-2"), **options)
        assert (steps, other_steps) == (4, 2)
        return torch.equal(continued, whole)

    def accumulates(loss) -> bool:
        options = {"max_steps": 1, "save_strategy": "no", "optim": "sgd", "max_grad_norm": 0}
        whole, steps = train(loss, per_device_train_batch_size=3, **options)
        parts, other_steps = train(loss, per_device_train_batch_size=2, gradient_accumulation_steps=2, **options)
        assert (steps, other_steps) == (1, 2)
        return torch.allclose(parts, whole, rtol=0, atol=1e-6)

    if possible(lambda: train(None, max_steps=1), "unexpected keyword argument 'labels'") == "no":
        assert continues(own_loss) and accumulates(own_loss)
        return "with own loss"
    assert continues(None)
    if accumulates(None):
        return "yes"
    assert accumulates(own_loss)
    return "accumulation with own loss"


LOAD_WITH_TRANSFORMERS_ALONE = """
from transformers import AutoModelForImageClassification
print(type(AutoModelForImageClassification.from_pretrained("saved", trust_remote_code=True)).__name__)
"""


def load_with_transformers_alone(peer: Here) -> str:
    """A saved folder in a process that has neither timm nor this package."""
    folder = peer.tmp_path / "saved"
    if isinstance(peer, Timm):
        save_for_hf(peer.load(), folder, safe_serialization=True)
    else:
        peer.load().save_pretrained(folder)
    environment = {"HF_MODULES_CACHE": str(peer.tmp_path / "modules")}
    process = run_python(LOAD_WITH_TRANSFORMERS_ALONE, peer.tmp_path, environment, without=("timm", "crossvit"))
    if process.returncode:
        assert "requires the timm library" in process.stderr, process.stderr
        return "no"
    assert process.stdout.strip() == "CrossViTForImageClassification"
    return "`trust_remote_code=True`"


def other_channels(peer: Here) -> str:
    """What becomes of the first layer of each branch when weights for three channels are loaded for one."""
    model = peer.load_for_channels(1)
    assert peer.logits(model, images(channels=1)).shape == (2, 5)
    first_layers = parameters_before_and_after(peer, model)
    assert len(first_layers) == 2 and all("patch_embed" in name for name, _, _ in first_layers)
    (adapted,) = {torch.allclose(after, before.sum(1, keepdim=True), atol=1e-6) for _, before, after in first_layers}
    return "adapted" if adapted else "new first layer"


def mean_pooling(peer: Here) -> str:
    """The heads on the mean of the patches in place of the CLS tokens."""
    reference = Timm(peer.folder, peer.tmp_path).load()
    heads = zip(reference.head, reference.forward_features(images()))
    expected = torch.stack([head(tokens[:, 1:].mean(1)) for head, tokens in heads]).mean(0)

    def attempt():
        if isinstance(peer, Wrapper):
            model = peer.load(model_args={**ARGUMENTS, "global_pool": "avg"})
        elif isinstance(peer, Timm):
            model = peer.load(global_pool="avg")
        else:
            config = peer.folder / "config.json"
            config.write_text(config.read_text().replace('"global_pool": "token"', '"global_pool": "avg"'))
            model = peer.load()
        assert parity.relative_difference(peer.logits(model, images()), expected) < 1e-6

    return possible(attempt, "global_pool='avg'")


def fx_graph(peer: Here) -> str:
    """Any node of the graph as an output, by symbolic tracing."""

    def attempt():
        (tokens,) = create_feature_extractor(peer.load(), [peer.last_norm])(images()).values()
        assert tokens.shape == (2, 17, 16)

    return possible(attempt, "Proxy object cannot be iterated|symbolically traced variables cannot be used")


ROWS = {
    "images of any size, with more or fewer patches": other_sizes,
    "weights for another image size": weights_for_another_size,
    "self- and cross-attention maps": attention_maps,
    "feature maps of every stage": feature_maps,
    "gradient checkpointing": gradient_checkpointing,
    "`torch.export` for any height and width": export_for_any_size,
    "pipelines for classes and features": pipelines,
    "`Trainer`: exact continuation and accumulation": trainer,
    "saved folders load with transformers alone": load_with_transformers_alone,
    "weights for another number of channels": other_channels,
    "mean pooling": mean_pooling,
    "FX feature extraction": fx_graph,
}


@pytest.fixture
def folder(tmp_path) -> Path:
    """The weights as timm writes them, but without the number of classes among the arguments, where transformers 5.24 fails on it."""
    model = parity.timm_model("crossvit_tiny_240", **SMALL_TIMM_MODEL)
    return save_timm_model(model, tmp_path / "timm", model_config={"label_names": list("abcde")})


def test_rows_and_columns():
    assert HEADER[1:] == list(COLUMNS)
    assert [row[0] for row in TABLE] == list(ROWS)
    assert VERSIONS.keys() == {"timm", "transformers"}
    measured = (ROOT / "docs" / "parity.md").read_text()
    assert all(f"{package} {number}" in measured for package, number in VERSIONS.items())


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize(
    "feature", [pytest.param(row, marks=NEEDS_TRACING) if "torch.export" in row else row for row in ROWS]
)
def test_cell(feature, column, folder, tmp_path):
    (row,) = (row for row in TABLE if row[0] == feature)
    assert ROWS[feature](COLUMNS[column](folder, tmp_path)) == row[HEADER.index(column)]


@pytest.mark.parametrize("peer", COLUMNS.values())
def test_all_three_have_the_same_weights(peer, folder, tmp_path):
    logits, expected = (
        each.logits(each.load(), images()) for each in (peer(folder, tmp_path), Timm(folder, tmp_path))
    )
    assert parity.relative_difference(logits, expected) < parity.LIMITS["logits sdpa"]


def test_the_wrapper_holds_timm_s_own_model(folder, tmp_path):
    """So that what timm can do, the `timm_model` of the wrapper can do."""
    assert type(Wrapper(folder, tmp_path).load().timm_model) is type(Timm(folder, tmp_path).load())
