"""The data card of an export: what is in the mix, where it came from, what was planned and what came of it.

The front matter names the licence, the size and the configs exactly as the exporters lay their files, so that
``datasets.load_dataset`` reads the folder, here or on the Hub. The body is written for a reader who was not there: planned and
realised shares side by side in rows, tokens and loss tokens, every dropped row with its reason, the recipe and the key.
No text of a dataset enters but names, and those escaped; no path of a machine enters but its last part.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from composer.export import EXPORTERS, origins
from composer.export.markdown import cell, fence, table, without_paths
from composer.spec import member

Entry = Mapping[str, Any]

TAGS = ("sft-composer", "sft", "data-mixture")
COUNTS = ("rows", "tokens", "loss_tokens")
SIZES = ((1_000, "1K"), (10_000, "10K"), (100_000, "100K"), (1_000_000, "1M"), (10_000_000, "10M"), (100_000_000, "100M"))
HUB_LICENSES = (
    "apache-2.0", "mit", "unknown", "cc0-1.0", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0",
    "cc-by-sa-4.0", "cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0",
    "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "cdla-sharing-1.0",
    "odbl", "odc-by", "pddl", "gfdl", "bsd-2-clause", "bsd-3-clause", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0",
    "artistic-2.0", "isc",
)  # fmt: skip
"""Licence ids of data and code that the Hub's front matter takes; any other licence is ``other`` with its name."""
HERE = "<this folder or repository>"
"""Stands for the name of the repository, which a card of a folder does not know."""

NOT_COVERED = (
    "The interval covers the sampling of texts and nothing else: not the judge's mistakes, not the choice of the reference "
    "texts, and not the distance between what a model writes unprompted and what it knows."
)
"""What a probe's interval is said not to cover where the probe itself says nothing."""


