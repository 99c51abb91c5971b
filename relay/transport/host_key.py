"""Which host key a server must have: the known_hosts file, sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT".

A server is named as the configuration names it: `HOST`, or `[HOST]:PORT` when the port is not 22. Plain, hashed and
wildcard names, `!` and several keys for a host are understood; `@revoked` keys are refused; `@cert-authority` is not
supported, so such a line pins nothing. Nothing is trusted because it is new.
A line that cannot be read is a mistake with its file and number and pins nothing; when it should have revoked a key, no
server is accepted until it is mended.
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final, Self

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.public_key import PublicKey

SSH_PORT: Final = 22
_HASHED: Final = "|1|"  # HMAC-SHA1 of the name, keyed with a salt: `|1|SALT|HASH`, both in base64
_SHA1_LENGTH: Final = 20
_REVOKED: Final = "@revoked"
_AUTHORITY: Final = "@cert-authority"
_FIELDS: Final = 3  # names, key type, key; a comment may follow


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One line that pins or revokes a key."""

    line: int
    names: str
    key: PublicKey
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHosts:
    """What a known_hosts file says."""

    path: str
    keys: tuple[KnownKey, ...] = ()
    mistakes: tuple[str, ...] = ()
    """`FILE line N: …`, one sentence for each line that cannot be used."""
    lost_revocation: str = ""
    """The first of the mistakes that should have revoked a key."""

    @classmethod
    def read(cls, path: str) -> Self:
        """The file's contents, nothing when there is no such file; NoInputError when it cannot be read."""
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return cls(path=path)
        except OSError as error:
            raise NoInputError(path, f"cannot be read ({error.strerror})", "let relay's user read it") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str) -> Self:
        """The contents of a file's text."""
        keys: list[KnownKey] = []
        mistakes: list[str] = []
        lost_revocation = ""
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                keys.append(_known_key(number, line.split()))
            except ValueError as error:
                mistakes.append(f"{path} line {number}: {error}")
                if line.split()[0] == _REVOKED and not lost_revocation:
                    lost_revocation = mistakes[-1]
        return cls(path=path, keys=tuple(keys), mistakes=tuple(mistakes), lost_revocation=lost_revocation)

    def pinned(self, host: str, port: int) -> tuple[KnownKey, ...]:
        """The keys of which the server must have one."""
        return tuple(known for known in self.keys if not known.revoked and _matches(known.names, host, port))

    def verify(self, host: str, port: int, key: PublicKey) -> None:
        """Return when the server's key is one that it must have.

        Else PermissionRefusedError, and nothing may be sent.
        """
        self.refuse_revoked(host, port, key)
        what = f"SSH server {_name(host, port)}"
        shown = f"{key.type} {key.fingerprint}"
        pinned = self.pinned(host, port)
        if not pinned:
            raise PermissionRefusedError(
                what,
                f"its host key {shown} is not known: {self.path} has none for it{self._hint()}",
                f"compare the fingerprint with the server's own, then `relay key trust {quote(_address(host, port))}`",
            )
        if all(known.key != key for known in pinned):
            expected = ", ".join(f"{known.key.type} {known.key.fingerprint} (line {known.line})" for known in pinned)
            raise PermissionRefusedError(
                what,
                f"its host key has changed: it shows {shown}, {self.path} expects {expected}",
                "somebody may be listening in; only when the new key is known to be right, "
                f"`relay key trust --replace {quote(_address(host, port))}`",
            )

    def refuse_revoked(self, host: str, port: int, key: PublicKey) -> None:
        """PermissionRefusedError for a key that is revoked for the server, or may be by a line that is unreadable."""
        what = f"SSH server {_name(host, port)}"
        if self.lost_revocation:
            raise PermissionRefusedError(what, f"a revoked key is unreadable: {self.lost_revocation}", "mend that line")
        for known in self.keys:
            if known.revoked and known.key == key and _matches(known.names, host, port):
                raise PermissionRefusedError(
                    what,
                    f"its host key {key.type} {key.fingerprint} is revoked by {self.path} line {known.line}",
                    "give the server a new key",
                )

    def _hint(self) -> str:
        return f" ({'; '.join(self.mistakes)})" if self.mistakes else ""


def known_hosts_line(host: str, port: int, key: PublicKey) -> str:
    """The line, without its line end, that pins a server's key."""
    return f"{_name(host, port)} {key.text}"


def names_without(names: str, host: str, port: int) -> str | None:
    """A line's names but the server's own; "" when none is left, None when a wildcard among the rest covers it."""
    name = _name(host, port)
    rest = ",".join(given for given in _split(names) if _is_wildcard(given) or not _covers(given, name))
    return None if rest and _matches(rest, host, port) else rest


def _is_wildcard(pattern: str) -> bool:
    return not pattern.startswith(_HASHED) and any(mark in pattern for mark in "*?!")


def _name(host: str, port: int) -> str:
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def _address(host: str, port: int) -> str:
    """HOST[:PORT] as relay's own command line takes it."""
    if port == SSH_PORT:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _known_key(number: int, fields: list[str]) -> KnownKey:
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker == _AUTHORITY:
        raise ValueError(f"{_AUTHORITY} is not supported; pin the server's own key")
    if marker not in {"", _REVOKED}:
        raise ValueError(f"the marker {marker} is unknown")
    if len(fields) < _FIELDS:
        raise ValueError("a line has names, a key type and a key")
    names, key_type, encoded = fields[:_FIELDS]
    for name in _split(names):
        if name.startswith(_HASHED):
            _salt_and_hash(name)
    return KnownKey(line=number, names=names, key=PublicKey.from_text(key_type, encoded), revoked=bool(marker))


def _split(names: str) -> Iterator[str]:
    return (name for name in names.split(",") if name)


def _matches(names: str, host: str, port: int) -> bool:
    """Whether a line's names cover the server; one name with `!` that covers it outweighs all others."""
    covered = False
    for name in _split(names):
        if _covers(name.removeprefix("!"), _name(host, port)):
            if name.startswith("!"):
                return False
            covered = True
    return covered


def _covers(pattern: str, name: str) -> bool:
    if pattern.startswith(_HASHED):
        salt, expected = _salt_and_hash(pattern)
        return hmac.compare_digest(hmac.digest(salt, name.encode("utf-8"), hashlib.sha1), expected)
    wildcards = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(wildcards, name) is not None


def _salt_and_hash(name: str) -> tuple[bytes, bytes]:
    salt, separator, digest = name.removeprefix(_HASHED).partition("|")
    try:
        decoded = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except binascii.Error:
        raise ValueError("the hashed name is damaged") from None
    if not separator or [len(part) for part in decoded] != [_SHA1_LENGTH, _SHA1_LENGTH]:
        raise ValueError("the hashed name is damaged")
    return decoded
