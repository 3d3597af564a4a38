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
CrossViT (https://huggingface.co/papers/2103.14899) for Hugging Face Transformers.

Importing this package registers it: afterwards `AutoModel`, `AutoModelForImageClassification`, `AutoImageProcessor` and
`pipeline` load CrossViT models as they load those that transformers ships.

This folder, modeling_crossvit, is installed as `crossvit`, the other two as `crossvit.configuration` and `crossvit.image_processing`
(setup.py). Imports go one way: modeling_crossvit -> image_processing -> configuration.
"""

from transformers import AutoBackbone, AutoConfig, AutoImageProcessor, AutoModel, AutoModelForImageClassification

from crossvit.configuration import CROSSVIT_VARIANTS, CrossViTConfig
from crossvit.image_processing import CrossViTImageProcessor, CrossViTImageProcessorPil
from crossvit.inference.optimized import optimize
from crossvit.modeling_crossvit import (
    CrossViTBackbone,
    CrossViTForImageClassification,
    CrossViTModel,
    CrossViTPreTrainedModel,
)
from crossvit.weights.checkpoints import convert_checkpoint


__version__ = "0.1.0"

# `exist_ok`: a later transformers may have a model type of this name; whoever imports this package wants this one.
AutoConfig.register(CrossViTConfig.model_type, CrossViTConfig, exist_ok=True)
AutoBackbone.register(CrossViTConfig, CrossViTBackbone, exist_ok=True)
AutoModel.register(CrossViTConfig, CrossViTModel, exist_ok=True)
AutoModelForImageClassification.register(CrossViTConfig, CrossViTForImageClassification, exist_ok=True)
AutoImageProcessor.register(
    CrossViTConfig,
    image_processor_classes={"torchvision": CrossViTImageProcessor, "pil": CrossViTImageProcessorPil},
    exist_ok=True,
)

__all__ = [
    "CROSSVIT_VARIANTS",
    "CrossViTBackbone",
    "CrossViTConfig",
    "CrossViTForImageClassification",
    "CrossViTImageProcessor",
    "CrossViTImageProcessorPil",
    "CrossViTModel",
    "CrossViTPreTrainedModel",
    "convert_checkpoint",
    "optimize",
]
