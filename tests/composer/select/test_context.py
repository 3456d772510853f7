"""What ``compose`` tells a selector: the tables of the run, the scores of the phase, and what is new in it."""

from __future__ import annotations

from itertools import chain

import numpy as np
import polars as pl

from composer.compose import compose
from composer.select import SELECTORS
from composer.tables import INSTRUCTION_COUNT, INSTRUCTION_SCORE, check
from composer.types import Mixture, Phase, Schedule

TABLES = ("scores", "embeddings", "sample_embeddings", "clusters", "answers")
DOMAINS = ("a", "b", "c")
GIVEN = [("a", 0, 20), ("a", 1, 10), ("b", 0, 15), ("b", 2, 5), ("c", 0, 8), ("c", 3, 2)]  # domain, instruction, rows


class Asked:
    """A selector that remembers what it was told."""

    def __init__(self):
        self.contexts = []

    def order(self, rows, *, context, n, seed):  # noqa: ARG002
        self.contexts.append(context)
        return np.arange(len(rows))


def samples():
    rows = [(domain, f"i{i}") for domain, i, n in GIVEN for _ in range(n)]
    return pl.DataFrame(
        [(f"{k:016x}", domain, domain, "target", instruction, 9, 5) for k, (domain, instruction) in enumerate(rows)],
        schema=["sample_id", "source", "domain", "role", "instruction_id", "n_tokens", "n_loss_tokens"],
        orient="row",
    ).cast({"n_tokens": pl.UInt32, "n_loss_tokens": pl.UInt32})


def scores(*rows):
    return pl.DataFrame(rows, schema=pl.Schema(INSTRUCTION_SCORE), orient="row")


def phase(amount, *, current, **weights):
    mixture = Mixture(domains=tuple(weights), weights=tuple(weights.values()), unit="samples")
    return Phase(name="+".join(current), amount=amount, mixture=mixture, current=current)


SEQUENCE = Schedule(
    phases=(
        phase(30, current=("a",), a=1.0),
        phase(30, current=("b",), a=1 / 3, b=2 / 3),
        phase(20, current=("c",), a=0.5, c=0.5),
    )
)
TWO_NEW = Schedule(phases=(phase(40, current=("a", "b"), a=0.5, b=0.5),))


def told(schedule=SEQUENCE, **tables):
    """What selectors of new rows and of replayed ones are told, phase by phase."""
    new, old = Asked(), Asked()
    compose(schedule, samples(), domains=DOMAINS, select=new, replay_select=old, max_repeats=1, seed=7, **tables)
    return new.contexts, old.contexts


def test_the_tables_of_the_run_are_handed_on_as_they_are():
    tables = {name: pl.DataFrame({name: [1]}) for name in TABLES}
    for context in chain(*told(**tables)):
        assert all(getattr(context, name) is table for name, table in tables.items())


def test_what_a_run_does_not_have_no_selector_is_told():
    for context in chain(*told()):
        assert [getattr(context, name) for name in (*TABLES, "instruction_scores")] == [None] * 6


def test_the_scores_of_a_phase_are_its_own_and_where_it_has_none_those_of_every_phase():
    given = scores(("i0", None, "insinfo", 1), ("i1", None, "insinfo", 2), ("i1", 1, "insinfo", 3), ("i1", 2, "ifd", 4))
    new, old = told(instruction_scores=given)
    every = [("i0", "insinfo", 1.0), ("i1", "insinfo", 2.0)]
    own = [every, [("i0", "insinfo", 1.0), ("i1", "insinfo", 3.0)], [*every, ("i1", "ifd", 4.0)]]
    assert [sorted(context.instruction_scores.drop("phase").rows()) for context in new] == [own[0], own[1], sorted(own[2])]
    assert [sorted(context.instruction_scores.drop("phase").rows()) for context in old] == [own[1], sorted(own[2])]


def test_the_current_instructions_are_those_of_the_new_domains():
    new, old = told()
    for context in (*new, *old):
        check(context.current, INSTRUCTION_COUNT, where="test")
    assert [context.current.rows() for context in new] == [
        [("i0", 20), ("i1", 10)],
        [("i0", 15), ("i2", 5)],
        [("i0", 8), ("i3", 2)],
    ]
    assert [context.current.rows() for context in old] == [new[1].current.rows(), new[2].current.rows()]


def test_the_instructions_of_several_new_domains_are_counted_together():
    assert [context.current.rows() for context in told(TWO_NEW)[0]] == [[("i0", 35), ("i1", 10), ("i2", 5)]] * 2


def test_new_domains_without_rows_have_no_instructions():
    schedule = Schedule(phases=(phase(10, current=("d",), a=0.5, d=0.5),))
    old = Asked()
    compose(schedule, samples(), domains=(*DOMAINS, "d"), select=Asked(), replay_select=old, max_repeats=1, seed=7)
    assert [context.current.rows() for context in old.contexts] == [[]]


def test_a_score_that_changes_from_phase_to_phase_guides_each_by_its_own_values():
    given = scores(("i0", 1, "insinfo", 9), ("i1", 1, "insinfo", 1), ("i0", 2, "insinfo", 1), ("i1", 2, "insinfo", 4))
    frame = compose(
        SEQUENCE, samples(), domains=DOMAINS, select=SELECTORS["uniform"](), replay_select=SELECTORS["instruction"](),
        instruction_scores=given, max_repeats=1, seed=7,
    ).frame.join(samples().select("sample_id", "instruction_id"), on="sample_id")  # fmt: skip
    counted = frame.filter("is_replay").group_by("phase", "instruction_id").len().sort("phase", "instruction_id")
    assert counted.rows() == [(1, "i0", 9), (1, "i1", 1), (2, "i0", 2), (2, "i1", 8)]


def test_one_phase_alone_is_told_what_it_is_told_among_all():
    new, old = told(only=1, instruction_scores=scores(("i0", 1, "insinfo", 1)))
    (of_new,), (of_old,) = new, old
    assert of_new.current.rows() == of_old.current.rows() == [("i0", 15), ("i2", 5)]
    assert of_old.instruction_scores.rows() == [("i0", 1, "insinfo", 1.0)]


def test_the_cap_on_clusters_holds_in_a_composition():
    clusters = pl.DataFrame({"instruction_id": ["i0", "i1", "i2", "i3"], "cluster": [0, 1, 1, 1]})
    capped = SELECTORS["uniform"](max_cluster_share=0.5)
    frame = compose(
        Schedule(phases=(phase(10, current=("a",), a=1.0),)), samples(), domains=DOMAINS, select=capped, replay_select=capped,
        clusters=clusters, max_repeats=1, seed=7,
    ).frame.join(samples().select("sample_id", "instruction_id"), on="sample_id")  # fmt: skip
    assert sorted(frame["instruction_id"].value_counts().rows()) == [("i0", 5), ("i1", 5)]
