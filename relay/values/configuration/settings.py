"""The settings: the contents of the configuration, as frozen values that are legal when they exist.

Attribute names are the TOML keys with `_` for `-`; `deploy/relay.toml` explains each. `setting_types`
has the ranges and units of single values. Illegal values raise pydantic's ValidationError, which holds all mistakes at
once, each with a plain sentence; `relay.config` adds file and line, and its head says how to add a key.
"""

from collections.abc import Callable
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, ValidationError, model_validator

from relay.values.address import Address
from relay.values.configuration.receiver_settings import ReceiverSettings
from relay.values.configuration.setting_rules import between, distinct, is_pem, some
from relay.values.configuration.setting_types import (
    Certificates,
    Duration,
    EventLabel,
    Facility,
    Filled,
    FilledLine,
    Fingerprint,
    Flag,
    HeaderField,
    Host,
    HostOrEmpty,
    Ip,
    Line,
    ListenAddress,
    MessageSize,
    Name,
    OriginatorPatterns,
    Path,
    PathOrEmpty,
    Port,
    SdId,
    Severity,
    Size,
    SocketPathOrEmpty,
    Table,
    contradiction,
)
from relay.values.configuration.source_settings import SourceTable
from relay.values.duration import duration_text
from relay.values.event import SERVER_TYPES, EventType
from relay.values.size import size_text
from relay.values.text import quoted

# A commit of up to 1 MiB must fit, and an event may be larger still: four such segments hold it.
SMALLEST_SEGMENT_SIZE: Final = 1024**2
LARGEST_SEGMENT_SIZE: Final = 1024**3
# A spool deletes whole segments and never the one it writes: fewer segments leave hardly any space for a backlog.
LEAST_SEGMENTS: Final = 4
LONGEST_COMMIT_INTERVAL: Final = 10.0
SHORTEST_RETENTION: Final = 60.0
LONGEST_RETENTION: Final = 100 * 365 * 86_400.0
SHORTEST_NETWORK_FAILURE: Final = 60.0
LONGEST_NETWORK_FAILURE: Final = 30 * 86_400.0
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
OF_TLS: Final = ("ca", "server-name", "fingerprint", "certificate", "private-key")
"""Keys of a server that have an effect with transport "tls" only."""


class RelaySettings(Table):
    """[relay]: the names of this relay."""

    hostname: HeaderField = ""
    """RFC 5424 HOSTNAME; empty: the machine's."""
    router: Line = ""
    """SD-PARAM router; empty: hostname."""
    node: Line = ""
    state_directory: Path = "/var/lib/relay"
    alarm_command: tuple[Filled, ...] = ()
    """Runs for each alarm that begins, changes its severity or ends; empty: none."""


class CategorySettings(Table):
    """Whether the events of one type are forwarded, and whether they are persistent."""

    enabled: Flag = True
    persist: Flag = True


class QuietCategorySettings(CategorySettings):
    """The same for a type of high volume, which is disabled by default."""

    enabled: Flag = False
    persist: Flag = False


class AuditSettings(Table):
    """[audit]: the router's system > audit."""

    retention: Annotated[Duration, between(SHORTEST_RETENTION, LONGEST_RETENTION, duration_text)] = 180 * 86_400.0
    """How long delivered events are kept as history."""
    disk_full_action: Literal["halt", "rotate", "ignore"] = "ignore"
    halt_command: tuple[Filled, ...] = ()
    """Empty: relay requests the halt by a file, which a unit of root's watches."""
    space_left: Size = 100 * 1024**2
    """All users are warned below so much free disk; 0: never."""
    watch_auditd: Literal["auto", "always", "never"] = "auto"
    """Whether users are warned when this machine's auditd does not work; only with a source that carries the audit
    trail. With "auto", an audit log counts only at auditd's default path, because another one may be a copy."""
    sd_id: SdId = "128T"
    audit_format: Literal["event", "record"] = "event"
    administration: CategorySettings = CategorySettings()
    security: CategorySettings = CategorySettings()
    system: CategorySettings = CategorySettings()
    traffic: QuietCategorySettings = QuietCategorySettings()

    def category(self, kind: EventType) -> CategorySettings:
        """Return the settings of a type that has a key here (`OPTIONAL_TYPES`)."""
        category: CategorySettings = getattr(self, kind.audit_key)
        return category


class MetricsSettings(Table):
    """[metrics]: the figures for Prometheus, and the health check."""

    listen: ListenAddress = Address("127.0.0.1", 9464)


class SpoolSettings(Table):
    """[spool]: the store between sources and destinations."""

    max_size: Size = 2 * 1024**3
    segment_size: Annotated[Size, between(SMALLEST_SEGMENT_SIZE, LARGEST_SEGMENT_SIZE, size_text)] = 16 * 1024**2
    commit_interval: Annotated[Duration, between(0, LONGEST_COMMIT_INTERVAL, duration_text)] = 0.010
    """The shortest time between two commits."""

    @model_validator(mode="after")
    def _has_room(self) -> "SpoolSettings":
        least = LEAST_SEGMENTS * self.segment_size
        if self.max_size < least:
            sentence = (
                f"must be at least {size_text(least)}, {LEAST_SEGMENTS} segments of "
                f"{size_text(self.segment_size)} (segment-size), not {size_text(self.max_size)}"
            )
            mistake = contradiction(sentence, ("max-size",), self.max_size)
            raise ValidationError.from_exception_data("spool", [mistake])
        return self


