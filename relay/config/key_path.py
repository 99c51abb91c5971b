"""The path of a key in the configuration, and how people write it. Pure."""

import re
from typing import Final

from relay.values.text import quoted

KeyPath = tuple[str | int, ...]
"""Keys, and indexes from zero in arrays: ("remote-logging-server", 1, "port")."""
_BARE: Final = re.compile(r"[A-Za-z0-9_-]{1,60}")


def key_text(path: KeyPath) -> str:
    """The path with dots, and with indexes from one in brackets: `remote-logging-server[2].port`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part + 1}]"
        else:
            text += f".{part}" if _BARE.fullmatch(part) else f".{quoted(part)}"
    return text.removeprefix(".")
