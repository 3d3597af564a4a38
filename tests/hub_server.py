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
"""A server on this computer that speaks the part of the Hub's HTTP protocol that `huggingface_hub` needs for models.

The client itself is not changed: it runs in a process whose environment has `HF_ENDPOINT=<HubServer.url>` and
`HF_HUB_DISABLE_XET=1`. Repositories are in memory and have real commits. Left out are pull requests, `.gitignore`
rules, pages of listings, and multipart uploads, which the Hub asks for with files above 5 GB only.

    with HubServer(users={"hf_alice": "alice"}) as hub:
        hub.url                            # http://127.0.0.1:<port>
        hub.files("alice/model", "main")   # {path: bytes}, with the .gitattributes of the Hub's initial commit
        hub.cut_next_download(1000)        # and the other faults of `HubServer`
"""

import base64
import hashlib
import json
import re
import secrets
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote

import uvicorn
import yaml
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol


# What the Hub stores with LFS, whatever its size, and the size above which it stores everything with LFS.
LFS_SUFFIXES = (".safetensors", ".bin", ".pth")
REGULAR_LIMIT = 10 * 2**20

# https://huggingface.co/docs/hub/repositories-licenses
LICENSES = """
    afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
    bigscience-openrail-m bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc cc-by-2.0 cc-by-2.5
    cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0
    cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0
    cdla-permissive-2.0 cdla-sharing-1.0 creativeml-openrail-m deepfloyd-if-license ecl-2.0 epl-1.0 epl-2.0 etalab-2.0
    eupl-1.1 eupl-1.2 fair-noncommercial-research-license gemma gfdl gpl gpl-2.0 gpl-3.0 grok2-community h-research
    intel-research isc lgpl lgpl-2.1 lgpl-3.0 lgpl-lr llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 lppl-1.3c mit
    mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 openmdw-1.0 openmdw-1.1 openrail openrail++ osl-3.0 other pddl postgresql
    unknown unlicense wtfpl zlib
""".split()

# https://huggingface.co/tasks
TASKS = """
    any-to-any audio-classification audio-text-to-text audio-to-audio automatic-speech-recognition depth-estimation
    document-question-answering feature-extraction fill-mask graph-ml image-classification image-feature-extraction
    image-segmentation image-text-to-image image-text-to-text image-text-to-video image-to-3d image-to-image
    image-to-text image-to-video keypoint-detection mask-generation object-detection other question-answering
    reinforcement-learning robotics sentence-similarity summarization table-question-answering tabular-classification
    tabular-regression text-classification text-generation text-ranking text-to-3d text-to-audio text-to-image
    text-to-speech text-to-video time-series-forecasting token-classification translation
    unconditional-image-generation video-classification video-text-to-text video-to-video visual-document-retrieval
    visual-question-answering voice-activity-detection zero-shot-classification zero-shot-image-classification
    zero-shot-object-detection
""".split()

# What a card's metadata must be: lists, mappings, one of some strings, strings of a pattern, `object` for any value.
# A key that ends in "?" may be left out.
TEXT = re.compile(r"[\s\S]+")
ID = re.compile(r"(?:[\w-]+\/)?[\w.-]+", re.ASCII)
LANGUAGE = re.compile(r"(?:[a-z]{2,3}|code|multilingual)")
DATASET = {"type": ID, "name": TEXT, "config?": TEXT, "split?": TEXT, "revision?": TEXT}
RESULT = {"task": {"type": TEXT}, "dataset": DATASET, "metrics": [{"type": TEXT, "value": object}]}
LISTS = {"base_model?": [ID], "datasets?": [ID], "language?": [LANGUAGE], "metrics?": [TEXT], "tags?": [TEXT]}
CARD = {"license?": (*LICENSES,), "pipeline_tag?": (*TASKS,), "library_name?": TEXT, **LISTS}
CARD["model-index?"] = [{"name": TEXT, "results": [RESULT]}]


class CardLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, as the Hub does."""

    def construct_mapping(self, node, deep=False):
        keys = [key.value for key, _ in node.value]
        if len({*keys}) < len(keys):
            raise yaml.constructor.ConstructorError(None, None, "duplicated mapping key", node.start_mark)
        return super().construct_mapping(node, deep)


def read_card(readme: str) -> dict:
    """The front matter of a README.md as JSON values."""
    match = re.match(r"\s*---\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|$)", readme, re.DOTALL)
    card = yaml.load(match[1], CardLoader) if match else {}
    if not isinstance(card, dict):
        raise ValueError("the metadata must be a mapping")
    return json.loads(json.dumps(card, default=str, allow_nan=False))


def listed(value):
    """A list that may also be given as its only string."""
    return [value] if isinstance(value, str) else value


def schema_errors(value, schema, where: str = "") -> Iterator[str]:
    kind, name = {list: (list, "an array"), dict: (dict, "an object")}.get(type(schema), (str, "a string"))
    if schema is object:
        return
    if not isinstance(value, kind):
        yield f'"{where}" must be {name}'
    elif kind is list:
        for index, item in enumerate(value):
            yield from schema_errors(item, schema[0], f"{where}[{index}]")
    elif kind is dict:
        for key, expected in schema.items():
            path = f"{where}.{key}".strip(".?")
            if key.removesuffix("?") in value:
                yield from schema_errors(value[key.removesuffix("?")], expected, path)
            elif not key.endswith("?"):
                yield f'"{path}" is required'
    elif isinstance(schema, tuple) and value not in schema:
        yield f'"{where}" must be one of [{", ".join(schema)}]'
    elif isinstance(schema, re.Pattern) and not schema.fullmatch(value):
        yield f'"{where}" with value "{value}" fails to match the required pattern: /^{schema.pattern}$/'


def card_errors(readme: str) -> list[str]:
    """What the Hub refuses in the front matter of a README.md."""
    try:
        card = read_card(readme)
    except (yaml.YAMLError, ValueError) as error:
        return [f"Invalid YAML: {error}"]
    return [*schema_errors({key: listed(value) if f"{key}?" in LISTS else value for key, value in card.items()}, CARD)]


class Blob:
    """A file's content, and its entry in listings but for the path."""

    def __init__(self, data: bytes, lfs: bool = False):
        self.data, self.lfs = data, lfs
        size, sha256 = len(data), hashlib.sha256(data).hexdigest()
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        stored = pointer if lfs else data
        oid = hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()
        self.etag = sha256 if lfs else oid
        # Two names for one thing: the listing of a tree has the first one, the siblings of a model the second one.
        self.entry = {"type": "file", "size": size, "oid": oid, "blobId": oid}
        if lfs:
            self.entry["lfs"] = {"oid": sha256, "sha256": sha256, "size": size, "pointerSize": len(pointer)}


@dataclass
class Commit:
    title: str
    parent: str | None
    files: dict[str, Blob]
    sha: str = field(default_factory=lambda: secrets.token_hex(20))

    def tree(self, folder: str = "", recursive: bool = True) -> list[dict]:
        """The entries of the files and folders in a folder."""
        entries = {}
        for path, blob in self.files.items():
            entries[path] = {"path": path, **blob.entry}
            for parent in map(str, PurePosixPath(path).parents[:-1]):
                # There are no git trees here: any id does that is the same every time.
                oid = hashlib.sha1(parent.encode()).hexdigest()
                entries[parent] = {"type": "directory", "path": parent, "oid": oid, "size": 0}
        inside = re.compile(re.escape(f"{folder}/" if folder else "") + (".+" if recursive else "[^/]+"))
        return [entry for path, entry in sorted(entries.items()) if inside.fullmatch(path)]


