"""Which program a configuration is for, and which of its tables have no effect on that program.

A configuration can be for both programs: [receiver] is the part of `relay receive`; sources with servers, or
port-forwardings for other programs, are the part of `relay run`. A part that is not complete is not counted when the
other part exists: [receiver] with a server and no source is for `relay receive`.
"""

from collections.abc import Iterator
from typing import Final, Literal, get_args

from relay.config.configuration import Configuration
from relay.config.key_path import KeyPath
from relay.config.mistake import Mistake
from relay.errors import ConfigurationError
from relay.values.event import OPTIONAL_TYPES

Program = Literal["run", "receive"]
PROGRAMS: Final[tuple[Program, ...]] = get_args(Program)
_OF_RUN: Final = ("source", "port-forwarding", "remote-logging-server")
_AUDIT_OF_RUN: Final = (
    *(kind.audit_key for kind in OPTIONAL_TYPES),
    *("disk-full-action", "halt-command", "watch-auditd", "audit-format"),
)
"""Keys of [audit] that `relay receive` does not read."""


def intended_programs(configuration: Configuration) -> tuple[Program, ...]:
    """The programs that a configuration is for, by what it holds."""
    settings = configuration.settings
    delivers = bool(settings.source and settings.remote_logging_server)
    lends = bool(settings.port_forwarding) and not settings.source and not settings.remote_logging_server
    if "receiver" in configuration.document:
        return PROGRAMS if delivers or lends else ("receive",)
    begun = settings.source or settings.port_forwarding or settings.remote_logging_server or configuration.others
    return ("run",) if begun else ("receive",)


def tables_without_effect(configuration: Configuration, program: Program) -> Iterator[Mistake]:
    """The tables and keys that a program does not read, each with its line."""
    for path, sentence in _without_effect(configuration, program):
        yield Mistake(configuration.locate(path), sentence)


def _without_effect(configuration: Configuration, program: Program) -> Iterator[tuple[KeyPath, str]]:
    document = configuration.document
    if program == "run":
        if "receiver" in document:
            yield ("receiver",), "has no effect on `relay run`; `relay receive` reads it"
        return
    for key in _OF_RUN:
        for index in range(len(document.get(key, ()))):
            yield (key, index), "has no effect on `relay receive`, which forwards nothing; `relay run` reads it"
    for key in _AUDIT_OF_RUN:
        if key in document.get("audit", {}):
            yield ("audit", key), "has no effect on `relay receive`; `relay run` reads it"


def require_program(configuration: Configuration, program: Program) -> None:
    """ConfigurationError when a configuration is for the other program alone."""
    if program in intended_programs(configuration) or (program == "run" and "receiver" not in configuration.document):
        return  # what has neither part is reported by `relay run` itself
    names = " and ".join(configuration.files)
    if program == "run":
        has = "has no complete way to forward events" if _parts(configuration) else "has nothing to forward"
        also = f" beside {_parts(configuration)}" if _parts(configuration) else ""
        cause = f"{names} is for `relay receive`: it has [receiver]{also}, and {has}"
        remedy = "start `relay receive`, or add both a [[source]] and a [[remote-logging-server]]"
    else:
        of_a_router = "it is the configuration of a router or a Monitoring Agent"
        has = of_a_router if configuration.others else f"it has {_parts(configuration)}"
        cause = f"{names} is for `relay run`: {has}, and has no [receiver]"
        remedy = "start `relay run`, or add a [receiver] table"
    raise ConfigurationError("configuration", (cause,), remedy)


def _parts(configuration: Configuration) -> str:
    return " and ".join(f"[[{key}]]" for key in _OF_RUN if configuration.document.get(key))
