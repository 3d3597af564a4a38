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
"""Makes transformers' own tests importable as the package `tests`, and CrossViT known to them; lists what was skipped, and why."""

import os
import re
import sys
from collections import defaultdict

import torch
import transformers
from prepare import save_tiny_models, unpack_tests
from transformers.models.auto import modeling_auto

import crossvit


os.environ["RUN_SLOW"] = "1"  # which only means that nothing is left out
root = unpack_tests()
os.environ["TRANSFORMERS_TINY_MODEL_PATH"] = str(save_tiny_models(root / "tiny_models"))
sys.modules.pop("tests", None)
sys.path.insert(0, str(root))
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the processes of the distributed tests

# Where transformers' tests look up, by name, what a class is for: `AutoModel.register` does not fill these.
modeling_auto.MODEL_MAPPING_NAMES["crossvit"] = "CrossViTModel"
modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES["crossvit"] = "CrossViTForImageClassification"
for processor in ("CrossViTImageProcessor", "CrossViTImageProcessorPil"):
    setattr(transformers, processor, getattr(crossvit, processor))

torch.set_num_threads(1)  # the models are so small that threads only wait for each other

collect_ignore = ["stand_ins"]


def pytest_configure(config):
    marks = "accelerate_tests flash_attn_test flash_attn_3_test flash_attn_4_test torch_compile_test order slow "
    marks += "is_fsdp_test is_pipeline_test is_tensor_parallel_test is_training_test"
    for mark in marks.split():
        config.addinivalue_line("markers", f"{mark}: set by transformers' tests")


def pytest_terminal_summary(terminalreporter):
    tests_of_reason = defaultdict(list)
    for report in terminalreporter.stats.get("skipped", []):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        reason = re.sub(r"^.* is skipped: `[\w-]+` is not in", "The task is not in", reason)
        tests_of_reason[reason].append(report.nodeid.rsplit("::", 1)[-1])
    terminalreporter.section("skipped")
    for reason, tests in sorted(tests_of_reason.items(), key=lambda item: -len(item[1])):
        terminalreporter.write_line(f"{len(tests):3d}  {reason}\n     {', '.join(sorted(tests))}")
