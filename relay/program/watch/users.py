"""A message to all users of this machine, on their terminals and, where it must not be missed, at every login.

Every text is fixed and stands here: nothing that came from outside reaches a terminal, only the alarm's name chooses
the text. None is longer than the 79 columns after which `wall` breaks lines. Only root may write to the terminals of
others (wall(1) of util-linux). So root runs `wall`, and relay's own user makes a file `/run/relay/message.NAME`, which
a unit of root's (deploy/relay-message.path) waits for: it has the same texts, takes the file away and runs `wall`.
Whether anybody was logged in, and read it, is not known here.

The messages of the alarms in `LASTING` are told again by `remind`, and stand in the login message (pam_motd(8)) for as
long as the alarm does.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from relay.errors import RelayError, UnavailableError
from relay.program.watch import request
from relay.system import command
from relay.system.disk import Disk
from relay.values.alarm import (
    AUDITD_DOWN,
    DISK_FAILING,
    DISK_SPACE_LEFT,
    HALT_ASKED,
    NETWORK_FAILURE,
    SPOOL_FULL,
    SPOOL_IGNORING,
    SPOOL_ROTATING,
    AlarmChange,
)

_log = logging.getLogger("relay.watch")

REQUEST: Final = "/run/relay/message"
LOGIN_MESSAGE: Final = "/run/motd.d/relay"
CLEARED: Final = "-cleared"
UNWATCHED: Final = "-unwatched"
"""The end of an alarm of which nobody can say that it is over."""
NETWORK_HALT: Final = "halt-asked-network"
"""The message about a halt that a lost server is the reason for."""
LASTING: Final = frozenset({AUDITD_DOWN})
_PATIENCE: Final = 10.0

TEXTS: Final = MappingProxyType(
    {
        DISK_SPACE_LEFT: "relay: little room is left for the audit trail (see: relay status)",
        DISK_SPACE_LEFT + CLEARED: "relay: there is enough room for the audit trail again",
        SPOOL_FULL: "relay: no space for the audit trail, its sources wait (see: relay status)",
        SPOOL_FULL + CLEARED: "relay: there is space for the audit trail again",
        SPOOL_IGNORING: "relay: no space for the audit trail, NEW EVENTS ARE LOST (see: relay status)",
        SPOOL_IGNORING + CLEARED: "relay: no more new events of the audit trail are lost",
        SPOOL_ROTATING: "relay: no space for the audit trail, OLD EVENTS ARE LOST (see: relay status)",
        SPOOL_ROTATING + CLEARED: "relay: no more old events of the audit trail are lost",
        DISK_FAILING: "relay: the disk fails, no audit trail is stored (see: relay status)",
        DISK_FAILING + CLEARED: "relay: the disk of the audit trail works again",
        NETWORK_FAILURE: "relay: a log server is lost for too long (see: relay status)",
        NETWORK_FAILURE + CLEARED: "relay: the log server gets the audit trail again",
        AUDITD_DOWN: "relay: AUDITD DOES NOT WORK, no audit trail comes in (see: relay status)",
        AUDITD_DOWN + CLEARED: "relay: auditd works again",
        AUDITD_DOWN + UNWATCHED: "relay: whether auditd works is not watched any more",
        HALT_ASKED: "relay: no space for the audit trail, THIS MACHINE IS ABOUT TO HALT",
        NETWORK_HALT: "relay: a log server is lost for too long, THIS MACHINE IS ABOUT TO HALT",
    }
)
"""Every message by its name; an alarm that is not named here is no matter for all users."""


class AllUsers:
    """The way to all users."""

    def __init__(self, disk: Disk, path: str = REQUEST, login_message: str = LOGIN_MESSAGE) -> None:
        self._disk = disk
        self._path = path
        self._login_message = Path(login_message)
        self._failed = False

    def tell_change(self, change: AlarmChange) -> None:
        """Tell that an alarm begins or ended; that only its text changed is not told."""
        if change.begins or not change.raised:
            self.tell(change.alarm.name + ("" if change.raised else CLEARED))

    def remind(self, active: Iterable[AlarmChange]) -> None:
        """Tell again those that last; to be called once a minute."""
        for name in sorted({change.alarm.name for change in active} & LASTING):
            self.tell(name)

    def tell(self, name: str) -> None:
        """Send the message of that name, if there is one; never an error, but a line in the log for the first.

        Takes as long as `wall` does, up to 10 s: not for the event loop's thread.
        """
        if name not in TEXTS:
            return
        try:
            self._send(name)
        except RelayError as error:
            if not self._failed:
                _log.error("a message to all users could not be sent: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _send(self, name: str) -> None:
        # Without root's rights wall(1) ends well and has written to nobody's terminal but its user's own.
        if os.geteuid() == 0:
            try:
                self._say_at_login(name)
            finally:
                command.run(["wall"], patience=_PATIENCE, said=TEXTS[name] + "\n")
        else:
            request.leave(self._disk, f"{self._path}.{name}")

    def _say_at_login(self, name: str) -> None:
        try:
            if name in LASTING:
                self._login_message.parent.mkdir(parents=True, exist_ok=True)
                self._login_message.write_text(TEXTS[name] + "\n", encoding="ascii")
                self._login_message.chmod(0o644)  # pam_motd(8) reads it as the user who logs in
            elif name.removesuffix(CLEARED).removesuffix(UNWATCHED) in LASTING:
                self._login_message.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(str(self._login_message), f"cannot be written: {error.strerror}") from error
