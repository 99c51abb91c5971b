"""A private key file: OpenSSH's own format, PKCS #8, or the older PEM of RSA and ECDSA keys; never with a passphrase.

The file must be readable by its owner only. Errors are PermissionRefusedError (mode, passphrase, access denied) and
NoInputError (missing, or not a supported key), with the command that repairs it. No error contains a part of a key.

A new key is written in OpenSSH's format, mode 0600, into an existing folder, and never over a file: CannotCreateError.
If the disk fails, the incomplete file is removed: StorageError.

`cryptography` reads the file, because paramiko's own readers do not support PKCS #8, and reject an ECDSA key without a
comment as damaged. So both ends use the key without the other's SSH library.
"""

import base64
import contextlib
import os
import stat
from collections.abc import Callable
from shlex import quote
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from relay.errors import CannotCreateError, NoInputError, PermissionRefusedError, StorageError
from relay.system.disk import FILE_MODE, Disk, File
from relay.system.files.strict_modes import require_strict_modes
from relay.transport.ssh.public_key import PublicKey

_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO
_LARGEST: Final = 65536  # bytes; an RSA key of 16384 bits takes 13 KB
_OPENSSH_HEADER: Final = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_RSA_BITS: Final = 3072  # as strong as AES-128, by NIST SP 800-57 part 1, table 2
_RSA_EXPONENT: Final = 65537

Kind = Literal["ed25519", "ecdsa", "rsa"]
PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey | RSAPrivateKey
_MAKERS: Final[dict[Kind, Callable[[], PrivateKey]]] = {
    "ed25519": Ed25519PrivateKey.generate,
    "ecdsa": lambda: generate_private_key(SECP384R1()),
    "rsa": lambda: rsa.generate_private_key(_RSA_EXPONENT, _RSA_BITS),
}


def load(path: str, algorithms: str = "default") -> PrivateKey:
    """The private key in a file; with algorithms "fips" an Ed25519 key is rejected."""
    key = _parsed(path, contents(path))
    if algorithms == "fips" and isinstance(key, Ed25519PrivateKey):
        raise PermissionRefusedError(
            f"private key {path}",
            'an Ed25519 key cannot be used with algorithms = "fips"',
            "create an ECDSA key: `relay key generate --type ecdsa FILE`",
        )
    return key


def generate(path: str, kind: Kind = "ed25519") -> PrivateKey:
    """A new key, written to a new file: Ed25519, ECDSA on P-384, or RSA of 3072 bits."""
    written = openssh(_MAKERS[kind]())
    what = f"private key {path}"
    try:
        file = File(path, os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE))
    except FileExistsError:
        raise CannotCreateError(
            what, "the file exists already, and relay never overwrites one", "name another"
        ) from None
    except FileNotFoundError:
        remedy = "create the folder: only root and relay's user should be able to write to it"
        raise CannotCreateError(what, "its folder does not exist", remedy) from None
    except OSError as error:
        remedy = "let this user write to the folder, or name another FILE"
        raise CannotCreateError(what, f"it cannot be created ({error.strerror})", remedy) from error
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


def public_key(key: PrivateKey) -> PublicKey:
    """The public half of a key."""
    key_type, encoded = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()
    return PublicKey(key_type.decode("ascii"), base64.b64decode(encoded))


def contents(path: str, remedy: str = "") -> bytes:
    """The file's bytes, if only its owner can read it; `remedy` is for a missing file."""
    what = f"private key {path}"
    try:
        # O_NONBLOCK, because a pipe must not block. The mode below is the open file's: nobody can swap the file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        remedy = remedy or f"create one: `relay key generate {quote(path)}`"
        raise NoInputError(what, "there is no such file", remedy) from None
    except PermissionError:
        remedy = f"make this user its owner: `chown {os.geteuid()} {quote(path)}`"
        raise PermissionRefusedError(what, "relay's user is not allowed to read it", remedy) from None
    except OSError as error:
        raise NoInputError(what, f"it cannot be read ({error.strerror})") from error
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise NoInputError(what, "it is not a file")
        if mode & _OTHERS:
            raise PermissionRefusedError(
                what, f"its mode {stat.S_IMODE(mode):04o} lets others use it", f"`chmod 600 {quote(path)}`"
            )
        require_strict_modes(what, path)
        return os.read(descriptor, _LARGEST)
    finally:
        os.close(descriptor)


def _parsed(path: str, contents: bytes) -> PrivateKey:
    load_key = load_ssh_private_key if _OPENSSH_HEADER in contents else load_pem_private_key
    try:
        key = load_key(contents, None)
    except TypeError:
        raise PermissionRefusedError(
            f"private key {path}",
            "it has a passphrase, which nobody can type",
            f"remove the passphrase (`ssh-keygen -p -f {quote(path)}`), or use a key of relay's own",
        ) from None
    except (ValueError, UnsupportedAlgorithm, NotImplementedError):  # NotImplementedError: a compressed point
        raise _unusable(path, "contains no readable private key") from None
    match key:
        case Ed25519PrivateKey() | RSAPrivateKey():
            return key
        case EllipticCurvePrivateKey(curve=curve) if curve.name in {"secp256r1", "secp384r1", "secp521r1"}:
            return key
        case _:
            raise _unusable(path, "its type is not supported")


def openssh(key: PrivateKey) -> bytes:
    """The key in OpenSSH's own format."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())


def _unusable(path: str, cause: str) -> NoInputError:
    remedy = f"name the private half of a key pair, or create one: `relay key generate {quote(path)}`"
    return NoInputError(f"private key {path}", cause, remedy)
