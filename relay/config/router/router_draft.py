"""A router's configuration text as a draft of ours: `authority > router` in, TOML keys out.

    system > audit                          → [audit], [[remote-logging-server]] with protocol "auditd"
    system > syslog                         → [[remote-logging-server]] with protocol "syslog" (syslog)
    system > monitoring                     → [[source]] of type event-collector, [[remote-logging-server]] (monitoring)
    node > port-forwarding                  → [[port-forwarding]]
    trusted-ca-certificate,
    client-certificate                      → what servers of syslog need for TLS (certificates)
What is not of these is passed over in silence; what is, and has no counterpart, is a warning. A text of several
routers, or of a router with several nodes of which one has a port-forwarding, needs a choice. Which log is followed, as
what user, with which key: no router's text says it; relay's defaults do, or further files.
"""

from typing import Final

from relay.config.agent.plugin_table import Variables
from relay.config.document.settings_draft import SettingsDraft
from relay.config.router import section_kind
from relay.config.router.certificates import Certificates
from relay.config.router.leaf_reader import SERVERS, Values, flag, named, number
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
_SHOWN: Final = 10


def router_draft(file: str, text: str, chosen: RouterChoice = ANY, preferred: RouterChoice = ANY) -> SettingsDraft:
    """Translate a text. Of several routers the `chosen` one is meant, else the one that other files `preferred`."""
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
    _Translation(draft, read.root).whole(chosen, preferred)
    return draft


class _Translation:
    def __init__(self, draft: SettingsDraft, root: Section) -> None:
        self.draft = draft
        self._values = Values(draft)
        self.levels = [root]
        for name in ("config", "authority"):  # either may be left out
            self.levels += [level.section(name) for level in list(self.levels)]

    def whole(self, chosen: RouterChoice, preferred: RouterChoice) -> None:
        for level in self.levels:
            self._tell_joined(level, _OUTER)
        router = self._pick("router", self._routers(), chosen.router, preferred.router)
        if router is None:
            return
        name, section = router
        self.draft.put(("relay", "router"), name, section.line)
        self._tell_joined(section, section_kind.ROUTER)
        self._node(section, chosen.node, preferred.node)
        system = section.section("system")
        self._audit(system.section("audit"))
        SyslogSection(self._values, Certificates(self._values, [*self.levels, section])).whole(system.section("syslog"))
        variables = Variables(name, str(self.draft.document["relay"].get("node", "")), frozenset())
        Monitoring(self._values, self.levels, variables).whole(system.section("monitoring"))

    # --- Which router, which node ---

    def _routers(self) -> dict[str, Section]:
        return {name: section for level in self.levels for name, section in named(level.sections("router"))}

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
            for forwarding in node.sections(_FORWARDINGS).items():
                self._forwarding(*forwarding)

    def _pick(self, kind: str, found: dict[str, Section], chosen: str, preferred: str) -> tuple[str, Section] | None:
        for name in (chosen, *([] if chosen else [preferred, *([*found] if len(found) == 1 else [])])):
            if name and name in found:
                return name, found[name]
        names = ", ".join(map(quoted, list(found)[:_SHOWN])) + (" and others" if len(found) > _SHOWN else "")
        if not found:
            self.draft.mistake(f"holds no {kind}; export all of it, from `config` on")
        elif found.keys() == {""}:
            self.draft.mistake(f"this {kind} has no name; it must stand in the same line", found[""].line)
        elif chosen:
            self.draft.mistake(f"has no {kind} {quoted(chosen)}; it has {names}")
        else:
            self.draft.mistake(
                f"has {len(found)} {kind}s: {names}; say which is meant with `--{kind} NAME`, or with `{kind}` in "
                "[relay] of a further file"
            )
        return None

    def _tell_joined(self, section: Section, kind: SectionKind) -> None:
        """Tell of sections with more than their keys in their line: it would be lost, and with it what is in them."""
        for name, inner in kind.inner.items():
            for keys, found in section.sections(name).items():
                if len(keys) > inner.keys:
                    surplus = quoted(" ".join(keys[inner.keys :]))
                    self.draft.mistake(f"{name}: {surplus} must stand in a line of its own", found.line)
                self._tell_joined(found, inner)

    # --- The parts ---

    def _audit(self, audit: Section) -> None:
        self._values.put(audit, "retention", ("audit", "retention"))
        self._values.put(audit, "disk-full-action", ("audit", "disk-full-action"))
        for name, ours in _CATEGORIES.items():
            for leaf in ("enabled", "persist"):
                self._values.put(audit.section(name), leaf, ("audit", ours, leaf), flag)
            self._values.name_unknown(audit.section(name), f"audit > {name}", _CATEGORY)
        for keys, section in audit.sections(SERVERS).items():
            path = self._values.server(section, keys, ("address", "port"), default_port=None)
            if path:
                self.draft.put((*path, "protocol"), "auditd", section.line, why="it is what routers speak")
            self._values.name_unknown(section, f"audit > {SERVERS}", _SERVER)
        self._values.name_unknown(audit, "audit", _AUDIT)

    def _forwarding(self, keys: tuple[str, ...], section: Section) -> None:
        path = (_FORWARDINGS, self._values.length(_FORWARDINGS))
        self.draft.put(path, {}, section.line)
        self._values.put(section, "local-address", (*path, "local-address"), key=keys[:1])
        self._values.put(section, "local-port", (*path, "local-port"), number, key=keys[1:2])
        self._values.put(section, "remote-host", (*path, "remote-host"))
        self._values.put(section, "remote-port", (*path, "remote-port"), number)
        self._values.put(section, "server-address", (*path, "server-address"))
        self._values.put(section, "server-port", (*path, "server-port"), number)
        for leaf in section.leaves("server-destination"):
            self.draft.warn(
                "relay needs a server-address: it cannot find the other node as the router does", leaf.line, path
            )
        for leaf in section.leaves("remote-interface"):
            self.draft.warn("remote-interface: relay leaves it to the SSH server", leaf.line, path)
        self._values.name_unknown(section, _FORWARDINGS, section_kind.PORT_FORWARDING.leaves)
