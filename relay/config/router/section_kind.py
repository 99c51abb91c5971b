"""The sections of a router's configuration that matter here: which stands in which, and how many keys each has. Pure.

That is what a line needs that says its whole way: `config authority router r system audit retention 1d`, as
`show config running flat` prints it, "fully qualified". A section that is not among these counts as a leaf.
"""

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from relay.config.router.quoted_values import places
from relay.values.event import OPTIONAL_TYPES


class SectionKind(NamedTuple):
    """One kind of section."""

    inner: "Mapping[str, SectionKind]"
    keys: int = 0
    """So many at most; fewer where after the first a name of `leaves` or `inner` stands."""
    leaves: frozenset[str] = frozenset()


class PathStep(NamedTuple):
    """One step on a line's way: a section with its keys, or at last a leaf with its values."""

    name: str
    rest: str
    """The keys or values, as they stand."""
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
"""Names that stand beside sections that matter here, and that nowhere begin one."""
NAMES: Final = frozenset(_names(ROOT))
_ONLY_HERE: Final = {"audit": False, "syslog": False, "remote-logging-server": True, "port-forwarding": True}
"""Whether keys follow the name."""


def is_only_here(name: str, rest: str) -> bool:
    """Whether it begins a section for which a router has one place, and is no leaf of that name."""
    return _ONLY_HERE.get(name) is bool(rest)


def steps(text: str) -> Iterator[PathStep]:
    """Part a line that says its whole way, from `config` on."""
    found = places(text)
    words = [text[begin:end] for begin, end in found]
    at, kinds = 0, ROOT.inner
    while at < len(words):
        name = words[at]
        kind = kinds.get(name)
        end = len(words) if kind is None else at + 1 + _keys(kind, words[at + 1 : at + 1 + kind.keys])
        yield PathStep(name, text[found[at][1] : found[end - 1][1]].strip(), kind)
        at, kinds = end, {} if kind is None else kind.inner


def _keys(kind: SectionKind, words: list[str]) -> int:
    """How many of the words after a section's name are its keys."""
    names = kind.leaves | kind.inner.keys()
    return next((count for count, word in enumerate(words) if count and word in names), len(words))
