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
A server on this computer in the place of the Hub, for tests of what this package publishes and loads. It speaks as much of the protocol
as `huggingface_hub` needs for that. Uploads and downloads of the client are not under test: here every file is uploaded inside of its
commit, and no transfer breaks off.

The client runs in a process whose environment has `HF_ENDPOINT=<HubServer.url>` and `HF_HUB_DISABLE_XET=1`.

    with HubServer(users={"hf_alice": "alice"}) as hub:
        hub.url                            # http://127.0.0.1:<port>
        hub.publish("timm/model", folder)  # as if its owner had uploaded the folder
        hub.files("alice/model", "main")   # {path: bytes}
        hub.corrupt("timm/model", path)    # downloads of the file have a wrong byte
"""

import base64
import hashlib
import json
import re
import secrets
import socket
import threading
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import uvicorn
import yaml
from huggingface_hub import ModelCard
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


REPOSITORY_ID = re.compile(r"([\w-]+/)?[\w.-]+", re.ASCII)


def card_errors(readme: str) -> list[str]:
    """What the Hub would refuse in a model card: metadata that its client cannot read, and names that no repository can have."""
    try:
        data = ModelCard(readme).data
    except (yaml.YAMLError, ValueError) as error:
        return [str(error)]
    given = [data.base_model, data.datasets, [result.dataset_type for result in data.eval_results or []]]
    names = [name for value in given if value for name in ([value] if isinstance(value, str) else value)]
    return [f"{name!r} cannot be the name of a repository" for name in names if not REPOSITORY_ID.fullmatch(name)]


class Blob:
    """The content of a file, and how the Hub names it: weights by their SHA-256, because it stores them with LFS."""

    def __init__(self, path: str, data: bytes):
        self.data = data
        sha1, sha256 = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest(), hashlib.sha256(data).hexdigest()
        is_lfs = path.endswith((".safetensors", ".bin"))
        self.etag = sha256 if is_lfs else sha1
        self.entry = {"type": "file", "path": path, "rfilename": path, "size": len(data), "oid": sha1}
        if is_lfs:
            self.entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": len(data), "pointerSize": 134}


@dataclass
class Repository:
    id: str
    private: bool = False
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, Blob]) -> str:
        sha = self.branches[branch] = secrets.token_hex(20)
        self.commits[sha] = files
        return sha

    def revision(self, name: str) -> tuple[str, dict[str, Blob]]:
        """The commit of a branch or a sha, and its files."""
        sha = self.branches.get(name, name)
        if sha not in self.commits:
            raise hub_error(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return sha, self.commits[sha]


def hub_error(status: int, message: str, code: str | None = None) -> HTTPException:
    """An error as the Hub answers it: the client chooses its exception by the code."""
    headers = {"X-Error-Message": message.replace("\n", " ")} | ({"X-Error-Code": code} if code else {})
    return HTTPException(status, message, headers)


class HubServer:
    """
    The server.

    Args:
        users: Names of users by token. A user may write, and read what is private, below that name only.
    """

    def __init__(self, users: dict[str, str]):
        self.users = users
        self.repositories: dict[str, Repository] = {}
        self._corrupted: set[tuple[str, str]] = set()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        api = "/api/models/{owner}/{name}"
        routes = [
            Route("/api/whoami-v2", self._whoami),
            Route("/api/validate-yaml", self._validate_yaml, methods=["POST"]),
            Route("/api/repos/create", self._create, methods=["POST"]),
            Route(api, self._info),
            Route(api + "/revision/{revision}", self._info),
            Route(api + "/paths-info/{revision}", self._paths_info, methods=["POST"]),
            Route(api + "/preupload/{revision}", self._preupload, methods=["POST"]),
            Route(api + "/commit/{revision}", self._commit, methods=["POST"]),
            Route("/{owner}/{name}/resolve/{revision}/{path:path}", self._resolve),
        ]
        handlers = {
            HTTPException: lambda _, error: JSONResponse({"error": error.detail}, error.status_code, error.headers)
        }
        app = Starlette(routes=routes, exception_handlers=handlers)
        options = {"interface": "asgi3", "lifespan": "off", "log_level": "error", "timeout_graceful_shutdown": 1}
        self._server = uvicorn.Server(uvicorn.Config(app, **options))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._server.should_exit = True
        self._thread.join()

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        _, files = self.repositories[repo_id].revision(revision)
        return {path: blob.data for path, blob in files.items()}

    def publish(self, repo_id: str, folder: Path, private: bool = False, subfolder: str = "", branch: str = "main"):
        """A repository with the files of a folder."""
        repository = self.repositories.setdefault(repo_id, Repository(repo_id, private))
        files = {f"{subfolder}{path.name}": path.read_bytes() for path in folder.iterdir()}
        repository.commit("main", {})
        repository.commit(branch, {path: Blob(path, data) for path, data in files.items()})

    def corrupt(self, repo_id: str, path: str):
        """From now on, downloads of the file have one wrong byte, with the right size and ETag."""
        self._corrupted.add((repo_id, path))

    def mend(self):
        self._corrupted.clear()

    def _user(self, request) -> str | None:
        return self.users.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    def _repository(self, request, write: bool = False) -> Repository:
        user, owner = self._user(request), request.path_params["owner"]
        repository = self.repositories.get(f"{owner}/{request.path_params['name']}")
        # Whoever may not read a private repository gets the answer for one that is missing.
        if repository is None or (repository.private and user != owner):
            raise hub_error(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user != owner:
            raise hub_error(403 if user else 401, f"You have no right to write to {repository.id}")
        return repository

    async def _whoami(self, request):
        return JSONResponse({"type": "user", "name": self._user(request), "orgs": []})

    async def _validate_yaml(self, request):
        errors = [{"message": message} for message in card_errors((await request.json())["content"])]
        return JSONResponse({"errors": errors, "warnings": []}, 400 if errors else 200)

    async def _create(self, request):
        body = await request.json()
        user = self._user(request)
        if user is None or body.get("organization") not in (None, user):
            raise hub_error(403 if user else 401, f"You have no right to create {body}")
        repository = Repository(f"{user}/{body['name']}", private=body.get("visibility") == "private")
        answer = {"url": f"{self.url}/{repository.id}", "name": repository.id}
        if repository.id in self.repositories:
            return JSONResponse({"error": "You already created this model repo", **answer}, 409)
        repository.commit("main", {})
        self.repositories[repository.id] = repository
        return JSONResponse(answer)

    async def _info(self, request):
        repository = self._repository(request)
        sha, files = repository.revision(request.path_params.get("revision", "main"))
        siblings = [blob.entry for blob in files.values()]
        return JSONResponse(
            {"id": repository.id, "sha": sha, "private": repository.private, "tags": [], "siblings": siblings}
        )

    async def _paths_info(self, request):
        _, files = self._repository(request).revision(request.path_params["revision"])
        paths = parse_qs((await request.body()).decode())["paths"]
        return JSONResponse([files[path].entry for path in paths if path in files])

    async def _preupload(self, request):
        self._repository(request, write=True)
        paths = [file["path"] for file in (await request.json())["files"]]
        return JSONResponse({"files": [{"path": p, "uploadMode": "regular", "shouldIgnore": False} for p in paths]})

    async def _commit(self, request):
        repository, branch = self._repository(request, write=True), request.path_params["revision"]
        _, head = repository.revision(branch)
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        files = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"])
            for line in lines
            if line["key"] == "file"
        }
        if "README.md" in files and (errors := card_errors(files["README.md"].decode())):
            raise hub_error(400, "Your push was rejected during YAML metadata verification: " + "; ".join(errors))
        sha = repository.commit(branch, head | {path: Blob(path, data) for path, data in files.items()})
        return JSONResponse({"commitUrl": f"{self.url}/{repository.id}/commit/{sha}", "commitOid": sha})

    async def _resolve(self, request):
        repository, path = self._repository(request), request.path_params["path"]
        sha, files = repository.revision(request.path_params["revision"])
        if path not in files:
            raise hub_error(404, "Entry not found", "EntryNotFound")
        data, etag = files[path].data, files[path].etag
        if (repository.id, path) in self._corrupted:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"'}
        return Response(data, 200, headers, "application/octet-stream")
