"""Which host key a server must have: the known_hosts file, sshd(8) "SSH_KNOWN_HOSTS FILE FORMAT".

A server is named as the configuration names it: `HOST`, or `[HOST]:PORT` when the port is not 22. Plain, hashed and
wildcard names, `!` and several keys for a host are understood. A `@revoked` line refuses its key on the hosts that it
names. Nothing is trusted because it is new.

As in OpenSSH, a line that cannot be used affects no other line: it pins nothing and revokes nothing. Two kinds exist:

- Broken lines are mistakes with their file and number, for `relay config check`.
- Lines that OpenSSH uses and relay does not (a key type that relay never accepts, `@cert-authority`) are skipped. They
  are named only where they cover a server that no other line pins.

Unlike OpenSSH, a name without a port never covers a server on another port than 22; the error names that line.
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
from relay.transport.ssh.public_key import TYPES, PublicKey

SSH_PORT: Final = 22
_HASHED: Final = "|1|"  # HMAC-SHA1 of the name, keyed with a salt: `|1|SALT|HASH`, both in base64
_SHA1_LENGTH: Final = 20
_REVOKED: Final = "@revoked"
_AUTHORITY: Final = "@cert-authority"
_FIELDS: Final = 3  # names, key type, key; a comment may follow
_SHOWN: Final = 5  # lines that an error names


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One line that pins or revokes a key."""

    line: int
    names: str
    key: PublicKey
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedLine:
    """One line that is right for OpenSSH, and that relay does not use."""

    line: int
    names: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHosts:
    """What a known_hosts file says."""

    path: str
    keys: tuple[KnownKey, ...] = ()
    skipped: tuple[SkippedLine, ...] = ()
    mistakes: tuple[str, ...] = ()
    """`FILE line N: …`, one sentence for each broken line."""

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
        skipped: list[SkippedLine] = []
        mistakes: list[str] = []
        for number, line in enumerate(text.split("\n"), 1):  # not splitlines: a comment may hold other line breaks
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                found = _read(number, line.split())
            except ValueError as error:
                nothing = "; so it revokes no key" if line.split()[0] == _REVOKED else ""
                mistakes.append(f"{path} line {number}: {error}{nothing}")
                continue
            if isinstance(found, KnownKey):
                keys.append(found)
            else:
                skipped.append(found)
        return cls(path=path, keys=tuple(keys), skipped=tuple(skipped), mistakes=tuple(mistakes))

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
            address = _address(host, port)
            command = f"`relay key trust {quote(address)}`"
            raise PermissionRefusedError(
                what,
                f"its host key {shown} is not known: {self.path} has none for it{self.why_unpinned(host, port, key)}",
                f"compare the fingerprint with the server's own, then {command} adds it to that file",
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
        """PermissionRefusedError for a key that is revoked for the server."""
        for known in self.keys:
            if known.revoked and known.key == key and _matches(known.names, host, port):
                raise PermissionRefusedError(
                    f"SSH server {_name(host, port)}",
                    f"its host key {key.type} {key.fingerprint} is revoked by {self.path} line {known.line}",
                    "give the server a new key",
                )

    def why_unpinned(self, host: str, port: int, key: PublicKey | None = None) -> str:
        """The lines that may be meant for a server that no line pins, in parentheses; "" when there is none.

        With the key that the server shows, lines that have it for other names are among them.
        """
        found: list[str] = []
        for known in self.keys:
            if known.revoked:
                continue
            if port != SSH_PORT and _matches(known.names, host, SSH_PORT):
                found.append(f"line {known.line} names {host} without a port, which means port {SSH_PORT} alone")
            elif other := _with_another_port(known.names, host):
                found.append(f"line {known.line} names another port, {other}")
            elif known.key == key:
                names = "a hashed name" if known.names.startswith(_HASHED) else known.names
                found.append(f"line {known.line} has this very key for {names}")
        found += [f"line {line.line}: {line.cause}" for line in self.skipped if _matches(line.names, host, port)]
        found += self.mistakes
        return f" ({'; '.join(found[:_SHOWN])}{'; …' if len(found) > _SHOWN else ''})" if found else ""


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


def _read(number: int, fields: list[str]) -> KnownKey | SkippedLine:
    """One line's meaning; ValueError when it is broken."""
    marker = fields.pop(0) if fields[0].startswith("@") else ""
    if marker not in {"", _REVOKED, _AUTHORITY}:
        raise ValueError(f"the marker {marker} is unknown")
    if len(fields) < _FIELDS:
        raise ValueError("a line has names, a key type and a key")
    names, key_type, encoded = fields[:_FIELDS]
    for name in _split(names):
        if name.startswith(_HASHED):
            _salt_and_hash(name)
    if marker == _AUTHORITY:
        return SkippedLine(line=number, names=names, cause=f"relay does not support {_AUTHORITY}")
    if key_type not in TYPES:
        return SkippedLine(line=number, names=names, cause=f"relay does not support keys of type {key_type}")
    return KnownKey(line=number, names=names, key=PublicKey.from_text(key_type, encoded), revoked=bool(marker))


def _with_another_port(names: str, host: str) -> str:
    """The first of a line's names that is this host with a port; "" without one."""
    return next((name for name in _split(names) if name.lower().startswith(f"[{host.lower()}]:")), "")


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
