"""What a composition leaves over is all that its domains could still give, and to ask for it changes no row."""

from __future__ import annotations

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.compose import compose
from composer.select import SELECTORS
from composer.spec import rng
from composer.tables import COMPOSITION, check
from composer.types import Mixture, Phase, Schedule

DOMAINS = ("a", "b", "c")
UNIFORM = SELECTORS["uniform"]()
few = settings(max_examples=20, deadline=None)
ROWS = [name for name, n in {"a": 300, "b": 200, "c": 100}.items() for _ in range(n)]
LOSS = rng(0, "reserve").integers(1, 60, len(ROWS))
POOL = pl.DataFrame({
    "sample_id": [f"{i:016x}" for i in range(len(ROWS))], "source": ROWS, "domain": ROWS, "role": "target",
    "instruction_id": [f"{name}{i % 5}" for i, name in enumerate(ROWS)], "n_tokens": LOSS + 40, "n_loss_tokens": LOSS,
}).cast({"n_tokens": pl.UInt32, "n_loss_tokens": pl.UInt32})  # fmt: skip


@given(seed=st.integers(0, 3), budget=st.integers(50, 20_000), repeats=st.integers(1, 3))
@few
def test_the_reserve_is_all_that_is_left_and_changes_no_row(seed, budget, repeats):
    mixture = Mixture(domains=DOMAINS, weights=(0.7, 0.2, 0.1), unit="loss_tokens")
    schedule = Schedule(phases=(Phase(name="one", amount=budget, mixture=mixture, current=DOMAINS),))
    given = {"domains": DOMAINS, "select": UNIFORM, "replay_select": UNIFORM, "max_repeats": repeats, "seed": seed}
    made = compose(schedule, POOL, **given, with_reserve=True)
    assert made.frame.equals(compose(schedule, POOL, **given).frame)
    assert check(made.reserve, COMPOSITION, where="reserve") is not None
    both = pl.concat([made.frame, made.reserve])
    assert both["position"].to_list() == list(range(POOL.height * repeats))
    assert not both.select("row", "repeat").is_duplicated().any()
    last = made.frame.group_by("domain").agg(last=pl.col("repeat").max())
    first = made.reserve.group_by("domain", maintain_order=True).agg(first=pl.col("repeat").first())
    joined = first.join(last, on="domain")
    assert (joined["first"] >= joined["last"]).all()  # what a pass began it goes on with


def test_a_replayed_domain_keeps_its_one_pass_in_reserve():
    mixture = Mixture(domains=("a", "b"), weights=(0.5, 0.5), unit="samples")
    schedule = Schedule(phases=(Phase(name="one", amount=100, mixture=mixture, current=("b",)),))
    made = compose(
        schedule, POOL, domains=DOMAINS, select=UNIFORM, replay_select=UNIFORM, max_repeats=2, seed=1, with_reserve=True
    )
    counts = dict(made.reserve.group_by("domain").len().iter_rows())
    assert counts == {"a": 300 - 50, "b": 2 * 200 - 50}
    assert set(made.reserve.filter(pl.col("domain") == "a")["is_replay"]) == {True}
