"""The table of event types: numbers that are on disk, and keys that are in configurations."""

from relay.values.configuration.settings import AuditSettings, RemoteLoggingServer
from relay.values.event import ALWAYS_RETAINED, OPTIONAL_TYPES, ROUTER_TYPES, SERVER_TYPES, EventType

LABELS = ["admin", "audit", "alarm", "provisioning", "system", "security", "traffic", "log", "relay"]


def test_the_number_of_a_type_never_changes() -> None:
    """Spools on disk hold these numbers."""
    assert [(kind.value, kind.label) for kind in EventType] == list(enumerate(LABELS))
    assert [EventType.from_label(label) for label in LABELS] == [EventType(number) for number in range(9)]


def test_every_type_with_a_key_has_its_table_in_audit() -> None:
    keys = {kind.label: kind.audit_key for kind in OPTIONAL_TYPES}
    assert keys == {"admin": "administration", "security": "security", "system": "system", "traffic": "traffic"}
    enabled = [kind.label for kind in OPTIONAL_TYPES if AuditSettings().category(kind).enabled]
    assert enabled == ["admin", "security", "system"]


def test_the_derived_sets_agree_with_what_users_read() -> None:
    assert {kind.label for kind in ALWAYS_RETAINED} == {"audit", "alarm", "provisioning", "log", "relay"}
    assert {kind.label for kind in ROUTER_TYPES} == set(LABELS) - {"log", "relay"}
    assert [kind.label for kind in SERVER_TYPES] == list(RemoteLoggingServer(address="::1").types) == LABELS[:-1]
