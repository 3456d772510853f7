"""How numbers are written on the page: the same kind of number everywhere in the same way."""

from __future__ import annotations

MINUS, NONE, GAP = "−", "–", "\u00a0"  # a number and its unit stay in one line


def cell(value: object) -> str:
    """Return a value of a table: counts with their thousands apart, other numbers with three decimals, a dash for nothing.

    Examples
    --------
    >>> cell(12345), cell(-0.12349), cell(None), cell("law"), cell(True)
    ('12,345', '−0.123', '–', 'law', 'yes')
    """
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    return f"{value:,.3f}".replace("-", MINUS) if isinstance(value, float) else str(value)


def count(n: int) -> str:
    """Return a count with its thousands apart.

    Examples
    --------
    >>> count(1234567)
    '1,234,567'
    """
    return f"{n:,}".replace("-", MINUS)


def brief(n: float) -> str:
    """Return a count in three digits.

    Examples
    --------
    >>> brief(940), brief(12_690), brief(2_000_000)
    ('940', '12.7\xa0k', '2.0\xa0M')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if n >= size:
            return f"{n / min(size, 1e3 if unit == 'k' else size):.1f}{GAP}{unit}"
    return f"{n:,.0f}"


def share(value: float | None) -> str:
    """Return a share in percent.

    Examples
    --------
    >>> share(0.3456), share(1.0), share(0.0004), share(None)
    ('34.6\xa0%', '100.0\xa0%', '0.04\xa0%', '–')
    """
    if value is None:
        return NONE
    text = f"{100 * value:.1f}" if abs(value) >= 0.001 or not value else f"{100 * value:.2g}"
    return f"{text}{GAP}%".replace("-", MINUS)


def signed(value: float | None, digits: int = 3) -> str:
    """Return a change with its sign.

    Examples
    --------
    >>> signed(0.25), signed(-0.1), signed(0.0)
    ('+0.250', '−0.100', '0.000')
    """
    return NONE if value is None else f"{value:+,.{digits}f}".replace("-", MINUS) if round(value, digits) else f"{0:.{digits}f}"


def duration(seconds: float) -> str:
    """Return a time in the unit in which it is read most easily.

    Examples
    --------
    >>> [duration(s).replace("\xa0", " ") for s in (0.41, 55.6, 200, 7500)]
    ['0.4 s', '56 s', '3 min 20 s', '2 h 05 min']
    """
    if seconds < 10:
        return f"{seconds:.1f}{GAP}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{GAP}s"
    if whole < 3600:
        return f"{whole // 60}{GAP}min{GAP}{whole % 60:02d}{GAP}s"
    return f"{whole // 3600}{GAP}h{GAP}{whole % 3600 // 60:02d}{GAP}min"


def size(n_bytes: float) -> str:
    """Return a number of bytes.

    Examples
    --------
    >>> size(900), size(3_443_009)
    ('900\xa0B', '3.4\xa0MB')
    """
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= scale:
            return f"{n_bytes / scale:.1f}{GAP}{unit}"
    return f"{n_bytes:.0f}{GAP}B"


def listed(words: list[str], most: int = 6) -> str:
    """Return words as a list in a sentence.

    Examples
    --------
    >>> listed(["law"]), listed(["law", "code", "art"]), listed(["a", "b", "c", "d"], most=2)
    ('law', 'law, code and art', 'a, b and 2 more')
    """
    if len(words) > most:
        return f"{', '.join(words[:most])} and {len(words) - most} more"
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def shortened(name: str, most: int) -> str:
    """Return a name with its middle left out where it is long, for names of a kind often differ at their end.

    Examples
    --------
    >>> shortened("question_answering_from_source_12", 20), shortened("law", 20)
    ('question_an…ource_12', 'law')
    """
    tail = 2 * most // 5
    return name if len(name) <= most else f"{name[: most - tail - 1]}…{name[-tail:]}"


def clipped(text: str, most: int) -> str:
    """Return a text in one line of at most so many characters.

    Examples
    --------
    >>> clipped("a  long  story", 8)
    'a long…'
    """
    line = " ".join(text[: 4 * most].split())
    return line if len(line) <= most else f"{line[: most - 1].rstrip()}…"
