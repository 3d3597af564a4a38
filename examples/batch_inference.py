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
Classify any number of images with Ray Data, on this machine or on a cluster.

    pip install "transformers-crossvit[use]"
    python batch_inference.py --model outputs/quickstart/model --images outputs/quickstart/digits/test
    python batch_inference.py --model timm/crossvit_small_240.in1k --images 'shards/*.tar' --embeddings --address auto

`--images` is a folder or a pattern of image files, parquet files or WebDataset shards, or a data set of the Hub or of `save_to_disk`.
`OUTPUT_DIR/predictions` receives parquet files with one row for each image: `image` (its path, or its file and place), `label`, `score`, the
best `labels` and `scores`, `embedding` on request, and `error` for an image that cannot be read.

After an interruption, the same command continues with the images that are missing. Ray Data records which are done, and starts a worker that
dies again. At the end all rows are counted: none is missing, and none is there twice. Given again later, the command classifies new and changed
images, and takes out the rows of images that are gone. It knows a file by its path, size and time, and rows of a file by the file's.
"""

import json
import logging
import os
import socket
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from glob import glob
from pathlib import Path
from threading import Event, Thread
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import torch
from filelock import FileLock, Timeout
from huggingface_hub.utils.sha import sha_fileobj
from PIL import Image
from ray._private.services import canonicalize_bootstrap_address_or_die
from ray.data.block import BlockMetadata
from ray.data.checkpoint import CheckpointConfig
from ray.data.datasource import Datasource, ReadTask
from torchvision.transforms.v2.functional import pil_to_tensor
from tqdm import tqdm

from crossvit import CrossViTConfig, CrossViTForImageClassification, CrossViTImageProcessor, optimize
from crossvit.configuration.files import replace_file
from crossvit.configuration.image_files import existing_path, image_mode
from crossvit.configuration.stopping import NO_SPACE, no_space, resumable
from crossvit.data import Part, decode_jpegs, list_parts, read_image
from crossvit.data.classes import counted, listed
from crossvit.inference.backends import load_exported
from crossvit.inference.scores import scores_of
from crossvit.trainer import parse_arguments


@dataclass
class Arguments:
    model: str = field(
        metadata={"help": "Folder or Hub repository of a classifier, or a folder of crossvit.inference.export."}
    )
    images: str = field(
        metadata={
            "help": "Folder or pattern of image files, of parquet files or of .tar shards; or a data set of `datasets`."
        }
    )
    output_dir: str = field(default="outputs/predictions", metadata={"help": "Folder of the predictions."})
    split: str | None = field(default=None, metadata={"help": "Split of a data set, if it has several."})
    image_column_name: str | None = field(
        default=None, metadata={"help": "Column of images in parquet and data sets."}
    )
    top_k: int = field(default=5, metadata={"help": "Number of best classes to write."})
    embeddings: bool = field(default=False, metadata={"help": "Write the pooled features too."})
    dtype: Literal["float32", "bfloat16", "float16"] = field(
        default="float32", metadata={"help": "Number format of the model."}
    )
    batch_size: int = field(default=32, metadata={"help": "Images per forward pass."})
    rows_per_file: int = field(
        default=1024,
        metadata={"help": "Rows of a file of predictions; so many may be computed again after an interruption."},
    )
    num_workers: int | None = field(
        default=None,
        metadata={"help": "Number of models. By default one per GPU, or one per 8 CPU cores without GPUs."},
    )
    decode_on_gpu: bool = field(
        default=False,
        metadata={
            "help": "Decode JPEG files on the GPUs, for machines with few cores per GPU. At edges of strong colours, pixels differ a little."
        },
    )
    address: str | None = field(
        default=None, metadata={"help": "A Ray cluster, such as auto. By default Ray is started on this machine."}
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Folder for downloaded files."})
    token: str | None = field(
        default=None, metadata={"help": "Token for the Hub. By default that of `hf auth login`."}
    )

    @property
    def download(self) -> dict[str, str | None]:
        return {"cache_dir": self.cache_dir, "token": self.token}


# --- from files to rows ---

ENCODED = pa.schema([("image", pa.string()), ("path", pa.string()), ("bytes", pa.binary()), ("error", pa.string())])
PREDICTIONS = pa.schema(
    [
        ("image", pa.string()),
        ("label", pa.string()),
        ("score", pa.float32()),
        ("labels", pa.list_(pa.string())),
        ("scores", pa.list_(pa.float32())),
        ("embedding", pa.list_(pa.float32())),
        ("error", pa.string()),
    ]
)


def read_part(part: Part):
    """Tables of a few encoded images. If the file breaks off, the rows of all images that are left have the error."""
    rows, count = [], 0
    try:
        for count, row in enumerate(part.read(), start=1):
            rows.append(row)
            if len(rows) == 64:
                yield pa.Table.from_pylist(rows, ENCODED)
                rows = []
    except Exception as error:
        rows += [{"image": name, "error": str(error)} for name in part.names_after(count)]
    yield pa.Table.from_pylist(rows, ENCODED)


class ImageDatasource(Datasource):
    """The parts as a data source of Ray Data."""

    def __init__(self, parts: list[Part]):
        super().__init__()
        self.parts = parts

    def estimate_inmemory_data_size(self) -> int | None:
        return None

    def get_read_tasks(self, parallelism: int, *args, **kwargs) -> list[ReadTask]:
        return [
            ReadTask(
                lambda part=part: read_part(part),
                BlockMetadata(num_rows=part.length, size_bytes=None, exec_stats=None),
            )
            for part in self.parts
        ]


def load_image_processor(arguments: Arguments) -> tuple[CrossViTImageProcessor, tuple[int, ...]]:
    """The image processor, and the shape that it gives to all images, (channels, H, W)."""
    try:
        config = CrossViTConfig.from_pretrained(arguments.model, **arguments.download)
        image_processor = CrossViTImageProcessor.from_pretrained(arguments.model, **arguments.download)
        mode = image_mode(config, image_processor)
    except (OSError, ValueError) as error:
        raise SystemExit(f"The model cannot be loaded: {error}") from error
    if arguments.decode_on_gpu and mode != "RGB":
        raise SystemExit("--decode_on_gpu is for models of colour images: leave it out.")
    probes = [Image.new(mode, size) for size in ((300, 200), (200, 300))]
    first, second = (image_processor(probe, return_tensors="np").pixel_values.shape[1:] for probe in probes)
    if first != second:
        raise SystemExit(
            f"The image processor of {arguments.model} gives images of different shapes different sizes, {first} and {second}, which do not fit "
            "into one batch. Save it with do_center_crop=True."
        )
    return image_processor, first


def decode(
    batch: dict[str, np.ndarray], image_processor: CrossViTImageProcessor, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """
    Turns encoded images into bytes of pixels, (B, channels, H, W), resized and cropped but not normalized: a quarter of the size for the way to the
    model. They are zero where `error` says why there are none.
    """
    pixels = np.zeros((len(batch["image"]), *shape), np.uint8)
    mode = "L" if len(pixels[0]) == 1 else "RGB"
    errors = [error or "" for error in batch["error"]]
    for index, (path, encoded) in enumerate(zip(batch["path"], batch["bytes"])):
        if errors[index]:
            continue
        try:
            image = read_image({"path": path, "bytes": encoded}, mode=mode)
            resized = image_processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
            pixels[index] = resized.pixel_values[0]
        except Exception as error:
            errors[index] = str(error.__cause__ or error)
    return {"image": batch["image"], "error": np.array(errors), "pixels": pixels}


def read_files(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bytes of encoded images, which a GPU decodes."""
    encoded = np.full(len(batch["image"]), None)
    errors = [error or "" for error in batch["error"]]
    for index, (path, content) in enumerate(zip(batch["path"], batch["bytes"])):
        try:
            encoded[index] = content if path is None or errors[index] else Path(existing_path(path)).read_bytes()
        except OSError as error:
            errors[index] = str(error)
    return {"image": batch["image"], "error": np.array(errors), "encoded": encoded}


