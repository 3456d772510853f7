"""What the pages quote of the evidence: a few rows of its tables, beside the words that rest on them.

The words name no number of their own, so that a new measurement leaves none behind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from evidence import both, gap_of, if_measured, p_of, percent, result, row_of, skill, table

Make = Callable[[], str]


def which_law() -> str:
    """Return of every way to weigh domains how it differs from uniform weights, in what is known and in the loss."""
    found, rows = result("laws"), list[list[str]]()
    for tables, more in ((found["tables"], ""), (found.get("again", {}), ", asked again")):
        for row in tables.get("known", ())[1:]:
            loss = next(each for each in tables["loss"] if each["arm"] == row["arm"])
            rows.append([row["arm"] + more, str(row["pairs"]), gap_of(row), p_of(row), gap_of(loss), p_of(loss)])
    return table(["weights", "pairs", "exact match, minus uniform", "p", "loss, minus uniform", "p"], rows)


def which_share() -> str:
    """Return of every way to let a domain grow what it gains and what it spares the others."""
    found, rows = result("expansion"), list[list[str]]()
    told = ((found["tables"], found["claims"], ""), (found.get("again", {}), found.get("claims_again", ()), ", asked again"))
    for tables, claims, more in told:
        for row in tables.get("target", ())[1:]:
            claim = next(each for each in claims if each["arm"] == row["arm"])
            kept, cut = percent(claim["target_kept"]), percent(claim["loss_cut"])
            rows.append([row["arm"] + more, str(row["pairs"]), kept, gap_of(row), cut])
    return table(["the target's share", "pairs", "its score, of alone", "minus alone", "the others lose less by"], rows)


def which_replay() -> str:
    """Return of every policy of the newest round how it differs from stratified rows."""
    found = result("replay_policies")
    rows = [
        [f"`{row['arm']}`", str(row["pairs"]), gap_of(row), p_of(row), gap_of(row_of(found, "gain", row["arm"]))]
        for row in found["tables"]["exact_match"]
        if row["arm"] != found["control"]
    ]
    head = ["policy", "pairs", "exact match, minus stratified", "p", "relative gain, minus stratified"]
    return table(head, rows)


def which_adapter() -> str:
    """Return of every adapter what it learned, what it kept, the two together and what AdamW held."""
    found = result("adapters")
    rows = []
    for row in found["tables"]["new"]:
        kept, of = row_of(found, "retained", row["arm"]), next(each for each in found["costs"] if each["arm"] == row["arm"])
        rows.append([row["arm"], f"{row['mean']:.3f}", f"{kept['mean']:.3f}", *both(found, row["arm"]),
                     f"{of['optimizer_mb']:.2f}"])  # fmt: skip
    return table(["arm", "new skill", "old skill retained", "both", "minus full", "AdamW, MB"], rows)


def adapters(*arms: str) -> Make:
    """Return what makes the rows of some adapters beside full fine-tuning."""

    def rows_of() -> str:
        found, rows = result("adapters"), list[list[str]]()
        for arm in (found["control"], *arms):
            cells = [arm]
            for of in ("new", "retained"):
                row = row_of(found, of, arm)
                cells += [f"{row['mean']:.3f}", gap_of(row)]
            text = row_of(found, "text", arm)
            rows.append([*cells, *both(found, arm), f"{text['mean']:+.3f}", gap_of(text)])
        measures = ("new skill", "old retained", "both", "text, nats")
        return table(["arm", *(head for of in measures for head in (of, "minus full"))], rows)

    return if_measured(rows_of, "adapters")


def tickets() -> str:
    """Return how a lottery ticket differs from others in new and old skill together."""
    found = result("adapters")
    others = ("full", "full, half the rate", "lora", "shira")
    return table(["lota minus", "both"], [[other, gap_of(skill(found, "lota", other)[1])] for other in others])


def probed() -> str:
    """Return how near the probe came to the truth, and how often its interval held it."""
    found = result("probe_truth")
    off, sampling = [each["total variation"] for each in found["costs"].values()], found["ratios"][1]
    rows = [
        ["total variation, mean", f"{found['ratio']:.3f} ({min(off):.3f} to {max(off):.3f}, {len(off)} bases)"],
        ["the same of equal shares", f"{found['sizes']['even_guess']:.3f}"],
        ["95 % intervals that hold the truth", f"{round(sampling['ratio'] * sampling['n'])} of {sampling['n']}"],
    ]
    return table(["what", "measured"], rows, words=2)


LAW, SHARE = if_measured(which_law, "laws"), if_measured(which_share, "expansion")
REPLAY, ADAPTER = if_measured(which_replay, "replay_policies"), if_measured(which_adapter, "adapters")
PAGES: Mapping[str, Mapping[str, Make]] = {
    "docs/decide.md": {"which-law": LAW, "which-share": SHARE, "which-replay": REPLAY, "which-adapter": ADAPTER},
    "docs/methods/inscl.md": {"replay": REPLAY},
    "docs/methods/lora.md": {"adapters": adapters("lora", "rslora", "osf", "shira")},
    "docs/methods/loramoe.md": {"adapters": adapters("loramoe")},
    "docs/methods/lota.md": {"adapters": adapters("lota", "lotto"), "tickets": if_measured(tickets, "adapters")},
    "docs/methods/mola.md": {"adapters": adapters("mola")},
    "docs/methods/versatune.md": {"probe": if_measured(probed, "probe_truth"), "laws": LAW, "shares": SHARE},
}
