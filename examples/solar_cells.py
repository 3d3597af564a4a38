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
Prepare photographs of solar cells, and a small CrossViT, to find defects with the ordinary scripts.

    pip install "transformers-crossvit[training]" elpv-dataset
    python solar_cells.py                                                      writes outputs/solar_cells, in a few seconds
    python run_image_classification.py --config_name outputs/solar_cells/architecture --train_dir outputs/solar_cells/cells \\
        --output_dir outputs/solar_cells/model --do_train --num_train_epochs 25 --eval_strategy no --save_strategy no \\
        --vertical_flip --quarter_turns --random_crop_scale 1 --per_device_train_batch_size 32 --learning_rate 1e-3 \\
        --lr_scheduler_type cosine --warmup_steps 0.1 --weight_decay 0.05 --report_to none
    python evaluate_model.py --models outputs/solar_cells/model --validation_dir outputs/solar_cells/cells/validation \\
        --output_dir outputs/solar_cells/evaluation

The training takes about 13 minutes on two CPU cores, and at least 0.80 of the held-out images are right. A cell has no upper edge: turned and
mirrored photographs are as good as new ones. The whole cell is shown, because a defect can be small. There is no evaluation before the end,
because the held-out images must not influence the training.

The data are the 2,624 electroluminescence photographs of the package elpv-dataset: a current makes the cells glow, and what stays dark
gives no power. Experts gave each cell a defect probability of 0, 1/3, 2/3 or 1. Licence of the photographs: CC BY-NC-SA 4.0, so not for
commercial use. This repository has none of them. docs/solar_cells.md says what the numbers mean.
"""

import argparse
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split
from tqdm import tqdm

from crossvit import CrossViTConfig, CrossViTImageProcessor
from crossvit.configuration.files import check_writable
from crossvit.trainer import plain_errors


def load_cells() -> pd.DataFrame:
    """One row per photograph, with `path`, the `probability` of a defect, `label` and `split`."""
    try:
        folder = Path(str(files("elpv_dataset"))) / "data"
    except ModuleNotFoundError:
        message = "The photographs come from the package elpv-dataset, which is missing: pip install elpv-dataset"
        raise SystemExit(message) from None
    cells = pd.read_csv(folder / "labels.csv", sep=r"\s+", names=["path", "probability", "type"])
    cells["path"] = [folder / path for path in cells["path"]]
    cells["label"] = np.where(cells["probability"] > 0.5, "defective", "functional")
    # A quarter is held out, with equal shares of each probability. Their rank stands for them, because scikit-learn refuses fractions.
    ranks = cells["probability"].rank(method="dense").astype(int)
    _, held_out = train_test_split(cells.index, test_size=656, stratify=ranks, random_state=0)
    cells["split"] = np.where(cells.index.isin(held_out), "validation", "train")
    return cells


def write_cells(cells: pd.DataFrame, folder: Path):
    """Copies the files, unchanged, to `folder/split/label/name.png`."""
    for cell in tqdm(cells.itertuples(), total=len(cells), desc="copying the images"):
        path = folder / cell.split / cell.label / cell.path.name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(cell.path, path)


def write_architecture(folder: Path):
    """Writes the configuration of a CrossViT with 1.4 million parameters, and its image processor."""
    config = CrossViTConfig(
        image_sizes=[144, 128],
        hidden_sizes=[96, 144],
        num_stages=2,
        depths=[1, 2],
        num_attention_heads=[4, 4],
        mlp_ratios=[2.0, 2.0],
        use_convolutional_stem=True,  # needs less data than a linear projection of patches
        initializer_range=0.1,  # about 1 / sqrt(width); the published 0.02 is for wider models
    )
    config.save_pretrained(folder)
    CrossViTImageProcessor.from_image_size(144, crop_pct=1.0).save_pretrained(folder)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--output_dir", type=Path, default="outputs/solar_cells", help="Folder for cells and architecture."
    )
    output = parser.parse_args().output_dir.expanduser()  # the shell leaves ~ in quotes as it is
    with plain_errors(output):
        check_writable(output)
        cells = load_cells()
        write_cells(cells, output / "cells")
        write_architecture(output / "architecture")
    print(f"{len(cells)} images: {output / 'cells'}\nconfiguration and image processor: {output / 'architecture'}")


if __name__ == "__main__":
    main()
