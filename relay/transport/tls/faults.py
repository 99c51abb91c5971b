"""Why one side of a TLS handshake does not accept the other's certificate, in words, with what repairs it. Pure.

`distrust` is OpenSSL's verdict on the peer's certificate (openssl-verification-options(1), x509_vfy.h); `refusal` is
the peer's alert about ours (RFC 8446 section 6.2). Each names the side at fault.
"""

import datetime as dt
import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from relay.transport.tls.certificate import common_name, fingerprint
from relay.values.text import quoted

_SHOWN: Final = 5  # names of a certificate
_ALERT: Final = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?")
ANY_PURPOSE: Final = "anyExtendedKeyUsage"
_PURPOSES: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: ANY_PURPOSE,
}


class TlsFault(NamedTuple):
    """A cause and its remedy, as errors name them."""

    cause: str
    remedy: str


class VerifyResult(NamedTuple):
    """What OpenSSL says of a peer's certificate, and what is known besides."""

    code: int
    """X509_V_ERR_…"""
    words: str
    chain: Sequence[x509.Certificate]
    """What the peer has sent, its own certificate first; empty where that is not known."""
    now: dt.datetime
    """By this machine's clock."""
    whose: str
    """`its` for a server that errors name already, `the sender's` for a client."""
    purpose: str
    """`serverAuth` or `clientAuth`: what the certificate is to be for."""
    name: str = ""
    """Whom it should be for; "" where any name will do."""
    trusts: str = "`ca`"
    """What should have its signer."""

    @property
    def own(self) -> x509.Certificate | None:
        """The peer's own certificate."""
        return self.chain[0] if self.chain else None


def distrust(verdict: VerifyResult) -> TlsFault:
    """Say what is wrong with the peer's certificate."""
    explain = _EXPLANATIONS.get(verdict.code)
    if explain is not None:
        return explain(verdict)
    cause = f"{verdict.whose} certificate is not to be trusted: {verdict.words.rstrip('.')}"
    return TlsFault(cause, f"{verdict.trusts} must lead to it, or pin it by `fingerprint`; see {_SEE}")


_SEE: Final = "`openssl verify -CAfile CA FILE`"


def _over(verdict: VerifyResult) -> TlsFault:
    late = next((each for each in verdict.chain if each.not_valid_after_utc < verdict.now), None)
    ended = f"expired on {_time(late.not_valid_after_utc)}" if late else "has expired"
    remedy = "renew it there; if this machine's clock is wrong, set it (`timedatectl`)"
    return TlsFault(f"{_which(verdict, late)} {ended}; this machine's clock says {_time(verdict.now)}", remedy)


def _not_yet(verdict: VerifyResult) -> TlsFault:
    early = next((each for each in verdict.chain if each.not_valid_before_utc > verdict.now), None)
    begins = f"is not valid before {_time(early.not_valid_before_utc)}" if early else "is not valid yet"
    remedy = "set this machine's clock if it is wrong (`timedatectl`); else use a certificate that is valid already"
    return TlsFault(f"{_which(verdict, early)} {begins}; this machine's clock says {_time(verdict.now)}", remedy)


def _which(verdict: VerifyResult, found: x509.Certificate | None) -> str:
    if found is None and verdict.chain:
        return f"a certificate that signs {verdict.whose} certificate"  # one of those that this side has
    if found is None or found == verdict.own:
        return f"{verdict.whose} certificate"
    return f"the certificate of {_quoted_name(found.subject)}, which signs {verdict.whose} certificate,"


def _purpose(verdict: VerifyResult) -> TlsFault:
    has = purposes(verdict.own)
    told = f" (its extended key usage: {', '.join(has)})" if has else ""
    side = "servers" if verdict.purpose == "serverAuth" else "clients"
    remedy = f"have it issued with {verdict.purpose} in its extended key usage"
    return TlsFault(f"{verdict.whose} certificate is not for {side}{told}", remedy)


def _name(verdict: VerifyResult) -> TlsFault:
    names = _names(verdict.own)
    if not names:
        cause = f"{verdict.whose} certificate names no host, so it is not for {quoted(verdict.name)}"
        return TlsFault(cause, "have it issued with that name in subjectAltName, or pin it by `fingerprint`")
    listed = ", ".join(map(quoted, names[:_SHOWN])) + (", …" if len(names) > _SHOWN else "")
    remedy = (
        f"if that is the right server, `server-name = {quoted(names[0])}`; else correct the address, or have a "
        "certificate issued for that name"
    )
    return TlsFault(f"{verdict.whose} certificate is for {listed} and not for {quoted(verdict.name)}", remedy)


def _self_signed(verdict: VerifyResult) -> TlsFault:
    cause = f"{verdict.whose} certificate is self-signed, and {verdict.trusts} does not have it"
    return TlsFault(cause, f"compare it with the original, then let `ca` name its file{_or_pin(verdict)}")


def _unknown_issuer(verdict: VerifyResult) -> TlsFault:
    if not verdict.chain:
        cause = f"{verdict.whose} certificate is not signed by a certificate in {verdict.trusts}"
        return TlsFault(cause, f"`ca` must name the file with its signer's certificate; see {_SEE}")
    issuer = _quoted_name(verdict.chain[-1].issuer)
    cause = f"{verdict.whose} certificate is signed by {issuer}, which {verdict.trusts} does not have"
    return TlsFault(cause, f"`ca` must name the file with the certificate of {issuer}{_or_pin(verdict)}")


