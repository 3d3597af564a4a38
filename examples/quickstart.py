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
Train a small CrossViT on real handwritten digits, save it, load it back through `pipeline`, and see where it looked.

    python examples/quickstart.py                           about 2 minutes on two CPU cores: test accuracy at least 0.97
    python examples/quickstart.py --train_dir my_photos     a folder with one folder of images per class
    python examples/quickstart.py --dataset_name cifar10    any image classification data set on the Hub

The digits are the 1,797 scans that ship with scikit-learn, so nothing is downloaded. The folder `--output_dir` receives the images,
the model with its image processor, the metrics, and the picture `where_it_looked.png`. This example shows every step on one page; to
train larger models on larger data, see the other examples.
"""

from dataclasses import dataclass, field
from pathlib import Path
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch.utils.data import default_collate
from torchvision.transforms import v2
from tqdm import tqdm
from transformers import Trainer, TrainingArguments, pipeline, set_seed

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor
from crossvit.configuration.files import check_writable
from crossvit.data import DataArguments, EpochCallback, EvaluationTransform, load_images, read_image
from crossvit.data.classes import counted
from crossvit.data.reading import image_name
from crossvit.explain import attention_maps, branch_names, draw_over, scale_end, visible
from crossvit.hub import complete_model_card
from crossvit.trainer import compute_metrics, draw, parse_arguments, plain_errors, print_results


@dataclass
class Arguments:
    dataset_name: str | None = field(
        default=None, metadata={"help": "Name of an image classification data set on the Hub."}
    )
    train_dir: str | None = field(default=None, metadata={"help": "Folder of images, with one folder per class."})
    label_column_name: str | None = field(
        default=None, metadata={"help": "Column of classes. By default the only one that is recognized."}
    )
    output_dir: str = field(default="outputs/quickstart", metadata={"help": "Folder for all files that are written."})
    image_size: int = field(default=72, metadata={"help": "Pixels per side of the model's input, a multiple of 12."})
    num_train_epochs: int = field(default=12, metadata={"help": "How often each training image is seen."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Images per optimizer step."})
    dataloader_num_workers: int = field(default=0, metadata={"help": "Number of processes that read images."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "Largest learning rate, after the warm-up."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same result on the same machine."})


def write_digits(folder: Path):
    """Writes scikit-learn's scans as `folder/split/label/number.png`. A quarter of each class is held out, always the same."""
    digits = load_digits()
    indices = np.arange(len(digits.target))
    train, test = train_test_split(indices, test_size=0.25, stratify=digits.target, random_state=0)
    for split, members in (("train", train), ("test", test)):
        for index in tqdm(members, desc=f"writing {split} images"):
            path = folder / split / str(digits.target[index]) / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray((digits.images[index] * 255 / 16).astype(np.uint8)).save(path)


