"""Secrets that a text may hold, and the text without them.

What counts as one: the values of environment variables whose names say so (``HF_TOKEN``, ``AWS_SECRET_ACCESS_KEY``,
``PREFECT_API_KEY``), the token that ``hf auth login`` left, a name or password in a URL, and the well-known forms of tokens.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from urllib.parse import quote, quote_plus

HIDDEN = "***"
SHORTEST = 8  # characters; a shorter value would be found in innocent words

_NAMES = re.compile(r"(?:^|_)(?:TOKEN|SECRET|PASSWORD|PASSWD|(?:API|ACCESS|SECRET|PRIVATE|ACCOUNT)_?KEY(?:_ID)?|AUTH_STRING)$")
_FORMS = re.compile(r"\b(?:hf_[A-Za-z0-9]{16,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|gh[opsu]_[A-Za-z0-9]{30,})\b")
# A password may hold a slash, but a colon before digits and a slash is that of a port.
_USER = re.compile(r"([A-Za-z][\w+.-]*://)(?:[^\s/@'\"]*|[^\s/@:'\"]*:(?!\d+[/?#])[^\s@'\"]*)@")
_PASSWORD = re.compile(r"://[^\s/@:]*:([^\s/@]+)@")


def without_secrets(text: str) -> str:
    """Return a text with three stars in place of every secret, as it is, URL-encoded or in base64.

    Examples
    --------
    >>> without_secrets("GET https://jo:pw@host:80/v1 failed")  # pragma: allowlist secret
    'GET https://***@host:80/v1 failed'
    >>> without_secrets("hf://datasets/org/name@main and http://host:80/a@b stay")
    'hf://datasets/org/name@main and http://host:80/a@b stay'
    """
    for secret in sorted(_known(), key=len, reverse=True):
        coded = base64.b64encode(secret.encode()).decode()
        for form in (secret, quote(secret, safe=""), quote_plus(secret), coded, coded.rstrip("=")):
            text = text.replace(form, HIDDEN)
    return _FORMS.sub(HIDDEN, _USER.sub(rf"\1{HIDDEN}@", text))


def _known() -> set[str]:
    """Return the secrets of this process's environment."""
    found = {value for name, value in os.environ.items() if _NAMES.search(name.upper())}
    for value in os.environ.values():
        found.update(_PASSWORD.findall(value))
    return {secret for each in (*found, _login()) if len(secret := each.strip()) >= SHORTEST}


def _login() -> str:
    """Return the token that the Hub's client keeps in a file, if any."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    try:
        return Path(os.environ.get("HF_TOKEN_PATH") or f"{home}/token").expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError, RuntimeError):
        return ""
