"""A hub on the loopback interface: what the clients of the Hub ask of it to make, fill, change and read repositories.

It keeps every commit and every large file, refuses who is not allowed, notes all that it is asked, and breaks connections on
wish. Nothing in it knows of sft-composer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

WRITER, READER = "hf_writerwriterwriter", "hf_readerreaderreader"
LARGE = (".parquet", ".safetensors", ".jsonl", ".bin")
"""Endings of files that are sent as large ones."""

ZERO = "0" * 40


class Asked(NamedTuple):
    """One request: its method, its path with the query, and the bytes of its body (of a large file only how many)."""

    method: str
    path: str
    body: bytes
    n_bytes: int


@dataclass
class Repo:
    """A repository: the files of every commit, the commit of every branch, and who may read it."""

    private: bool = True
    commits: dict[str, dict[str, str]] = field(default_factory=lambda: {ZERO: {}})
    branches: dict[str, str] = field(default_factory=lambda: {"main": ZERO})

    def commit_of(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


class Hub:
    """The state of the hub and what it was asked; ``breaks`` cuts the connection of the so-many-th large file and all after."""

    def __init__(self) -> None:
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.large: set[str] = set()
        self.asked: list[Asked] = []
        self.breaks: int | None = None
        self.received = 0
        self.url = ""
        self.lock = threading.Lock()

    def seed(self, kind: str, name: str, files: dict[str, bytes], *, private: bool = False) -> Repo:
        """Make a repository with files, as somebody else had."""
        repo = self.repos.setdefault((kind, name), Repo(private=private))
        self.commit(repo, "main", {path: self.keep(body, large=False) for path, body in files.items()}, ())
        return repo

    def keep(self, body: bytes, *, large: bool) -> str:
        name = hashlib.sha256(body).hexdigest()
        self.blobs[name] = body
        if large:
            self.large.add(name)
        return name

    def commit(self, repo: Repo, branch: str, add: dict[str, str], remove: Any) -> str:
        files = {path: blob for path, blob in repo.commits[repo.branches[branch]].items() if path not in remove} | add
        told = json.dumps([repo.branches[branch], files], sort_keys=True).encode()
        sha = hashlib.sha1(told, usedforsecurity=False).hexdigest()
        repo.commits[sha], repo.branches[branch] = files, sha
        return sha

    def files(self, kind: str, name: str, branch: str = "main") -> dict[str, bytes]:
        """Return the files of a branch."""
        repo = self.repos[kind, name]
        return {path: self.blobs[blob] for path, blob in repo.commits[repo.branches[branch]].items()}

    def sent(self, method: str) -> list[str]:
        """Return the paths that were asked by a method."""
        return [each.path for each in self.asked if each.method == method]


class Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def handle_one(self) -> None:
        """Read a request, note it and answer."""
        path = unquote(urlsplit(self.path).path)
        body = self.body()
        if path.startswith("/_large/"):
            return self.put(path.rpartition("/")[2], body)
        self.hub.asked.append(Asked(self.command, self.path, body, len(body)))
        with self.hub.lock:
            for pattern, answer in ROUTES:
                if found := re.fullmatch(pattern, path):
                    return answer(self, *found.groups(), body=body)
        return self.reply({"error": f"not handled: {path}"}, status=404)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_one  # noqa: N815

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline().strip(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def put(self, name: str, body: bytes) -> None:
        hub = self.hub
        with hub.lock:
            hub.received += 1
            if hub.breaks is not None and hub.received >= hub.breaks:
                self.close_connection = True
                self.connection.close()
                return
            hub.asked.append(Asked("PUT", self.path, b"", len(body)))
            assert hub.keep(body, large=True) == name
        self.reply({})

    def reply(self, told: Any = None, *, body: bytes | None = None, status: int = 200, **headers: str) -> None:
        """Send a whole answer."""
        content = json.dumps(told).encode() if body is None else body
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status: int, why: str, code: str = "") -> None:
        self.reply({"error": why}, status=status, **({"X_Error_Code": code} if code else {}))

    @property
    def token(self) -> str:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ")

    def may_write(self) -> bool:
        if self.token != WRITER:
            self.refuse(403 if self.token == READER else 401, "No rights to write")
        return self.token == WRITER

    def repo(self, kind: str, name: str) -> Repo | None:
        """Return a repository that the asking one may see, or answer that there is none."""
        repo = self.hub.repos.get((kind, name))
        if repo is None or (repo.private and self.token not in (WRITER, READER)):
            self.refuse(404, "Repository not found", "RepoNotFound")
            return None
        return repo

    def create(self, *, body: bytes) -> None:
        told = json.loads(body)
        if not self.may_write():
            return None
        key = (told.get("type", "model") + "s", f"{told.get('organization') or 'writer'}/{told['name']}")
        if key in self.hub.repos:
            return self.refuse(409, "You already created this repo")
        self.hub.repos[key] = Repo(private=told.get("private") or told.get("visibility") == "private")
        prefix = "" if key[0] == "models" else f"{key[0]}/"
        self.reply({"url": f"{self.hub.url}/{prefix}{key[1]}", "id": key[1], "name": key[1]})
        return None

    def account(self, kind: str, name: str, revision: str | None, *, body: bytes) -> None:  # noqa: ARG002
        if not (repo := self.repo(kind, name)):
            return None
        if not (sha := repo.commit_of(revision or "main")):
            return self.refuse(404, "Invalid rev id", "RevisionNotFound")
        self.reply({
            "id": name, "_id": "x", "author": name.split("/")[0], "sha": sha, "private": repo.private, "gated": False,
            "disabled": False, "downloads": 0, "likes": 0, "tags": [], "lastModified": "2026-01-01T00:00:00.000Z",
            "createdAt": "2026-01-01T00:00:00.000Z", "siblings": [{"rfilename": path} for path in repo.commits[sha]],
        })  # fmt: skip
        return None

    def tree(self, kind: str, name: str, revision: str, below: str | None, *, body: bytes) -> None:  # noqa: ARG002
        if not (repo := self.repo(kind, name)):
            return None
        files, start = repo.commits[repo.commit_of(revision) or ZERO], f"{below}/" if below else ""
        if below and not any(path.startswith(start) for path in files):
            return self.refuse(404, "Entry not found", "EntryNotFound")
        folders = {"/".join(path.split("/")[:i]) for path in files for i in range(1, path.count("/") + 1)}
        every = [{"type": "directory", "path": path, "oid": "d" * 40, "size": 0} for path in sorted(folders)]
        every += [self.entry(path, blob) for path, blob in sorted(files.items())]
        deep = "recursive=true" in self.path.lower()
        self.reply([e for e in every if e["path"].startswith(start) and (deep or "/" not in e["path"][len(start) :])])
        return None

    def entry(self, path: str, blob: str) -> dict[str, Any]:
        body = self.hub.blobs[blob]
        told = {"type": "file", "path": path, "oid": git_name(body), "size": len(body)}
        return told | {"lfs": {"oid": blob, "size": len(body), "pointerSize": 130}} if blob in self.hub.large else told

    def branch(self, kind: str, name: str, branch: str, *, body: bytes) -> None:  # noqa: ARG002
        if (repo := self.repo(kind, name)) and self.may_write():
            repo.branches.setdefault(branch, repo.branches["main"])
            self.reply({})

    def preupload(self, kind: str, name: str, revision: str, *, body: bytes) -> None:  # noqa: ARG002
        if self.repo(kind, name) and self.may_write():
            modes = {f["path"]: "lfs" if f["path"].endswith(LARGE) else "regular" for f in json.loads(body)["files"]}
            self.reply({"files": [{"path": p, "uploadMode": mode, "shouldIgnore": False} for p, mode in modes.items()]})

    def batch(self, *_: str, body: bytes) -> None:
        if not self.may_write():
            return
        objects = json.loads(body)["objects"]
        for each in objects:
            if each["oid"] not in self.hub.large:  # what is there is not asked for again
                each["actions"] = {"upload": {"href": f"{self.hub.url}/_large/{each['oid']}?X-Signature=secret"}}
        self.reply({"transfer": "basic", "objects": objects})

    def take(self, kind: str, name: str, revision: str, *, body: bytes) -> None:
        if not (repo := self.repo(kind, name)) or not self.may_write():
            return None
        add, remove = dict[str, str](), set[str]()
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header" and value.get("parentCommit") not in (None, repo.branches[revision]):
                return self.refuse(412, "A commit has happened since")
            if line["key"] == "file":
                add[value["path"]] = self.hub.keep(base64.b64decode(value["content"]), large=False)
            elif line["key"] == "lfsFile":
                assert value["oid"] in self.hub.large
                add[value["path"]] = value["oid"]
            elif line["key"] == "deletedFile":
                remove.add(value["path"])
        sha = self.hub.commit(repo, revision, add, remove)
        self.reply({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.url}/{name}/commit/{sha}", "hookOutput": ""})
        return None

    def resolve(self, kind: str | None, name: str, revision: str, path: str, *, body: bytes) -> None:  # noqa: ARG002
        if not (repo := self.repo(kind or "models", name)):
            return None
        sha = repo.commit_of(revision) or ZERO
        if path not in repo.commits[sha]:
            return self.refuse(404, "Entry not found", "EntryNotFound")
        blob = repo.commits[sha][path]
        self.reply(body=self.hub.blobs[blob], ETag=f'"{blob}"', X_Repo_Commit=sha)
        return None


NAME = r"([^/]+/[^/]+)"
ROUTES: list[tuple[str, Any]] = [
    ("/api/repos/create", Handler.create),
    ("/api/validate-yaml", lambda self, body: self.reply({"errors": [], "warnings": []})),  # noqa: ARG005
    (rf"/api/(models|datasets)/{NAME}/preupload/([^/]+)", Handler.preupload),
    (rf"/api/(models|datasets)/{NAME}/commit/([^/]+)", Handler.take),
    (rf"/api/(models|datasets)/{NAME}/branch/([^/]+)", Handler.branch),
    (rf"/api/(models|datasets)/{NAME}/tree/([^/]+)(?:/(.+?))?/?", Handler.tree),
    (rf"/api/(models|datasets)/{NAME}(?:/revision/([^/]+))?", Handler.account),
    (rf"/(?:(datasets)/)?{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (rf"/(?:(datasets)/)?{NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]


def git_name(body: bytes) -> str:
    """Return git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(body) + body, usedforsecurity=False).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """Run a hub in a thread of its own."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
