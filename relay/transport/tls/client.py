"""Whom a TLS client trusts, and as whom it comes (RFC 5425 section 4.2).

The server's certificate must lead to one of `ca`, or without that to one that this machine trusts, and be for the
server's name. With a `fingerprint` (RFC 5425 section 4.2.2) it must be the very certificate that has it; then name,
dates and signers do not matter, unless `ca` is given too. Nothing turns that off. Errors are those of
`relay.transport.tls.certificate`.
"""

import ssl
from typing import NamedTuple

from cryptography import x509

from relay.transport.tls.certificate import identify, trust
from relay.transport.tls.engine import tls_context
from relay.values.settings import RemoteLoggingServer


class TlsClient(NamedTuple):
    """Everything for a handshake with one server."""

    context: ssl.SSLContext
    server_name: str
    """Whom the certificate must be for, and what the server is told (SNI, where it is no address)."""
    fingerprint: str
    """"" where the certificate's signers decide."""
    own: x509.Certificate | None
    """The certificate by which relay comes."""
    trusts: str
    """What should have the server's signer, for people."""


def tls_client(server: RemoteLoggingServer) -> TlsClient:
    """Read what the server's keys name."""
    context = tls_context(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = not server.fingerprint
    if server.ca:
        trust(context, server.ca)
    elif server.fingerprint:
        context.verify_mode = ssl.CERT_NONE  # the fingerprint is compared instead, before anything is sent
    else:
        context.load_default_certs()
    own = None
    if server.certificate:
        own = identify(context, server.certificate, server.private_key or server.certificate)
    trusts = "`ca`" if server.ca else "this machine's own list of authorities"
    return TlsClient(context, server.server_name or server.address, server.fingerprint, own, trusts)
