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
"""Accuracy, top-5 accuracy and macro F1 for `evaluate`, loaded by path, computed by scikit-learn."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, f1_score, top_k_accuracy_score


class SingleLabel(evaluate.Metric):
    def _info(self):
        return evaluate.MetricInfo(
            description="Accuracy, top-5 accuracy (with more than five classes) and macro F1, between 0 and 1.",
            citation="",
            inputs_description="predictions: for each image a list of scores, one per class; references: the class of each image.",
            features=datasets.Features(
                {"predictions": datasets.List(datasets.Value("float32")), "references": datasets.Value("int32")}
            ),
        )

    def _compute(self, predictions, references):
        scores = np.asarray(predictions)
        labels = scores.argmax(axis=-1)
        classes = range(scores.shape[-1])
        metrics = {
            "accuracy": accuracy_score(references, labels),
            # The mean over the classes that occur, the default of scikit-learn.
            "macro_f1": f1_score(references, labels, average="macro"),
        }
        if len(classes) > 5:
            metrics["top_5_accuracy"] = top_k_accuracy_score(references, scores, k=5, labels=classes)
        return {name: float(value) for name, value in metrics.items()}
