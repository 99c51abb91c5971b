"""Certificates and their private keys, as files in PEM or, for certificates, as texts in the configuration (RFC 7468).

A private key always stands in a file that only its owner may read (`private_key.contents`), which may be the one of its
certificate. Files are read anew at each call, so that what is renewed needs no restart. Errors: NoInputError (missing,
or nothing that we can read), PermissionRefusedError (mode, passphrase, a key that belongs to another certificate).
"""

import contextlib
import datetime as dt
import hashlib
import os
import ssl
from collections.abc import Iterator, Sequence
from shlex import quote
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from relay.errors import NoInputError, PermissionRefusedError
from relay.transport.ssh import private_key
from relay.values.setting_rules import is_pem

SOON: Final = 30
"""Days before its end from which on a certificate is worth a warning."""
_LARGEST: Final = 1024 * 1024  # octets; a system's whole trust store has 220 KB


def identify(context: ssl.SSLContext, certificate: str, key: str) -> x509.Certificate:
    """Have the context come with a certificate and its private key; the certificate."""
    own = certificates(certificate)
    what = f"private key {key}"
    try:
        missing = f"put the key of {source_name(certificate)} there, in PEM, readable by relay's user alone"
        loaded = load_pem_private_key(private_key.contents(key, missing), None)
    except TypeError:
        cause = "it has a passphrase, and nobody is there to type it"
        plain = f"{key}.plain"
        remedy = f"write it without one and name that file: `openssl pkey -in {quote(key)} -out {quote(plain)}`"
        raise PermissionRefusedError(what, cause, remedy) from None
    except (ValueError, UnsupportedAlgorithm):
        cause = "holds no private key that can be read"
        raise NoInputError(what, cause, "name the one in PEM that belongs to the certificate") from None
    if _encoded(loaded.public_key()) != _public_key(own[0], certificate):
        cause = f"does not belong to {source_name(certificate)}"
        raise PermissionRefusedError(what, cause, "name the pair that belongs together; the chain comes behind it")
    try:
        with _file_of(pem(own)) as path:
            context.load_cert_chain(path, key, password=_no_passphrase)
    except (ssl.SSLError, OSError) as error:
        cause = f"cannot be used ({error.strerror or error})"
        raise NoInputError(source_name(certificate), cause, "is it, or its key, too weak?") from error
    return own[0]


def trust(context: ssl.SSLContext, source: str) -> None:
    """Have the context trust certificates, each by itself: an authority, one between, or the peer's own."""
    found = certificates(source)
    try:
        context.load_verify_locations(cadata=pem(found))
    except ssl.SSLError as error:
        raise NoInputError(source_name(source), f"cannot be used ({error.reason or error})") from error


@contextlib.contextmanager
def _file_of(text: str) -> Iterator[str]:
    """A path under which a text can be read, as a library wants it; nothing is written to a disk."""
    with open(os.memfd_create("certificate"), "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def certificates(source: str) -> list[x509.Certificate]:
    """Every certificate of a PEM file, or of a PEM text itself; at least one."""
    what = source_name(source)
    try:
        return x509.load_pem_x509_certificates(source.encode() if is_pem(source) else _contents(source))
    except FileNotFoundError:
        raise NoInputError(what, "there is no such file", "put it there, or mend its name") from None
    except OSError as error:
        raise NoInputError(what, f"cannot be read ({error.strerror})", "relay's user must be able to") from error
    except ValueError:
        raise NoInputError(what, "holds no certificate in PEM that can be read") from None


def source_name(source: str) -> str:
    """A source of certificates, as errors and alarms name it."""
    return "certificate in the configuration" if is_pem(source) else f"certificate {source}"


def _contents(path: str) -> bytes:
    with open(path, "rb", opener=_at_once) as file:
        return file.read(_LARGEST)


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe must not block us


def fingerprint(certificate: bytes) -> str:
    """Fingerprint of a DER certificate, as RFC 5425 section 4.2.2 writes it."""
    return "sha-256:" + hashlib.sha256(certificate).digest().hex(":").upper()


def certificate_summary(certificate: x509.Certificate) -> str:
    """Whose it is, by whom, until when, and its fingerprint, for people."""
    shown = fingerprint(certificate.public_bytes(Encoding.DER))
    end = certificate.not_valid_after_utc.date().isoformat()
    return f"{common_name(certificate.subject)}, by {common_name(certificate.issuer)}, until {end}, {shown}"


def common_name(name: x509.Name) -> str:
    """Whom it names, for people."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string() or "nobody"


def days_left(certificate: x509.Certificate) -> int:
    """Whole days until a certificate ends; negative ones when it has."""
    return (certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).days


def pem(found: Sequence[x509.Certificate]) -> str:
    """Write certificates as PEM, and nothing else that stood beside them."""
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in found)


def _public_key(certificate: x509.Certificate, source: str) -> bytes:
    try:
        return _encoded(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm):
        raise NoInputError(source_name(source), "has a key that cannot be read", "name another certificate") from None


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _no_passphrase() -> str:
    return ""  # else OpenSSL would ask on a terminal
