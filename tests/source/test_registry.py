"""Which source is built for which table."""

from relay.events.own_events import Author
from relay.source import SourceTerms
from relay.source.registry import BUILDERS, source_of
from relay.values.configuration.settings import Settings
from relay.values.configuration.source_settings import SOURCES

TERMS = SourceTerms(Author("host", "router", "node", "128T"), "event")


def test_every_table_has_a_source_and_declares_itself() -> None:
    """A source without an entry in the registry would fail only when relay starts."""
    assert set(SOURCES.values()) == set(BUILDERS)
    assert all(table.event_types for table in SOURCES.values())


def test_each_source_has_the_name_of_its_table() -> None:
    commands = {"event-collector": {"command": ["/bin/true"]}}
    settings = Settings(source=[{"name": name, "type": name, **commands.get(name, {})} for name in SOURCES])
    assert [source_of(table, TERMS).name for table in settings.source] == list(SOURCES)
    assert all(table.origin and table.facilities for table in settings.source)
