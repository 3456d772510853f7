"""Secrets are planted wherever a user may have them, real things are done and fail, and every byte that was written is read."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from composer.errors import FaultError, SpecError, unsaid
from composer.secrets import without_secrets
from flows.cli import invoke
from tests.flows.hub import Ran, commands
from tests.flows.prefect_world import POOL, Done, prefect_world, recipe_of
from tests.loopback import Hub, serving
from tests.planted import SECRETS, environment, forms, leaks, pickles
from tests.sockets import open_to_others

USER = f"jo:{SECRETS['URL']}"


@contextmanager
def echoing() -> Iterator[str]:
    """A server that answers with 401 below /401, else with 500, and repeats what it was sent to prove who asks."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            said = f"no such key: {self.headers.get('Authorization')}".encode()
            self.send_response(401 if self.path.startswith("/401") else 500)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def asking(server: str, status: int) -> tuple[str, ...]:
    """Overrides that ask a server which refuses the key."""
    key = {"api_key_env": "LAB_API_KEY"}  # pragma: allowlist secret
    engine = {"name": "openai", "base_urls": [f"{server}/{status}/v1"], "retries": 0, **key}
    return "probe={name: perplexity}", f"engine={json.dumps(engine)}", "law=knowledge", "flow.retries=0"


REFUSED = (
    f"sources.0.path=https://{USER}@host/rows.jsonl",
    f"store=s3://{USER}@bucket/store",
    f"store=simplecache::s3://{USER}@bucket/store",
    f"store=s3://AKIA0:{SECRETS['AWS_SECRET_ACCESS_KEY']}@bucket/store",
    f"engine={{name: openai, base_urls: ['http://{USER}@host/v1']}}",
    f"engine={{name: openai, api_key_env: {SECRETS['LAB_API_KEY']}}}",
    f"base_model.path=https://{USER}@host/model",
    f"base_model.revision={SECRETS['HF_FILE']}",
    f"flow.tags=[{SECRETS['HF_TOKEN']}]",
    f"{SECRETS['PREFECT_API_KEY']}=1",
)
"""Overrides that hold a secret."""


@pytest.mark.parametrize("override", REFUSED)
def test_a_recipe_with_a_secret_is_refused_without_it(
    override: str, world: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(world / "home").items():
        monkeypatch.setenv(name, value)
    for command in (("run", "--plain"), ("deploy", "--write-only"), ("run", "--json", "--debug")):
        assert invoke([command[0], str(world / "recipe.yaml"), override, *command[1:]]) == 2
        told = capsys.readouterr()
        assert "a secret; expected none in a recipe or URL; put it into the environment" in told.err
        assert not leaks(told.out, told.err)
    assert not leaks(world, but=(world / "home/token",))


@pytest.mark.parametrize("command", ["run", "deploy"])
def test_a_store_with_a_secret_is_refused(command: str, world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for place in (f"s3://{USER}@bucket/store", f"s3://bucket/store?secret={SECRETS['URL']}"):
        assert invoke([command, str(world / "recipe.yaml"), "--store", place, "--debug"]) == 2
        told = capsys.readouterr()
        assert not leaks(told.out, told.err, world)


def test_an_error_of_others_loses_its_secret_and_what_it_came_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRETS["HF_TOKEN"])

    @unsaid()
    def fail(error: Exception) -> None:
        try:
            raise KeyError(SECRETS["HF_TOKEN"])
        except KeyError as cause:
            raise error from cause

    cases = ((SpecError("bad"), SpecError), (ValueError("bad"), RuntimeError), (OSError("bad"), FaultError))
    for raised, expected in cases:
        with pytest.raises(expected, match="bad") as caught:
            fail(raised)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__
    with pytest.raises(ValueError, match="nothing secret"), unsaid():
        raise ValueError("nothing secret")


@pytest.mark.parametrize("secret", SECRETS.values())
def test_the_search_finds_every_form(secret: str) -> None:
    for form in forms(secret):
        assert len(form) > 15
    import base64

    for before in (b"", b"a", b"ab", b"abc"):
        coded = base64.b64encode(before + secret.encode() + b"x:").decode()
        assert leaks(f"said {coded}"), (before, coded)


def test_words_that_only_look_like_secrets_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "law-recipe")
    monkeypatch.setenv("HF_TOKEN_PATH", "/law-recipe")
    monkeypatch.setenv("API_KEY", "law")
    for text in ("law-recipe of hf_datasets", "http://127.0.0.1:4200/api/a@b", "a@b.org", "hf://datasets/org/name@main"):
        assert without_secrets(text) == text


# What is done with the secrets in the environment.