def card(
    *,
    name: str,
    recipe: Entry,
    report: Entry,
    sources: Sequence[Entry],
    knowledge: Entry | None,
    schedule: Entry,
    pool: Entry,
    key: str,
    licenses: Mapping[str, int],
    lock: Entry | None = None,
    citations: Sequence[Sequence[str]] = (),
    language: Sequence[str] = ("en",),
) -> str:
    """Return the card of a composition as Markdown with a YAML front matter.

    Parameters
    ----------
    recipe
        The recipe as plain values; ``recipe["exports"]`` are the exporters whose files lie beside the card.
    report
        What ``compose`` reports: an account per domain and per phase of planned and realised amounts, and shortages.
    sources
        One mapping per source: the fields of ``Source`` and the counts of ``ingest`` (seen, kept, repaired, dropped by reason).
    knowledge, schedule
        A ``KnowledgeDistribution`` and a ``Schedule`` as plain values.
    pool
        The counts of the pool; what it dropped between sources is listed with the sources' own.
    licenses
        How many rows of the composition have which licence (:func:`composer.export.rows.licenses`).
    lock
        What the composition was made of: every artifact's key with the version of its stage, every source's content.
    citations
        What the recipe uses and where it comes from: the recipe's field, its word, a reference.
    language
        Language tags of the texts.
    """
    domains = [account["domain"] for account in report["domains"] if account["rows"]]
    front = _front(
        name, rows=report["total"]["rows"], licenses=list(licenses), configs=_configs(recipe, domains), language=language
    )
    sections = {
        "Load": _load(front["configs"]) if front["configs"] else "",
        "Shares": shares(report["domains"], unit=report["unit"]),
        "Phases and replay": phases(report, schedule),
        "Shortages": _shortages(report["shortages"]),
        "Sources": described(sources),
        "Dropped rows": _dropped(sources, pool),
        "Copies and evaluation texts": origins.cleaning(pool),
        "Licences": f"{origins.licences(licenses)}\n\nIn the Parquet files the column `license` says it row by row.",
        "What the base model knew": _knowledge(knowledge) if knowledge else "",
        "Recipe": fence(without_paths(_yaml(recipe)), language="yaml"),
        "Lock": origins.locked(lock) if lock else "",
        "Citations": origins.cited(citations) if citations else "",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"---\n{_yaml(front)}---\n\n# {cell(name)}\n\n{_intro(report, schedule=schedule, key=key)}\n\n{body}\n"


def write_card(text: str, folder: Path) -> None:
    """Write the card where a loader and the Hub look for it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(text, encoding="utf-8", newline="\n")


def size_category(n: int) -> str:
    """Return the Hub's size class of a number of rows.

    Examples
    --------
    >>> size_category(999), size_category(1000), size_category(2_000_000_000)
    ('n<1K', '1K<n<10K', 'n>100M')
    """
    below = ""
    for bound, label in SIZES:
        if n < bound:
            return f"{below}<n<{label}" if below else f"n<{label}"
        below = label
    return f"n>{below}"


def license_fields(licenses: Sequence[str]) -> dict[str, str]:
    """Return the front matter's licence fields for the licences of the rows.

    Examples
    --------
    >>> license_fields(["Apache-2.0"]), license_fields(["MIT", "CC-BY-4.0"])
    ({'license': 'apache-2.0'}, {'license': 'other', 'license_name': 'mixed'})
    >>> license_fields(["PAWS licence"])
    {'license': 'other', 'license_name': 'paws-licence'}
    """
    if len(licenses) != 1:
        return {"license": "other", "license_name": "mixed"}
    word = licenses[0].lower()
    if word in HUB_LICENSES:
        return {"license": word}
    return {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", word).strip("-.") or "unnamed"}


def _front(name: str, *, rows: int, licenses: Sequence[str], configs: list[Entry], language: Sequence[str]) -> dict[str, Any]:
    return {
        "pretty_name": name,
        **license_fields(licenses),
        **({"language": list(language)} if language else {}),
        "task_categories": ["text-generation"],
        "tags": list(TAGS),
        "size_categories": [size_category(rows)],
        "configs": configs,
    }


def _configs(recipe: Entry, domains: Sequence[str]) -> list[Entry]:
    # A loader takes one file format per repository: the first of the family that the recipe has.
    exporters = [member(entry, EXPORTERS, kind="exporter") for entry in recipe["exports"]]
    exporters.sort(key=lambda exporter: list(EXPORTERS.values()).index(type(exporter)))
    chosen = next((exporter for exporter in exporters if exporter.configs(domains)), exporters[0])
    return [{**config, "default": True} if i == 0 else config for i, config in enumerate(chosen.configs(domains))]


def _intro(report: Entry, *, schedule: Entry, key: str) -> str:
    total = report["total"]
    laws = sorted({phase["mixture"].get("law") or "explicit" for phase in schedule["phases"]})
    return (
        f"A mixture for supervised fine-tuning: {total['rows']:,} rows, {total['tokens']:,} tokens, of which "
        f"{total['loss_tokens']:,} are trained on (loss tokens: after template and truncation). Rows are in training order; "
        f"repeated rows are repeated.\n\n"
        f"Weights are shares of {_words(report['unit'])}, by the law {', '.join(f'`{law}`' for law in laws)}. "
        f"Composition `{key}`, made by sft-composer."
    )


def _load(configs: Sequence[Entry]) -> str:
    first, *others = (json.dumps(config["config_name"], ensure_ascii=False) for config in configs)
    also = f"  # or {', '.join(others)}" if others else ""
    call = f'data = load_dataset("{HERE}", {first}, split="train"){also}'
    return fence(f"from datasets import load_dataset\n\n{call}", language="python")


def shares(accounts: Sequence[Entry], *, unit: str) -> str:
    """Return the table of planned and realised shares of every domain."""
    head = ["domain", "planned share", "realised share", f"planned {_words(unit)}", f"realised {_words(unit)}"]
    head += [text for count in COUNTS for text in (_words(count), f"share of {_words(count)}")]
    fields = ["domain", "planned_share", "realised_share", "planned", "realised"]
    fields += [field for count in COUNTS for field in (count, f"{count}_share")]
    return table(head, ([account[field] for field in fields] for account in accounts))


def phases(report: Entry, schedule: Entry) -> str:
    """Return the table of what is new and what is replayed in every phase; empty where nothing follows on another."""
    replayed = [[account for account in phase["domains"] if account["is_replay"]] for phase in report["phases"]]
    if len(replayed) == 1 and not any(account["rows"] for account in replayed[0]):
        return ""
    head = ["phase", f"amount ({_words(report['unit'])})", "new domains", "planned replay share"]
    rows = [
        [plan["name"], plan["amount"], ", ".join(plan["current"]), _replayed(plan), *(sum(a[c] for a in old) for c in COUNTS)]
        for plan, old in zip(schedule["phases"], replayed, strict=True)
    ]
    return table([*head, *(f"replayed {_words(count)}" for count in COUNTS)], rows)


def _replayed(plan: Entry) -> float:
    mixture = plan["mixture"]
    return float(sum(w for d, w in zip(mixture["domains"], mixture["weights"], strict=True) if d not in plan["current"]))


def _shortages(shortages: Sequence[Entry]) -> str:
    if not shortages:
        return ""
    fields = ("phase", "domain", "planned", "available", "moved")
    return "These domains had less than was planned.\n\n" + table(fields, ([entry[f] for f in fields] for entry in shortages))


def described(sources: Sequence[Entry]) -> str:
    """Return the table of the sources: what each is, at which revision or of which content, and what became of its rows."""
    head = ["source", "content", "domain", "role", "licence", "seen", "kept", "repaired", "dropped"]
    return table(
        head,
        (
            [
                source["name"], _content(source.get("content") or ""), source["domain"], source["role"],
                 _license(source), source["seen"], source["kept"], source["repaired"], sum(source["dropped"].values()),
            ]
            for source in sources
        ),
    )  # fmt: skip


def _content(content: str) -> str:
    """Return a Hub id with its commit as it is, and the beginning of a file's sha256."""
    return content if "@" in content else content[:12]


def _license(source: Entry) -> str:
    return ", ".join(source["licenses"]) if source["license"] == "from_row" and source.get("licenses") else source["license"]


def _dropped(sources: Sequence[Entry], pool: Entry) -> str:
    rows = [[source["name"], reason, n] for source in sources for reason, n in sorted(source["dropped"].items())]
    rows += [[source, reason, n] for source, counts in pool.get("duplicates", {}).items() for reason, n in counts.items()]
    return table(["source", "reason", "rows"], rows) if rows else ""


def _knowledge(knowledge: Entry) -> str:
    wide = knowledge.get("low_with_judge") is not None
    head = ["domain", "share", "standard error", "95 % low", "95 % high", *(["with judge: low", "high"] if wide else [])]
    fields = ["domains", "p", "stderr", "low", "high", *(["low_with_judge", "high_with_judge"] if wide else [])]
    columns = zip(*(knowledge[f] for f in fields), strict=True)
    accuracy = knowledge.get("accuracy")
    judged = f" The judge's cross-validated accuracy is {accuracy:.3f}." if accuracy is not None else ""
    begun = f" Every text began with {cell(knowledge['begun_with'])}." if knowledge.get("begun_with") else ""
    note = " ".join(map(cell, (knowledge.get("note") or NOT_COVERED).split()))
    return (
        f"Probe `{knowledge.get('probe') or 'unnamed'}`: {knowledge['n']:,} texts judged, {knowledge.get('rejected', 0):,} "
        f"rejected.{judged}{begun}\n\n{table(head, map(list, columns))}\n\n{note}"
    )


def _yaml(value: Entry) -> str:
    said = {field: given for field, given in value.items() if given not in (None, {}, [], ())}
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120)


def _words(unit: str) -> str:
    return unit.replace("_", " ")
