"""The card of a trained model or adapter: its base, how it was trained, on what, under which licences, and what was kept.

The front matter names the library that reads it and, where the base is on the Hub, the base; a licence is left to people to
state, since what the rows and the base ask for is theirs to weigh.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from composer.export import origins
from composer.export.card import HERE, described, phases, shares
from composer.export.markdown import cell, fence, table, without_paths

Entry = Mapping[str, Any]
LIBRARIES = {"full": "transformers", "osf": "transformers", "lora": "peft", "shira": "peft"}
"""By adapter the library that reads what it leaves; all others need ours."""


def model_card(
    *,
    name: str,
    base: Entry,
    training: Entry,
    report: Entry,
    schedule: Entry | None,
    sources: Sequence[Entry],
    licenses: Mapping[str, int],
    retention: Entry | None,
    key: str,
    citations: Sequence[Sequence[str]] = (),
) -> str:
    """Return the card of what a training left, as Markdown with a YAML front matter.

    Parameters
    ----------
    base
        ``id`` and ``revision`` of a base on the Hub (None where it is local), the ``content`` that identifies it, and the
        ``fingerprint`` of its weights where an adapter knows it.
    training
        The content of ``train.json``: ``spec`` and ``stats``, and ``max_length`` and ``phases``, how many there were.
    report, schedule
        What ``compose`` reports of the composition, and its schedule where it is at hand.
    sources, licenses
        As of a data card.
    retention
        What was kept, learned and forgotten, where it was measured.
    """
    adapter = training["spec"]["adapter"]["name"]
    front = {**_library(adapter, base), "pipeline_tag": "text-generation", "tags": ["sft-composer", "sft", *_kind(adapter)]}
    sections = {
        "Load": loading(adapter, base),
        "Base model": _base(base),
        "Training": _training(training),
        "Data: planned and realised shares": shares(report["domains"], unit=report["unit"]),
        "Phases and replay": phases(report, schedule) if schedule else "",
        "Sources": described(sources),
        "Licences of the data": origins.licences(licenses),
        "What was learned and kept": _retained(retention) if retention else "",
        "Citations": origins.cited(citations) if citations else "",
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    intro = f"Trained by sft-composer on the composition below. Artifact `{key}`."
    return f"---\n{_yaml(front)}---\n\n# {cell(name)}\n\n{intro}\n\n{body}\n"


def merged_card(name: str, told: Entry, parts: Sequence[str], licenses: Mapping[str, int]) -> str:
    """Return the card of a checkpoint into which adapters were merged; ``told`` is what ``merge.json`` says.

    ``licenses`` is how many rows of which licence all of them were trained on; none of an adapter whose data is not at hand.
    """
    front = {"library_name": "transformers", "pipeline_tag": "text-generation", "tags": ["sft-composer", "sft", "merge"]}
    rows = list(zip(parts, told["weights"], told["moved"], strict=True))
    density = f", density {told['density']}" if told["density"] != 1.0 else ""
    body = (
        f"Adapters merged by sft-composer: method `{told['method']}`{density}, seed {told['seed']}, on a base of fingerprint "
        f"`{told['base']}`.\n\n{table(['adapter', 'weight', 'matrices moved'], rows)}\n\n"
        f"## Licences of the data\n\n{origins.licences(licenses)}\n\n"
        "Rows count once for every adapter. Where an adapter's data was not at hand, none is counted, its licence unknown."
        f"\n\n## Load\n\n{loading('full', {'id': None})}"
    )
    return f"---\n{_yaml(front)}---\n\n# {cell(name)}\n\n{body}\n"


def loading(adapter: str, base: Entry) -> str:
    """Return how what was trained is loaded, by the library that reads it."""
    origin = base["id"] or "<the base model>"
    library = LIBRARIES.get(adapter)
    if library == "transformers":
        lines = ["from transformers import AutoModelForCausalLM", "", f'model = AutoModelForCausalLM.from_pretrained("{HERE}")']
    elif library == "peft":
        own = f', revision="{base["revision"]}"' if base.get("revision") else ""
        lines = [
            "from peft import PeftModel", "from transformers import AutoModelForCausalLM", "",
            f'base = AutoModelForCausalLM.from_pretrained("{origin}"{own})',
            f'model = PeftModel.from_pretrained(base, "{HERE}")',
        ]  # fmt: skip
    else:
        command = (
            f"hf download {HERE} --local-dir trained/adapter\nsft-composer generate trained --base {origin} --prompt '...'"
        )
        return fence(command, language="sh")
    return fence("\n".join(lines), language="python")


def _library(adapter: str, base: Entry) -> dict[str, Any]:
    library = LIBRARIES.get(adapter, "sft-composer")
    relation = {"base_model": base["id"], "base_model_relation": "finetune" if library == "transformers" else "adapter"}
    return {"library_name": library, **(relation if base["id"] else {})}


def _kind(adapter: str) -> list[str]:
    return [] if adapter == "full" else [adapter]


def _base(base: Entry) -> str:
    own = f" Fingerprint of its weights: `{base['fingerprint']}`." if base.get("fingerprint") else ""
    if base["id"]:
        return f"`{base['id']}` at the commit `{base['revision']}`.{own}"
    return f"A local model, not on the Hub; its content is `{re.sub(r'[^ -~]', '?', str(base['content']))}`.{own}"


def _training(training: Entry) -> str:
    stats, n = training["stats"], training.get("phases", 1)
    last = f"; the last of {n} phases, each from the one before" if n > 1 else ""
    told = (
        f"{stats['samples']:,} samples, {stats['n_tokens']:,} tokens, {stats['n_loss_tokens']:,} of them trained on, in "
        f"{stats['steps']:,} steps{last}; {stats['trainable_parameters']:,} parameters moved. Loss, nats per token: "
        f"{stats['loss_first']:.4f} at first, {stats['loss_last']:.4f} at last."
    )
    settings = _yaml({**training["spec"], "max_length": training["max_length"]})
    return f"{told}\n\n{fence(without_paths(settings), language='yaml')}"


def _retained(retention: Entry) -> str:
    loss, exact = retention["loss_nats_per_token"], retention["exact_match"]
    head = ["domain", "loss before", "loss at the end", "exact match before", "exact match at the end", "% of exact match lost"]
    rows = [
        [d, loss[0][i], loss[-1][i], exact[0][i], exact[-1][i], retention["forgetting"][d]["exact_match_rate"]]
        for i, d in enumerate(retention["domains"])
    ]
    lead = "On rows held out, before any training and after the last; what was lost is counted from the domain's own stage on."
    return f"{lead}\n\n{table(head, rows)}"


def _yaml(value: Entry) -> str:
    said = {field: given for field, given in value.items() if given not in (None, {}, [], ())}
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=120)
