"""relay's own log: that a program is ready, has reloaded or stops, what is lost and recovered, always; more with -v.

-v adds the sessions and the proofs, -vv what helps to find a fault.

Under systemd (JOURNAL_STREAM is set), on a terminal, and where no local syslog socket is, lines go to stderr. Else
they go to the local syslog socket as RFC 5424, by rfc5424-logging-handler, with APP-NAME `relay` and facility 3
(daemon). relay never takes them in itself: no source of its own reads that socket.
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
"""The level of what is logged always, although nothing is wrong; `logging` has no level between INFO and WARNING."""
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
logging.addLevelName(NOTICE, "NOTICE")  # by this name rfc5424-logging-handler finds the severity


class _JournalFormatter(logging.Formatter):
    """A line with its priority before it, as sd-daemon(3) wants."""

    def format(self, record: logging.LogRecord) -> str:
        return f"<{_PRIORITIES.get(record.levelno, 5)}>{super().format(record)}"


def _complete(record: logging.LogRecord) -> bool:
    """Have the commands in a line work as printed (`relay.errors`)."""
    record.msg, record.args = RelayError.complete(record.getMessage()), None
    return True


def configure(verbosity: int, *, socket_path: str = SYSLOG_SOCKET, stream: TextIO | None = None) -> None:
    """Send what the loggers `relay…` say where it belongs; 0 is notices, warnings and errors, 1 and 2 are more."""
    log = logging.getLogger("relay")
    for former in log.handlers[:]:
        log.removeHandler(former)
        former.close()
    log.setLevel(_LEVELS[min(verbosity, len(_LEVELS) - 1)])
    # Our own logger alone: with the root logger at DEBUG the handler's tzlocal would log into itself for ever.
    log.propagate = False
    handler = _handler(socket_path, stream or sys.stderr)
    handler.addFilter(_complete)
    log.addHandler(handler)
    # paramiko tells every stranger's garbage and every lost session in its own words; ours name cause and remedy.
    logging.getLogger("paramiko").setLevel(logging.CRITICAL)


def _handler(socket_path: str, stream: TextIO) -> logging.Handler:
    if "JOURNAL_STREAM" in os.environ:
        handler: logging.Handler = logging.StreamHandler(stream)
        handler.setFormatter(_JournalFormatter("%(message)s"))
        return handler
    if not stream.isatty() and _is_socket(socket_path):
        return Rfc5424SysLogHandler(
            address=socket_path, facility=_FACILITY, appname="relay", procid=os.getpid(), enterprise_id=None
        )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("relay: %(message)s"))
    return handler


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
