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
Published weights as they are: repositories of timm and folders of `timm.models.save_for_hf` and of transformers' TimmWrapper, loaded by
every class, against timm's own model and transform; and the refusal of everything that is no CrossViT.

    pytest tests/weights/test_timm_repositories.py              six variants and all options
    pytest tests/weights/test_timm_repositories.py -m slow      the five large ones
"""

import json
import re
import shutil

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from small_models import LARGE, SMALL, SMALL_TIMM_MODEL
from timm.data import create_transform, resolve_data_config
from timm.models._hub import load_model_config_from_path, save_for_hf
from torchvision.models import ResNet18_Weights
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    TimmWrapperForImageClassification,
    TorchAoConfig,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessor,
    pipeline,
)

from benchmarks import parity
from crossvit import (
    CROSSVIT_VARIANTS,
    CrossViTBackbone,
    CrossViTConfig,
    CrossViTForImageClassification,
    CrossViTImageProcessor,
    CrossViTImageProcessorPil,
    CrossViTModel,
    convert_checkpoint,
)
from crossvit.configuration.variants import imagenet_classes


MODELS = [CrossViTForImageClassification, CrossViTModel, CrossViTBackbone]
PROCESSORS = [CrossViTImageProcessor, CrossViTImageProcessorPil]
ALL_CLASSES = [*MODELS, CrossViTConfig, *PROCESSORS]


def small_timm_model(**arguments):
    return parity.timm_model("crossvit_tiny_240", **{**SMALL_TIMM_MODEL, **arguments})


def edit(folder, change):
    """Changes the config.json of a folder by a function of its content."""
    path = folder / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(change(content) or content))


def set_preprocessing(folder, **settings):
    edit(folder, lambda config: config["pretrained_cfg"].update(settings))


def without_recorded_classes(folder):
    """As in timm's repositories and as older timm wrote it. With the number of classes in both places transformers 5.24 fails."""
    edit(folder, lambda config: config["model_args"].pop("num_classes") and None)


@pytest.fixture
def small(tmp_path):
    """A small model of timm with the names of its classes, and the folder that timm wrote."""
    model = small_timm_model()
    save_for_hf(model, tmp_path / "timm", model_config={"label_names": list("abcde")}, safe_serialization=True)
    return model, tmp_path / "timm"


def timm_transform(folder):
    pretrained_cfg, *_ = load_model_config_from_path(folder)
    return create_transform(**resolve_data_config(pretrained_cfg), is_training=False)


def logits_of(model, pixel_values):
    with torch.no_grad():
        outputs = model(pixel_values)
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


# All published models


@pytest.mark.parametrize(
    "variant", [pytest.param(v, marks=pytest.mark.slow) if v in LARGE else v for v in CROSSVIT_VARIANTS]
)
def test_every_published_model(tmp_path, variant, photos):
    reference = parity.timm_model(variant)
    # Either way of saving, because old repositories have the second file alone.
    save_for_hf(reference, tmp_path, safe_serialization=variant != "crossvit_tiny_240")
    assert (tmp_path / "pytorch_model.bin").exists() == (variant == "crossvit_tiny_240")

    model = CrossViTForImageClassification.from_pretrained(tmp_path)
    expected = {**CrossViTConfig.from_variant(variant, num_labels=1000).to_dict(), **imagenet_names()}
    found = {**model.config.to_dict(), "dtype": None, "architectures": None}
    assert found == {**expected, "_name_or_path": str(tmp_path)}

    pixel_values = timm_transform(tmp_path)(photos["landscape"])[None]
    for processor_class in PROCESSORS:
        processor = processor_class.from_pretrained(tmp_path)
        size = reference.pretrained_cfg["input_size"][-1]
        assert processor.to_dict() == processor_class.from_image_size(size, 1.0 if size == 408 else 0.875).to_dict()
    ours = processor(photos["landscape"], return_tensors="pt").pixel_values  # PIL
    # As in tests/image_processing: the normalisation rounds differently in numpy than in torch.
    assert (ours - pixel_values).abs().max() <= 1e-6

    logits = logits_of(reference, pixel_values)
    assert parity.relative_difference(logits_of(model, pixel_values), logits) <= parity.LIMITS["logits sdpa"]


def imagenet_names():
    names = ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    return {"id2label": dict(enumerate(names)), "label2id": {name: index for index, name in enumerate(names)}}


