"""An event without text, as a router's events are, in words: the parameters that describe what happened come first.

    alarm       SEVERITY CATEGORY OPERATION: TEXT
    traffic     PROTOCOL SOURCE → DESTINATION RESULT (REASON)
    any other   USER: ACTION, TEXT, permitted or NOT PERMITTED (REASON)

The other parameters follow as `NAME=VALUE`, places before the rest. Routers spell one name in several ways (`sourceIp`,
`source_address`), so names are compared without case, `_` and `-`. The columns before show type and router already.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from relay.syslog.outcome import FAILURES, GRANTS, NO, RESULTS, YES, plain_name
from relay.syslog.rfc5424 import Message

NOTHING: Final = "(no text and no parameters)"
_OWN: Final = frozenset({"relayRun", "relaySeq", "relayPart", "type", "router"})
_PLACES: Final = ("node", "process", "interface", "service", "tenant", "source", "peer")
_SEVERITY: Final = ("severity", "alarmSeverity")
_CATEGORY: Final = ("category", "alarmCategory")
_OPERATION: Final = ("operation", "state", "alarmState", "action")
_TEXT: Final = ("message", "text", "description", "details", "summary")
_PROTOCOL: Final = ("protocol", "ipProtocol", "proto", "transport")
_SOURCE: Final = ("sourceAddress", "sourceIp", "srcAddress", "srcIp", "source", "src")
_SOURCE_PORT: Final = ("sourcePort", "srcPort")
_DESTINATION: Final = (
    "destinationAddress", "destinationIp", "destAddress", "destIp", "dstAddress", "dstIp", "destination", "dest", "dst",
)  # fmt: skip
_DESTINATION_PORT: Final = ("destinationPort", "destPort", "dstPort")
_USER: Final = ("user", "username", "account", "administrator")
_ACTION: Final = ("action", "operation", "command", "activity", "event", "eventType", "subtype", "name")
_REASON: Final = ("reason", "reasonCode", "failureReason", "failureCode", "errorCode", "error", "cause")
_VERBS: Final = {
    "success": ("succeeded", "FAILED"),
    "succeeded": ("succeeded", "FAILED"),
    "permitted": ("permitted", "NOT PERMITTED"),
    "allowed": ("allowed", "NOT ALLOWED"),
    "authorized": ("authorized", "NOT AUTHORIZED"),
    "failed": ("FAILED", "succeeded"),
    "failure": ("FAILED", "succeeded"),
    "denied": ("DENIED", "not denied"),
}
"""Name of a yes or no → what either means."""


def parameters(message: Message) -> Iterator[tuple[str, str]]:
    """Every parameter except relay's own."""
    for element in message.structured_data:
        for name, value in element.params:
            if (text := name.decode("ascii")) not in _OWN:
                yield text, value.decode()


def in_words(kind: str, message: Message) -> str:
    """All parameters on one line; those that describe what happened come first."""
    rest = _UnusedParams(parameters(message))
    if kind == "alarm":
        words = _alarm(rest)
    elif kind == "traffic":
        words = _traffic(rest)
    else:
        words = _action(rest)
    return "  ".join(filter(None, (words, rest.listed()))) or NOTHING


class _UnusedParams:
    """The parameters that are not in words yet."""

    def __init__(self, params: Iterable[tuple[str, str]]) -> None:
        self._left = list(params)

    def take(self, names: Iterable[str]) -> str:
        """The value of the first of these names that is there; empty when none is."""
        return self._taken(names)[1]

    def _taken(self, names: Iterable[str]) -> tuple[str, str]:
        for wanted in names:
            for index, (name, value) in enumerate(self._left):
                if plain_name(name) == plain_name(wanted) and value:
                    del self._left[index]
                    return plain_name(name), value
        return "", ""

    def address(self, hosts: Iterable[str], ports: Iterable[str]) -> str:
        """HOST:PORT, or as much of it as there is."""
        host, port = self.take(hosts), self.take(ports)
        host = f"[{host}]" if ":" in host and port else host
        return ":".join(filter(None, (host or ("?" if port else ""), port)))

    def outcome(self) -> str:
        """Whether it succeeded, and why not."""
        name, value = self._taken((*sorted(GRANTS), *sorted(FAILURES), *sorted(RESULTS)))
        word = value.casefold()
        if name in _VERBS and word in YES | NO:
            value = _VERBS[name][word in NO]
        reason = self.take(_REASON)
        return " ".join(filter(None, (value, f"({reason})" if reason else "")))

    def listed(self) -> str:
        """What is left: places first."""
        order = {name: number for number, name in enumerate(_PLACES)}
        left = sorted(self._left, key=lambda param: order.get(plain_name(param[0]), len(order)))
        return " ".join(f"{name}={_quoted(value)}" for name, value in left)


def _quoted(value: str) -> str:
    return value if value and not set(value) & set(' "\t\n') else '"' + value.replace('"', r"\"") + '"'


def _alarm(rest: _UnusedParams) -> str:
    what = " ".join(filter(None, (rest.take(_SEVERITY), rest.take(_CATEGORY), rest.take(_OPERATION))))
    return ": ".join(filter(None, (what, rest.take(_TEXT))))


def _traffic(rest: _UnusedParams) -> str:
    protocol = rest.take(_PROTOCOL)
    ends = rest.address(_SOURCE, _SOURCE_PORT), rest.address(_DESTINATION, _DESTINATION_PORT)
    way = f"{ends[0] or '?'} → {ends[1] or '?'}" if any(ends) else ""
    return " ".join(filter(None, (protocol, way, rest.outcome(), rest.take(_TEXT))))


def _action(rest: _UnusedParams) -> str:
    user = rest.take(_USER)
    what = ", ".join(filter(None, (rest.take(_ACTION), rest.take(_TEXT), rest.outcome())))
    return ": ".join(filter(None, (user, what)))
