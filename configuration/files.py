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
"""Files and folders that are written whole or not at all. A failure leaves what was there."""

import contextlib
import difflib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replace_file(path: str | os.PathLike) -> Iterator[Path]:
    """
    A path to write to, in the folder of `path`. At the end of the block the new file takes the place of `path`. If the block fails, the new
    file is removed.
    """
    path = Path(path)
    # A folder of its own, because threads and containers that share a disk can have equal process ids.
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as folder:
        temporary = Path(folder) / path.name
        yield temporary
        os.replace(temporary, path)


def check_writable(folder: str | os.PathLike) -> None:
    """
    Tries to write into a folder, or where it would be made, so that nobody waits for a result that cannot be saved. Nothing stays there.

    Raises:
        ValueError: If that is not possible. The message says why.
    """
    path = Path(folder).absolute()
    existing = next(place for place in (path, *path.parents) if place.exists())
    try:
        with tempfile.TemporaryFile(dir=existing) as file:
            file.write(b"0")
    except OSError as error:
        raise ValueError(f"{folder} cannot be written to: {error.strerror or error}. Give another folder.") from error


@contextlib.contextmanager
def replace_folder(output: str | os.PathLike) -> Iterator[Path]:
    """A new folder to write in. At the end of the block it takes the place of `output`. If the block fails, it is removed."""
    output = Path(output)
    # On the disk of `output`, because a folder cannot be renamed to another disk.
    ancestor = next(folder for folder in output.absolute().parents if folder.is_dir())
    with tempfile.TemporaryDirectory(dir=ancestor, prefix=f".{output.name}-") as temporary:
        folder, previous = Path(temporary) / "new", Path(temporary) / "previous"
        folder.mkdir()
        yield folder
        output.parent.mkdir(parents=True, exist_ok=True)
        if output.exists():
            os.replace(output, previous)
        try:
            os.replace(folder, output)
        except OSError:
            if previous.exists():
                os.replace(previous, output)
            raise


def nearest_file(path: str | os.PathLike) -> str | None:
    """The file or folder that may have been meant by a path that does not exist: the one beside it with the nearest name."""
    folder, name = os.path.split(path)
    names = os.listdir(folder or ".") if os.path.isdir(folder or ".") and os.access(folder or ".", os.R_OK) else []
    close = difflib.get_close_matches(name, names, n=1)
    return os.path.join(folder, close[0]) if close else None


__all__ = ["check_writable", "nearest_file", "replace_file", "replace_folder"]
