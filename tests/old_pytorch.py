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
"""What tests skip with an older PyTorch, and why: `make test TORCH=2.6.0`."""

import pytest
import torch
from packaging.version import Version


TORCH = Version(torch.__version__)

NEEDS_TRACING = pytest.mark.skipif(
    TORCH < Version("2.7"),
    reason="PyTorch 2.6 can neither compile nor export a model of transformers 5: it cannot trace its decorators",
)
NEEDS_ONNX = pytest.mark.skipif(TORCH < Version("2.8"), reason="transformers' exporter for ONNX needs PyTorch 2.8")
