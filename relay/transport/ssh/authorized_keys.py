"""The authorized_keys file: which keys can log in at relay's own SSH end. sshd(8), "AUTHORIZED_KEYS FILE FORMAT".

A key can forward to relay's own listeners, or to the ones that its `permitopen` names, and can do nothing else.
Supported options are restrict, port-forwarding and permitopen="HOST:PORT" (several; PORT may be *). no-pty, no-user-rc,
no-X11-forwarding and no-agent-forwarding are accepted, because they hold anyway. Any other option might restrict the
key in a way that relay does not enforce, so relay rejects the key. It also rejects `restrict` without a later
`port-forwarding`. A line that cannot be used is a mistake with its file and number, and admits no key.
"""

import os
import re
import stat
from dataclasses import dataclass
from shlex import quote
from typing import Final, Self

from relay.errors import NoInputError, PermissionRefusedError
from relay.system.files.strict_modes import require_strict_modes
from relay.transport.ssh.key_lines import BLANKS, key_lines, split_field, without_line_breaks
from relay.transport.ssh.public_key import TYPES, PublicKey
from relay.values.text import quoted

_NEEDLESS: Final = frozenset({"no-pty", "no-x11-forwarding", "no-agent-forwarding", "no-user-rc"})
# One option: its name, and its value between quotes, in which a backslash escapes a quote.
_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?')
_DESTINATION: Final = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5}|\*)")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - listeners that are reached by the loopback address too
_LARGEST_FILE: Final = 1 << 20  # bytes; some thousands of keys
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def same_host(asked: str, listener: str) -> bool:
    """Whether the host that a sender asks for is the listener's; all loopback names are one host."""
    asked, listener = asked.lower().strip("[]"), listener.lower().strip("[]")
    return asked == listener or (asked in _LOOPBACK and listener in _LOOPBACK | _ANYWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPermission:
    """One permitopen."""

    host: str
    port: int | None  # None: any

    def covers(self, host: str, port: int) -> bool:
        """Whether it permits that destination."""
        return self.port in {None, port} and same_host(host, self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedKey:
    """One line that admits a key."""

    line: int
    key: PublicKey
    comment: str = ""
    permissions: tuple[KeyPermission, ...] = ()

    def may_open(self, host: str, port: int) -> bool:
        """Whether the key's own line permits forwarding there."""
        return not self.permissions or any(permission.covers(host, port) for permission in self.permissions)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedKeys:
    """The contents of an authorized_keys file."""

    keys: tuple[AuthorizedKey, ...] = ()
    mistakes: tuple[str, ...] = ()
    """`FILE line N: …`, one sentence for each line that cannot be used."""

    @classmethod
    def read(cls, path: str) -> Self:
        """The file's contents; NoInputError if it cannot be read, PermissionRefusedError if others can write to it."""
        what = f"authorized keys {path}"
        try:
            with open(path, "rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(_LARGEST_FILE).decode("utf-8", "replace")
        except OSError as error:
            remedy = "put the senders' public keys there, one a line"
            raise NoInputError(what, f"cannot be read ({error.strerror})", remedy) from error
        if mode & _WRITABLE_BY_OTHERS:
            raise PermissionRefusedError(
                what, f"its mode {mode:04o} lets others change it", f"`chmod 644 {quote(path)}`"
            )
        require_strict_modes(what, path)
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str) -> Self:
        """The contents of a file with that text."""
        keys: list[AuthorizedKey] = []
        mistakes: list[str] = []
        for number, line in key_lines(text):
            try:
                permissions, rest = _options(line) if split_field(line)[0] not in TYPES else ((), line)
                key_type, rest = split_field(rest)
                encoded, comment = split_field(rest)
                key = PublicKey.from_text(key_type, without_line_breaks(encoded))
                keys.append(AuthorizedKey(line=number, key=key, comment=comment.strip(), permissions=permissions))
            except ValueError as error:
                mistakes.append(f"{path} line {number}: {error}")
        return cls(keys=tuple(keys), mistakes=tuple(mistakes))

    def find(self, key: PublicKey) -> AuthorizedKey | None:
        """The first line that admits the key."""
        return next((authorized for authorized in self.keys if authorized.key == key), None)


def _options(line: str) -> tuple[tuple[KeyPermission, ...], str]:
    """The permissions at the head of a line, and the rest of the line."""
    permissions: list[KeyPermission] = []
    forwarding = True
    at = 0
    while option := _OPTION.match(line, at):
        name, value = option[1].lower(), option[2]
        if name == "permitopen" and value is not None:
            found = _DESTINATION.fullmatch(value)
            if found is None:
                raise ValueError(f"permitopen={quoted(value)} is not HOST:PORT")
            port = None if found[3] == "*" else int(found[3])
            permissions.append(KeyPermission(host=found[1] or found[2], port=port))
        elif name in {"restrict", "port-forwarding"} and value is None:
            forwarding = name == "port-forwarding"
        elif name not in _NEEDLESS or value is not None:
            raise ValueError(f"relay does not enforce the option {option[1]}, so it rejects the key")
        at = option.end()
        if line[at : at + 1] != ",":
            break
        at += 1
    if at == len(line) or line[at] not in BLANKS:
        raise ValueError("the line begins neither with a key type nor with valid options")
    if not forwarding:
        raise ValueError("restrict without a later port-forwarding leaves the key without any permission")
    return tuple(permissions), line[at:].lstrip(BLANKS)
