"""A router's configuration text as a draft of ours: `authority > router` in, TOML keys out.

    system > audit                          → [audit], [[remote-logging-server]] with protocol "auditd"
    system > syslog                         → [[remote-logging-server]] with protocol "syslog", facilities, severity
    node > port-forwarding                  → [[port-forwarding]]
    trusted-ca-certificate,
    client-certificate                      → `ca`, `certificate` and `private-key` of those servers that speak TLS
What is not of these is passed over in silence; what is, and has no counterpart, is a warning. A text of several
routers, or of a router with several nodes of which one has a port-forwarding, needs a choice. Which log is followed, as
what user, with which key: no router's text says it; relay's defaults do, or further files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from relay.config import router_words
from relay.config.draft import Draft
from relay.config.lines import KeyPath
from relay.config.router_text import Section, Statement, TooMuchError, parse
from relay.quantity import quoted
from relay.syslog.priority import SEVERITIES

_CATEGORIES: Final = {
    "administration": "administration",
    "administrative": "administration",  # older releases
    "security": "security",
    "system": "system",
    "traffic": "traffic",
}
_AUDIT: Final = frozenset({*_CATEGORIES, "retention", "disk-full-action", "remote-logging-server"})
_SYSLOG: Final = frozenset({"facility", "severity", "protocol", "client-certificate-name", "ocsp", "server"})
_SERVER: Final = frozenset({"ip-address", "port", "protocol", "ocsp", "filter"})
_FILTER: Final = frozenset({"name", "facility", "severity"})
_SYSLOG_PORT: Final = 514  # RFC 5426 section 3.3
_SERVERS: Final = "remote-logging-server"
_FORWARDINGS: Final = "port-forwarding"


class Choice(NamedTuple):
    """Which router and which node of a text are meant; empty: the only one."""

    router: str = ""
    node: str = ""


ANY: Final = Choice()


def is_router_text(text: str) -> bool:
    """Whether a text is a router's configuration: what it begins with no TOML and no YAML has."""
    lines = (line.split() for line in text.splitlines() if line.strip())
    opening = next((words for words in lines if not _is_prompt(words)), [])
    return opening in (["config"], ["authority"]) or (
        len(opening) > 1 and opening[0] in {"router", "delete"} and _plain(opening)
    )


def _is_prompt(words: list[str]) -> bool:
    """The command line's own words over its answer: `admin@node1.conductor1# show config running`."""
    return "@" in words[0] and "#" in " ".join(words)


def _plain(words: list[str]) -> bool:
    return "=" not in words and not any(word.endswith(":") for word in words)


def draft_of(file: str, text: str, chosen: Choice = ANY, preferred: Choice = ANY) -> Draft:
    """Translate a text. Of several routers the `chosen` one is meant, else the one that other files `preferred`."""
    draft = Draft(file)
    try:
        root, remarks = parse(text)
    except TooMuchError as error:
        draft.mistake(str(error), error.line)
        return draft
    for remark in remarks:
        draft.warn(remark.sentence, remark.line)
    _Translation(draft, root).whole(chosen, preferred)
    return draft


