"""Which of the host keys that a server shows may be pinned, and what stands against it.

Each key that a server shows comes from a handshake of its own, so a person who confirms one has said nothing about the
others: what is pinned is chosen key by key. Nothing here connects, asks or writes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from relay.errors import PermissionRefusedError, ProtocolError
from relay.transport.ssh.host_key import KnownHosts, KnownKey
from relay.transport.ssh.public_key import PublicKey
from relay.transport.ssh.transport_layer import ALGORITHMS
from relay.values.address import Address

_PREFIX: Final = "SHA256:"


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedKeys:
    """The keys that a server shows, and the file in which one may be pinned."""

    server: Address
    shown: tuple[PublicKey, ...]
    known_hosts: KnownHosts
    algorithms: str = "default"

    @property
    def pinned(self) -> tuple[KnownKey, ...]:
        """Lines whose key the server shows."""
        return tuple(line for line in self._lines if line.key in self.shown)

    @property
    def stale(self) -> tuple[KnownKey, ...]:
        """Lines whose key it does not show: it has changed its key, or is another server."""
        return tuple(line for line in self._lines if line.key not in self.shown)

    @property
    def new(self) -> tuple[PublicKey, ...]:
        """What it shows and no line pins."""
        return tuple(key for key in self.shown if all(line.key != key for line in self._lines))

    @property
    def _lines(self) -> tuple[KnownKey, ...]:
        return self.known_hosts.pinned(*self.server)

    @property
    def _what(self) -> str:
        return f"SSH server {self.server}"

    def candidates(self, fingerprints: Iterable[str] = (), *, replace: bool = False) -> tuple[PublicKey, ...]:
        """What is to be pinned: the keys with those fingerprints, or without them all that a person may confirm.

        Nothing when that is pinned already. ProtocolError when the algorithms allow none of the server's keys;
        PermissionRefusedError for a fingerprint that it does not have, for a revoked key, and for a server that has
        changed its keys, unless they are to be replaced.
        """
        usable = self._usable()
        wanted = self._named(usable, fingerprints)
        if not wanted and set(usable) - set(self.new):
            return ()
        chosen = tuple(key for key in wanted or usable if key in self.new)
        for key in chosen:
            self.known_hosts.refuse_revoked(*self.server, key)
        if chosen and self.stale and not replace:
            raise self._changed(chosen)
        return chosen

    def _usable(self) -> tuple[PublicKey, ...]:
        usable = tuple(key for key in self.shown if key.type in ALGORITHMS[self.algorithms].key_types)
        if not usable:
            cause = f'with algorithms = "{self.algorithms}" none of its host keys can be used: {listed(self.shown)}'
            raise ProtocolError(self._what, cause, "give the server an ECDSA or RSA host key")
        return usable

    def _named(self, usable: Sequence[PublicKey], fingerprints: Iterable[str]) -> tuple[PublicKey, ...]:
        """The keys with those fingerprints, all of them."""
        wanted = {_PREFIX + text.removeprefix(_PREFIX).rstrip("=") for text in fingerprints}
        if missing := sorted(wanted - {key.fingerprint for key in usable}):
            raise PermissionRefusedError(
                self._what,
                f"it has no host key {', '.join(missing)}; it has {listed(usable)}",
                "nothing was pinned: ask the server's administrator; somebody may be listening in",
            )
        return tuple(key for key in usable if key.fingerprint in wanted)

    def _changed(self, chosen: Iterable[PublicKey]) -> PermissionRefusedError:
        expected = ", ".join(f"{listed([line.key])} (line {line.line})" for line in self.stale)
        return PermissionRefusedError(
            self._what,
            f"its host key has changed: it has {listed(chosen)}, {self.known_hosts.path} expects {expected}",
            "somebody may be listening in; when its administrator has told you of the new key, add --replace",
        )


def listed(keys: Iterable[PublicKey]) -> str:
    """Keys for people: types and fingerprints."""
    return ", ".join(f"{key.type} {key.fingerprint}" for key in keys)
