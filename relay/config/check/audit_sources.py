"""What sources of audit records get wrong together, and what of a log this machine keeps from relay.

Findings are a key and a sentence. Logs are looked at as the user who asks.
"""

import contextlib
import os
from collections.abc import Iterator

from relay.config.key_path import KeyPath
from relay.source.auditd.generations import scan
from relay.values.settings import AuditLogSource, Settings
from relay.values.text import quoted

Finding = tuple[KeyPath, str]


def one_log_twice(settings: Settings) -> Iterator[Finding]:
    """Two sources on one file, by whatever names: each of its records would go out twice."""
    first: dict[str, str] = {}
    for path, source in _logs(settings):
        file = _real(source.path)
        if file in first:
            yield path, f"source {quoted(first[file])} follows the same file; each of its records would be sent twice"
        first.setdefault(file, source.name)


def one_trail_twice(settings: Settings) -> Iterator[Finding]:
    """Auditd's log beside what auditd hands out by itself: the same records, unless that is another machine's."""
    usual = _real(AuditLogSource(name="audit").path)
    logs = [source.name for _, source in _logs(settings) if _real(source.path) == usual]
    for index, source in enumerate(settings.source):
        if logs and source.carries_audit_trail and not isinstance(source, AuditLogSource):
            cause = f"source {quoted(logs[0])} follows this machine's audit log"
            yield ("source", index, "type"), f"{cause}: each record that comes by both is sent twice"


def left_out(settings: Settings) -> Iterator[Finding]:
    """Older files that may not be read: relay passes them over."""
    for path, source in _logs(settings):
        with contextlib.suppress(OSError):  # what keeps the log itself from being read is told as a mistake
            refused = [generation.path for generation in scan(source.path)[1:] if generation.refused]
            if refused:
                others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
                yield path, f"{refused[0]}{others} may not be read by this user, and would be left out; chgrp or chmod"


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # a link on the way may not be read
        return os.path.abspath(path)


def _logs(settings: Settings) -> Iterator[tuple[KeyPath, AuditLogSource]]:
    for index, source in enumerate(settings.source):
        if isinstance(source, AuditLogSource):
            yield ("source", index, "path"), source
