"""Configuration files in, one `Settings` out; `MergedDocument` says how several files are merged.

A file is TOML, the text of a router's configuration (relay.config.router), or a Monitoring Agent's config.yaml or its
folder (relay.config.agent): its content decides. A router's text implies a source, auditd's log with the router's own
audit trail, unless a file names a source of audit records. Where a Monitoring Agent sends traffic events, they are
enabled unless a file says otherwise.

Errors: NoInputError (66) for a file that is missing or cannot be read; UsageError (64) for a choice of a router or a
node where no file leaves one; MistakesError, a ConfigurationError (78), for all that is wrong in the files, every
mistake at once. Files of more than 4 MiB are refused, and not read further.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from relay.config.agent import config_yaml
from relay.config.check.undelivered_types import undelivered_types
from relay.config.check.unmatched_filters import unmatched_filters
from relay.config.document.config_file import LARGEST_FILE, NotAConfigurationError, contents, text_of, toml_draft
from relay.config.document.merged_document import MergedDocument
from relay.config.document.settings_draft import SettingsDraft
from relay.config.document.unmatched_tables import unmatched_table, unmatched_tables
from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation, Mistake, MistakesError
from relay.config.router import recognition
from relay.config.router.router_choice import ANY, RouterChoice
from relay.config.router.router_draft import router_draft
from relay.config.validation_sentence import error_path, validation_sentence
from relay.errors import UsageError
from relay.values.settings import Settings

__all__ = ["ANY", "LARGEST_FILE", "Configuration", "RouterChoice", "read_configuration", "read_settings"]


_TRAIL: Final = "audit"
"""The name of the source that a router's text implies."""
_TABLES: Final = tuple(field.alias or name for name, field in Settings.model_fields.items())


class Configuration(NamedTuple):
    """Settings, the files they come from, and where each key stands."""

    settings: Settings
    files: tuple[str, ...]
    locate: Callable[[KeyPath], ConfigLocation]
    document: Mapping[str, Any]
    """What the files say, without relay's defaults, as TOML."""
    notes: Mapping[KeyPath, str]
    """Where the values of files that are no TOML come from."""
    warnings: tuple[Mistake, ...]
    """What relay does otherwise than the files say, and what they say without effect."""
    others: tuple[str, ...]
    """The files that are no TOML: there for `relay run` alone."""


def configuration_without_files(settings: Settings) -> Configuration:
    """The configuration that these settings are, where the command line alone says everything."""
    return Configuration(settings, (), lambda path: ConfigLocation("command line", None, path), {}, {}, (), ())


def read_settings(paths: Sequence[str], choice: RouterChoice = ANY) -> Settings:
    """Read one configuration from files."""
    return read_configuration(paths, choice).settings


def read_configuration(paths: Sequence[str], choice: RouterChoice = ANY) -> Configuration:
    """Read one configuration from files, and remember where each key stands."""
    files = tuple(map(config_yaml.within, paths))
    reading = _Drafts([(file, contents(file)) for file in files], choice)
    drafts = reading.all()
    merged = MergedDocument(files[0])
    for draft in drafts:
        merged.add(draft)
    settings = _settings(merged, [mistake for draft in drafts for mistake in draft.mistakes], files)
    return Configuration(
        settings,
        files,
        merged.locate,
        {key: merged.document[key] for key in _TABLES if key in merged.document},
        merged.notes,
        (*(warning for draft in drafts for warning in draft.warnings), *_without_effect(settings, merged)),
        tuple(reading.others),
    )


def _without_effect(settings: Settings, merged: MergedDocument) -> Iterator[Mistake]:
    """What several tables say that each is legal by itself."""
    implied = [path for path, note in merged.notes.items() if note.startswith("not in ")]
    is_receivers = "receiver" in merged.document and not settings.source
    found = (
        *(() if is_receivers else undelivered_types(settings, merged.document, implied)),
        *unmatched_filters(settings),
        *unmatched_tables(settings, merged),
    )
    return (Mistake(merged.locate(path), sentence) for path, sentence in found)


def _settings(merged: MergedDocument, mistakes: list[Mistake], files: Sequence[str]) -> Settings:
    try:
        settings = Settings.model_validate(merged.document, by_alias=True, by_name=False)
    except ValidationError as invalid:
        order = {file: index for index, file in enumerate(files)}
        found = [_mistake(merged, error) for error in invalid.errors(include_url=False)]
        mistakes += sorted(
            dict.fromkeys(found), key=lambda m: (order.get(m.location.file, len(order)), m.location.line or 0)
        )
    else:
        if not mistakes:
            return settings
    raise MistakesError(tuple(mistakes))


