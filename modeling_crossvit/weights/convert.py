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
Published CrossViT weights as a transformers model, and back:

    python -m crossvit.weights.convert --source crossvit_15_dagger_240 --output models/crossvit_15_dagger_240
    python -m crossvit.weights.convert --source crossvit_15_224.pth --output models/crossvit_15_240 --push-to-hub me/crossvit_15_240
    python -m crossvit.weights.convert --all --output models
    python -m crossvit.weights.convert --source models/crossvit_15_240 --to-timm --output timm_models/crossvit_15_240

A source is a model on the Hub (`timm/crossvit_15_dagger_240.in1k`), timm's name of one, or a file: `.safetensors`, or a `.pth` as the
authors published them, which may be a whole training checkpoint. The output folder then holds the weights, the configuration with the
names of the classes, the image processor, a model card and the code. Where timm and scikit-learn are installed, the result is compared
with timm's model on a photo before anything is published.
"""

import argparse
import contextlib
import difflib
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import (
    HfApi,
    constants,
    create_repo,
    get_session,
    hf_hub_download,
    try_to_load_from_cache,
    upload_folder,
)
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, StrictDataclassError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import httpx  # the version that the client uses
from huggingface_hub.utils.sha import sha_fileobj
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file
from tqdm import tqdm
from transformers.utils import is_sklearn_available, is_timm_available

from crossvit.configuration import CROSSVIT_VARIANTS, CrossViTConfig
from crossvit.configuration.files import check_writable, nearest_file, replace_folder
from crossvit.configuration.variants import PUBLISHED_ACCURACIES, imagenet_classes
from crossvit.hub import check_output, complete_model_card
from crossvit.image_processing import CrossViTImageProcessorPil
from crossvit.modeling_crossvit import CrossViTForImageClassification
from crossvit.weights.checkpoints import convert_checkpoint, find_variant, read_checkpoint, to_timm_state_dict


WEIGHTS = "model.safetensors"

# Largest accepted difference between a logit and timm's, relative to the largest logit (at least 1). Two equal models in float32 differ by
# less than a tenth of it.
TOLERANCE = 1e-4


def _repository(source: str) -> str:
    """The Hub id of a source that is not a file."""
    name = source.removeprefix("timm/").removesuffix(".in1k")
    if name in CROSSVIT_VARIANTS:
        return f"timm/{name}.in1k"
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source) and not source.startswith("timm/"):
        return source
    close = difflib.get_close_matches(name, CROSSVIT_VARIANTS, n=1)
    raise ValueError(
        f"--source {source} is neither a file nor a known model.{f' Did you mean {close[0]}?' if close else ''} Expected a .pth or "
        f".safetensors file, a Hub id with a slash, or one of {', '.join(CROSSVIT_VARIANTS)}."
    )


def _download(repository: str, folder: str) -> str:
    """
    The file with the weights of a model on the Hub: from the cache of huggingface_hub if it is there, otherwise downloaded into `folder`.
    The download does not go through the cache, because there the server's answers become parts of paths. Its checksum is compared here,
    because huggingface_hub does not compare it.
    """
    cached = try_to_load_from_cache(repository, WEIGHTS)
    if isinstance(cached, str):
        return cached
    try:
        # Asked once, because without a network the download itself would try for half a minute.
        get_session().head(constants.ENDPOINT, timeout=10)
    except (httpx.HTTPError, OfflineModeIsEnabled) as error:
        raise ValueError(
            f"Cannot reach the Hub ({constants.ENDPOINT}) to download {repository}, which is not in the cache. Check the network, or "
            f"download {WEIGHTS} elsewhere and give its path to --source."
        ) from error
    try:
        infos = HfApi().get_paths_info(repository, WEIGHTS)
        if not infos or not isinstance(infos[0], RepoFile) or infos[0].lfs is None:
            raise ValueError(f"{repository} on the Hub has no {WEIGHTS}.")
        checksum = infos[0].lfs.sha256
        file = hf_hub_download(repository, WEIGHTS, local_dir=folder)
    except HfHubHTTPError as error:
        raise ValueError(
            f"The Hub has no {repository} that you may read. Check the name; for a private model log in (`hf auth login`). The Hub "
            f"says: {error.server_message or str(error).splitlines()[0]}"
        ) from error
    with open(file, "rb") as content:
        if sha_fileobj(content).hex() != checksum:
            raise ValueError(
                f"The download of {repository} is damaged: its checksum is not the one on the Hub. Try again."
            )
    return file


@contextlib.contextmanager
def _local_file(source: str) -> Iterator[tuple[str, str | None]]:
    """The file of a source, and the Hub id that it was downloaded from, if it was."""
    if os.path.isfile(source):
        yield source, None
    elif os.path.isdir(source):
        raise ValueError(
            f"--source {source} is a folder. Give the .pth or .safetensors file in it, or --to-timm to convert a saved CrossViT to timm. "
            "`from_pretrained` loads folders of timm without a conversion."
        )
    elif source.endswith((".pth", ".pt", ".bin", ".safetensors")):
        nearest = nearest_file(source)
        hint = f" Did you mean {nearest}?" if nearest else ""
        raise ValueError(f"--source {source} is not a file. Expected a .pth or .safetensors file.{hint}")
    else:
        repository = _repository(source)
        with tempfile.TemporaryDirectory() as folder:
            yield _download(repository, folder), repository


def _image_processor(variant: str) -> CrossViTImageProcessorPil:
    image_size = CROSSVIT_VARIANTS[variant]["image_sizes"][0]
    return CrossViTImageProcessorPil.from_image_size(image_size, crop_pct=1.0 if image_size == 408 else 0.875)


@torch.no_grad()
def largest_difference(
    model: CrossViTForImageClassification, variant: str, state_dict: dict[str, torch.Tensor]
) -> float:
    """
    The largest difference between the logits of `model` and those of timm's model with `state_dict`, relative to the largest logit (at
    least 1). Both classify a photo, each with its own preprocessing.
    """
    import timm
    from sklearn.datasets import load_sample_image

    photo = Image.fromarray(load_sample_image("china.jpg"))
    reference = timm.create_model(variant, num_classes=model.config.num_labels).eval()
    reference.load_state_dict(state_dict)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(reference))
    expected = reference(transform(photo)[None])
    logits = model.eval().float()(**_image_processor(variant)(photo, return_tensors="pt")).logits
    return ((logits - expected).abs().max() / expected.abs().max().clamp(min=1)).item()


def _compare(model: CrossViTForImageClassification, variant: str, state_dict: dict[str, torch.Tensor]) -> str:
    """A line that says how large the difference is, or why nothing was compared; an error if it is too large."""
    if not is_timm_available() or not is_sklearn_available():
        return 'not compared with timm, which takes: pip install "transformers-crossvit[convert]"'
    if model.config.num_channels != 3:
        return f"not compared with timm on a photo, which does not have {model.config.num_channels} channels"
    difference = largest_difference(model, variant, state_dict)
    if not difference <= TOLERANCE:
        raise ValueError(
            f"The converted model differs from timm's by {difference:.1e} of the largest logit on a photo, expected at most "
            f"{TOLERANCE:.0e}. Nothing was written or published. Please report it, with the source."
        )
    return f"largest difference to timm on a photo: {difference:.1e} of the largest logit"


def _card_text(variant: str, repository: str | None, place: str, comparison: str) -> str:
    paper, timm = PUBLISHED_ACCURACIES[variant]
    origin = f"[{repository}](https://huggingface.co/{repository})" if repository else "a local checkpoint"
    origin += f" (`{place}`)" if place else ""
    return f"""
