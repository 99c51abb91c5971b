"""Every error that relay raises, with its exit code (sysexits.h).

    64  UsageError              wrong command line
    65  DataError               damaged or missing data: spool, archive
    66  NoInputError            a file or folder does not exist or cannot be read
    68  UnknownHostError        a host name does not resolve
    69  UnavailableError        a server, a port or a program is not available, or an SSH server refuses the forwarding
    70  InternalError           a bug
    73  CannotCreateError       a file or folder cannot be created
    74  StorageError            the disk failed or is full, or standard output cannot be written
    75  TemporaryError          a time limit; trying again can help
    76  ProtocolError           the peer violated a protocol
    77  PermissionRefusedError  a host key, certificate, login or file permission is refused: also a wrong host key
    78  ConfigurationError      a wrong configuration

An error names the object, the cause and the remedy, in that order, and has a flag whether trying again can help.
Foreign exceptions (OSError, paramiko's) are mapped to these where they occur and never travel inward. The first part of
each docstring, up to a semicolon, is the EXIT STATUS section of relay(1).

A remedy names a command of relay's between backquotes, with its own words alone and each path quoted for a shell:
`relay key trust HOST`. The command line completes it with the options that it was called with (`RelayError.complete`),
so that it works as printed in the log, in `relay status` and on a terminal.
"""

import errno
from collections.abc import Callable
from typing import ClassVar, Final

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class RelayError(Exception):
    """A failure for a user: `what` failed, its `cause` and the `remedy`, each without a final full stop."""

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False
    complete: ClassVar[Callable[[str], str]] = staticmethod(str)
    """Completes the commands in a text. `relay.cli.printed_commands` sets it once for the whole process."""

    def __init__(self, what: str, cause: str, remedy: str = "") -> None:
        super().__init__(what, cause, remedy)
        self.what = what
        self.cause = cause
        self._remedy = remedy

    @property
    def remedy(self) -> str:
        """The remedy, empty when none is known; a command in it works as printed."""
        return RelayError.complete(self._remedy)

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.cause}"
        return f"{sentence}; {self.remedy}" if self.remedy else sentence


class UsageError(RelayError):
    """The command line is wrong."""

    exit_code = 64


class DataError(RelayError):
    """Data in the spool, in the archive or from a source is damaged, or some of it is missing."""

    exit_code = 65


class NoInputError(RelayError):
    """A file or folder does not exist or cannot be read."""

    exit_code = 66


class UnknownHostError(RelayError):
    """A host name does not resolve."""

    exit_code = 68
    retryable = True


class UnavailableError(RelayError):
    """A server, a port or a program is not available, or an SSH server refuses the port forwarding."""

    exit_code = 69
    retryable = True


class InternalError(RelayError):
    """A bug in relay."""

    exit_code = 70


class CannotCreateError(RelayError):
    """A file or folder cannot be created."""

    exit_code = 73


class StorageError(RelayError):
    """The disk failed or is full."""

    exit_code = 74
    retryable = True
    errno: int = 0

    @property
    def absent(self) -> bool:
        """Whether the file does not exist."""
        return self.errno == errno.ENOENT

    @property
    def full(self) -> bool:
        """Whether there is no space left (ENOSPC, EDQUOT, or a size limit of relay's own)."""
        return self.errno in _NO_SPACE


def full_error(what: str, cause: str, remedy: str) -> StorageError:
    """The StorageError for a size limit of relay's own, with the effect of a full disk."""
    error = StorageError(what, cause, remedy)
    error.errno = errno.ENOSPC
    return error


class TemporaryError(RelayError):
    """It was not finished within the time limit, nothing is lost, and trying again can help."""

    exit_code = 75
    retryable = True


class ProtocolError(RelayError):
    """The peer violated the protocol."""

    exit_code = 76
    retryable = True


class PermissionRefusedError(RelayError):
    """A wrong or unknown host key, an untrusted certificate, a rejected login, or missing permissions for a file."""

    exit_code = 77


class ConfigurationError(RelayError):
    """The configuration is wrong; `mistakes` has one sentence for each mistake, with its key and line."""

    exit_code = 78

    def __init__(self, what: str, mistakes: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(what, "; ".join(mistakes), remedy)
        self.mistakes = mistakes
