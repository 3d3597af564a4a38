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
The examples of docs/upstream.md print what the page shows. Where one does not, transformers has changed, and the code that is here
because of it can go.

    pytest tests/upstream/test_requests.py
"""

import contextlib
import io
import re
from pathlib import Path

import pytest


PAGE = Path(__file__).parents[2] / "docs" / "upstream.md"
REQUESTS = re.findall(r"^### (.+?)\n.*?^```python\n(.*?)^```\n\n^```text\n(.*?)^```", PAGE.read_text(), re.M | re.S)


@pytest.mark.parametrize(
    "code, expected", [request[1:] for request in REQUESTS], ids=[title for title, *_ in REQUESTS]
)
def test_example_prints_what_the_page_shows(code, expected):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, PAGE, "exec"), {})
    assert output.getvalue() == expected


def test_every_request_has_an_example():
    assert len(REQUESTS) == len(re.findall("^### ", PAGE.read_text(), re.M)) == 4
