"""Who may log in at relay's own SSH end: the authorized_keys file, sshd(8) "AUTHORIZED_KEYS FILE FORMAT".

A key may forward to relay's own listeners, or to those of them that its `permitopen` names, and can do nothing else.
Understood: restrict, port-forwarding, permitopen="HOST:PORT" (several; PORT may be *), and no-pty, no-X11-forwarding,
no-agent-forwarding, no-user-rc, which are so anyway. Any other option might restrict the key in a way that relay does
not enforce: it refuses the key, and so does `restrict` without `port-forwarding` after it.
A line that cannot be used is a mistake with its file and number and admits nobody.
"""

import os
import re
import stat
from dataclasses import dataclass
from shlex import quote
from typing import Final, Self

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.ssh.public_key import TYPES, PublicKey
from relay.values.text import quoted

_NEEDLESS: Final = frozenset({"no-pty", "no-x11-forwarding", "no-agent-forwarding", "no-user-rc"})
# One option: its name, and its value between quotes, in which a backslash stands before a quote.
_OPTION: Final = re.compile(r'([A-Za-z0-9-]+)(?:="((?:[^"\\]|\\.)*)")?')
_DESTINATION: Final = re.compile(r"(?:\[([^\]]+)\]|([^:\[\]]+)):(\d{1,5}|\*)")
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ANYWHERE: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 - listeners that are reached by the loopback address too
_LARGEST_FILE: Final = 1 << 20  # octets; some thousands of keys
_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


def same_host(asked: str, listener: str) -> bool:
    """Whether a sender that asks for one host means the listener on the other; every loopback name is one place."""
    asked, listener = asked.lower().strip("[]"), listener.lower().strip("[]")
    return asked == listener or (asked in _LOOPBACK and listener in _LOOPBACK | _ANYWHERE)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPermission:
    """One permitopen."""

    host: str
    port: int | None
    """None: any."""

    def covers(self, host: str, port: int) -> bool:
        """Whether it allows that destination."""
        return self.port in {None, port} and same_host(host, self.host)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedKey:
    """One line that admits a key."""

    line: int
    key: PublicKey
    comment: str = ""
    permissions: tuple[KeyPermission, ...] = ()

    def may_open(self, host: str, port: int) -> bool:
        """Whether the key may forward there, as far as its own line goes."""
        return not self.permissions or any(permission.covers(host, port) for permission in self.permissions)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedKeys:
    """What an authorized_keys file says."""

    keys: tuple[AuthorizedKey, ...] = ()
    mistakes: tuple[str, ...] = ()
    """`FILE line N: …`, one sentence for each line that cannot be used."""

    @classmethod
    def read(cls, path: str) -> Self:
        """The file's contents; NoInputError when it cannot be read, PermissionRefusedError when others may write it."""
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
        return cls.parse(text, path)

    @classmethod
    def parse(cls, text: str, path: str) -> Self:
        """The contents of a file's text."""
        keys: list[AuthorizedKey] = []
        mistakes: list[str] = []
        for number, line in enumerate(text.split("\n"), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            try:
                keys.append(_authorized_key(number, line.strip()))
            except ValueError as error:
                mistakes.append(f"{path} line {number}: {error}")
        return cls(keys=tuple(keys), mistakes=tuple(mistakes))

    def find(self, key: PublicKey) -> AuthorizedKey | None:
        """The first line that admits the key."""
        return next((authorized for authorized in self.keys if authorized.key == key), None)


def _authorized_key(number: int, line: str) -> AuthorizedKey:
    permissions: tuple[KeyPermission, ...] = ()
    if line.split(maxsplit=1)[0] not in TYPES:
        permissions, line = _options(line)
    key_type, _, rest = line.partition(" ")
    encoded, _, comment = rest.strip().partition(" ")
    key = PublicKey.from_text(key_type, encoded)
    return AuthorizedKey(line=number, key=key, comment=comment.strip(), permissions=permissions)


def _options(line: str) -> tuple[tuple[KeyPermission, ...], str]:
    """The options at the head of a line, and what follows them."""
    permissions: list[KeyPermission] = []
    forwarding = True
    place = 0
    while option := _OPTION.match(line, place):
        name, value = option[1].lower(), option[2]
        if name == "permitopen" and value is not None:
            permissions.append(_permission(value))
        elif name in {"restrict", "port-forwarding"} and value is None:
            forwarding = name == "port-forwarding"
        elif name not in _NEEDLESS or value is not None:
            raise ValueError(f"relay does not enforce the option {option[1]}, so the key is refused")
        place = option.end()
        if line[place : place + 1] != ",":
            break
        place += 1
    if not line[place : place + 1].isspace():
        raise ValueError("the line begins neither with a key type nor with options that can be read")
    if not forwarding:
        raise ValueError("restrict without port-forwarding after it leaves the key nothing that it may do")
    return tuple(permissions), line[place:].strip()


def _permission(value: str) -> KeyPermission:
    found = _DESTINATION.fullmatch(value)
    if found is None:
        raise ValueError(f"permitopen={quoted(value)} is not HOST:PORT")
    return KeyPermission(host=found[1] or found[2], port=None if found[3] == "*" else int(found[3]))
