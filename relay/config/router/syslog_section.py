"""A router's `system > syslog` as [[remote-logging-server]]: a section in, values of a draft out. Pure.

What a server says itself (protocol, filters) stands before what its section says. Its filters become `facilities` and
the least severe `severity`; relay has one of those for a server, and a warning tells where filters differ.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from relay.config.key_path import KeyPath
from relay.config.router import syslog_names
from relay.config.router.certificates import Certificates
from relay.config.router.leaf_reader import Values, first_word, line_of
from relay.config.router.section import Section
from relay.syslog.priority import SEVERITIES
from relay.values.text import quoted

_SYSLOG: Final = frozenset({"facility", "severity", "protocol", "client-certificate-name", "ocsp", "server"})
_SERVER: Final = frozenset({"ip-address", "port", "protocol", "ocsp", "filter"})
_FILTER: Final = frozenset({"name", "facility", "severity"})
_PORT: Final = 514  # RFC 5426 section 3.3
_TLS_PORT: Final = 6514  # RFC 5425 section 4.1
_ROUTERS_OWN: Final = (
    "a router sends its own messages by it; relay's events are its own, and keep their facilities; all are sent"
)
_NO_OCSP: Final = "relay does not ask whether a certificate was revoked; pin it with `fingerprint` in a further file"
_Choice = dict[str, tuple[object, int]]
"""Keys of a server, each with its value and its line."""


class SyslogSection:
    """Adds the servers of a section."""

    def __init__(self, values: Values, certificates: Certificates) -> None:
        self._values = values
        self._draft = values.draft
        self._certificates = certificates

    def whole(self, syslog: Section) -> None:
        """Add its servers."""
        servers, transports = {}, {}
        sections = syslog.sections("server")
        common = self._transport(syslog, ("syslog",)) if sections else None
        for keys, section in sections.items():
            transport = self._transport(section, ("syslog", "server")) or common
            default_port = _TLS_PORT if transport == "tls" else _PORT
            if path := self._values.server(section, keys, ("ip-address", "port"), default_port=default_port):
                servers[path], transports[path] = section, transport
            self._values.name_unknown(section, "syslog > server", _SERVER)
        certificates: _Choice = self._certificates.of(syslog) if "tls" in transports.values() else {}
        for path, section in servers.items():
            self._draft.put((*path, "protocol"), "syslog", syslog.line, why="it is what its syslog section is about")
            if (transport := transports[path]) is None:
                self._draft.put((*path, "transport"), "udp", syslog.line, why="it is the router's default")
            else:
                said = section if section.leaves("protocol") else syslog
                self._draft.put((*path, "transport"), transport, line_of(said, "protocol"))
            for key, (value, line) in certificates.items() if transport == "tls" else ():
                self._draft.put((*path, key), value, line)
        self._choose(servers, syslog)
        self._values.name_unknown(syslog, "syslog", _SYSLOG)

    def _transport(self, section: Section, path: KeyPath) -> object | None:
        """What a section says; None where it says nothing."""
        return self._values.value(section, "protocol", (*path, "protocol"), syslog_names.transport)

    def _choose(self, servers: Mapping[KeyPath, Section], syslog: Section) -> None:
        """Which messages each server gets: what its own filters say, or else its section."""
        common: _Choice | None = None
        for path, server in servers.items():
            filters = list(server.sections("filter").values())
            for each in filters:
                self._values.name_unknown(each, "syslog > server > filter", _FILTER)
            if not filters and common is None:
                common = self._choice([syslog])
            chosen = self._choice(filters) if filters else common or {}
            for key, (value, line) in chosen.items():
                self._draft.put((*path, key), value, line)
        for section in (syslog, *servers.values()) if servers else ():
            self._ocsp(section)

    def _choice(self, filters: Sequence[Section]) -> _Choice:
        """The keys by which a server gets what one of the filters lets pass."""
        found = [
            self._values.value(each, "facility", ("syslog", "facility"), syslog_names.facility) for each in filters
        ]
        for leaf in (leaf for each in filters for leaf in each.leaves("facility")):
            if syslog_names.is_routers_own(first_word(leaf)):
                self._draft.warn(f"facility {quoted(leaf.rest)}: {_ROUTERS_OWN}", leaf.line)
        severities = [
            self._values.value(each, "severity", ("syslog", "severity"), syslog_names.severity) for each in filters
        ]
        chosen: _Choice = {}
        if all(found):
            chosen["facilities"] = list(dict.fromkeys(found)), line_of(filters[0], "facility")
        if all(severities):
            least = max(map(str, severities), key=SEVERITIES.index)
            chosen["severity"] = least, line_of(filters[0], "severity")
            if len(set(severities)) > 1:
                sentence = f"relay has one severity for a server: {quoted(least)}, the least severe of its filters"
                self._draft.warn(sentence, line_of(filters[0], "severity"))
        return chosen

    def _ocsp(self, section: Section) -> None:
        for leaf in section.leaves("ocsp"):
            if first_word(leaf) not in {"disabled", "none", "false"}:
                self._draft.warn(f"ocsp: {_NO_OCSP}", leaf.line)
