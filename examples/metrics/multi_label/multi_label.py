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
"""Mean average precision for `evaluate`, loaded by path, computed by scikit-learn."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import average_precision_score


class MultiLabel(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="The mean of the average precisions of all classes that occur in the labels, between 0 and 1.",
            citation="",
            inputs_description="predictions: for each image a list of scores, one per class; references: such lists of 0 and 1.",
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float32")),
                    "references": datasets.List(datasets.Value("int32")),
                }
            ),
        )

    def _compute(self, predictions, references):
        references = np.asarray(references)
        occur = references.any(axis=0)
        if not occur.any():
            raise ValueError(
                "No image has a label, expected at least one: the average precision of no label is not defined. Evaluate on images with labels."
            )
        precision = average_precision_score(references[:, occur], np.asarray(predictions)[:, occur], average="macro")
        return {"mean_average_precision": float(precision)}
