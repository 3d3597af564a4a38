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
"""Ends a command that can be continued: in one line, and with what it has done so far on the disk."""

import contextlib
import errno
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import Any


# The disk is full, or the user's share of it, or files may not become as large.
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Stopped(KeyboardInterrupt):
    """The first SIGTERM or Ctrl-C."""


@contextlib.contextmanager
def resumable(kept: str) -> Iterator[None]:
    """
    Inside, the first Ctrl-C or SIGTERM raises `Stopped`, so that blocks that catch it can save what they have. A second one ends the program at
    once; launchers pass a signal on to processes that have it already, therefore what comes within two seconds is no second one. Outside, after a
    signal and where the disk is full, one line without a traceback says that the same command continues.

    Args:
        kept: What is on the disk after a signal, for the message.
    """
    first: float | None = None
    received = signal.SIGINT

    def on_signal(number: int, frame: Any) -> None:
        nonlocal first, received
        if first is None:
            first, received = time.monotonic(), signal.Signals(number)
            raise Stopped
        if time.monotonic() > first + 2:
            os._exit(128 + number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    earlier = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield
    except KeyboardInterrupt:
        name = "Ctrl-C" if received == signal.SIGINT else received.name
        # Of several processes, the first one says it.
        if os.environ.get("RANK", "0") == "0":
            print(f"\n{name}: {kept}; the same command continues from there", file=sys.stderr, flush=True)
        raise SystemExit(128 + received) from None
    except OSError as error:
        if error.errno not in NO_SPACE:
            raise
        raise SystemExit(no_space(error)) from error
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def no_space(error: OSError) -> str:
    """The message for an error of `NO_SPACE`. It is not the error's own, because Ray puts advice for its developers in the place of the file."""
    return f"There is no space for files ({os.strerror(error.errno or 0)}). Free some: the same command continues with what was saved before."


__all__ = ["NO_SPACE", "Stopped", "no_space", "resumable"]