class _Translation:
    def __init__(self, draft: Draft, root: Section) -> None:
        self.draft = draft
        self.levels = [root]
        for name in ("config", "authority"):  # either may be left out
            self.levels += [level.section(name) for level in list(self.levels)]

    def whole(self, chosen: Choice, preferred: Choice) -> None:
        router = self._pick("router", self._routers(), chosen.router, preferred.router)
        if router is None:
            return
        name, section = router
        self.draft.put(("relay", "router"), name, section.line)
        self._node(section, chosen.node, preferred.node)
        system = section.section("system")
        self._audit(system.section("audit"))
        self._syslog(system.section("syslog"))

    # --- Which router, which node ---

    def _routers(self) -> dict[str, Section]:
        return {name: section for level in self.levels for name, section in _named(level.sections("router"))}

    def _node(self, router: Section, chosen: str, preferred: str) -> None:
        nodes = dict(_named(router.sections("node")))
        if not nodes and not chosen:
            return
        matters = chosen or any(node.sections(_FORWARDINGS) for node in nodes.values())
        if len(nodes) > 1 and not matters and preferred not in nodes:
            return
        if (found := self._pick("node", nodes, chosen, preferred)) is not None:
            name, node = found
            self.draft.put(("relay", "node"), name, node.line)
            for forwarding in node.sections(_FORWARDINGS).items():
                self._forwarding(*forwarding)

    def _pick(self, kind: str, found: dict[str, Section], chosen: str, preferred: str) -> tuple[str, Section] | None:
        for name in (chosen, *([] if chosen else [preferred, *([*found] if len(found) == 1 else [])])):
            if name in found:
                return name, found[name]
        names = ", ".join(map(quoted, list(found)[:_SHOWN])) + (" and others" if len(found) > _SHOWN else "")
        if not found:
            self.draft.mistake(f"holds no {kind}; export all of it, from `config` on")
        elif chosen:
            self.draft.mistake(f"has no {kind} {quoted(chosen)}; it has {names}")
        else:
            self.draft.mistake(
                f"has {len(found)} {kind}s: {names}; say which is meant with `--{kind} NAME`, or with `{kind}` in "
                "[relay] of a further file"
            )
        return None

    # --- The parts ---

    def _audit(self, audit: Section) -> None:
        self._leaf(audit, "retention", ("audit", "retention"))
        self._leaf(audit, "disk-full-action", ("audit", "disk-full-action"))
        for name, ours in _CATEGORIES.items():
            for leaf in ("enabled", "persist"):
                self._leaf(audit.section(name), leaf, ("audit", ours, leaf), _flag)
        for keys, section in audit.sections(_SERVERS).items():
            path = self._server(section, keys, ("address", "port"), default_port=None)
            if path:
                self.draft.put((*path, "protocol"), "auditd", section.line, why="it is what routers speak")
        self._name_unknown(audit, "audit", _AUDIT)

    def _forwarding(self, keys: tuple[str, ...], section: Section) -> None:
        path = (_FORWARDINGS, self._length(_FORWARDINGS))
        self.draft.put(path, {}, section.line)
        self._leaf(section, "local-address", (*path, "local-address"), key=keys[:1])
        self._leaf(section, "local-port", (*path, "local-port"), _number, key=keys[1:2])
        self._leaf(section, "remote-host", (*path, "remote-host"))
        self._leaf(section, "remote-port", (*path, "remote-port"), _number)
        self._leaf(section, "server-address", (*path, "server-address"))
        self._leaf(section, "server-port", (*path, "server-port"), _number)
        for leaf in section.leaves("server-destination"):
            self.draft.warn(
                "relay needs a server-address: it cannot find the other node as the router does", leaf.line, path
            )
        for leaf in section.leaves("remote-interface"):
            self.draft.warn("remote-interface: relay leaves it to the SSH server", leaf.line, path)

    def _syslog(self, syslog: Section) -> None:
        servers = {}
        for keys, section in syslog.sections("server").items():
            if path := self._server(section, keys, ("ip-address", "port"), default_port=_SYSLOG_PORT):
                servers[path] = section
            self._name_unknown(section, "syslog > server", _SERVER)
        transports = self._transports(servers, syslog) if servers else {}
        certificates: _Choice = self._certificates(syslog) if "tls" in transports.values() else {}
        for path, section in servers.items():
            self.draft.put((*path, "protocol"), "syslog", syslog.line, why="it is what its syslog section is about")
            if (transport := transports[path]) is None:
                self.draft.put((*path, "transport"), "udp", syslog.line, why="it is the router's default")
            else:
                said = section if section.leaves("protocol") else syslog
                self.draft.put((*path, "transport"), transport, _line(said, "protocol"))
            for key, (value, line) in certificates.items() if transport == "tls" else ():
                self.draft.put((*path, key), value, line)
        self._choose(servers, syslog)
        self._name_unknown(syslog, "syslog", _SYSLOG)

    def _transports(self, servers: "Mapping[KeyPath, Section]", syslog: Section) -> dict[KeyPath, object | None]:
        """What a server says stands before what its section says; None where nothing is said."""
        common = self._value(syslog, "protocol", ("syslog", "protocol"), router_words.transport)
        key = ("syslog", "server", "protocol")
        return {
            path: self._value(section, "protocol", key, router_words.transport) or common
            for path, section in servers.items()
        }

    def _choose(self, servers: "Mapping[KeyPath, Section]", syslog: Section) -> None:
        """Which messages each server gets: what its own filters say, or else its section."""
        common: _Choice | None = None
        for path, server in servers.items():
            filters = list(server.sections("filter").values())
            for each in filters:
                self._name_unknown(each, "syslog > server > filter", _FILTER)
            if not filters and common is None:
                common = self._choice([syslog])
            chosen = self._choice(filters) if filters else common or {}
            for key, (value, line) in chosen.items():
                self.draft.put((*path, key), value, line)
        for section in (syslog, *servers.values()) if servers else ():
            self._ocsp(section)

    def _choice(self, filters: "Sequence[Section]") -> "_Choice":
        """The keys by which a server gets what one of the filters lets pass."""
        found = [self._value(each, "facility", ("syslog", "facility"), router_words.facility) for each in filters]
        for leaf in (leaf for each in filters for leaf in each.leaves("facility")):
            if router_words.is_routers_own(_first_word(leaf)):
                self.draft.warn(f"facility {quoted(leaf.rest)}: {_ROUTERS_OWN}", leaf.line)
        severities = [self._value(each, "severity", ("syslog", "severity"), router_words.severity) for each in filters]
        chosen: _Choice = {}
        if all(found):
            chosen["facilities"] = list(dict.fromkeys(found)), _line(filters[0], "facility")
        if all(severities):
            least = max(map(str, severities), key=SEVERITIES.index)
            chosen["severity"] = least, _line(filters[0], "severity")
            if len(set(severities)) > 1:
                sentence = f"relay has one severity for a server: {quoted(least)}, the least severe of its filters"
                self.draft.warn(sentence, _line(filters[0], "severity"))
        return chosen

    def _ocsp(self, section: Section) -> None:
        for leaf in section.leaves("ocsp"):
            if _first_word(leaf) not in {"disabled", "none", "false"}:
                self.draft.warn(f"ocsp: {_NO_OCSP}", leaf.line)

    def _server(
        self, section: Section, keys: tuple[str, ...], names: tuple[str, str], *, default_port: int | None
    ) -> KeyPath:
        """Add one server; its path, or none when it cannot be reached."""
        path: KeyPath = (_SERVERS, self._length(_SERVERS))
        told = len(self.draft.mistakes)
        address = self._value(section, names[0], (*path, "address"), key=keys[:1])
        port = self._value(section, names[1], (*path, "port"), _number, key=keys[1:2])
        if address is None or (port is None and default_port is None):
            missing = names[0] if address is None else names[1]
            if len(self.draft.mistakes) == told:
                self.draft.mistake(f"{missing} is required and missing", section.line, path)
            return ()
        self.draft.put((*path, "address"), address, _line(section, names[0]))
        why = "it is the usual port of syslog" if port is None else ""
        self.draft.put((*path, "port"), default_port if port is None else port, _line(section, names[1]), why=why)
        return path

    def _certificates(self, syslog: Section) -> "_Choice":
        """The keys for TLS, each with its value and its line."""
        found: _Choice = {}
        trusted = [entry for level in self.levels for entry in _named(level.sections("trusted-ca-certificate"))]
        texts = [text for name, section in trusted if (text := self._pem(section, "trusted-ca-certificate", name))]
        if texts:
            found["ca"] = "".join(texts), trusted[0][1].line
        name = self._value(syslog, "client-certificate-name", ("syslog", "client-certificate-name"))
        line = _line(syslog, "client-certificate-name")
        if name is not None and (text := self._client_certificate(str(name), line)):
            found["certificate"] = text, line
            found["private-key"] = f"{_FOLDER}/client-certificate-{name}.key", line
        return found

    def _client_certificate(self, name: str, line: int) -> str:
        known = {key: section for level in self.levels for key, section in _named(level.sections("client-certificate"))}
        if name not in known:
            self.draft.mistake(f"there is no client-certificate {quoted(name)}", line)
        elif not all(letter.isalnum() or letter in "._-" for letter in name):
            self.draft.mistake(f"the client-certificate's name {quoted(name)} is none for a file", line)
        elif text := self._pem(known[name], "client-certificate", name):
            self.draft.warn(
                f"client-certificate {quoted(name)}: relay takes private keys from files only; put its key into "
                f"{_FOLDER}/client-certificate-{name}.key, mode 0600, or name another file with `private-key`",
                known[name].line,
            )
            return text
        return ""

    def _pem(self, section: Section, kind: str, name: str) -> str:
        """The certificates in a section's content; a private key there is left where it is."""
        found, inside = [], False
        for line in (line for leaf in section.leaves("content") for line in leaf.text):
            inside = inside or line == _PEM_BEGIN
            if inside:
                found.append(line)
            inside = inside and line != _PEM_END
        if not found:
            self.draft.warn(f"{kind} {quoted(name)}: no certificate stands in its content", section.line)
        return "\n".join((*found, "")) if found else ""

    # --- Single values ---

    def _leaf(
        self,
        section: Section,
        name: str,
        path: KeyPath,
        read: "Callable[[str], object]" = str,
        key: tuple[str, ...] = (),
    ) -> None:
        """Set the value of a leaf, where there is one."""
        value = self._value(section, name, path, read, key)
        if value is not None:
            self.draft.put(path, value, _line(section, name))

    def _value(
        self,
        section: Section,
        name: str,
        path: KeyPath,
        read: "Callable[[str], object]" = str,
        key: tuple[str, ...] = (),
    ) -> object | None:
        """Read a leaf, or the section's own key in its stead; None where neither is, or the text is wrong."""
        leaves = section.leaves(name)
        line, text = section.line, key[0] if key else None
        for leaf in leaves:
            value = _only_word(leaf)
            if value is None:
                self.draft.mistake(f"needs one value, not {quoted(leaf.rest)}", leaf.line, path)
                return None
            if text is not None and value != text:
                self.draft.mistake(f"is {quoted(value)} here, and {quoted(text)} in line {line}", leaf.line, path)
                return None
            line, text = leaf.line, value
        if text is None:
            return None
        try:
            return read(text)
        except ValueError as error:
            self.draft.mistake(str(error), line, path)
            return None

    def _length(self, array: str) -> int:
        return len(self.draft.document.get(array, ()))

    def _name_unknown(self, section: Section, name: str, known: frozenset[str]) -> None:
        for unknown, line in section.names():
            if unknown not in known:
                self.draft.warn(
                    f"{name} > {quoted(unknown).strip(chr(34))}: relay has no such setting; passed over", line
                )


