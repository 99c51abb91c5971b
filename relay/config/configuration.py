"""Configuration files in, one `Settings` out.

Errors: NoInputError (66) for a file that is missing or cannot be read; UsageError (64) for the choice of a router or a
node when no file is a router's; MistakesError, a ConfigurationError (78), for everything that is wrong in the files.
Files of more than 4 MiB are rejected, and not read further.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from pydantic import ValidationError

from relay.config.agent import config_yaml
from relay.config.check.undelivered_types import undelivered_types, unrouted_sources
from relay.config.check.unmatched_filters import unmatched_filters
from relay.config.document.config_file import read_octets
from relay.config.document.file_drafts import FileDrafts
from relay.config.document.merged_document import MergedDocument
from relay.config.document.unmatched_tables import unmatched_table, unmatched_tables
from relay.config.key_path import KeyPath
from relay.config.mistake import ConfigLocation, Mistake, MistakesError
from relay.config.router.router_choice import ANY, RouterChoice
from relay.config.validation_sentence import error_path, validation_sentence
from relay.values.configuration.settings import Settings

_TABLES: Final = tuple(field.alias or name for name, field in Settings.model_fields.items())


class Configuration(NamedTuple):
    """Settings, the files they come from, and the location of each key."""

    settings: Settings
    files: tuple[str, ...]
    locate: Callable[[KeyPath], ConfigLocation]
    document: Mapping[str, Any]
    """What the files say, without relay's defaults, as TOML."""
    notes: Mapping[KeyPath, str]
    """The origin of each value of a file that is not TOML."""
    warnings: tuple[Mistake, ...]
    """What the files say and relay does otherwise, or what has no effect."""
    others: tuple[str, ...]
    """The files that are not TOML; they are for `relay run` alone."""


def configuration_without_files(settings: Settings) -> Configuration:
    """The configuration when options of the command line say everything."""
    return Configuration(settings, (), lambda path: ConfigLocation("command line", None, path), {}, {}, (), ())


def read_settings(paths: Sequence[str], choice: RouterChoice = ANY) -> Settings:
    """Read one configuration from files."""
    return read_configuration(paths, choice).settings


def read_configuration(paths: Sequence[str], choice: RouterChoice = ANY) -> Configuration:
    """Read one configuration from files, with the location of each key."""
    files = tuple(map(config_yaml.within, paths))
    read = FileDrafts([(file, read_octets(file)) for file in files], choice)
    drafts = read.in_order()
    merged = MergedDocument(files[0])
    for draft in drafts:
        merged.add(draft)
    settings = _validated(merged, [mistake for draft in drafts for mistake in draft.mistakes], files)
    is_receivers = "receiver" in merged.document and not settings.source
    if is_receivers:
        settings = settings.with_defaults_of_receiver()
    found = [
        *(() if is_receivers else undelivered_types(settings, merged.document, merged.implied)),
        *(() if is_receivers else unrouted_sources(settings, merged.implied)),
        *unmatched_filters(settings),
        *unmatched_tables(settings, merged),
    ]
    return Configuration(
        settings=settings,
        files=files,
        locate=merged.locate,
        document={key: merged.document[key] for key in _TABLES if key in merged.document},
        notes=merged.notes,
        warnings=(
            *(warning for draft in drafts for warning in draft.warnings),
            *(Mistake(merged.locate(path), sentence) for path, sentence in found),
        ),
        others=tuple(read.others),
    )


def _validated(merged: MergedDocument, mistakes: list[Mistake], files: Sequence[str]) -> Settings:
    """The settings; MistakesError for these mistakes and those that the validation finds, ordered by file and line."""
    try:
        settings = Settings.model_validate(merged.document, by_alias=True, by_name=False)
    except ValidationError as invalid:
        found = dict[Mistake, None]()
        for error in invalid.errors(include_url=False):
            path, sentence = unmatched_table(merged, error) or (error_path(error), validation_sentence(error))
            found[Mistake(merged.locate(path), sentence)] = None
        order = {file: index for index, file in enumerate(files)}
        mistakes += sorted(found, key=lambda m: (order.get(m.location.file, len(order)), m.location.line or 0))
    else:
        if not mistakes:
            return settings
    raise MistakesError(tuple(mistakes))
