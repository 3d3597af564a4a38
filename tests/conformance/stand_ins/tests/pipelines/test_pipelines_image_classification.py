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
"""Stand-in: compares the pipeline with the image processor and the model, called one after the other."""

import torch
from fetch_hub_objects_for_ci import url_to_local_path
from transformers import ImageClassificationPipeline
from transformers.image_utils import load_image


class ImageClassificationPipelineTests:
    def get_test_pipeline(self, model, tokenizer=None, image_processor=None, dtype="float32", **processors):
        pipeline = ImageClassificationPipeline(model=model, image_processor=image_processor, dtype=dtype, top_k=3)
        photo = url_to_local_path("photo")
        return pipeline, [load_image(photo), photo, load_image(photo).convert("L")]

    def run_pipeline_test(self, pipeline, examples):
        for example, outputs in zip(examples, pipeline(examples), strict=True):
            inputs = pipeline.image_processor(load_image(example), return_tensors="pt").to(pipeline.dtype)
            with torch.no_grad():
                scores = pipeline.model(**inputs).logits[0].float().softmax(-1)
            values, indices = scores.topk(3)
            assert [output["label"] for output in outputs] == [
                pipeline.model.config.id2label[i.item()] for i in indices
            ]
            torch.testing.assert_close(torch.tensor([output["score"] for output in outputs]), values)
        assert len(pipeline(examples, batch_size=2)) == len(examples)
