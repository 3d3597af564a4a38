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
"""Reads the options of the training examples."""

import difflib
import json
import sys
from pathlib import Path

from transformers import HfArgumentParser


def parse_arguments(*dataclasses, description: str, defaults: dict | None = None) -> tuple:
    """
    Returns one instance of each dataclass. The command line gives the values, or names one JSON file that gives them. Missing values
    come from `defaults`, and otherwise from the dataclasses.
    """
    parser = HfArgumentParser(dataclasses, description=description)
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        return parser.parse_dict({**(defaults or {}), **json.loads(Path(sys.argv[1]).read_text())})
    parser.set_defaults(**(defaults or {}))
    *parsed, unknown = parser.parse_args_into_dataclasses(return_remaining_strings=True)
    if unknown:
        options = [option for action in parser._actions for option in action.option_strings]
        similar = [
            difflib.get_close_matches(name.split("=")[0], options, 1) for name in unknown if name.startswith("--")
        ]
        meant = ", ".join(name for names in similar for name in names)
        hint = f"; did you mean {meant}?" if meant else ""
        parser.exit(2, f"unrecognized arguments: {' '.join(unknown)}{hint} (--help lists all arguments)\n")
    return tuple(parsed)
