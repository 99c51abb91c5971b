"""Which cursor a server continues from, when names or addresses changed in the configuration. Pure.

A cursor belongs to a server: to a protocol and a final address, as one text (`ServerKey`; empty where none was
recorded, as by older versions, and for the archive, which has none).

- A server keeps the cursor of its name when that belongs to the same final address, or to none that is known.
- Otherwise the cursor of its name belongs to another server. It is put aside under another name, and kept as the cursor
  of a server that has left the configuration.
- A server without a cursor continues from the cursor with the same protocol and final address that belongs to no
  configured name: it was renamed. When several servers or several cursors match, none is used: they may select
  different events, and a wrong choice would lose some.
"""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

ServerKey = str
"""`PROTOCOL ADDRESS…`, host names in small letters."""


class CursorMove(NamedTuple):
    """A stored cursor gets another name."""

    former: str
    name: str
    aside: bool
    """Put aside, since its name now belongs to another server."""


def moves(stored: Mapping[str, ServerKey], configured: Mapping[str, ServerKey]) -> list[CursorMove]:
    """The moves in order. `stored`: servers by the names of their cursors; `configured`: by their configured names."""
    found: list[CursorMove] = []
    free: dict[str, ServerKey] = {}
    kept: set[str] = set()
    for name, key in stored.items():
        if name not in configured:
            free[name] = key
        elif not key or not configured[name] or _address(key) == _address(configured[name]):
            kept.add(name)
        else:
            aside = _unused(f"{name} (before: {key})", {*stored, *free})
            found.append(CursorMove(name, aside, aside=True))
            free[aside] = key
    waiting = {name: key for name, key in configured.items() if key and name not in kept}
    needed, offered = Counter(waiting.values()), Counter(free.values())
    for name, key in waiting.items():
        if needed[key] == offered[key] == 1:
            (former,) = (each for each, of in free.items() if of == key)
            found.append(CursorMove(former, name, aside=False))
    return found


def _address(key: ServerKey) -> str:
    return key.partition(" ")[2]


def _unused(name: str, used: set[str]) -> str:
    return name if name not in used else _unused(f"{name}'", used)
