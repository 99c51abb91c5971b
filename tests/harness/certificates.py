"""Certificates of a test's own: an authority, and the pairs that it signs, as PEM files in a folder. None is kept."""

import datetime as dt
import ipaddress
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

SERVER: Final = "collector.example"
ROUTER: Final = "router.example"


class Pair(NamedTuple):
    """A certificate and its private key."""

    certificate: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        """As RFC 5425 section 4.2.2 writes it."""
        loaded = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        return "sha-256:" + loaded.fingerprint(hashes.SHA256()).hex(":").upper()


class Shown(NamedTuple):
    """What a collector shows to those that connect by TLS, and whose certificates it lets in."""

    pair: Pair
    authority: Path
    driver: Literal["ossl", "gtls"] = "ossl"
    """Which library rsyslog uses: OpenSSL or GnuTLS."""
    anyone: bool = False
    """Whether rsyslog's imtcp lets in those that have no certificate."""


class Authority:
    """Signs certificates into `folder`; its own is `certificate`."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = _name(name)
        self._key = generate_private_key(SECP256R1())
        own = _unsigned(self._name, self._name, self._key, 365).add_extension(x509.BasicConstraints(True, None), True)
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(own.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def pair(self, name: str, *addresses: str, days: int = 90) -> Pair:
        """A certificate for a name and IP addresses that is good for so many days; of negative ones it is over."""
        key = generate_private_key(SECP256R1())
        names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)]
        builder = _unsigned(_name(name), self._name, key, days)
        signed = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        pair.certificate.write_bytes(signed.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=abs(days) + 1))
        .not_valid_after(now + dt.timedelta(days=days))
    )
