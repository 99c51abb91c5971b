"""What a configuration that is legal by itself still gets wrong on this machine.

A mistake keeps relay from working as configured; a warning tells what may well be meant, but is worth a look. Files
are looked at as the user who asks, so the check is best run as the user that relay runs as. Nothing is changed, and
nothing is sent.
"""

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from relay.config.check.audit_sources import left_out, one_log_twice, one_trail_twice
from relay.config.configuration import Configuration
from relay.config.intended_program import Program, intended_programs, tables_without_effect
from relay.config.key_path import KeyPath
from relay.config.mistake import Mistake
from relay.errors import ConfigurationError, RelayError
from relay.listener.tls import server_context
from relay.system.command import check_command
from relay.transport.ssh import private_key
from relay.transport.ssh.known_hosts import KnownHosts
from relay.transport.tls.certificate import SOON, certificates, days_left
from relay.transport.tls.client import tls_client
from relay.transport.tls.faults import ANY_PURPOSE, purposes
from relay.values.address import Address
from relay.values.settings import (
    AuditLogSource,
    EventCollectorSource,
    PortForwarding,
    ReceiverSsh,
    ReceiverTls,
    RemoteLoggingServer,
    Settings,
    SourceTable,
)


class CheckFindings(NamedTuple):
    """What a check found."""

    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]


def check(configuration: Configuration, program: Program | None = None) -> CheckFindings:
    """Look at the machine, and at what the settings mean together, for one program or all that the files are for."""
    settings = configuration.settings
    wanted = (program,) if program else intended_programs(configuration)
    found = [*_folder(("relay", "state-directory"), settings.relay.state_directory)]
    warnings: list[_Finding] = []
    if "run" in wanted:
        nothing = list(_nothing_comes_out(configuration))
        found += [
            *_on_disk_of_run(settings),
            *_halt_command(settings),
            *one_log_twice(settings),
            *_without_the_other_end(settings),
            *([] if settings.port_forwarding else nothing),
        ]
        warnings += [
            *(nothing if settings.port_forwarding and configuration.others else []),
            *_missing_logs(settings),
            *left_out(settings),
            *one_trail_twice(settings),
            *_without_a_way(settings),
            *_broken_lines(settings),
        ]
    if "receive" in wanted:
        found += _on_disk_of_receive(settings)
    warnings += [
        (path, sentence)
        for path, sentence in (*_ending_certificates(settings), *_unfit_certificates(settings))
        if ("receive" if path[0] == "receiver" else "run") in wanted
    ]
    return CheckFindings(
        tuple(Mistake(configuration.locate(path), sentence) for path, sentence in found),
        (
            *configuration.warnings,
            *(Mistake(configuration.locate(path), sentence) for path, sentence in warnings),
            *(each for only in wanted if wanted == (only,) for each in tables_without_effect(configuration, only)),
        ),
    )


_Finding = tuple[KeyPath, str]
_AS_RELAY: Final = "run this check as the user that relay runs as"


def _on_disk_of_run(settings: Settings) -> Iterator[_Finding]:
    for index, source in enumerate(settings.source):
        yield from _source(("source", index), source)
    for index, forwarding in enumerate(settings.port_forwarding):
        yield from _forwarding(("port-forwarding", index), forwarding)
    for index, server in enumerate(settings.remote_logging_server):
        yield from _certificates(("remote-logging-server", index), server)


def _on_disk_of_receive(settings: Settings) -> Iterator[_Finding]:
    if settings.receiver.ssh is not None:
        yield from _endpoint(("receiver", "ssh"), settings.receiver.ssh)
    if settings.receiver.tls is not None:
        yield from _tls_listener(("receiver", "tls"), settings.receiver.tls)


def _halt_command(settings: Settings) -> Iterator[_Finding]:
    try:
        check_command(settings.audit.halt_command)
    except ConfigurationError as error:
        yield ("audit", "halt-command"), error.cause


def _source(path: KeyPath, source: SourceTable) -> Iterator[_Finding]:
    if isinstance(source, AuditLogSource):
        yield from _file((*path, "path"), source.path, missing_is_fine=True)
    elif isinstance(source, EventCollectorSource):
        yield from _program((*path, "command"), source.command[0])
        yield from _index((*path, "index-file"), source.index)


