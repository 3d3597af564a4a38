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
"""The metrics of the examples for `evaluate`, loaded by path and computed by scikit-learn. `evaluate.load("accuracy")` needs a network."""

import datasets
import evaluate
import numpy as np
from sklearn.metrics import accuracy_score, average_precision_score, f1_score, top_k_accuracy_score


class ImageClassification(evaluate.Metric):
    """
    Configurations: `single_label` gives accuracy, top-5 accuracy (with more than five classes) and macro F1; `multi_label` gives the mean
    of the average precisions of all classes that occur in the labels. All of them are between 0 and 1.
    """

    def _info(self):
        labels = datasets.Value("int32")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="",
            inputs_description="predictions: for each image a list of scores, one per class; references: the class of each image, or for "
            "several labels a list of 0 and 1.",
            features=datasets.Features(
                {
                    "predictions": datasets.List(datasets.Value("float32")),
                    "references": datasets.List(labels) if self.config_name == "multi_label" else labels,
                }
            ),
        )

    def _compute(self, predictions, references):
        scores, references = np.asarray(predictions), np.asarray(references)
        wrong = ~np.isfinite(scores).all(axis=-1)
        if wrong.any():
            raise ValueError(
                f"The scores of {wrong.sum()} of {len(scores)} images are not finite, so the training has failed. Use a smaller learning rate, "
                "or bf16 in place of fp16, in another output folder."
            )
        metrics = (
            multi_label(scores, references) if self.config_name == "multi_label" else single_label(scores, references)
        )
        return {name: float(value) for name, value in metrics.items()}


def single_label(scores: np.ndarray, references: np.ndarray) -> dict[str, float]:
    labels = scores.argmax(axis=-1)
    metrics = {
        "accuracy": accuracy_score(references, labels),
        # The mean over the classes that occur, the default of scikit-learn.
        "macro_f1": f1_score(references, labels, average="macro"),
    }
    if scores.shape[-1] > 5:
        metrics["top_5_accuracy"] = top_k_accuracy_score(references, scores, k=5, labels=range(scores.shape[-1]))
    return metrics


def multi_label(scores: np.ndarray, references: np.ndarray) -> dict[str, float]:
    occur = references.any(axis=0)
    if not occur.any():
        raise ValueError(
            "No image has a label, expected at least one: the average precision of no label is not defined. Evaluate on images with labels."
        )
    return {"mean_average_precision": average_precision_score(references[:, occur], scores[:, occur], average="macro")}
