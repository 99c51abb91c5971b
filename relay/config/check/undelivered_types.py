"""Event types that are configured somewhere and never arrive, from the settings and the text of the files. Pure.

An event arrives when a source delivers it, [audit] enables its type, and a server takes its type. Each finding names
the key where the type is missing, and what to write there. Only keys that a file has are a reason for a finding, never
defaults.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Final

from relay.config.agent.telegraf_filters import TYPES, UNKNOWN, may_pass_unknown, types_passed
from relay.config.key_path import KeyPath
from relay.values.configuration.settings import RemoteLoggingServer, Settings
from relay.values.configuration.source_settings import EventCollectorSource, SourceTable
from relay.values.event import OPTIONAL_TYPES, EventType

_COLLECTOR: Final = (
    'add a [[source]] with name = "events", type = "event-collector" and command = ["/usr/bin/eventCollector128t", '
    '"--index-file", "/var/lib/relay/events.index"]'
)
_AUDIT_LOG: Final = 'add a [[source]] with name = "audit" and type = "audit-log"'


def undelivered_types(
    settings: Settings, document: Mapping[str, Any], implied: Collection[KeyPath] = ()
) -> Iterator[tuple[KeyPath, str]]:
    """Keys without effect. The `implied` values of the document are not written in any file."""
    delivered = {type_ for source in settings.source for type_ in _types_of(source)}
    # A collector's data that cannot be parsed becomes events of type log, whatever the filters are.
    delivered |= {UNKNOWN for source in settings.source if EventType.LOG in source.event_types}
    off = _disabled_types(settings)
    for kind in OPTIONAL_TYPES:
        category = document.get("audit", {}).get(kind.audit_key, {})
        enabled, persist = ("audit", kind.audit_key, "enabled"), ("audit", kind.audit_key, "persist")
        if category.get("enabled") and kind.label not in delivered and enabled not in implied:
            remedy = _remedy(kind.label, settings.source)
            yield enabled, f"{kind.label} events are enabled, and no source delivers them; {remedy}"
        if category.get("persist") and kind.label in off and persist not in implied:
            yield persist, f"has no effect: {kind.label} events are not enabled; set `enabled = true` too"
    for index, server in enumerate(settings.remote_logging_server):
        written = "types" in document["remote-logging-server"][index]
        if written and (sentence := _missing_types(server, settings, delivered, off)):
            yield ("remote-logging-server", index, "types"), sentence


def unrouted_sources(settings: Settings, implied: Collection[KeyPath] = ()) -> Iterator[tuple[KeyPath, str]]:
    """Sources of which no event reaches a server; `implied` as above."""
    off = _disabled_types(settings)
    taken: set[str] = {type_ for server in settings.remote_logging_server for type_ in server.types}
    for index, source in enumerate(settings.source):
        types = _types_of(source)
        if not taken or not types or ("source", index, "name") in implied:
            continue
        names = " and ".join(type_ for type_ in TYPES if type_ in types)
        if not types & taken:
            remedy = f'add "{min(types)}" to the `types` of a server'
            yield ("source", index), f"no server takes its events ({names}); {remedy}"
        elif not types - off:
            keys = " and ".join(f"audit.{kind.audit_key}" for kind in OPTIONAL_TYPES if kind.label in types)
            yield ("source", index), f"its events ({names}) are not enabled in [audit]; set `enabled = true` in {keys}"


def _disabled_types(settings: Settings) -> set[str]:
    return {kind.label for kind in OPTIONAL_TYPES if not settings.audit.category(kind).enabled}


def _types_of(source: SourceTable) -> frozenset[str]:
    """The types of a source's events, as far as its filters decide them."""
    if not isinstance(source, EventCollectorSource):
        return frozenset(kind.label for kind in source.event_types)
    if "type" in source.tags:
        return frozenset(TYPES)  # events without a type of their own get this one
    tables = {"tagpass": source.tagpass, "tagdrop": source.tagdrop}
    filters = {key: {tag: list(patterns) for tag, patterns in table.items()} for key, table in tables.items() if table}
    return types_passed(filters) | ({UNKNOWN} if may_pass_unknown(filters) else frozenset())


def _missing_types(server: RemoteLoggingServer, settings: Settings, delivered: set[str], off: set[str]) -> str:
    """Which of the types that a server names never arrive; empty when all do."""
    known = [type_ for type_ in server.types if type_ != UNKNOWN]
    if known and off.issuperset(known):
        types = " and ".join(known)
        rest = " and events of unknown types" if UNKNOWN in server.types else ""
        return f"it takes only {types} events{rest}, and [audit] does not enable {types} events"
    everything = set(server.types) == set(TYPES)  # the default, written out
    missing = [type_ for type_ in server.types if type_ not in delivered | off]
    if delivered.intersection(server.types):
        missing = [] if everything else [type_ for type_ in missing if type_ != UNKNOWN]
    if not missing:
        return ""
    return f"no source delivers {' and '.join(missing)} events; {_remedy(missing[0], settings.source)}"


def _remedy(type_: str, sources: Iterable[SourceTable]) -> str:
    """The source to add, or the filter to widen."""
    filtered = [source for source in sources if isinstance(source, EventCollectorSource)]
    if filtered:
        return f'let them pass the filters (tagpass, tagdrop) of source "{filtered[0].name}"'
    return _AUDIT_LOG if type_ == EventType.AUDIT.label else _COLLECTOR
