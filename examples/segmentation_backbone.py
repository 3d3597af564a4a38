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
Use CrossViT as the backbone of a segmentation model: transformers' UperNet learns the regions of one photo from random weights.

    python examples/segmentation_backbone.py          about 30 seconds on two CPU cores; at least 85 % of the pixels are right

The photo ships with scikit-learn. The regions are areas of similar colour, found by k-means, because no package ships photos with
hand-drawn masks. The example shows that `out_features` chooses the feature maps, that the image may have any shape, and that the
training reaches the backbone. To start from a published model, load it by `CrossViTBackbone.from_pretrained`, which takes the folders
and repositories of the classification model, and copy its weights by `model.backbone.load_state_dict`.
"""

from dataclasses import dataclass, field
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.cluster import KMeans
from sklearn.datasets import load_sample_image
from tqdm import tqdm
from transformers import UperNetConfig, UperNetForSemanticSegmentation, set_seed
from transformers.image_utils import load_image

from crossvit import CrossViTConfig, CrossViTImageProcessor
from crossvit.configuration.files import check_writable
from crossvit.trainer import parse_arguments, plain_errors


@dataclass
class Arguments:
    image: str | None = field(default=None, metadata={"help": "Image file. By default a photo of a temple."})
    regions: int = field(default=3, metadata={"help": "Number of regions."})
    steps: int = field(default=40, metadata={"help": "Training steps, at least 1."})
    output_dir: str = field(default="outputs/segmentation_backbone", metadata={"help": "Folder for the picture."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same result on the same machine."})


def find_regions(photo: Image.Image, regions: int, seed: int) -> np.ndarray:
    """Returns the region of each pixel, (height, width), numbered from 0: a region is a cluster of colours in the blurred photo."""
    colours = np.asarray(photo.reduce(4).resize(photo.size, Image.Resampling.BILINEAR)).reshape(-1, 3)
    clusters = KMeans(regions, n_init=1, random_state=seed).fit(colours[::16])
    return clusters.predict(colours).reshape(photo.height, photo.width)


def draw_regions(photo: Image.Image, target: np.ndarray, prediction: np.ndarray, accuracy: float, output: Path):
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
    axes[0].imshow(photo)
    axes[0].set_title("photo")
    for axis, regions, title in ((axes[1], target, "regions"), (axes[2], prediction, f"predicted ({accuracy:.1%})")):
        axis.imshow(regions, cmap="viridis", vmin=0, vmax=target.max(), interpolation="nearest")
        axis.set_title(title)
    for axis in axes:
        axis.axis("off")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=110)


def run(arguments: Arguments):
    output = Path(arguments.output_dir) / "regions.png"
    if arguments.steps < 1:
        raise ValueError(f"--steps must be at least 1, got {arguments.steps}.")
    if arguments.image and not Path(arguments.image).is_file():
        raise ValueError(f"--image {arguments.image} is not a file. Give the path of a JPEG or PNG.")
    check_writable(output.parent)
    set_seed(arguments.seed)

    try:
        photo = load_image(arguments.image or Image.fromarray(load_sample_image("china.jpg")))
    except OSError as error:
        raise ValueError(f"--image {arguments.image} cannot be read: {error}.") from error
    photo = photo.resize((360, 240))
    target = find_regions(photo, arguments.regions, arguments.seed)
    image_processor = CrossViTImageProcessor(do_resize=False, do_center_crop=False)
    # The mirror image is added because batch normalisation needs two images.
    inputs = image_processor([photo, ImageOps.mirror(photo)], return_tensors="pt")
    labels = torch.from_numpy(np.stack([target, np.fliplr(target)])).long()

    # Both branches after the last stage: feature maps of 20 x 30 patches of 12 pixels, and of 14 x 21 patches of 16 pixels.
    backbone = CrossViTConfig.from_variant("crossvit_tiny_240", out_features=["small_stage3", "large_stage3"])
    model = UperNetForSemanticSegmentation(
        UperNetConfig(backbone_config=backbone, hidden_size=64, num_labels=arguments.regions, use_auxiliary_head=False)
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    progress = tqdm(range(arguments.steps), desc="training")
    for _ in progress:
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        progress.set_postfix(loss=f"{loss.item():.3f}")

    # The model stays in train mode, so that batch normalisation uses the statistics of this photo.
    with torch.no_grad():
        prediction = model(**inputs).logits.argmax(dim=1)
    accuracy = (prediction == labels).float().mean().item()
    draw_regions(photo, target, prediction[0].numpy(), accuracy, output)
    print(f"pixels in the right region: {accuracy:.1%}")
    print(f"picture: {output}")


def main():
    (arguments,) = parse_arguments(Arguments, description=__doc__.strip().split("\n\n")[0])
    with plain_errors(Path(arguments.output_dir)):
        run(arguments)


if __name__ == "__main__":
    main()
