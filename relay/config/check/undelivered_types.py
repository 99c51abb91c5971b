"""Event types that are configured somewhere and never arrive: pure, from the settings and from what the files say.

An event passes three places: a source delivers it, [audit] enables its type, a server takes its type. Each finding
names the place where the type is missing, and what to write there. Only what a file says is a reason for a finding,
never a default.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from relay.config.agent.telegraf_filters import TYPES, UNKNOWN, may_pass_unknown, types_passed
from relay.config.key_path import KeyPath
from relay.values.event import OPTIONAL_TYPES, EventType
from relay.values.settings import EventCollectorSource, RemoteLoggingServer, Settings, SourceTable

_COLLECTOR: Final = (
    'add a [[source]] with name = "events", type = "event-collector" and command = ["/usr/bin/eventCollector128t", '
    '"--index-file", "/var/lib/relay/events.index"]'
)
_AUDIT_LOG: Final = 'add a [[source]] with name = "audit" and type = "audit-log"'


def undelivered_types(
    settings: Settings, document: Mapping[str, Any], implied: Iterable[KeyPath] = ()
) -> Iterator[tuple[KeyPath, str]]:
    """What is configured without effect, each with its key. Nobody wrote the `implied` values of the document."""
    delivered = frozenset[str]().union(*map(_delivered, settings.source))
    off = {kind.label for kind in OPTIONAL_TYPES if not settings.audit.category(kind).enabled}
    not_written = frozenset(implied)
    yield from _categories(settings, document.get("audit", {}), delivered, not_written)
    for index, server in enumerate(settings.remote_logging_server):
        if "types" in document["remote-logging-server"][index]:
            yield from _server(("remote-logging-server", index, "types"), server, settings, delivered, off)
    taken: set[str] = {type_ for server in settings.remote_logging_server for type_ in server.types}
    for index, source in enumerate(settings.source):
        if taken and ("source", index, "name") not in not_written:
            yield from _source(("source", index), source, taken, off)


def _delivered(source: SourceTable) -> frozenset[str]:
    """The types of a source's events. What a collector writes that cannot be parsed is of type log."""
    return _of_its_filters(source) | {kind.label for kind in source.event_types if kind is EventType.LOG}


def _of_its_filters(source: SourceTable) -> frozenset[str]:
    if not isinstance(source, EventCollectorSource):
        return frozenset(kind.label for kind in source.event_types)
    if "type" in source.tags:
        return frozenset(TYPES)  # events without a type of their own get this one
    tables = {"tagpass": source.tagpass, "tagdrop": source.tagdrop}
    filters = {key: {tag: list(patterns) for tag, patterns in table.items()} for key, table in tables.items() if table}
    return types_passed(filters) | ({UNKNOWN} if may_pass_unknown(filters) else frozenset())


def _categories(
    settings: Settings, said: Mapping[str, Any], delivered: frozenset[str], implied: frozenset[KeyPath]
) -> Iterator[tuple[KeyPath, str]]:
    for kind in OPTIONAL_TYPES:
        key, type_ = kind.audit_key, kind.label
        category = said.get(key, {})
        enabled, persist = ("audit", key, "enabled"), ("audit", key, "persist")
        if category.get("enabled") and type_ not in delivered and enabled not in implied:
            yield enabled, f"{type_} events are enabled, and no source delivers them; {_remedy(type_, settings.source)}"
        if category.get("persist") and not settings.audit.category(kind).enabled and persist not in implied:
            yield persist, f"has no effect: {type_} events are not enabled; set `enabled = true` too"


def _server(
    path: KeyPath, server: RemoteLoggingServer, settings: Settings, delivered: frozenset[str], off: set[str]
) -> Iterator[tuple[KeyPath, str]]:
    """A server's own choice of types."""
    known = [type_ for type_ in server.types if type_ != UNKNOWN]
    if known and off.issuperset(known):
        rest = " and such as are of no known type" if UNKNOWN in server.types else ""
        types = " and ".join(known)
        yield path, f"it takes {types} events{rest} alone, and [audit] has {types} switched off"
        return
    everything = set(server.types) == set(TYPES)  # the default, written out
    missing = [type_ for type_ in server.types if type_ not in delivered | off]
    if delivered.intersection(server.types):
        missing = [] if everything else [type_ for type_ in missing if type_ != UNKNOWN]
    if missing:
        yield path, f"no source delivers {' and '.join(missing)} events; {_remedy(missing[0], settings.source)}"


def _source(path: KeyPath, source: SourceTable, taken: set[str], off: set[str]) -> Iterator[tuple[KeyPath, str]]:
    """A source none of whose events reaches a server."""
    types = _of_its_filters(source)
    names = " and ".join(type_ for type_ in TYPES if type_ in types)
    if types and not types & taken:
        yield path, f'no server takes its events ({names}); add "{min(types)}" to the `types` of a server'
    elif types and not types - off:
        keys = " and ".join(f"audit.{kind.audit_key}" for kind in OPTIONAL_TYPES if kind.label in types)
        yield path, f"its events ({names}) are switched off in [audit]; set `enabled = true` in {keys}"


def _remedy(type_: str, sources: Iterable[SourceTable]) -> str:
    """Which source to write, or which filter to widen."""
    filtered = [source for source in sources if isinstance(source, EventCollectorSource)]
    if filtered:
        return f'let them pass the filters (tagpass, tagdrop) of source "{filtered[0].name}"'
    return _AUDIT_LOG if type_ == EventType.AUDIT.label else _COLLECTOR
