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

    pip install "transformers-crossvit[use]"
    python search.py --model outputs/quickstart/model --folder outputs/quickstart/digits --query my_digit.png
    python search.py --model outputs/quickstart/model --folder outputs/quickstart/digits --duplicates 0.999

The folder `--output_dir` receives the features in `index.npz`, so that later runs read new and changed images only, also after Ctrl-C, and the picture
`nearest.png` with the query and the images nearest to it. Similarity is the cosine of two images' features: 1 if they are equal.
"""

import hashlib
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

import faiss
import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from scipy.cluster.hierarchy import DisjointSet
from tqdm import tqdm

from crossvit import CrossViTImageProcessor, CrossViTModel, optimize
from crossvit.configuration.files import check_writable, replace_file
from crossvit.configuration.image_files import files_below, image_mode, printable_name
from crossvit.configuration.stopping import Stopped, resumable
from crossvit.data import read_image
from crossvit.data.classes import counted
from crossvit.data.reading import decoding_error
from crossvit.data.splits import left_out_line
from crossvit.trainer import parse_arguments


BATCH_SIZE = 32


@dataclass
class Arguments:
    model: str = field(metadata={"help": "Folder or Hub repository of a model."})
    folder: str = field(metadata={"help": "Folder of images, which may lie in folders inside it."})
    query: str | None = field(default=None, metadata={"help": "Image to find the nearest images of."})
    nearest: int = field(default=8, metadata={"help": "Number of nearest images to show."})
    duplicates: float | None = field(default=None, metadata={"help": "List images of at least this similarity."})
    output_dir: str = field(default="outputs/search", metadata={"help": "Folder for the index and the picture."})


class Extractor:
    """Gives images their pooled features, scaled to length 1. Other weights or another image processor have another `identity`."""

    def __init__(self, name: str):
        self.name = name
        # Features need no classifier, and transformers would report at length that it was not used.
        CrossViTModel._keys_to_ignore_on_load_unexpected = [r"^classifier\."]
        try:
            self.image_processor = CrossViTImageProcessor.from_pretrained(name)
            model = CrossViTModel.from_pretrained(name).eval()
            self.mode = image_mode(model.config, self.image_processor)
        except (OSError, ValueError) as error:
            raise SystemExit(f"The model cannot be loaded: {error}") from error
        digest = hashlib.sha256(self.image_processor.to_json_string().encode())
        for weight in model.state_dict().values():
            digest.update(weight.contiguous().flatten().view(torch.uint8).numpy())
        self.identity = digest.hexdigest()
        self.model = optimize(model.to("cuda" if torch.cuda.is_available() else "cpu"))

    def read(self, path: str | Path) -> Image.Image:
        """An image file as the model takes it, in colour or grey."""
        return read_image({"path": str(path)}, mode=self.mode)

    @torch.inference_mode()
    def __call__(self, images: list[Image.Image]) -> np.ndarray:
        """From PIL images to (images, features)."""
        inputs = self.image_processor(images, return_tensors="pt").to(self.model.device)
        features = torch.nn.functional.normalize(self.model(**inputs).pooler_output.float(), dim=-1)
        if not features.isfinite().all():
            raise SystemExit(f"{self.name} gives features that are not finite numbers: its weights are broken.")
        return features.cpu().numpy()


def load_index(file: Path, extractor: Extractor) -> dict[str, np.ndarray]:
    """The features in the file, by key; none if there is no file. The features of another model end the program with a message."""
    if not file.exists():
        return {}
    try:
        with np.load(file) as saved:
            identity, keys, features = (saved[name] for name in ("identity", "keys", "features"))
        if features.ndim != 2 or keys.shape != features.shape[:1]:
            raise ValueError(f"{keys.shape} keys and {features.shape} features")
    except Exception as error:  # Damaged files make NumPy raise many kinds of exceptions.
        raise SystemExit(
            f"{file} is damaged, or is not an index of features ({type(error).__name__}: {error}). Remove it, and the same command reads all "
            "images anew; or give another --output_dir."
        ) from error
    if identity != extractor.identity:
        raise SystemExit(
            f"{file} has features of another model than {extractor.name}, or of its earlier weights. They cannot be compared: give another "
            "--output_dir, or remove this file."
        )
    return dict(zip(keys.tolist(), features))


def save_index(file: Path, extractor: Extractor, index: dict[str, np.ndarray]):
    file.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(file) as temporary:
        np.savez(temporary, identity=extractor.identity, keys=list(index), features=np.stack(list(index.values())))


def image_key(path: Path) -> str:
    """What an image is in the index. A file that has changed, or one of another folder, has another key."""
    try:
        found = path.stat()
    except OSError:  # a link to nothing, which cannot be read either
        return str(path)
    return f"{os.path.abspath(path)}|{found.st_size}|{found.st_mtime_ns}"


def update_index(file: Path, folder: Path, extractor: Extractor) -> tuple[list[Path], np.ndarray]:
    """
    Reads the new and the changed images of a folder into the index, and takes out images that are gone. Images that cannot be read are
    named and left out. The folder of the index is not looked at, although it may lie inside. After a signal, what was read is saved.

    Returns:
        The paths of all images, and their features, (images, features).
    """
    known, new, bad = load_index(file, extractor), {}, []
    files, left_out = files_below(folder, {file.parent.resolve(): "in --output_dir"})
    if left_out:
        print(f"left out: {left_out_line(Counter(left_out.values()))}")
    keys = {image_key(folder / path): folder / path for path in files}
    unknown = [key for key in keys if key not in known]
    try:
        for start in tqdm(range(0, len(unknown), BATCH_SIZE), desc="reading new images (batches)"):
            images = {}
            for key in unknown[start : start + BATCH_SIZE]:
                try:
                    images[key] = extractor.read(keys[key])
                except ValueError as error:
                    bad.append(
                        f"left out, because it cannot be read: {printable_name(str(keys[key]))}: {error.__cause__}"
                    )
            if images:
                new.update(zip(images, extractor(list(images.values()))))
    except Stopped:
        if new:
            save_index(file, extractor, known | new)
        raise
    known |= new
    known = {key: known[key] for key in keys if key in known}
    print(*bad, f"{counted(len(known), 'image')}, {len(new)} of them read now", sep="\n")
    if not known:
        raise SystemExit(
            f"{folder} has no image that can be read. Expected files such as {folder}/photo.jpg, also in folders inside it."
        )
    save_index(file, extractor, known)
    return [keys[key] for key in known], np.stack(list(known.values()))


def print_duplicates(index: faiss.IndexFlatIP, features: np.ndarray, paths: list[Path], least: float):
    """Prints groups of images. Each image of a group is at least so similar to another one of it."""
    groups = DisjointSet(range(len(paths)))
    for image in tqdm(range(len(paths)), desc="comparing"):
        # One by one, because all pairs may be too many for the memory. The rounding of float32 takes equal images below 1.
        _, _, similar = index.range_search(features[image : image + 1], least - 1e-6)
        for other in similar:
            groups.merge(image, int(other))
    found = [sorted(group) for group in groups.subsets() if len(group) > 1]
    print(
        f"{counted(len(found), 'group')} of similarity {least} or more; beside each image, its similarity to the first one"
    )
    for group in found:
        print(
            "",
            *(f"{features[group[0]] @ features[other]:.4f} {printable_name(str(paths[other]))}" for other in group),
            sep="\n",
        )


def draw_nearest(query: str, nearest: list[tuple[str, Path]], output: Path):
    """Draws the query, and on its right the images nearest to it, with their similarities and paths."""
    figure, axes = plt.subplots(1, 1 + len(nearest), figsize=(2.2 * (1 + len(nearest)), 3), layout="constrained")
    for axis, (title, path) in zip(axes, [("query", query), *nearest]):
        axis.imshow(read_image({"path": str(path)}))
        name = printable_name(str(path))
        axis.set(title=title, xticks=[], yticks=[], xlabel=fill(name[-66:], 22))  # long paths differ at the end
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
    try:
        check_writable(arguments.output_dir)
    except ValueError as error:
        raise SystemExit(f"--output_dir {error}") from error
    with resumable(f"the features of the images that were read are in {file.with_name('index.npz')}"):
        extractor = Extractor(arguments.model)
        paths, features = update_index(file.with_name("index.npz"), Path(arguments.folder), extractor)
        index = faiss.IndexFlatIP(features.shape[1])
        index.add(features)
        if arguments.duplicates is not None:
            print_duplicates(index, features, paths, arguments.duplicates)
        if query is not None:
            found = index.search(extractor([extractor.read(query)]), min(arguments.nearest, len(paths)))
            nearest = [(f"{similarity:.4f}", paths[image]) for similarity, image in zip(*map(np.ravel, found))]
            print(*(f"{similarity} {printable_name(str(path))}" for similarity, path in nearest), sep="\n")
            with plt.rc_context({"text.parse_math": False}):  # paths are not formulas, even if they have dollar signs
                draw_nearest(query, nearest, file)
            print(f"picture: {file}")


if __name__ == "__main__":
    main()
