"""A message to all users of this machine: on their terminals and, where nobody may miss it, at every login.

Every text is fixed and written here; an alarm's name only chooses one, so that nothing from outside reaches a terminal.
No text is longer than the 79 columns after which `wall` breaks lines. Only root may write to other users' terminals
(wall(1) of util-linux). So root runs `wall`, and relay's own user creates a file `/run/relay/message.NAME`, which one
of root's units waits for (deploy/relay-message.path): it has the same texts, deletes the file and runs `wall`. relay
does not know whether anybody was logged in and read it.

The messages of the alarms in `LASTING` are repeated by `remind`, and are part of the login message (pam_motd(8)) as
long as the alarm is raised.
"""

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from types import MappingProxyType
from typing import Final

from relay.errors import RelayError, UnavailableError
from relay.program.watch.root_request import leave_root_request
from relay.system.disk import Disk
from relay.system.programs import command
from relay.system.programs.child_rights import EVERY_TERMINAL
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
"""For an alarm that ends because its condition is no longer watched."""
NETWORK_HALT: Final = "halt-asked-network"
"""The message about a halt because of a lost server."""
LASTING: Final = frozenset({AUDITD_DOWN})
_TIMEOUT_S: Final = 10.0

TEXTS: Final = MappingProxyType(
    {
        DISK_SPACE_LEFT: "relay: space for the audit trail is running low (see: relay status)",
        DISK_SPACE_LEFT + CLEARED: "relay: there is enough space for the audit trail again",
        SPOOL_FULL: "relay: no space for the audit trail, its sources wait (see: relay status)",
        SPOOL_FULL + CLEARED: "relay: there is space for the audit trail again",
        SPOOL_IGNORING: "relay: no space for the audit trail, NEW EVENTS ARE LOST (see: relay status)",
        SPOOL_IGNORING + CLEARED: "relay: new events of the audit trail are no longer lost",
        SPOOL_ROTATING: "relay: no space for the audit trail, OLD EVENTS ARE LOST (see: relay status)",
        SPOOL_ROTATING + CLEARED: "relay: old events of the audit trail are no longer lost",
        DISK_FAILING: "relay: the disk fails, the audit trail is not stored (see: relay status)",
        DISK_FAILING + CLEARED: "relay: the disk works again, the audit trail is stored",
        NETWORK_FAILURE: "relay: a log server received nothing for too long (see: relay status)",
        NETWORK_FAILURE + CLEARED: "relay: the log server receives the audit trail again",
        AUDITD_DOWN: "relay: AUDITD DOES NOT WORK, no audit records arrive (see: relay status)",
        AUDITD_DOWN + CLEARED: "relay: auditd works again",
        AUDITD_DOWN + UNWATCHED: "relay: auditd is no longer watched, it may not work",
        HALT_ASKED: "relay: no space for the audit trail, THIS MACHINE IS ABOUT TO HALT",
        NETWORK_HALT: "relay: a log server received nothing for long, THIS MACHINE IS ABOUT TO HALT",
    }
)
"""Every message by its name; other alarms do not concern all users."""


class AllUsers:
    """Sends messages to all users."""

    def __init__(self, disk: Disk, path: str = REQUEST, login_message: str = LOGIN_MESSAGE) -> None:
        self._disk = disk
        self._path = path
        self._login_message = Path(login_message)
        self._failed = False

    def send_change(self, change: AlarmChange) -> None:
        """Send that an alarm begins or has ended; not that only its text has changed."""
        if change.begins or not change.raised:
            self.send(change.alarm.name + ("" if change.raised else CLEARED))

    def remind(self, active: Iterable[AlarmChange]) -> None:
        """Repeat the messages of `LASTING`; to be called once a minute."""
        for name in sorted({change.alarm.name for change in active} & LASTING):
            self.send(name)

    def send(self, name: str) -> None:
        """Send the message of that name, if there is one. The first of several failures is logged, none is raised.

        Takes as long as `wall` does, up to 10 s: not for the event loop's thread.
        """
        if name not in TEXTS:
            return
        try:
            # Without root's rights wall(1) exits 0 although it has written to its own user's terminals only.
            if os.geteuid() == 0:
                try:
                    self._change_login_message(name)
                finally:
                    command.run(["wall"], timeout=_TIMEOUT_S, stdin=TEXTS[name] + "\n", rights=EVERY_TERMINAL)
            else:
                leave_root_request(self._disk, f"{self._path}.{name}")
        except RelayError as error:
            if not self._failed:
                _log.error("a message to all users could not be sent: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _change_login_message(self, name: str) -> None:
        try:
            if name in LASTING:
                self._login_message.parent.mkdir(parents=True, exist_ok=True)
                self._login_message.write_text(TEXTS[name] + "\n", encoding="ascii")
                self._login_message.chmod(0o644)  # pam_motd(8) reads it as the user who logs in
            elif name.removesuffix(CLEARED).removesuffix(UNWATCHED) in LASTING:
                self._login_message.unlink(missing_ok=True)
        except OSError as error:
            raise UnavailableError(str(self._login_message), f"cannot be written: {error.strerror}") from error
