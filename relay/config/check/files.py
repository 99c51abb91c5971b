"""Files that settings name: whether this user can read them, and use them as what they are."""

from pathlib import Path
from typing import Final

from relay.config.key_path import KeyPath
from relay.errors import RelayError
from relay.transport.ssh import private_key

Finding = tuple[KeyPath, str]
"""A key, and a sentence about it."""
AS_RELAY: Final = "run this check as the user that relay runs as"


def unreadable(name: str, *, can_be_missing: bool = False) -> str:
    """Why a file cannot be read; empty when it can."""
    try:
        with Path(name).open("rb"):
            return ""
    except FileNotFoundError:
        return "" if can_be_missing else f"{name} does not exist"
    except PermissionError:
        return f"this user is not allowed to read {name}; {AS_RELAY}"
    except OSError as error:
        return f"cannot read {name}: {error.strerror}"


def unusable_key(name: str, algorithms: str = "default") -> str:
    """Why a file cannot be used as an SSH private key; empty when it can."""
    try:
        private_key.load(name, algorithms)
    except RelayError as error:
        return str(error)
    return ""


def tls_key(error: RelayError, ca: str, private_key_file: str) -> str:
    """The key of the configuration that names the file which an error of `relay.transport.tls.certificate` is about."""
    names = {f"certificate {ca}": "ca", f"private key {private_key_file}": "private-key"}
    return names.get(error.what, "certificate")
