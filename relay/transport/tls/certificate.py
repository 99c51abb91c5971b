"""Certificates and their private keys, as files in PEM or, for certificates, as texts in the configuration (RFC 7468).

A private key is always in a file that only its owner can read (`private_key.contents`); it may be the certificate's
file. Files are read at each call, so a renewal needs no restart. Errors: NoInputError (missing, or not readable),
PermissionRefusedError (mode, passphrase, a key that belongs to another certificate).
"""

import datetime as dt
import hashlib
import os
import ssl
from collections.abc import Sequence
from shlex import quote
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from cryptography.x509.oid import NameOID

from relay.errors import NoInputError, PermissionRefusedError
from relay.system.files.strict_modes import require_strict_modes
from relay.transport.ssh import private_key
from relay.values.configuration.setting_rules import is_pem

SOON: Final = 30
"""A certificate that expires in fewer days is worth a warning."""
_LARGEST: Final = 1024 * 1024  # bytes; a system's whole trust store has 220 KB


def identify(context: ssl.SSLContext, certificate: str, key: str) -> x509.Certificate:
    """Make the context present a certificate with its private key; returns the certificate."""
    own = certificates(certificate)
    loaded = _public_key(key, certificate)
    try:
        certified = _encoded(own[0].public_key())
    except (ValueError, UnsupportedAlgorithm):
        cause = "its key is not readable"
        raise NoInputError(source_name(certificate), cause, "name another certificate") from None
    if loaded != certified:
        cause = f"does not belong to {source_name(certificate)}"
        remedy = "name a certificate and its own key; in the file, the certificate precedes its chain"
        raise PermissionRefusedError(f"private key {key}", cause, remedy)
    try:
        with open(os.memfd_create("certificate"), "w", encoding="ascii") as file:  # ssl only reads files
            file.write(pem(own))
            file.flush()
            # Without a password, OpenSSL would ask for one on the terminal.
            context.load_cert_chain(f"/proc/self/fd/{file.fileno()}", key, password=lambda: "")
    except (ssl.SSLError, OSError) as error:
        cause = f"cannot be used ({error.strerror or error})"
        raise NoInputError(source_name(certificate), cause, "check that it and its key are not too weak") from error
    return own[0]


def _public_key(key: str, certificate: str) -> bytes:
    """The public half of a private key file."""
    what = f"private key {key}"
    try:
        missing = f"put the key of {source_name(certificate)} there, in PEM, readable by relay's user alone"
        loaded = load_pem_private_key(private_key.contents(key, missing), None)
    except TypeError:
        cause = "it has a passphrase, which nobody can type"
        plain = quote(f"{key}.plain")
        remedy = f"write it without one and name that file: `openssl pkey -in {quote(key)} -out {plain}`"
        raise PermissionRefusedError(what, cause, remedy) from None
    except (ValueError, UnsupportedAlgorithm):
        remedy = "name the key in PEM that belongs to the certificate"
        raise NoInputError(what, "contains no readable private key", remedy) from None
    return _encoded(loaded.public_key())


def trust(context: ssl.SSLContext, source: str) -> None:
    """Make the context trust certificates, each by itself: an authority's, an intermediate one, or the peer's own."""
    found = certificates(source)
    try:
        context.load_verify_locations(cadata=pem(found))
    except ssl.SSLError as error:
        raise NoInputError(source_name(source), f"cannot be used ({error.reason or error})") from error


def certificates(source: str) -> list[x509.Certificate]:
    """Every certificate of a PEM file, or of a PEM text itself; at least one."""
    what = source_name(source)

    def open_at_once(path: str, flags: int) -> int:
        return os.open(path, flags | os.O_NONBLOCK)  # a pipe must not block

    try:
        if is_pem(source):
            return x509.load_pem_x509_certificates(source.encode())
        require_strict_modes(what, source)
        with open(source, "rb", opener=open_at_once) as file:
            return x509.load_pem_x509_certificates(file.read(_LARGEST))
    except FileNotFoundError:
        raise NoInputError(what, "there is no such file", "put it there, or correct its name") from None
    except OSError as error:
        raise NoInputError(what, f"cannot be read ({error.strerror})", "let relay's user read it") from error
    except ValueError:
        raise NoInputError(what, "contains no readable certificate in PEM") from None


def source_name(source: str) -> str:
    """The name of a source of certificates in errors and alarms."""
    return "certificate in the configuration" if is_pem(source) else f"certificate {source}"


def fingerprint(certificate: bytes) -> str:
    """The fingerprint of a certificate in DER, in the notation of RFC 5425 section 4.2.2."""
    return "sha-256:" + hashlib.sha256(certificate).digest().hex(":").upper()


def certificate_summary(certificate: x509.Certificate) -> str:
    """Subject, issuer, end and fingerprint, for people."""
    shown = fingerprint(certificate.public_bytes(Encoding.DER))
    end = certificate.not_valid_after_utc.date().isoformat()
    return f"{common_name(certificate.subject)}, by {common_name(certificate.issuer)}, until {end}, {shown}"


def common_name(name: x509.Name) -> str:
    """The common name, else the whole name, for people."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else name.rfc4514_string() or "nobody"


def days_left(certificate: x509.Certificate) -> int:
    """Whole days until a certificate expires; negative after that."""
    return (certificate.not_valid_after_utc - dt.datetime.now(dt.UTC)).days


def pem(found: Sequence[x509.Certificate]) -> str:
    """The certificates in PEM, without the other text of their source."""
    return "".join(each.public_bytes(Encoding.PEM).decode("ascii") for each in found)


def _encoded(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