class PortForwarding(Table):
    """[[port-forwarding]]: the router's node > port-forwarding; as `ssh -L local:remote username@server`."""

    local_address: Ip = "127.0.0.1"
    local_port: Port = 7777
    local_listener: Flag = True
    """Whether other programs may use the session; relay's own delivery needs no local end."""
    local_socket: SocketPathOrEmpty = ""
    """A Unix socket in place of the local address and port."""
    local_users: Annotated[tuple[FilledLine, ...], AfterValidator(distinct)] = ()
    """Who may connect to the socket, by name or number."""
    remote_host: Host = "127.0.0.1"
    remote_port: Port = 9999
    server_address: Host
    server_port: Port = 22
    username: FilledLine = "relay"
    private_key: Path = "/etc/relay/id_ed25519"
    known_hosts: Path = "/etc/relay/known_hosts"
    algorithms: Literal["default", "fips"] = "default"

    @property
    def local(self) -> Address:
        """The address and port that a server must have to be reached through this session."""
        return Address(self.local_address, self.local_port)

    @property
    def listens_on(self) -> str:
        """The local address and port, or the socket, on which other programs are accepted; "" if none are."""
        return (self.local_socket or str(self.local)) if self.local_listener else ""

    @model_validator(mode="after")
    def _has_users_for_its_socket(self) -> "PortForwarding":
        mistakes = []
        if self.local_socket and not self.local_users:
            sentence = "needs `local-users`, the users whose programs may connect to it"
            mistakes.append(contradiction(sentence, ("local-socket",), self.local_socket))
        if self.local_users and not self.local_socket:
            sentence = "needs a `local-socket`, because every user of this machine can connect to a TCP port"
            mistakes.append(contradiction(sentence, ("local-users",), list(self.local_users)))
        if self.local_socket and not self.local_listener:
            sentence = "has no effect with `local-listener = false`; leave one of them out"
            mistakes.append(contradiction(sentence, ("local-socket",), self.local_socket))
        if mistakes:
            raise ValidationError.from_exception_data("port-forwarding", mistakes)
        return self

    def leads_to(self, server: "RemoteLoggingServer") -> bool:
        """Whether the server's address is the local end."""
        if self.local_port != server.port:
            return False
        if server.address.lower() == "localhost":
            return self.local_address in _LOOPBACK
        try:
            return ip_address(server.address) == ip_address(self.local_address)
        except ValueError:
            return False