class Classifier:
    """One worker: a model that classifies batches of pixels or of encoded images."""

    def __init__(self, arguments: Arguments, image_processor: CrossViTImageProcessor, threads: int):
        torch.set_num_threads(threads)
        self.image_processor = image_processor
        self.top_k = arguments.top_k
        self.device = "cuda" if ray.get_gpu_ids() else "cpu"
        self.dtype = getattr(torch, arguments.dtype)
        self.embeddings = arguments.embeddings
        if is_exported(arguments.model):
            self.model = load_exported(arguments.model)
        else:
            model = CrossViTForImageClassification.from_pretrained(
                arguments.model, dtype=self.dtype, **arguments.download
            )
            # With the features of an image, its logits are one small product.
            self.classifier = model.to(self.device).classifier
            self.model = optimize(model.crossvit if self.embeddings else model)
        self.names = [self.model.config.id2label[index] for index in range(self.model.config.num_labels)]

    def process(self, images: list[torch.Tensor], **kwargs: Any) -> torch.Tensor:
        """What the image processor makes of images, each (3, height, width), on the device: (B, 3, H, W)."""
        return self.image_processor(images, device=self.device, return_tensors="pt", **kwargs).pixel_values

    def decode(self, encoded: list[bytes | None], errors: list[str]) -> torch.Tensor:
        """Pixel values, (B', 3, H, W), of the encoded images without an error. Adds the errors of those that cannot be read."""
        images = {}
        for index, image in enumerate(decode_jpegs([content or b"" for content in encoded], self.device)):
            try:
                if not errors[index]:
                    content = {"path": None, "bytes": encoded[index]}
                    images[index] = pil_to_tensor(read_image(content)) if image is None else image
            except ValueError as error:
                errors[index] = str(error.__cause__ or error)
        return self.process(list(images.values())) if images else torch.empty(0)

    @torch.inference_mode()
    def predict(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, list[list[float]] | list[None]]:
        """Scores, (B, labels), and for each image its pooled features, or None if they are not wanted."""
        pixel_values = pixel_values.to(self.device, self.dtype)
        if self.embeddings:
            features = self.model(pixel_values).pooler_output
            logits, embeddings = self.classifier(features), features.float().tolist()
        else:
            logits, embeddings = self.model(pixel_values=pixel_values).logits, [None] * len(pixel_values)
        return scores_of(logits, self.model.config).cpu(), embeddings

    def __call__(self, batch: dict[str, np.ndarray]) -> pa.Table:
        errors = batch["error"].tolist()
        if "encoded" in batch:
            pixel_values = self.decode(batch["encoded"].tolist(), errors)
        else:
            readable = [torch.tensor(pixels) for pixels, error in zip(batch["pixels"], errors) if not error]
            resized = {"do_resize": False, "do_center_crop": False}
            pixel_values = self.process(readable, **resized) if readable else torch.empty(0)
        rows = [{"image": name, "error": error or None} for name, error in zip(batch["image"], errors)]
        if len(pixel_values):
            scores, embeddings = self.predict(pixel_values)
            best = scores.topk(min(self.top_k, len(self.names)))
            places = [index for index, error in enumerate(errors) if not error]
            answers = zip(places, best.indices.tolist(), best.values.tolist(), embeddings, strict=True)
            for index, classes, values, embedding in answers:
                labels = [self.names[label] for label in classes]
                rows[index] |= {"label": labels[0], "score": values[0], "labels": labels, "scores": values}
                rows[index]["embedding"] = embedding
        return pa.Table.from_pylist(rows, PREDICTIONS)