def test_the_names_of_the_classes_are_torchvision_s():
    assert imagenet_classes() == ResNet18_Weights.IMAGENET1K_V1.meta["categories"]
    assert len(set(imagenet_classes())) == 1000


# Every class and every option


def test_every_class(small, tmp_path):
    reference, folder = small
    assert CrossViTConfig.from_pretrained(folder).to_dict().items() >= {**SMALL, "num_channels": 3}.items()
    pixel_values = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    tokens = reference.forward_features(pixel_values)
    model = CrossViTModel.from_pretrained(folder).eval()
    limit = parity.LIMITS["large tokens sdpa"]
    assert parity.relative_difference(model(pixel_values).last_hidden_state, tokens[1]) <= limit

    backbone = CrossViTBackbone.from_pretrained(folder, out_features=["small_stage2", "large_stage2"]).eval()
    for feature_map, norm, branch in zip(backbone(pixel_values).feature_maps, reference.norm, tokens):
        rows = norm(feature_map.flatten(2).transpose(1, 2))
        assert parity.relative_difference(rows, branch[:, 1:]) <= limit


@pytest.mark.parametrize("source", ["safetensors", "bin", "both", "TimmWrapper", "old"])
def test_every_kind_of_folder(tmp_path, source):
    reference = small_timm_model()
    folder = tmp_path / "timm"
    names = {"label_names": list("abcde")}
    safe = {"safetensors": True, "bin": False, "both": "both"}.get(source, True)
    save_for_hf(reference, folder, model_config=names, safe_serialization=safe)
    if source == "TimmWrapper":
        without_recorded_classes(folder)
        TimmWrapperForImageClassification.from_pretrained(folder).save_pretrained(tmp_path / "wrapper")
        folder = tmp_path / "wrapper"
        assert json.loads((folder / "config.json").read_text())["model_type"] == "timm_wrapper"
    elif source == "old":  # timm wrote one dictionary until 2023, and `labels`
        edit(folder, lambda config: {**config.pop("pretrained_cfg"), "labels": config.pop("label_names"), **config})
    model = CrossViTForImageClassification.from_pretrained(folder)
    assert model.config.id2label == dict(enumerate("abcde"))
    pixel_values = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    difference = parity.relative_difference(logits_of(model, pixel_values), logits_of(reference, pixel_values))
    assert difference <= parity.LIMITS["logits sdpa"]
    assert dict(CrossViTImageProcessor.from_pretrained(folder).crop_size) == {"height": 48, "width": 48}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"dtype": torch.bfloat16},
        {"device_map": "cpu"},
        {"device_map": "auto"},
        {"local_files_only": True},
        {"revision": "main"},
        {"attn_implementation": "eager"},
        {"output_hidden_states": True},
        {"low_cpu_mem_usage": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("model_class", MODELS)
def test_options_of_from_pretrained(small, model_class, options):
    _, folder = small
    plain = model_class.from_pretrained(folder).state_dict()
    model, info = model_class.from_pretrained(folder, output_loading_info=True, **options)
    assert not info["missing_keys"] and not info["mismatched_keys"]
    dtype = options.get("dtype", torch.float32)
    assert all(torch.equal(tensor, plain[name].to(dtype)) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("loaded_class", ALL_CLASSES)
def test_a_subfolder(small, tmp_path, loaded_class):
    _, folder = small
    shutil.copytree(folder, tmp_path / "repository" / "models" / "small")
    loaded = loaded_class.from_pretrained(tmp_path / "repository", subfolder="models/small")
    # `_name_or_path` of the configuration differs.
    expected = loaded_class.from_pretrained(folder)
    if hasattr(loaded, "state_dict"):
        assert all(torch.equal(*pair) for pair in zip(loaded.state_dict().values(), expected.state_dict().values()))
    else:
        assert loaded.to_dict() == expected.to_dict()


def test_other_sizes_and_classes(small):
    reference, folder = small
    model = CrossViTForImageClassification.from_pretrained(
        folder, image_sizes=[72, 48], num_labels=3, ignore_mismatched_sizes=True
    )
    assert model.config.image_sizes == [72, 48] and model.config.id2label == {i: f"LABEL_{i}" for i in range(3)}
    assert model(torch.zeros(1, 3, 72, 72)).logits.shape == (1, 3)
    assert torch.equal(model.crossvit.layernorms[1].weight, reference.norm[1].weight)
    with pytest.raises(RuntimeError, match="ignore_mismatched_sizes"):
        CrossViTForImageClassification.from_pretrained(folder, num_labels=3)


def test_a_model_without_a_head_and_one_of_another_number_of_channels(tmp_path):
    reference = small_timm_model(num_classes=0, in_chans=4)
    save_for_hf(reference, tmp_path, safe_serialization=True)
    pixel_values = torch.randn(2, 4, 48, 48, generator=torch.Generator().manual_seed(0))
    features = CrossViTModel.from_pretrained(tmp_path).eval()(pixel_values).pooler_output
    assert parity.relative_difference(features, reference(pixel_values)) <= parity.LIMITS["large tokens sdpa"]
    with pytest.raises(ValueError, match="needs `num_labels` of at least 1, got 0"):
        CrossViTForImageClassification.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"4 channels.*from_image_size\(48, do_convert_rgb=False"):
        CrossViTImageProcessor.from_pretrained(tmp_path)


def test_images_that_are_not_square(tmp_path, photos):
    arguments = {"img_size": (48, 96)}
    reference = small_timm_model(**arguments)
    save_for_hf(reference, tmp_path, safe_serialization=True)
    model = CrossViTForImageClassification.from_pretrained(tmp_path)
    assert model.config.image_sizes == [[48, 96], [32, 64]]
    pixel_values = torch.randn(2, 3, 48, 96, generator=torch.Generator().manual_seed(0))
    difference = parity.relative_difference(logits_of(model, pixel_values), logits_of(reference, pixel_values))
    assert difference <= parity.LIMITS["logits sdpa"]
    # The scale of timm's resize depends on the proportions of each image.
    with pytest.raises(ValueError, match="crop_mode='center', 48x96.*AutoImageProcessor"):
        CrossViTImageProcessor.from_pretrained(tmp_path)
    set_preprocessing(tmp_path, crop_mode="squash")
    assert_equal_to_timm_s_transform(tmp_path, photos)


# Preprocessing and names of classes


def assert_equal_to_timm_s_transform(folder, photos):
    transform, processor = timm_transform(folder), CrossViTImageProcessorPil.from_pretrained(folder)
    for kind in ("landscape", "portrait", "small"):
        ours = processor(photos[kind], return_tensors="pt").pixel_values[0]
        # As in tests/image_processing: the normalisation rounds differently in numpy than in torch, here of numbers below 8.
        assert (ours - transform(photos[kind])).abs().max() <= 2e-6


@pytest.mark.parametrize(
    "settings",
    [
        {"crop_pct": 1.0},
        {"crop_pct": 0.95},
        {"interpolation": "bilinear"},
        {"interpolation": "lanczos"},
        {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
        {"crop_mode": "squash"},
        {"input_size": [3, 96, 96]},
    ],
    ids=str,
)
def test_preprocessing_is_timm_s(small, photos, settings):
    _, folder = small
    if "input_size" in settings:  # from weights alone, of an architecture that takes any size
        edit(folder, lambda config: config["model_args"].pop("img_size") and None)
    set_preprocessing(folder, **settings)
    assert_equal_to_timm_s_transform(folder, photos)
    torchvision, pil = (processor_class.from_pretrained(folder).to_dict() for processor_class in PROCESSORS)
    assert {**torchvision, "image_processor_type": ""} == {**pil, "image_processor_type": ""}


@pytest.mark.parametrize("settings", [{"crop_mode": "border"}, {"interpolation": "random"}], ids=str)
def test_preprocessing_that_only_timm_has(small, settings):
    _, folder = small
    set_preprocessing(folder, **settings)
    ((name, value),) = settings.items()
    for processor_class in PROCESSORS:
        with pytest.raises(ValueError, match=f"{name}='{value}'.*AutoImageProcessor.from_pretrained"):
            processor_class.from_pretrained(folder)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({"label_names": list("vwxyz")}, list("vwxyz")),
        ({"label_names": {"0": "v", "3": "y"}}, ["v", "LABEL_1", "LABEL_2", "y", "LABEL_4"]),
        ({"label_names": list("vwxyz"), "label_descriptions": {"v": "V", "x": "X"}}, ["V", "w", "X", "y", "z"]),
        # Descriptions that do not tell the classes apart are left out.
        ({"label_names": list("vwxyz"), "label_descriptions": {"v": "same", "x": "same"}}, list("vwxyz")),
        ({}, [f"LABEL_{index}" for index in range(5)]),
    ],
)
def test_names_of_classes(small, names, expected):
    _, folder = small
    for where in ("root", "pretrained_cfg"):

        def change(config):
            config.pop("label_names", None)
            (config if where == "root" else config["pretrained_cfg"]).update(names)

        edit(folder, change)
        config = CrossViTConfig.from_pretrained(folder)
        assert list(config.id2label.values()) == expected
        assert config.label2id == {name: index for index, name in enumerate(expected)}