def _mistake(merged: MergedDocument, error: ErrorDetails) -> Mistake:
    if (found := unmatched_table(merged, error)) is not None:
        return Mistake(merged.locate(found[0]), found[1])
    return Mistake(merged.locate(error_path(error)), validation_sentence(error))


class _Drafts:
    """The files' drafts: TOML first, since it says which router is meant where several stand in one text."""

    def __init__(self, files: Sequence[tuple[str, bytes]], choice: RouterChoice) -> None:
        self.files = files
        self.choice = choice
        self.made: dict[int, SettingsDraft] = {}
        self.others: list[str] = []
        """The files that are no TOML."""

    def all(self) -> list[SettingsDraft]:
        """What a Monitoring Agent implies, every file's draft in their order, and what a router's text implies.

        What comes first, any file overrides; what comes last is there only where it is needed.
        """
        texts = dict(self._texts())
        routers = [index for index, text in texts.items() if recognition.is_router_text(text)]
        agents = [index for index in texts.keys() - {*routers} if config_yaml.is_agent_text(texts[index])]
        if self.choice != ANY and not routers and not agents and texts:
            flag = "--router" if self.choice.router else "--node"
            raise UsageError(flag, "none of the files is a router's own configuration", f"leave {flag} out")
        self.others = [self.files[index][0] for index in sorted((*routers, *agents))]
        for index in texts.keys() - {*routers, *agents}:
            self._make(index, texts[index], _toml_draft)
        for index in routers:
            self._make(index, texts[index], self._translated)
        for index in sorted(agents):
            self._make(index, texts[index], lambda file, text: config_yaml.agent_draft(file, text, self._named()))
        tables = [self.made[index].document["source"] for index in self.made if "source" in self.made[index].document]
        implied = [_implied_source(self.files[routers[0]][0])] if routers and not _has_audit_source(tables) else []
        overridden = [config_yaml.implied(self.made[index]) for index in sorted(agents)]
        return [*overridden, *(draft for _, draft in sorted(self.made.items())), *implied]

    def _translated(self, file: str, text: str) -> SettingsDraft:
        return router_draft(file, text, self.choice, self._named())

    def _texts(self) -> Iterator[tuple[int, str]]:
        for index, (file, octets) in enumerate(self.files):
            try:
                yield index, text_of(octets)
            except NotAConfigurationError as error:
                self._fail(index, file, error)

    def _make(self, index: int, text: str, read_draft: Callable[[str, str], SettingsDraft]) -> None:
        file = self.files[index][0]
        try:
            self.made[index] = read_draft(file, text)
        except NotAConfigurationError as error:
            self._fail(index, file, error)

    def _fail(self, index: int, file: str, error: NotAConfigurationError) -> None:
        self.made[index] = SettingsDraft(file)
        self.made[index].mistake(error.sentence, error.line)

    def _named(self) -> RouterChoice:
        """The names that the choice, or else the drafts so far, give to router and node."""
        tables = [table for _, d in sorted(self.made.items()) if isinstance(table := d.document.get("relay"), dict)]
        routers, nodes = ([n for t in tables if isinstance(n := t.get(key), str) and n] for key in RouterChoice._fields)
        return RouterChoice(self.choice.router or (routers or [""])[-1], self.choice.node or (nodes or [""])[-1])


def _toml_draft(file: str, text: str) -> SettingsDraft:
    try:
        return toml_draft(file, text)
    except NotAConfigurationError:
        if recognition.is_part(text):
            raise NotAConfigurationError(_PART) from None
        if form := recognition.other_form(text):
            raise NotAConfigurationError(form) from None
        raise


_PART: Final = "is a part of a router's configuration; export all of it, from `config` on (`show config running`)"


def _has_audit_source(arrays: Sequence[Any]) -> bool:
    """Whether files name a source of audit records, or `source = []`; a table without a type may complete another."""
    if not all(isinstance(array, list) and array for array in arrays):
        return True
    tables = [table for array in arrays for table in array if isinstance(table, dict)]
    collectors = {table.get("name") for table in tables if table.get("type") == "event-collector"}
    return any(
        table.get("name") == _TRAIL or table.get("type", "") != "event-collector"
        for table in tables
        if "type" in table or table.get("name") not in collectors
    )


def _implied_source(file: str) -> SettingsDraft:
    draft = SettingsDraft(file)
    why = "a router's audit trail is auditd's log"
    draft.put(("source", 0, "name"), _TRAIL, why=why)
    draft.put(("source", 0, "type"), "audit-log", why=why)
    return draft
