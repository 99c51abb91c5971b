"""What a TLS context of relay's is, whichever side it is for: TLS 1.2 and 1.3, and which ciphers Python chooses.

Which certificates are taken does not depend on Python's version. A chain may end at any certificate that is trusted,
also at one between (as with OpenSSL's -partial_chain). It is not held to the letter of RFC 5280, as Python 3.13 does by
default: rsyslog, syslog-ng and OpenSSL's own programs take, for example, certificates without key identifiers.

Nothing is renegotiated (RFC 9325 section 3.5). A connection that is cut off is an error and no end, whatever the
machine's own OpenSSL settings are: on that a proof rests.
"""

import ssl


def tls_context(protocol: int) -> ssl.SSLContext:
    """A new one; `protocol` is ssl's PROTOCOL_TLS_CLIENT or PROTOCOL_TLS_SERVER."""
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


def is_cut_off(error: ssl.SSLError) -> bool:
    """Whether the peer ended the connection without a close_notify. Python 3.11.2 has no class of its own for this."""
    return isinstance(error, ssl.SSLEOFError) or error.reason == "UNEXPECTED_EOF_WHILE_READING"
