"""The flow control of a channel (RFC 4254 section 5.2), which paramiko's client does not enforce.

A server may send as many octets as relay has granted, data and extended data together. It has no use for the latter in
a forwarding, so they are discarded. paramiko calls these functions with the channel and the message.
"""

from typing import Any, Final

import paramiko

_LARGEST_WINDOW: Final = (1 << 32) - 1
_Channel = Any  # paramiko.Channel; these attributes are not in the stubs


def take_data(channel: _Channel, message: paramiko.Message) -> None:
    """Keep data for the channel's reader."""
    octets = message.get_binary()
    _require_window(channel, len(octets))
    channel.transport.packetizer.budget.earn_data(len(octets))
    channel.in_buffer.feed(octets)


def discard_extended_data(channel: _Channel, message: paramiko.Message) -> None:
    """Count them as read."""
    message.get_int()  # its kind
    octets = len(message.get_binary())
    _require_window(channel, octets)
    with channel.lock:
        channel.in_window_sofar += octets


def _require_window(channel: _Channel, octets: int) -> None:
    """Refuse data beyond the window; what another thread reads at this moment counts as granted again."""
    if len(channel.in_buffer) + channel.in_window_sofar + octets > channel.in_window_size:
        channel.transport.watched.refuse("it sent more data than the window of a channel allows")


def widen(channel: _Channel, message: paramiko.Message) -> None:
    """Let more octets be sent."""
    added = message.get_int()
    with channel.lock:
        if channel.out_window_size + added > _LARGEST_WINDOW:
            channel.transport.watched.refuse("it widened the window of a channel beyond 2^32 octets")
        channel.out_window_size += added
        channel.out_buffer_cv.notify_all()
