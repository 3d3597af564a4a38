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
examples/pretrain_imagenet.py trains by the paper's recipe: the learning rates against Table 9, parameter groups and augmentations
against timm, soft targets against the mixed pixels. Shards and repeated images are divided between processes as they should be.

    pytest tests/examples/test_pretrain_imagenet.py          about 1 minute, with the quickstart
"""

import io
import json
import math
import random
import runpy
import sys
import tarfile
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import timm
import torch
from hub_server import card_errors
from PIL import Image
from safetensors.torch import load_file
from timm.data import create_loader
from torchvision.transforms.functional import pil_to_tensor

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


SCRIPT = "pretrain_imagenet.py"
EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def script(monkeypatch):
    """The functions and classes of the script, as attributes."""
    monkeypatch.syspath_prepend(EXAMPLES)

    class Script:
        def __init__(self):
            vars(self).update(runpy.run_path(str(EXAMPLES / SCRIPT)))

        def training(self, *arguments: str):
            """The training options of this command line."""
            monkeypatch.setattr(sys, "argv", [SCRIPT, *arguments])
            parsed = self.parse_arguments(
                self.Arguments, self.ModelArguments, description="", defaults=self.recipe_defaults()
            )
            return parsed[0]

    return Script()


@pytest.fixture
def run(run_here, saved_model, digits, tmp_path):
    """Runs the script on the small model: its output folder, and what it printed."""

    def run(*arguments: str, data=("--train_dir", str(digits)), output: str = "out") -> tuple[Path, str]:
        out = tmp_path / output
        return out, run_here(SCRIPT, "--model_name_or_path", saved_model, *data, "--output_dir", out, *arguments)

    return run


SMALL_RUN = ("--num_train_epochs", "3", "--warmup_epochs", "1", "--global_batch_size", "16")
SMALL_RUN += ("--per_device_train_batch_size", "8", "--learning_rate", "0.05", "--logging_steps", "1")


def table_9(epoch: int, epochs: int, largest: float, warmup_epochs: int) -> float:
    """The learning rate at the start of an epoch: linear from 1e-6 in the warm-up, then a cosine over all epochs down to 1e-5."""
    if epoch < warmup_epochs:
        return 1e-6 + (largest - 1e-6) * epoch / warmup_epochs
    return 1e-5 + (largest - 1e-5) * (1 + math.cos(math.pi * epoch / epochs)) / 2


@pytest.mark.parametrize(
    ("recipe", "epochs", "largest", "warmup_epochs"), [("imagenet", 300, 0.004, 30), ("transfer", 1000, 0.01, 5)]
)
def test_learning_rate_at_every_epoch(script, recipe, epochs, largest, warmup_epochs):
    training = script.training("--recipe", recipe)
    optimizer, schedule = script.optimizer_and_schedule(torch.nn.Linear(2, 2), training)
    assert training.num_train_epochs == epochs
    for epoch in range(epochs):
        schedule.step(epoch)
        expected = table_9(epoch, epochs, largest, warmup_epochs)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected] * 2, rel=1e-12), epoch


@pytest.mark.parametrize(
    ("recipe", "kind", "options"),
    [
        ("imagenet", torch.optim.AdamW, {"weight_decay": 0.05, "eps": 1e-8, "betas": (0.9, 0.999)}),
        ("finetune", torch.optim.AdamW, {"weight_decay": 1e-8, "lr": 5e-6}),
        ("transfer", torch.optim.SGD, {"weight_decay": 1e-4, "momentum": 0.9, "nesterov": True}),
    ],
)
def test_optimizer(script, recipe, kind, options):
    """
    As many elements have weight decay as in timm's model by the rule of the released code: parameters of one dimension have none. CLS
    tokens and position embeddings have three dimensions, so they have it.
    """
    training = script.training("--recipe", recipe)
    model = CrossViTForImageClassification(CrossViTConfig.from_variant("crossvit_9_dagger_240", num_labels=10))
    optimizer, _ = script.optimizer_and_schedule(model, training)
    assert type(optimizer) is kind
    groups = {group["weight_decay"]: group for group in optimizer.param_groups}
    assert groups.keys() == {0.0, options["weight_decay"]}
    decayed = groups[options["weight_decay"]]
    assert {name: decayed[name] for name in options if name != "lr"} == {k: v for k, v in options.items() if k != "lr"}
    reference = timm.create_model("crossvit_9_dagger_240", num_classes=10)
    for weight_decay, exempt in ((0.0, True), (options["weight_decay"], False)):
        expected = Counter(tuple(p.shape) for p in reference.parameters() if (p.ndim == 1) == exempt)
        # Elements are counted, not parameters, because timm keeps queries, keys and values of its self-attention in one matrix.
        expected = sum(math.prod(shape) * count for shape, count in expected.items())
        assert sum(parameter.numel() for parameter in groups[weight_decay]["params"]) == expected
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    assert any("cls_token" in name for name in decayed_names) and any("position" in name for name in decayed_names)


def test_recipes(script):
    """Recipes have the values of Table 9 for transfer and of the models for 408 pixels; an option on the command line overrides them."""
    transfer = script.training("--recipe", "transfer")
    assert (transfer.global_batch_size, transfer.random_erasing, transfer.mixup) == (768, 0.0, 0.8)
    finetune = script.training("--recipe=finetune", "--weight_decay", "0.1")
    assert (finetune.num_train_epochs, finetune.weight_decay) == (30, 0.1)
    assert script.recipe_defaults()["drop_path_rate"] == 0.1
    script.training("--recipe", "transfer")
    assert script.recipe_defaults()["drop_path_rate"] == 0.0


@pytest.mark.parametrize("on_device", [False, True])
def test_augmented_batches_are_those_of_timm(script, digits, photos, tmp_path, on_device):
    """
    timm's own loader gets the options of the released code, and other random numbers. The mean and the standard deviation of each
    channel, and the fraction of images with a box of noise, agree within four standard errors. On the device RandAugment is torchvision's,
    without two operations that change the brightness: there the means may differ by 0.06 more, and the spread of all by a fifth.
    """
    image = photos["landscape"]
    processor = CrossViTImageProcessor.from_image_size(96)
    training = script.training("--augment_on_device", str(on_device))
    transform = script.training_transform(processor, training)

    class Photos(torch.utils.data.Dataset):
        transform = None

        def __len__(self):
            return 600

        def __getitem__(self, index):
            return self.transform(image), 0

    def statistics(images: torch.Tensor) -> torch.Tensor:
        """(N, 7): means and standard deviations of the channels, and 1 for an image with a box of noise."""
        images = images.float()
        # Neighbouring pixels of a photo are similar. In noise of unit variance they differ by about 1 on average.
        rough = images.diff(dim=-1).abs().mean(dim=1)
        box = torch.nn.functional.avg_pool2d(rough[:, None], 8).flatten(1).amax(dim=1) > 1.0
        return torch.cat([images.mean((2, 3)), images.std((2, 3)), box[:, None].float()], dim=1)

    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    batch = torch.stack([transform(image) for _ in range(600)])
    if on_device:
        assert batch.dtype == torch.uint8
        augment = script.BatchAugmentation(processor, training, torch.device("cpu"))
        augment.GROUP = 1  # so that all images are independent, as the standard error has it
        batch = augment(batch)
    ours = statistics(batch)
    random.seed(2), np.random.seed(2), torch.manual_seed(2)
    loader = create_loader(
        Photos(), input_size=96, batch_size=50, is_training=True, use_prefetcher=False, num_workers=0, re_prob=0.25,
        re_mode="pixel", auto_augment="rand-m9-mstd0.5-inc1", color_jitter=0.4, interpolation="bicubic", persistent_workers=False,
    )  # fmt: skip
    timms = statistics(torch.cat([images for images, _ in loader]))
    assert len(timms) == 600
    error = ((ours.var(0) + timms.var(0)) / 600).sqrt()
    allowed = 4 * error + (0.06 if on_device else 0)
    assert ((ours.mean(0) - timms.mean(0)).abs() < allowed).all(), (ours.mean(0), timms.mean(0), error)
    assert ((ours.std(0) / timms.std(0)).log().abs() < 0.2).all(), (ours.std(0), timms.std(0))
    assert 0.1 < ours[:, 6].mean() < 0.4  # the boxes are found, in about a quarter of the images


def test_groups_share_their_operations(script, photos):
    """Copies of one crop are equal in each group of eight and differ between groups; without RandAugment they are only normalized."""
    processor = CrossViTImageProcessor.from_image_size(96)
    options = ("--augment_on_device", "true", "--random_erasing", "0")
    crops = script.training_transform(processor, script.training(*options))(photos["landscape"]).expand(80, 3, 96, 96)
    augmented = script.BatchAugmentation(processor, script.training(*options), torch.device("cpu"))(crops)
    groups = augmented.unflatten(0, (10, 8))
    assert torch.equal(groups, groups[:, :1].expand_as(groups)) and len(groups[:, 0].unique(dim=0)) > 5
    plain = script.BatchAugmentation(processor, script.training(*options, "--rand_augment", ""), torch.device("cpu"))
    expected = processor(crops[0], do_resize=False, do_center_crop=False, return_tensors="pt").pixel_values
    torch.testing.assert_close(plain(crops), expected.expand_as(crops))


def test_soft_targets_say_what_the_pixels_are(script):
    """The images are constant, so the mean of a mixed image tells the fraction of each of the two: the targets have this fraction."""
    mix = script.mixup_or_cutmix(script.training(), num_classes=10)
    images = torch.arange(8.0)[:, None, None, None].expand(8, 3, 32, 32)
    labels = torch.tensor([3, 1, 4, 0, 5, 9, 2, 6])
    np.random.seed(0)
    kinds = Counter()
    parts = []
    for _ in range(300):
        pixels, targets = mix(images.clone(), labels)
        own, other = torch.arange(8.0), torch.arange(7.0, -1.0, -1.0)
        # An image is mixed with the one at the same place from the end.
        part = ((pixels.mean((1, 2, 3)) - other) / (own - other))[:, None]
        smooth = 0.1 / 10 + 0.9 * torch.nn.functional.one_hot(labels, 10)
        torch.testing.assert_close(targets, part * smooth + (1 - part) * smooth.flip(0), rtol=0, atol=1e-5)
        kinds["cutmix" if torch.isin(pixels, images).all() and 0 < part[0] < 1 else "mixup"] += 1
        parts.append(part[0].item())
    # Each has half of the batches, within four standard errors. A cutmix with an empty box is counted as mixup.
    assert abs(kinds["mixup"] - 150) < 4 * math.sqrt(300 / 4) + 10, kinds
    assert len(set(parts)) > 200


def test_repeated_augmentation_of_four_processes(script):
    """
    Each of the shuffled images comes three times in a row, with the number of the repetition. They are dealt out to the processes in
    turn, until all processes together have as many as the data set.
    """
    samplers = [script.RepeatedAugmentationSampler(range(1000), 3, rank, 4) for rank in range(4)]
    for epoch in (0, 1):
        for sampler in samplers:
            sampler.set_epoch(epoch)
        dealt = [list(sampler) for sampler in samplers]
        order = torch.randperm(1000, generator=torch.Generator().manual_seed(epoch)).tolist()
        expected = [(index, repetition) for index in order for repetition in range(3)]
        for rank in range(4):
            assert dealt[rank] == expected[rank::4][:250]
            assert len(samplers[rank]) == 250
    without = list(script.RepeatedAugmentationSampler(range(10), 1, 0, 1))
    assert sorted(without) == [(index, 0) for index in range(10)]


def test_repetitions_differ(script, digits, tmp_path):
    training = script.training("--repeated_augmentation", "3", "--per_device_train_batch_size", "6")
    data = script.load_images(script.DataArguments(train_dir=str(digits)), seed=0, output=tmp_path)
    transform = script.training_transform(CrossViTImageProcessor.from_image_size(48), training)
    loader = script.training_loader(data, transform, training, rank=0, world_size=1)
    script.start_epoch(loader, 0)
    batch, again = next(iter(loader)), next(iter(loader))
    assert torch.equal(batch["pixel_values"], again["pixel_values"])
    assert batch["labels"][:3].unique().numel() == 1
    first, second, third = batch["pixel_values"][:3]
    assert not torch.equal(first, second) and not torch.equal(second, third)
    script.start_epoch(loader, 1)
    assert not torch.equal(batch["pixel_values"], next(iter(loader))["pixel_values"])


def grey(number: int) -> bytes:
    png = io.BytesIO()
    Image.new("L", (8, 8), number).save(png, "PNG")
    return png.getvalue()


def write_shards(folder: Path, kind: str, shards: int, images: list[tuple[bytes, int]]) -> str:
    """Writes shards as other programs do, without the features of `datasets`. Returns a pattern of the files."""
    for shard in range(shards):
        part = list(enumerate(images))[shard::shards]
        if kind == "parquet":
            table = {
                "image": [{"bytes": png, "path": None} for _, (png, _) in part],
                "label": [c for _, (_, c) in part],
            }
            pyarrow.parquet.write_table(pyarrow.table(table), folder / f"shard-{shard}.parquet")
            continue
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as tar:
            for number, (png, label) in part:
                for name, content in ((f"{number:04d}.png", png), (f"{number:04d}.cls", str(label).encode())):
                    info = tarfile.TarInfo(name)
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return str(folder / f"*.{kind}")


@pytest.mark.parametrize(("kind", "shards"), [("tar", 4), ("tar", 3), ("parquet", 4)])
def test_shards_are_divided_without_overlap(script, tmp_path, kind, shards):
    """Two processes with two workers each read every image once, even if the shards cannot be divided evenly."""
    files = write_shards(tmp_path, kind, shards, [(grey(number), number % 4) for number in range(12 * shards)])
    arguments = script.DataArguments(train_file=files, validation_file=files, streaming=True, num_classes=4)
    data = script.load_images(arguments, seed=0, output=tmp_path)
    assert data.classes == ["0", "1", "2", "3"]
    training = script.training("--per_device_train_batch_size", "1", "--dataloader_num_workers", "2")
    orders = []
    for epoch in (0, 1):
        read = []
        for rank in (0, 1):
            loader = script.training_loader(data, pil_to_tensor, training, rank, world_size=2)
            script.start_epoch(loader, epoch)
            loader.dataset.endless = False
            batches = list(loader)
            read.append([int(batch["pixel_values"][0, 0, 0, 0]) for batch in batches])
            assert all(int(batch["labels"]) == number % 4 for batch, number in zip(batches, read[-1]))
        assert sorted(read[0] + read[1]) == list(range(12 * shards))
        assert abs(len(read[0]) - len(read[1])) <= 12
        orders.append(read)
    assert orders[0] != orders[1]  # shuffled again


def test_a_stream_goes_on_with_the_next_epoch(script, tmp_path):
    """A stream gives every image once, then again in another order. A worker without a shard ends."""
    files = write_shards(tmp_path, "tar", 1, [(grey(number), 0) for number in range(12)])
    arguments = script.DataArguments(train_file=files, validation_file=files, streaming=True, num_classes=1)
    data = script.load_images(arguments, seed=0, output=tmp_path)
    training = script.training("--per_device_train_batch_size", "1", "--dataloader_num_workers", "2")
    loader = script.training_loader(data, pil_to_tensor, training, 0, world_size=1)
    script.start_epoch(loader, 0)
    read = [int(batch["pixel_values"][0, 0, 0, 0]) for batch in islice(loader, 24)]
    assert sorted(read[:12]) == sorted(read[12:]) == list(range(12))
    assert read[:12] != read[12:]
    script.start_epoch(loader, 1)
    assert [int(batch["pixel_values"][0, 0, 0, 0]) for batch in islice(loader, 12)] == read[12:]


def test_as_users_run_it(quickstart, run_example, tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    folder, _ = quickstart
    out = tmp_path / "out"
    source = ("--model_name_or_path", str(folder / "model"), "--train_dir", str(folder / "digits"))
    options = "--recipe finetune --num_train_epochs 1 --global_batch_size 32 --per_device_train_batch_size 32 --learning_rate 5e-4"
    printed = run_example(SCRIPT, *source, *options.split(), "--output_dir", str(out), check=True).stdout
    results = json.loads((out / "all_results.json").read_text())
    assert results["eval_accuracy"] >= 0.95
    assert f"accuracy {results['eval_accuracy']:.4f}" in printed
    assert not card_errors((out / "README.md").read_text())
    assert Image.open(out / "training.png").width > 1500


def test_compiled_and_augmented_on_the_device(run, run_here, monkeypatch, tmp_path):
    """
    The weights have their own names, with `--torch_compile` and where `accelerate config` asks for compilation, and a run goes on in either
    way. The compiler makes the same graphs on a GPU, and its kernels are left out here.
    """
    compile_module = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compile_module(self, backend="aot_eager"))
    out, _ = run(*SMALL_RUN, "--augment_on_device", "true", "--torch_compile", "true")
    assert json.loads((out / "run.json").read_text())["options"]["augment_on_device"] is True
    weights = load_file(out / "model.safetensors")
    assert set(weights) == set(CrossViTForImageClassification.from_pretrained(out).state_dict())
    other, _ = run(*SMALL_RUN, "--augment_on_device", "true", output="other")
    for name, weight in load_file(other / "model.safetensors").items():
        torch.testing.assert_close(weights[name], weight, atol=1e-4, rtol=1e-3, msg=name)
    monkeypatch.setenv("ACCELERATE_DYNAMO_BACKEND", "AOT_EAGER")
    asked, _ = run(*SMALL_RUN, output="asked")
    assert set(load_file(asked / "model.safetensors")) == set(weights)


def test_learns_from_a_stream_too(run, digits, quickstart, tmp_path):
    """A new head learns its three classes from a stream. The number of steps per epoch follows from --num_train_samples."""
    files = {}
    for split in ("train", "validation"):
        (tmp_path / split).mkdir()
        paths = sorted((digits / split).rglob("*.png"))
        images = [(path.read_bytes(), ("four", "one", "two").index(path.parent.name)) for path in paths]
        files[split] = write_shards(tmp_path / split, "tar", 2, images)
    data = ("--train_file", files["train"], "--validation_file", files["validation"], "--streaming")
    data += ("--num_classes", "3", "--num_train_samples", "60", "--model_name_or_path", str(quickstart[0] / "model"))
    # 20 epochs almost without augmentation end at 0.96 or more, whatever the rounding of the processor; with it, or after 8, they need not.
    options = ("--num_train_epochs", "20", "--learning_rate", "0.03", "--drop_path_rate", "0")
    options += ("--mixup", "0", "--cutmix", "0", "--rand_augment", "", "--random_erasing", "0")
    out, _ = run(*SMALL_RUN, *options, data=data)
    log = json.loads((max(out.glob("checkpoint-*")) / "log.json").read_text())
    losses = [entry["eval_loss"] for entry in log if "eval_loss" in entry]
    assert len(losses) == 20 and losses[-1] < 0.5 * losses[0]
    assert [entry["step"] for entry in log if "loss" in entry] == list(range(1, 61))  # 60 // 16 steps in each epoch
    assert json.loads((out / "all_results.json").read_text())["eval_accuracy"] >= 0.9


def test_accumulated_batches_are_one_large_batch(run):
    """Two batches of 8 give the weights of one of 16, but for the order of float32 sums. Mixup is off: it pairs images of a batch."""
    options = (*SMALL_RUN[:2], "--warmup_epochs", "0", "--global_batch_size", "16", "--mixup", "0", "--cutmix", "0")
    options += ("--drop_path_rate", "0", "--optimizer", "sgd", "--learning_rate", "0.1", "--logging_steps", "1")
    weights = {}
    for size in (16, 8):
        out, _ = run(*options, "--per_device_train_batch_size", str(size), output=f"batches of {size}")
        weights[size] = load_file(out / "model.safetensors")
    for name, weight in weights[16].items():
        torch.testing.assert_close(weights[8][name], weight, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--optimizer", "adam"), "--optimizer must be adamw or sgd, got adam"),
        (("--rand_augment", "none"), "--rand_augment must be in timm's notation, such as rand-m9-mstd0.5-inc1, or '', got none"),
        (("--rand_augment", "rand-9"), "--rand_augment must be in timm's notation"),
        (("--per_device_train_batch_size", "7"), "must be even"),
        (("--per_device_train_batch_size", "10", "--global_batch_size", "32"), "must be a multiple of --per_device_train_batch_size 10 x 1"),
        (("--streaming",), "--streaming needs --num_train_samples"),
        (("--streaming", "--num_train_samples", "60", "--repeated_augmentation", "3"), "leave out --streaming"),
        ((), "--global_batch_size 4096 is more than the number of training images, 60"),
    ],
)  # fmt: skip
def test_mistakes(run, arguments, message):
    with pytest.raises(SystemExit) as error:
        run(*arguments)
    assert message in str(error.value)


def test_help_and_typos(run, capsys):
    with pytest.raises(SystemExit):
        run("--help")
    printed = capsys.readouterr().out
    for words in ("by the paper's recipe", "--repeated_augmentation", "Images per optimizer step, over all processes"):
        assert words in printed
    for arguments, words in ((("--recipe", "imagnet"), "invalid choice: 'imagnet'"), (("--mixpu", "0"), "--mixpu 0")):
        with pytest.raises(SystemExit) as error:
            run(*arguments)
        assert error.value.code == 2 and words in capsys.readouterr().err
