"""The source for each kind of [[source]] table. The head of `relay.source` says how to add one."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from relay.source import Source, SourceTerms
from relay.source.auditd.audit_dispatcher import AuditDispatcher
from relay.source.auditd.audit_log import AuditLog
from relay.source.auditd.auditd_remote import AuditdRemote
from relay.source.collector.event_collector import EventCollector
from relay.source.syslog_receiver import SyslogReceiver
from relay.values.configuration.source_settings import (
    AuditDispatcherSource,
    AuditdRemoteSource,
    AuditLogSource,
    EventCollectorSource,
    SourceSettings,
    SyslogSource,
)

BUILDERS: Final[Mapping[type[SourceSettings], Callable[[Any, SourceTerms], Source]]] = {
    AuditLogSource: AuditLog.from_settings,
    AuditDispatcherSource: AuditDispatcher.from_settings,
    AuditdRemoteSource: AuditdRemote.from_settings,
    EventCollectorSource: EventCollector.from_settings,
    SyslogSource: SyslogReceiver.from_settings,
}


def source_of(table: SourceSettings, terms: SourceTerms) -> Source:
    """Build the source that a table describes."""
    return BUILDERS[type(table)](table, terms)
