"""The baselines of InsCL and the top by a score, with numbers by hand; then what they do where little is there."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from composer.errors import InputError, SpecError
from composer.select import SELECTORS
from composer.select.prototypes import best_clusters, from_centres
from composer.types import SelectContext

PROTOTYPE_DATA, DIVERSE = SELECTORS["prototype_data"](), SELECTORS["diverse"]()


def at(*degrees):
    return [[float(np.cos(np.radians(d))), float(np.sin(np.radians(d)))] for d in degrees]


def ids(frame, order):
    return frame[order]["sample_id"].to_list()


def instructions(frame, order):
    return frame[order]["instruction_id"].to_list()


class TestPrototypeData:
    def rows(self, *names):
        return pl.DataFrame({"sample_id": [f"s{i}" for i in range(len(names))], "instruction_id": list(names)})

    def context(self, world, vectors):
        return SelectContext(sample_embeddings=world.vectors({f"s{i}": v for i, v in enumerate(vectors)}, key="sample_id"))

    def test_rows_come_by_the_distance_to_their_centre_the_farthest_first(self, world):
        frame = self.rows("i", "i", "i", "j", "j", "j")
        # Two clusters, of rows 0 to 2 and 3 to 5, with centres at 7.3 and 94.3 degrees: 7.3, 12.7, 5.3; 4.3, 1.3, 5.7 away.
        vectors = at(0, 20, 2, 90, 93, 100)
        centre = [np.mean(vectors[:3], axis=0), np.mean(vectors[3:], axis=0)]
        away = [1 - np.dot(v, centre[i // 3]) / np.linalg.norm(centre[i // 3]) for i, v in enumerate(vectors)]
        order = PROTOTYPE_DATA.order(frame, context=self.context(world, vectors), n=3, seed=7)
        assert order.tolist() == [1, 0, 5, 2, 3, 4] == np.argsort(-np.array(away)).tolist()

    def test_one_instruction_is_one_cluster(self, world):
        frame = self.rows("i", "i", "i")
        order = PROTOTYPE_DATA.order(frame, context=self.context(world, at(0, 10, 90)), n=1, seed=7)
        assert order.tolist() == [2, 0, 1]

    def test_rows_that_lie_alike_come_in_random_order(self, world):
        frame, context = self.rows("i", "i", "i"), self.context(world, at(45, 45, 45))
        assert len({tuple(PROTOTYPE_DATA.order(frame, context=context, n=1, seed=seed)) for seed in range(30)}) == 6

    def test_a_vector_of_zeros_has_no_cluster(self, world):
        context = self.context(world, [*at(0, 10), [0.0, 0.0]])
        with pytest.raises(InputError, match="zero"):
            PROTOTYPE_DATA.order(self.rows("i", "i", "i"), context=context, n=1, seed=7)

    def test_a_row_without_a_vector_is_an_error(self, world):
        with pytest.raises(InputError, match=r"select prototype_data: sample_id without vector; .* got none for 1 of 3"):
            PROTOTYPE_DATA.order(self.rows("i", "i", "i"), context=self.context(world, at(0, 10)), n=1, seed=7)

    def test_vectors_have_one_length(self, world):
        context = self.context(world, [[1.0], [1.0, 0.0]])
        with pytest.raises(InputError, match="vectors of several lengths; expected one length above zero; got 1, 2"):
            PROTOTYPE_DATA.order(self.rows("i", "i"), context=context, n=1, seed=7)


class TestPrototypeInstruction:
    def context(self, world, degrees):
        return SelectContext(embeddings=world.vectors({f"i{i}": v for i, v in enumerate(at(*degrees))}))

    def test_the_nearest_to_its_centre_stands_for_a_cluster(self, world):
        frame = world.rows([3] * 9)
        context = self.context(world, (0, 4, 10, 120, 125, 128, 240, 243, 250))
        order = SELECTORS["prototype_instruction"](most=6).order(frame, context=context, n=9, seed=7)
        assert sorted(instructions(frame, order[:9])) == ["i1"] * 3 + ["i4"] * 3 + ["i7"] * 3
        assert not {"i1", "i4", "i7"} & set(instructions(frame, order[9:]))

    def test_both_parts_come_in_random_order(self, world):
        frame, context = world.rows([4] * 4), self.context(world, (0, 5, 90, 95))
        selector = SELECTORS["prototype_instruction"](most=3)
        orders = [instructions(frame, selector.order(frame, context=context, n=8, seed=seed)) for seed in range(5)]
        for part in (slice(0, 8), slice(8, 16)):
            assert len({tuple(order[part]) for order in orders}) > 1

    @pytest.mark.parametrize("degrees", [(0,), (0, 90), (0, 0)])
    def test_too_few_to_cluster_stand_for_themselves(self, world, degrees):
        frame = world.rows([2] * len(degrees))
        order = SELECTORS["prototype_instruction"]().order(frame, context=self.context(world, degrees), n=2, seed=7)
        first = instructions(frame, order[: 2 * len(set(degrees))])
        assert sorted(first) == [f"i{i}" for i in range(len(set(degrees))) for _ in range(2)]

    def test_a_range_without_a_number_is_refused(self):
        with pytest.raises(SpecError, match="least: no number of clusters is left; expected up to 4; got 5"):
            SELECTORS["prototype_instruction"](least=5, most=4)


class TestDiverse:
    def context(self, world, own, new):
        table = world.vectors({**{f"i{i}": v for i, v in enumerate(own)}, **{f"n{i}": v for i, v in enumerate(new)}})
        return SelectContext(embeddings=table, current=pl.DataFrame({"instruction_id": [f"n{i}" for i in range(len(new))]}))

    def test_instructions_come_by_their_summed_cosine_the_least_first(self, world):
        frame = world.rows([2, 3, 1, 2])
        # Summed cosines to 0 and 90 degrees: 1.0, 1.414, -1.0, 0.366.
        context = self.context(world, at(0, 45, 180, 120), at(0, 90))
        order = DIVERSE.order(frame, context=context, n=3, seed=7)
        assert instructions(frame, order) == ["i2", "i3", "i3", "i0", "i0", "i1", "i1", "i1"]

    def test_only_directions_count(self, world):
        frame = world.rows([1, 1, 1])
        own = [[9.0, 0.0], [0.1, 0.1], [0.0, -0.001]]
        order = DIVERSE.order(frame, context=self.context(world, own, [[0.0, 500.0], [0.01, 0.0]]), n=1, seed=7)
        assert instructions(frame, order) == ["i2", "i0", "i1"]

    def test_rows_of_an_instruction_and_equal_instructions_come_by_chance(self, world):
        frame, context = world.rows([2, 2]), self.context(world, at(30, -30), at(0))
        orders = [tuple(DIVERSE.order(frame, context=context, n=1, seed=seed)) for seed in range(60)]
        assert len(set(orders)) == 8  # which instruction, and the order within both
        assert all(order[0] // 2 == order[1] // 2 for order in orders)

    def test_without_new_instructions_all_are_equal(self, world):
        frame = world.rows([1] * 3)
        context = self.context(world, at(0, 1, 2), [])
        context = SelectContext(embeddings=context.embeddings, current=pl.DataFrame(schema={"instruction_id": pl.String}))
        assert len({tuple(DIVERSE.order(frame, context=context, n=1, seed=seed)) for seed in range(30)}) == 6

    def test_a_new_instruction_without_a_vector_is_an_error(self, world):
        context = self.context(world, at(0), at(9))
        lacking = SelectContext(embeddings=context.embeddings[:1], current=context.current)
        with pytest.raises(InputError, match="select diverse: instruction_id without vector"):
            DIVERSE.order(world.rows([1]), context=lacking, n=1, seed=7)


class TestTop:
    def rows(self, n):
        return pl.DataFrame({"sample_id": [f"s{i}" for i in range(n)], "instruction_id": ["i"] * n})

    def context(self, values):
        return SelectContext(scores=pl.DataFrame({"sample_id": list(values), "score": "ifd", "value": list(values.values())}))

    @given(values=st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=1, max_size=12), lowest=st.booleans())
    @settings(max_examples=40, deadline=None)
    def test_rows_come_by_their_value_and_those_without_one_last(self, values, lowest):
        given_ = {f"s{i}": float(value) for i, value in enumerate(values) if value is not None}
        selector, frame = SELECTORS["top"](score="ifd", lowest=lowest), self.rows(len(values))
        if not given_:
            return
        order = selector.order(frame, context=self.context(given_), n=2, seed=7)
        ranked = [values[i] for i in order]
        known = [value for value in values if value is not None]
        assert ranked[: len(known)] == sorted(known, reverse=not lowest)
        assert ranked[len(known) :] == [None] * (len(values) - len(known))

    def test_ties_are_broken_by_chance(self):
        selector, frame = SELECTORS["top"](score="ifd"), self.rows(4)
        orders = {tuple(selector.order(frame, context=self.context({"s0": 1.0, "s1": 1.0}), n=1, seed=s)) for s in range(60)}
        assert {order[:2] for order in orders} == {(0, 1), (1, 0)}
        assert {order[2:] for order in orders} == {(2, 3), (3, 2)}

    def test_of_several_values_the_one_that_puts_a_row_ahead_counts(self):
        frame = self.rows(2)
        scores = pl.DataFrame({"sample_id": ["s0", "s1", "s0"], "score": "ifd", "value": [1.0, 2.0, 3.0]})
        for lowest in (False, True):
            order = SELECTORS["top"](score="ifd", lowest=lowest).order(frame, context=SelectContext(scores=scores), n=1, seed=7)
            assert order.tolist() == [0, 1]

    def test_a_score_that_was_not_computed_is_refused(self):
        with pytest.raises(SpecError, match=r"select.score: no score 'length'; got ifd; name a score of samples"):
            SELECTORS["top"](score="length").order(self.rows(2), context=self.context({"s0": 1.0}), n=1, seed=7)

    def test_it_must_be_told_by_which_score(self):
        with pytest.raises(SpecError, match="score: missing field of TopSelector"):
            SELECTORS["top"]()


def test_every_different_vector_is_a_cluster_where_no_number_of_clusters_has_a_silhouette():
    vectors = np.array([*at(0, 90), *at(0)], dtype=np.float32)
    labels = best_clusters(vectors, ks=range(2, 9), seed=1)
    assert labels[0] == labels[2] != labels[1]
    assert from_centres(vectors, labels).tolist() == [0, 0, 0]


def test_the_number_of_clusters_is_that_of_the_best_silhouette():
    vectors = np.array(at(0, 2, 4, 90, 92, 94, 180, 182, 184, 270, 272, 274), dtype=np.float32)
    labels = best_clusters(vectors, ks=range(2, 9), seed=1)
    assert len(set(labels.tolist())) == 4
    assert all(len(set(labels[i : i + 3].tolist())) == 1 for i in range(0, 12, 3))