def _or_pin(verdict: VerifyResult) -> str:
    if verdict.own is None or verdict.purpose != "serverAuth":
        return ""
    shown = fingerprint(verdict.own.public_bytes(Encoding.DER))
    return f'; or pin it: `fingerprint = "{shown}"`, if that is what the server\'s administrator sees'


def _namesake(verdict: VerifyResult) -> TlsFault:
    issuer = _quoted_name(verdict.chain[-1].issuer) if verdict.chain else "its signer"
    cause = f"{verdict.whose} certificate is not signed by the {issuer} that {verdict.trusts} has"
    return TlsFault(cause, f"`ca` names an older or another certificate of that name: replace it{_or_pin(verdict)}")


def _no_authority(verdict: VerifyResult) -> TlsFault:
    cause = f"{verdict.whose} certificate is signed by one that is not an authority's"
    return TlsFault(cause, "have it signed by a certificate with CA:TRUE in its basic constraints")


def _too_weak(verdict: VerifyResult) -> TlsFault:
    cause = f"{verdict.whose} certificate, or one that signs it, is too weak ({verdict.words.rstrip('.')})"
    return TlsFault(cause, "have it issued with an ECDSA key or an RSA key of 2048 bits or more, and SHA-256")


_EXPLANATIONS: Final[dict[int, Callable[[VerifyResult], TlsFault]]] = {
    7: _namesake,
    9: _not_yet,
    10: _over,
    26: _purpose,
    62: _name,  # a host name
    64: _name,  # an IP address
    18: _self_signed,
    **dict.fromkeys((2, 19, 20, 21), _unknown_issuer),
    **dict.fromkeys((24, 25, 79), _no_authority),
    **dict.fromkeys((66, 67, 68), _too_weak),
}


# --- Our certificate, refused ---


def alert(reason: str | None) -> str:
    """The alert that the peer has sent, as OpenSSL names it behind SSLV3_ALERT_ or, as a younger one, TLSV1_; or ""."""
    prefix = _ALERT.match(reason or "")
    return (reason or "")[prefix.end() :] if prefix else ""


def refusal(name: str, own: x509.Certificate | None, who: str, purpose: str) -> TlsFault | None:
    """What an alert says of our certificate; None when it is about something else.

    `who` has sent it: `it` for a server that errors name already, `the sender` for a client. `purpose`: as in Verdict.
    """
    if name == "CERTIFICATE_REQUIRED" and own is None:
        cause = f"{who} requires a client certificate, and none is configured (TLS alert: {words(name)})"
        return TlsFault(cause, "set `certificate` and `private-key` to a pair whose signer it trusts")
    if name not in _ABOUT_OUR_CERTIFICATE:
        return None
    told, remedy = "", "`certificate` and `private-key` must be of a pair whose signer it trusts"
    if own is not None:
        begins, end, issuer = _time(own.not_valid_before_utc), _time(own.not_valid_after_utc), _quoted_name(own.issuer)
        match name:
            case "CERTIFICATE_EXPIRED":
                told, remedy = (
                    f": it is valid until {end}",
                    "renew it; if it has not expired, that machine's clock is wrong",
                )
            case "UNKNOWN_CA":
                told = f": it is signed by {issuer}, which is not trusted there"
                remedy = f"give that machine the certificate of {issuer} as an authority, or use one that it knows"
            case "DECRYPT_ERROR":
                told = f": it has another certificate of the name {issuer}, which did not sign relay's"
                remedy = f"give that machine the present certificate of {issuer} as an authority"
            case "UNSUPPORTED_CERTIFICATE":
                told = f": it is for {', '.join(purposes(own)) or 'any purpose'}"
                remedy = f"have it issued with {purpose} in its extended key usage"
            case _:
                told = f": it is for {_quoted_name(own.subject)}, by {issuer}, valid from {begins} to {end}"
                remedy = "that machine's log names the reason: its clock, the names that it permits, or a revocation"
    return TlsFault(f"{who} refuses relay's certificate (TLS alert: {words(name)}){told}", remedy)


_ABOUT_OUR_CERTIFICATE: Final = frozenset(
    {
        *("ACCESS_DENIED", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REQUIRED", "CERTIFICATE_REVOKED"),
        *("CERTIFICATE_UNKNOWN", "DECRYPT_ERROR", "UNKNOWN_CA", "UNSUPPORTED_CERTIFICATE"),
    }
)
"""Alerts (RFC 8446 section 6.2) that speak of our certificate, its signature, or its absence."""


def words(reason: str | None) -> str:
    """OpenSSL's name for something, as people write it."""
    return (reason or "unknown").lower().replace("_", " ")


# --- Certificates ---


def purposes(certificate: x509.Certificate | None) -> list[str]:
    """A certificate's extended key usage; empty when it is for any purpose, or cannot be read."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage) if certificate else None
    except (x509.ExtensionNotFound, ValueError):
        found = None
    return [_PURPOSES.get(usage, usage.dotted_string) for usage in found.value] if found else []


def _names(certificate: x509.Certificate | None) -> list[str]:
    """The hosts and addresses that a certificate is for; its common name where it has none (RFC 6125 section 6.4.4)."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName) if certificate else None
    except (x509.ExtensionNotFound, ValueError):
        found = None
    if found is not None:
        return [str(name.value) for name in found.value if isinstance(name, x509.DNSName | x509.IPAddress)]
    return [common_name(certificate.subject)] if certificate is not None else []


def _quoted_name(name: x509.Name) -> str:
    return quoted(common_name(name))


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