@dataclass
class Repository:
    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs_objects: dict[str, bytes] = field(default_factory=dict)

    def commit(self, branch: str, title: str, files: dict[str, Blob]) -> Commit:
        commit = Commit(title, self.branches.get(branch), files)
        self.commits[commit.sha] = commit
        self.branches[branch] = commit.sha
        return commit

    def revision(self, name: str) -> Commit:
        """The commit of a branch, a tag or a sha."""
        sha = self.branches.get(name) or self.tags.get(name) or name
        if sha not in self.commits:
            raise hub_error(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return self.commits[sha]


def hub_error(status: int, message: str, code: str | None = None, **headers: str) -> HTTPException:
    """An error as the Hub answers it: the client chooses its exception by the code."""
    # A header has neither line breaks nor all of Unicode.
    headers["X-Error-Message"] = message.replace("\n", " ").encode("ascii", "replace").decode()
    if code is not None:
        headers["X-Error-Code"] = code
    return HTTPException(status, message, headers)


def parameter(request: Request, name: str) -> str:
    return unquote(request.path_params[name])


class CutResponse(Response):
    """Sends the headers of a response and the first bytes of its body, or nothing, then closes the connection."""

    def __init__(self, response: Response | None = None, after_bytes: int = 0):
        self.response = response
        self.after_bytes = after_bytes

    async def __call__(self, scope, receive, send):
        if self.response is not None:
            headers = self.response.raw_headers
            await send({"type": "http.response.start", "status": self.response.status_code, "headers": headers})
            body = self.response.body[: self.after_bytes]
            await send({"type": "http.response.body", "body": body, "more_body": True})
        scope["state"]["transport"].close()
        while (await receive())["type"] != "http.disconnect":
            pass


class Protocol(H11Protocol):
    """Hands the connection to the application: ASGI has no way to close it without an answer."""

    def connection_made(self, transport):
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


@dataclass
class LoggedRequest:
    method: str
    path: str
    range: str | None
    status: int | None = None  # stays None if the connection was closed without an answer


class HubServer:
    """The server. `users` are the names of users by token; each may write below its own name only.

    `repositories` are by id, `requests` in the order in which they came, and `authorizations` are the `Authorization`
    headers so far. `override_headers` are sent with every answer below `/resolve/`, errors too, in place of the right
    ones; of a file's ETag, the client takes `X-Linked-Etag`, which LFS files have, before `ETag`.
    """

    def __init__(self, users: dict[str, str]):
        self.users = users
        self.repositories: dict[str, Repository] = {}
        self.requests: list[LoggedRequest] = []
        self.authorizations: set[str] = set()
        self.override_headers: dict[str, str] = {}
        self._corrupted: set[tuple[str, str]] = set()
        self._upload_cuts: list[int] = []
        self._download_cuts: list[int] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"

        api, git = "/api/models/{namespace}/{name}", "/{namespace}/{name}"
        objects = git + ".git/info/lfs/objects"
        self._app = Starlette(
            routes=[
                Route("/api/whoami-v2", self._whoami),
                Route("/api/validate-yaml", self._validate_yaml, methods=["POST"]),
                Route("/api/repos/create", self._create, methods=["POST"]),
                Route(api, self._info),
                Route(api + "/revision/{revision}", self._info),
                Route(api + "/refs", self._refs),
                Route(api + "/tree/{revision}", self._tree),
                Route(api + "/tree/{revision}/{path:path}", self._tree),
                Route(api + "/paths-info/{revision}", self._paths_info, methods=["POST"]),
                Route(api + "/branch/{branch}", self._create_ref, methods=["POST"]),
                Route(api + "/tag/{revision}", self._create_ref, methods=["POST"]),
                Route(api + "/preupload/{revision}", self._preupload, methods=["POST"]),
                Route(api + "/commit/{revision}", self._commit, methods=["POST"]),
                Route(objects + "/batch", self._lfs_batch, methods=["POST"]),
                Route(objects + "/{oid}", self._lfs_upload, methods=["PUT"]),
                Route(objects + "/{oid}/verify", self._lfs_verify, methods=["POST"]),
                Route(git + "/resolve/{revision}/{path:path}", self._resolve),
            ],
            exception_handlers={
                HTTPException: lambda _, error: JSONResponse({"error": error.detail}, error.status_code, error.headers)
            },
        )
        options = {"interface": "asgi3", "lifespan": "off", "log_level": "error", "timeout_graceful_shutdown": 1}
        self._server = uvicorn.Server(uvicorn.Config(self._serve, http=Protocol, **options))
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._server.should_exit = True
        self._thread.join()

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        return {path: blob.data for path, blob in self.repositories[repo_id].revision(revision).files.items()}

    def publish(
        self, name: str, folder: Path, private: bool = False, subfolder: str = "", branch: str = "main"
    ) -> Commit:
        """A repository with the files of a folder, as if its owner had uploaded them."""
        repository = self.repositories.setdefault(name, Repository(name, private))
        files = {
            f"{subfolder}{path.name}": Blob(path.read_bytes(), lfs=path.suffix in LFS_SUFFIXES)
            for path in folder.iterdir()
        }
        repository.commit("main", "initial commit", {})
        return repository.commit(branch, "weights", files)

    def cut_next_upload(self, after_bytes: int, times: int = 1):
        """Closes the connection of the next LFS upload of more than that many bytes without an answer."""
        self._upload_cuts += [after_bytes] * times

    def cut_next_download(self, after_bytes: int, times: int = 1):
        """Closes the connection of the next download of more than that many bytes after them."""
        self._download_cuts += [after_bytes] * times

    def corrupt(self, repo_id: str, path: str):
        """From now on, downloads of the file have one wrong byte, with the right size and ETag."""
        self._corrupted.add((repo_id, path))

    def mend(self):
        """Ends all faults."""
        for faults in (self.override_headers, self._corrupted, self._upload_cuts, self._download_cuts):
            faults.clear()

    async def _serve(self, scope, receive, send):
        # A branch or a folder may have a slash, which is quoted in the URL: routes are matched before it is unquoted.
        scope["path"] = scope["raw_path"].decode()
        headers = Request(scope).headers
        logged = LoggedRequest(scope["method"], scope["path"], headers.get("range"))
        self.requests.append(logged)
        if "authorization" in headers:
            self.authorizations.add(headers["authorization"])

        async def logged_send(message):
            if message["type"] == "http.response.start":
                logged.status = message["status"]
                if "/resolve/" in logged.path:
                    MutableHeaders(raw=message["headers"]).update(self.override_headers)
            await send(message)

        await self._app(scope, receive, logged_send)

    def _user(self, request: Request) -> str | None:
        authorization = request.headers.get("authorization")
        if authorization is None:
            return None
        user = self.users.get(authorization.removeprefix("Bearer "))
        if user is None:
            raise hub_error(401, "Invalid credentials in Authorization header")
        return user

    def _repository(self, request: Request, write: bool = False) -> Repository:
        user, namespace = self._user(request), parameter(request, "namespace")
        repository = self.repositories.get(f"{namespace}/{parameter(request, 'name')}")
        # Whoever may not read a private repository gets the answer for one that is missing.
        if repository is None or (repository.private and user != namespace):
            raise hub_error(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and user != namespace:
            raise hub_error(403 if user else 401, f"You have no right to write to {repository.id}")
        return repository

    def _revision(self, request: Request, write: bool = False) -> tuple[Repository, Commit]:
        repository = self._repository(request, write)
        return repository, repository.revision(unquote(request.path_params.get("revision", "main")))

    async def _whoami(self, request):
        user = self._user(request)
        if user is None:
            raise hub_error(401, "Invalid username or password.")
        return JSONResponse({"type": "user", "name": user, "orgs": []})

    async def _validate_yaml(self, request):
        readme = (await request.json())["content"]
        errors = [{"message": message} for message in card_errors(readme)]
        warnings = [] if errors or read_card(readme) else [{"message": "empty or missing yaml metadata in repo card"}]
        return JSONResponse({"errors": errors, "warnings": warnings}, 400 if errors else 200)

    async def _create(self, request):
        user, body = self._user(request), await request.json()
        namespace = body.get("organization") or user
        if user is None or namespace != user:
            raise hub_error(403 if user else 401, f"You have no right to create a model under {namespace}")
        if body.get("type", "model") != "model" or not re.fullmatch(r"[\w.-]{1,96}", body["name"]):
            raise hub_error(400, f"Not the name of a model: {body}")
        repository = Repository(f"{namespace}/{body['name']}", private=body.get("visibility") == "private")
        answer = {"url": f"{self.url}/{repository.id}", "name": repository.id}
        if repository.id in self.repositories:
            return JSONResponse({"error": "You already created this model repo", **answer}, 409)
        self.repositories[repository.id] = repository
        lines = [f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LFS_SUFFIXES]
        repository.commit("main", "initial commit", {".gitattributes": Blob("".join(lines).encode())})
        return JSONResponse(answer)

    async def _info(self, request):
        repository, commit = self._revision(request)
        readme = commit.files.get("README.md")
        card = read_card(readme.data.decode()) if readme else {}
        # What the Hub makes tags from, and what it puts before them.
        prefixes = {"library_name": "", "tags": "", "language": "", "datasets": "dataset:", "license": "license:"}
        prefixes["base_model"] = "base_model:"
        tags = [prefix + value for key, prefix in prefixes.items() for value in listed(card.get(key, []))]
        files = [{"rfilename": path, **blob.entry} for path, blob in sorted(commit.files.items())]
        answer = {"id": repository.id, "sha": commit.sha, "private": repository.private}
        answer |= {key: card.get(key) for key in ("library_name", "pipeline_tag", "model-index")}
        return JSONResponse({**answer, "tags": tags, "cardData": card, "siblings": files})

    async def _refs(self, request):
        repository = self._repository(request)
        answer = {"converts": [], "pullRequests": []}
        for key, folder, refs in (("branches", "heads", repository.branches), ("tags", "tags", repository.tags)):
            answer[key] = [{"name": n, "ref": f"refs/{folder}/{n}", "targetCommit": sha} for n, sha in refs.items()]
        return JSONResponse(answer)

    async def _tree(self, request):
        _, commit = self._revision(request)
        folder = unquote(request.path_params.get("path", ""))
        tree = commit.tree(folder, recursive=request.query_params.get("recursive") == "true")
        if folder and not tree:
            raise hub_error(404, f"{folder} does not exist", "EntryNotFound")
        return JSONResponse(tree)

    async def _paths_info(self, request):
        _, commit = self._revision(request)
        paths = parse_qs((await request.body()).decode())["paths"]
        return JSONResponse([entry for entry in commit.tree() if entry["path"] in paths])

    async def _create_ref(self, request):
        # A branch is in the URL and the revision in the body; for a tag, it is the other way round.
        repository, body = self._repository(request, write=True), await request.json()
        if "branch" in request.path_params:
            refs, name, revision = repository.branches, parameter(request, "branch"), body.get("startingPoint", "main")
        else:
            refs, name, revision = repository.tags, body["tag"], parameter(request, "revision")
        if name in refs:
            raise hub_error(409, f"Reference already exists: {name}")
        refs[name] = repository.revision(revision).sha
        return JSONResponse({})

    async def _preupload(self, request):
        _, commit = self._revision(request, write=True)
        files = []
        for file in (await request.json())["files"]:
            path, blob = file["path"], commit.files.get(file["path"])
            mode = "lfs" if path.endswith(LFS_SUFFIXES) or file["size"] > REGULAR_LIMIT else "regular"
            files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": blob and blob.etag})
        return JSONResponse({"files": files})

    async def _lfs_batch(self, request):
        repository = self._repository(request, write=True)
        objects = []
        for item in (await request.json())["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in repository.lfs_objects:
                href = f"{self.url}/{repository.id}.git/info/lfs/objects/{item['oid']}"
                upload = {"href": f"{href}?size={item['size']}"}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{href}/verify"}}
            objects.append(answer)
        return JSONResponse({"transfer": "basic", "objects": objects})

    async def _lfs_upload(self, request):
        # The client sends no token here: on the Hub, this is a storage service's address, signed for one upload.
        repository = self.repositories[f"{parameter(request, 'namespace')}/{parameter(request, 'name')}"]
        data = bytearray()
        async for chunk in request.stream():
            data += chunk
            if self._upload_cuts and len(data) > self._upload_cuts[0]:
                self._upload_cuts.pop(0)
                return CutResponse()
        oid = parameter(request, "oid")
        if len(data) != int(request.query_params["size"]) or hashlib.sha256(data).hexdigest() != oid:
            raise hub_error(400, "The content differs from its size or sha256")
        repository.lfs_objects[oid] = bytes(data)
        return Response()

    async def _lfs_verify(self, request):
        repository, body = self._repository(request, write=True), await request.json()
        if len(repository.lfs_objects.get(body["oid"], b"")) != body["size"]:
            raise hub_error(400, "The object was not uploaded")
        return JSONResponse({})

    async def _commit(self, request):
        repository, branch = self._repository(request, write=True), parameter(request, "revision")
        if "create_pr" in request.query_params:
            raise hub_error(400, "This server has no pull requests")
        if branch not in repository.branches:
            raise hub_error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        lines = [json.loads(line) for line in (await request.body()).splitlines()]
        header = next(line["value"] for line in lines if line["key"] == "header")
        head = repository.revision(branch)
        if not head.sha.startswith(header.get("parentCommit", "")):
            raise hub_error(412, "A commit has happened since. Please refresh and try again.")

        files = dict(head.files)
        for line in lines:
            key, value = line["key"], line["value"]
            path = value.get("path", "").rstrip("/")
            if key == "file":
                files[path] = Blob(base64.b64decode(value["content"]))
            elif key == "lfsFile":
                if value["oid"] not in repository.lfs_objects:
                    raise hub_error(400, f"The LFS object of {path} was not uploaded: {value['oid']}")
                files[path] = Blob(repository.lfs_objects[value["oid"]], lfs=True)
            elif key == "deletedFile":
                if files.pop(path, None) is None:
                    raise hub_error(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
            elif key == "deletedFolder":
                files = {name: blob for name, blob in files.items() if not name.startswith(f"{path}/")}
        if "README.md" in files and (errors := card_errors(files["README.md"].data.decode())):
            raise hub_error(400, "Your push was rejected during YAML metadata verification:\n" + "\n".join(errors))

        commit = repository.commit(branch, header["summary"], files)
        url = f"{self.url}/{repository.id}/commit/{commit.sha}"
        return JSONResponse({"success": True, "commitUrl": url, "commitOid": commit.sha})

    async def _resolve(self, request):
        (repository, commit), path = self._revision(request), parameter(request, "path")
        blob = commit.files.get(path)
        if blob is None:
            raise hub_error(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.sha})
        headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"', "Accept-Ranges": "bytes"}
        if blob.lfs:
            headers |= {"X-Linked-Etag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.data))}
        data, status = blob.data, 200
        if (repository.id, path) in self._corrupted:
            middle = len(data) // 2
            data = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        if part := re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("range", "")):
            start, size = int(part[1]), len(data)
            if start >= size:
                raise hub_error(416, "Range not satisfiable", **{"Content-Range": f"bytes */{size}"})
            data, status = data[start : int(part[2]) + 1 if part[2] else size], 206
            headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{size}"
        response = Response(data, status, headers, "application/octet-stream")
        if request.method == "GET" and self._download_cuts and len(data) > self._download_cuts[0]:
            return CutResponse(response, self._download_cuts.pop(0))
        return response
