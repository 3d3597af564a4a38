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
A run of `Trainer` with `CompleteCheckpoints` continues from a complete checkpoint: after a failure in any file of a checkpoint, and
after an explicit return to an earlier one. The reference are an undisturbed run and the files in the folders.
tests/examples/test_nothing_lost.py kills whole runs.

    pytest tests/modeling_crossvit/test_trainer.py          about 10 seconds
"""

import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import PartialState
from PIL import Image
from safetensors.torch import load_file
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_utils import HPSearchBackend

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.data import ImageData
from crossvit.trainer import (
    COMPLETE,
    CompleteCheckpoints,
    CrossViTTrainer,
    ModelArguments,
    check_run,
    complete_checkpoints,
    compute_metrics,
    draw,
    draw_training,
    last_complete_checkpoint,
    load_image_processor,
    plain_errors,
)


@pytest.fixture
def train(config, tmp_path):
    """Trains four steps on images of random numbers, with a checkpoint after each step. Returns the output folder."""

    def train(*callbacks: TrainerCallback, resume_from=None, output: str = "out", limit: int | None = 1) -> Path:
        torch.manual_seed(0)
        images = [{"pixel_values": torch.randn(3, 48, 48), "labels": label} for label in range(4)]
        arguments = TrainingArguments(
            str(tmp_path / output),
            max_steps=4,
            save_steps=1,
            per_device_train_batch_size=1,
            learning_rate=1e-2,
            report_to="none",
            use_cpu=True,
            disable_tqdm=True,
        )
        callbacks = [CompleteCheckpoints(limit), *callbacks]
        model = CrossViTForImageClassification(config)
        trainer = CrossViTTrainer(model, arguments, train_dataset=images, callbacks=callbacks)
        trainer.train(resume_from_checkpoint=resume_from and str(resume_from))
        return tmp_path / output

    return train


@pytest.fixture(scope="module")
def known_weights() -> dict[str, torch.Tensor]:
    """The weights of an undisturbed run, which all tests share."""
    return {}


def checkpoint_names(output: Path) -> set[str]:
    return {path.name for path in output.glob("checkpoint-*")}


def failing_at(path_end: str, write):
    """Writes like `write`, but of one file only the first bytes, as on a full disk."""

    def failing_write(*arguments, **options):
        for argument in arguments:
            if str(argument).endswith(path_end):
                Path(argument).write_bytes(b"half")
                raise OSError(28, "No space left on device")
        return write(*arguments, **options)

    return failing_write


@pytest.mark.parametrize(
    "file", ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
)
def test_a_failure_in_any_file_leaves_the_previous_checkpoint(train, tmp_path, monkeypatch, known_weights, file):
    """Even if only one checkpoint is kept. The continued run reaches the weights of an undisturbed one."""
    with monkeypatch.context() as full_disk:
        for name in ("torch.save", "transformers.modeling_utils.safe_save_file"):
            module, function = name.rsplit(".", 1)
            original = getattr(__import__(module, fromlist=[function]), function)
            full_disk.setattr(name, failing_at(f"checkpoint-3/{file}", original))
        full_disk.setattr(TrainerState, "save_to_json", failing_at(f"checkpoint-3/{file}", TrainerState.save_to_json))
        with pytest.raises(OSError, match="No space left"):
            train()
    out = tmp_path / "out"
    assert checkpoint_names(out) == {"checkpoint-2", "checkpoint-3"}
    assert last_complete_checkpoint(out) == out / "checkpoint-2"

    train(resume_from=last_complete_checkpoint(out))
    assert checkpoint_names(out) == {"checkpoint-4"}
    if not known_weights:
        known_weights.update(load_file(train(output="undisturbed") / "checkpoint-4" / "model.safetensors"))
    weights = load_file(out / "checkpoint-4" / "model.safetensors")
    assert [name for name, weight in known_weights.items() if not torch.equal(weights[name], weight)] == []


def test_return_to_an_earlier_checkpoint(train):
    """A run that is told to continue from step 2, and is killed before it saves, continues from step 2 again, not from step 4."""

    class Kill(TrainerCallback):
        def on_step_begin(self, *_, **__):
            raise KeyboardInterrupt

    out = train(limit=None)
    assert checkpoint_names(out) == {f"checkpoint-{step}" for step in (1, 2, 3, 4)}
    assert last_complete_checkpoint(out) == out / "checkpoint-4"
    with pytest.raises(KeyboardInterrupt):
        train(Kill(), resume_from=out / "checkpoint-2", limit=None)
    assert last_complete_checkpoint(out) == out / "checkpoint-2"


def save(output: Path, step: int, limit: int | None, best: Path | None = None):
    """What `CompleteCheckpoints` does after `Trainer` has written a checkpoint."""
    (output / f"checkpoint-{step}").mkdir(parents=True)
    state = TrainerState(global_step=step, best_model_checkpoint=best and str(best))
    CompleteCheckpoints(limit).on_save(TrainingArguments(str(output), use_cpu=True), state, None)


@pytest.mark.parametrize(
    ("limit", "best", "kept"),
    [
        (None, None, {8, 9, 10, 11}),
        (2, None, {10, 11}),
        (2, 8, {8, 11}),
        (1, None, {11}),
        # transformers keeps the best checkpoint in addition to the newest.
        (1, 9, {9, 11}),
        (5, 8, {8, 9, 10, 11}),
    ],
)
def test_save_total_limit(tmp_path, limit, best, kept):
    for step in (8, 9, 10):
        save(tmp_path, step, limit=None)
    save(tmp_path, 11, limit, best and tmp_path / f"checkpoint-{best}")
    assert checkpoint_names(tmp_path) == {f"checkpoint-{step}" for step in kept}


def test_remnants_of_killed_runs_are_not_counted(tmp_path):
    """Incomplete checkpoints of earlier steps are removed; folders with other names stay."""
    save(tmp_path, 2, limit=2)
    for name in ("checkpoint-1", "checkpoint-3", "checkpoint-of-mine"):
        (tmp_path / name).mkdir()
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-2"
    save(tmp_path, 4, limit=2)
    assert checkpoint_names(tmp_path) == {"checkpoint-2", "checkpoint-4", "checkpoint-of-mine"}


def test_no_checkpoint(tmp_path):
    assert last_complete_checkpoint(tmp_path / "absent") is None


def test_all_processes_have_written_before_the_mark(tmp_path, monkeypatch):
    """And older checkpoints are removed after that."""
    save(tmp_path, 1, limit=1)

    def wait_for_everyone(state):
        assert not (tmp_path / "checkpoint-2" / COMPLETE).exists()
        assert (tmp_path / "checkpoint-1" / COMPLETE).exists()
        waited.append(True)

    waited = []
    monkeypatch.setattr(PartialState, "wait_for_everyone", wait_for_everyone)
    save(tmp_path, 2, limit=1)
    assert waited and checkpoint_names(tmp_path) == {"checkpoint-2"}


def test_trainer_must_not_remove_checkpoints(tmp_path):
    arguments = TrainingArguments(str(tmp_path), save_total_limit=2, use_cpu=True)
    with pytest.raises(ValueError, match="save_total_limit is 2, expected None: give it to CompleteCheckpoints"):
        CompleteCheckpoints(2).on_train_begin(arguments, TrainerState(), None)


@pytest.mark.parametrize("name", [None, "trial [a]"])
def test_hyperparameter_search(config, tmp_path, monkeypatch, name):
    """Each trial keeps as many checkpoints as were asked for, in its own folder. Those of another run in the folder above stay as they are."""
    monkeypatch.setattr("transformers.integrations.hp_params", lambda trial: {})  # optuna is not installed
    save(tmp_path, 9, limit=None)
    arguments = TrainingArguments(
        str(tmp_path), max_steps=3, save_steps=1, per_device_train_batch_size=1, report_to="none", use_cpu=True, disable_tqdm=True
    )  # fmt: skip
    images = [{"pixel_values": torch.zeros(3, 48, 48), "labels": label} for label in range(3)]
    trainer = CrossViTTrainer(
        None, arguments, train_dataset=images, callbacks=[CompleteCheckpoints(2)], model_init=lambda: CrossViTForImageClassification(config)
    )  # fmt: skip
    trainer.hp_search_backend, trainer.hp_space = HPSearchBackend.OPTUNA, lambda trial: {}
    trainer.hp_name = name and (lambda trial: f"{name} {trial.number}")
    folders = [tmp_path / (f"{name} {number}" if name else f"run-{number}") for number in range(2)]
    save(folders[1], 7, limit=None)  # of an earlier search
    for number in range(2):
        trainer.train(trial=SimpleNamespace(number=number, params={}))
    for folder in folders:
        assert {path.name for path in complete_checkpoints(folder)} == {"checkpoint-2", "checkpoint-3"}
    assert last_complete_checkpoint(tmp_path) == tmp_path / "checkpoint-9"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_training_in_16_bits_is_a_warning(config, tmp_path, dtype):
    arguments = TrainingArguments(str(tmp_path), max_steps=1, save_strategy="no", report_to="none", use_cpu=True)
    images = [{"pixel_values": torch.zeros(3, 48, 48, dtype=dtype), "labels": 0}] * 8
    model = CrossViTForImageClassification(config).to(dtype)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        CrossViTTrainer(model, arguments, train_dataset=images).train()
        is_warned = [
            str(dtype) in str(warning.message) for warning in caught if "weights to train" in str(warning.message)
        ]
        assert is_warned == ([] if dtype == torch.float32 else [True])


# --- runs, models and reports ---


@pytest.mark.parametrize("multi_label", [False, True])
def test_scores_that_are_not_finite(multi_label):
    scores = np.zeros((4, 8))
    scores[1] = np.nan
    references = np.eye(8, dtype=int)[:4] if multi_label else [0, 1, 2, 3]
    with pytest.raises(ValueError, match="The scores of 1 of 4 images are not finite, so the training has failed"):
        compute_metrics(scores, np.array(references))


def test_names_are_no_formulas(tmp_path):
    names = ["$x_", "50%_", "two\nlines", "$\\frac$"]
    log = [{"step": 1, "loss": 1.0, "eval_accuracy": 0.5}]
    labels = np.arange(4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draw(draw_training, log, "accuracy", tmp_path / "a.png", labels, labels, names)
    assert Image.open(tmp_path / "a.png").width > 1000
    with pytest.warns(UserWarning, match="could not be drawn, all else is saved: .*FileNotFoundError"):
        draw(draw_training, log, "accuracy", tmp_path / "no" / "a.png")


def test_a_folder_with_another_run(tmp_path):
    """What differs is said. A folder without results may be taken."""
    data = ImageData({}, ["a", "b"], False, "1")
    check_run(tmp_path, data, {"learning_rate": 0.1, "images_per_step": 8})
    check_run(tmp_path, data, {"learning_rate": 0.1, "images_per_step": 16})  # nothing was trained yet
    (tmp_path / "checkpoint-1").mkdir()
    check_run(tmp_path, data, {"learning_rate": 0.1, "images_per_step": 16})
    other = ImageData({}, ["a", "c"], False, "2")
    before = (tmp_path / "run.json").read_text()
    with pytest.raises(ValueError) as error:
        check_run(tmp_path, other, {"learning_rate": 0.2, "images_per_step": 8})
    for part in (
        "the training images or their labels",
        "the classes: a, b, now a, c",
        "learning_rate: 0.1, now 0.2",
        "images_per_step: 16, now 8",
    ):
        assert part in str(error.value)
    assert (tmp_path / "run.json").read_text() == before


def test_another_image_size_keeps_the_preprocessing(tmp_path):
    """Also the part of the image that is shown, whether the size is that of the shorter side or of both."""
    config, load = CrossViTConfig.from_variant("crossvit_tiny_240"), load_image_processor
    for name, size, expected in (("side", {"shortest_edge": 240}, {"shortest_edge": 480}), ("sides", {"height": 250, "width": 300}, {"height": 500, "width": 600})):  # fmt: skip
        CrossViTImageProcessor(size=size, crop_size={"height": 240, "width": 240}, resample=2).save_pretrained(
            tmp_path / name
        )
        changed = load(ModelArguments(str(tmp_path / name), image_size=480), config)
        assert {side: changed.size[side] for side in expected} == expected and changed.resample == 2
        assert changed.crop_size["height"] == changed.crop_size["width"] == 480


def test_ctrl_c_is_one_line_where_it_does_not_save(tmp_path, capsys):
    with pytest.raises(SystemExit) as end, plain_errors(tmp_path):
        raise KeyboardInterrupt
    assert end.value.code == 130
    assert capsys.readouterr().err == "\nCtrl-C: the same command starts from the beginning.\n"