# --- the job ---


# What each input was, beside the predictions.
INPUTS = "inputs.parquet"


def absolute(name: str) -> str:
    """The absolute path of a file, folder or pattern of files that exists; other names as they are, because they are the Hub's."""
    path = os.path.abspath(name)
    # A name with brackets is a pattern too, and need not match itself.
    return path if os.path.exists(path) or glob(path, recursive=True) else name


def is_exported(model: str) -> bool:
    return (Path(model) / "export.json").exists()


def file_hash(path: Path) -> str:
    with open(path, "rb") as file:
        return sha_fileobj(file).hex()[:16]


def describe_job(arguments: Arguments) -> dict:
    """All that decides what the row of an image is. A folder takes the rows of one job alone."""
    config = CrossViTConfig.from_pretrained(arguments.model, **arguments.download)
    folder = Path(arguments.model)
    # The model card is left out, because evaluate_model.py may have written into it in between.
    files = sorted(file for file in folder.glob("*") if file.is_file() and file.name != "README.md")
    options = asdict(arguments)
    return {
        **{
            name: options[name]
            for name in (
                "model",
                "images",
                "split",
                "image_column_name",
                "top_k",
                "embeddings",
                "dtype",
                "decode_on_gpu",
            )
        },
        "model_commit": getattr(config, "_commit_hash", None),
        "model_files": {file.name: file_hash(file) for file in files},
    }


def check_job(job: dict, output: Path):
    """Ends the program if the folder holds predictions of another job."""
    file = output / "job.json"
    if not file.exists() or not (output / INPUTS).exists():
        if output.exists() and any(output.glob("predictions/*")):
            raise SystemExit(
                f"{output} holds predictions, but not the job.json and {INPUTS} of a job: give another --output_dir."
            )
        output.mkdir(parents=True, exist_ok=True)
        with replace_file(file) as temporary:
            temporary.write_text(json.dumps(job, indent=2))
        return
    found = json.loads(file.read_text())
    if other := [name for name in job if found.get(name) != job[name]]:
        raise SystemExit(
            f"{output} holds the predictions of another job: "
            + "; ".join(f"{name} was {found.get(name)} and is {job[name]}" for name in other)
            + ". Give another --output_dir, or remove this one."
        )


