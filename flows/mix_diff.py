"""Two mixtures, or two compositions, side by side: which sources grew, what the recipe says otherwise, and what came of it.

An artifact knows the keys of what it was made from; its whole ancestry is read from the store's manifests, nothing is computed
again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from composer.artifact import Artifact, Store, flat
from composer.errors import InputError

UNITS = ("rows", "tokens", "loss_tokens")
SHORT = 18
SAME = "the same recipe over the same data"


@dataclass(frozen=True)
class Side:
    """One of the two, with everything that it was made from."""

    artifact: Artifact
    ancestry: tuple[Artifact, ...]

    @property
    def name(self) -> str:
        """Its name in the store."""
        return f"{self.artifact.kind}/{self.artifact.key}"

    @cached_property
    def mixture(self) -> Mapping[str, Any]:
        """The weights."""
        return dict(next(each for each in self.ancestry if each.kind == "mixture").json("mixture.json"))

    @cached_property
    def accounts(self) -> Mapping[str, Mapping[str, Any]]:
        """What a composition planned and realised of every domain; nothing of a mixture."""
        if self.artifact.kind != "composition":
            return {}
        return {each["domain"]: each for each in self.artifact.json("report.json")["domains"]}

    @cached_property
    def sources(self) -> Mapping[str, Artifact]:
        """What was read, by the source's name."""
        return {each.manifest.spec["source"]["name"]: each for each in self.ancestry if each.kind == "source"}

    @cached_property
    def specs(self) -> Mapping[str, Mapping[str, Any]]:
        """What every step was asked for, by the step; a kind that occurs more than once is told apart by number."""
        out: dict[str, Mapping[str, Any]] = {}
        for each in self.ancestry:
            name = each.kind
            if name == "source":
                name = f"source {each.manifest.spec['source']['name']}"
            n = sum(known.partition(" #")[0] == name for known in out)
            out[f"{name} #{n + 1}" if n else name] = {**flat("", each.manifest.spec), "version": each.manifest.version}
        return out


def diff(a: str, b: str, *, store: Store) -> dict[str, Any]:
    """Compare two mixtures or two compositions of a store; an export stands for its composition.

    Raises
    ------
    InputError
        Where one is neither, or they are not of one kind.
    """
    known = {artifact.key: artifact for artifact in store.all()}
    first, second = (_side(reference, store, known) for reference in (a, b))
    if first.artifact.kind != second.artifact.kind:
        raise InputError(
            "the two are of other kinds", where=f"{a}, {b}", expected=first.artifact.kind, got=second.artifact.kind
        )
    return compare(first, second)


def compare(a: Side, b: Side) -> dict[str, Any]:
    """Return what changed from ``a`` to ``b``."""
    weights = [dict(zip(side.mixture["domains"], side.mixture["weights"], strict=True)) for side in (a, b)]
    domains = dict.fromkeys((*weights[0], *a.accounts, *weights[1], *b.accounts))
    return {
        "a": a.name,
        "b": b.name,
        "unit": b.mixture["unit"],
        "laws": {"a": a.mixture["law"], "b": b.mixture["law"]},
        "domains": [
            {
                "domain": domain,
                "weight": _both(*(each.get(domain) for each in weights)),
                **{name: _both(*(side.accounts.get(domain, {}).get(name) for side in (a, b)))
                   for name in ("planned_share", "realised_share", *UNITS)},
            }
            for domain in domains
        ],
        **differences(a, b),
    }  # fmt: skip


def differences(a: Side, b: Side) -> dict[str, Any]:
    """Return what went in otherwise: the sources of both sides, and the fields of every step that differ."""
    return {"sources": list(_sources(a, b)), "specs": list(_specs(a, b))}


