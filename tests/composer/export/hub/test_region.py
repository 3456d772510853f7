"""What people write on a card stays, whatever is pushed after it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from composer.errors import InputError
from composer.export.hub.region import BEGIN, END, merged, split

OURS = "---\nlicense: mit\ntags:\n- sft-composer\nconfigs:\n- config_name: mix\n---\n\n# Mix\n\nOne.\n"
NEXT = OURS.replace("One.", "Two.")
HAND = "## Intended use\n\nFor tests, `a|b` <b>and</b> more.\n"
lines = st.lists(st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30), max_size=4).map("\n".join)


def front(card: str) -> dict[str, object]:
    return dict(yaml.safe_load(card.split("---\n")[1]))


def test_a_push_of_the_same_changes_nothing() -> None:
    once = merged(OURS, None)
    assert merged(OURS, once) == once
    assert once.count(BEGIN) == once.count(END) == 1


@given(above=lines, below=lines)
def test_what_is_written_around_our_part_stays_to_the_character(above: str, below: str) -> None:
    once = merged(OURS, None)
    head, body = once.split("---\n\n", 1)
    if "---" in above or "begin sft-composer" in above + below or "end sft-composer" in above + below:
        return
    written = f"{head}---\n\n# Mine\n{above}\n\n{body}\n{below}\n"
    again = merged(NEXT, written)
    assert again == written.replace("One.", "Two.")
    assert merged(NEXT, again) == again


def test_a_card_without_marks_is_kept_whole_and_ours_comes_below() -> None:
    card = merged(OURS, f"---\nlicense: mit\n---\n\n{HAND}")
    assert card.index("## Intended use") < card.index(BEGIN) < card.index("# Mix")
    assert HAND.strip() in card


def test_of_the_front_matter_only_what_follows_from_the_data_is_set_anew() -> None:
    theirs = (
        "---\nlicense: other\nlicense_name: mixed\nlicense_link: LICENSE\npretty_name: By hand\nlanguage:\n- de\n"
        "tags:\n- mine\ndataset_info:\n- config_name: old\nconfigs: []\nextra_gated_prompt: ask\n---\nText.\n"
    )
    ours = OURS.replace("tags:", "pretty_name: mix\nlanguage:\n- en\ntags:")
    found = front(merged(ours, theirs))
    assert found == {
        "license": "mit", "pretty_name": "By hand", "language": ["de"], "tags": ["mine", "sft-composer"],
        "configs": [{"config_name": "mix"}], "extra_gated_prompt": "ask",
    }  # fmt: skip


def test_a_card_that_sets_no_licence_leaves_the_one_that_people_set() -> None:
    theirs = "---\nlicense: other\nlicense_name: mine\nlicense_link: LICENSE\n---\n"
    found = front(merged("---\nlibrary_name: peft\n---\n\nA model.\n", theirs))
    assert found == {"license": "other", "license_name": "mine", "license_link": "LICENSE", "library_name": "peft"}


def test_our_text_cannot_close_our_part() -> None:
    card = merged(OURS.replace("One.", f"{END} <!-- begin sft-composer -->"), None)
    assert merged(NEXT, f"{card}\nBy hand.\n") == merged(NEXT, None) + "\nBy hand.\n"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (f"{BEGIN}\n{BEGIN}\n{END}\n", "marks that are not one pair"),
        (f"{END}\n{BEGIN}\n", "marks that are not one pair"),
        (f"{BEGIN}\n", "marks that are not one pair"),
        ("---\na: [1\n---\n", "broken front matter"),
        ("---\n- a\n---\n", "no front matter; expected fields; got list"),
    ],
)
def test_a_card_that_cannot_be_read_is_refused_with_the_way_out(written: str, says: str) -> None:
    with pytest.raises(InputError, match=rf"README.md of the repository: .*{says}.*mend"):
        merged(OURS, written)


def test_windows_line_ends_and_a_byte_order_mark_are_read() -> None:
    card = merged(OURS, "\ufeff---\r\nlicense: mit\r\ntags:\r\n- mine\r\n---\r\n\r\nBy hand.\r\n")
    assert front(card)["tags"] == ["mine", "sft-composer"]
    assert split(card)[1].lstrip().startswith("By hand.\n")