def describe_inputs(parts: list[Part]) -> dict[str, tuple[int, int]]:
    """The size in bytes and the time of each input, by the name with which the names of its images begin. -1 stands for a file that is gone."""
    inputs = {}
    for part in parts:
        for name, files in part.inputs.items():
            if name not in inputs:
                try:
                    found = [os.stat(existing_path(file)) for file in files]
                except OSError:
                    inputs[name] = (-1, -1)
                else:
                    inputs[name] = (
                        sum(file.st_size for file in found),
                        max((file.st_mtime_ns for file in found), default=0),
                    )
    return inputs


def is_of(image: str, inputs: set[str]) -> bool:
    """Whether an image is one of the inputs, or lies in one of them."""
    while image and image not in inputs:
        image = image.rpartition("/")[0]
    return image != ""


def update_inputs(inputs: dict[str, tuple[int, int]], output: Path):
    """
    Takes the rows of inputs that are gone or have changed out of the predictions, and out of what Ray has recorded as finished. The list of
    inputs is written last, so that all of this is done again if it is interrupted.
    """
    file = output / INPUTS
    if file.exists():
        names, *values = (column.to_pylist() for column in pq.read_table(file).columns)
        earlier = dict(zip(names, zip(*values)))
        new = [name for name in inputs if name not in earlier]
        changed = [name for name in inputs if earlier.get(name, inputs[name]) != inputs[name]]
        gone = [name for name in earlier if name not in inputs]
        for what, names in (("new", new), ("changed", changed), ("gone", gone)):
            if names:
                print(f"{what} since the last run: {listed(names, 3)}")
        stale = {*changed, *gone}
        # First the predictions: an image that is finished and has no row would be lost.
        for rows in [*output.glob("predictions/*.parquet"), *output.glob("finished/*.parquet")] if stale else ():
            table = pq.ParquetFile(rows).read()
            kept = [not is_of(image, stale) for image in table["image"].to_pylist()]
            if not any(kept):
                rows.unlink()
            elif not all(kept):
                with replace_file(rows) as temporary:
                    pq.write_table(table.filter(pa.array(kept)), temporary)
    sizes, times = zip(*inputs.values())
    with replace_file(file) as temporary:
        pq.write_table(pa.table({"name": list(inputs), "size": sizes, "time": times}), temporary)


def check_reachable(address: str):
    """Raises OSError if nothing listens at HOST:PORT. Ray itself would try for minutes."""
    host, _, port = address.split("://")[-1].rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def start_ray(address: str | None):
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Ray's C++ part writes notes to the terminal that only its developers can use. Errors reach Python anyway.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    options = {"log_to_driver": False, "logging_level": "error"}
    if address is None:
        ray.init("local", include_dashboard=False, **options)
        if ray.cluster_resources()["CPU"] < 2:
            # The process that leaves out finished images counts as one core, and the others would wait for ever.
            ray.shutdown()
            ray.init("local", num_cpus=2, include_dashboard=False, **options)
        return
    try:
        found = canonicalize_bootstrap_address_or_die(address) if address == "auto" else address
        check_reachable(found)
        ray.init(found, **options)
    except Exception as error:
        raise SystemExit(
            f"--address {address}: no Ray cluster can be reached there ({error}). Start one with `ray start --head`, set "
            "RAY_AUTH_MODE=token if it asks for a token, or leave --address out to use this machine."
        ) from error


