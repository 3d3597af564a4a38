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
The names of the weights in timm's models, in the authors' release (IBM/CrossViT), and here: one table for both directions. Importing it
registers the table, and from then on `from_pretrained` reads weights with these names.

transformers applies the renamings from the top down, then the converter, and from the bottom up in the other direction. Both sides are
regular expressions; a pair may share one captured index.
"""

from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import Chunk, WeightConverter, WeightRenaming

from crossvit.configuration import CrossViTConfig


def _attention(timm: str, ours: str) -> list[WeightRenaming]:
    """The four projections of a cross-attention, behind a prefix with one captured index."""
    projections = {"wq": "q_proj", "wk": "k_proj", "wv": "v_proj", "proj": "o_proj"}
    return [WeightRenaming(rf"{timm}\.{source}\.", rf"{ours}\.{target}\.") for source, target in projections.items()]


# timm's key pattern, ours. The published models need no more than this.
CHECKPOINT_CONVERSION: list[WeightConverter | WeightRenaming] = [
    WeightRenaming(r"cls_token_(\d+)", r"embeddings\.\1\.cls_token"),
    WeightRenaming(r"pos_embed_(\d+)", r"embeddings\.\1\.position_embeddings"),
    WeightRenaming(r"patch_embed\.(\d+)\.proj\.0\.", r"embeddings\.\1\.patch_embeddings\.conv1\."),
    WeightRenaming(r"patch_embed\.(\d+)\.proj\.2\.", r"embeddings\.\1\.patch_embeddings\.conv2\."),
    WeightRenaming(r"patch_embed\.(\d+)\.proj\.4\.", r"embeddings\.\1\.patch_embeddings\.conv3\."),
    WeightRenaming(r"patch_embed\.(\d+)\.proj\.", r"embeddings\.\1\.patch_embeddings\.projection\."),
    WeightRenaming(r"revert_projs\.(\d+)\.0\.", r"fusions\.\1\.output_projection\.layernorm\."),
    WeightRenaming(r"revert_projs\.(\d+)\.2\.", r"fusions\.\1\.output_projection\.dense\."),
    WeightRenaming(r"projs\.(\d+)\.0\.", r"fusions\.\1\.input_projection\.layernorm\."),
    WeightRenaming(r"projs\.(\d+)\.2\.", r"fusions\.\1\.input_projection\.dense\."),
    WeightRenaming(r"fusion\.(\d+)\.norm1\.", r"fusions\.\1\.layernorm\."),
    *_attention(r"fusion\.(\d+)\.attn", r"fusions\.\1\.cross_attention"),
    WeightRenaming(r"(\d+)\.blocks\.", r"\1\.layers\."),
    WeightRenaming(r"blocks\.", r"stages\."),
    WeightRenaming(r"\.norm1\.", r"\.layernorm_before\."),
    WeightRenaming(r"\.norm2\.", r"\.layernorm_after\."),
    WeightRenaming(r"\.attn\.proj\.", r"\.attention\.o_proj\."),
    WeightRenaming(r"norm\.(\d+)\.", r"layernorms\.\1\."),
    WeightRenaming(r"head\.(\d+)\.", r"classifier\.heads\.\1\."),
    WeightConverter(
        source_patterns=r"\.attn\.qkv\.",
        target_patterns=[r"\.attention\.q_proj\.", r"\.attention\.k_proj\.", r"\.attention\.v_proj\."],
        operations=[Chunk(dim=0)],
    ),
]

# What no published model in timm's format has.
_OTHER_NAMES: list[WeightConverter | WeightRenaming] = [
    # The release's spelling. It is read and never written: in the other direction the rules for timm's spelling come first.
    WeightRenaming(r"cls_token\.(\d+)", r"embeddings\.\1\.cls_token"),
    WeightRenaming(r"pos_embed\.(\d+)", r"embeddings\.\1\.position_embeddings"),
    # Fusion layers after the first; `checkpoints.py` brings timm's list of fusion layers into this form.
    WeightRenaming(r"fusion\.(\d+)\.refinements\.", r"fusions\.\1\.refinements\."),
    WeightRenaming(r"refinements\.(\d+)\.norm1\.", r"refinements\.\1\.layernorm\."),
    *_attention(r"refinements\.(\d+)\.attn", r"refinements\.\1\.cls_attention"),
]

# transformers wants the later rules first in the other direction.
ALL_NAMES = [*_OTHER_NAMES, *CHECKPOINT_CONVERSION]

register_checkpoint_conversion_mapping(CrossViTConfig.model_type, ALL_NAMES, overwrite=True)

__all__ = ["ALL_NAMES", "CHECKPOINT_CONVERSION"]
