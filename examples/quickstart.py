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
    python examples/quickstart.py --train-dir my_photos     a folder with one folder of images per class
    python examples/quickstart.py --dataset cifar10         any image classification data set on the Hub

The digits are the 1,797 scans that ship with scikit-learn, so nothing is downloaded. The folder `--output-dir` receives the images,
the model with its image processor, the metrics, and the picture `where_it_looked.png`. This example shows every step on one page; to
train larger models on larger data, see the other examples.
"""

from dataclasses import dataclass, field
from pathlib import Path

import evaluate
import matplotlib.pyplot as plt
import numpy as np
import torch
from datasets import ClassLabel, DatasetDict, Image, load_dataset
from PIL import Image as PILImage
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torchvision.transforms import v2
from tqdm import tqdm
from transformers import HfArgumentParser, Trainer, TrainingArguments, pipeline, set_seed

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor


ROOT = Path(__file__).parent


@dataclass
class Arguments:
    dataset: str | None = field(
        default=None, metadata={"help": "Name of an image classification data set on the Hub."}
    )
    train_dir: str | None = field(default=None, metadata={"help": "Folder of images, with one folder per class."})
    output_dir: str = field(default="outputs/quickstart", metadata={"help": "Folder for all files that are written."})
    image_size: int = field(default=72, metadata={"help": "Pixels per side of the model's input, a multiple of 12."})
    epochs: int = field(default=12, metadata={"help": "How often each training image is seen."})
    batch_size: int = field(default=32, metadata={"help": "Images per optimizer step."})
    learning_rate: float = field(default=1.5e-3, metadata={"help": "Largest learning rate, after the warm-up."})
    seed: int = field(default=0, metadata={"help": "The same seed gives the same result on the same machine."})


def write_digits(folder: Path, seed: int):
    """Writes scikit-learn's scans as `folder/split/label/number.png`. A quarter of each class is held out for the test."""
    digits = load_digits()
    numbers = np.arange(len(digits.target))
    train, test = train_test_split(numbers, test_size=0.25, stratify=digits.target, random_state=seed)
    for split, members in (("train", train), ("test", test)):
        for number in tqdm(members, desc=f"writing {split} images"):
            path = folder / split / str(digits.target[number]) / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            PILImage.fromarray((digits.images[number] * 255 / 16).astype(np.uint8)).save(path)


def load_images(arguments: Arguments) -> tuple[DatasetDict, str, str]:
    """Returns the splits `train` and `test`, and the names of the columns of images and of classes."""
    if arguments.dataset and arguments.train_dir:
        raise SystemExit("Got both --dataset and --train-dir, expected one source of images: give one of them.")
    if arguments.dataset:
        dataset = load_dataset(arguments.dataset)
    else:
        folder = Path(arguments.train_dir) if arguments.train_dir else Path(arguments.output_dir) / "digits"
        if not arguments.train_dir:
            write_digits(folder, arguments.seed)
        elif not folder.is_dir():
            raise SystemExit(f"--train-dir {folder} is not a folder. Expected {folder}/CLASS/IMAGE.jpg.")
        dataset = load_dataset("imagefolder", data_dir=str(folder))

    features = dataset["train"].features
    image_columns = [name for name, feature in features.items() if isinstance(feature, Image)]
    label_columns = [name for name, feature in features.items() if isinstance(feature, ClassLabel)]
    if not image_columns or not label_columns:
        raise SystemExit(
            f"Expected a column of images and one of classes, got {dict(features)}. In a folder of images, put the images of "
            "each class into a folder of its own."
        )
    test = next((dataset[name] for name in ("test", "validation") if name in dataset), None)
    if test is None:
        dataset = dataset["train"].train_test_split(0.2, seed=arguments.seed, stratify_by_column=label_columns[0])
        test = dataset["test"]
    return DatasetDict(train=dataset["train"], test=test), image_columns[0], label_columns[0]


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


