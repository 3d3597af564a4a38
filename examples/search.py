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
Find images that look alike, by the features of a model.

    pip install faiss-cpu
    python examples/search.py --model outputs/quickstart/model --folder outputs/quickstart/digits --query my_digit.png
    python examples/search.py --model outputs/quickstart/model --folder outputs/quickstart/digits --duplicates 0.999

The folder `--output_dir` receives the features in `index.npz`, so that later runs read new and changed images only, and the picture
`nearest.png` with the query and the images nearest to it. Similarity is the cosine of two images' features: 1 if they are equal.
"""

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

import faiss
import matplotlib.pyplot as plt
import numpy as np
from scipy.cluster.hierarchy import DisjointSet
from tqdm import tqdm

from common.command_line import parse_arguments
from common.feature_index import Extractor, update_index
from common.image_reading import decoding_error, read_image
from common.training_report import draw


@dataclass
class Arguments:
    model: str = field(metadata={"help": "Folder or Hub repository of a model."})
    folder: str = field(metadata={"help": "Folder of images, which may lie in folders inside it."})
    query: str | None = field(default=None, metadata={"help": "Image to find the nearest images of."})
    nearest: int = field(default=8, metadata={"help": "Number of nearest images to show."})
    duplicates: float | None = field(default=None, metadata={"help": "List images of at least this similarity."})
    output_dir: str = field(default="outputs/search", metadata={"help": "Folder for the index and the picture."})


def print_duplicates(index: faiss.IndexFlatIP, features: np.ndarray, paths: list[Path], least: float):
    """Prints groups of images. Each image of a group is at least so similar to another one of it."""
    groups = DisjointSet(range(len(paths)))
    for number in tqdm(range(len(paths)), desc="comparing"):
        # One by one, because all pairs may be too many for the memory. The rounding of float32 takes equal images below 1.
        _, _, similar = index.range_search(features[number : number + 1], least - 1e-6)
        for other in similar:
            groups.merge(number, int(other))
    found = [sorted(group) for group in groups.subsets() if len(group) > 1]
    print(f"{len(found)} groups of similarity {least} or more; beside each image, its similarity to the first one")
    for group in found:
        print("", *(f"{features[group[0]] @ features[other]:.4f} {paths[other]}" for other in group), sep="\n")


def draw_nearest(query: str, nearest: list[tuple[str, Path]], output: Path):
    """Draws the query, and on its right the images nearest to it, with their similarities and paths."""
    figure, axes = plt.subplots(1, 1 + len(nearest), figsize=(2.2 * (1 + len(nearest)), 3), layout="constrained")
    for axis, (title, path) in zip(axes, [("query", query), *nearest]):
        axis.imshow(read_image({"path": str(path)}))
        axis.set(title=title, xticks=[], yticks=[], xlabel=fill(str(path)[-66:], 22))  # long paths differ at the end
    figure.savefig(output, dpi=110)


def main():
    (arguments,) = parse_arguments(Arguments, description=__doc__.split("\n\n")[0])
    query, file = arguments.query, Path(arguments.output_dir) / "nearest.png"
    if query is None and arguments.duplicates is None:
        raise SystemExit("Nothing to do: give --query IMAGE, --duplicates SIMILARITY (such as 0.999), or both.")
    if query is not None and (problem := decoding_error({"path": query})):
        raise SystemExit(f"--query {query} cannot be read: {problem}. Expected an image such as photo.jpg.")
    if arguments.nearest < 1 or arguments.duplicates is not None and not 0 < arguments.duplicates <= 1:
        raise SystemExit("--nearest must be at least 1, and --duplicates more than 0 and at most 1.")
    extractor = Extractor(arguments.model)
    paths, features = update_index(file.with_name("index.npz"), Path(arguments.folder), extractor)
    index = faiss.IndexFlatIP(features.shape[1])
    index.add(features)
    if arguments.duplicates is not None:
        print_duplicates(index, features, paths, arguments.duplicates)
    if query is not None:
        found = index.search(extractor([read_image({"path": query})]), min(arguments.nearest, len(paths)))
        nearest = [(f"{similarity:.4f}", paths[number]) for similarity, number in zip(*map(np.ravel, found))]
        print(*(f"{similarity} {path}" for similarity, path in nearest), sep="\n")
        draw(draw_nearest, query, nearest, file)
        print(f"picture: {file}")


if __name__ == "__main__":
    main()
