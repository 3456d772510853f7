"""A Hub source read with the real clients, from a hub of our own on the loopback interface."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from transformers import PreTrainedTokenizerFast

COMMIT = "c0ffee" + "0" * 34
ROWS = [{"instruction": f"Name number {i}.", "input": "", "output": f"It is {i}."} for i in range(5)]
FILES = {
    "README.md": b"---\nconfigs:\n- config_name: default\n  data_files: data.jsonl\n---\n# Numbers\n",
    "data.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
}
READ = """
import sys
from pathlib import Path
from composer.encode import load_tokenizer
from composer.fingerprint import Fingerprints
from composer.ingest import fingerprint, ingest
from composer.types import Source

out = Path(sys.argv[2])
source = Source(name="numbers", path="org/numbers", domain="general")
commit = fingerprint(source, Fingerprints(out))
pinned = source.model_copy(update={"revision": commit})
print(commit, ingest(pinned, out, tokenizer=load_tokenizer(sys.argv[1]), max_length=64)["kept"])
"""


class Hub(BaseHTTPRequestHandler):
    """Answers what a client asks before and while it reads one dataset."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_GET(self) -> None:
        """Answer with the dataset's account, its tree or a file."""
        path = unquote(urlsplit(self.path).path)
        entries = [{"type": "file", "path": name, "oid": oid(body), "size": len(body)} for name, body in FILES.items()]
        if path.startswith("/api/datasets/org/numbers/tree/"):
            return self.reply(json.dumps(entries).encode())
        if path.startswith("/api/datasets/org/numbers"):
            account = {"id": "org/numbers", "sha": COMMIT, "private": False, "gated": False, "disabled": False, "tags": [],
                       "downloads": 0, "likes": 0, "siblings": [{"rfilename": name} for name in FILES]}  # fmt: skip
            return self.reply(json.dumps(account).encode())
        name = path.rpartition("/resolve/")[2].partition("/")[2]
        if path.startswith("/datasets/org/numbers/resolve/") and name in FILES:
            return self.reply(FILES[name], etag=oid(FILES[name]))
        return self.reply(b'{"error": "not found"}', status=404, error="EntryNotFound")

    do_HEAD = do_GET  # noqa: N815

    def reply(self, body: bytes, *, status: int = 200, etag: str = "", error: str = "") -> None:
        """Send a whole answer."""
        self.send_response(status)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT} if etag else {"X-Error-Code": error} if error else {}
        for key, value in {"Content-Length": str(len(body)), "Content-Type": "application/json", **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def oid(body: bytes) -> str:
    return hashlib.sha1(body, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.hub
def test_a_dataset_is_read_at_the_commit_that_its_key_bears(
    hub: str, tmp_path: Path, tokenizer: PreTrainedTokenizerFast
) -> None:
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    environment = {
        **os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", READ, str(tmp_path / "model"), str(tmp_path / "out")],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [COMMIT, "5"]
