"""Which of the host keys that a server offers may be pinned, and why the others may not.

relay fetches each of a server's keys in a handshake of its own, so a person who confirms one has not confirmed the
others: keys are chosen one by one. Nothing here connects, asks or writes.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from relay.errors import PermissionRefusedError, ProtocolError
from relay.transport.ssh.algorithms import ALGORITHMS
from relay.transport.ssh.known_hosts import KnownHosts, KnownKey
from relay.transport.ssh.public_key import PublicKey
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
        """Keys that it shows and no line pins."""
        return tuple(key for key in self.shown if all(line.key != key for line in self._lines))

    @property
    def _lines(self) -> tuple[KnownKey, ...]:
        return self.known_hosts.pinned(*self.server)

    def candidates(self, fingerprints: Iterable[str] = (), *, replace: bool = False) -> tuple[PublicKey, ...]:
        """The keys with those fingerprints that are to be pinned; without fingerprints all that a person may confirm.

        Empty if they are pinned already. ProtocolError if the algorithms allow none of the server's keys;
        PermissionRefusedError for a fingerprint that it does not have, for a revoked key, and for a server that has
        changed its keys, unless they are to be replaced.
        """
        what = f"SSH server {self.server}"
        usable = [key for key in self.shown if key.type in ALGORITHMS[self.algorithms].key_types]
        if not usable:
            cause = f'with algorithms = "{self.algorithms}" none of its host keys can be used: {listed(self.shown)}'
            raise ProtocolError(what, cause, "give the server an ECDSA or RSA host key")
        requested = {_PREFIX + text.removeprefix(_PREFIX).rstrip("=") for text in fingerprints}
        if missing := sorted(requested - {key.fingerprint for key in usable}):
            cause = f"it has no host key {', '.join(missing)}; it has {listed(usable)}"
            remedy = "nothing was pinned: ask the server's administrator; somebody may be intercepting the connection"
            raise PermissionRefusedError(what, cause, remedy)
        if not requested and set(usable) - set(self.new):
            return ()
        chosen = tuple(key for key in usable if key in self.new and (not requested or key.fingerprint in requested))
        for key in chosen:
            self.known_hosts.refuse_revoked(*self.server, key)
        if chosen and self.stale and not replace:
            expected = ", ".join(f"{listed([line.key])} (line {line.line})" for line in self.stale)
            raise PermissionRefusedError(
                what,
                f"its host key has changed: it has {listed(chosen)}, {self.known_hosts.path} expects {expected}",
                "somebody may be intercepting the connection; if the server's administrator confirms the new key, add "
                "--replace",
            )
        return chosen


def listed(keys: Iterable[PublicKey]) -> str:
    """Keys for people: types and fingerprints."""
    return ", ".join(f"{key.type} {key.fingerprint}" for key in keys)
