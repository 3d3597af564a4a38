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
Images and their classes, from folders, tables of paths, parquet and WebDataset shards, and the Hub. Needs the packages of
`pip install "transformers-crossvit[training]"`.

    from crossvit.data import DataArguments, EvaluationTransform, load_images
    data = load_images(DataArguments(train_dir="photos"))  # photos/CLASS/IMAGE.jpg; a part of each class is held out
    samples = data.with_transform("train", EvaluationTransform(image_processor))

`data.classes` has the names of the classes, `data.splits` the encoded images of `train` and `validation` with the names of their classes,
and `samples[0]` a dictionary of `pixel_values` (3, height, width) and `labels`. The way of an image:

    sources    finds it, whatever the source is
    splits     has its label as a name, and divides training from evaluation images
    copies     finds images that are there twice
    classes    compares the names of all splits with each other and with a model
    checks     leaves it out if it cannot be read
    loading    does all of this as `DataArguments` say
    samples    transforms it, in a worker
    reading    decodes it, as transformers' pipelines do
    parts      divides images without labels into parts that the processes of a batch job read

Mistakes in files, labels and options are ValueErrors, whose messages name the options of the training scripts of `examples/`.
"""

from crossvit.data.checks import print_bad_images
from crossvit.data.loading import DataArguments, ImageData, load_images
from crossvit.data.parts import Part, list_parts
from crossvit.data.reading import decode_jpegs, read_image
from crossvit.data.samples import EpochCallback, EvaluationTransform


__all__ = [
    "DataArguments",
    "EpochCallback",
    "EvaluationTransform",
    "ImageData",
    "Part",
    "decode_jpegs",
    "list_parts",
    "load_images",
    "print_bad_images",
    "read_image",
]
