"""What a configuration that is legal by itself still gets wrong on this machine.

A mistake keeps relay from working as configured; a warning tells what may well be meant, but is worth a look. Files
are looked at as the user who asks, so the check is best run as the user that relay runs as. Nothing is changed, and
nothing is sent.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from relay.config.lines import KeyPath
from relay.config.mistake import Mistake
from relay.config.toml import Configuration
from relay.errors import ConfigurationError, RelayError
from relay.quantity import Address
from relay.settings import PortForwarding, ReceiverSsh, Settings
from relay.transport import private_key
from relay.transport.host_key import KnownHosts
from relay.watch.halt import check_command


class Findings(NamedTuple):
    """What a check found."""

    mistakes: tuple[Mistake, ...]
    warnings: tuple[Mistake, ...]


def check(configuration: Configuration) -> Findings:
    """Look at the machine, and at what the settings mean together."""
    settings = configuration.settings
    found = [*_on_disk(settings), *_halt_command(settings), *_without_a_way(settings)]
    warnings = list(_missing_logs(settings))
    return Findings(
        tuple(Mistake(configuration.place(path), sentence) for path, sentence in found),
        tuple(Mistake(configuration.place(path), sentence) for path, sentence in warnings),
    )


_Finding = tuple[KeyPath, str]


def _on_disk(settings: Settings) -> Iterator[_Finding]:
    yield from _folder(("relay", "state-directory"), settings.relay.state_directory)
    for index, source in enumerate(settings.source):
        yield from _file(("source", index, "path"), source.path, missing_is_fine=True)
    for index, forwarding in enumerate(settings.port_forwarding):
        yield from _forwarding(("port-forwarding", index), forwarding)
    if settings.receiver.ssh is not None:
        yield from _endpoint(("receiver", "ssh"), settings.receiver.ssh)


def _halt_command(settings: Settings) -> Iterator[_Finding]:
    try:
        check_command(settings.audit.halt_command)
    except ConfigurationError as error:
        yield ("audit", "halt-command"), error.cause


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
        yield path, f"{name} cannot be looked at; run this check as the user that relay runs as"


def _file(path: KeyPath, name: str, *, missing_is_fine: bool = False) -> Iterator[_Finding]:
    try:
        with Path(name).open("rb"):
            pass
    except FileNotFoundError:
        if not missing_is_fine:
            yield path, f"there is no {name}"
    except PermissionError:
        yield path, f"{name} may not be read by this user; run this check as the user that relay runs as"
    except OSError as error:
        yield path, f"{name} cannot be read: {error.strerror}"


def _private_key(path: KeyPath, name: str, algorithms: str = "default") -> Iterator[_Finding]:
    try:
        private_key.load(name, algorithms)
    except RelayError as error:
        yield path, str(error)


def _known_hosts(path: KeyPath, forwarding: PortForwarding) -> Iterator[_Finding]:
    problems = list(_file(path, forwarding.known_hosts))
    yield from problems
    if problems:
        return
    known = KnownHosts.read(forwarding.known_hosts)
    server = Address(forwarding.server_address, forwarding.server_port)
    for mistake in known.mistakes:
        yield path, mistake
    if not known.pinned(server.host, server.port):
        yield path, f"{known.path} has no host key for {server}; nothing would be sent to a server that is not known"


def _missing_logs(settings: Settings) -> Iterator[_Finding]:
    for index, source in enumerate(settings.source):
        log = Path(source.path)
        try:
            missing = not log.exists()
        except PermissionError:
            continue
        if missing:
            yield ("source", index, "path"), f"there is no {source.path} yet; relay waits for it"


def _without_a_way(settings: Settings) -> Iterator[_Finding]:
    """What `relay run` would refuse: events without a server, servers without a forwarding."""
    if settings.source and not settings.remote_logging_server:
        yield ("source",), "there is no [[remote-logging-server]] to deliver its events to"
    for index, server in enumerate(settings.remote_logging_server):
        if settings.forwarding_of(server) is None:
            sentence = (
                "no [[port-forwarding]] has this address and port as its local-address and local-port, and this "
                "version of relay has no other way"
            )
            yield ("remote-logging-server", index), sentence
