"""How many tokens texts have, told from how many their words have.

Texts repeat their words, and a tokenizer of the byte-level kind reads each word by itself: what it makes of ``" court"`` does
not depend on what stands around it. So a text need not be tokenised to be counted: it is cut at spaces between two characters
that are not white, and what was met before is looked up and summed. A new word is split as the tokenizer's own rule splits it,
which for ASCII Python's regular expressions can do, and its parts go to the tokenizer's model. Where a place lies inside a
word, its surroundings up to the next such spaces are tokenised, so that the counts are those of the whole text.

Whether a tokenizer is of this kind is read from the rules by which it splits; any other one tokenises every text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from typing import Any

from composer.encode import token_at, tokens
from composer.template import Tokenizer

CUT = re.compile(r" (?=[!-~\w])(?<=[!-~\w] )")
MEMORY = 50_000_000  # bytes of words that are remembered, about
PARTS = 200_000  # parts of words that are remembered

_CONTRACTION = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED = (rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+", rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*")
_MARKS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_WHITE = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # the one that byte-level has built in
SPLITS = frozenset({  # of Llama 3, Qwen 2 and 3, Qwen 3.5, GPT-4o, Mistral: in all, a space between two words begins the second
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_MARKS}|{_WHITE}",
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_MARKS}|{_WHITE}",
    rf"{_CONTRACTION}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_WHITE}",
    rf"{_CASED[0]}{_CONTRACTION}?|{_CASED[1]}{_CONTRACTION}?|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_WHITE}",
    rf"{_CASED[0]}|{_CASED[1]}|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_WHITE}",
})  # fmt: skip
_CLASSES = {"L": "A-Za-z", "Lu": "A-Z", "Ll": "a-z", "N": "0-9"}  # what they hold of ASCII; the others hold nothing
_BYTES = {byte: chr(256 + byte) for byte in range(33)} | {127: chr(289)}  # how byte-level writes the bytes that cannot be seen


class Texts:
    """Counts by tokenising every text: right for any tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    def lengths(self, texts: Sequence[str], places: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return, per text, the token at each place (of a character, ascending) and last the number of tokens.

        The token at a place is that of its character, or of the next one that has a token.
        """
        found = tokens(self._tokenizer, texts)
        return [
            [*(token_at(tokenised, place, n_chars=len(text)) for place in own), len(tokenised)]
            for text, own, tokenised in zip(texts, places, found, strict=True)
        ]


class Words:
    """Counts by words, for a tokenizer that :func:`reads_words`: the same numbers as :class:`Texts`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._texts = Texts(tokenizer)
        self._known = _Memory()
        self._parts = _Parts(tokenizer.backend_tokenizer.model)
        self._split = re.compile(_of_ascii(_split_of(tokenizer) or GPT2), re.ASCII)
        added = [token.content for token in tokenizer.backend_tokenizer.get_added_tokens_decoder().values()]
        self._longest = max(map(len, added), default=0)
        self._mark = re.compile("|".join(map(re.escape, sorted(added, key=len, reverse=True))) or r"(?!)")

    def lengths(self, texts: Sequence[str], places: Sequence[Sequence[int]]) -> list[list[int]]:
        """Return, per text, the token at each place (of a character, ascending) and last the number of tokens."""
        out: list[list[int]] = []
        waiting: dict[int, list[_Piece]] = {}
        for i, (text, own) in enumerate(zip(texts, places, strict=True)):
            pieces, missed = self._cut(text, own), self._known.missed
            out.append(self._summed(pieces))
            if self._known.missed > missed:
                waiting[i] = pieces
        self._learn(self._known.unknown)
        for i, pieces in waiting.items():
            out[i] = self._summed(pieces)
        self._known.forget()
        return out

    def _cut(self, text: str, places: Sequence[int]) -> list[_Piece]:
        pieces: list[_Piece] = []
        begin, k = 0, 0
        while k < len(places) and places[k] < len(text):
            if self._is_bound(text, places[k]):
                pieces.append((self._words(text, begin, places[k]), None, (0,)))
                begin, k = places[k], k + 1
                continue
            start, stop = _around(text, begin, places[k])
            inside = tuple(place - start for place in places[k:] if place < stop)
            pieces.append((self._words(text, begin, start), (text[start:stop], inside), inside))
            begin, k = stop, k + len(inside)
        pieces.append((self._words(text, begin, len(text)), None, (0,) * (len(places) - k)))
        return pieces

    def _words(self, text: str, begin: int, stop: int) -> list[str]:
        """Return the words of a part; each stands for itself after a space, or as it is after a zero character."""
        if begin == stop:
            return []
        follows = begin > 0 and text[begin] == " "
        words = CUT.split(text[begin + 1 : stop] if follows else f"\0{text[begin:stop]}")
        if mark := self._mark.search(words[-1]):  # what follows an answer's last word is the same in many texts
            words[-1:] = words[-1][: mark.start()], f"\0{words[-1][mark.start() :]}"
        return words

    def _is_bound(self, text: str, place: int) -> bool:
        """Return whether the tokens of what stands before a place and of what follows are those of the whole, cut there.

        So it is where a line begins with a letter or digit (and the white space before is one character, which no rule joins to
        anything), and where a token begins that is cut out before words are.
        """
        char = text[place]
        if char.isascii() and char.isalnum():
            return place == 0 or (text[place - 1] == "\n" and not text[max(0, place - 2) : place - 1].isspace())
        if not self._mark.match(text, place):
            return False
        white = 1 + max(text.rfind(" ", 0, place), text.rfind("\n", 0, place))
        marks = self._mark.finditer(text, white, place + self._longest)
        return any(mark.start() == place for mark in marks)

    def _summed(self, pieces: Sequence[_Piece]) -> list[int]:
        n, out, known = 0, [], self._known
        for words, window, places in pieces:
            n += sum(map(known.__getitem__, words))
            if window is None:
                out += [n] * len(places)
            elif (inside := known.windows.get(window)) is None:
                known.note(window)
            else:
                out += [n + at for at in inside[:-1]]
                n += inside[-1]
        return [*out, n]

    def _learn(self, unknown: Collection[str | _Window]) -> None:
        whole: dict[str, str] = {}
        for word in unknown:
            if isinstance(word, str):
                text = word[1:] if word[:1] == "\0" else f" {word}"
                if text.isascii() and not self._mark.search(text):
                    self._known[word] = sum(map(self._parts.__getitem__, self._split.findall(text)))
                else:
                    whole[word] = text
        found = self._texts.lengths(list(whole.values()), [()] * len(whole))
        self._known.update(zip(whole, (n for [n] in found), strict=True))
        windows = [key for key in unknown if not isinstance(key, str)]
        found = self._texts.lengths([text for text, _ in windows], [places for _, places in windows])
        self._known.windows.update(zip(windows, found, strict=True))
        if len(self._parts) > PARTS:
            self._parts.clear()


_Window = tuple[str, tuple[int, ...]]
_Piece = tuple[list[str], _Window | None, tuple[int, ...]]


class _Memory(dict[str, int]):
    """Tokens of each word and, in ``windows``, at the places of a window; a word that is not known is noted and counts none."""

    def __init__(self) -> None:
        super().__init__()
        self.windows: dict[_Window, list[int]] = {}
        self.unknown: dict[str | _Window, None] = {}
        self.missed = 0
        self._n_bytes = 0

    def __missing__(self, word: str) -> int:
        self.note(word)
        return 0

    def note(self, key: str | _Window) -> None:
        """Note what is not known."""
        self.unknown[key] = None
        self.missed += 1

    def forget(self) -> None:
        """Empty what is noted, and the memory once it is full."""
        self._n_bytes += sum(100 + len(key if isinstance(key, str) else key[0]) for key in self.unknown)
        self.unknown.clear()
        if self._n_bytes > MEMORY:
            self.clear()
            self.windows.clear()
            self._n_bytes = 0


class _Parts(dict[str, int]):
    """Tokens of each part of a word, as the rule splits words; the model is asked when a part is first met."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._model = model

    def __missing__(self, part: str) -> int:
        self[part] = len(self._model.tokenize(part.translate(_BYTES)))
        return self[part]


def reads_words(tokenizer: Tokenizer) -> bool:
    """Return whether a tokenizer is known to read words that begin with a space each by itself.

    That is byte-level BPE whose splitting rules are known, without added tokens that look at their surroundings.
    """
    from tokenizers.models import BPE

    backend = tokenizer.backend_tokenizer
    added = backend.get_added_tokens_decoder().values()
    return (
        isinstance(backend.model, BPE)
        and not backend.model.dropout
        and not tokenizer.split_special_tokens
        and _state(backend.normalizer).get("type") in (None, "NFC")
        and _split_of(tokenizer) is not None
        and not any(token.normalized or token.lstrip or token.rstrip or token.single_word for token in added)
        and not any(not token.content or re.search(r"\s", token.content) for token in added)
    )


def _split_of(tokenizer: Tokenizer) -> str | None:
    """Return the regular expression by which a byte-level tokenizer splits, where it is one that is known."""
    rule = _state(tokenizer.backend_tokenizer.pre_tokenizer)
    *earlier, last = rule.get("pretokenizers", [rule])
    if last.get("type") != "ByteLevel" or last.get("add_prefix_space", True):
        return None
    if not earlier:
        return GPT2 if last.get("use_regex", True) else None
    split = earlier[0].get("pattern", {}).get("Regex")
    isolated = {"type": "Split", "pattern": {"Regex": split}, "behavior": "Isolated", "invert": False}
    return split if split in SPLITS and earlier == [isolated] and not last.get("use_regex", True) else None


def _of_ascii(split: str) -> str:
    r"""Return a splitting rule as Python's engine reads it for ASCII, where each Unicode class is some letters or digits.

    Examples
    --------
    >>> print(_of_ascii(r" ?\p{L}+|[^\s\p{L}\p{N}]+"))
     ?[A-Za-z]+|[^\sA-Za-z0-9]+
    """
    out, inside = [], False
    for piece in re.findall(r"\\p\{\w+\}|\\?.", split):
        if piece.startswith(r"\p"):
            letters = _CLASSES.get(piece[3:-1], "")
            out.append(letters if inside else f"[{letters}]")
        else:
            inside = piece == "[" or (inside and piece != "]")
            out.append(piece)
    return "".join(out)


def _state(part: Any) -> dict[str, Any]:
    return {} if part is None else dict(json.loads(part.__getstate__()))


def _around(text: str, begin: int, place: int) -> tuple[int, int]:
    """Return the nearest cuts before and after a place, or where the part begins and the text ends."""
    start = text.rfind(" ", begin + 1, place + 1)
    while start > 0 and not CUT.match(text, start):
        start = text.rfind(" ", begin + 1, start)
    stop = CUT.search(text, place + 1)
    return max(start, begin), stop.start() if stop else len(text)