def draw_attention(classifier, paths: list[str], classes: list[str], predictions: list[list[dict]], output: Path):
    """Draws images with their prediction, and the cross-attention of both branches in the last stage, averaged over the heads."""
    model, image_processor = classifier.model, classifier.image_processor
    images = [PILImage.open(path).convert("RGB") for path in paths]
    inputs = image_processor(images, return_tensors="pt")
    with torch.no_grad():
        cross_attentions = model(**inputs, output_attentions=True).cross_attentions
    crop = (inputs.pixel_values.permute(0, 2, 3, 1).numpy() * image_processor.image_std) + image_processor.image_mean
    figure, axes = plt.subplots(3, len(images), figsize=(1.5 * len(images), 5.2), layout="constrained")
    for column, (true_class, prediction) in enumerate(zip(classes, predictions)):
        label, score = prediction[0]["label"], prediction[0]["score"]
        axes[0, column].imshow(crop[column].clip(0, 1))
        axes[0, column].set_title(
            f"{label}  {score:.0%}", fontsize=10, color="black" if label == true_class else "red"
        )
        # The CLS token of the small branch attends to the patches of the large one, and the other way round.
        for row, (attention, other) in enumerate(zip(cross_attentions[-2:], (1, 0)), start=1):
            grid = model.crossvit.embeddings[other].grid_size
            heat = attention[column, :, 0, 1:].mean(dim=0).reshape(grid).numpy()
            axes[row, column].imshow(crop[column].clip(0, 1).mean(axis=-1), cmap="gray", extent=(0, 1, 0, 1))
            # Colours start at zero: otherwise tiny differences of an even attention would look large.
            axes[row, column].imshow(
                heat, vmin=0, cmap="inferno", alpha=0.65, interpolation="bilinear", extent=(0, 1, 0, 1)
            )
    for axis, name in zip(axes[:, 0], ("image", "small branch\nlooked at", "large branch\nlooked at")):
        axis.set_ylabel(name, fontsize=10)
    for axis in axes.flat:
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(output, dpi=120)


def main():
    parser = HfArgumentParser(Arguments, description=__doc__.split("\n\n")[0])
    arguments = Arguments(**vars(parser.parse_args()))
    set_seed(arguments.seed)
    output = Path(arguments.output_dir)

    dataset, image_column, label_column = load_images(arguments)
    labels = dataset["train"].features[label_column].names
    image_processor = CrossViTImageProcessor.from_image_size(arguments.image_size, crop_pct=1.0)
    augment = v2.RandomAffine(degrees=10, translate=(0.1, 0.1), scale=(0.9, 1.1))

    def transform(batch, augmentation=None):
        images = [image.convert("RGB") for image in batch[image_column]]
        if augmentation:
            images = [augmentation(image) for image in images]
        return {**image_processor(images, return_tensors="pt"), "labels": batch[label_column]}

    accuracy = evaluate.load(str(ROOT / "metrics" / "accuracy"))
    trainer = Trainer(
        model=build_model(labels, arguments.image_size),
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=arguments.epochs,
            per_device_train_batch_size=arguments.batch_size,
            per_device_eval_batch_size=arguments.batch_size,
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
        train_dataset=dataset["train"].with_transform(lambda batch: transform(batch, augment)),
        eval_dataset=dataset["test"].with_transform(transform),
        compute_metrics=lambda prediction: accuracy.compute(
            predictions=prediction.predictions.argmax(-1), references=prediction.label_ids
        ),
        processing_class=image_processor,
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_metrics("test", metrics)
    trainer.save_model(str(output / "model"))

    # From here on, only the saved folder and image files are used, as by any user of the model.
    files = dataset["test"].cast_column(image_column, Image(decode=False))
    examples = files.shuffle(seed=arguments.seed).select(range(min(10, len(files))))
    paths = [image["path"] for image in examples[image_column]]
    classifier = pipeline("image-classification", model=str(output / "model"))
    predictions = classifier(paths)
    for path, prediction in zip(paths, predictions):
        print(f"{path}: {prediction[0]['label']} ({prediction[0]['score']:.1%})")
    classes = [labels[label] for label in examples[label_column]]
    draw_attention(classifier, paths, classes, predictions, output / "where_it_looked.png")
    print(f"test accuracy {metrics['eval_accuracy']:.4f} on {len(files)} images")
    print(f"model: {output / 'model'}")
    print(f"picture: {output / 'where_it_looked.png'}")


if __name__ == "__main__":
    main()
