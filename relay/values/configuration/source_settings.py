"""The tables of [[source]]: what each source is configured with, and declares about itself. Pure.

`relay.source` says how to add one.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, Final, Literal, get_args

from pydantic import Discriminator, Field, Tag
from typing_extensions import override

from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.receiver_settings import ListenerSettings, ReceiverTls
from relay.values.configuration.setting_types import (
    AppName,
    Environment,
    Facility,
    FilledName,
    ListenUrls,
    LoopbackUrls,
    Path,
    PathOrEmpty,
    Patterns,
    Program,
    Severity,
    Table,
    Tags,
)
from relay.values.event import ROUTER_TYPES, EventType

_DISPATCHER_SOCKETS: Final = {"relay": "/run/relay/audit", "af_unix": "/var/run/audispd_events"}


class SourceSettings(Table):
    """What every [[source]] declares about itself. `relay.source` says how to add one."""

    name: FilledName
    """The source's position is stored under it."""
    type: str
    carries_audit_trail: ClassVar[bool] = False
    """Whether it brings audit records: `audit-format` applies to it, and the auditd watch listens to it."""
    can_deliver_again: ClassVar[bool] = True
    """Whether events that could not be stored can be read again. If not, they may use the spool's reserve."""
    event_types: ClassVar[frozenset[EventType]]
    """The types of its events."""

    @property
    def facilities(self) -> frozenset[str]:
        """The facilities of its events, as far as relay chooses them."""
        raise NotImplementedError

    @property
    def origin(self) -> str:
        """Where its events come from, for users."""
        raise NotImplementedError

    @property
    def is_local_audit_trail(self) -> bool:
        """Whether it certainly carries this machine's own audit trail."""
        return self.carries_audit_trail


class _AuditSource(SourceSettings):
    """A source of audit records."""

    carries_audit_trail = True
    event_types = frozenset({EventType.AUDIT})

    @property
    @override
    def facilities(self) -> frozenset[str]:
        return frozenset({"audit"})


class AuditLogSource(_AuditSource):
    """[[source]] of type audit-log: auditd's file, followed through rotation."""

    type: Literal["audit-log"] = "audit-log"
    path: Path = "/var/log/audit/audit.log"
    start: Literal["oldest", "now"] = "oldest"

    @property
    @override
    def origin(self) -> str:
        return self.path

    @property
    @override
    def is_local_audit_trail(self) -> bool:
        default: str = type(self).model_fields["path"].default
        return self.path == default


class AuditDispatcherSource(_AuditSource):
    """[[source]] of type audit-dispatcher: the records that auditd passes to its plugins, as they happen."""

    type: Literal["audit-dispatcher"] = "audit-dispatcher"
    plugin: Literal["relay", "af_unix"] = "relay"
    """`relay dispatch`, which connects to relay; or auditd's own plugin, to which relay connects."""
    socket: PathOrEmpty = ""
    """Empty: the plugin's usual one."""
    can_deliver_again = False

    @property
    @override
    def origin(self) -> str:
        return self.socket or _DISPATCHER_SOCKETS[self.plugin]


class AuditdRemoteSource(_AuditSource):
    """[[source]] of type auditd-remote: the router's own audisp-remote sends here."""

    type: Literal["auditd-remote"] = "auditd-remote"
    listen: LoopbackUrls = (ListenerUrl("tcp", Address("127.0.0.1", 7778)),)

    @property
    @override
    def origin(self) -> str:
        return ", ".join(map(str, self.listen))


class SyslogSource(SourceSettings, ListenerSettings):
    """[[source]] of type syslog: programs and devices send their messages here."""

    type: Literal["syslog"] = "syslog"
    listen: ListenUrls = (ListenerUrl("unix-datagram", path="/run/relay/syslog"),)
    tls: ReceiverTls | None = None
    event_types = frozenset({EventType.LOG})
    can_deliver_again = False

    @property
    @override
    def facilities(self) -> frozenset[str]:
        return frozenset(get_args(Facility))  # each message has its own

    @property
    @override
    def origin(self) -> str:
        by_tls = () if self.tls is None else (f"tls://{self.tls.listen}",)
        return ", ".join((*map(str, self.listen), *by_tls))


class EventCollectorSource(SourceSettings):
    """[[source]] of type event-collector: a child process that writes events, one a line."""

    type: Literal["event-collector"] = "event-collector"
    command: Program
    """The program and its arguments; no shell interprets them."""
    environment: Environment = ()
    """Additions to relay's own environment."""
    index_file: PathOrEmpty = ""
    """The file in which the child stores how far it has read; empty: the path behind `--index-file` in the command."""
    tagpass: Mapping[str, Patterns] | None = None
    tagdrop: Mapping[str, Patterns] | None = None
    fieldpass: Patterns | None = None
    fielddrop: Patterns | None = None
    facility: Facility = "user"
    """Of an event that has none of its own; so are the two keys below."""
    severity: Severity = "notice"
    app_name: AppName = "128T"
    tags: Tags = Field(default_factory=dict)
    """Telegraf's global tags: each is added to the events that have no tag of its name."""
    event_types = frozenset({*ROUTER_TYPES, EventType.LOG})

    @property
    @override
    def facilities(self) -> frozenset[str]:
        return frozenset({self.facility})

    @property
    @override
    def origin(self) -> str:
        return self.command[0]

    @property
    def index(self) -> str:
        """The index file's path; empty when there is none."""
        return self.index_file or _option(self.command, "--index-file")


def _option(command: Sequence[str], option: str) -> str:
    """Find the value of `--option VALUE` or `--option=VALUE`; empty when there is none."""
    for argument, following in zip(command, (*command[1:], ""), strict=True):
        name, equals, value = argument.partition("=")
        if name == option:
            return value if equals else following
    return ""


SOURCES: Final[dict[str, type[SourceSettings]]] = {
    "audit-log": AuditLogSource,
    "audit-dispatcher": AuditDispatcherSource,
    "auditd-remote": AuditdRemoteSource,
    "event-collector": EventCollectorSource,
    "syslog": SyslogSource,
}
"""The tables that [[source]] can be, by their `type`. Without a `type` it is the first."""


def _source_type(table: object) -> object:
    if isinstance(table, Mapping):
        return table.get("type", "audit-log")
    return getattr(table, "type", "audit-log")


SourceTable = Annotated[
    Annotated[AuditLogSource, Tag("audit-log")]
    | Annotated[AuditDispatcherSource, Tag("audit-dispatcher")]
    | Annotated[AuditdRemoteSource, Tag("auditd-remote")]
    | Annotated[EventCollectorSource, Tag("event-collector")]
    | Annotated[SyslogSource, Tag("syslog")],
    Discriminator(_source_type),
]