def side_of(artifact: Artifact, known: Mapping[str, Artifact]) -> Side:
    """Return an artifact with what it was made from; what is no longer in the store is left out."""
    out: dict[str, Artifact] = {artifact.key: artifact}
    for each in _made_from(artifact, known):
        out.setdefault(each.key, each)
    return Side(artifact, tuple(out.values()))


def _made_from(artifact: Artifact, known: Mapping[str, Artifact]) -> Iterator[Artifact]:
    seen, open_ = {artifact.key}, [artifact]
    while open_:
        for given in open_.pop(0).manifest.inputs.values():
            for key in given if isinstance(given, (list, tuple)) else [given]:
                if key not in seen and key in known:
                    seen.add(key)
                    open_.append(known[key])
                    yield known[key]


def _side(reference: str, store: Store, known: Mapping[str, Artifact]) -> Side:
    artifact = store.get(reference)
    if artifact.kind == "export" and (behind := known.get(artifact.manifest.inputs["composition"])):
        artifact = behind
    if artifact.kind not in ("mixture", "composition"):
        expected = "kind mixture, composition or export"
        raise InputError("not what is mixed", where=reference, expected=expected, got=artifact.kind)
    side = side_of(artifact, known)
    if not any(each.kind == "mixture" for each in side.ancestry):
        raise InputError("its mixture is no longer in the store", where=reference, hint="run its recipe again")
    return side


def _both(a: Any, b: Any) -> dict[str, Any]:
    return {"a": a, "b": b}


def _sources(a: Side, b: Side) -> Iterator[dict[str, Any]]:
    for name in dict.fromkeys((*a.sources, *b.sources)):
        found = [side.sources.get(name) for side in (a, b)]
        rows = [each and each.manifest.stats["samples"] for each in found]
        contents = [each and each.manifest.spec["content"] for each in found]
        domain = next(each for each in reversed(found) if each).manifest.spec["source"]["domain"]
        yield {"source": name, "domain": domain, "rows": _both(*rows), "changed": contents[0] != contents[1]}


def _specs(a: Side, b: Side) -> Iterator[dict[str, Any]]:
    for step in dict.fromkeys((*a.specs, *b.specs)):
        if step.startswith("source ") and not (step in a.specs and step in b.specs):
            continue  # said among the sources
        before, after = a.specs.get(step, {}), b.specs.get(step, {})
        for field in dict.fromkeys((*before, *after)):
            if before.get(field) != after.get(field):
                yield {"step": step, "field": field, **_both(before.get(field), after.get(field))}


def show(document: Mapping[str, Any]) -> None:
    """Print what changed."""
    from flows.screen import out, table

    out.print(f"a: {document['a']}\nb: {document['b']}", markup=False)
    rows = [(s["source"], s["domain"], s["rows"]["a"], s["rows"]["b"], "yes" if s["changed"] else "no")
            for s in document["sources"]]  # fmt: skip
    out.print(table("Sources", ("source", "domain", "rows of a", "of b", "changed"), rows, text=2))
    fields = ("weight", "planned_share", "realised_share", "rows")
    told = [(d["domain"], *(d[field][side] for field in fields for side in "ab")) for d in document["domains"]]
    names: tuple[str, ...] = ("domain", "weight a", "b", "planned a", "b", "realised a", "b", "rows a", "b")
    if all(row[3] is None and row[4] is None for row in told):  # mixtures
        told, names = [row[:3] for row in told], names[:3]
    out.print(table(f"Weights and shares of {document['unit'].replace('_', ' ')}", names, told))
    changed = [(each["step"], each["field"], _short(each["a"]), _short(each["b"])) for each in document["specs"]]
    if changed:
        out.print(table("What was asked for", ("step", "field", "a", "b"), changed, text=4))
    else:
        out.print(f"Nothing changed: {SAME}.")


def _short(value: Any) -> str:
    """Return a value that fits beside others; a hash is known by its beginning."""
    text = "-" if value is None else str(value)
    return text if len(text) <= SHORT else f"{text[: SHORT - 1]}…"
