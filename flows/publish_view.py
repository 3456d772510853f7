"""What a push prints: what would be sent, or what was and where it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flows.screen import out, table


def show(told: Mapping[str, Any]) -> None:
    """Print a preview of a push, or its result."""
    if "commit" in told:
        _done(told)
    else:
        _preview(told)


def _preview(told: Mapping[str, Any]) -> None:
    name = f"{told['kind']} {told['repository']}, branch {told['revision']}"
    if "send" in told:
        rows = [(each["path"], "send", each["bytes"]) for each in told["send"]]
        rows += [(path, "there", None) for path in told["there"]]
        rows += [(path, "remove", None) for path in told["remove"]]
        title = f"Push to the {name}: {told['visibility']}, {'to be made' if told['is_new'] else 'there'}"
        out.print(table(title, ("file", "", "bytes"), rows, text=2))
    else:
        out.print(f"Push to the {name}", markup=False)
    for each in told["conflicts"]:
        line = f"licences: {', '.join(each['between'])} ({', '.join(each['sources'])}; {each['rows']:,} rows): {each['why']}"
        out.print(line, soft_wrap=True, markup=False)
    if told["note"]:
        out.print(told["note"], soft_wrap=True, markup=False)
    out.print("Nothing was sent.")


def _done(told: Mapping[str, Any]) -> None:
    if told["is_new_commit"]:
        counts = f"{len(told['sent'])} files sent ({told['bytes'] / 1e6:,.1f} MB), {len(told['there'])} were there"
        line = f"{counts}, {len(told['removed'])} removed."
    else:
        line = f"The repository has it all: {len(told['there'])} files, nothing was sent."
    out.print(line, soft_wrap=True, markup=False)
    out.print(f"hub: {told['url']}", soft_wrap=True, markup=False)
    out.print(f"commit: {told['commit']}", soft_wrap=True, markup=False)
