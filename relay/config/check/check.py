"""Mistakes and warnings of a configuration on this machine.

Files are examined with the rights of the user who runs the check; run it as the user that relay runs as. The check
changes nothing and sends nothing.
"""

from pathlib import Path
from typing import NamedTuple

from relay.config.check.certificates import certificate_warnings
from relay.config.check.files import AS_RELAY, Finding
from relay.config.check.listeners import claimed_twice, listener_warnings, socket_paths
from relay.config.check.modes import mode_mistakes
from relay.config.check.receiver import receiver_mistakes, receiver_warnings
from relay.config.check.router import router_mistakes, router_warnings
from relay.config.check.servers import server_warnings
from relay.config.configuration import Configuration
from relay.config.intended_program import Program, intended_programs, tables_without_effect
from relay.config.mistake import Mistake
from relay.errors import ConfigurationError
from relay.system.programs.command import ALARM_EXAMPLE, check_command


class CheckFindings(NamedTuple):
    """The findings of a check."""

    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]


def check(configuration: Configuration, program: Program | None = None) -> CheckFindings:
    """Check a configuration for one program, or for all programs that it is for."""
    settings = configuration.settings
    programs = (program,) if program else intended_programs(configuration)
    mistakes: list[Finding] = []
    warnings: list[Finding] = []
    state = Path(settings.relay.state_directory)
    try:
        if state.exists() and not state.is_dir():
            mistakes.append((("relay", "state-directory"), f"{state} is not a folder"))
    except PermissionError:
        mistakes.append((("relay", "state-directory"), f"this user is not allowed to access {state}; {AS_RELAY}"))
    try:
        check_command(settings.relay.alarm_command, "relay.alarm-command", ALARM_EXAMPLE)
    except ConfigurationError as error:
        mistakes.append((("relay", "alarm-command"), f"{error.cause}; {error.remedy}"))
    if "run" in programs:
        mistakes += router_mistakes(configuration)
        warnings += router_warnings(configuration)
    if "receive" in programs:
        mistakes += receiver_mistakes(settings)
        warnings += receiver_warnings(settings.receiver)
        warnings += server_warnings(settings) if settings.handed_on else ()
    for each in programs:
        mistakes += (*claimed_twice(settings, each), *socket_paths(settings, each))
        warnings += listener_warnings(settings, each)
    for path, sentence in certificate_warnings(settings):
        is_used = "receive" in programs and (path[0] == "receiver" or settings.handed_on)
        if is_used or ("run" in programs and path[0] != "receiver"):
            warnings.append((path, sentence))
    return CheckFindings(
        (
            *(Mistake(configuration.locate(path), sentence) for path, sentence in mistakes),
            *mode_mistakes(configuration, programs),
        ),
        (
            *configuration.warnings,
            *(Mistake(configuration.locate(path), sentence) for path, sentence in warnings),
            *(tables_without_effect(configuration, programs[0]) if len(programs) == 1 else ()),
        ),
    )