def test_a_thousand_classes_of_something_else(tmp_path):
    save_for_hf(small_timm_model(num_classes=1000), tmp_path, safe_serialization=True)
    assert CrossViTConfig.from_pretrained(tmp_path).id2label[0] == "tench"
    set_preprocessing(tmp_path, tag="birds1k")
    assert CrossViTConfig.from_pretrained(tmp_path).id2label[0] == "LABEL_0"


# What comes after


def test_saving_gives_an_ordinary_folder(small, tmp_path, photos):
    _, folder = small
    model = CrossViTForImageClassification.from_pretrained(folder)
    processor = CrossViTImageProcessor.from_pretrained(folder)
    model.save_pretrained(tmp_path / "saved")
    processor.save_pretrained(tmp_path / "saved")
    config = json.loads((tmp_path / "saved" / "config.json").read_text())
    assert config["model_type"] == "crossvit"
    assert not {"architecture", "pretrained_cfg", "model_args", "num_classes", "label_names"} & config.keys()
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == model.state_dict().keys()
    photo = photos["landscape"]
    loaded = pipeline("image-classification", str(tmp_path / "saved"), top_k=5)
    assert type(loaded.model) is CrossViTForImageClassification
    expected = pipeline("image-classification", model, image_processor=processor, top_k=5)(photo)
    assert [entry["label"] for entry in loaded(photo)] == [entry["label"] for entry in expected]
    scores = [[entry["score"] for entry in entries] for entries in (loaded(photo), expected)]
    assert scores[0] == pytest.approx(
        scores[1], rel=1e-6
    )  # SDPA may add in another order where memory is aligned otherwise


