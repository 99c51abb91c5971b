"""What relay's configuration is to have, and this version does not have yet.

Each entry is a key, or a key with a value. One that stands in a file is a mistake with a sentence of its own: neither
an unknown key, nor a promise that is silently not kept. The table shrinks as versions come.
"""

from typing import Final

PLANNED_KEYS: Final = frozenset(
    {
        "metrics",
        'source.type = "syslog"',
        "receiver.require-identity",
        "receiver.retention",
    }
)