@pytest.fixture(scope="module")
def bucket() -> Iterator[dict[str, str]]:
    """The variables that lead to a bucket of a server of this machine; it takes every key."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    import urllib.request

    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/bucket", method="PUT"))
    yield {"AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_DEFAULT_REGION": "us-east-1"}
    server.stop()


def done_in(folder: Path, hub: Hub, *asked: tuple[str, ...], **changes: str) -> list[Ran]:
    """Run commands with all secrets in the environment, and find none of them in what they say and write."""
    home = folder / "home"
    ran = commands(
        hub, home, *map(list, asked), **{**environment(home), "SFT_COMPOSER_CACHE": str(folder / "cache"), **changes}
    )
    for words, each in zip(asked, ran, strict=True):
        assert not leaks(each.out, each.err), (words, each)
    assert not leaks(folder, but=(home / "token",))
    return ran


@pytest.mark.hub
def test_nothing_that_a_run_says_or_writes_holds_a_secret(done: Done, tmp_path: Path, bucket: dict[str, str]) -> None:
    exports = ["parquet", "chat_jsonl", "trl", "axolotl", "llama_factory"]
    recipe = str(recipe_of(tmp_path / "work", done, exports=exports))
    store, plain = ("--store", "s3://bucket/store"), ("--plain", "--debug")
    with serving() as hub, echoing() as server:
        codes = {
            ("run", recipe, *store, *plain): 0,
            ("run", recipe, *store, *plain, "--json"): 0,
            ("verify", *store, "--json"): 0,
            ("show", "export", *store, "--json"): 0,
            ("picture", "mixture", *store, "--to", str(tmp_path / "mixture.svg")): 0,
            ("doctor", recipe, "--json"): 0,
            ("deploy", recipe, *store, "--write-only", "--json"): 0,
            ("run", recipe, *plain, "--store", "s3://absent/store"): 3,
            ("run", recipe, *plain, *asking(server, 401), *store): 2,
            ("run", recipe, *plain, *asking(server, 500), *store): 3,
            ("run", recipe, *plain, "base_model.path=org/absent", "--store", str(tmp_path / "own")): 2,
            ("run", recipe, *plain, "sources.0.path=org/absent", "--store", str(tmp_path / "own")): 2,
        }
        ran = done_in(tmp_path, hub, *codes, **bucket)
    assert [each.code for each in ran] == list(codes.values()), [(each.code, each.err[-1500:]) for each in ran]
    assert "***" in ran[8].err


@pytest.mark.hub
def test_nothing_that_a_push_says_or_writes_holds_a_secret(small: tuple[Path, Path], tmp_path: Path) -> None:
    """The hub knows neither token; it is pushed to with one of the environment, then with what a login left."""
    recipe, store = map(str, small)
    push = ("export", recipe, "--store", store, "--plain", "--debug", "--hub", "writer/planted")
    with serving() as hub:
        [refused] = done_in(tmp_path, hub, push)
        [by_login] = done_in(tmp_path, hub, push, HF_TOKEN="")
    assert (refused.code, by_login.code) == (2, 2)
    assert "Bearer" not in refused.err + by_login.err
    assert not leaks(Path(store))


@pytest.mark.prefect
def test_nothing_that_prefect_keeps_of_a_run_holds_a_secret_or_a_pickle(
    done: Done, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that go well and that fail, from the command and from the page: parameters, tasks, logs, artifacts, database."""
    folder = tmp_path_factory.mktemp("planted")
    for name, value in environment(folder / "home-of-hub").items():
        monkeypatch.setenv(name, value)
    with echoing() as server:
        for world in prefect_world(folder):
            recipe = str(recipe_of(folder / "work", done))
            failing = list(asking(server, 500))
            address = {"PREFECT_API_URL": f"http://{USER}@127.0.0.1:{world.port}/api"}
            for arguments, code in ((["run", recipe], 0), (["run", recipe, *failing, "--debug"], 3)):
                ran = world.run("-m", "flows", *arguments)
                assert ran.returncode == code, ran.stderr[-3000:]
                assert not leaks(ran.stdout, ran.stderr)
            deployed = world.run("-m", "flows", "deploy", recipe, "--flow", "compose", "--pool", POOL, **address)
            assert deployed.returncode == 0, deployed.stderr[-3000:]
            assert not leaks(deployed.stdout, deployed.stderr)
            assert f"http://***@127.0.0.1:{world.port}/deployments" in deployed.stdout
            world.worker()
            runs = [world.begin(recipe=recipe), world.begin(recipe=recipe, overrides=failing)]
            assert [world.ended(run) for run in runs] == ["Completed", "Failed"]
            text = f"a: https://host\nsources: [{{path: s3://bucket/{'x' * 9}}}]"
            assert world.ended(world.begin(recipe_text=text)) == "Failed"
            kept = json.dumps([world.ask(f"/{kind}/filter") for kind in KEPT])
            assert all(f'"{kind}"' in kept for kind in ("parameters", "task_key", "message", "markdown"))
            assert not leaks(kept)
            assert open_to_others(*(process.pid for process in world.started)) == []
        assert not leaks(folder, but=(folder / "home-of-hub/token",))
        assert not pickles(folder / "home")


KEPT = ("flow_runs", "task_runs", "logs", "artifacts", "deployments", "events", "block_documents", "variables")
