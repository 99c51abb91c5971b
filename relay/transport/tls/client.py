"""Which servers a TLS client trusts, and its own certificate (RFC 5425 section 4.2).

The server's certificate must lead to an authority in `ca`, or without `ca` to one that this machine trusts, and be for
the server's name. With a `fingerprint` (RFC 5425 section 4.2.2) it must be the certificate with that fingerprint; name,
dates and signers then do not matter, unless `ca` is given too. No setting disables the verification. Errors are those
of `relay.transport.tls.certificate`.
"""

import ssl
from typing import NamedTuple

from cryptography import x509

from relay.transport.tls.certificate import identify, trust
from relay.transport.tls.engine import tls_context
from relay.values.configuration.settings import RemoteLoggingServer


class TlsClient(NamedTuple):
    """Everything for a handshake with one server."""

    context: ssl.SSLContext
    server_name: str  # the name that the certificate must have. It is sent to the server (SNI) unless it is an address
    fingerprint: str  # "" if the certificate's signers decide
    own: x509.Certificate | None  # relay's own certificate
    trusts: str  # which list of authorities is searched for the server's signer, for people


def tls_client(server: RemoteLoggingServer) -> TlsClient:
    """Read the files and texts that the server's settings name."""
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
