"""Every error that relay raises, with its exit code (sysexits.h).

An error names the object, the cause and the remedy, in that order, and says whether trying again can help.
Foreign exceptions (OSError, paramiko's) are mapped to these at the edge where they happen and never travel inward.

A remedy names a command of relay's between backquotes, with its own words alone and each path quoted for a shell:
`relay key trust HOST`. The command line completes it with the options that it was called with (`RelayError.complete`),
so that it works as printed, in the log, in `relay status` and on a terminal alike.
"""

import errno
from collections.abc import Callable
from typing import ClassVar, Final

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class RelayError(Exception):
    """What a user is told: `what` it is about, `cause`, and the `remedy`, each without a final full stop."""

    exit_code: ClassVar[int] = 70
    retryable: ClassVar[bool] = False
    complete: ClassVar[Callable[[str], str]] = staticmethod(str)
    """Completes the commands in a text; one for the whole process, set by `relay.cli.printed_commands`."""

    def __init__(self, what: str, cause: str, remedy: str = "") -> None:
        super().__init__(what, cause, remedy)
        self.what = what
        self.cause = cause
        self._remedy = remedy

    @property
    def remedy(self) -> str:
        """What helps; a command in it works as printed."""
        return RelayError.complete(self._remedy)

    def __str__(self) -> str:
        sentence = f"{self.what}: {self.cause}"
        return f"{sentence}; {self.remedy}" if self.remedy else sentence


class UsageError(RelayError):
    """The command line makes no sense."""

    exit_code = 64


class DataError(RelayError):
    """Stored or received data is damaged or not what it claims to be."""

    exit_code = 65


class NoInputError(RelayError):
    """A file that is to be read is missing or unreadable."""

    exit_code = 66


class UnknownHostError(RelayError):
    """A host name does not resolve."""

    exit_code = 68
    retryable = True


class UnavailableError(RelayError):
    """The far end, or something between, does not answer or refuses."""

    exit_code = 69
    retryable = True


class InternalError(RelayError):
    """A bug of ours."""

    exit_code = 70


class CannotCreateError(RelayError):
    """A file or folder cannot be made."""

    exit_code = 73


class StorageError(RelayError):
    """The disk failed or is full."""

    exit_code = 74
    retryable = True
    errno: int = 0

    @property
    def absent(self) -> bool:
        """Whether there is no such file."""
        return self.errno == errno.ENOENT

    @property
    def full(self) -> bool:
        """Whether room is what is missing (ENOSPC, EDQUOT, or a size of ours that is reached)."""
        return self.errno in _NO_ROOM


def full_error(what: str, cause: str, remedy: str) -> StorageError:
    """The StorageError for a size of ours that is reached: to be treated as a full disk."""
    error = StorageError(what, cause, remedy)
    error.errno = errno.ENOSPC
    return error


class TemporaryError(RelayError):
    """It did not work in the time given; nothing is lost and a later try may do."""

    exit_code = 75
    retryable = True


class ProtocolError(RelayError):
    """The peer broke the protocol."""

    exit_code = 76
    retryable = True


class PermissionRefusedError(RelayError):
    """A host key, an authentication or a file's mode forbids it. Trying again at once does not help."""

    exit_code = 77


class ConfigurationError(RelayError):
    """The configuration is wrong; `mistakes` holds one sentence for each mistake, with its key and line."""

    exit_code = 78

    def __init__(self, what: str, mistakes: tuple[str, ...], remedy: str = "") -> None:
        super().__init__(what, "; ".join(mistakes), remedy)
        self.mistakes = mistakes