def _program(path: KeyPath, name: str) -> Iterator[_Finding]:
    if not Path(name).exists():
        yield path, f"there is no {name}"
    elif not os.access(name, os.X_OK):
        yield path, f"{name} may not be run by this user; {_AS_RELAY}"


def _index(path: KeyPath, index: str) -> Iterator[_Finding]:
    """The index file of a child, if it has one: relay copies it and puts it back, the child writes it."""
    folder = os.path.dirname(index)
    if os.path.exists(index):
        if not os.access(index, os.R_OK | os.W_OK):
            yield path, f"{index} may not be read and written by this user; {_AS_RELAY}"
    elif os.path.exists(folder) and not os.access(folder, os.W_OK | os.X_OK):
        yield path, f"{folder} may not be written by this user, and {index} is to be there; {_AS_RELAY}"


def _forwarding(path: KeyPath, forwarding: PortForwarding) -> Iterator[_Finding]:
    yield from _private_key((*path, "private-key"), forwarding.private_key, forwarding.algorithms)
    yield from _known_hosts((*path, "known-hosts"), forwarding)


def _endpoint(path: KeyPath, ssh: ReceiverSsh) -> Iterator[_Finding]:
    yield from _private_key((*path, "host-key"), ssh.host_key)
    yield from _file((*path, "authorized-keys"), ssh.authorized_keys)


def _folder(path: KeyPath, name: str) -> Iterator[_Finding]:
    folder = Path(name)
    try:
        if folder.exists() and not folder.is_dir():
            yield path, f"{name} is no folder"
    except PermissionError:
        yield path, f"{name} cannot be looked at; {_AS_RELAY}"


def _file(path: KeyPath, name: str, *, missing_is_fine: bool = False) -> Iterator[_Finding]:
    try:
        with Path(name).open("rb"):
            pass
    except FileNotFoundError:
        if not missing_is_fine:
            yield path, f"there is no {name}"
    except PermissionError:
        yield path, f"{name} may not be read by this user; {_AS_RELAY}"
    except OSError as error:
        yield path, f"{name} cannot be read: {error.strerror}"


def _private_key(path: KeyPath, name: str, algorithms: str = "default") -> Iterator[_Finding]:
    try:
        private_key.load(name, algorithms)
    except RelayError as error:
        yield path, str(error)


def _certificates(path: KeyPath, server: RemoteLoggingServer) -> Iterator[_Finding]:
    if server.transport != "tls":
        return
    try:
        tls_client(server)
    except RelayError as error:
        yield (*path, _key_of(error, server.ca, server.private_key)), str(error)


def _tls_listener(path: KeyPath, tls: ReceiverTls) -> Iterator[_Finding]:
    try:
        server_context(tls)
    except RelayError as error:
        yield (*path, _key_of(error, tls.ca, tls.private_key)), str(error)


def _key_of(error: RelayError, ca: str, private_key: str) -> str:
    """The key whose file an error of `relay.transport.tls.certificate` is about."""
    names = {f"certificate {ca}": "ca", f"private key {private_key}": "private-key"}
    return names.get(error.what, "certificate")


def _ending_certificates(settings: Settings) -> Iterator[_Finding]:
    """Certificates that end soon, have ended or have not begun: a warning, since the far end decides."""
    found: dict[KeyPath, str] = {}
    for index, server in enumerate(settings.remote_logging_server):
        for key, name in (("ca", server.ca), ("certificate", server.certificate)):
            found["remote-logging-server", index, key] = name
    if (tls := settings.receiver.tls) is not None:
        found["receiver", "tls", "ca"], found["receiver", "tls", "certificate"] = tls.ca, tls.certificate
    for path, name in found.items():
        if name and (left := _days_left(name)) is not None and left < SOON:
            words = f"ends in {left} days" if left >= 0 else "has ended"
            yield path, f"a certificate of it {words}; have it renewed"


