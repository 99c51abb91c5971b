"""The draft of a router's configuration text: `authority > router` in, TOML keys out. Pure.

    system > audit                          → [audit], [[remote-logging-server]] with protocol "auditd"
    system > syslog                         → [[remote-logging-server]] with protocol "syslog" (syslog_section)
    system > monitoring                     → [[source]] of type event-collector, [[remote-logging-server]] (monitoring)
    node > port-forwarding                  → [[port-forwarding]]
    trusted-ca-certificate,
    client-certificate                      → the TLS keys of servers of syslog (certificates)
Other sections are ignored silently; a setting of these sections without a counterpart is a warning. A text of several
routers, or of a router with several nodes of which one has a port-forwarding, needs a choice. A router's text says
neither which log is followed, nor as which user, nor with which key: relay's defaults or further files do.
"""

from typing import Final

from relay.config.agent.plugin_table import Variables
from relay.config.document.settings_draft import SettingsDraft
from relay.config.router import section_kind
from relay.config.router.leaf_reader import SERVERS, LeafReader, flag, named, number
from relay.config.router.monitoring import Monitoring
from relay.config.router.router_choice import ANY, RouterChoice
from relay.config.router.router_text import TooMuchError, parse
from relay.config.router.section import Section
from relay.config.router.section_kind import SectionKind
from relay.config.router.syslog_section import SyslogSection
from relay.values.event import OPTIONAL_TYPES, EventType
from relay.values.text import quoted

_CATEGORIES: Final = {
    **{kind.audit_key: kind.audit_key for kind in OPTIONAL_TYPES},
    "administrative": EventType.ADMIN.audit_key,  # older releases
}
_AUDIT: Final = frozenset({*_CATEGORIES, "retention", "disk-full-action", "remote-logging-server"})
_CATEGORY: Final = frozenset({"enabled", "persist"})
_SERVER: Final = frozenset({"address", "port"})
_FORWARDINGS: Final = "port-forwarding"
_OUTER: Final = SectionKind({"router": SectionKind({}, 1)})
_MOST_LISTED: Final = 10
IMPLIED_SOURCE: Final = "audit"
"""The name of the source that a router's text implies."""


def router_draft(file: str, text: str, chosen: RouterChoice = ANY, preferred: RouterChoice = ANY) -> SettingsDraft:
    """Translate a text: of several routers the `chosen` one, or else the one that other files name."""
    draft = SettingsDraft(file)
    try:
        read = parse(text)
    except TooMuchError as error:
        draft.mistake(str(error), error.line)
        return draft
    for mistake in read.mistakes:
        draft.mistake(mistake.sentence, mistake.line)
    for remark in read.remarks:
        draft.warn(remark.sentence, remark.line)
    _Translation(draft, read.root).translate(chosen, preferred)
    return draft


def implied_source(file: str) -> SettingsDraft:
    """The draft of the source that a router's text implies."""
    draft = SettingsDraft(file)
    why = "a router's audit trail is auditd's log"
    draft.put(("source", 0, "name"), IMPLIED_SOURCE, why=why)
    draft.put(("source", 0, "type"), "audit-log", why=why)
    return draft


