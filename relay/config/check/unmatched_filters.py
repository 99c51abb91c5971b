"""Facilities and severities that a server selects and no event of the configured sources has. Pure.

Audit records have facility "audit", and severity "warning" where something failed or was denied, else "info"
(relay.events.audit.mapping). A router's events have the facility and severity of their source, unless they have their
own (relay.events.ssr.mapping).
"""

from collections.abc import Iterator
from typing import Final

from relay.config.key_path import KeyPath
from relay.syslog.priority import SEVERITIES
from relay.values.configuration.settings import Settings
from relay.values.event import EventType

_ABOVE_WARNING: Final = frozenset(SEVERITIES[: SEVERITIES.index("warning")])
_FACILITIES: Final = (
    "audit records have \"audit\", and a router's events have their source's `facility`, unless their own field "
    "facility_code names another"
)
_AUDIT_SEVERITIES: Final = 'they have "warning" where something failed or was denied, and else "info"'


def unmatched_filters(settings: Settings) -> Iterator[tuple[KeyPath, str]]:
    """Values of `facilities` and `severity` with which a server waits in vain."""
    for index, server in enumerate(settings.remote_logging_server):
        types = {EventType.from_label(label) for label in server.types}
        known = {facility for source in settings.source if source.event_types & types for facility in source.facilities}
        for name in server.facilities if known else ():  # without any event, another warning says so
            if name not in known:
                sentence = f'no event routed to this server has facility "{name}": {_FACILITIES}'
                yield ("remote-logging-server", index, "facilities"), sentence
        audited = any(source.carries_audit_trail and source.event_types & types for source in settings.source)
        if server.severity in _ABOVE_WARNING and audited and "audit" in (server.facilities or known):
            sentence = f'no audit record has severity "{server.severity}" or above: {_AUDIT_SEVERITIES}'
            yield ("remote-logging-server", index, "severity"), sentence