def _unfit_certificates(settings: Settings) -> Iterator[_Finding]:
    """Own certificates that the far end will refuse, as far as that is known here: a warning, since it decides."""
    for index, server in enumerate(settings.remote_logging_server):
        yield from _unfit(("remote-logging-server", index, "certificate"), server.certificate, "clientAuth")
    if (tls := settings.receiver.tls) is not None:
        yield from _unfit(("receiver", "tls", "certificate"), tls.certificate, "serverAuth")


def _unfit(path: KeyPath, source: str, purpose: str) -> Iterator[_Finding]:
    if not source:
        return
    with contextlib.suppress(RelayError):  # reported as a mistake
        own = certificates(source)[0]
        now, begins = dt.datetime.now(dt.UTC), own.not_valid_before_utc
        if begins > now:
            clock = f"this machine's clock says {now:%Y-%m-%dT%H:%M:%SZ}; set it if it is wrong (`timedatectl`)"
            yield path, f"it is not valid before {begins:%Y-%m-%dT%H:%M:%SZ}, and {clock}"
        if (has := purposes(own)) and purpose not in has and ANY_PURPOSE not in has:
            yield path, f"it is for {', '.join(has)} only; have it issued with {purpose} in its extended key usage"


def _days_left(name: str) -> int | None:
    try:
        return min(map(days_left, certificates(name)))
    except RelayError:  # told as a mistake
        return None


def _known_hosts(path: KeyPath, forwarding: PortForwarding) -> Iterator[_Finding]:
    server = Address(forwarding.server_address, forwarding.server_port)
    problems = list(_file(path, forwarding.known_hosts))
    for key, problem in problems:
        made = "" if os.path.lexists(forwarding.known_hosts) else f": `relay key trust {server}` makes it"
        yield key, f"{problem}{made}"
    if problems:
        return
    known = KnownHosts.read(forwarding.known_hosts)
    if not known.pinned(server.host, server.port):
        why = known.why_unpinned(server.host, server.port)
        sentence = f"{known.path} has no host key for {server}{why}; nothing is sent to a server that is not known"
        yield path, f"{sentence}: `relay key trust {server}`"


def _broken_lines(settings: Settings) -> Iterator[_Finding]:
    """Lines of known_hosts that pin and revoke nothing: a warning, since the others hold all the same."""
    for index, forwarding in enumerate(settings.port_forwarding):
        with contextlib.suppress(RelayError):  # reported as a mistake
            for mistake in KnownHosts.read(forwarding.known_hosts).mistakes:
                yield ("port-forwarding", index, "known-hosts"), mistake


def _missing_logs(settings: Settings) -> Iterator[_Finding]:
    for index, source in enumerate(settings.source):
        if not isinstance(source, AuditLogSource):
            continue
        log = Path(source.path)
        try:
            missing = not log.exists()
        except PermissionError:
            continue
        if missing:
            yield ("source", index, "path"), f"there is no {source.path} yet; relay waits for it"


def _without_the_other_end(settings: Settings) -> Iterator[_Finding]:
    """What `relay run` would refuse: events without a server, or a server without events."""
    if settings.source and not settings.remote_logging_server:
        yield ("source",), "there is no [[remote-logging-server]] to deliver its events to"
    if settings.remote_logging_server and not settings.source:
        yield ("remote-logging-server",), "there is no [[source]] whose events could be delivered to it"


def _nothing_comes_out(configuration: Configuration) -> Iterator[_Finding]:
    """A mistake, as for `relay run`, unless port-forwardings for other programs are enough for that."""
    settings = configuration.settings
    if not settings.source and not settings.remote_logging_server:
        files = " and ".join(configuration.others or configuration.files)
        yield (), f"nothing to forward comes out of {files}: no source and no server"


def _without_a_way(settings: Settings) -> Iterator[_Finding]:
    """Servers that no forwarding leads to: legal, and yet it may not be what is meant."""
    for index, server in enumerate(settings.remote_logging_server):
        if settings.forwarding_of(server) is None and server.transport != "tls":
            sentence = (
                "no [[port-forwarding]] has this address and port as its local-address and local-port: it is sent to "
                f"directly, by {server.transport} without encryption"
            )
            yield ("remote-logging-server", index), sentence