def test_the_auto_classes_give_timm_s_wrapper(small):
    """As transformers decides; README.md and docs/checkpoints.md say so."""
    _, folder = small
    without_recorded_classes(folder)
    assert isinstance(AutoModelForImageClassification.from_pretrained(folder), TimmWrapperForImageClassification)
    assert AutoConfig.from_pretrained(folder).model_type == "timm_wrapper"
    assert type(AutoImageProcessor.from_pretrained(folder)).__name__ == "TimmWrapperImageProcessor"


# What is refused


def vit(folder):
    config = ViTConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32)
    ViTForImageClassification(config).save_pretrained(folder)
    return r"is a model of type 'vit', and not a CrossViT .*AutoModel.from_pretrained\('"


def vit_with_image_processor(folder):
    ViTImageProcessor().save_pretrained(folder)
    return vit(folder)


def another_architecture(folder):
    save_for_hf(timm.create_model("test_vit"), folder, safe_serialization=True)
    return r"is timm's test_vit, and not a CrossViT.*AutoModelForImageClassification.from_pretrained\('.*timm.create_model"


def wrapper_of_another_architecture(folder):
    another_architecture(folder / "timm")
    without_recorded_classes(folder / "timm")
    TimmWrapperForImageClassification.from_pretrained(folder / "timm").save_pretrained(folder)
    shutil.rmtree(folder / "timm")
    return "is timm's test_vit, and not a CrossViT"


def no_model_type(folder):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text('{"hidden_sizes": [192, 384]}')
    return 'has neither a `model_type` nor timm\'s `architecture`.*add `"model_type": "crossvit"`'


@pytest.mark.parametrize("loaded_class", ALL_CLASSES)
@pytest.mark.parametrize(
    "other", [vit, vit_with_image_processor, another_architecture, wrapper_of_another_architecture, no_model_type]
)
def test_other_models_are_refused(tmp_path, loaded_class, other):
    message = other(tmp_path)
    if other is vit_with_image_processor and loaded_class in PROCESSORS:
        message = (
            r"has the settings of a ViTImageProcessor, and .*AutoImageProcessor.from_pretrained\('.*from_image_size"
        )
    with pytest.raises(ValueError, match=f"(?s){message}"):
        loaded_class.from_pretrained(tmp_path)


