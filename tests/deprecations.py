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
A pytest plugin, loaded in pyproject.toml: a test fails when transformers, datasets or accelerate log that something it uses is
deprecated. Most deprecations are Python warnings, and pyproject.toml makes those errors; these three libraries announce others in
their logs alone. Scripts that tests start have their own logs: `announcements` finds both kinds in what a script printed.
"""

import logging
import re

import pytest


ANNOUNCEMENT = re.compile(r"deprecat|will be removed|to be removed", re.IGNORECASE)


class DeprecationHandler(logging.Handler):
    """Keeps the records that announce a deprecation."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.messages = []

    def emit(self, record):
        if ANNOUNCEMENT.search(record.getMessage()):
            self.messages.append(f"{record.name}: {record.getMessage()}")


HANDLER = DeprecationHandler()

# For tests that use PEFT, because PEFT 0.21 asks the model for this property.
USES_PEFT = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


def announcements(text: str) -> list[str]:
    """The lines of `text`, what a script wrote to stderr, that announce a deprecation."""
    return [line for line in text.splitlines() if ANNOUNCEMENT.search(line)]


def pytest_configure(config):
    # On each library's own logger, because that of transformers passes nothing on to the root logger.
    for library in ("transformers", "datasets", "accelerate"):
        logging.getLogger(library).addHandler(HANDLER)


@pytest.fixture(autouse=True)
def no_deprecation_is_logged():
    """Fails the test that caused an announcement; one from the imports fails the first test."""
    yield
    messages, HANDLER.messages = HANDLER.messages, []
    if messages:
        pytest.fail("Deprecated, by the log:\n" + "\n".join(messages), pytrace=False)
