"""Why one side of a TLS handshake does not accept the other's certificate, with the remedy. Pure.

`distrust` explains OpenSSL's verdict on the peer's certificate (openssl-verification-options(1), x509_vfy.h). `refusal`
explains the peer's alert about relay's certificate (RFC 8446 section 6.2). Each names the side at fault.
"""

import datetime as dt
import re
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from relay.transport.tls.certificate import common_name, fingerprint
from relay.values.text import quoted

_MOST_NAMES: Final = 5
"""How many of a certificate's names an error lists."""
_ALERT: Final = re.compile(r"(?:SSLV3|TLSV1|TLSV13)_(?:ALERT_)?")
_VERIFY: Final = "`openssl verify -CAfile CA FILE`"
ANY_PURPOSE: Final = "anyExtendedKeyUsage"
_PURPOSES: Final = {
    ExtendedKeyUsageOID.SERVER_AUTH: "serverAuth",
    ExtendedKeyUsageOID.CLIENT_AUTH: "clientAuth",
    ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE: ANY_PURPOSE,
}


Extension = TypeVar("Extension", bound=x509.ExtensionType)


class TlsFault(NamedTuple):
    """An error's cause and remedy."""

    cause: str
    remedy: str


class VerifyResult(NamedTuple):
    """OpenSSL's verdict on a peer's certificate, and the circumstances."""

    code: int  # X509_V_ERR_…
    message: str
    chain: Sequence[x509.Certificate]
    """The certificates that the peer has sent, its own first; empty if they are not known."""
    now: dt.datetime  # by this machine's clock
    whose: str  # `its` for a server that the error names already, `the sender's` for a client
    purpose: str  # the required purpose: `serverAuth` or `clientAuth`
    name: str = ""  # the name that the certificate must have; "" if any will do
    trusts: str = "`ca`"  # which list of authorities was searched for the signer

    @property
    def own(self) -> x509.Certificate | None:
        """The peer's own certificate."""
        return self.chain[0] if self.chain else None


def distrust(result: VerifyResult) -> TlsFault:
    """Explain why the peer's certificate is not accepted."""
    whose, message = result.whose, result.message.rstrip(".")
    match result.code:
        case 2 | 19 | 20 | 21:  # the signer is not in the list
            return _unknown_issuer(result)
        case 7:  # the signature does not match the signer of that name
            issuer = _quoted_name(result.chain[-1].issuer) if result.chain else "signer"
            cause = f"{whose} certificate is not signed by the {issuer} that {result.trusts} has"
            remedy = f"`ca` names an older or another certificate of that name: replace it{_or_pin(result)}"
        case 9:
            return _not_yet_valid(result)
        case 10:
            return _expired(result)
        case 18:  # self-signed
            cause = f"{whose} certificate is self-signed, and {result.trusts} does not have it"
            remedy = f"compare it with the original, then set `ca` to its file{_or_pin(result)}"
        case 24 | 25 | 79:  # the signer must not sign
            cause = f"{whose} certificate is signed by a certificate that is not an authority's"
            remedy = "have it signed by a certificate with CA:TRUE in its basic constraints"
        case 26:  # the purpose
            usage = f" (its extended key usage: {', '.join(has)})" if (has := purposes(result.own)) else ""
            side = "servers" if result.purpose == "serverAuth" else "clients"
            cause = f"{whose} certificate is not for {side}{usage}"
            remedy = f"have it issued with {result.purpose} in its extended key usage"
        case 62 | 64:  # a host name, an IP address
            return _other_name(result)
        case 66 | 67 | 68:  # the key or the digest is too weak
            cause = f"{whose} certificate, or one that signs it, is too weak ({message})"
            remedy = "have it issued with an ECDSA key or an RSA key of 2048 bits or more, and SHA-256"
        case _:
            cause = f"{whose} certificate cannot be trusted: {message}"
            remedy = f"{result.trusts} must lead to it, or pin it by `fingerprint`; see {_VERIFY}"
    return TlsFault(cause, remedy)


def _expired(result: VerifyResult) -> TlsFault:
    late = next((each for each in result.chain if each.not_valid_after_utc < result.now), None)
    ended = f"expired on {_time(late.not_valid_after_utc)}" if late else "has expired"
    remedy = "renew it there; if this machine's clock is wrong, set it (`timedatectl`)"
    return TlsFault(f"{_which(result, late)} {ended}; this machine's clock says {_time(result.now)}", remedy)


def _not_yet_valid(result: VerifyResult) -> TlsFault:
    early = next((each for each in result.chain if each.not_valid_before_utc > result.now), None)
    begins = f"is not valid before {_time(early.not_valid_before_utc)}" if early else "is not valid yet"
    remedy = "if this machine's clock is wrong, set it (`timedatectl`); else use a certificate that is already valid"
    return TlsFault(f"{_which(result, early)} {begins}; this machine's clock says {_time(result.now)}", remedy)


def _which(result: VerifyResult, found: x509.Certificate | None) -> str:
    if found is None and result.chain:
        return f"a certificate that signs {result.whose} certificate"  # from this side's own list
    if found is None or found == result.own:
        return f"{result.whose} certificate"
    return f"the certificate of {_quoted_name(found.subject)}, which signs {result.whose} certificate,"