def test_fields_of_another_model_are_refused():
    with pytest.raises(ValueError, match="type 'resnet', expected 'crossvit'"):
        CrossViTConfig.from_dict(ResNetConfig(depths=[1, 4], hidden_sizes=[192, 384]).to_dict())


def test_a_configuration_of_one_s_own_keeps_its_type(tmp_path):
    class OwnConfig(CrossViTConfig):
        model_type = "own"

    OwnConfig(num_stages=2).save_pretrained(tmp_path)
    assert OwnConfig.from_pretrained(tmp_path).num_stages == 2
    with pytest.raises(ValueError, match=r"type 'own', and not a CrossViT \('crossvit'\)"):
        CrossViTConfig.from_pretrained(tmp_path)


def test_arguments_of_the_training_do_not_change_the_numbers(tmp_path, photos, caplog):
    """Dropout that `CrossViTConfig` has is kept, and the rest is named: it has no part in inference."""
    kept = {"attn_drop_rate": 0.1, "drop_path_rate": 0.2}
    ignored = {"drop_rate": 0.3, "pos_drop_rate": 0.4, "proj_drop_rate": 0.5}
    reference = small_timm_model(**kept, **ignored)
    save_for_hf(reference, tmp_path, model_args={**SMALL_TIMM_MODEL, **kept, **ignored}, safe_serialization=True)
    model = CrossViTForImageClassification.from_pretrained(tmp_path)
    config = model.config
    assert (config.attention_probs_dropout_prob, config.drop_path_rate, config.hidden_dropout_prob) == (0.1, 0.2, 0)
    message = "trained by timm with drop_rate=0.3, pos_drop_rate=0.4, proj_drop_rate=0.5"
    assert [message in record.message for record in caplog.records] == [True]
    pixel_values = timm_transform(tmp_path)(photos["square"])[None]
    expected = logits_of(reference, pixel_values)
    assert (logits_of(model.eval(), pixel_values) - expected).abs().max() < 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"global_pool": "avg"}, "global_pool='avg'"),
        ({"crop_scale": True}, "crop_scale=True"),
        ({"img_size": 72, "img_scale": (1.0, 0.7)}, "50x50 pixels in the branch with patches of 16"),
        ({"depth": ((1, 2, 0), (1, 1, 0))}, "stages of different depths"),
        ({"depth": ((1, 2, 2),) * 2}, "list of fusion layers.*convert_checkpoint"),
    ],
)
def test_what_the_configuration_cannot_say_is_refused(tmp_path, arguments, message):
    save_for_hf(small_timm_model(**arguments), tmp_path, safe_serialization=True)
    for loaded_class in (*MODELS, CrossViTConfig):
        with pytest.raises(ValueError, match=message):
            loaded_class.from_pretrained(tmp_path)


@pytest.mark.parametrize("labels", [list("abcdef"), {"7": "a"}])
def test_more_names_than_classes(small, labels):
    _, folder = small
    edit(folder, lambda config: config.update(label_names=labels))
    with pytest.raises(ValueError, match="names .* classes .*for 5 outputs"):
        CrossViTConfig.from_pretrained(folder)


@pytest.mark.parametrize(
    "damage",
    [
        lambda config: config["pretrained_cfg"].pop("input_size") and None,
        lambda config: config.update(pretrained_cfg="in1k"),
        lambda config: config["model_args"].update(depth=4),
        lambda config: config["model_args"].update(img_size=2.5),
        lambda config: config.update(architecture=None),
    ],
)
def test_a_damaged_config_of_timm(small, damage):
    _, folder = small
    edit(folder, damage)
    for loaded_class in ALL_CLASSES:
        with pytest.raises(ValueError, match=re.escape(str(folder))):
            loaded_class.from_pretrained(folder)


@pytest.mark.parametrize("model_class", MODELS)
def test_weights_of_something_else_are_refused(small, tmp_path, model_class):
    """With a CrossViT's config.json, or one that the user gives: transformers would log a report and go on with random weights."""
    _, folder = small
    vit(tmp_path / "vit")
    shutil.copy(tmp_path / "vit" / "model.safetensors", folder)
    for options in ({}, {"ignore_mismatched_sizes": True}):
        with pytest.raises(
            ValueError, match="(?s)None of the weights of .* fits.*random.*(classifier.bias|vit.embeddings.cls_token)"
        ):
            model_class.from_pretrained(folder, **options)
    # As in transformers' common tests: the caller asked for the report.
    model, info = model_class.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == model.state_dict().keys()
    config = CrossViTConfig.from_pretrained(folder)
    with pytest.raises(ValueError, match="is a model of type 'vit'"):
        model_class.from_pretrained(tmp_path / "vit", config=config)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "net."])
