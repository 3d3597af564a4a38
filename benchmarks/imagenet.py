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
The accuracy of the published models on ImageNet-1k's validation set, beside what the paper and timm report: runs examples/evaluate_model.py,
to which it gives ImageNet's names of the classes.

    python -m benchmarks.imagenet                                  the Hub's ILSVRC/imagenet-1k, once you have accepted its terms
    python -m benchmarks.imagenet --data /data/imagenet/val        a folder with one folder of images per class, n01440764 and so on
    python -m benchmarks.imagenet --per_device_eval_batch_size 256 --dataloader_num_workers 16         options of evaluate_model.py

Needs a GPU for all eleven models. Expected: top-1 accuracies within 0.1 of timm's. `results.csv` in `--output_dir` has the table.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
from datasets import load_dataset_builder
from timm.data import ImageNetInfo

from benchmarks.pages import ROOT
from crossvit import CROSSVIT_VARIANTS
from crossvit.configuration.variants import PUBLISHED_ACCURACIES, imagenet_classes


HUB_DATA = "ILSVRC/imagenet-1k"


def label_map(data: str) -> dict[str, str]:
    """The names of the classes in the data, and the models' names of the same classes: folders have WordNet's, the Hub has its own."""
    if not Path(data).is_dir():
        names = load_dataset_builder(data).info.features["label"].names
        if len(names) != 1000:
            raise SystemExit(f"error: {data} has {len(names)} classes, expected the 1,000 of ImageNet-1k.")
        return dict(zip(names, imagenet_classes()))
    known = dict(zip(ImageNetInfo("imagenet-1k").label_names(), imagenet_classes()))
    folders = sorted(path.name for path in Path(data).iterdir() if path.is_dir())
    if unknown := [name for name in folders if name not in known]:
        raise SystemExit(
            f"error: {data} has a folder {unknown[0]!r}, expected ImageNet's names of classes alone, such as 'n01440764' for tench."
        )
    return {name: known[name] for name in folders}


def results_table(results: dict) -> pd.DataFrame:
    """What was measured, in percent, beside what the paper and timm report."""
    rows = {}
    for model in results["models"]:
        variant = model["name"].removeprefix("timm/").removesuffix(".in1k")
        paper, timm = PUBLISHED_ACCURACIES.get(variant, (float("nan"), float("nan")))
        top_1, top_5 = (100 * model["figures"][name]["value"] for name in ("accuracy", "top_5_accuracy"))
        rows[model["name"]] = {"top-1": top_1, "paper": paper, "timm": timm, "less timm": top_1 - timm, "top-5": top_5}
    return pd.DataFrame(rows).T


def main():
    parser = argparse.ArgumentParser(description=__doc__.strip().split("\n")[0])
    parser.add_argument("--data", default=HUB_DATA, help=f"a folder, or a data set of the Hub; by default {HUB_DATA}")
    parser.add_argument("--models", nargs="+", default=[f"timm/{variant}.in1k" for variant in CROSSVIT_VARIANTS], help="by default the eleven published ones")  # fmt: skip
    parser.add_argument("--output_dir", type=Path, default=Path("outputs/imagenet"), help="by default outputs/imagenet")  # fmt: skip
    arguments, others = parser.parse_known_args()
    names = label_map(arguments.data)
    arguments.output_dir.mkdir(parents=True, exist_ok=True)
    names_file = arguments.output_dir / "label_map.json"
    names_file.write_text(json.dumps(names))
    if Path(arguments.data).is_dir():
        source = ["--validation_dir", arguments.data]
    else:
        source = ["--dataset_name", arguments.data, "--validation_split", "validation"]
    command = ["--models", *arguments.models, *source, "--label_map", str(names_file)]
    command += ["--output_dir", str(arguments.output_dir.absolute()), *others]
    subprocess.run([sys.executable, str(ROOT / "examples" / "evaluate_model.py"), *command], check=True)
    results = json.loads((arguments.output_dir / "evaluation.json").read_text())
    table = results_table(results)
    table.to_csv(arguments.output_dir / "results.csv")
    print(f"\n{results['images']} images\n{table.to_string(float_format='{:.3f}'.format, na_rep='')}")


if __name__ == "__main__":
    main()
