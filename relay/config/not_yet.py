"""What relay's configuration is to have, and this version does not have yet.

Each entry is a key, or a key with a value. One that stands in a file is a mistake with a sentence of its own: neither
an unknown key, nor a promise that is silently not kept. The table shrinks as versions come.
"""

from typing import Final

NOT_YET: Final = frozenset(
    {
        "metrics",
        'source.type = "syslog"',
        'remote-logging-server.transport = "tls"',
        "remote-logging-server.ca",
        "remote-logging-server.certificate",
        "remote-logging-server.fingerprint",
        "remote-logging-server.private-key",
        "remote-logging-server.server-name",
        "receiver.require-identity",
        "receiver.retention",
    }
)
