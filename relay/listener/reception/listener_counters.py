"""What a listener counts."""

from dataclasses import dataclass


@dataclass(slots=True, kw_only=True)
class ListenerCounters:
    """A listener's counts since it started. Only its event loop writes; others may read."""

    open: int = 0  # connections now
    connections: int = 0
    refused: int = 0  # connections beyond a ceiling, reset at once
    messages: int = 0
    octets: int = 0
    cut: int = 0  # messages cut because they are too long
    dropped_octets: int = 0  # octets of these messages that were dropped
    truncated: int = 0  # streams aborted because they were half-closed inside a frame
    framing_errors: int = 0  # streams aborted because of octets that are not a frame, or not one that can be answered
    slow: int = 0  # streams aborted because the rest of a frame did not arrive
    idle: int = 0  # streams closed because nothing arrived
    unused: int = 0  # streams ended because they had not completed a message in time
    lost: int = 0  # streams that the peer or the network broke off
    storage_errors: int = 0  # streams aborted because the spool could not store their messages
    unanswered: int = 0  # streams ended because their messages were not durable in time
