"""What a server chooses by facility and severity, and no event of the configured sources has: pure, from the settings.

Audit records are of facility "audit", and "warning" where something failed or was denied, else "info" (audit.mapping).
A router's events are of their source's facility and severity unless they say another (ssr.mapping).
"""

from collections.abc import Iterator
from typing import Final

from relay.config.key_path import KeyPath
from relay.syslog.priority import SEVERITIES
from relay.values.event import EventType
from relay.values.settings import RemoteLoggingServer, Settings

_ABOVE_WARNING: Final = frozenset(SEVERITIES[: SEVERITIES.index("warning")])


def unmatched_filters(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """What nobody should wait for, each with the key that chooses it."""
    for index, server in enumerate(settings.remote_logging_server):
        path: KeyPath = ("remote-logging-server", index)
        known = _facilities(settings, server)
        for name in server.facilities if known else ():  # a server that gets no event at all is reported as that
            if name not in known:
                yield (*path, "facilities"), f'no event that it could get is of facility "{name}": {_FACILITIES}'
        if server.severity in _ABOVE_WARNING and "audit" in known and "audit" in (server.facilities or known):
            yield (
                (*path, "severity"),
                f'no audit record is of severity "{server.severity}" or above: {_AUDIT_SEVERITIES}',
            )


def _facilities(settings: Settings, server: RemoteLoggingServer) -> set[str]:
    """Of the events that the server's types let it get."""
    types = {EventType.from_label(label) for label in server.types}
    return {facility for source in settings.source if source.event_types & types for facility in source.facilities}


_FACILITIES: Final = (
    "audit records are of \"audit\", and a router's events of their source's `facility` unless their own field "
    "facility_code says another"
)
_AUDIT_SEVERITIES: Final = 'they are of "warning" where something failed or was denied, else of "info"'
