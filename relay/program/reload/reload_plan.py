"""The plan of a reload: the parts of a running program compared with those of a new configuration. Pure.

A part is a name and everything that it depends on, including the contents of files: a private key that was replaced at
the same path exchanges every part that uses it. Equal parts are kept, with their sessions and connections.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from relay.values.configuration.receiver_settings import ListenerSettings, ReceiverSettings, ReceiverSsh, ReceiverTls
from relay.values.configuration.setting_rules import is_pem
from relay.values.configuration.setting_types import Table
from relay.values.configuration.settings import PortForwarding, RemoteLoggingServer, Settings
from relay.values.configuration.source_settings import SourceTable

Digests = Mapping[str, str]
"""A digest of each file, by path; a file that cannot be read has none."""
_Specifications = Mapping[str, object]
_NONE: Final[_Specifications] = MappingProxyType({})

_NOT_OF_THE_SESSION: Final = {"start": "oldest", "network_failure_action": "retry", "network_failure_timeout": 600.0}
"""Keys of a server that change without its session: housekeeping's, and the start of a new server."""

_OF_OTHER_PROGRAMS: Final = {"local_listener": True, "local_socket": "", "local_users": ()}
"""Keys of a port-forwarding that change without the sessions of relay's own delivery."""

_KEYS: Final = {
    "ssh": "host key and authorized keys of [receiver.ssh]",
    "tls": "certificate, private key and CA of [receiver.tls]",
}
"""What senders are shown or checked with, for each protocol."""


class PartsByName(NamedTuple):
    """The parts of a program, each kind by name."""

    sources: _Specifications = _NONE
    servers: _Specifications = _NONE
    port_forwardings: _Specifications = _NONE
    listeners: _Specifications = _NONE
    identities: _Specifications = _NONE
    """The keys and certificates that the receiver shows to its senders, for each protocol."""
    policies: _Specifications = _NONE
    """Keys for the whole program, by their path."""
    fixed: _Specifications = _NONE
    """Keys that cannot change while the program runs, by their path."""


class PartChanges(NamedTuple):
    """The changes to the parts of one kind."""

    kept: tuple[str, ...] = ()
    exchanged: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()


class ReloadPlan(NamedTuple):
    """All changes of a reload."""

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
        )
        parts = [
            f"{kind} {name} {change}"
            for kind, changes in kinds
            for change in ("ended", "exchanged", "begun")
            for name in getattr(changes, change)
        ]
        parts += [f"{_KEYS[name]} read again" for name in self.identities.exchanged]
        return (*parts, *(f"{key} changed" for key in self.policies.exchanged))


class SourcePart(NamedTuple):
    """Everything that a source depends on."""

    table: SourceTable
    watched: str
    """`watch-auditd`, where it matters."""
    terms: tuple[object, ...]
    """How events are written."""


def compare(running: PartsByName, wanted: PartsByName) -> ReloadPlan:
    """Compare the parts that run with those that are wanted."""
    plan = []
    for before, after in zip(running, wanted, strict=True):
        both = [name for name in after if name in before]
        plan.append(
            PartChanges(
                kept=tuple(name for name in both if before[name] == after[name]),
                exchanged=tuple(name for name in both if before[name] != after[name]),
                begun=tuple(name for name in after if name not in before),
                ended=tuple(name for name in before if name not in after),
            )
        )
    return ReloadPlan(*plan)


def parts_of_run(settings: Settings, digests: Digests) -> PartsByName:
    """The parts of `relay run`."""
    author = (settings.relay.hostname, settings.relay.router, settings.relay.node, settings.audit.sd_id)
    sources = {}
    for source in settings.source:
        if source.carries_audit_trail:
            terms = (*author, settings.audit.audit_format)
            sources[source.name] = SourcePart(source, settings.audit.watch_auditd, terms)
        else:
            sources[source.name] = SourcePart(source, "", author)
    return PartsByName(
        sources=sources,
        servers=_servers(settings, settings.remote_logging_server, digests),
        port_forwardings={
            each.listens_on: (each, _digests_of(digests, *_files(each)))
            for each in settings.port_forwarding
            if each.listens_on
        },
        policies=_policies(settings),
        fixed={"relay.state-directory": settings.relay.state_directory},
    )


