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
"""Runs scripts of examples/ in the process of the tests, where the process itself is not tested: that saves the imports."""

import runpy
import signal
import sys
from pathlib import Path

import pytest
from accelerate.state import AcceleratorState, GradientState


EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run_here(monkeypatch, capsys):
    """Runs a script of examples/ in this process, on the CPU, and returns what it printed."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")

    def forget_the_last_run():
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(script: str, *arguments) -> str:
        forget_the_last_run()
        monkeypatch.setattr(sys, "argv", [script, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / script), run_name="__main__")
        return capsys.readouterr().out

    yield run
    forget_the_last_run()
