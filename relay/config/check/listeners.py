"""Where a program listens: addresses that two listeners claim, ports that need a right, and paths of Unix sockets."""

import logging
import os
import stat
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final, NamedTuple

from relay.config.check.files import Finding
from relay.config.intended_program import Program
from relay.config.key_path import KeyPath, key_text
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.configuration.settings import Settings
from relay.values.configuration.source_settings import AuditdRemoteSource, SyslogSource

_FIRST_FREE_PORT: Final = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
_STATUS: Final = Path("/proc/self/status")
_OPEN: Final = (
    "everybody on the way can read and change what is sent, and any sender can use any name; let senders that can use "
    "TLS or SSH, and let a firewall admit only the others"
)
_NET_BIND_SERVICE: Final = 1 << 10  # capabilities(7)

_log = logging.getLogger("relay")


class Claim(NamedTuple):
    """What a key of the configuration claims for a listener."""

    path: KeyPath
    url: ListenerUrl

    def collides(self, other: "Claim") -> bool:
        """Whether both cannot listen at the same time."""
        mine, theirs = self.url, other.url
        if mine.path or theirs.path:
            return mine.path == theirs.path
        if mine.scheme != theirs.scheme or mine.address.port != theirs.address.port or not mine.address.port:
            return False
        hosts = mine.address.host.lower(), theirs.address.host.lower()
        first, second = (ip_address("127.0.0.1") if host == "localhost" else _ip(host) for host in hosts)
        if first is None or second is None:
            return hosts[0] == hosts[1]
        same_family = first.version == second.version  # an address of all interfaces means every one of its family
        return first == second or (same_family and (first.is_unspecified or second.is_unspecified))


def claims_of(settings: Settings, program: Program) -> Iterator[Claim]:
    """Everything that a program listens on."""
    if settings.metrics is not None:
        yield Claim(("metrics", "listen"), ListenerUrl("tcp", settings.metrics.listen))
    if program == "receive":
        receiver = settings.receiver
        yield from (Claim(("receiver", "listen", number), url) for number, url in enumerate(receiver.listen))
        for name, table in (("ssh", receiver.ssh), ("tls", receiver.tls)):
            if table is not None:
                yield Claim(("receiver", name, "listen"), ListenerUrl("tcp", table.listen))
        return
    for index, source in enumerate(settings.source):
        if isinstance(source, AuditdRemoteSource | SyslogSource):
            for number, url in enumerate(source.listen):
                yield Claim(("source", index, "listen", number), url)
        if isinstance(source, SyslogSource) and source.tls is not None:
            yield Claim(("source", index, "tls", "listen"), ListenerUrl("tcp", source.tls.listen))
    yield from local_ends(settings)


def local_ends(settings: Settings) -> Iterator[Claim]:
    """Where port-forwardings listen for other programs."""
    for index, forwarding in enumerate(settings.port_forwarding):
        if forwarding.local_listener:
            path = forwarding.local_socket
            url = ListenerUrl("unix", path=path) if path else ListenerUrl("tcp", forwarding.local)
            yield Claim(("port-forwarding", index, "local-socket" if path else "local-port"), url)


def claimed_twice(settings: Settings, program: Program) -> Iterator[Finding]:
    """Listeners of which only the first could listen."""
    claims: list[Claim] = []
    for claim in claims_of(settings, program):
        if (first := next((each for each in claims if claim.collides(each)), None)) is not None:
            yield claim.path, f"{claim.url} is taken by {key_text(first.path)} already; choose another one"
        claims.append(claim)


def socket_paths(settings: Settings, program: Program) -> Iterator[Finding]:
    """Paths of Unix sockets where another file is."""
    for claim in claims_of(settings, program):
        if not claim.url.path:
            continue
        try:
            mode = os.lstat(claim.url.path).st_mode
        except OSError:
            continue
        if not stat.S_ISSOCK(mode):
            yield claim.path, f"{claim.url.path} exists and is not a socket; choose another path, or remove it"


def open_listeners(settings: Settings, program: Program) -> list[Claim]:
    """Those that other machines can reach, and that verify and encrypt nothing."""
    receiver = settings.receiver
    unused = () if program == "run" else [str(url) for url in receiver.listen if not receiver.is_open_to(str(url))]
    return [
        claim
        for claim in claims_of(settings, program)
        if claim.url.is_beyond_loopback and not {"ssh", "tls"}.intersection(claim.path) and str(claim.url) not in unused
    ]


def warn_of_open_listeners(settings: Settings, program: Program) -> None:
    """Log them in one line, at the start of a program."""
    if claims := open_listeners(settings, program):
        urls = ", ".join(str(claim.url) for claim in claims)
        _log.warning("listens beyond this machine without TLS or SSH: %s; %s", urls, _OPEN)


def listener_warnings(settings: Settings, program: Program) -> Iterator[Finding]:
    """Open listeners, ports for which this user has no right, and folders that do not exist yet."""
    for claim in open_listeners(settings, program):
        yield claim.path, f"{claim.url} is reached by other machines without TLS or SSH: {_OPEN}"
    claims = list(claims_of(settings, program))
    first_free = int(_FIRST_FREE_PORT.read_text())
    low = [claim for claim in claims if 0 < claim.url.address.port < first_free]
    for claim in low if not _may_bind_low_ports() else ():
        cause = f"port {claim.url.address.port} needs CAP_NET_BIND_SERVICE, which this user does not have"
        unit = (
            "relay-receive.service grants it"
            if program == "receive"
            else "add it to relay.service, as its comment says"
        )
        yield claim.path, f"{cause}; {unit}"
    for claim in claims:
        folder = os.path.dirname(claim.url.path)
        if folder and not os.path.isdir(folder):
            yield claim.path, f"{folder} does not exist yet; relay cannot listen there before it exists"


def _may_bind_low_ports() -> bool:
    """Whether this process has CAP_NET_BIND_SERVICE, by proc(5)."""
    effective = next(line for line in _STATUS.read_text().splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) & _NET_BIND_SERVICE)


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(host)
    except ValueError:
        return None