class _Translation:
    def __init__(self, draft: SettingsDraft, root: Section) -> None:
        self.draft = draft
        self.reader = LeafReader(draft)
        self.levels = [root]
        for name in ("config", "authority"):  # either can be left out
            self.levels += [level.section(name) for level in list(self.levels)]

    def translate(self, chosen: RouterChoice, preferred: RouterChoice) -> None:
        for level in self.levels:
            self._report_joined(level, _OUTER)
        routers = {name: section for level in self.levels for name, section in named(level.sections("router"))}
        router = self._pick("router", routers, chosen.router, preferred.router)
        if router is None:
            return
        name, section = router
        self.draft.put(("relay", "router"), name, section.line)
        self._report_joined(section, section_kind.ROUTER)
        self._node(section, chosen.node, preferred.node)
        system = section.section("system")
        self._audit(system.section("audit"))
        SyslogSection(self.reader, [*self.levels, section]).translate(system.section("syslog"))
        variables = Variables(name, str(self.draft.document["relay"].get("node", "")), frozenset())
        Monitoring(self.reader, self.levels, variables).translate(system.section("monitoring"))

    def _node(self, router: Section, chosen: str, preferred: str) -> None:
        nodes = dict(named(router.sections("node")))
        if not nodes and not chosen:
            return
        matters = chosen or any(node.sections(_FORWARDINGS) for node in nodes.values())
        if len(nodes) > 1 and not matters and preferred not in nodes:
            return
        if (found := self._pick("node", nodes, chosen, preferred)) is not None:
            name, node = found
            self.draft.put(("relay", "node"), name, node.line)
            for keys, section in node.sections(_FORWARDINGS).items():
                self._forwarding(keys, section)

    def _pick(self, kind: str, found: dict[str, Section], chosen: str, preferred: str) -> tuple[str, Section] | None:
        """The router or the node that is meant; None after a mistake."""
        candidates = [chosen] if chosen else [preferred, *(found if len(found) == 1 else [])]
        for name in candidates:
            if name and name in found:
                return name, found[name]
        names = ", ".join(map(quoted, list(found)[:_MOST_LISTED]))
        names += " and others" if len(found) > _MOST_LISTED else ""
        if not found:
            self.draft.mistake(f"has no {kind}; save all of it, from `config` on")
        elif found.keys() == {""}:
            self.draft.mistake(f"this {kind} has no name; write the name in the same line", found[""].line)
        elif chosen:
            self.draft.mistake(f"has no {kind} {quoted(chosen)}; it has {names}")
        else:
            remedy = f"choose one with `--{kind} NAME`, or with `{kind}` in [relay] of a further file"
            self.draft.mistake(f"has {len(found)} {kind}s: {names}; {remedy}")
        return None

    def _report_joined(self, section: Section, kind: SectionKind) -> None:
        """A mistake for each section whose line has more than its keys: relay would lose the rest and its contents."""
        for name, inner in kind.inner.items():
            for keys, found in section.sections(name).items():
                if len(keys) > inner.keys:
                    surplus = quoted(" ".join(keys[inner.keys :]))
                    self.draft.mistake(f"{name}: {surplus} must be in a line of its own", found.line)
                self._report_joined(found, inner)

    def _audit(self, audit: Section) -> None:
        self.reader.put(audit, "retention", ("audit", "retention"))
        self.reader.put(audit, "disk-full-action", ("audit", "disk-full-action"))
        for name, ours in _CATEGORIES.items():
            for leaf in ("enabled", "persist"):
                self.reader.put(audit.section(name), leaf, ("audit", ours, leaf), flag)
            self.reader.warn_of_unknown(audit.section(name), f"audit > {name}", _CATEGORY)
        for keys, section in audit.sections(SERVERS).items():
            path = self.reader.server(section, keys, ("address", "port"), default_port=None)
            if path:
                self.draft.put((*path, "protocol"), "auditd", section.line, why="routers use it")
            self.reader.warn_of_unknown(section, f"audit > {SERVERS}", _SERVER)
        self.reader.warn_of_unknown(audit, "audit", _AUDIT)

    def _forwarding(self, keys: tuple[str, ...], section: Section) -> None:
        path = (_FORWARDINGS, self.reader.length(_FORWARDINGS))
        self.draft.put(path, {}, section.line)
        self.reader.put(section, "local-address", (*path, "local-address"), key=keys[:1])
        self.reader.put(section, "local-port", (*path, "local-port"), number, key=keys[1:2])
        self.reader.put(section, "remote-host", (*path, "remote-host"))
        self.reader.put(section, "remote-port", (*path, "remote-port"), number)
        self.reader.put(section, "server-address", (*path, "server-address"))
        self.reader.put(section, "server-port", (*path, "server-port"), number)
        for leaf in section.leaves("server-destination"):
            sentence = "relay needs a server-address: it cannot find the other node as the router does"
            self.draft.warn(sentence, leaf.line, path)
        for leaf in section.leaves("remote-interface"):
            self.draft.warn("remote-interface: relay leaves it to the SSH server", leaf.line, path)
        self.reader.warn_of_unknown(section, _FORWARDINGS, section_kind.PORT_FORWARDING.leaves)
