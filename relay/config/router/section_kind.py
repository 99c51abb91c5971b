"""The kinds of sections in a router's configuration that relay reads: where they can be, and their keys. Pure.

A line with a full path needs them: `config authority router r system audit retention 1d`, as `show config running flat`
prints it, "fully qualified". A section of another kind counts as a leaf.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from relay.config.router.quoted_values import places
from relay.values.event import OPTIONAL_TYPES


class SectionKind(NamedTuple):
    """One kind of section."""

    inner: "Mapping[str, SectionKind]"
    keys: int = 0
    """The most keys that it has; fewer when a name of `leaves` or `inner` follows behind the first."""
    leaves: frozenset[str] = frozenset()


class PathStep(NamedTuple):
    """One step of a line's full path: a section with its keys, or at last a leaf with its values."""

    name: str
    rest: str
    """The keys or values, unchanged."""
    kind: SectionKind | None
    """Of a section; None for a leaf."""


_PLAIN: Final = SectionKind({})
_AUDIT: Final = SectionKind(
    {
        **dict.fromkeys((*(kind.audit_key for kind in OPTIONAL_TYPES), "administrative"), _PLAIN),
        "remote-logging-server": SectionKind({}, 2, frozenset({"address", "port"})),
    }
)
_SYSLOG: Final = SectionKind(
    {"server": SectionKind({"filter": SectionKind({}, 1)}, 2, frozenset({"ip-address", "port", "protocol", "ocsp"}))}
)
PORT_FORWARDING: Final = SectionKind(
    {},
    3,
    frozenset(
        {
            *("local-address", "local-port", "local-interface", "remote-host", "remote-port", "remote-interface"),
            *("server-address", "server-port", "server-destination"),
        }
    ),
)
_CERTIFICATES: Final = dict.fromkeys(("trusted-ca-certificate", "client-certificate"), SectionKind({}, 1))
_TAGS: Final = SectionKind({}, 1)
_INPUT: Final = SectionKind({"tags": _TAGS, "event": _PLAIN}, 1)
_OUTPUT: Final = SectionKind({"syslog": _PLAIN}, 1)
_PROFILE: Final = {"tags": _TAGS, "input": SectionKind({}, 1), "variables": SectionKind({}, 1)}
_MONITORING: Final = SectionKind({"agent-config": SectionKind(_PROFILE, 1), "input": _INPUT, "output": _OUTPUT})
ROUTER: Final = SectionKind(
    {
        "node": SectionKind({"port-forwarding": PORT_FORWARDING}, 1),
        "system": SectionKind(
            {"audit": _AUDIT, "syslog": _SYSLOG, "monitoring": SectionKind({**_PROFILE, "output": _OUTPUT})}
        ),
        **_CERTIFICATES,
    },
    1,
)
_AUTHORITY: Final = SectionKind({"router": ROUTER, "monitoring": _MONITORING, **_CERTIFICATES})
_CONFIG: Final = SectionKind({"authority": _AUTHORITY, **_AUTHORITY.inner})
ROOT: Final = SectionKind({"config": _CONFIG, **_CONFIG.inner})
"""A whole text; its outermost sections may be left out."""


def _names(kind: SectionKind) -> Iterator[str]:
    for name, inner in kind.inner.items():
        yield name
        yield from _names(inner)


LEAVES: Final = frozenset(
    {
        *("name", "description", "role", "retention", "disk-full-action", "enabled", "persist"),
        *("facility", "severity", "ocsp", "local-address", "local-port"),
    }
)
"""Names of leaves beside such sections, which are nowhere names of sections."""
NAMES: Final = frozenset(_names(ROOT))
_ONLY_HERE: Final = {"audit": False, "syslog": False, "remote-logging-server": True, "port-forwarding": True}
"""Whether keys follow the name."""


def is_only_here(name: str, rest: str) -> bool:
    """Whether a line begins a section that a router has in one place only, not a leaf of the same name."""
    return _ONLY_HERE.get(name) is bool(rest)


def steps(text: str) -> Iterator[PathStep]:
    """Split a line with its full path, from `config` on, into steps."""
    found = places(text)
    words = [text[begin:end] for begin, end in found]
    at, kinds = 0, ROOT.inner
    while at < len(words):
        name = words[at]
        kind = kinds.get(name)
        end = len(words)
        if kind is not None:
            keys = words[at + 1 : at + 1 + kind.keys]
            names = kind.leaves | kind.inner.keys()
            end = at + 1 + next((count for count, word in enumerate(keys) if count and word in names), len(keys))
        yield PathStep(name, text[found[at][1] : found[end - 1][1]].strip(), kind)
        at, kinds = end, {} if kind is None else kind.inner
