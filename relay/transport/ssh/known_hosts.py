"""The known_hosts file: which host key a server must have. sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

A server has the name that the configuration gives it: `HOST`, or `[HOST]:PORT` when the port is not 22. relay supports
plain, hashed and wildcard names, `!`, and several keys for a host. A `@revoked` line rejects its key for the hosts that
it names. No key is trusted because it is new.

As in OpenSSH, an unusable line pins nothing, revokes nothing and affects no other line. There are two kinds:

- Broken lines are mistakes with their file and number, for `relay config check`.
- Lines that OpenSSH uses and relay does not (a key type that relay never accepts, `@cert-authority`) are skipped. An
  error names them only if they cover a server that no other line pins.

Unlike OpenSSH, a name without a port covers a server on port 22 only; the error names such a line.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import Final, Self

from relay.errors import CannotCreateError, NoInputError, PermissionRefusedError
from relay.system.disk import Disk
from relay.system.files.strict_modes import require_strict_modes
from relay.transport.ssh.key_lines import key_lines, split_field, without_line_breaks
from relay.transport.ssh.public_key import TYPES, PublicKey
from relay.values.address import Address
from relay.values.glob_matcher import host_pattern_matcher
from relay.values.text import excerpt

SSH_PORT: Final = 22
_HASHED: Final = "|1|"  # HMAC-SHA1 of the name, keyed with a salt: `|1|SALT|HASH`, both in base64
_SHA1_LENGTH: Final = 20
_REVOKED: Final = "@revoked"
_AUTHORITY: Final = "@cert-authority"
_MOST_LINES: Final = 5  # in one error
_NEW_MODE: Final = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownKey:
    """One line that pins or revokes a key."""

    line: int
    names: str
    key: PublicKey
    revoked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SkippedLine:
    """One line that OpenSSH uses and relay does not."""

    line: int
    names: str
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHosts:
    """The contents of a known_hosts file."""

    path: str
    keys: tuple[KnownKey, ...] = ()
    skipped: tuple[SkippedLine, ...] = ()
    mistakes: tuple[str, ...] = ()  # `FILE line N: …`, one sentence for each broken line

    @classmethod
    def read(cls, path: str) -> Self:
        """The file's contents, empty if there is no such file; NoInputError if it cannot be read.

        PermissionRefusedError if other users can change it.
        """
        require_strict_modes(f"known hosts {path}", path)
        try:
            text = Path(path).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return cls(path=path)
        except OSError as error:
            raise NoInputError(path, f"cannot be read ({error.strerror})", "let relay's user read it") from error
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str) -> Self:
        """The contents of a file with that text."""
        keys: list[KnownKey] = []
        skipped: list[SkippedLine] = []
        mistakes: list[str] = []
        for number, line in key_lines(text):
            try:
                parsed = _parse_line(number, line)
            except ValueError as error:
                revokes = "; so it revokes no key" if split_field(line)[0] == _REVOKED else ""
                mistakes.append(f"{path} line {number}: {error}{revokes}")
                continue
            if isinstance(parsed, KnownKey):
                keys.append(parsed)
            else:
                skipped.append(parsed)
        return cls(path=path, keys=tuple(keys), skipped=tuple(skipped), mistakes=tuple(mistakes))

    def pinned(self, host: str, port: int) -> tuple[KnownKey, ...]:
        """The keys of which the server must have one."""
        return tuple(known for known in self.keys if not known.revoked and _matches(known.names, host, port))

    def verify(self, host: str, port: int, key: PublicKey) -> None:
        """Return if the server's key is pinned; else PermissionRefusedError, and nothing must be sent."""
        self.refuse_revoked(host, port, key)
        what = f"SSH server {_name(host, port)}"
        shown = f"{key.type} {key.fingerprint}"
        address = quote(host if port == SSH_PORT else str(Address(host, port)))
        pinned = self.pinned(host, port)
        if not pinned:
            raise PermissionRefusedError(
                what,
                f"its host key {shown} is unknown: {self.path} has no key for it{self.why_unpinned(host, port, key)}",
                f"compare the fingerprint with the server's own, then add the key: `relay key trust {address}`",
            )
        if all(known.key != key for known in pinned):
            expected = ", ".join(f"{known.key.type} {known.key.fingerprint} (line {known.line})" for known in pinned)
            raise PermissionRefusedError(
                what,
                f"its host key has changed: it shows {shown}, {self.path} expects {expected}",
                "somebody may be intercepting the connection; only if the server's administrator confirms the new "
                f"key: `relay key trust --replace {address}`",
            )

    def refuse_revoked(self, host: str, port: int, key: PublicKey) -> None:
        """PermissionRefusedError for a key that is revoked for the server."""
        for known in self.keys:
            if known.revoked and known.key == key and _matches(known.names, host, port):
                raise PermissionRefusedError(
                    f"SSH server {_name(host, port)}",
                    f"its host key {key.type} {key.fingerprint} is revoked by {self.path} line {known.line}",
                    "give the server a new host key",
                )

    def why_unpinned(self, host: str, port: int, key: PublicKey | None = None) -> str:
        """The lines that may be meant for a server that no line pins, in parentheses; "" if there are none.

        With the key that the server shows, they include lines that have that key for other names.
        """
        reasons: list[str] = []
        for known in self.keys:
            if known.revoked:
                continue
            with_port = (name for name in _split(known.names) if name.lower().startswith(f"[{host.lower()}]:"))
            if port != SSH_PORT and _matches(known.names, host, SSH_PORT):
                reasons.append(f"line {known.line} names {host} without a port, which means port {SSH_PORT} alone")
            elif other := next(with_port, ""):
                reasons.append(f"line {known.line} names another port, {other}")
            elif known.key == key:
                names = "a hashed name" if known.names.startswith(_HASHED) else known.names
                reasons.append(f"line {known.line} has this very key for {names}")
        reasons += [f"line {line.line}: {line.cause}" for line in self.skipped if _matches(line.names, host, port)]
        reasons += self.mistakes
        listed = "; ".join(reasons[:_MOST_LINES]) + ("; …" if len(reasons) > _MOST_LINES else "")
        return f" ({listed})" if reasons else ""


