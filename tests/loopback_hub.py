"""The Hugging Face Hub on 127.0.0.1, for the real clients: huggingface_hub, datasets, evaluate.

    with LoopbackHub() as hub:
        os.environ.update(hub.env(tmp_path))    # before huggingface_hub is imported: it reads them only then
        hub.fault("GET .*model.safetensors", "reset")
        ...
        hub.requests                            # ["POST /api/repos/create", ...]

Repositories of models, datasets and Spaces; branches, tags and commits; LFS over a second port, which is the
"CDN", because clients follow a redirect within one origin in another way; private and gated repositories.
Without Xet, pull requests and multipart uploads. What a client is picky about is said where it is obeyed.
"""

import base64
import gzip
import hashlib
import json
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

TYPES = {"models": "", "datasets": "datasets/", "spaces": "spaces/"}
DATE = "2026-01-01T00:00:00.000Z"


@dataclass(frozen=True)
class Blob:
    content: bytes
    is_lfs: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def oid(self) -> str:
        """Git's hash; for LFS that of the content would do, for the clients only compare it."""
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.is_lfs else self.oid

    def entry(self, path: str) -> dict[str, Any]:
        """As in tree and paths-info."""
        lfs = {"lfs": {"oid": self.sha256, "size": len(self.content), "pointerSize": 134}} if self.is_lfs else {}
        return {"type": "file", "path": path, "size": len(self.content), "oid": self.oid} | lfs


@dataclass
class Commit:
    oid: str
    title: str
    parent: str | None
    files: dict[str, Blob]


@dataclass
class Repo:
    type: str
    id: str
    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Commit] = field(default_factory=dict)

    def commit(self, branch: str, title: str, files: dict[str, Blob]) -> Commit:
        parent = self.branches.get(branch)
        content = repr((parent, title, [(path, blob.oid) for path, blob in sorted(files.items())]))
        commit = Commit(hashlib.sha1(content.encode()).hexdigest(), title, parent, files)
        self.commits[commit.oid] = commit
        self.branches[branch] = commit.oid
        return commit

    def at(self, revision: str) -> Commit:
        oid = self.branches.get(revision) or self.tags.get(revision) or revision
        if oid not in self.commits:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return self.commits[oid]

    def history(self, revision: str) -> Iterator[Commit]:
        oid: str | None = self.at(revision).oid
        while oid:
            yield self.commits[oid]
            oid = self.commits[oid].parent


@dataclass
class Reply:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class Refused(Exception):
    """An error of the API; the clients choose their exception by `code`, over http also for a 401."""

    def __init__(self, status: int, code: str = "", message: str = "", **headers: str):
        self.status, self.message = status, message or code or str(status)
        self.headers = {"X-Error-Message": self.message, **headers} | ({"X-Error-Code": code} if code else {})


@dataclass
class Fault:
    pattern: str
    kind: str | int | Callable[[], object]
    times: int


@dataclass
class Request:
    method: str
    path: str
    query: dict[str, list[str]]
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def token(self) -> str | None:
        return self.headers.get("Authorization", "").removeprefix("Bearer ") or None


Route = tuple[str, re.Pattern[str], Callable[..., Reply]]
ROUTES: list[Route] = []


def route(method: str, pattern: str) -> Callable[[Callable[..., Reply]], Callable[..., Reply]]:
    """Patterns match the path as it was sent: a revision or folder is one quoted segment (exp%2Fone)."""
    pattern = pattern.replace("TYPE", "(?P<type>models|datasets|spaces)").replace("ID", "(?P<id>[^/]+/[^/]+)")
    pattern = pattern.replace("GIT", "(?P<type>datasets/|spaces/|)(?P<id>[^/]+/[^/]+)")

    def register(function: Callable[..., Reply]) -> Callable[..., Reply]:
        ROUTES.append((method, re.compile(pattern.replace("REV", "(?P<revision>[^/]+)")), function))
        return function

    return register


