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
For all 11 published models, and for two small ones with several fusion layers and with three branches, the logits and the numbers of
parameters are those of the authors' released code (IBM/CrossViT). The release is not needed, because released_code.json holds what it
computes in float64 for weights and images that follow from a formula. The weights carry the release's own names and go through
`convert_checkpoint`, so their conversion is proved as well.

The formula: a tensor has a number k. Its element i, counted row by row from 0, is v = 2 f - 1, where f is the fractional part of
43758.5453 sin(12.9898 i + 78.233 k). The images, of shape (2, 3, size, size), are 2 v with k = 0. For a weight, k is the position of its
name in alphabetical order, from 1, and its values are

    1.2 (sqrt(3 / n) v)    if it has two dimensions or more, where n is the number of elements of `weight[0]`,
    1 + 0.3 v              if it is the weight of a LayerNorm with `norm` in its name,
    0.3 v                  otherwise, also for all CLS tokens and position embeddings,

rounded to float32. The products are those of float64, in the order of the brackets. For each case the file has the size of the images,
the number of parameters, the first ten logits of both images, and the largest logit. The small cases have the `arguments` of the released
constructor. There, `depth` is [N, M, L] in each stage, L = 0 stands for one fusion layer, and the last of `mlp_ratio` is not used. The case
"T2T stem" is for research/tests/test_fusion_schemes.py.

    pytest tests/modeling_crossvit/test_released_code.py              10 seconds
    pytest tests/modeling_crossvit/test_released_code.py -m slow      the five large models: 15 seconds, 2.6 GB of memory
"""

import json
import math
from pathlib import Path

import pytest
import torch
from small_models import LARGE, with_names_of_the_release

from crossvit import CrossViTConfig, CrossViTForImageClassification, convert_checkpoint
from crossvit.weights.checkpoints import to_timm_state_dict


CASES = json.loads((Path(__file__).parent / "released_code.json").read_text())
del CASES["T2T stem"]
# The file has twelve digits, and the difference here is 2e-12 of the largest logit. Where the sine has another last bit (as in the C
# library), some weights in a million are rounded to another float32. That makes a difference of 7e-11.
LIMIT = 1e-10


def numbers(shape: tuple[int, ...], k: int) -> torch.Tensor:
    """The values v of the formula."""
    index = torch.arange(math.prod(shape), dtype=torch.float64)
    values = 43758.5453 * torch.sin(12.9898 * index + 78.233 * k)
    return (2 * (values - values.floor()) - 1).view(shape)


def weight(name: str, shape: tuple[int, ...], k: int) -> torch.Tensor:
    values = numbers(shape, k)
    if len(shape) > 1 and "pos_embed" not in name and "cls_token" not in name:
        values = 1.2 * (math.sqrt(3 / math.prod(shape[1:])) * values)
    elif "norm" in name and name.endswith("weight"):
        values = 1 + 0.3 * values
    else:
        values = 0.3 * values
    return values.float()


def configuration(name: str, arguments: dict | None) -> CrossViTConfig:
    if arguments is None:
        return CrossViTConfig.from_variant(name, num_labels=1000)
    *depths, fusion_layers = arguments["depth"][0]
    return CrossViTConfig(
        image_sizes=arguments["img_size"],
        patch_sizes=arguments["patch_size"],
        hidden_sizes=arguments["embed_dim"],
        num_stages=len(arguments["depth"]),
        depths=depths,
        num_fusion_layers=max(1, fusion_layers),
        num_attention_heads=arguments["num_heads"],
        mlp_ratios=arguments["mlp_ratio"][:-1],
        qkv_bias=arguments["qkv_bias"],
        num_labels=arguments["num_classes"],
    )


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in CASES]
)
@torch.no_grad()
def test_equal_to_the_released_code(name):
    case = CASES[name]
    config = configuration(name, case.get("arguments"))
    with torch.device("meta"):  # for the names and shapes alone
        released = with_names_of_the_release(to_timm_state_dict(CrossViTForImageClassification(config)))
    weights = {key: weight(key, released[key].shape, k) for k, key in enumerate(sorted(released), start=1)}
    # A published variant is found from the shapes.
    model = convert_checkpoint(weights, config=config if "arguments" in case else None).double()
    assert sum(parameter.numel() for parameter in model.parameters()) == case["parameters"]

    size = case["image_size"]
    logits = model(2 * numbers((2, 3, size, size), 0)).logits
    expected = torch.tensor(case["logits"], dtype=torch.float64)
    torch.testing.assert_close(logits[:, :10], expected, rtol=0, atol=LIMIT * case["largest"])
    assert logits.abs().max().item() == pytest.approx(case["largest"], rel=LIMIT)
