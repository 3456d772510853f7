"""Which columns of an unknown table may hold what is asked and what is answered, by their names and first values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_ASKED = ("prompt", "question", "query", "instruction", "input", "ask", "problem", "user", "human", "request", "frage", "title")
_ANSWERED = ("completion", "answer", "response", "output", "reply", "solution", "assistant", "target", "antwort", "gpt")
_TEXT = ("content", "body", "document", "passage", "article", "abstract")
_ROLE = ("role", "from", "speaker", "author", "sender")
_CONTENT = ("content", "value", "text", "says", "message", "utterance")


def columns_of(row: Mapping[str, Any]) -> dict[str, str]:
    """Return ``columns`` for a source whose first row is of no known shape, or nothing where no names speak for any.

    Examples
    --------
    >>> columns_of({"id": 3, "Frage": "Who sits?", "Antwort": "The court."})
    {'prompt': 'Frage', 'completion': 'Antwort'}
    >>> columns_of({"dialog": [{"speaker": "user", "says": "Hello."}]})
    {'messages': 'dialog', 'role': 'speaker', 'content': 'says'}
    >>> columns_of({"id": 3})
    {}
    """
    for name, value in row.items():
        if isinstance(value, list) and value and isinstance(value[0], Mapping):
            role, content = _first(_ROLE, list(value[0])), _first(_CONTENT, list(value[0]))
            if role and content:
                return {"messages": name, "role": role, "content": content}
    names = [name for name, value in row.items() if isinstance(value, str)]
    asked = _first(_ASKED, names)
    answered = _first(_ANSWERED, [name for name in names if name != asked])
    if asked and answered:
        return {"prompt": asked, "completion": answered}
    text = _first(_TEXT, names)
    return {"text": text} if text else {}


def _first(words: Sequence[str], names: Sequence[str]) -> str | None:
    """Return the name that is one of the words, or else the one that holds one, the earlier words first."""
    for is_it in (str.__eq__, str.__contains__):
        for word in words:
            if found := next((name for name in names if is_it(name.lower(), word)), None):
                return found
    return None
