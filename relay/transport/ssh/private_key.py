"""A private key file: OpenSSH's own format, PKCS #8, or the older PEM of RSA and ECDSA keys; never with a passphrase.

The file must be readable by its owner only. Errors are PermissionRefusedError (mode, passphrase, no rights) and
NoInputError (missing, or nothing that we can read), with the command that mends it. No error holds a part of a key.

A new key is written in OpenSSH's format, mode 0600, into a folder that is there already, and never over a file:
CannotCreateError says why there is none. What a failing disk cut short is removed (StorageError).

The file is read by `cryptography`, on which paramiko stands: paramiko's own readers know no PKCS #8, and call an ECDSA
key without a comment damaged.
"""

import contextlib
import io
import os
import stat
from collections.abc import Callable
from shlex import quote
from typing import Final, Literal

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from relay.errors import CannotCreateError, NoInputError, PermissionRefusedError, StorageError
from relay.system.disk import FILE_MODE, Disk, File
from relay.transport.ssh.public_key import ED25519, PublicKey

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LARGEST: Final = 65536  # octets; an RSA key of 16384 bits takes 13 KB
_OPENSSH_HEADER: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_RSA_BITS: Final = 3072  # as strong as AES-128, by NIST SP 800-57 part 1, table 2
_RSA_EXPONENT: Final = 65537

Kind = Literal["ed25519", "ecdsa", "rsa"]
_PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
_MAKERS: Final[dict[Kind, Callable[[], _PrivateKey]]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "ecdsa": lambda: generate_private_key(SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS),
}


def load(path: str, algorithms: str = "default") -> paramiko.PKey:
    """The private key of a file; with algorithms "fips" an Ed25519 key is refused."""
    key = _parsed(path, contents(path))
    if algorithms == "fips" and key.get_name() == ED25519:
        raise PermissionRefusedError(
            f"private key {path}",
            'an Ed25519 key cannot be used with algorithms = "fips"',
            "make an ECDSA one: `relay key generate --type ecdsa FILE`",
        )
    return key


def generate(path: str, kind: Kind = "ed25519") -> paramiko.PKey:
    """A new key, written to a file that was not there before: Ed25519, ECDSA on P-384, or RSA of 3072 bits."""
    written = _openssh(_MAKERS[kind]())
    file = _new_file(path)
    try:
        with file:
            file.write(written, 0)
            file.sync()
        Disk().sync_folder(os.path.dirname(path) or ".")
    except StorageError:
        with contextlib.suppress(OSError):
            os.unlink(path)
        raise
    return _parsed(path, written)


def _new_file(path: str) -> File:
    what = f"private key {path}"
    try:
        return File(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        raise CannotCreateError(what, "there is a file already, and relay writes over none", "name another") from None
    except FileNotFoundError:
        remedy = "make the folder: only root and relay's user should be able to write in it"
        raise CannotCreateError(what, "its folder does not exist", remedy) from None
    except OSError as error:
        remedy = "let this user write in the folder, or name another FILE"
        raise CannotCreateError(what, f"it cannot be made ({error.strerror})", remedy) from error


def public_key(key: paramiko.PKey) -> PublicKey:
    """The public half of a key."""
    return PublicKey(key.get_name(), key.asbytes())


def contents(path: str, remedy: str = "") -> bytes:
    """The file's octets, if none but its owner can read it; `remedy` is for a file that is missing."""
    what = f"private key {path}"
    try:
        # A pipe must not block us; the mode is asked of the open file, so that no other can take its place between.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        remedy = remedy or f"make one: `relay key generate {quote(path)}`"
        raise NoInputError(what, "there is no such file", remedy) from None
    except PermissionError:
        raise PermissionRefusedError(what, "relay's user may not read it", f"`chown` {path} to relay's user") from None
    except OSError as error:
        raise NoInputError(what, f"cannot be read ({error.strerror})") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NoInputError(what, "is not a file")
        if mode & _OTHERS:
            raise PermissionRefusedError(
                what, f"its mode {stat.S_IMODE(mode):04o} lets others use it", f"`chmod 600 {quote(path)}`"
            )
        return os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)


def _parsed(path: str, contents: bytes) -> paramiko.PKey:
    load_key = load_ssh_private_key if _OPENSSH_HEADER in contents else load_pem_private_key
    try:
        key = load_key(contents, None)
    except TypeError:
        raise PermissionRefusedError(
            f"private key {path}",
            "it has a passphrase, and nobody is there to type it",
            f"take the passphrase off (`ssh-keygen -p -f {quote(path)}`) or use a key of relay's own",
        ) from None
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):  # NotImplementedError: a compressed point
        raise _unusable(path, "holds no private key that can be read") from None
    match key:
        case Ed25519PrivateKey():
            return paramiko.Ed25519Key(file_obj=io.StringIO(_openssh(key).decode("ascii")))
        case EllipticCurvePrivateKey(curve=curve) if curve.name in {"secp256r1", "secp384r1", "secp521r1"}:
            return paramiko.ECDSAKey(vals=(key, key.public_key()))
        case RSAPrivateKey():
            return paramiko.RSAKey(key=key)
        case _:
            raise _unusable(path, "is of a type that is not supported")


def _openssh(key: _PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _unusable(path: str, cause: str) -> NoInputError:
    remedy = f"name the private half of a key pair, or make one: `relay key generate {quote(path)}`"
    return NoInputError(f"private key {path}", cause, remedy)
