"""Why a stream cannot be closed cleanly."""

from relay.errors import ProtocolError, UnavailableError


class SlowSenderError(ProtocolError):
    """The rest of a frame did not arrive in time."""


class SlowHandshakeError(ProtocolError):
    """The TLS handshake was not completed in time."""


class TruncatedStreamError(ProtocolError):
    """The stream was half-closed inside a frame; a clean close would accept an incomplete message."""


class UnusedStreamError(UnavailableError):
    """The stream has not completed a message in time."""
