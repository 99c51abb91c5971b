"""Sources that cannot read their log or run their program, and sources that repeat each other's records.

Files are examined with the rights of the user who runs the check.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from relay.config.check.files import AS_RELAY, Finding, unreadable
from relay.config.key_path import KeyPath
from relay.source.auditd.generations import scan
from relay.system.files.strict_modes import mode_objection
from relay.values.configuration.settings import Settings
from relay.values.configuration.source_settings import AuditLogSource, EventCollectorSource, SourceTable
from relay.values.text import quoted


def source_mistakes(path: KeyPath, source: SourceTable) -> Iterator[Finding]:
    """A log that cannot be read; a program that cannot run, and an index file that cannot be written."""
    if isinstance(source, AuditLogSource) and (sentence := unreadable(source.path, can_be_missing=True)):
        yield (*path, "path"), sentence
    if not isinstance(source, EventCollectorSource):
        return
    program, index = source.command[0], source.index
    folder = os.path.dirname(index)
    if not Path(program).exists():
        yield (*path, "command"), f"{program} does not exist"
    elif not os.access(program, os.X_OK):
        yield (*path, "command"), f"this user is not allowed to run {program}; {AS_RELAY}"
    elif objection := mode_objection(program):
        yield (*path, "command"), f"{objection.cause}; {objection.remedy}"
    if os.path.exists(index):
        if not os.access(index, os.R_OK | os.W_OK):
            yield (*path, "index-file"), f"this user is not allowed to read and write {index}; {AS_RELAY}"
    elif os.path.exists(folder) and not os.access(folder, os.W_OK | os.X_OK):
        yield (*path, "index-file"), f"this user is not allowed to create {index} in its folder; {AS_RELAY}"


def followed_twice(settings: Settings) -> Iterator[Finding]:
    """Two sources that follow one file, by the same path or by another."""
    first: dict[str, str] = {}
    for path, source in _logs(settings):
        file = _real(source.path)
        if file in first:
            yield path, f"source {quoted(first[file])} follows the same file; each of its records would be sent twice"
        first.setdefault(file, source.name)


def followed_beside_auditd(settings: Settings) -> Iterator[Finding]:
    """This machine's audit log beside a source to which auditd sends the same records."""
    usual = _real(AuditLogSource(name="audit").path)
    logs = [source.name for _, source in _logs(settings) if _real(source.path) == usual]
    for index, source in enumerate(settings.source):
        if logs and source.carries_audit_trail and not isinstance(source, AuditLogSource):
            cause = f"source {quoted(logs[0])} follows this machine's audit log"
            yield ("source", index, "type"), f"{cause}; records that reach both sources would be sent twice"


def missing_logs(settings: Settings) -> Iterator[Finding]:
    """Logs that do not exist yet."""
    for path, source in _logs(settings):
        with contextlib.suppress(PermissionError):  # reported as a mistake
            if not Path(source.path).exists():
                yield path, f"{source.path} does not exist yet; relay waits for it"


def unreadable_older_files(settings: Settings) -> Iterator[Finding]:
    """Older files of a log that this user is not allowed to read; relay skips them."""
    for path, source in _logs(settings):
        with contextlib.suppress(OSError):  # a log that cannot be read is reported as a mistake
            refused = [generation.path for generation in scan(source.path)[1:] if generation.refused]
            if refused:
                others = f" and {len(refused) - 1} more" if len(refused) > 1 else ""
                cause = f"this user is not allowed to read {refused[0]}{others}"
                yield path, f"{cause}; relay would skip their records; change the group (chgrp) or the mode (chmod)"


def _real(path: str) -> str:
    try:
        return os.path.realpath(path)
    except OSError:  # a link on the path cannot be read
        return os.path.abspath(path)


def _logs(settings: Settings) -> Iterator[tuple[KeyPath, AuditLogSource]]:
    for index, source in enumerate(settings.source):
        if isinstance(source, AuditLogSource):
            yield ("source", index, "path"), source