def _other_name(result: VerifyResult) -> TlsFault:
    names = certificate_names(result.own)
    if not names:
        cause = f"{result.whose} certificate has no host name, so it is not for {quoted(result.name)}"
        return TlsFault(cause, "have it issued with that name in subjectAltName, or pin it by `fingerprint`")
    listed = ", ".join(map(quoted, names[:_MOST_NAMES])) + (", …" if len(names) > _MOST_NAMES else "")
    remedy = (
        f"if that is the right server, set `server-name = {quoted(names[0])}`; else correct the address, or have a "
        "certificate issued for that name"
    )
    return TlsFault(f"{result.whose} certificate is for {listed} and not for {quoted(result.name)}", remedy)


def _unknown_issuer(result: VerifyResult) -> TlsFault:
    if not result.chain:
        cause = f"{result.whose} certificate is not signed by a certificate in {result.trusts}"
        return TlsFault(cause, f"set `ca` to the file with its signer's certificate; see {_VERIFY}")
    issuer = _quoted_name(result.chain[-1].issuer)
    cause = f"{result.whose} certificate is signed by {issuer}, which {result.trusts} does not have"
    return TlsFault(cause, f"set `ca` to the file with the certificate of {issuer}{_or_pin(result)}")


def _or_pin(result: VerifyResult) -> str:
    if result.own is None or result.purpose != "serverAuth":
        return ""
    shown = fingerprint(result.own.public_bytes(Encoding.DER))
    return f'; or pin it: `fingerprint = "{shown}"`, if the server\'s administrator confirms that fingerprint'


# --- relay's certificate, refused ---


def alert(reason: str | None) -> str:
    """The name of the alert that the peer has sent, without OpenSSL's prefix; "" if the reason is not an alert."""
    prefix = _ALERT.match(reason or "")
    return (reason or "")[prefix.end() :] if prefix else ""


def refusal(name: str, own: x509.Certificate | None, who: str, purpose: str) -> TlsFault | None:
    """Explain an alert about relay's own certificate; None if the alert is about something else.

    `who` has sent it: `it` for a server that the error names already, `the sender` for a client. `purpose` is what
    relay's certificate must be for: `serverAuth` or `clientAuth`.
    """
    if name == "CERTIFICATE_REQUIRED" and own is None:
        cause = f"{who} requires a client certificate, and none is configured (TLS alert: {in_words(name)})"
        return TlsFault(cause, "set `certificate` and `private-key` to a pair whose signer it trusts")
    if name not in _ABOUT_OUR_CERTIFICATE:
        return None
    detail, remedy = "", "set `certificate` and `private-key` to a pair whose signer it trusts"
    if own is not None:
        begins, end, issuer = _time(own.not_valid_before_utc), _time(own.not_valid_after_utc), _quoted_name(own.issuer)
        match name:
            case "CERTIFICATE_EXPIRED":
                detail = f": it is valid until {end}"
                remedy = "renew it; if it has not expired, that machine's clock is wrong"
            case "UNKNOWN_CA":
                detail = f": it is signed by {issuer}, which is not trusted there"
                remedy = f"add the certificate of {issuer} to that machine's authorities, or use one that it trusts"
            case "DECRYPT_ERROR":
                detail = f": it has another certificate with the name {issuer}, which did not sign relay's"
                remedy = f"add the current certificate of {issuer} to that machine's authorities"
            case "UNSUPPORTED_CERTIFICATE":
                detail = f": it is for {', '.join(purposes(own)) or 'any purpose'}"
                remedy = f"have it issued with {purpose} in its extended key usage"
            case _:
                detail = f": it is for {_quoted_name(own.subject)}, by {issuer}, valid from {begins} to {end}"
                remedy = "that machine's log names the reason: its clock, the names that it permits, or a revocation"
    return TlsFault(f"{who} refuses relay's certificate (TLS alert: {in_words(name)}){detail}", remedy)


_ABOUT_OUR_CERTIFICATE: Final = frozenset(
    {
        *("ACCESS_DENIED", "BAD_CERTIFICATE", "CERTIFICATE_EXPIRED", "CERTIFICATE_REQUIRED", "CERTIFICATE_REVOKED"),
        *("CERTIFICATE_UNKNOWN", "DECRYPT_ERROR", "UNKNOWN_CA", "UNSUPPORTED_CERTIFICATE"),
    }
)
"""Alerts (RFC 8446 section 6.2) about our certificate, its signature, or its absence."""


def in_words(reason: str | None) -> str:
    """OpenSSL's name for a reason, as people write it."""
    return (reason or "unknown").lower().replace("_", " ")


# --- Certificates ---


def purposes(certificate: x509.Certificate | None) -> list[str]:
    """A certificate's extended key usage; empty if it is for any purpose, or cannot be read."""
    usages = _extension(certificate, x509.ExtendedKeyUsage)
    return [_PURPOSES.get(usage, usage.dotted_string) for usage in usages or ()]


def certificate_names(certificate: x509.Certificate | None) -> list[str]:
    """The hosts and addresses that a certificate is for; else its common name (RFC 6125 section 6.4.4)."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is not None:
        return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]
    return [common_name(certificate.subject)] if certificate is not None else []


def _extension(certificate: x509.Certificate | None, kind: type[Extension]) -> Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value if certificate else None
    except (x509.ExtensionNotFound, ValueError):
        return None


def _quoted_name(name: x509.Name) -> str:
    return quoted(common_name(name))


def _time(moment: dt.datetime) -> str:
    return moment.astimezone(dt.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