def test_names_behind_a_wrapper_are_for_the_converter(small, prefix):
    model, folder = small
    save_file({f"{prefix}{key}": tensor for key, tensor in model.state_dict().items()}, folder / "model.safetensors")
    with pytest.raises(ValueError, match="in front of the names, `crossvit.convert_checkpoint` reads the file"):
        CrossViTForImageClassification.from_pretrained(folder)
    converted = convert_checkpoint(folder / "model.safetensors", config=CrossViTConfig.from_pretrained(folder))
    pixel_values = torch.randn(1, 3, 48, 48)
    torch.testing.assert_close(logits_of(converted, pixel_values), logits_of(model, pixel_values))


@pytest.mark.parametrize("model_class", MODELS)
def test_weights_of_another_variant_are_refused(small, model_class):
    _, folder = small
    config = CrossViTConfig(**{**SMALL, "hidden_sizes": [32, 48], "num_labels": 5})
    with pytest.raises(ValueError, match="None of the weights of .* fits.*configuration of its architecture"):
        model_class.from_pretrained(folder, config=config, ignore_mismatched_sizes=True)


def test_quantisation_while_loading(small, tmp_path):
    """torchao would leave the keys and values of timm's joint `qkv` random. What was saved in between is right."""
    _, folder = small
    torchao = pytest.importorskip("torchao.quantization", reason="torchao needs the newest PyTorch")
    options = {"quantization_config": TorchAoConfig(torchao.Int8WeightOnlyConfig())}
    with pytest.raises(
        ValueError, match="timm's names cannot be loaded with this `quantization_config`.*save_pretrained"
    ):
        CrossViTForImageClassification.from_pretrained(folder, **options)
    plain = CrossViTForImageClassification.from_pretrained(folder)
    plain.save_pretrained(tmp_path / "saved")
    quantised = CrossViTForImageClassification.from_pretrained(tmp_path / "saved", **options)
    pixel_values = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    # 8 bits per weight: half a level is 0.4 % of the largest weight of a row. Random keys and values give more than 10 %.
    assert parity.relative_difference(logits_of(quantised, pixel_values), logits_of(plain, pixel_values)) < 0.03


def test_code_in_a_checkpoint_is_not_run(small, tmp_path):
    class Harmful:
        def __reduce__(self):
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    reference, folder = small
    (folder / "model.safetensors").unlink()
    torch.save({**reference.state_dict(), "x": Harmful()}, folder / "pytorch_model.bin")
    with pytest.raises(Exception, match="[Ww]eights_only|WeightsUnpickler"):
        CrossViTForImageClassification.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("crossvit_15_dagger_240", "timm/crossvit_15_dagger_240.in1k"),
        ("timm/crossvit_15_dagger_240", "timm/crossvit_15_dagger_240.in1k"),
        ("timm/crossvit_15_daggr_240.in1k", "timm/crossvit_15_dagger_240.in1k"),
        ("timm/crossvit_small_240.in1k", None),  # right, but there is no network in the tests
        ("alice/digits", None),
    ],
)
def test_a_name_that_is_not_there(name, meant):
    for loaded_class in ALL_CLASSES:
        with pytest.raises(OSError) as error:
            loaded_class.from_pretrained(name)
        assert ("Did you mean" in str(error.value)) == (meant is not None)
        assert meant is None or str(error.value).endswith(f"Did you mean {meant!r}?")


def test_a_folder_without_a_configuration(tmp_path):
    for loaded_class in ALL_CLASSES:
        with pytest.raises(OSError, match="config.json"):
            loaded_class.from_pretrained(tmp_path)


# Arrays


@pytest.mark.parametrize("processor_class", PROCESSORS)
def test_grey_arrays_are_grey_images(photos, processor_class):
    grey = np.array(photos["grey"])
    processor = processor_class.from_image_size(48)
    expected = processor(photos["grey"], return_tensors="pt").pixel_values
    for image in (grey, torch.from_numpy(grey), [grey], grey[None], grey[..., None]):
        assert torch.equal(processor(image, return_tensors="pt").pixel_values, expected)
    assert torch.equal(processor([grey, grey], return_tensors="pt").pixel_values, expected.expand(2, -1, -1, -1))
