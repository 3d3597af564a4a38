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
Makes transformers' own tests, and those that the contribution brings, importable as the package `tests`, and makes CrossViT known to
them. README.md explains this folder.
"""

import os
import sys

import torch
import transformers
from prepare import save_tiny_models, unpack_tests
from transformers.models.auto import modeling_auto

import crossvit


os.environ["RUN_SLOW"] = "1"  # with it, transformers' tests leave nothing out
root = unpack_tests()
os.environ["TRANSFORMERS_TINY_MODEL_PATH"] = str(save_tiny_models(root / "tiny_models"))
sys.modules.pop("tests", None)
sys.path[:0] = [str(root), str(root / "utils")]
os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # for the processes of the distributed tests

# transformers' tests look up in these what a class is for, by its name. `AutoModel.register` does not fill them.
modeling_auto.MODEL_MAPPING_NAMES["crossvit"] = "CrossViTModel"
modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES["crossvit"] = "CrossViTForImageClassification"
modeling_auto.MODEL_FOR_BACKBONE_MAPPING_NAMES["crossvit"] = "CrossViTBackbone"
# The tests of the contribution import the classes from transformers.
for name in crossvit.__all__:
    if name.startswith("CrossViT"):
        setattr(transformers, name, getattr(crossvit, name))
transformers.CrossViTPreTrainedModel = crossvit.CrossViTPreTrainedModel

torch.set_num_threads(1)  # the models are so small that threads only wait for each other

collect_ignore = ["stand_ins", "in_the_tree"]


def pytest_configure(config):
    config.pluginmanager.import_plugin("skips")
    marks = "accelerate_tests flash_attn_test flash_attn_3_test flash_attn_4_test torch_compile_test order slow "
    marks += "is_fsdp_test is_pipeline_test is_tensor_parallel_test is_training_test"
    for mark in marks.split():
        config.addinivalue_line("markers", f"{mark}: set by transformers' tests")
    if config.option.markexpr == "not slow":  # comes from pyproject.toml, and is about our own tests
        config.option.markexpr = ""
