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
Runs `python -m crossvit.inference.fastest` on the model and the test images of the quickstart, and writes what it prints into
docs/deployment.md.

    make benchmark-deployment

Expected: the fastest form keeps at least 99 % of the labels. It takes a few minutes on two CPU cores.
"""

import contextlib
import io
import os

from benchmarks.measurements import measured_by
from benchmarks.pages import ROOT, check_quickstart, fill
from crossvit.inference import fastest


# The command of the page.
ARGUMENTS = ["outputs/quickstart/model", "--images", "outputs/quickstart/digits/test", "--batch_size", "1", "8"]


def main():
    check_quickstart()
    os.chdir(ROOT)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        fastest.main(ARGUMENTS)
    packages = ("torch", "transformers", "onnxruntime", "openvino", "nncf", "torchao")
    places = {
        "machine": measured_by("benchmarks.deployment", *packages),
        "benchmark": f"```text\n{printed.getvalue().strip()}\n```",
    }
    print(f"wrote {fill('deployment.md', places)}")


if __name__ == "__main__":
    main()