Converted from {origin}; {comparison}.

## Accuracy

Published for this architecture (`{variant}`), top-1 on ImageNet-1k: {paper} % in the paper, {timm} % for timm's copy of the weights.
They are quoted, not measured again here.

## Citation

```bibtex
@inproceedings{{chen2021crossvit,
  title={{{{CrossViT: Cross-Attention Multi-Scale Vision Transformer for Image Classification}}}},
  author={{Chun-Fu (Richard) Chen and Quanfu Fan and Rameswar Panda}},
  booktitle={{International Conference on Computer Vision (ICCV)}},
  year={{2021}}
}}
```
"""


def convert(
    source: str, output: Path, variant: str | None = None, push_to_hub: str | None = None, use_ema: bool = True
) -> str:
    """
    Writes the model of one source to `output`, and publishes it if asked; returns a line that names the weights which were taken, and their
    difference to timm's model.
    """
    if variant is not None:
        CrossViTConfig.from_variant(variant)  # refuses an unknown name before anything is downloaded
    with _local_file(source) as (file, repository):
        state_dict, place = read_checkpoint(file, use_ema)
    variant = variant or find_variant(state_dict)
    model = convert_checkpoint(state_dict, variant)
    if model.config.num_labels == 1000:
        model.config.id2label = dict(enumerate(imagenet_classes()))
        model.config.label2id = {label: index for index, label in model.config.id2label.items()}

    with replace_folder(output) as folder:
        model.save_pretrained(folder)
        _image_processor(variant).save_pretrained(folder)
        # The model is read from the folder, so that what is compared is what users will load.
        comparison = _compare(CrossViTForImageClassification.from_pretrained(folder), variant, state_dict)
        published: dict[str, Any] = {}
        if repository == f"timm/{variant}.in1k":
            accuracy = round(PUBLISHED_ACCURACIES[variant][1] / 100, 5)
            published = {"license": "apache-2.0", "dataset": "ILSVRC/imagenet-1k", "metrics": {"accuracy": accuracy}}
        text = _card_text(variant, repository, place, comparison)
        card = complete_model_card(None, model, push_to_hub or str(output), text=text, **published)
        if repository:
            card.data["base_model"] = repository
        card.save(folder / "README.md")
    if push_to_hub:
        repo_id = create_repo(push_to_hub, exist_ok=True).repo_id
        upload_folder(repo_id=repo_id, folder_path=output, commit_message=f"Upload {variant}")
    return f"{variant}{place and f' from {place}'}: {comparison}"


def convert_to_timm(source: str, output: Path) -> str:
    """Writes a saved CrossViT as `model.safetensors` under timm's names; returns the Python that loads it, and the difference."""
    model, loading_info = CrossViTForImageClassification.from_pretrained(
        source, output_loading_info=True, ignore_mismatched_sizes=True
    )
    if missing := sorted([*loading_info["missing_keys"], *(key for key, *_ in loading_info["mismatched_keys"])]):
        raise ValueError(
            f"--source {source} has no weights for {len(missing)} tensors of a classifier, such as {missing[0]}, and they would be random."
        )
    state_dict = to_timm_state_dict(model)
    try:
        variant = find_variant(state_dict)
    except ValueError as error:
        raise ValueError(
            f"--to-timm needs a published architecture, and timm has none with the shapes of --source {source}. In Python, "
            "`crossvit.weights.checkpoints.to_timm_state_dict(model)` gives the tensors under timm's names."
        ) from error
    comparison = _compare(model, variant, state_dict)
    with replace_folder(output) as folder:
        save_file({key: tensor.contiguous() for key, tensor in state_dict.items()}, folder / WEIGHTS)
    return (
        f'timm.create_model("{variant}", num_classes={model.config.num_labels}, checkpoint_path="{output}/{WEIGHTS}"): '
        f"{comparison}"
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m crossvit.weights.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--source",
        type=os.path.expanduser,
        help="Hub id, timm's name of a model, or a file; with --to-timm a saved CrossViT",
    )
    source.add_argument("--all", action="store_true", help="all 11 published models, each in a folder of --output")
    parser.add_argument(
        "--output",
        required=True,
        type=lambda folder: Path(os.path.expanduser(folder)),
        help="folder to write, made if it does not exist",
    )
    parser.add_argument(
        "--variant", help="name of the architecture; by default it is found by the shapes of the weights"
    )
    parser.add_argument(
        "--no-ema",
        dest="use_ema",
        action="store_false",
        help="from a training checkpoint, the weights of the last step, and not their average over the steps (EMA), which is the default",
    )
    parser.add_argument("--to-timm", action="store_true", help="the other direction: weights under timm's names")
    parser.add_argument(
        "--push-to-hub", metavar="REPO", help="publish as REPO (user/name); with --all as REPO/variant"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the model that --output holds")
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.to_timm and (arguments.all or arguments.variant or arguments.push_to_hub or not arguments.use_ema):
        parser.error("--to-timm goes with --source, --output and --overwrite only")
    if arguments.all and (arguments.variant or not arguments.use_ema):
        parser.error("--all converts every published variant: leave --variant and --no-ema out")
    try:
        # The folder is replaced as a whole, which takes a place to write beside it.
        check_writable(arguments.output.absolute().parent)
        if not arguments.all:
            check_output(arguments.output, arguments.overwrite)
            if arguments.to_timm:
                print(convert_to_timm(arguments.source, arguments.output))
            else:
                print(
                    convert(
                        arguments.source,
                        arguments.output,
                        arguments.variant,
                        arguments.push_to_hub,
                        arguments.use_ema,
                    )
                )
        else:
            for variant in CROSSVIT_VARIANTS:
                check_output(arguments.output / variant, arguments.overwrite)
            for variant in tqdm(CROSSVIT_VARIANTS, desc="models"):
                repo_id = f"{arguments.push_to_hub}/{variant}" if arguments.push_to_hub else None
                tqdm.write(convert(variant, arguments.output / variant, push_to_hub=repo_id))
    except SafetensorError as error:
        raise SystemExit(
            f"error: {arguments.output} could not be written ({error}). What was there before is unchanged."
        ) from error
    except (ValueError, OSError, StrictDataclassError, HfHubHTTPError, httpx.HTTPError) as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
