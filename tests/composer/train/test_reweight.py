"""One battery for every law that moves weights, the numbers of the papers' formulas, and the edges of the losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import composer.train.reweight
from composer.errors import InputError, SpecError
from composer.spec import member
from composer.train.reweight import REWEIGHTING, Look, Reweighting
from tests.composer.train.looking import LOSS, law, look

few = settings(max_examples=40, deadline=None)


@st.composite
def looks(draw: Any, *, least: int = 2) -> Look:
    k = draw(st.integers(least, 6))
    losses = [draw(st.lists(LOSS, min_size=k, max_size=k)) for _ in range(4)]
    weights = draw(st.lists(st.floats(0, 1), min_size=k, max_size=k).filter(lambda w: sum(w) > 0.01))
    reward = draw(st.lists(st.floats(0, 1000), min_size=k, max_size=k))
    memory = draw(st.sampled_from([{}, {"updates": 4, "reward": reward}]))
    return look(weights, losses[0], previous=losses[1], reference=losses[2], train_loss=losses[3], memory=memory)


@pytest.mark.parametrize("word", REWEIGHTING)
def test_a_law_is_one_file_named_as_its_word_and_says_what_it_is(word: str) -> None:
    cls = REWEIGHTING[word]
    assert (Path(composer.train.reweight.__file__).parent / f"{word}.py").is_file()
    assert cls.model_fields["name"].default == word
    assert cls.summary
    assert cls.reference
    assert law(word).needs <= {"reference"}
    again = member(json.loads(json.dumps(law(word).identity())), REWEIGHTING, kind="reweighting")
    assert again == law(word)


@pytest.mark.parametrize("word", REWEIGHTING)
@given(seen=looks(), floor=st.floats(0, 0.16), cap=st.floats(0.55, 1))
@few
def test_weights_stay_on_the_simplex_within_the_bounds_whatever_the_losses(
    word: str, seen: Look, floor: float, cap: float
) -> None:
    chosen = law(word, floor=floor, cap=cap)
    start = chosen.start(seen.weights, seen.domains)
    for weights in (start, chosen.move(seen).weights):
        assert weights.dtype == np.float64
        assert weights.shape == seen.weights.shape
        assert weights.sum() == pytest.approx(1, abs=1e-12)
        assert weights.min() >= floor
        assert weights.max() <= cap


@pytest.mark.parametrize("word", REWEIGHTING)
@given(seen=looks(), data=st.data())
@few
def test_the_order_of_the_domains_does_not_matter(word: str, seen: Look, data: Any) -> None:
    order = list(data.draw(st.permutations(range(len(seen.domains)))))
    memory = dict(seen.memory)
    if "reward" in memory:
        memory["reward"] = [memory["reward"][i] for i in order]
    turned = Look(
        step=seen.step, domains=tuple(seen.domains[i] for i in order), weights=seen.weights[order], loss=seen.loss[order],
        previous=seen.previous[order], reference=seen.reference[order], train_loss=seen.train_loss[order], memory=memory,  # type: ignore[index]
    )  # fmt: skip
    straight, permuted = law(word).move(seen), law(word).move(turned)
    np.testing.assert_allclose(straight.weights[order], permuted.weights, rtol=1e-9, atol=1e-12)
    assert straight.state == permuted.state


@pytest.mark.parametrize("word", REWEIGHTING)
def test_the_same_look_gives_the_same_bytes_and_is_left_alone(word: str) -> None:
    seen = look([1, 2, 3], [2.5, 1.5, 1.25])
    before = seen.weights.tobytes(), seen.loss.tobytes()
    one, two = law(word).move(seen), law(word).move(seen)
    assert one.weights.tobytes() == two.weights.tobytes()
    assert before == (seen.weights.tobytes(), seen.loss.tobytes())
    assert one.weights is not seen.weights
    assert json.loads(json.dumps(one.memory)) == one.memory
    assert all(vector.shape == (3,) for vector in one.told.values())
    assert one.state.isalpha()


@pytest.mark.parametrize("word", sorted(REWEIGHTING.keys() - {"levels"}))
def test_the_first_look_moves_nothing(word: str) -> None:
    seen = look([1, 2, 3], [3.0, 2.0, 1.0], step=0, previous=None)
    move = law(word).move(seen)
    assert move.weights.tobytes() == seen.weights.tobytes()
    assert (move.state, move.told, move.memory) == ("held", {}, {})


@pytest.mark.parametrize("word", REWEIGHTING)
def test_what_a_law_needs_is_an_error_when_absent_and_nothing_else_is(word: str) -> None:
    for previous in (None, np.ones(2)):
        bare = look([1, 1], [2.0, 2.0], reference=None, previous=previous)
        if law(word).needs:
            with pytest.raises(SpecError, match=f"reweighting {word}: needs reference, .* does not have; give train.reference"):
                law(word).move(bare)
        else:
            law(word).move(bare)


@pytest.mark.parametrize("word", REWEIGHTING)
def test_bounds_that_the_domains_cannot_keep_are_refused_by_name(word: str) -> None:
    domains = ("d0", "d1", "d2")
    with pytest.raises(SpecError, match=r"floor: a floor that the domains cannot all have; expected 0 to 1/3; got 0.4"):
        law(word, floor=0.4).start([1, 1, 1], domains)
    with pytest.raises(SpecError, match=r"cap: a cap under which the domains do not make a whole; expected 1/3 to 1; got 0.3"):
        law(word, cap=0.3).start([1, 1, 1], domains)
    with pytest.raises(InputError, match="weights that are no shares"):
        law(word).start([0, 0, 0], domains)
    with pytest.raises(SpecError, match=r"every: .*greater than or equal to 1"):
        law(word, every=0)


@pytest.mark.parametrize("word", sorted(REWEIGHTING.keys() - {"levels"}))
def test_a_law_looks_before_training_and_then_every_so_many_steps(word: str) -> None:
    assert [step for step in range(31) if law(word, every=10).due(step)] == [0, 10, 20, 30]


@pytest.mark.parametrize("word", sorted(REWEIGHTING.keys() - {"levels"}))
def test_a_single_domain_keeps_everything(word: str) -> None:
    assert law(word).move(look([1], [3.0])).weights.tolist() == [1.0]


def test_a_member_without_an_update_is_not_done() -> None:
    class Bare(Reweighting):
        name: str = "bare"

    with pytest.raises(NotImplementedError):
        Bare().move(look([1], [1.0]))
