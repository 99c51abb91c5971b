"""relay's own log. It always reports that a program is ready, has reloaded or stops, and every loss and recovery.

-v adds the sessions and the proofs, -vv helps to find a fault. No traceback reaches it: a bug is one line.

Lines go to stderr under systemd (JOURNAL_STREAM is set), on a terminal, and where there is no local syslog socket. Else
they go to the local syslog socket as RFC 5424, by rfc5424-logging-handler, with APP-NAME `relay` and facility 3
(daemon). relay never reads them back: none of its sources reads that socket.
"""

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Final, TextIO

from rfc5424logging import Rfc5424SysLogHandler

from relay.errors import RelayError
from relay.values.text import bug_text

SYSLOG_SOCKET: Final = "/dev/log"
NOTICE: Final = 25
"""The level of lines that are always logged although nothing is wrong. `logging` has none between INFO and WARNING."""
_FACILITY: Final = 3
_PRIORITIES: Final = {
    logging.DEBUG: 7,
    logging.INFO: 6,
    NOTICE: 5,
    logging.WARNING: 4,
    logging.ERROR: 3,
    logging.CRITICAL: 2,
}
_LEVELS: Final = (NOTICE, logging.INFO, logging.DEBUG)
logging.addLevelName(NOTICE, "NOTICE")  # rfc5424-logging-handler maps this name to the severity


class _JournalFormatter(logging.Formatter):
    """A line with its priority before it, as sd-daemon(3) wants."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 5)}>{super().format(record)}"


def configure(verbosity: int, *, socket_path: str = SYSLOG_SOCKET, stream: TextIO | None = None) -> None:
    """Send the lines of the loggers `relay…` where they belong.

    With verbosity 0 they are notices, warnings and errors; 1 and 2 add the levels INFO and DEBUG.
    """
    log = logging.getLogger("relay")
    for former in log.handlers[:]:
        log.removeHandler(former)
        former.close()
    log.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    # Not the root logger: with it at DEBUG, tzlocal in the handler would log into itself for ever.
    log.propagate = False
    stream = stream or sys.stderr
    handler: logging.Handler = logging.StreamHandler(stream)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    elif not stream.isatty() and Path(socket_path).is_socket():
        handler = Rfc5424SysLogHandler(
            address=socket_path, facility=_FACILITY, appname="relay", procid=os.getpid(), enterprise_id=None
        )
    else:
        handler.setFormatter(logging.Formatter("relay: %(message)s"))

    def complete(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:  # one line in place of a traceback
            text = f"{text.splitlines()[0]}: {bug_text(record.exc_info[1])}; please report this line"
            record.exc_info = record.exc_text = None
        record.msg, record.args = RelayError.complete(text), None  # the commands in it work as printed
        return True

    handler.addFilter(complete)
    log.addHandler(handler)
    # asyncio logs the exception of a task for which nothing waited.
    asyncio_log = logging.getLogger("asyncio")
    asyncio_log.handlers[:], asyncio_log.propagate = [handler], False
    # paramiko logs every stranger's garbage and every lost session; relay's own lines have cause and remedy.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def hook_bugs() -> None:
    """Log each exception that ends a thread, or that nothing can catch, in one line; for the whole process.

    A line that cannot be written is dropped: `logging` would write a traceback about it.
    """
    log = logging.getLogger("relay")

    def note_thread(ended: threading.ExceptHookArgs) -> None:
        if ended.exc_value is not None and not isinstance(ended.exc_value, SystemExit):
            name = ended.thread.name if ended.thread else "unknown"
            log.error("the thread %s ended: %s; restart relay, and report this line", name, bug_text(ended.exc_value))

    def note_unraisable(lost: "sys.UnraisableHookArgs") -> None:
        if lost.exc_value is not None:
            log.error("%s; please report this line", bug_text(lost.exc_value))

    threading.excepthook = note_thread
    sys.unraisablehook = note_unraisable
    logging.raiseExceptions = False
