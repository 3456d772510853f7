"""Secrets that are planted wherever a user may have them, and the search for them, and for pickles, in all that was written."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

SECRETS = {
    "HF_TOKEN": "hf_" + "PlantedTokenOfTheHub" * 2,  # pragma: allowlist secret
    "HF_FILE": "hf_" + "PlantedLoginOfTheHub" * 2,  # pragma: allowlist secret
    "LAB_API_KEY": "sk-planted+lab/key=0123456789",  # pragma: allowlist secret
    "AWS_ACCESS_KEY_ID": "AKIA" + "PLANTEDNAME00000",  # pragma: allowlist secret
    "AWS_SECRET_ACCESS_KEY": "planted/store+secret=0123456789",  # pragma: allowlist secret
    "PREFECT_API_KEY": "pnu_plantedprefectkey0123456789",  # pragma: allowlist secret
    "URL": "planted-password-in-url",
}
"""Made up for these tests; ``HF_FILE`` is what ``hf auth login`` would have left, ``URL`` a password in addresses."""


def environment(home: Path) -> dict[str, str]:
    """Return the variables that plant the secrets, and leave the Hub's login in its home."""
    home.mkdir(parents=True, exist_ok=True)
    (home / "token").write_text(SECRETS["HF_FILE"])
    named = {name: secret for name, secret in SECRETS.items() if name not in ("HF_FILE", "URL")}
    return {**named, "HF_HOME": str(home), "NO_PROXY": "*", "HTTPS_PROXY": f"http://jo:{SECRETS['URL']}@127.0.0.1:9"}


def forms(secret: str) -> Iterator[bytes]:
    """Yield a secret as it may stand somewhere: plain, URL-encoded, and in base64 behind nought, one or two other bytes."""
    yield from {secret.encode(), quote(secret, safe="").encode(), quote_plus(secret).encode()}
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + secret.encode())
        yield whole[(0, 2, 3)[before] :].rstrip(b"=")[:-1]  # without what also depends on the bytes around


def leaks(*places: Path | str, but: tuple[Path, ...] = ()) -> list[tuple[str, str]]:
    """Return which secret stands where, in texts and in all files below folders; ``but`` are the files that hold them."""
    found = []
    for place in places:
        for where, content in [("text", place.encode())] if isinstance(place, str) else _files(place, but):
            found += [(name, where) for name, secret in SECRETS.items() if any(form in content for form in forms(secret))]
    return found


def _files(folder: Path, but: tuple[Path, ...]) -> Iterator[tuple[str, bytes]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in but:
            yield str(path.relative_to(folder)), content(path)


def content(path: Path) -> bytes:
    """Return what a file says; the texts of a compressed table too."""
    if path.suffix != ".parquet":
        return path.read_bytes()
    import polars as pl

    return path.read_bytes() + repr(pl.read_parquet(path).to_dicts()).encode()


PICKLE = re.compile(
    rb"\x80[\x02-\x05](?:\x95|c|\x8c|\}|\]|ctorch)|(?<![A-Za-z0-9+/])gA[SW]V|cloudpickle|cpickle", re.IGNORECASE
)
"""How a pickle of protocol 2 to 5 begins, as it is or in base64, and the names that stand beside one."""


def pickles(folder: Path) -> list[str]:
    """Return the files below a folder in which a pickle stands."""
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and PICKLE.search(path.read_bytes())]
