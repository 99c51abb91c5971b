"""What a reload changes: the parts of a running program compared with those that a new configuration wants. Pure.

A part is a name and everything that it depends on, contents of files included: a private key that was replaced at the
same path exchanges whatever uses it. Parts that are equal are kept, with their sessions and connections.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from relay.values.setting_rules import is_pem
from relay.values.settings import (
    PortForwarding,
    ReceiverSsh,
    ReceiverTls,
    RemoteLoggingServer,
    Settings,
    SourceTable,
    Table,
)

Contents = Mapping[str, str]
"""A digest of each file, by path; a file that cannot be read has none."""
_Specifications = Mapping[str, object]
_NONE: Final[_Specifications] = MappingProxyType({})

_NOT_OF_THE_SESSION: Final = {"start": "oldest", "network_failure_action": "retry", "network_failure_timeout": 600.0}
"""Keys of a server that may change without its session: what is cared for, and where a new server begins."""
_OF_THE_AUTHOR: Final = ("hostname", "router", "node")


class PartsByName(NamedTuple):
    """The parts of a program, each kind by name."""

    sources: _Specifications = _NONE
    servers: _Specifications = _NONE
    port_forwardings: _Specifications = _NONE
    listeners: _Specifications = _NONE
    identities: _Specifications = _NONE
    """What the receiver shows to its senders: for each protocol keys and certificates."""
    policies: _Specifications = _NONE
    """Keys that hold for the whole program, by their path."""
    fixed: _Specifications = _NONE
    """Keys that cannot change while the program runs, by their path."""


class PartChanges(NamedTuple):
    """What happens to the parts of one kind."""

    kept: tuple[str, ...] = ()
    exchanged: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


class ReloadPlan(NamedTuple):
    """What a reload does."""

    sources: PartChanges
    servers: PartChanges
    port_forwardings: PartChanges
    listeners: PartChanges
    identities: PartChanges
    policies: PartChanges
    fixed: PartChanges

    @property
    def sentences(self) -> tuple[str, ...]:
        """A sentence for each part that changes."""
        kinds = (
            ("source", self.sources),
            ("server", self.servers),
            ("port-forwarding", self.port_forwardings),
            ("listener", self.listeners),
            ("identity of", self.identities),
        )
        parts = [f"{kind} {name} {change}" for kind, changes in kinds for name, change in _changed(changes)]
        return (*parts, *(f"{key} changed" for key in self.policies.exchanged))


class SourcePart(NamedTuple):
    """What a source depends on."""

    table: SourceTable
    watched: str
    """`watch-auditd`, where it matters."""
    terms: tuple[object, ...]
    """How events are written."""


def plan(old: PartsByName, new: PartsByName) -> ReloadPlan:
    """Compare the parts that run with those that are wanted."""
    return ReloadPlan(*(_changes(before, after) for before, after in zip(old, new, strict=True)))


def _changes(old: _Specifications, new: _Specifications) -> PartChanges:
    both = [name for name in new if name in old]
    return PartChanges(
        kept=tuple(name for name in both if old[name] == new[name]),
        exchanged=tuple(name for name in both if old[name] != new[name]),
        begun=tuple(name for name in new if name not in old),
        ended=tuple(name for name in old if name not in new),
    )


def _changed(changes: PartChanges) -> Iterator[tuple[str, str]]:
    for change in ("ended", "exchanged", "begun"):
        for name in getattr(changes, change):
            yield name, change


def parts_of_run(settings: Settings, contents: Contents) -> PartsByName:
    """The parts of `relay run`."""
    return PartsByName(
        sources={source.name: _source(settings, source) for source in settings.source},
        servers={server.display_name: _server(settings, server, contents) for server in settings.remote_logging_server},
        port_forwardings={str(each.local): (each, _read(contents, *_files(each))) for each in settings.port_forwarding},
        policies=_policies(settings),
        fixed={"relay.state-directory": settings.relay.state_directory},
    )


def parts_of_receive(settings: Settings, contents: Contents) -> PartsByName:
    """The parts of `relay receive`."""
    tls, ssh = settings.receiver.tls, settings.receiver.ssh
    listeners: dict[str, object] = {f"tcp://{address}": () for address in settings.receiver.listen}
    identities: dict[str, object] = {}
    if tls is not None:
        listeners[f"tls://{tls.listen}"] = ()
        identities["tls"] = _without(tls, "listen"), _read(contents, tls.certificate, tls.private_key, tls.ca)
    if ssh is not None:
        listeners[f"ssh://{ssh.listen}"] = ()
        identities["ssh"] = _without(ssh, "listen"), _read(contents, ssh.host_key, ssh.authorized_keys)
    return PartsByName(
        listeners=listeners,
        identities=identities,
        policies=_policies(settings),
        fixed={
            "relay.state-directory": settings.relay.state_directory,
            "receiver.archive": settings.receiver.archive,
        },
    )


def files_of(settings: Settings) -> frozenset[str]:
    """The files whose contents matter to a part."""
    tables = (*settings.port_forwarding, *settings.remote_logging_server, settings.receiver.tls, settings.receiver.ssh)
    return frozenset(name for table in tables if table is not None for name in _files(table))


def _files(table: PortForwarding | RemoteLoggingServer | ReceiverTls | ReceiverSsh) -> tuple[str, ...]:
    match table:
        case PortForwarding():
            return table.private_key, table.known_hosts
        case RemoteLoggingServer() | ReceiverTls():
            named = (table.certificate, table.private_key, table.ca)
            return tuple(name for name in named if name and not is_pem(name))
        case ReceiverSsh():
            return table.host_key, table.authorized_keys


def _source(settings: Settings, source: SourceTable) -> SourcePart:
    terms = (*(getattr(settings.relay, key) for key in _OF_THE_AUTHOR), settings.audit.sd_id)
    if source.carries_audit_trail:
        return SourcePart(source, settings.audit.watch_auditd, (*terms, settings.audit.audit_format))
    return SourcePart(source, "", terms)


def _server(settings: Settings, server: RemoteLoggingServer, contents: Contents) -> object:
    forwarding = settings.forwarding_of(server)
    files = (*_files(server), *(_files(forwarding) if forwarding is not None else ()))
    return server.model_copy(update=_NOT_OF_THE_SESSION), forwarding, _read(contents, *files)


def _read(contents: Contents, *names: str) -> tuple[str, ...]:
    return tuple(contents.get(name, "") for name in names)


def _without(table: Table, key: str) -> Mapping[str, Any]:
    return {name: value for name, value in dict(table).items() if name != key}


def _policies(settings: Settings) -> dict[str, object]:
    found: dict[str, object] = {}
    for table, values in (("relay", settings.relay), ("audit", settings.audit), ("spool", settings.spool)):
        for name, value in dict(values).items():
            if name != "state_directory":
                found[f"{table}.{name.replace('_', '-')}"] = value
    for server in settings.remote_logging_server:
        action = server.network_failure_action, server.network_failure_timeout
        found[f"network-failure-action of server {server.display_name}"] = action
    return found