def known_hosts_line(host: str, port: int, key: PublicKey) -> str:
    """The line, without its line end, that pins a server's key."""
    return f"{_name(host, port)} {key.text}"


# --- Writing ---


def replace_keys(
    path: str, server: tuple[str, int], stale: Sequence[KnownKey], new: Iterable[PublicKey], disk: Disk
) -> None:
    """Pin new keys for a server, and no longer pin it by the stale lines; other servers' names on them stay.

    The new text replaces the old one in one step, durably. An existing file keeps its mode and, if this user is allowed
    to set it, its owner. A new one gets mode 0644, because host keys are public. Other lines stay byte for byte.

    PermissionRefusedError for a stale line whose wildcards cover other servers too; NoInputError, StorageError and
    CannotCreateError for the file.
    """
    try:
        with open(path, "rb") as file:
            old = file.read()
    except FileNotFoundError:
        old = b""
    except OSError as error:
        raise NoInputError(path, f"cannot be read ({error.strerror})", "let this user read it") from error
    text = _without_keys(old, path, server, stale)
    if text and not text.endswith(b"\n"):
        text += b"\n"
    _store(path, text + b"".join(known_hosts_line(*server, key).encode() + b"\n" for key in new), disk)


def _without_keys(text: bytes, path: str, server: tuple[str, int], stale: Sequence[KnownKey]) -> bytes:
    lines = text.decode("utf-8", "surrogateescape").split("\n")  # as `KnownHosts.parse` counts them
    removed: set[int] = set()
    name = _name(*server)
    for known in stale:
        wildcards = [each for each in _split(known.names) if _is_wildcard(each)]
        rest = ",".join(each for each in _split(known.names) if each in wildcards or not _covers(each, name))
        if rest and _matches(rest, *server):
            cause = f"{known.names} covers other servers as well, so relay does not remove it"
            raise PermissionRefusedError(f"{path} line {known.line}", cause, "edit or remove that line by hand")
        lines[known.line - 1] = lines[known.line - 1].replace(known.names, rest, 1)
        if not rest:
            removed.add(known.line)
    kept = (line for number, line in enumerate(lines, 1) if number not in removed)
    return "\n".join(kept).encode("utf-8", "surrogateescape")


def _store(path: str, text: bytes, disk: Disk) -> None:
    path = os.path.realpath(path)  # a link stays a link
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        raise CannotCreateError(path, "its folder does not exist", f"create it: `install -d -m 755 {quote(folder)}`")
    new = f"{path}.{os.getpid()}.new"
    with contextlib.ExitStack() as undo:
        with disk.open(new, create=True) as file:
            undo.callback(disk.remove, new)
            file.truncate(0)
            file.write(text, 0)
            mode = _NEW_MODE
            with contextlib.suppress(OSError):  # there is no old file, or this user cannot give files to its owner
                old = os.stat(path)
                mode = stat.S_IMODE(old.st_mode)
                os.fchown(file.descriptor, old.st_uid, old.st_gid)
            os.fchmod(file.descriptor, mode)
            file.sync()
        disk.replace(new, path)
        undo.pop_all()
    disk.sync_folder(folder)


# --- Lines and names ---


def _parse_line(number: int, line: str) -> KnownKey | SkippedLine:
    """ValueError for a broken line."""
    marker, rest = split_field(line) if line.startswith("@") else ("", line)
    if marker not in {"", _REVOKED, _AUTHORITY}:
        raise ValueError(f"the marker {excerpt(marker)} is unknown")
    names, rest = split_field(rest)
    key_type, rest = split_field(rest)
    encoded = without_line_breaks(split_field(rest)[0])
    if not encoded:
        raise ValueError("a line needs names, a key type and a key")
    for name in _split(names):
        if name.startswith(_HASHED):
            _salt_and_hash(name)
    if marker == _AUTHORITY:
        return SkippedLine(line=number, names=names, cause=f"relay does not support {_AUTHORITY}")
    if key_type not in TYPES:
        return SkippedLine(line=number, names=names, cause=f"relay does not support keys of type {excerpt(key_type)}")
    return KnownKey(line=number, names=names, key=PublicKey.from_text(key_type, encoded), revoked=bool(marker))


def _name(host: str, port: int) -> str:
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def _split(names: str) -> Iterator[str]:
    return (name for name in names.split(",") if name)


def _is_wildcard(pattern: str) -> bool:
    return not pattern.startswith(_HASHED) and any(mark in pattern for mark in "*?!")


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
    return host_pattern_matcher(pattern.lower())(name)


def _salt_and_hash(name: str) -> tuple[bytes, bytes]:
    salt, separator, digest = name.removeprefix(_HASHED).partition("|")
    try:
        decoded = base64.b64decode(salt, validate=True), base64.b64decode(digest, validate=True)
    except binascii.Error:
        raise ValueError("the hashed name is damaged") from None
    if not separator or [len(part) for part in decoded] != [_SHA1_LENGTH, _SHA1_LENGTH]:
        raise ValueError("the hashed name is damaged")
    return decoded
