"""relay's own log. It always reports that a program is ready, has reloaded or stops, and every loss and recovery.

-v adds the sessions and the proofs, -vv helps to find a fault.

Lines go to stderr under systemd (JOURNAL_STREAM is set), on a terminal, and where there is no local syslog socket. Else
they go to the local syslog socket as RFC 5424, by rfc5424-logging-handler, with APP-NAME `relay` and facility 3
(daemon). relay never reads them back: none of its sources reads that socket.
"""

import logging
import os
import stat
import sys
from typing import Final, TextIO

from rfc5424logging import Rfc5424SysLogHandler

from relay.errors import RelayError

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
    # Only relay's logger: with the root logger at DEBUG, tzlocal in the handler would log into itself for ever.
    log.propagate = False
    stream = stream or sys.stderr
    handler: logging.Handler = logging.StreamHandler(stream)
    if "JOURNAL_STREAM" in os.environ:
        handler.setFormatter(_JournalFormatter("%(message)s"))
    elif not stream.isatty() and _is_socket(socket_path):
        handler = Rfc5424SysLogHandler(
            address=socket_path, facility=_FACILITY, appname="relay", procid=os.getpid(), enterprise_id=None
        )
    else:
        handler.setFormatter(logging.Formatter("relay: %(message)s"))

    def complete(record: logging.LogRecord) -> bool:
        record.msg, record.args = RelayError.complete(record.getMessage()), None
        return True

    handler.addFilter(complete)  # so that the commands in a line work as printed (`relay.errors`)
    log.addHandler(handler)
    # paramiko logs every stranger's garbage and every lost session; relay's own lines have cause and remedy.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
