"""A server that is asked for completions: the engine for models that run elsewhere, on a vLLM server first of all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

from pydantic import field_validator, model_validator

from composer.encode import load_tokenizer
from composer.errors import ModelError, SpecError
from composer.spec import outside_identity
from composer.types import ModelRef
from probes.engines import Engine
from probes.engines.replicas import Patience, connect
from probes.engines.served import ServedSession
from probes.engines.terms import Terms


class OpenAI(Engine):
    """Ask one or several servers that speak OpenAI's completions API, such as ``vllm serve MODEL``.

    ``base_urls`` are replicas of one model, and requests go to those that answer. ``model`` is the model's name there; it may
    be left out where a server lists only one. The tokenizer is that of the model reference, and a server that splits text
    otherwise is refused; nothing else tells whether the server holds the same weights. The key is the value of the environment
    variable ``api_key_env`` and stands nowhere else.

    ``concurrency`` requests run at once. A sample is a request of its own, since seeds belong to requests; where nothing is
    drawn a request holds ``batch_size`` prompts. ``timeout``, ``pause`` (the first one, doubled each time) and ``max_wait``
    (how long all servers may be gone) are seconds; a request that breaks is made again ``retries`` times.
    """

    reference: ClassVar[str] = "-"
    summary: ClassVar[str] = "servers with OpenAI's completions API, such as a running vLLM"

    name: Literal["openai"] = "openai"
    base_urls: tuple[str, ...] = outside_identity(("http://127.0.0.1:8000/v1",), min_length=1)
    model: str | None = outside_identity(None)
    api_key_env: str = outside_identity("OPENAI_API_KEY")
    timeout: float = outside_identity(600.0, gt=0)
    retries: int = outside_identity(5, ge=0)
    pause: float = outside_identity(1.0, gt=0)
    max_wait: float = outside_identity(300.0, ge=0)
    concurrency: int = outside_identity(128, ge=1)
    batch_size: int = outside_identity(32, ge=1, le=1024)  # vLLM takes no more

    @field_validator("base_urls", mode="before")
    @classmethod
    def _several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> OpenAI:
        for url in self.base_urls:
            if not _is_plain(url):  # the address is not repeated: it may hold a password
                expected = "http(s)://host:port/v1, without a user, a password or a query"
                raise SpecError("not the address of a server", where="base_urls", expected=expected)
        if not (self.api_key_env.isidentifier() and self.api_key_env == self.api_key_env.upper()):
            expected = "the name of an environment variable, such as OPENAI_API_KEY, and never the key itself"
            raise SpecError("not the name of a variable", where="api_key_env", expected=expected)
        return self

    @contextmanager
    def open(self, model: ModelRef) -> Iterator[ServedSession]:
        """Load the tokenizer, and wait for a server.

        Raises
        ------
        ModelError
            For an adapter, a key that is not set or not taken, a model that the server does not hold, or another vocabulary.
        FaultError
            Where no server answers within ``max_wait`` seconds.
        """
        if model.adapter is not None:
            hint = "serve it (vllm serve ... --lora-modules NAME=FOLDER) and set engine.model to NAME"
            raise ModelError("an adapter cannot be sent to a server", got=model.adapter, hint=hint)
        terms = Terms(load_tokenizer(model.path, chat_template=model.chat_template), model=self.model)
        patience = Patience(self.retries, self.pause, self.max_wait)
        urls = [_with_version(url) for url in self.base_urls]
        with connect(
            urls, greet=terms.settle, patience=patience, concurrency=self.concurrency, timeout=self.timeout, secret=self._key()
        ) as replicas:
            replicas.meet()
            yield ServedSession(replicas, terms, batch_size=self.batch_size)

    def _key(self) -> str | None:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key and self.api_key_env != type(self).model_fields["api_key_env"].default:
            raise ModelError("no such variable in the environment", where="engine.api_key_env", got=self.api_key_env)
        if not (key.isascii() and (key.isprintable() or not key)):
            raise ModelError("the key has characters that no header carries", where=f"environment variable {self.api_key_env}")
        return key or None


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    sound = parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0 and url.isprintable() and " " not in url
    return sound and not (parts.username or parts.password or parts.query or parts.fragment)


def _with_version(url: str) -> str:
    """Return the address of the API, which is ``/v1`` where only a server is named."""
    url = url.rstrip("/")
    return url if urlsplit(url).path else f"{url}/v1"
