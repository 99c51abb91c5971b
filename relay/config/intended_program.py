"""Which program a configuration is for, and which of its tables have no effect on a program.

A configuration can be for both programs: [receiver] is the part of `relay receive`; sources with servers, or
port-forwardings for other programs, are the part of `relay run`. An incomplete part does not count when the other part
exists: [receiver] with a server and no source is for `relay receive`, which hands on to that server. With a source, the
servers are those of `relay run`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, get_args

from relay.config.configuration import Configuration
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
    """The programs that a configuration is for, by its tables."""
    settings = configuration.settings
    delivers = bool(settings.source and settings.remote_logging_server)
    lends = bool(settings.port_forwarding) and not settings.source and not settings.remote_logging_server
    if "receiver" in configuration.document:
        return PROGRAMS if delivers or lends else ("receive",)
    begun = settings.source or settings.port_forwarding or settings.remote_logging_server or configuration.others
    return ("run",) if begun else ("receive",)


def tables_without_effect(configuration: Configuration, program: Program) -> tuple[Mistake, ...]:
    """A warning for each table and key that a program does not read."""
    document = configuration.document
    found: list[tuple[tuple[str | int, ...], str]] = []
    servers = document.get("remote-logging-server", ())
    if program == "run":
        if "receiver" in document:
            found.append((("receiver",), "has no effect on `relay run`; `relay receive` reads it"))
        sentence = "has no effect on `relay run`; `relay receive` reads it"
        indexes = _with("originators", servers)
        found += [(("remote-logging-server", index, "originators"), sentence) for index in indexes]
    if program == "receive":
        sentence = "has no effect on `relay receive`; `relay run` reads it"
        found += [(path, sentence) for path in _tables_of_run(configuration)]
        found += [(("audit", key), sentence) for key in _AUDIT_OF_RUN if key in document.get("audit", {})]
        sentence = "has no effect on `relay receive`, which never asks for a halt"
        keys = ("network-failure-action", "network-failure-timeout") if configuration.settings.handed_on else ()
        found += [(("remote-logging-server", index, key), sentence) for key in keys for index in _with(key, servers)]
    return tuple(Mistake(configuration.locate(path), sentence) for path, sentence in found)


def _with(key: str, tables: Sequence[Mapping[str, object]]) -> list[int]:
    return [index for index, table in enumerate(tables) if key in table]


def _tables_of_run(configuration: Configuration) -> Iterator[tuple[str, int]]:
    """Sources, and the servers and port-forwardings to which nothing is handed on."""
    settings = configuration.settings
    used = [settings.forwarding_of(server) for server in settings.handed_on]
    yield from (("source", index) for index in range(len(settings.source)))
    yield from (("port-forwarding", index) for index, each in enumerate(settings.port_forwarding) if each not in used)
    if not settings.handed_on:
        yield from (("remote-logging-server", index) for index in range(len(settings.remote_logging_server)))


def require_program(configuration: Configuration, program: Program) -> None:
    """ConfigurationError when a configuration is for the other program alone."""
    if program in intended_programs(configuration) or (program == "run" and "receiver" not in configuration.document):
        return  # a configuration with neither part is rejected by `relay run` itself
    names = " and ".join(configuration.files)
    tables = " and ".join(f"[[{key}]]" for key in _OF_RUN if configuration.document.get(key))
    if program == "run":
        also = f" beside {tables}" if tables else ""
        lacks = "cannot forward events with that alone" if tables else "has nothing to forward"
        cause = f"{names} is for `relay receive`: it has [receiver]{also}, and {lacks}"
        remedy = "start `relay receive`, or add both a [[source]] and a [[remote-logging-server]]"
    else:
        holds = (
            "it is the configuration of a router or a Monitoring Agent" if configuration.others else f"it has {tables}"
        )
        cause = f"{names} is for `relay run`: {holds}, and has no [receiver]"
        remedy = "start `relay run`, or add a [receiver] table"
    raise ConfigurationError("configuration", (cause,), remedy)
