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
Python processes as users start them: their own environment and home, and nothing imported that reads it.

    result = run_python("import crossvit; print(crossvit.__file__)", tmp_path)
    result.stdout, result.stderr, result.returncode

A process is forked from one that has imported PyTorch and torchvision, and nothing of Hugging Face. Their import is most of the time
that such a process takes. With `fresh=True` it is a new interpreter, for tests of the import itself.
"""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path


FORK_SERVER = multiprocessing.get_context("forkserver")
FORK_SERVER.set_forkserver_preload(
    ["torch", "torch._dynamo", "torchvision.transforms.v2", "sklearn.datasets", "torchao", "httpx"]
)


@cache
def _module_path(python_path: str) -> list[str]:
    """`sys.path` of a new interpreter with this `PYTHONPATH` that is given its code with `-c`; first comes its working directory."""
    command = [sys.executable, "-c", "import sys; print(*sys.path, sep='\\n')"]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": python_path}
    return subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )[:-1]


def _run(code: str, folder: str, environment: dict[str, str], module_path: list[str], output: str):
    """What the forked process does: it becomes one of its own in all but the imports, and runs the code as `__main__`."""
    for descriptor, name, flags in (
        (0, os.devnull, os.O_RDONLY),
        (1, "stdout", os.O_WRONLY),
        (2, "stderr", os.O_WRONLY),
    ):
        os.dup2(os.open(os.path.join(output, name) if descriptor else name, flags), descriptor)
    sys.stdin, sys.stdout, sys.stderr = open(0), open(1, "w"), open(2, "w")
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = module_path
    sys.argv = ["-c"]
    script = os.path.join(output, "code.py")
    Path(script).write_text(code)
    runpy.run_path(script, run_name="__main__")


def run_python(
    code: str,
    folder: str | os.PathLike,
    environment: dict[str, str] | None = None,
    without: tuple[str, ...] = (),
    fresh: bool = False,
) -> subprocess.CompletedProcess:
    """
    Runs code in a process of its own, in which nobody answers a question.

    Args:
        code: Python, with the working directory as the first place for imports.
        folder: Working directory, and the user's home unless `environment` has another one.
        environment: The environment variables, beside those that tests/conftest.py sets; a value of None removes one of these.
        without: Packages that cannot be imported, as if they were not installed.
        fresh: Whether the process imports everything itself.

    Returns:
        Exit status, standard output and standard error.
    """
    defaults = {name: os.environ[name] for name in ("PATH", "HF_HUB_OFFLINE", "OMP_NUM_THREADS") if name in os.environ}
    defaults["HOME"] = str(folder)
    variables = {name: value for name, value in {**defaults, **(environment or {})}.items() if value is not None}
    code = "import sys\n" + "".join(f"sys.modules[{name!r}] = None\n" for name in without) + code
    # A package that the fork server has imported cannot be taken back.
    if fresh or {"torch", "torchvision"} & {*without}:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=folder, env=variables, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
    with tempfile.TemporaryDirectory() as output:
        for name in ("stdout", "stderr"):
            Path(output, name).touch()
        module_path = _module_path(variables.get("PYTHONPATH", ""))
        arguments = (code, os.fspath(folder), variables, module_path, output)
        process = FORK_SERVER.Process(target=_run, args=arguments)
        process.start()
        process.join()
        printed = [Path(output, name).read_text() for name in ("stdout", "stderr")]
        return subprocess.CompletedProcess(code, process.exitcode, *printed)
