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
Whether the model is as cheap as it should be, counted and not timed, because a count is the same on every machine: the multiply-adds of a
forward pass against Table 1 of the paper, and memory, operations and calls of modules against timm's model. And the benchmark itself: it
mixes no machines, and its tables show what it measured.

    pytest tests/test_speed.py
"""

import re
from collections import Counter
from functools import partial
from pathlib import Path

import pytest
import torch
from old_pytorch import NEEDS_TRACING

from benchmarks import check_gpu, speed
from benchmarks.measurements import Results, multiply_adds, operations, peak_bytes, this_machine
from benchmarks.parity import timm_model
from crossvit import CrossViTConfig, CrossViTForImageClassification, convert_checkpoint


README = (Path(__file__).parents[1] / "README.md").read_text()
# Variant and GFLOPs of the table of published models, which are Table 1 of the paper.
TABLE_1 = dict(re.findall(r"^\| `(crossvit_\w+)` \|(?:[^|]*\|){4} ([\d.]+) \|", README, re.M))


@pytest.mark.parametrize("variant", TABLE_1)
def test_multiply_adds(variant):
    """The paper's, up to 2 % or its last digit."""
    with torch.device("meta"):
        model = CrossViTForImageClassification(CrossViTConfig.from_variant(variant, num_labels=1000)).eval()
        pixel_values = torch.empty(1, 3, *[model.config.image_size] * 2)
    counted = multiply_adds(lambda: model(pixel_values)) / 1e9
    assert counted == pytest.approx(float(TABLE_1[variant]), rel=0.02, abs=0.05)


def test_memory():
    """No more than timm's model at the peak of a forward pass and of a training step."""
    reference, images = timm_model("crossvit_tiny_240"), torch.randn(2, 3, 240, 240)
    model = convert_checkpoint(reference.state_dict(), "crossvit_tiny_240").eval()
    expected, found = (peak_bytes(speed.without_gradients(one, images)) for one in (reference, model))
    assert found <= expected
    steps = [speed.training_step(one, images) for one in (reference, model)]
    for step in steps:
        step()  # makes the state of the optimizer
    expected, found = map(peak_bytes, steps)
    # The product of patches keeps a copy of the pixels for its gradient, where a convolution keeps the pixels that are there already.
    assert found <= expected + images.nbytes


# They compute nothing and copy nothing.
VIEWS = {
    f"aten::{name}"
    for name in (
        *(
            "view",
            "_unsafe_view",
            "t",
            "transpose.int",
            "permute",
            "expand",
            "slice.Tensor",
            "select.int",
            "unbind.int",
        ),
        *("alias", "detach"),
    )
}


def test_operations_and_calls(monkeypatch):
    """At small batches a GPU waits for the CPU, which starts each operation and calls each module: at most 5 % more of both than timm."""
    reference = timm_model("crossvit_tiny_240")
    model = convert_checkpoint(reference.state_dict(), "crossvit_tiny_240").eval()
    images, calls = torch.randn(1, 3, 240, 240), Counter()
    call = torch.nn.Module.__call__
    counts = {}
    for name, one in (("timm", reference), ("ordinary", model)):
        with torch.no_grad(), monkeypatch.context() as patched:
            patched.setattr(
                torch.nn.Module, "__call__", lambda *args, **kwargs: (calls.update([name]), call(*args, **kwargs))[1]
            )
            started = [operation for operation in operations(lambda: one(images)) if operation not in VIEWS]
        # A convolution changes the layout of the images before its product, in one operation; here these are two.
        counts[name] = len(started) + started.count("aten::convolution")
    assert counts["ordinary"] <= 1.05 * counts["timm"], counts
    assert calls["ordinary"] <= 1.05 * calls["timm"], calls


# The benchmark


def test_results_of_another_machine_are_refused(tmp_path):
    path, machine = tmp_path / "results.json", this_machine("torch")
    results = Results(path, machine)
    results.replace("training", [{"batch": 8, "seconds": {"timm": [1.0]}}, {"batch": 32, "seconds": {"timm": [2.0]}}])
    results.replace("inference", [{"batch": 1, "seconds": {"timm": [3.0]}}])
    again = Results(path, machine)
    again.replace("training", [{"batch": 8, "seconds": {"timm": [4.0]}}])
    # Nothing of an earlier measurement stays, also not of another batch.
    assert Results(path, machine).of("training") == [{"work": "training", "batch": 8, "seconds": {"timm": [4.0]}}]
    assert len(Results(path, machine).rows) == 2
    before = path.read_text()
    others = {"threads": 64, "processor": "another", "versions": {"torch": "2.0"}, "instructions": []}
    for key, value in others.items():
        with pytest.raises(ValueError, match=f"cannot be merged .* {key} .* there, .* here"):
            Results(path, {**machine, key: value})
    assert path.read_text() == before
    anew = Results(path, {**machine, "processor": "another"}, anew=True)
    assert path.read_text() == before, "until there is something new"
    anew.replace("inference", [{"batch": 1, "seconds": {"timm": [5.0]}}])
    assert len(Results(path, {**machine, "processor": "another"}).rows) == 1


