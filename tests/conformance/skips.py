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
A plugin of pytest. It compares the tests that were skipped with expected_skips.py, fails the run where they differ, and prints them.
"""

import re
from collections import defaultdict
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from expected_skips import MAY_SKIP, MUST_SKIP


COMPLETE = pytest.StashKey[bool]()  # whether the run has all tests of this folder
COLLECTED, RAN = set(), set()
SKIPPED = defaultdict(set)  # the tests of each reason


def test_name(nodeid: str) -> str:
    return nodeid.rsplit("::", 1)[-1]


def pytest_collection_finish(session):
    COLLECTED.update(test_name(item.nodeid) for item in session.items)
    option, files = session.config.option, {item.path.name for item in session.items}
    chosen = option.keyword or option.markexpr or any("::" in argument for argument in session.config.args)
    session.config.stash[COMPLETE] = not chosen and files == {
        path.name for path in Path(__file__).parent.glob("test_*.py")
    }


def pytest_runtest_logreport(report):
    if report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        reason = re.sub(r"^.* is skipped: `[\w-]+` is not in", "The task is not in", reason)
        SKIPPED[reason].add(test_name(report.nodeid))
    elif report.when == "call":
        RAN.add(test_name(report.nodeid))


def contradictions(complete: bool) -> list[str]:
    """Where the skips of this run and expected_skips.py differ."""
    lines = []
    for reason, tests in SKIPPED.items():
        for test in sorted(tests):
            expected = MUST_SKIP.get(test, set()) | MAY_SKIP.get(test, set())
            if not any(fnmatchcase(reason, pattern) for pattern in expected):
                lines.append(f"{test} is skipped, and not listed with this reason: {reason}")
    ran = RAN - set().union(*SKIPPED.values())
    lines += [f"{test} is listed, and not skipped" for test in sorted(ran & MUST_SKIP.keys())]
    if complete:
        lines += [
            f"{test} is listed, and does not exist" for test in sorted((MUST_SKIP | MAY_SKIP).keys() - COLLECTED)
        ]
    return lines


def pytest_sessionfinish(session):
    if contradictions(session.config.stash.get(COMPLETE, False)) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter, config):
    terminalreporter.section("skipped")
    for reason, tests in sorted(SKIPPED.items(), key=lambda item: -len(item[1])):
        terminalreporter.write_line(f"{len(tests):3d}  {reason}\n     {', '.join(sorted(tests))}")
    if lines := contradictions(config.stash.get(COMPLETE, False)):
        terminalreporter.section("other skips than expected_skips.py lists", red=True)
        terminalreporter.write_line("\n".join(lines), red=True)