class LoopbackHub:
    """`token` may write and belongs to alice; `reader` may only read; no token reads what is public."""

    token, reader = "hf_alice", "hf_reader"

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.objects: dict[str, bytes] = {}  # LFS contents by sha256
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self._bind(0, 0)
        self.url, self.cdn = (f"http://127.0.0.1:{server.server_port}" for server in self._servers)

    def __enter__(self) -> "LoopbackHub":
        for server in self._servers:
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def _bind(self, port: int, cdn_port: int) -> None:
        self._servers = [_server(self, port, self._answer), _server(self, cdn_port, self._answer_cdn)]

    @contextmanager
    def down(self) -> Iterator[None]:
        """As without a network: nobody listens. `huggingface_hub.close_session()` drops what is connected."""
        self.__exit__()
        try:
            yield
        finally:
            self._bind(*(server.server_port for server in self._servers))
            self.__enter__()

    def env(self, home: Path) -> dict[str, str]:
        """Variables that send the clients here, with nothing in their caches, which will be in `home`."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_TOKEN": self.token,
            "HF_HUB_DISABLE_XET": "1",  # or LFS uploads ask for a Xet server, and nothing else
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HUB_OFFLINE": "0",
            "HF_UPDATE_DOWNLOAD_COUNTS": "0",
            "NO_PROXY": "127.0.0.1",
        }

    def clear(self) -> None:
        for forgotten in (self.repos, self.objects, self.faults, self.requests):
            forgotten.clear()

    def repo(self, id: str, type: str = "models") -> Repo:
        """To look into a repository, or to change it behind the clients' backs."""
        return self.repos[type, id]

    def fault(self, pattern: str, kind: str | int | Callable[[], object], times: int = 1) -> None:
        """Spoil the next requests.

        Args:
            pattern: a regular expression found in "GET /org/x/resolve/main/config.json". LFS content is got
                from "/lfs/<sha256>/<file name>".
            kind: a status (401, 403, 404, 429, 500), or what happens to the body: "reset" (half of it, then
                the connection breaks), "truncate" (half of it, as if it were all) or "flip" (one wrong byte);
                or what else happens in the world before the answer.
        """
        self.faults.append(Fault(pattern, kind, times))

    def _answer(self, request: Request) -> Reply:
        if request.token not in (None, self.token, self.reader):
            raise Refused(401, message="Invalid credentials in Authorization header")
        for method, pattern, function in ROUTES:
            match = pattern.fullmatch(request.path)
            if match and method == ("GET" if request.method == "HEAD" else request.method):
                names = {name: unquote(value) for name, value in match.groupdict().items() if value is not None}
                return function(self, request, **self._resolved(request, names))
        raise Refused(404, message=f"no such route: {request.method} {request.path}")

    def _resolved(self, request: Request, names: dict[str, Any]) -> dict[str, Any]:
        """With the repository in place of its name, if the token may see it."""
        if "id" not in names:
            return names
        type = names.pop("type").rstrip("/") or "models"
        repo = self.repos.get((type, names.pop("id")))
        if repo is None or (repo.private and request.token is None):
            raise Refused(401 if request.token is None else 404, "RepoNotFound", "Repository not found")
        if request.method in ("POST", "PUT", "DELETE") and "/paths-info/" not in request.path:
            self._writer(request)
        return {"repo": repo, **names}

    def _writer(self, request: Request) -> None:
        if request.token is None:
            raise Refused(401, message="Invalid username or password.")
        if request.token != self.token:
            raise Refused(403, message="You don't have the rights to create or change this")

    def _answer_cdn(self, request: Request) -> Reply:
        if request.token:
            raise Refused(400, message="a signed url must not come with a token")
        sha256 = request.path.split("/")[2]
        if request.method == "PUT":
            if hashlib.sha256(request.body).hexdigest() != sha256:
                raise Refused(400, message="BadDigest")
            self.objects[sha256] = request.body
            return Reply()
        return _ranged(request, Reply(200, self.objects[sha256], {"ETag": f'"{sha256}"'}))

    @route("GET", "/api/whoami-v2")
    def whoami(self, request: Request) -> Reply:
        if request.token is None:
            raise Refused(401, message="Invalid username or password.")
        role = {"displayName": "test", "role": "write" if request.token == self.token else "read"}
        orgs = [{"type": "org", "name": "org"}]
        return _json({"type": "user", "name": "alice", "orgs": orgs, "auth": {"accessToken": role}})

    @route("POST", "/api/repos/create")
    def create_repo(self, request: Request) -> Reply:
        self._writer(request)
        asked = request.json
        type, id = asked.get("type", "model") + "s", f"{asked.get('organization') or 'alice'}/{asked['name']}"
        answer = {"url": f"{self.url}/{TYPES[type]}{id}", "name": id}
        if (type, id) in self.repos:
            return _json({"error": "You already created this repo"} | answer, 409)
        repo = self.repos[type, id] = Repo(type, id, private=asked.get("visibility") == "private")
        repo.commit("main", "initial commit", {".gitattributes": Blob(b"*.safetensors filter=lfs\n", False)})
        return _json(answer)

    @route("DELETE", "/api/repos/delete")
    def delete_repo(self, request: Request) -> Reply:
        self._writer(request)
        asked = request.json
        key = asked.get("type", "model") + "s", f"{asked.get('organization') or 'alice'}/{asked['name']}"
        if key not in self.repos:
            raise Refused(404, "RepoNotFound")
        del self.repos[key]
        return Reply()

    @route("POST", "/api/validate-yaml")
    def validate_yaml(self, request: Request) -> Reply:
        matter = re.match(r"---\n(.*?)\n---", request.json["content"], re.DOTALL)
        wrong = [] if not matter or "\t" not in matter[1] else [{"message": "tabs are not allowed in YAML"}]
        return _json({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    @route("GET", "/api/TYPE/ID(/revision/REV)?")
    def info(self, request: Request, repo: Repo, revision: str = "main") -> Reply:
        commit = repo.at(revision)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        if "blobs" in request.query:
            siblings = [
                blob.entry(path) | {"rfilename": path, "blobId": blob.oid} for path, blob in commit.files.items()
            ]
        flags = {"private": repo.private, "gated": "auto" if repo.gated else False, "disabled": False}
        dates = {"lastModified": DATE, "createdAt": DATE}
        name = {"_id": "0", "id": repo.id, "author": repo.id.split("/")[0], "sha": commit.oid, "tags": []}
        return _json(name | flags | dates | {"downloads": 0, "likes": 0, "siblings": siblings})

    @route("GET", "/api/TYPE/ID/tree/REV(/(?P<folder>.+))?")
    def tree(self, request: Request, repo: Repo, revision: str, folder: str = "") -> Reply:
        files = repo.at(revision).files
        prefix = f"{folder}/" if folder else ""
        inside = {path: blob for path, blob in sorted(files.items()) if path.startswith(prefix)}
        if folder and not inside:
            raise Refused(404, "EntryNotFound", f"{folder} does not exist")
        recursive = request.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders = {str(parent) for path in inside for parent in Path(path).parents} - {".", folder}
        folders = {path for path in folders if path.startswith(prefix)}
        entries = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in sorted(folders)]
        entries += [blob.entry(path) for path, blob in inside.items()]
        return _json([e for e in entries if recursive or "/" not in e["path"][len(prefix) :]])

    @route("POST", "/api/TYPE/ID/paths-info/REV")
    def paths_info(self, request: Request, repo: Repo, revision: str) -> Reply:
        files, found = repo.at(revision).files, []
        for path in parse_qs(request.body.decode()).get("paths", []):  # a form, not JSON
            if path in files:
                found.append(files[path].entry(path))
            elif any(other.startswith(path.rstrip("/") + "/") for other in files):
                found.append({"type": "directory", "path": path, "size": 0, "oid": "0" * 40})
        return _json(found)

    @route("GET", "/api/TYPE/ID/refs")
    def refs(self, request: Request, repo: Repo) -> Reply:
        def listed(kind: str, names: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in names.items()]

        branches, tags = listed("heads", repo.branches), listed("tags", repo.tags)
        return _json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})

    @route("GET", "/api/TYPE/ID/commits/REV")
    def commits(self, request: Request, repo: Repo, revision: str) -> Reply:
        rest = {"message": "", "authors": [{"user": "alice"}], "date": DATE}
        return _json([{"id": commit.oid, "title": commit.title} | rest for commit in repo.history(revision)])

    @route("POST", "/api/TYPE/ID/branch/REV")
    def create_branch(self, request: Request, repo: Repo, revision: str) -> Reply:
        if revision in repo.branches:
            raise Refused(409, message=f"Reference already exists: {revision}")
        start = (request.json if request.body else {}).get("startingPoint", "main")
        repo.branches[revision] = repo.at(start).oid
        return Reply(201)

    @route("POST", "/api/TYPE/ID/tag/REV")
    def create_tag(self, request: Request, repo: Repo, revision: str) -> Reply:
        repo.tags[request.json["tag"]] = repo.at(revision).oid
        return Reply(201)

    @route("DELETE", "/api/TYPE/ID/(?P<kind>branch|tag)/REV")
    def delete_reference(self, request: Request, repo: Repo, kind: str, revision: str) -> Reply:
        if not (repo.branches if kind == "branch" else repo.tags).pop(revision, None):
            raise Refused(404, "RevisionNotFound")
        return Reply()

    @route("POST", "/api/TYPE/ID/preupload/REV")
    def preupload(self, request: Request, repo: Repo, revision: str) -> Reply:
        files = repo.at(revision).files
        return _json(
            {
                "files": [
                    {
                        "path": asked["path"],
                        "uploadMode": "lfs" if _is_large(asked) else "regular",
                        "shouldIgnore": False,
                        # the client skips a file whose hash is the one that it computed
                        "oid": files[asked["path"]].etag if asked["path"] in files else None,
                    }
                    for asked in request.json["files"]
                ]
            }
        )

    @route("POST", "/GIT[.]git/info/lfs/objects/batch")
    def lfs_batch(self, request: Request, repo: Repo) -> Reply:
        objects = []
        for asked in request.json["objects"]:
            upload = {"upload": {"href": f"{self.cdn}/lfs/{asked['oid']}", "header": {}}}
            objects.append(asked if asked["oid"] in self.objects else asked | {"actions": upload})
        return _json({"transfer": "basic", "objects": objects})

    @route("POST", "/api/TYPE/ID/commit/REV")
    def commit(self, request: Request, repo: Repo, revision: str) -> Reply:
        if revision not in repo.branches:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        title, files = "", dict(repo.at(revision).files)
        for line in request.body.splitlines():
            key, value = (operation := json.loads(line))["key"], operation["value"]
            match key:
                case "header":
                    title = value["summary"]
                    if value.get("parentCommit", repo.branches[revision]) != repo.branches[revision]:
                        raise Refused(412, message="A commit has happened since. Please refresh and try again.")
                case "file":
                    files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
                case "lfsFile":
                    if value["oid"] not in self.objects:
                        raise Refused(400, message=f"{value['path']} was not uploaded")
                    files[value["path"]] = Blob(self.objects[value["oid"]], True)
                case "deletedFile":
                    if files.pop(value["path"], None) is None:
                        raise Refused(404, "EntryNotFound", "A file with this name doesn't exist")
                case "deletedFolder":
                    files = {p: blob for p, blob in files.items() if not p.startswith(value["path"].rstrip("/") + "/")}
        oid = repo.commit(revision, title, files).oid
        return _json(
            {
                "success": True,
                "commitOid": oid,
                "commitUrl": f"{self.url}/{TYPES[repo.type]}{repo.id}/commit/{oid}",
            }
        )

    @route("GET", "/GIT/resolve/REV/(?P<path>.+)")
    def resolve(self, request: Request, repo: Repo, revision: str, path: str) -> Reply:
        if repo.gated and request.token != self.token:
            raise Refused(401 if request.token is None else 403, "GatedRepo", "Access to this repo is restricted")
        commit = repo.at(revision)
        headers = {"X-Repo-Commit": commit.oid}
        if path not in commit.files:  # with the commit, so that clients may cache the absence
            raise Refused(404, "EntryNotFound", "Entry not found", **headers)
        blob = commit.files[path]
        if blob.is_lfs:
            headers |= {"X-Linked-ETag": f'"{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
            headers["Location"] = f"{self.cdn}/lfs/{blob.sha256}/{quote(path)}"
            return Reply(302, b"", headers)
        headers |= {"ETag": f'"{blob.etag}"', "Content-Type": "text/plain; charset=utf-8"}
        return _ranged(request, Reply(200, blob.content, headers))


def _json(value: Any, status: int = 200) -> Reply:
    return Reply(status, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _is_large(asked: dict[str, Any]) -> bool:
    """What the Hub sends to LFS: by suffix, size, or because it is not text."""
    suffixes = (".safetensors", ".parquet", ".arrow", ".bin", ".npz", ".zip", ".png", ".jpg")
    return asked["path"].endswith(suffixes) or asked["size"] > 10**7 or b"\0" in base64.b64decode(asked["sample"])


def _ranged(request: Request, reply: Reply) -> Reply:
    size = len(reply.body)
    reply.headers["Accept-Ranges"] = "bytes"
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("Range", ""))
    if not asked:
        return reply
    first, last = asked.groups()
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= size:
        raise Refused(416, **{"Content-Range": f"bytes */{size}"})
    headers = reply.headers | {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
    return Reply(206, reply.body[start:stop], headers)


def _server(hub: LoopbackHub, port: int, answer: Callable[[Request], Reply]) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            url = urlsplit(self.path)
            request = Request(self.command, url.path, parse_qs(url.query), self.headers, self._read())
            line = f"{self.command} {unquote(url.path)}"
            hub.requests.append(line)
            fault = next((f for f in hub.faults if f.times > 0 and re.search(f.pattern, line)), None)
            if fault:
                fault.times -= 1
                if callable(fault.kind):
                    fault.kind()
            try:
                if fault and isinstance(fault.kind, int):
                    raise _refusal(fault.kind)
                reply = answer(request)
            except Refused as error:
                reply = _json({"error": error.message}, error.status)
                reply.headers |= error.headers
            self._send(reply, str(fault.kind) if fault else "")

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

        def _read(self) -> bytes:
            """All of it, also before refusing: the next request follows on this connection."""
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _send(self, reply: Reply, fault: str) -> None:
            body, half = reply.body, len(reply.body) // 2
            if fault == "flip":
                body = body[:half] + bytes([body[half] ^ 1]) + body[half + 1 :]
            if fault == "truncate":
                body = body[:half]
            # text comes compressed and chunked, without its length: clients must cope
            text = reply.headers.get("Content-Type", "").startswith("text") and reply.status == 200
            chunked = text and self.command == "GET" and "gzip" in self.headers.get("Accept-Encoding", "")
            if chunked:
                body = gzip.compress(body)
                reply.headers |= {"Content-Encoding": "gzip", "Transfer-Encoding": "chunked"}
            else:
                reply.headers["Content-Length"] = str(len(body))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "reset":
                self.wfile.write(body[: len(body) // 2])
                self._break()
            elif chunked:
                self.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))
            else:
                self.wfile.write(body)

        def _break(self) -> None:
            """Closed with linger 0 the kernel sends RST, not FIN, for which clients would retry."""
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def _refusal(status: int) -> Refused:
    """What the Hub says with a status that a fault asks for; a client that may retry does so at once."""
    if status == 401:
        return Refused(401, message="Invalid credentials in Authorization header")
    if status == 404:
        return Refused(404, "RepoNotFound", "Repository not found")
    return Refused(status, message="injected", **{"Retry-After": "0"})
