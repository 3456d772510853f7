"""Where processes listen."""

from __future__ import annotations

from contextlib import suppress
from ipaddress import ip_address

import psutil


def listening(*pids: int) -> set[tuple[str, int]]:
    """Return the addresses and ports at which processes, or those they started, take connections."""
    found = set()
    for pid in pids:
        with suppress(psutil.NoSuchProcess):
            own = psutil.Process(pid)
            for process in (own, *own.children(recursive=True)):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    connections = process.net_connections(kind="inet")
                    found.update((each.laddr.ip, each.laddr.port) for each in connections if each.status == "LISTEN")
    return found


def open_to_others(*pids: int) -> list[tuple[str, int]]:
    """Return those that other machines can reach; something must listen, lest nothing be looked at."""
    found = listening(*pids)
    assert found, "nothing listens"
    return sorted(each for each in found if not ip_address(each[0]).is_loopback)
