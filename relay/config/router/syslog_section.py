"""A router's `system > syslog` as [[remote-logging-server]]: a section in, values of a draft out. Pure.

A server's own protocol and filters win over the section's. The filters become `facilities` and the least severe
`severity`. A server of relay's has one severity; a warning reports filters that differ.
"""

from collections.abc import Sequence
from typing import Final

from relay.config.key_path import KeyPath
from relay.config.router import syslog_names
from relay.config.router.certificates import certificate_keys
from relay.config.router.leaf_reader import LeafReader, first_word, line_of
from relay.config.router.section import Section
from relay.syslog.priority import SEVERITIES
from relay.values.text import quoted

_SYSLOG: Final = frozenset({"facility", "severity", "protocol", "client-certificate-name", "ocsp", "server"})
_SERVER: Final = frozenset({"ip-address", "port", "protocol", "ocsp", "filter"})
_FILTER: Final = frozenset({"name", "facility", "severity"})
_PORT: Final = 514  # RFC 5426 section 3.3
_TLS_PORT: Final = 6514  # RFC 5425 section 4.1
_ROUTERS_OWN: Final = (
    "with it a router sends its own messages; relay's events are the router's own, so relay sends all of them, with "
    "their own facilities"
)
_NO_OCSP: Final = (
    "relay does not check whether a certificate was revoked; set `fingerprint` in a further file to accept one "
    "certificate only"
)
_Choice = dict[str, tuple[object, int]]
"""Keys of a server, each with its value and its line."""


class SyslogSection:
    """Adds the servers of a section."""

    def __init__(self, reader: LeafReader, levels: Sequence[Section]) -> None:
        self._reader = reader
        self._draft = reader.draft
        self._levels = levels

    def translate(self, syslog: Section) -> None:
        """Add the servers."""
        servers: dict[KeyPath, tuple[Section, object | None]] = {}
        sections = syslog.sections("server")
        common = self._transport(syslog, ("syslog",)) if sections else None
        for keys, section in sections.items():
            transport = self._transport(section, ("syslog", "server")) or common
            default_port = _TLS_PORT if transport == "tls" else _PORT
            if path := self._reader.server(section, keys, ("ip-address", "port"), default_port=default_port):
                servers[path] = section, transport
            self._reader.warn_of_unknown(section, "syslog > server", _SERVER)
        certificates: _Choice = {}
        if any(transport == "tls" for _, transport in servers.values()):
            certificates = certificate_keys(self._reader, self._levels, syslog)
        for path, (section, transport) in servers.items():
            self._draft.put((*path, "protocol"), "syslog", syslog.line, why="it is in the syslog section")
            if transport is None:
                self._draft.put((*path, "transport"), "udp", syslog.line, why="it is the router's default")
            else:
                said = section if section.leaves("protocol") else syslog
                self._draft.put((*path, "transport"), transport, line_of(said, "protocol"))
            self._put_all(path, certificates if transport == "tls" else {})
        self._put_filters({path: section for path, (section, _) in servers.items()}, syslog)
        self._reader.warn_of_unknown(syslog, "syslog", _SYSLOG)

    def _transport(self, section: Section, path: KeyPath) -> object | None:
        return self._reader.value(section, "protocol", (*path, "protocol"), syslog_names.transport)

    def _put_all(self, path: KeyPath, choice: _Choice) -> None:
        for key, (value, line) in choice.items():
            self._draft.put((*path, key), value, line)

    def _put_filters(self, servers: dict[KeyPath, Section], syslog: Section) -> None:
        """Put the facilities and the severity of each server: those of its own filters, or else of the section."""
        common: _Choice | None = None
        for path, server in servers.items():
            filters = list(server.sections("filter").values())
            for each in filters:
                self._reader.warn_of_unknown(each, "syslog > server > filter", _FILTER)
            if not filters and common is None:
                common = self._choice([syslog])
            self._put_all(path, self._choice(filters) if filters else common or {})
        for leaf in (leaf for each in (syslog, *servers.values()) if servers for leaf in each.leaves("ocsp")):
            if first_word(leaf) not in {"disabled", "none", "false"}:
                self._draft.warn(f"ocsp: {_NO_OCSP}", leaf.line)

    def _choice(self, filters: Sequence[Section]) -> _Choice:
        """The facilities and the severity of the messages that one of the filters lets pass."""
        facilities = [
            self._reader.value(each, "facility", ("syslog", "facility"), syslog_names.facility) for each in filters
        ]
        for leaf in (leaf for each in filters for leaf in each.leaves("facility")):
            if syslog_names.is_routers_own(first_word(leaf)):
                self._draft.warn(f"facility {quoted(leaf.rest)}: {_ROUTERS_OWN}", leaf.line)
        severities = [
            self._reader.value(each, "severity", ("syslog", "severity"), syslog_names.severity) for each in filters
        ]
        chosen: _Choice = {}
        if all(facilities):
            chosen["facilities"] = list(dict.fromkeys(facilities)), line_of(filters[0], "facility")
        if all(severities):
            line = line_of(filters[0], "severity")
            least = max(map(str, severities), key=SEVERITIES.index)
            chosen["severity"] = least, line
            if len(set(severities)) > 1:
                sentence = f"relay has one severity for a server: {quoted(least)}, the least severe of its filters"
                self._draft.warn(sentence, line)
        return chosen
