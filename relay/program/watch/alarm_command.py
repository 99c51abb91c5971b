"""`[relay] alarm-command`: a program that runs for each alarm that is raised, changes its severity, or is cleared.

It runs without a shell, one alarm after the other, in a thread of its own: nothing else of relay waits for it. It gets
the alarm in environment variables (`environment_of`). A run may take `TIMEOUT_SECONDS`, and then it is killed. While it
runs, `MOST_WAITING` changes wait; beyond that the oldest is dropped. The first failure of several is logged, and that
it works again. relay's end waits for no run.
"""

import contextlib
import functools
import logging
import queue
import threading
from collections.abc import Sequence
from typing import Final, Self

from relay.errors import RelayError
from relay.syslog.rfc5424 import format_timestamp
from relay.system.background.supervision import keep_running
from relay.system.programs import command
from relay.values.alarm import AlarmChange
from relay.values.configuration.settings import RelaySettings
from relay.values.text import escaped, shortened

TIMEOUT_SECONDS: Final = 30.0
MOST_WAITING: Final = 100
_LONGEST_TEXT: Final = 4096

_log = logging.getLogger("relay.watch")


def check_alarm_command(settings: RelaySettings) -> None:
    """ConfigurationError when it cannot be run."""
    command.check_command(settings.alarm_command, "relay.alarm-command", command.ALARM_EXAMPLE)


def environment_of(change: AlarmChange) -> dict[str, str]:
    """The variables in which the command gets an alarm."""
    texts = {
        "RELAY_ALARM": change.alarm.name,
        "RELAY_STATE": "raised" if change.raised else "cleared",
        "RELAY_SEVERITY": change.alarm.severity,
        "RELAY_SUBJECT": change.alarm.about,
        "RELAY_TEXT": shortened(change.alarm.text, _LONGEST_TEXT),
        "RELAY_SINCE": format_timestamp(change.since).decode(),
        "RELAY_AT": format_timestamp(change.at).decode(),
    }
    return {name: escaped(text) for name, text in texts.items()}


class AlarmCommand:
    """Runs the command; an empty one is never run."""

    def __init__(self, words: Sequence[str], *, timeout: float = TIMEOUT_SECONDS) -> None:
        self.words = tuple(words)
        self.dropped = 0
        """Changes that were dropped because too many waited."""
        self._timeout = timeout
        self._waiting: queue.Queue[AlarmChange] = queue.Queue(MOST_WAITING)
        self._severities: dict[tuple[str, str], str] = {}
        """Of the alarms that are raised, as the command was last called."""
        self._thread: threading.Thread | None = None
        self._failed = False

    @classmethod
    def following(cls, settings: RelaySettings, former: Self | None) -> "AlarmCommand":
        """The one for these settings: the former one where it is the same command."""
        if former is not None and former.words == settings.alarm_command:
            return former
        return AlarmCommand(settings.alarm_command)

    def note(self, change: AlarmChange) -> None:
        """Have the command run for a change of an alarm, unless only its text changed; returns at once."""
        key = (change.alarm.name, change.alarm.about)
        former = self._severities.pop(key, "")
        if change.raised:
            self._severities[key] = change.alarm.severity
        worsened = former not in {"", change.alarm.severity}
        if not self.words or not (change.begins or worsened or not change.raised):
            return
        while True:
            try:
                self._waiting.put_nowait(change)
                break
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._waiting.get_nowait()
                    self.dropped += 1
                    if self.dropped == 1:
                        message = "alarm-command: more than %d alarms wait for it; the oldest are dropped"
                        _log.error(message, MOST_WAITING)
        if self._thread is None:
            work = functools.partial(keep_running, "alarm-command", self._work, threading.Event())
            self._thread = threading.Thread(target=work, name="alarm-command", daemon=True)
            self._thread.start()

    def _work(self) -> None:
        while True:
            change = self._waiting.get()
            try:
                command.run(self.words, timeout=self._timeout, environment=environment_of(change))
            except (RelayError, ValueError) as error:  # ValueError: a word that no program can get
                if not self._failed:
                    _log.error("the alarm-command failed: %s", error)
                self._failed = True
            else:
                if self._failed:
                    _log.warning("the alarm-command works again")
                self._failed = False
