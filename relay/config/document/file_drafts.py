"""The drafts of all configuration files, each made by what the file is.

The content of a file decides: the text of a router's configuration, a Monitoring Agent's config.yaml, or else TOML. A
router's text implies a source, auditd's log with the router's own audit trail, unless a file names a source of audit
records. Where a Monitoring Agent sends traffic events, they are enabled unless a file says otherwise.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from relay.config.agent import config_yaml
from relay.config.document.config_file import NotAConfigurationError, decode_text, toml_draft
from relay.config.document.settings_draft import SettingsDraft
from relay.config.router import recognition
from relay.config.router.router_choice import ANY, RouterChoice
from relay.config.router.router_draft import IMPLIED_SOURCE, implied_source, router_draft
from relay.errors import UsageError


class FileDrafts:
    """Makes the drafts of files, given as pairs of name and octets."""

    def __init__(self, files: Sequence[tuple[str, bytes]], choice: RouterChoice) -> None:
        self._files = files
        self._choice = choice
        self._made: dict[int, SettingsDraft] = {}
        self.others: list[str] = []
        """The files that are not TOML."""

    def in_order(self) -> list[SettingsDraft]:
        """The drafts in the order in which they are merged; UsageError for a choice that no file leaves.

        First what a Monitoring Agent implies, because any file can override it; then each file's draft in the order of
        the files; last what a router's text implies, because it is only there where nothing else is.
        """
        texts: dict[int, str] = {}
        for index, (_, octets) in enumerate(self._files):
            with self._failing(index):
                texts[index] = decode_text(octets)
        routers = [index for index, text in texts.items() if recognition.is_router_text(text)]
        agents = [index for index, text in texts.items() if index not in routers and config_yaml.is_agent_text(text)]
        if self._choice != ANY and not routers and not agents and texts:
            flag = "--router" if self._choice.router else "--node"
            raise UsageError(flag, "none of the files is a router's own configuration", f"leave {flag} out")
        self.others = [self._files[index][0] for index in sorted((*routers, *agents))]
        # TOML first: it can say which router is meant where a text has several.
        for index in (*sorted(texts.keys() - {*routers, *agents}), *routers, *agents):
            file, text = self._files[index][0], texts[index]
            with self._failing(index, "" if index in agents else text):
                if index in routers:
                    self._made[index] = router_draft(file, text, self._choice, self._named())
                elif index in agents:
                    self._made[index] = config_yaml.agent_draft(file, text, self._named())
                else:
                    self._made[index] = toml_draft(file, text)
        implied_first = [config_yaml.implied(self._made[index]) for index in agents]
        implied_last = [implied_source(self._files[index][0]) for index in routers[:1] if not self._has_audit_source()]
        return [*implied_first, *(draft for _, draft in sorted(self._made.items())), *implied_last]

    @contextmanager
    def _failing(self, index: int, text: str = "") -> Iterator[None]:
        """Turn NotAConfigurationError into a draft with one mistake, which says what the text is instead."""
        try:
            yield
        except NotAConfigurationError as error:
            self._made[index] = SettingsDraft(self._files[index][0])
            form = recognition.other_form(text) if text else ""
            self._made[index].mistake(form or error.sentence, None if form else error.line)

    def _named(self) -> RouterChoice:
        """The router and the node that the choice names, or else the last of the drafts so far that names one."""
        tables = [draft.document.get("relay") for _, draft in sorted(self._made.items())]
        names = {
            key: name
            for table in tables
            if isinstance(table, dict)
            for key in RouterChoice._fields
            if isinstance(name := table.get(key), str) and name
        }
        return RouterChoice(self._choice.router or names.get("router", ""), self._choice.node or names.get("node", ""))

    def _has_audit_source(self) -> bool:
        """Whether files name a source of audit records, or `source = []`.

        A table without a type is such a source too, unless it completes an event collector of the same name.
        """
        arrays = [draft.document["source"] for draft in self._made.values() if "source" in draft.document]
        if not all(isinstance(array, list) and array for array in arrays):
            return True
        tables: list[dict[str, Any]] = [table for array in arrays for table in array if isinstance(table, dict)]
        collectors = {table.get("name") for table in tables if table.get("type") == "event-collector"}
        return any(
            table.get("name") == IMPLIED_SOURCE or table.get("type", "") != "event-collector"
            for table in tables
            if "type" in table or table.get("name") not in collectors
        )
