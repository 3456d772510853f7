"""A training whose weights move draws what they say, can be stopped and taken up, and be done again from its trace."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
import yaml

from composer.encode import Encoding, encode, load_tokenizer, wholes
from composer.errors import InputError, SpecError
from composer.fingerprint import sha256
from composer.progress import Silence, listener
from composer.spec import digest
from composer.tables import SAMPLE, TRACE, WEIGHTS, read
from composer.train import Moving, Train, reference_losses, train
from composer.train.adapters.full import Full
from composer.train.model import load
from composer.types import ModelRef

DOMAINS = ("law", "code")
GIVEN = {"given": {"law": 1.0, "code": 4.0}}
POTENTIAL = {"name": "potential", "sigma": 1.0, "every": 2, "floor": 0.05}


@pytest.fixture(scope="module")
def held_out(base: ModelRef) -> pl.DataFrame:
    """Eight conversations of each domain that are not trained on."""
    talks = []
    for i in range(40, 48):
        talks.append(("law", [("user", f"Which case did district {i} hear?"), ("assistant", f"Case {i * 7}.")]))
        talks.append(("code", [("user", f"Add {i} to x, please"), ("assistant", f"return x + {i}")]))
    rows = []
    for domain, talk in talks:
        messages = [{"role": role, "content": text} for role, text in talk]
        [found] = encode(load_tokenizer(base.path), [messages], max_length=64)
        assert isinstance(found, Encoding)
        rows.append({
            "sample_id": digest(messages), "source": domain, "domain": domain, "role": "validation",
            "instruction_id": digest(messages[:-1]), "messages": messages, "n_tokens": len(found.ids),
            "n_loss_tokens": found.n_loss_tokens, "license": "unknown", "source_revision": "r", "extras": None,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=SAMPLE)


Steer = Callable[..., dict[str, Any]]


@pytest.fixture
def steer(
    samples: pl.DataFrame, composed: Callable[[pl.DataFrame], pl.DataFrame], base: ModelRef, held_out: pl.DataFrame
) -> Steer:
    """Train on the first forty rows, with the others and a second pass in reserve."""

    def steer(folder: Path, *, law: Any = POTENTIAL, reference: Any = GIVEN, rows: int = 120, **fields: Any) -> dict[str, Any]:
        whole = pl.concat([composed(samples), composed(samples).with_columns(repeat=pl.lit(1, pl.UInt32))])
        spec = Train(**{"batch_size": 4, "threads": 1, "device": "cpu", "law": law, "reference": reference, **fields})
        moving = Moving(
            reserve=whole[40:rows], held_out=held_out, weights={"law": 0.5, "code": 0.5}, unit="loss_tokens",
            references=spec.reference.given if spec.reference else None,
        )  # fmt: skip
        return train(
            whole[:40], samples, model=base, start=None, spec=spec, max_length=64, seed=7, folder=folder, moving=moving
        )

    return steer


def looks(folder: Path) -> pl.DataFrame:
    return read(folder / "weights.parquet", WEIGHTS)


def weights_of(folder: Path) -> np.ndarray:
    return looks(folder)["weight"].to_numpy().reshape(-1, 2)


def result(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): sha256(path) for path in folder.rglob("*") if path.is_file()}


def assert_as_much(stats: dict[str, Any], samples: pl.DataFrame) -> None:
    """As many loss tokens are trained on as the first forty rows have, to within a row."""
    n = int(samples.head(40)["n_loss_tokens"].sum())
    assert 0 <= stats["n_loss_tokens"] - n < samples["n_loss_tokens"].to_numpy().max()


def test_weights_move_by_the_law_and_what_is_drawn_follows_them(steer: Steer, samples: pl.DataFrame, tmp_path: Path) -> None:
    stats = steer(tmp_path)
    found, weights = looks(tmp_path), weights_of(tmp_path)
    assert_as_much(stats, samples)
    assert found["step"].unique(maintain_order=True).to_list() == [0, 2, 4, 6, 8, 10]
    positions = found["position"].unique(maintain_order=True).to_list()
    assert positions[0] == 0
    assert positions[-1] == stats["samples"]
    assert weights.sum(axis=1) == pytest.approx(1)
    assert weights[0].tolist() == [0.5, 0.5]
    law = found.filter(domain="law")
    for before, now in zip(law[:-2].iter_rows(named=True), law[1:-1].iter_rows(named=True), strict=True):
        gamma = {each["name"]: each["value"] for each in now["told"]}["potential"]
        assert gamma == pytest.approx(max((now["loss_nats"] - 1.0) / now["loss_nats"], 0))
        other = found.filter((pl.col("step") == now["step"]) & (pl.col("domain") == "code"))["told"][0][0]["value"]
        share = before["weight"] * (1 + gamma) / (before["weight"] * (1 + gamma) + (1 - before["weight"]) * (1 + other))
        assert now["weight"] == pytest.approx(min(max(share, 0.05), 0.95))
    assert stats["weights"]["law"] == weights[-1, 0] > 0.7  # code is below its reference and can learn nothing
    trace = read(tmp_path / "trace.parquet", TRACE)
    drawn = trace.group_by("domain").agg(pl.col("n_tokens").sum())
    per_step = np.repeat(weights[:-1, 0], 2).mean()
    total = drawn["n_tokens"].sum()
    assert drawn.filter(domain="law")["n_tokens"][0] / total == pytest.approx(per_step, abs=30 / total)


def test_the_trace_set_as_levels_gives_the_same_training(steer: Steer, tmp_path: Path) -> None:
    steer(tmp_path / "moved")
    law = yaml.safe_load((tmp_path / "moved/levels.yaml").read_text())["law"]
    steer(tmp_path / "again", law=law, reference=None)
    for name in ("trace.parquet", "model/model.safetensors"):
        assert sha256(tmp_path / "again" / name) == sha256(tmp_path / "moved" / name)
    columns = ["step", "domain", "weight", "loss_nats"]
    assert looks(tmp_path / "again").select(columns).equals(looks(tmp_path / "moved").select(columns))


@pytest.mark.parametrize("law", [POTENTIAL, {"name": "bandit", "every": 1}, {"name": "expansion", "target": "law", "every": 3}])
@pytest.mark.parametrize("stop", [1, 4, 7])
def test_it_is_stopped_and_goes_on_to_the_same_bits(
    steer: Steer, law: Any, stop: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Stopped(BaseException): ...

    steer(tmp_path / "whole", law=law, checkpoint_every=2)
    done = 0

    def after_step(*_: Any) -> None:
        nonlocal done
        done += 1
        if done > stop:
            raise Stopped

    with monkeypatch.context() as patched:
        patched.setattr(Full, "after_step", after_step)
        with pytest.raises(Stopped):
            steer(tmp_path / "stopped", law=law, checkpoint_every=2)
    steer(tmp_path / "stopped", law=law, checkpoint_every=2)
    assert result(tmp_path / "stopped") == result(tmp_path / "whole")


def test_losses_of_looks_are_token_means_of_the_rows(
    steer: Steer, held_out: pl.DataFrame, base: ModelRef, tmp_path: Path
) -> None:
    steer(tmp_path, micro_batch=3, held_out={"share": 1.0})
    network, tokenizer = load(base, device="cpu")
    sums = dict.fromkeys(DOMAINS, (0.0, 0))
    for domain, row in zip(held_out["domain"], encode(tokenizer, wholes(held_out), max_length=64), strict=True):
        assert isinstance(row, Encoding)
        with torch.no_grad():
            logits = network(torch.tensor([row.ids])).logits[0, :-1]
        losses = torch.nn.functional.cross_entropy(logits, torch.tensor(row.ids[1:]), reduction="none")
        mine = losses[torch.tensor(row.trained[1:])]
        sums[domain] = sums[domain][0] + float(mine.sum()), sums[domain][1] + len(mine)
    first = looks(tmp_path).filter(step=0)
    for domain, loss, n in first.select("domain", "loss_nats", "n_loss_tokens").iter_rows():
        assert (n, loss) == (sums[domain][1], pytest.approx(sums[domain][0] / sums[domain][1], rel=1e-5))


def test_a_look_costs_no_more_than_it_may(steer: Steer, held_out: pl.DataFrame, tmp_path: Path) -> None:
    def n_tokens(folder: Path, **held: Any) -> int:
        steer(folder, held_out=held, law={**POTENTIAL, "every": 5})
        return int(looks(folder).filter(step=0)["n_loss_tokens"].sum())

    whole = int(held_out["n_loss_tokens"].sum())
    assert n_tokens(tmp_path / "whole", share=1.0) == whole
    assert n_tokens(tmp_path / "some", share=1.0, rows=2) < n_tokens(tmp_path / "half", share=0.15) < whole


def test_a_domain_that_runs_dry_is_said(steer: Steer, samples: pl.DataFrame, tmp_path: Path) -> None:
    said: list[str] = []

    class Listener(Silence):
        def say(self, line: str) -> None:
            said.append(line)

    law = {"name": "levels", "levels": [[0, {"law": 1.0, "code": 0.001}]]}
    token = listener.set(Listener())
    try:
        stats = steer(tmp_path, law=law, reference=None, rows=60)  # thirty of each domain
    finally:
        listener.reset(token)
    assert_as_much(stats, samples)
    [event] = stats["exhausted"]
    assert event["domain"] == "law"
    assert f"step {event['step'] + 1}: no more rows of law; the others take its share" in said
    trace = read(tmp_path / "trace.parquet", TRACE)
    assert trace.filter(pl.col("step") > event["step"])["domain"].unique().to_list() == ["code"]


def test_what_does_not_fit_is_refused(steer: Steer, tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"potential needs reference losses; .*give train.reference"):
        steer(tmp_path, reference=None)
    with pytest.raises(SpecError, match=r"epochs: a law moves weights within one pass; expected 1; got 2; .*max_repeats"):
        steer(tmp_path, epochs=2)
    with pytest.raises(InputError, match="no reference loss; expected one of every domain; got code"):
        steer(tmp_path, reference={"given": {"law": 1.0}})
    with pytest.raises(SpecError, match=r"unknown law of training 'potental'.*potential"):
        steer(tmp_path, law="potental")
    with pytest.raises(SpecError, match="target"):
        steer(tmp_path, law={"name": "expansion", "target": "physics"})


def test_reference_losses_are_the_least_on_rows_that_are_held_out(
    samples: pl.DataFrame, base: ModelRef, held_out: pl.DataFrame, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = Train(batch_size=8, threads=1, device="cpu", learning_rate=2e-3, reference={"epochs": 3, "rows": 20})
    given = {"model": base, "spec": spec, "max_length": 64, "seed": 7, "folder": tmp_path}
    told = reference_losses(samples, held_out, DOMAINS, **given)
    found = yaml.safe_load((tmp_path / "reference.json").read_text())
    assert set(found) == set(told["domains"]) == set(DOMAINS)
    for domain, each in found.items():
        assert len(each["looks"]) == 4
        assert each["loss_nats"] == min(each["looks"]) == told["domains"][domain] < each["looks"][0]
        assert each["rows"] == 20
    with pytest.raises(InputError, match=r"train\.reference: no rows to train on; got physics"):
        reference_losses(samples, held_out, [*DOMAINS, "physics"], **given)
    again = given | {"folder": tmp_path / "again"}
    for _ in range(2):  # stopped in the middle of each domain
        with monkeypatch.context() as patched:
            patched.setattr(Full, "after_step", stop_after(5))
            with pytest.raises(KeyboardInterrupt):
                reference_losses(samples, held_out, DOMAINS, **again)
    assert reference_losses(samples, held_out, DOMAINS, **again) == told
    assert (tmp_path / "again/reference.json").read_text() == (tmp_path / "reference.json").read_text()
    assert not [path for path in (tmp_path / "again").iterdir() if path.is_dir()]


def stop_after(steps: int) -> Callable[..., None]:
    done = 0

    def after_step(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == steps:
            raise KeyboardInterrupt

    return after_step


def test_loggers_see_every_look_and_every_step(steer: Steer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from transformers import TrainerCallback, integrations
    from transformers.integrations import integration_utils

    logged: list[dict[str, float]] = []

    class Recorder(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
            logged.append({"at": state.global_step, **logs})

    monkeypatch.setattr(integrations, "get_available_reporting_integrations", lambda: ["recorder"])
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "recorder", Recorder)
    steer(tmp_path, report_to=["recorder"])
    seen = looks(tmp_path)
    for name, column in (("weight", "weight"), ("held_out_loss", "loss_nats")):
        told = [(each["at"], each[f"{name}/{domain}"]) for each in logged if "weight/law" in each for domain in DOMAINS]
        assert told == list(seen.select("step", column).iter_rows())
    trace = read(tmp_path / "trace.parquet", TRACE)
    for name, column in (("share", "weight"), ("loss", "loss_nats")):
        own = {
            (each["at"], key.partition("/")[2]): value
            for each in logged
            for key, value in each.items()
            if key.startswith(f"{name}/") and value > 0  # no part in a step is a share of zero, and no row of the trace
        }
        expected = {(step + 1, domain): value for step, domain, value in trace.select("step", "domain", column).iter_rows()}
        assert own == pytest.approx(expected)


@pytest.mark.slow
def test_two_processes_move_the_same_weights(steer: Steer, tmp_path: Path) -> None:
    one = steer(tmp_path / "one")
    two = steer(tmp_path / "two", processes=2)
    assert two["samples"] == one["samples"]
    told = [looks(tmp_path / name) for name in ("one", "two")]
    columns = ["step", "position", "domain", "n_loss_tokens", "state"]
    assert told[0].select(columns).equals(told[1].select(columns))
    for column in ("weight", "loss_nats"):
        assert told[1][column].to_numpy() == pytest.approx(told[0][column].to_numpy(), rel=1e-5)
    traces = [read(tmp_path / name / "trace.parquet", TRACE) for name in ("one", "two")]
    assert traces[0].drop("loss_nats", "weight").equals(traces[1].drop("loss_nats", "weight"))
    assert traces[1]["loss_nats"].to_numpy() == pytest.approx(traces[0]["loss_nats"].to_numpy(), rel=1e-5)
