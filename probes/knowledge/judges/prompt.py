"""The question that a language model is asked of a text: which letter comes next?

A prompt is three pieces of tokens: what stands before the text (the domains by letter, and shots: reference texts with their
letters), the text, and what stands after it. Texts are tokenised apart from what surrounds them: the first piece is then the
same for all texts, which engines that keep prefixes turn into speed, a text that is too long can be cut to the token, and marks
of turns inside a text are only characters, so that no text leaves its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from string import ascii_uppercase
from typing import Any

from composer.conversation import Whole
from composer.encode import ends_of
from composer.errors import ModelError, SourceError
from composer.render import render_prompt
from composer.template import PLAIN_TEMPLATE, ChatTemplate

Shots = Sequence[tuple[str, str]]
"""Texts and their domains, in the order in which they are shown."""

_TEXT = "<<<the text>>>"  # stands for each text until the frame is tokenised


@dataclass(frozen=True)
class Prompt:
    """What stands before and after a text, and the token that stands for each domain."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    choices: tuple[int, ...]

    def around(self, texts: Sequence[str], *, tokenizer: Any, most: int) -> tuple[list[list[int]], list[bool]]:
        """Return a prompt for every text, of at most ``most`` tokens, and whether the text had to be cut at its end.

        Raises
        ------
        ModelError
            Where no token is left for a text.
        """
        room = most - len(self.before) - len(self.after)
        if room < 1:
            raise ModelError(
                "the shots leave no room for a text", where="probe.judge", expected=f"fewer than {most} tokens",
                got=len(self.before) + len(self.after), hint="lower judge.shots or judge.max_chars",
            )  # fmt: skip
        found = _ids(tokenizer, texts, marks=False)
        prompts = [[*self.before, *ids[:room], *self.after] for ids in found]
        return prompts, [len(ids) > room for ids in found]


def build(tokenizer: Any, *, domains: Sequence[str], shots: Shots) -> Prompt:
    """Return the prompt for a model: by its chat template where it has one of its own, as plain text otherwise.

    Letters are dealt by the names of the domains, so that their order does not matter.

    Raises
    ------
    ModelError
        Where there are more domains than letters, the chat template hides a text, or a letter is not one token of its own where
        the answer stands.
    """
    if len(domains) > len(ascii_uppercase):
        raise ModelError("more domains than letters", where="probe.judge", expected="at most 26", got=len(domains))
    letters = dict(zip(sorted(domains), ascii_uppercase, strict=False))
    answers = [letters[domain] for _, domain in shots]
    if tokenizer.chat_template in (None, PLAIN_TEMPLATE):
        frame, spellings = _in_lines(letters, answers), (" {}", "{}")
        begin = ends_of(tokenizer)[0]
    else:
        frame, spellings = _in_turns(tokenizer, letters, answers), ("{}", " {}")
        begin = []
    pieces = frame.split(_TEXT)
    if len(pieces) != len(shots) + 2:
        raise ModelError(
            "the chat template does not show every text once", where="probe.judge", hint="set base_model.chat_template to plain"
        )
    *around, after = _ids(tokenizer, pieces, marks=True)
    texts = [*_ids(tokenizer, [text for text, _ in shots], marks=False), []]
    before = chain(begin, *(part for pair in zip(around, texts, strict=True) for part in pair))
    choices = _choices(tokenizer, pieces[-1], [letters[domain] for domain in domains], spellings)
    return Prompt(tuple(before), tuple(after), choices)


def _in_lines(letters: Mapping[str, str], answers: Sequence[str]) -> str:
    """Return the frame of the texts for a model that only goes on."""
    shown = "".join(f"Text:\n{_TEXT}\nDomain: {answer}\n\n" for answer in answers)
    return f"Every text is of one of these domains:\n{_listed(letters)}\n\n{shown}Text:\n{_TEXT}\nDomain:"


def _in_turns(tokenizer: Any, letters: Mapping[str, str], answers: Sequence[str]) -> str:
    """Return the frame as the chat template renders it: a question for every text, and the answers but the last."""
    task = f"Of which domain is each text? Answer with its letter alone.\n{_listed(letters)}\n\n"
    turns = []
    for i, answer in enumerate([*answers, ""]):
        turns.append({"role": "user", "content": f"{'' if i else task}Text:\n{_TEXT}"})
        turns.append({"role": "assistant", "content": answer})
    try:
        return render_prompt(ChatTemplate(tokenizer), Whole(turns[:-1]))
    except SourceError as error:
        raise ModelError("the chat template refuses the judge's question", where="probe.judge", got=error.got) from None


def _listed(letters: Mapping[str, str]) -> str:
    return "\n".join(f"{letter}: {domain}" for domain, letter in letters.items())


def _choices(tokenizer: Any, after: str, letters: Sequence[str], spellings: Sequence[str]) -> tuple[int, ...]:
    """Return the token that each letter is where the answer stands, spelt so that all are single and distinct."""
    [tail] = _ids(tokenizer, [after], marks=True)
    for spelling in spellings:
        found = _ids(tokenizer, [after + spelling.format(letter) for letter in letters], marks=True)
        single = {ids[-1] for ids in found if ids[:-1] == tail}
        if len(single) == len(letters):
            return tuple(ids[-1] for ids in found)
    raise ModelError(
        "the model has no token for the letter of each domain", where="probe.judge",
        expected=f"one token each for {', '.join(letters)} after {after[-20:]!r}",
        got=", ".join(str(len(ids) - len(tail)) for ids in found), hint="judge by another model, or by the classifier",
    )  # fmt: skip


def _ids(tokenizer: Any, texts: Sequence[str], *, marks: bool) -> list[list[int]]:
    """Return the tokens of every text; with ``marks`` the marks of turns in it are special tokens, without only characters."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    backend.encode_special_tokens = not marks
    try:
        return [list(found.ids) for found in backend.encode_batch(list(texts), add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = tokenizer.split_special_tokens
