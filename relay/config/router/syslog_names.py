"""A router's names of syslog's facilities, severities and transports, in relay's own: text in, text out. Pure.

On a router, `local0` to `local7` is the facility of its own messages (`local0` by default); only other facilities
select messages of other programs. relay's events are the router's own, so `local0` means all of them. ValueError says
what a name must be.
"""

from typing import Final

from relay.syslog.priority import FACILITIES, SEVERITIES
from relay.values.text import quoted

_SEVERITIES: Final = {
    "emergency": "emerg",
    "panic": "emerg",
    "critical": "crit",
    "error": "err",
    "warn": "warning",
    "informational": "info",
    "information": "info",
    "trace": "debug",  # the router's own, below debug
    "any": "debug",
}
_ROUTERS_SEVERITIES: Final = "emergency, alert, critical, error, warning, notice, info, debug or trace"


def facility(text: str) -> str:
    """One of `FACILITIES`; "" for all."""
    if text == "any" or is_routers_own(text):
        return ""
    if text not in FACILITIES:
        raise ValueError(f"must be any or one of {', '.join(FACILITIES)}, not {quoted(text)}")
    return text


def is_routers_own(text: str) -> bool:
    """Whether a facility stands for the router's own messages."""
    return text in FACILITIES and text.startswith("local")


def severity(text: str) -> str:
    """One of `SEVERITIES`."""
    found = _SEVERITIES.get(text, text)
    if found not in SEVERITIES:
        raise ValueError(f"must be {_ROUTERS_SEVERITIES}, not {quoted(text)}")
    return found


def transport(text: str) -> str:
    """One of udp, tcp and tls."""
    if text not in {"udp", "tcp", "tls"}:
        raise ValueError(f"must be udp, tcp or tls, not {quoted(text)}")
    return text