def classify(
    arguments: Arguments, parts: list[Part], image_processor: CrossViTImageProcessor, shape: tuple[int, ...], output: Path
):  # fmt: skip
    """Classifies all images that are not among the finished ones of the folder. The image processor gives them the shape."""
    resources = ray.cluster_resources()
    cpus, gpus = int(resources["CPU"]), int(resources.get("GPU", 0))
    workers = arguments.num_workers or gpus or max(1, cpus // 8)
    # A model on the CPU has threads for its part of the cores, and reserves none of them, because the images are decoded there too.
    share = {"num_gpus": min(1, gpus / workers)} if gpus else {"num_cpus": 0}
    context = ray.data.DataContext.get_current()
    context.checkpoint_config = CheckpointConfig(
        "image", str((output / "finished").absolute()), delete_checkpoint_on_success=False
    )
    context.enable_progress_bars = False  # Ray's bars count blocks of images; `show_progress` counts images.
    images = ray.data.read_datasource(ImageDatasource(parts), override_num_blocks=len(parts))
    if arguments.decode_on_gpu and not gpus:
        raise SystemExit("--decode_on_gpu needs a GPU, but Ray finds none: leave it out.")
    if arguments.decode_on_gpu:
        read = images.map_batches(read_files, batch_size=arguments.batch_size)
    else:
        options = {"image_processor": image_processor, "shape": shape}
        read = images.map_batches(decode, batch_size=arguments.batch_size, fn_kwargs=options)
    predictions = read.map_batches(
        Classifier,
        batch_size=arguments.batch_size,
        fn_constructor_kwargs={
            "arguments": arguments,
            "image_processor": image_processor,
            "threads": max(1, cpus // workers),
        },
        compute=ray.data.ActorPoolStrategy(size=workers),
        **share,
    )
    predictions.write_parquet(str((output / "predictions").absolute()), min_rows_per_file=arguments.rows_per_file)


@cache
def number_of_rows(file: Path) -> int:
    return pq.read_metadata(file).num_rows


def count_finished(output: Path) -> int:
    """The number of images whose rows are on the disk. Ray renames their list when they are."""
    files = (output / "finished").glob("*.parquet")
    return sum(number_of_rows(file) for file in files if not file.stem.endswith(".pending"))


@contextmanager
def show_progress(output: Path, number_of_images: int | None):
    """Shows a bar of the finished images."""
    ended = Event()
    with tqdm(desc="images", total=number_of_images, initial=count_finished(output)) as bar:

        def watch():
            while not ended.wait(1):
                bar.update(count_finished(output) - bar.n)

        thread = Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            bar.update(count_finished(output) - bar.n)


def check_predictions(output: Path, number_of_images: int | None) -> tuple[int, Counter]:
    """The number of rows, and the number of each label. Ends the program unless every image has exactly one row."""
    table = pq.read_table(output / "predictions", columns=["image", "label"])
    rows, images = len(table), len(table["image"].unique())
    if rows != images or number_of_images not in (None, images):
        raise SystemExit(
            f"{output} has {rows} rows of {images} images, expected one for each of {number_of_images or images}: another program "
            "wrote there at the same time, or files are missing. Remove the folder and run the command again."
        )
    return rows, Counter(table["label"].to_pylist())


def reason_of(error: ray.exceptions.RayError) -> str:
    """The last line of an error of Ray, which has the traceback of a process of its own above it."""
    cause = getattr(error, "cause", None) or error
    if isinstance(cause, OSError) and cause.errno in NO_SPACE:
        return no_space(cause)
    lines = str(cause).strip().splitlines() or [type(cause).__name__]
    return f"The job stopped: {lines[-1]}. The same command goes on from here."


def work(arguments: Arguments, output: Path, kept: str):
    """Classifies the images that have no row, and prints the number of images of each class."""
    image_processor, shape = load_image_processor(arguments)
    size, split, column = arguments.rows_per_file, arguments.split, arguments.image_column_name
    try:
        parts = list_parts(arguments.images, size, split, column, output, **arguments.download)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    lengths = [part.length for part in parts]
    number_of_images = None if None in lengths else sum(lengths)
    check_job(describe_job(arguments), output)
    try:
        with FileLock(output / ".lock", timeout=0):
            update_inputs(describe_inputs(parts), output)
            if count_finished(output) != number_of_images:
                start_ray(arguments.address)
                # Ray has put its own handler of SIGTERM in the place of that of this script.
                with resumable(kept), show_progress(output, number_of_images):
                    classify(arguments, parts, image_processor, shape, output)
                ray.shutdown()
            rows, labels = check_predictions(output, number_of_images)
    except ray.exceptions.RayError as error:
        raise SystemExit(reason_of(error)) from error
    except Timeout as error:
        raise SystemExit(
            f"Another run of this script is writing to {output}: wait for it, or give another --output_dir."
        ) from error
    print(f"{counted(rows, 'image')}, of which {labels.pop(None, 0)} cannot be read; the column error says why")
    for label, count in labels.most_common(10):
        print(f"{count:8d}  {label}")
    print(f"predictions: {output / 'predictions'}")


def main():
    (arguments,) = parse_arguments(Arguments, description=__doc__.split("\n\n")[0])
    # Workers run in other folders.
    arguments.model, arguments.images = absolute(arguments.model), absolute(arguments.images)
    for name in ("top_k", "batch_size", "rows_per_file", "num_workers"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise SystemExit(f"--{name} must be at least 1, got {value}.")
    if arguments.embeddings and is_exported(arguments.model):
        raise SystemExit("--embeddings needs a model of PyTorch: an exported program gives the logits alone.")
    output = Path(arguments.output_dir)
    kept = f"the rows that are done are in {output}"
    with resumable(kept):
        work(arguments, output, kept)


if __name__ == "__main__":
    main()
