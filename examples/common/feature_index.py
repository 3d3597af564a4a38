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
"""Keeps the features of the images of a folder in a file, and reads only what is new in the folder."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from common.file_writing import replace_file
from common.image_reading import image_endings, read_image
from crossvit import CrossViTImageProcessor, CrossViTModel


BATCH_SIZE = 32


class Extractor:
    """Gives images their pooled features, scaled to length 1. Other weights or another image processor have another `identity`."""

    def __init__(self, name: str):
        self.name = name
        try:
            self.image_processor = CrossViTImageProcessor.from_pretrained(name)
            model = CrossViTModel.from_pretrained(name).eval()
        except (OSError, ValueError) as error:
            raise SystemExit(f"The model cannot be loaded: {error}") from error
        digest = hashlib.sha256(self.image_processor.to_json_string().encode())
        for weight in model.state_dict().values():
            digest.update(weight.contiguous().flatten().view(torch.uint8).numpy())
        self.identity = digest.hexdigest()
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").fuse_for_inference()

    @torch.inference_mode()
    def __call__(self, images: list) -> np.ndarray:
        """From PIL images to (images, features)."""
        inputs = self.image_processor(images, return_tensors="pt").to(self.model.device)
        features = torch.nn.functional.normalize(self.model(**inputs).pooler_output.float(), dim=-1)
        if not features.isfinite().all():
            raise SystemExit(f"{self.name} gives features that are no finite numbers: its weights are broken.")
        return features.cpu().numpy()


def load_index(file: Path, extractor: Extractor) -> dict[str, np.ndarray]:
    """The features in the file, by key; none if there is no file. Those of another model end the program with a message."""
    if not file.exists():
        return {}
    try:
        with np.load(file) as saved:
            identity, keys, features = (saved[name] for name in ("identity", "keys", "features"))
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(
            f"{file} is no index of features ({error}): remove it, or give another --output_dir."
        ) from error
    if identity != extractor.identity:
        raise SystemExit(
            f"{file} has features of another model than {extractor.name}, or of its earlier weights. They cannot be compared: give another "
            "--output_dir, or remove this file."
        )
    return dict(zip(keys.tolist(), features))


def update_index(file: Path, folder: Path, extractor: Extractor) -> tuple[list[Path], np.ndarray]:
    """
    Reads the new and the changed images of a folder into the index, and takes out those that are gone. Images that cannot be read are
    named and left out. Images beside the index are no part of the folder.

    Returns:
        The paths of all images, and their features, (images, features).
    """
    known, keys, read, bad = load_index(file, extractor), {}, 0, []
    for path in sorted(folder.rglob("*")):
        if (
            path.suffix.lower() in image_endings()
            and path.is_file()
            and file.parent.resolve() not in path.resolve().parents
        ):
            # A file that has changed has another key.
            keys[f"{path.relative_to(folder)}|{path.stat().st_size}|{path.stat().st_mtime_ns}"] = path
    new = [key for key in keys if key not in known]
    for start in tqdm(range(0, len(new), BATCH_SIZE), desc="reading new images (batches)"):
        images = {}
        for key in new[start : start + BATCH_SIZE]:
            try:
                images[key] = read_image({"path": str(keys[key])})
            except ValueError as error:
                bad.append(f"left out, because it cannot be read: {keys[key]}: {error.__cause__}")
        if images:
            known.update(zip(images, extractor(list(images.values()))))
            read += len(images)
    known = {key: known[key] for key in keys if key in known}
    print(*bad, f"{len(known)} images, {read} of them read now", sep="\n")
    if not known:
        raise SystemExit(
            f"{folder} has no image that can be read. Expected files such as {folder}/photo.jpg, also in folders inside it."
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    index = {"identity": extractor.identity, "keys": list(known), "features": list(known.values())}

    def write(temporary: Path):
        with open(temporary, "wb") as opened:  # given a path, numpy would add an ending to it
            np.savez(opened, **index)

    replace_file(file, write)
    return [keys[key] for key in known], np.stack(list(known.values()))
