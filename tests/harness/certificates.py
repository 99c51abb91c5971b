"""Certificates for one test: an authority, and the pairs that it signs, as PEM files in a folder."""

import datetime as dt
import ipaddress
import ssl
from pathlib import Path
from typing import Final, Literal, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_Key = EllipticCurvePrivateKey | rsa.RSAPrivateKey
_USAGES: Final = {"serverAuth": ExtendedKeyUsageOID.SERVER_AUTH, "clientAuth": ExtendedKeyUsageOID.CLIENT_AUTH}
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
    """The certificate that a collector shows over TLS, and the authority whose clients it accepts."""

    pair: Pair
    authority: Path
    driver: Literal["ossl", "gtls"] = "ossl"
    """Which library rsyslog uses: OpenSSL or GnuTLS."""
    anyone: bool = False
    """Whether rsyslog's imtcp accepts clients without a certificate."""


class Authority:
    """Signs certificates into `folder`; its own is `certificate`."""

    def __init__(
        self,
        folder: Path,
        name: str = "authority",
        above: "Authority | None" = None,
        *,
        days: int = 365,
        ca: bool = True,
    ) -> None:
        """The authority `above` signs it, or it signs itself; without `ca` its certificate is not for an authority."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = _name(name)
        self._key = generate_private_key(SECP256R1())
        by = above or self
        own = _unsigned(self._name, by._name, self._key, days).add_extension(x509.BasicConstraints(ca, None), True)
        self.certificate = folder / f"{name}.pem"
        self.certificate.write_bytes(own.sign(by._key, hashes.SHA256()).public_bytes(Encoding.PEM))

    def client(self) -> ssl.SSLContext:
        """What a client has that trusts it, as rsyslog would: Python's default is stricter since 3.13."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.certificate)
        return context

    @property
    def itself(self) -> Pair:
        """Its own certificate, as if it were a server's."""
        return self._kept(self.certificate, self._key)

    def pair(
        self,
        name: str,
        *addresses: str,
        days: int = 90,
        begins: int = 0,
        usage: str = "",
        named: bool = True,
        weak: bool = False,
    ) -> Pair:
        """Make a certificate for a name and IP addresses that is valid for that many days; negative: it has expired.

        It becomes valid `begins` days from now, is for one `usage` only ("serverAuth", "clientAuth"), has a
        subjectAltName unless `named` is off, and has a key that is too short for today with `weak`.
        """
        key = rsa.generate_private_key(65537, 1024) if weak else generate_private_key(SECP256R1())
        builder = _unsigned(_name(name), self._name, key, days, begins)
        if usage:
            builder = builder.add_extension(x509.ExtendedKeyUsage([_USAGES[usage]]), critical=False)
        if named:
            names = [x509.DNSName(name), *(x509.IPAddress(ipaddress.ip_address(address)) for address in addresses)]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        certificate = self._folder / f"{name}.pem"
        certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM))
        return self._kept(certificate, key)

    def _kept(self, certificate: Path, key: _Key) -> Pair:
        pair = Pair(certificate, certificate.with_suffix(".key"))
        pair.key.touch(mode=0o600)
        pair.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        return pair


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _unsigned(subject: x509.Name, issuer: x509.Name, key: _Key, days: int, begins: int = 0) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    start = now + dt.timedelta(days=begins) if begins else now - dt.timedelta(days=abs(days) + 1)
    return (
        x509.CertificateBuilder(subject_name=subject, issuer_name=issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(now + dt.timedelta(days=days))
    )
