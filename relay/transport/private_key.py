"""A private key file: OpenSSH's own format, or the older PEM of RSA and ECDSA keys; never with a passphrase.

The file must be readable by its owner only. Errors are PermissionRefusedError (mode, passphrase, no rights) and
NoInputError (missing, or nothing that we can read), with the command that mends it. No error holds a part of a key.
"""

import io
import os
import re
import stat
from typing import Final

import paramiko

from relay.errors import NoInputError, PermissionRefusedError, RelayError
from relay.transport.public_key import ED25519, PublicKey

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LARGEST: Final = 65536  # octets; an RSA key of 16384 bits takes 13 KB
_HEADER: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40})-----")
_KEY_CLASSES: Final = (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey)
# Headers of files that hold a key which must be converted first.
_CONVERSIONS: Final = {
    "PRIVATE KEY": "it is in PKCS #8 format",
    "ENCRYPTED PRIVATE KEY": "it is in PKCS #8 format, with a passphrase",
}


def load(path: str, algorithms: str = "default") -> paramiko.PKey:
    """The private key of a file; with algorithms "fips" an Ed25519 key is refused."""
    key = _parsed(path, _text(path))
    if algorithms == "fips" and key.get_name() == ED25519:
        raise PermissionRefusedError(
            f"private key {path}",
            'an Ed25519 key cannot be used with algorithms = "fips"',
            "make an ECDSA one: `ssh-keygen -t ecdsa -b 384`",
        )
    return key


def public_key(key: paramiko.PKey) -> PublicKey:
    """The public half of a key."""
    return PublicKey(key.get_name(), key.asbytes())


def _text(path: str) -> str:
    """The file's text, if none but its owner can read it."""
    what = f"private key {path}"
    try:
        # The mode is asked of the open file, so that no other file can be put in its place between.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise NoInputError(what, "there is no such file", f"make one: `relay key generate {path}`") from None
    except PermissionError:
        raise PermissionRefusedError(what, "relay's user may not read it", f"`chown` {path} to relay's user") from None
    except OSError as error:
        raise NoInputError(what, f"cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NoInputError(what, "is not a file")
        if status.st_mode & _OTHERS:
            mode = stat.S_IMODE(status.st_mode)
            raise PermissionRefusedError(what, f"its mode {mode:04o} lets others use it", f"`chmod 600 {path}`")
        return file.read(_LARGEST).decode("ascii", errors="replace")


def _parsed(path: str, text: str) -> paramiko.PKey:
    header = _HEADER.search(text)
    if header is None:
        raise NoInputError(f"private key {path}", "holds no private key in OpenSSH's format", _make(path))
    if reason := _CONVERSIONS.get(header[1]):
        raise NoInputError(f"private key {path}", reason, f"convert it: `ssh-keygen -p -f {path}`, empty passphrase")
    refusal: RelayError | None = None
    for key_class in _KEY_CLASSES:
        try:
            return key_class.from_private_key(io.StringIO(text))
        except paramiko.PasswordRequiredException:
            refusal = PermissionRefusedError(
                f"private key {path}",
                "it has a passphrase, and nobody is there to type it",
                f"take the passphrase off (`ssh-keygen -p -f {path}`) or use a key of relay's own",
            )
        except (paramiko.SSHException, ValueError, IndexError, TypeError):
            continue  # a key of another class, or none: what paramiko's readers raise for bytes they do not expect
    raise refusal or NoInputError(f"private key {path}", "is damaged, or of a type that is not supported", _make(path))


def _make(path: str) -> str:
    return f"name the private half of a key pair, or make one: `relay key generate {path}`"
