"""Events without text (a router's) in one line: what happened comes first, then the other parameters.

    alarm       SEVERITY CATEGORY OPERATION: TEXT
    traffic     PROTOCOL SOURCE → DESTINATION RESULT (REASON)
    any other   USER: ACTION, TEXT, permitted or NOT PERMITTED (REASON)

The other parameters follow as `NAME=VALUE`, those that name a place first. Routers spell one name in several ways
(`sourceIp`, `source_address`), so names are compared without case, `_` and `-`. Type and router are not repeated: the
columns before the summary have them.
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
"""Name of a parameter with yes or no → what either means."""


def parameters(message: Message) -> Iterator[tuple[str, str]]:
    """Every parameter except relay's own."""
    for element in message.structured_data:
        for name, value in element.params:
            if (text := name.decode("ascii")) not in _OWN:
                yield text, value.decode()


def summary(kind: str, message: Message) -> str:
    """All parameters on one line; those that describe what happened come first."""
    rest = _UnusedParams(parameters(message))
    if kind == "alarm":
        head = _joined(" ", rest.take(_SEVERITY), rest.take(_CATEGORY), rest.take(_OPERATION))
        words = _joined(": ", head, rest.take(_TEXT))
    elif kind == "traffic":
        protocol = rest.take(_PROTOCOL)
        source, destination = rest.address(_SOURCE, _SOURCE_PORT), rest.address(_DESTINATION, _DESTINATION_PORT)
        route = f"{source or '?'} → {destination or '?'}" if source or destination else ""
        words = _joined(" ", protocol, route, rest.outcome(), rest.take(_TEXT))
    else:
        user = rest.take(_USER)
        words = _joined(": ", user, _joined(", ", rest.take(_ACTION), rest.take(_TEXT), rest.outcome()))
    return _joined("  ", words, rest.listed()) or NOTHING


def _joined(separator: str, *parts: str) -> str:
    """The parts that are not empty."""
    return separator.join(filter(None, parts))


class _UnusedParams:
    """The parameters that the summary does not contain yet."""

    def __init__(self, params: Iterable[tuple[str, str]]) -> None:
        self._left = list(params)

    def take(self, names: Iterable[str]) -> str:
        """The value of the first of these names that is present; empty when none is."""
        return self._taken(names)[1]

    def _taken(self, names: Iterable[str]) -> tuple[str, str]:
        for sought in map(plain_name, names):
            for index, (name, value) in enumerate(self._left):
                if plain_name(name) == sought and value:
                    del self._left[index]
                    return sought, value
        return "", ""

    def address(self, hosts: Iterable[str], ports: Iterable[str]) -> str:
        """HOST:PORT, or as much of it as is present."""
        host, port = self.take(hosts), self.take(ports)
        host = f"[{host}]" if ":" in host and port else host
        return _joined(":", host or ("?" if port else ""), port)

    def outcome(self) -> str:
        """Whether it succeeded, and why not."""
        name, value = self._taken((*sorted(GRANTS), *sorted(FAILURES), *sorted(RESULTS)))
        word = value.casefold()
        if name in _VERBS and word in YES | NO:
            value = _VERBS[name][word in NO]
        reason = self.take(_REASON)
        return _joined(" ", value, f"({reason})" if reason else "")

    def listed(self) -> str:
        """The parameters that are left, as NAME=VALUE; those that name a place come first."""
        order = {name: number for number, name in enumerate(_PLACES)}
        words = []
        for name, text in sorted(self._left, key=lambda param: order.get(plain_name(param[0]), len(order))):
            bare = text and not set(text) & set(' "\t\n')
            value = text if bare else '"' + text.replace('"', r"\"") + '"'
            words.append(f"{name}={value}")
        return " ".join(words)