def parts_of_receive(settings: Settings, digests: Digests) -> PartsByName:
    """The parts of `relay receive`."""
    tls, ssh = settings.receiver.tls, settings.receiver.ssh
    urls = map(str, settings.receiver.listen)
    listeners: dict[str, object] = {url: () for url in urls if settings.receiver.is_open_to(url)}
    identities: dict[str, object] = {}
    if tls is not None:
        listeners[f"tls://{tls.listen}"] = ()
        identities["tls"] = _without(tls, "listen"), _digests_of(digests, tls.certificate, tls.private_key, tls.ca)
    if ssh is not None:
        listeners[f"ssh://{ssh.listen}"] = ()
        identities["ssh"] = _without(ssh, "listen"), _digests_of(digests, ssh.host_key, ssh.authorized_keys)
    return PartsByName(
        servers=_servers(settings, settings.handed_on, digests),
        listeners=listeners,
        identities=identities,
        policies={
            **_policies(settings),
            **_of_listeners(settings.receiver),
            **{f"receiver.retention.{name.replace('_', '-')}": value for name, value in settings.receiver.retention},
            "receiver.zone": settings.receiver.zone,
            "receiver.require-identity": settings.receiver.require_identity,
            "receiver.originator": settings.receiver.originator,
            "receiver.expect": settings.receiver.expect,
        },
        fixed={
            "relay.state-directory": settings.relay.state_directory,
            "receiver.archive": settings.receiver.archive,
            "receiver.archive-format": settings.receiver.archive_format,
            "receiver.archive-mode": settings.receiver.archive_mode,
            "receiver.archive-group": settings.receiver.archive_group,
        },
    )


def _servers(settings: Settings, servers: Sequence[RemoteLoggingServer], digests: Digests) -> dict[str, object]:
    """Everything that the delivery to each server depends on."""
    found: dict[str, object] = {}
    for server in servers:
        forwarding = settings.forwarding_of(server)
        files = (*_files(server), *(_files(forwarding) if forwarding is not None else ()))
        table = server.model_copy(update=_NOT_OF_THE_SESSION)
        session = forwarding and forwarding.model_copy(update=_OF_OTHER_PROGRAMS)
        bindings = settings.receiver.originator if server.originators else ()
        found[server.display_name] = table, session, bindings, _digests_of(digests, *files)
    return found


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


def _digests_of(digests: Digests, *names: str) -> tuple[str, ...]:
    return tuple(digests.get(name, "") for name in names)


def _without(table: Table, key: str) -> Mapping[str, Any]:
    return {name: value for name, value in dict(table).items() if name != key}


def _of_listeners(receiver: ReceiverSettings) -> dict[str, object]:
    """Keys of [receiver] that change while its listeners stay; for a stream that is open some keep their value."""
    keys = set(ListenerSettings.model_fields) - {"listen"}
    shared = {f"receiver.{key.replace('_', '-')}": getattr(receiver, key) for key in sorted(keys)}
    return {
        **shared,
        "receiver.max-message-size": receiver.max_message_size,
        "receiver.proxies": receiver.proxies if receiver.proxy_protocol else (),
    }


def _policies(settings: Settings) -> dict[str, object]:
    tables = ("relay", settings.relay), ("audit", settings.audit), ("spool", settings.spool)
    found: dict[str, object] = {"metrics.listen": settings.metrics} | {
        f"{table}.{name.replace('_', '-')}": value
        for table, values in tables
        for name, value in dict(values).items()
        if name != "state_directory"
    }
    for server in settings.remote_logging_server:
        action = server.network_failure_action, server.network_failure_timeout
        found[f"network-failure-action of server {server.display_name}"] = action
    return found
