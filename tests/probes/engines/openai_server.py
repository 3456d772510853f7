"""A server with OpenAI's completions API over a model that is known exactly, and with faults on demand.

It speaks as vLLM 0.32 does (:mod:`vllm.entrypoints.openai.completion`), or without vLLM's extensions as a plain server does.
The model is a function from token ids to the natural log-probabilities behind each of them, shape (n, vocabulary).
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np

from composer.spec import rng

Read = Callable[[list[int]], np.ndarray]
Fault = tuple[int, dict[str, str], str] | str
"""A status with headers and a body, or ``cut`` (the connection ends in the middle), or ``hang`` (nothing is ever said)."""


class _Http(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error here."""


class Server:
    """The server; it can be stopped and started again at the same port.

    ``faults`` are met by the next requests for completions, one each. ``bodies`` are the requests that were answered, ``seen``
    counts all by path, ``headers`` holds those of the last one, and ``peak`` is how many were under way at once.
    """

    def __init__(
        self, read: Read, tokenizer: Any, *, models: Sequence[str] = ("tiny",), limit: int | None = 256, extended: bool = True,
        scores: bool = True, takes: float = 0.0,
    ) -> None:  # fmt: skip
        self.read, self.tokenizer, self.models, self.limit = read, tokenizer, models, limit
        self.extended, self.scores, self.takes = extended, scores, takes
        self.faults: list[Fault] = []
        self.bodies: list[dict[str, Any]] = []
        self.seen: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.peak = self.port = self._now = 0
        self.lock = threading.Lock()
        self._http: _Http | None = None
        self._sockets: set[socket.socket] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def start(self) -> None:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                server._sockets.add(self.request)

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                server.answer(self, None)

            def do_POST(self) -> None:
                server.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        self._sockets = set()
        self._http = _Http(("127.0.0.1", self.port), Handler)
        self.port = self._http.server_port
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self) -> None:
        """Go as a killed process goes: connections end in the middle of what they carry."""
        http, self._http = self._http, None
        if http is not None:
            http.shutdown()
            http.server_close()
        for one in list(self._sockets):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def answer(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> None:
        self.headers = dict(handler.headers)
        completes = handler.path == "/v1/completions"
        with self.lock:
            self.seen[handler.path] += 1
            self._now += 1
            self.peak = max(self.peak, self._now)
            fault = self.faults.pop(0) if completes and self.faults else None
        try:
            if fault == "hang":
                time.sleep(5)
            if isinstance(fault, str):
                handler.close_connection = True
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
                return
            if completes and self.takes:
                time.sleep(self.takes)
            status, headers, said = fault or (200, {}, "")
            if not fault:
                status, said = self.reply(handler.path, body or {})
            data = said.encode()
            handler.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()
            handler.wfile.write(data)
            if completes and status == 200:
                self.bodies.append(body or {})
        finally:
            with self.lock:
                self._now -= 1

    def reply(self, path: str, body: dict[str, Any]) -> tuple[int, str]:
        if path == "/v1/models":
            extra = {"max_model_len": self.limit} if self.extended else {}
            return 200, json.dumps(
                {"object": "list", "data": [{"id": name, "object": "model", **extra} for name in self.models]}
            )
        if path == "/tokenize" and self.extended:
            return 200, json.dumps({"tokens": self.tokenizer.encode(body["prompt"], add_special_tokens=False)})
        if path != "/v1/completions":
            return 404, json.dumps({"detail": "Not Found"})
        if body["model"] not in self.models:
            return 404, json.dumps({"error": {"message": f"The model `{body['model']}` does not exist."}})
        known = {"model", "prompt", "max_tokens", "temperature", "seed", "echo", "logprobs", "top_p"}
        known |= {"presence_penalty", "frequency_penalty"}
        if not self.extended and (more := set(body) - known):
            return 400, json.dumps({"error": {"message": f"Unrecognized request argument supplied: {sorted(more)[0]}"}})
        if self.limit and any(len(prompt) >= self.limit for prompt in body["prompt"] if isinstance(prompt, list)):
            return 400, json.dumps({"error": {"message": "The decoder prompt plus the number of requested output tokens ..."}})
        prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
        made = [self.choice(i, prompt, body) for i, prompt in enumerate(prompts)]
        return 200, json.dumps({"choices": made[::-1]})  # no order is promised

    def choice(self, index: int, prompt: list[int], body: dict[str, Any]) -> dict[str, Any]:
        random = rng(body.get("seed", 0), "fake")
        ids, end, made = list(prompt), self.tokenizer.eos_token_id, []
        temperature = body.get("temperature", 1.0)
        while len(made) < body["max_tokens"] and end not in made[-1:]:
            logprob = self.read(ids)[-1]
            weights = np.exp(logprob / temperature) if temperature else (logprob == logprob.max()).astype(float)
            made.append(int(random.choice(len(weights), p=weights / weights.sum())))
            ids.append(made[-1])
        if held := body.get("structured_outputs"):
            made = [*self.tokenizer.encode(json.dumps(held["json"]["enum"][0]), add_special_tokens=False), end]
        choice: dict[str, Any] = {
            "index": index,
            "text": self.tokenizer.decode(made, skip_special_tokens=True),
            "finish_reason": "stop" if end in made[-1:] else "length",
        }
        if self.extended and body.get("return_token_ids"):
            choice["token_ids"] = made
        if self.scores and body.get("prompt_logprobs") is not None:
            choice["prompt_logprobs"] = [None, *self.prompt_logprobs(prompt)]
        if named := body.get("logprob_token_ids"):
            last = self.read(prompt)[-1]
            choice["logprobs"] = {
                "top_logprobs": [{f"token_id:{token}": max(last[token], -9999.0) for token in [*made[:1], *named]}]
            }
        elif body.get("echo"):
            choice |= self.echo(prompt, made)
        return choice

    def prompt_logprobs(self, prompt: list[int]) -> list[dict[str, Any]]:
        rows = zip(self.read(prompt)[:-1], prompt[1:], strict=True)
        return [{str(token): {"logprob": float(row[token]), "rank": int((row >= row[token]).sum())}} for row, token in rows]

    def echo(self, prompt: list[int], made: list[int]) -> dict[str, Any]:
        ids = [*prompt, *made]
        text = self.tokenizer.decode(ids)
        if not self.scores:
            return {"text": text}
        pieces = [self.tokenizer.decode([token]) for token in ids]
        rows = list(zip(self.read(ids)[:-1], ids[1:], strict=True))
        best = [
            {piece: float(row[token]), self.tokenizer.decode([int(row.argmax())]): float(row.max())}
            for (row, token), piece in zip(rows, pieces[1:], strict=True)
        ]
        logprobs = [None, *(float(row[token]) for row, token in rows)]
        return {"text": text, "logprobs": {"tokens": pieces, "token_logprobs": logprobs, "top_logprobs": [None, *best]}}


def table(n_vocabulary: int, *, seed: int = 3) -> Read:
    """Return a model that knows the last token alone: row i of a table stands behind token i."""
    logits = rng(seed, "table").normal(scale=2.0, size=(n_vocabulary, n_vocabulary))
    logprob = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return lambda ids: logprob[ids]