_Choice = dict[str, tuple[object, int]]
"""Keys of a server, each with its value and its line."""
_SHOWN: Final = 10
_ROUTERS_OWN: Final = (
    "a router sends its own messages by it; relay's events are its own, and keep their facilities; all are sent"
)
_NO_OCSP: Final = "relay does not ask whether a certificate was revoked; pin it with `fingerprint` in a further file"
_FOLDER: Final = "/etc/relay"
_PEM_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_PEM_END: Final = "-----END CERTIFICATE-----"


def _named(sections: dict[tuple[str, ...], Section]) -> Iterator[tuple[str, Section]]:
    """Sections by their names: their key, or else the leaf `name` in them."""
    for keys, section in sections.items():
        names = keys or tuple(word for leaf in section.leaves("name") for word in leaf.words[:1])
        yield (names[0] if names else ""), section


def _line(section: Section, name: str) -> int:
    """Where a leaf stands, or else its section."""
    return next((leaf.line for leaf in section.leaves(name)), section.line)


def _only_word(leaf: Statement) -> str | None:
    values = leaf.words
    return values[0] if len(values) == 1 and '"' not in values[0] else None


def _first_word(leaf: Statement) -> str:
    return (leaf.words or ("",))[0]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < len("1000000")):
        raise ValueError(f"must be a number, not {quoted(text)}")
    return int(text)


def _flag(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {quoted(text)}")
    return text == "true"