def test_tables_have_the_medians_of_the_ratios(tmp_path):
    """A ratio is taken in each round: 2/1, 4/4 and 9/3 have the median 2, and their medians have the ratio 4/3."""
    results = Results(tmp_path / "results.json", this_machine("torch"))
    times = {
        "timm": [2.0, 4.0, 9.0],
        **dict.fromkeys(("TimmWrapper", "ViT", "ordinary", "optimized"), [1.0, 4.0, 3.0]),
    }
    row = {"variant": "crossvit_tiny_240", "batch": 8, "seconds": times}
    for work in ("inference float32", "training float32"):
        results.replace(work, [row])
    tables = speed.tables_of(results)
    assert tables["inference float32"].splitlines()[2:] == [
        "| `crossvit_tiny_240` | 8 | 2.0 |" + " 2.00 (1.50 to 2.50) |" * 4
    ]
    assert speed.summary_table(("inference float32", results)).splitlines() == [
        "| device | numbers | batch | model | ViT | ordinary | optimized |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| CPU | float32 | 8 | `crossvit_tiny_240` |" + " 2.00 |" * 3,
    ]


# The check on a GPU


class Rented:
    """What stands for a measurement: three cases, of which the second takes nearly all of the time, unless it is done already."""

    device = "cpu"

    def __init__(self, clock: list[float]):
        self.clock, self.called = clock, []

    def cases(self):
        for batch, seconds in ((1, 10), (8, 221), (256, 10)):
            yield "inference bfloat16", "crossvit_small_240", batch, partial(self.call, batch, seconds)

    def call(self, batch, seconds):
        self.called.append(batch)
        self.clock[0] += seconds
        return {"seconds": {"timm": [2.0], "timm, CUDA graph": [1.0], "ordinary": [2.0], "optimized": [1 / 1.4]}}


def test_a_check_ends_in_time_and_goes_on(tmp_path, monkeypatch, capsys):
    path, machine, clock = tmp_path / "results.json", this_machine("torch"), [0.0]
    monkeypatch.setattr(check_gpu.time, "monotonic", lambda: clock[0])
    first = Rented(clock)
    left = check_gpu.measure(Results(path, machine), first, deadline=240)
    assert first.called == [1, 8] and left == ["inference bfloat16 crossvit_small_240 batch 256"]
    again = Rented(clock)
    results = Results(path, machine)
    assert check_gpu.measure(results, again, deadline=clock[0] + 240) == [] and again.called == [256]
    assert [row["batch"] for row in results.of("inference bfloat16")] == [1, 8, 256]
    # 1.00 of timm's speed is enough at small batches; 1.4 times that of timm's graph is enough everywhere.
    assert check_gpu.missed_targets(results) == [
        "inference bfloat16, crossvit_small_240, batch 256: ordinary is 1.00 times as fast as timm, the target is 1.1"
    ]
    assert "| `crossvit_small_240` | 256 | 128 |" in check_gpu.gpu_part(results)


def test_a_check_without_a_gpu_says_so(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments, message in (([], "finds no GPU here"), (["--device", "cpu"], "give --quick too")):
        monkeypatch.setattr("sys.argv", ["check_gpu", *arguments])
        with pytest.raises(SystemExit):
            check_gpu.main()
        assert message in capsys.readouterr().err


@pytest.mark.slow
@NEEDS_TRACING
def test_the_check_works_at_the_first_try(monkeypatch, capfd):
    """In its quick form on the CPU: every measurement, and every table of the page. The sizes are too small for the targets."""
    pages = [speed.RESULTS.parents[1] / "README.md", speed.RESULTS.parent / "speed.md"]
    before = [page.read_bytes() for page in pages if page.exists()]
    monkeypatch.setattr("sys.argv", ["check_gpu", "--device", "cpu", "--quick"])
    check_gpu.main()
    printed = capfd.readouterr().out
    for work in (*check_gpu.COLUMNS, "files to labels", "memory", "ceiling"):
        assert re.search(rf"^{work}\b.*: measured in \d+ s$", printed, re.M), work
    for name in (*sum(check_gpu.COLUMNS.values(), ()), *check_gpu.FILES, "MiB"):
        assert name in printed, name
    assert [page.read_bytes() for page in pages if page.exists()] == before
