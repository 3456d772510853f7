"""Servers that hold the same model: requests are spread over them, made again where they break, and wait where none answers.

Three kinds of trouble are told apart. A server that is gone or has no time (no connection, 429, 502, 503, 504) is left alone
for a pause that doubles, and for as long as it asks; while another one answers nothing is lost by that, and while none does the
work waits for ``max_wait`` seconds. A request that broke (any other 5xx, a timeout, a connection cut in the middle, no JSON) is
made again, ``retries`` times. A request that is refused is an error at once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from time import monotonic
from typing import TYPE_CHECKING, Any

from composer.errors import FaultError, ModelError
from composer.progress import say
from composer.spec import rng

if TYPE_CHECKING:
    import httpx2
    from anyio.from_thread import BlockingPortal

Ask = Callable[..., Awaitable[Any]]
"""One attempt at one server: a path, and what to send there (nothing for a GET), to the JSON that comes back."""

NO_TIME = 429
GONE = frozenset({502, 503, 504})
LONGEST_PAUSE = 30.0


class RefusedError(ModelError):
    """A server understood a request and does not serve it."""


class _AbsentError(Exception):
    """Nobody there, or nobody with time; ``after`` seconds is what the server asks for."""

    def __init__(self, trouble: str, *, after: float = 0.0, gone: bool = True) -> None:
        super().__init__(trouble)
        self.after, self.gone = after, gone


class _BrokenError(Exception):
    """A request that may well succeed when it is made again."""


@dataclass(eq=False)
class _Server:
    """A server, how many requests it has now, and when (in seconds of the monotonic clock) it was and will be left alone."""

    url: str
    busy: int = 0
    misses: int = 0
    left: float = 0.0
    until: float = 0.0
    met: bool = False
    meeting: asyncio.Lock = field(default_factory=asyncio.Lock)

    def at(self, path: str) -> str:
        """Return the address of a path: beneath the API, or of the server itself where it begins with a slash."""
        return f"{self.url.removesuffix('/v1')}{path}" if path.startswith("/") else f"{self.url}/{path}"


@dataclass(frozen=True)
class Patience:
    """How often a broken request is made again, the first pause in seconds, and how many seconds of silence are borne."""

    retries: int
    pause: float
    max_wait: float


class Replicas:
    """The servers as one, for a caller that is not asynchronous.

    ``greet`` meets a server before its first request, and again after it was gone: what comes back may be another.
    """

    def __init__(
        self, urls: Iterable[str], *, portal: BlockingPortal, client: httpx2.AsyncClient,
        greet: Callable[[Ask], Awaitable[None]], patience: Patience, concurrency: int, secret: str | None,
    ) -> None:  # fmt: skip
        self._servers = [_Server(url) for url in urls]
        self._portal, self._client, self._greet = portal, client, greet
        self._patience, self._concurrency, self._secret = patience, concurrency, secret
        self._random = rng(os.getpid(), "replicas")  # so that processes do not come back in step
        self._silent_since: float | None = None
        self._trouble = ""
        self._told = False

    def meet(self) -> None:
        """Greet a server, as the first request would."""
        self._portal.call(self._answer, None, None)

    def ask_all(self, path: str, bodies: Iterable[Any], take: Callable[[int, Any], None]) -> None:
        """Send every body, ``concurrency`` at a time, and give each answer to ``take`` as it comes, with its body's number.

        Raises
        ------
        FaultError
            Where nobody answers for too long, or a request broke too often.
        ModelError
            Where a server refuses a request.
        """
        self._portal.call(self._work, path, iter(enumerate(bodies)), take)

    async def _work(self, path: str, jobs: Iterator[tuple[int, Any]], take: Callable[[int, Any], None]) -> None:
        async def worker() -> None:
            for i, body in jobs:
                take(i, await self._answer(path, body))

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(self._concurrency):
                    group.create_task(worker())
        except BaseExceptionGroup as failed:
            raise failed.exceptions[0] from None

    async def _answer(self, path: str | None, body: Any) -> Any:
        broken = 0
        while True:
            server, begun = await self._free(), monotonic()
            server.busy += 1
            try:
                await self._meet(server)
                answer = None if path is None else await self._send(server, path, body)
            except _AbsentError as trouble:
                self._leave(server, trouble, begun)
            except _BrokenError as trouble:
                broken += 1
                if broken > self._patience.retries:
                    expected = f"an answer in {broken} attempts (engine.retries)"
                    raise FaultError("a request broke each time", expected=expected, got=str(trouble)) from None
                await asyncio.sleep(self._pause(broken))
            else:
                self._heard(server, begun)
                return answer
            finally:
                server.busy -= 1

    async def _free(self) -> _Server:
        """Wait for a server that may be asked; of several, the one with the fewest requests."""
        while True:
            now = monotonic()
            if ready := [server for server in self._servers if server.until <= now]:
                return min(ready, key=lambda server: server.busy)
            soonest = min(server.until for server in self._servers)
            if self._silent_since is not None and soonest - self._silent_since > self._patience.max_wait:
                raise FaultError(
                    "no server answers", expected=f"one within {self._patience.max_wait:g} s (engine.max_wait)",
                    got=self._trouble, hint="see that it runs and that engine.base_urls names it",
                )  # fmt: skip
            await asyncio.sleep(soonest - now)

    def _leave(self, server: _Server, trouble: _AbsentError, begun: float) -> None:
        now = monotonic()
        self._trouble = str(trouble)
        self._silent_since = now if self._silent_since is None else self._silent_since
        server.met = server.met and not trouble.gone
        pause = 0.0
        if begun >= server.left:  # else it was under way with one that has met the same
            server.left, server.misses = now, server.misses + 1
            pause = self._pause(server.misses)
        server.until = max(server.until, now + max(pause, trouble.after))
        if server.misses > 2 and not self._told and all(other.until > now for other in self._servers):
            self._told = True
            say(f"no server answers ({trouble}); waiting for up to {self._patience.max_wait:g} s")

    def _heard(self, server: _Server, begun: float) -> None:
        if self._told and self._silent_since is not None:
            say(f"{server.url} answers again after {monotonic() - self._silent_since:.0f} s")
        self._silent_since, self._told = None, False
        if begun >= server.left:
            server.misses = 0

    async def _meet(self, server: _Server) -> None:
        async with server.meeting:
            if not server.met:
                await self._greet(lambda path, body=None: self._send(server, path, body))
                server.met = True

    async def _send(self, server: _Server, path: str, body: Any) -> Any:
        """Make one attempt."""
        import httpx2

        url = server.at(path)
        try:
            response = await self._client.request("GET" if body is None else "POST", url, json=body)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise _AbsentError(f"{url}: {type(error).__name__} {error}".strip()) from None
        except httpx2.HTTPError as error:
            raise _BrokenError(f"{url}: {type(error).__name__} {error}".strip()) from None
        return self._read(response, url)

    def _read(self, response: httpx2.Response, url: str) -> Any:
        status = response.status_code
        if status == 200:
            try:
                return response.json()
            except ValueError:
                pass
        said = f"{url}: status {status}, {self._first_line(response.text)}"
        if status == NO_TIME or status in GONE:
            raise _AbsentError(said, after=_seconds(response.headers.get("retry-after", "")), gone=status in GONE)
        if status in (401, 403):
            hint = "put the server's key into the environment variable that engine.api_key_env names"
            raise ModelError("the server wants another key", got=said, hint=hint)
        if status >= 500 or status == 200:
            raise _BrokenError(said)
        raise RefusedError("the server refuses a request", got=said)

    def _first_line(self, text: str) -> str:
        if self._secret:
            text = text.replace(self._secret, "***")  # some servers repeat the key that they do not know
        return next((line.strip() for line in text.splitlines() if line.strip()), "nothing said")[:300]

    def _pause(self, n: int) -> float:
        return float(min(self._patience.pause * 2.0 ** min(n - 1, 30), LONGEST_PAUSE) * self._random.uniform(0.5, 1))


@contextmanager
def connect(
    urls: Iterable[str], *, greet: Callable[[Ask], Awaitable[None]], patience: Patience, concurrency: int, timeout: float,
    secret: str | None,
) -> Iterator[Replicas]:  # fmt: skip
    """Open the servers: at most ``concurrency`` requests run at once, in a thread of their own, and end with the context.

    A server may say nothing for ``timeout`` seconds; ``secret`` is the bearer token of every request.
    """
    import httpx2
    from anyio.from_thread import start_blocking_portal

    client = httpx2.AsyncClient(
        headers={"Authorization": f"Bearer {secret}"} if secret else {},
        timeout=httpx2.Timeout(timeout, connect=min(timeout, 10.0), pool=None),
        # What uvicorn serves drops a connection that was idle for 5 s; none must be taken up while it does.
        limits=httpx2.Limits(max_connections=concurrency, max_keepalive_connections=concurrency, keepalive_expiry=2.0),
    )
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
        yield Replicas(
            urls, portal=portal, client=client, greet=greet, patience=patience, concurrency=concurrency, secret=secret
        )


def _seconds(retry_after: str) -> float:
    """Read a Retry-After header, which is a number of seconds or a date; zero where it is neither."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):  # TypeError: a date without a zone
        return 0.0