class RemoteLoggingServer(Table):
    """[[remote-logging-server]]: the router's audit > remote-logging-server."""

    name: Name = ""
    address: Host = "127.0.0.1"
    port: Port = 7777
    protocol: Literal["syslog", "relp", "auditd"] = "syslog"
    transport: Literal["tcp", "tls", "udp"] = "tcp"
    ca: Certificates = ""
    """For tls, as all keys until private_key. The trusted CAs; empty: those that the machine trusts."""
    server_name: HostOrEmpty = ""
    """The name that the server's certificate must have; empty: the address."""
    fingerprint: Fingerprint = ""
    """Of the server's certificate (RFC 5425 section 4.2.2); nothing else of the certificate is then checked."""
    certificate: Certificates = ""
    """relay's own certificate with its chain; empty: none."""
    private_key: PathOrEmpty = ""
    """Empty: the certificate's file holds it. Always a file, because a configuration must not hold keys."""
    framing: Literal["octet-counting", "non-transparent"] = "octet-counting"
    trailer: Literal["LF", "NUL"] = "LF"
    """The octet that ends a message in non-transparent framing."""
    max_message_size: MessageSize = 8192
    """The default is what collectors accept by default. It is applied at delivery."""
    node_name: Literal["router", "hostname", "none"] = "router"
    """For auditd: the node that is added to an audit record without one."""
    types: Annotated[tuple[EventLabel, ...], AfterValidator(some), AfterValidator(distinct)] = tuple(
        kind.label for kind in SERVER_TYPES
    )
    facilities: Annotated[tuple[Facility, ...], AfterValidator(distinct)] = ()
    """Of the messages that are sent; empty: all."""
    severity: Severity = "debug"
    """The least severe messages that are sent."""
    originators: OriginatorPatterns = ()
    """For `relay receive`: whose messages are sent; empty: everybody's."""
    start: Literal["oldest", "now"] = "oldest"
    required: Flag = True
    """False: no segment is kept for this server when space is needed; the events that it misses are a counted gap."""
    unproven: Literal["resend-window", "trust"] = "resend-window"
    """Without proof of delivery: whether the events sent shortly before a lost connection are sent again."""
    network_failure_action: Literal["retry", "halt"] = "retry"
    network_failure_timeout: Annotated[
        Duration, between(SHORTEST_NETWORK_FAILURE, LONGEST_NETWORK_FAILURE, duration_text)
    ] = 600.0

    @model_validator(mode="after")
    def _has_tls_for_its_certificates(self) -> "RemoteLoggingServer":
        given = {key: value for key in OF_TLS if (value := getattr(self, key.replace("-", "_")))}
        mistakes = [
            contradiction(f'has an effect with `transport = "tls"` only, not "{self.transport}"', (key,), value)
            for key, value in given.items()
            if self.transport != "tls"
        ]
        if self.private_key and not self.certificate:
            mistakes.append(contradiction("needs the `certificate` that it belongs to", ("private-key",), ""))
        if is_pem(self.certificate) and not self.private_key:
            mistakes.append(contradiction("needs the `private-key` that belongs to it", ("certificate",), ""))
        if mistakes:
            raise ValidationError.from_exception_data("remote-logging-server", mistakes)
        return self

    @model_validator(mode="after")
    def _has_a_protocol_for_its_transport(self) -> "RemoteLoggingServer":
        if self.transport == "udp" and self.protocol != "syslog":
            sentence = f'"udp" carries protocol "syslog" only, not "{self.protocol}"; use "tcp"'
            mistake = contradiction(sentence, ("transport",), self.transport)
            raise ValidationError.from_exception_data("remote-logging-server", [mistake])
        return self

    @model_validator(mode="after")
    def _has_a_framing_for_its_trailer(self) -> "RemoteLoggingServer":
        if self.trailer == "NUL" and self.framing == "octet-counting":
            sentence = 'messages end with "NUL" in `framing = "non-transparent"` only; set that too, or leave it out'
            raise ValidationError.from_exception_data(
                "remote-logging-server", [contradiction(sentence, ("trailer",), self.trailer)]
            )
        return self

    @property
    def display_name(self) -> str:
        """The name, or "ADDRESS:PORT"; no two servers share one."""
        return self.name or str(Address(self.address, self.port))


def _distinct_names(key: str, name_of: Callable[[Any], str], sentence: str) -> AfterValidator:
    """Reject a table with the name of a table before it."""

    def check(tables: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [name_of(table) for table in tables]
        mistakes = [
            contradiction(f"{quoted(name)} occurs a second time; {sentence}", (index, key), name)
            for index, name in enumerate(names)
            if name in names[:index]
        ]
        if mistakes:
            raise ValidationError.from_exception_data(key, mistakes)
        return tables

    return AfterValidator(check)


_SOURCE_NAMES: Final = _distinct_names("name", lambda source: source.name, "every source needs a name of its own")
_SERVER_NAMES: Final = _distinct_names(
    "name", lambda server: server.display_name, "every remote-logging-server needs a name of its own"
)
_LOCAL_ENDS: Final = _distinct_names(
    "local-port",
    lambda forwarding: str(forwarding.local),
    "every port-forwarding needs a local-address and local-port of its own",
)


class Settings(Table):
    """The whole configuration. Without any key it is legal and does nothing."""

    relay: RelaySettings = RelaySettings()
    audit: AuditSettings = AuditSettings()
    spool: SpoolSettings = SpoolSettings()
    metrics: MetricsSettings | None = None
    """None: nothing listens."""
    source: Annotated[tuple[SourceTable, ...], _SOURCE_NAMES] = ()
    port_forwarding: Annotated[tuple[PortForwarding, ...], _LOCAL_ENDS] = ()
    remote_logging_server: Annotated[tuple[RemoteLoggingServer, ...], _SERVER_NAMES] = ()
    receiver: ReceiverSettings = ReceiverSettings()

    def forwarding_of(self, server: RemoteLoggingServer) -> PortForwarding | None:
        """Find the port-forwarding whose local end is the server's address: its SSH session leads to the server."""
        return next((f for f in self.port_forwarding if f.leads_to(server)), None)

    @property
    def handed_on(self) -> tuple[RemoteLoggingServer, ...]:
        """The servers to which `relay receive` hands on what it accepts; with a source they are `relay run`'s."""
        return () if self.source else self.remote_logging_server

    def with_defaults_of_receiver(self) -> "Settings":
        """The same, where no key says that a server is required: none is, because the archive must not wait for it."""
        servers = tuple(
            server if "required" in server.model_fields_set else server.model_copy(update={"required": False})
            for server in self.remote_logging_server
        )
        return self.model_copy(update={"remote_logging_server": servers}) if servers else self

    @property
    def watched_sources(self) -> frozenset[str]:
        """The names of the sources by which auditd is watched; empty: it is not watched."""
        if self.audit.watch_auditd == "never":
            return frozenset()
        always = self.audit.watch_auditd == "always"
        return frozenset(
            source.name
            for source in self.source
            if source.is_local_audit_trail or (always and source.carries_audit_trail)
        )