def build_model(labels: list[str], image_size: int) -> CrossViTForImageClassification:
    """Builds a CrossViT for small images and little data. It has a tenth of the parameters of the smallest published one."""
    config = CrossViTConfig(
        # The large branch sees about 8/9 of the size, in whole patches of 16 pixels.
        image_sizes=[image_size, 16 * max(1, round(image_size / 18))],
        hidden_sizes=[64, 96],
        num_stages=2,
        depths=[1, 2],
        num_attention_heads=[4, 4],
        mlp_ratios=[2.0, 2.0],
        use_convolutional_stem=True,  # needs less data than a linear projection of patches
        initializer_range=0.1,  # about 1 / sqrt(width); with the published 0.02, made for wider models, training is slow
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    return CrossViTForImageClassification(config)


class Augmentation:
    """Small turns, shifts and changes of size, then the image processor: PIL image to (3, height, width)."""

    def __init__(self, image_processor: CrossViTImageProcessor):
        self.augment = v2.RandomAffine(degrees=10, translate=(0.1, 0.1), scale=(0.9, 1.1))
        self.evaluation = EvaluationTransform(image_processor)

    def __call__(self, image: Image.Image) -> torch.Tensor:
        return self.evaluation(self.augment(image))


def draw_attention(
    classifier, images: list[Image.Image], classes: list[str], predictions: list[list[dict]], output: Path
):
    """Draws images with their prediction, and the cross-attention to the patches of both branches in the last stage, averaged over the heads."""
    model, image_processor = classifier.model, classifier.image_processor
    pixel_values = image_processor(images, return_tensors="pt").pixel_values
    looked_at = attention_maps(model, pixel_values)
    end = max(scale_end(maps) for maps in looked_at)  # one scale for all maps
    colours = [visible(image, image_processor) for image in pixel_values]
    figure, axes = plt.subplots(
        3, len(images), figsize=(2 + 1.5 * len(images), 5.2), layout="constrained", squeeze=False
    )
    for axis, image, true_class, prediction in zip(axes[0], colours, classes, predictions):
        label, score = prediction[0]["label"], prediction[0]["score"]
        axis.imshow(image.numpy())
        axis.set_title(fill(f"{label}  {score:.1%}", 18), fontsize=10, color="black" if label == true_class else "red")
    for row, maps in zip(axes[1:], looked_at):
        for axis, image, values in zip(row, colours, maps):
            drawn = draw_over(axis, image, values, end)
    figure.colorbar(drawn, ax=axes, label="attention, × mean", shrink=0.6).ax.set_facecolor("grey")
    for axis, name in zip(axes[:, 0], ("image", *(f"patches of the\n{branch}" for branch in branch_names(model)))):
        axis.set_ylabel(name, fontsize=10)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    figure.savefig(output, dpi=120)


def run(arguments: Arguments):
    set_seed(arguments.seed)
    output = Path(arguments.output_dir)
    check_writable(output)

    if arguments.dataset_name is None and arguments.train_dir is None:
        arguments.train_dir = str(output / "digits")
        write_digits(output / "digits")
    source = DataArguments(
        dataset_name=arguments.dataset_name,
        train_dir=arguments.train_dir,
        label_column_name=arguments.label_column_name,
    )
    data = load_images(source, arguments.seed, output)
    if data.multi_label:
        raise ValueError("The images have several labels each, expected one: use run_image_classification.py.")
    if "validation" not in data.splits:
        raise ValueError("There are no images to test with. Add images, at least a second one to some class.")
    image_processor = CrossViTImageProcessor.from_image_size(arguments.image_size, crop_pct=1.0)
    trainer = Trainer(
        model=build_model(data.classes, arguments.image_size),
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=arguments.num_train_epochs,
            per_device_train_batch_size=arguments.per_device_train_batch_size,
            per_device_eval_batch_size=arguments.per_device_train_batch_size,
            dataloader_num_workers=arguments.dataloader_num_workers,
            learning_rate=arguments.learning_rate,
            lr_scheduler_type="cosine",
            warmup_steps=0.1,  # of all steps
            weight_decay=0.05,
            dataloader_pin_memory=torch.cuda.is_available(),
            eval_strategy="epoch",
            save_strategy="no",
            logging_strategy="epoch",
            report_to="none",
            seed=arguments.seed,
            remove_unused_columns=False,  # the transform needs the image
        ),
        train_dataset=data.with_transform("train", Augmentation(image_processor), arguments.seed),
        eval_dataset=data.with_transform("validation", EvaluationTransform(image_processor)),
        data_collator=default_collate,
        compute_metrics=lambda prediction: compute_metrics(prediction.predictions, prediction.label_ids),
        processing_class=image_processor,
        callbacks=[EpochCallback()],
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_metrics("test", metrics)
    folder = output / "model"
    trainer.save_model(str(folder))
    results = {"accuracy": metrics["eval_accuracy"]}
    complete_model_card(None, trainer.model, str(folder), dataset=source.source, metrics=results).save(
        folder / "README.md"
    )
    print(f"test accuracy {metrics['eval_accuracy']:.4f} on {counted(len(data.splits['validation']), 'image')}")

    # From here on, only the saved folder and the images are used, as by any user of the model.
    examples = data.splits["validation"].shuffle(seed=arguments.seed)
    examples = examples.select(range(min(10, len(examples))))
    images = [read_image(image) for image in examples["image"]]
    classifier = pipeline("image-classification", model=str(folder))
    predictions = classifier(images)
    for image, prediction in zip(examples["image"], predictions):
        print(f"{image_name(image)}: {prediction[0]['label']} ({prediction[0]['score']:.1%})")
    draw(draw_attention, classifier, images, examples["label"], predictions, output / "where_it_looked.png")
    print_results(folder, output / "where_it_looked.png", data)


def main():
    (arguments,) = parse_arguments(Arguments, description=__doc__.split("\n\n")[0])
    with plain_errors(Path(arguments.output_dir)):
        run(arguments)


if __name__ == "__main__":
    main()
