"""[[receiver.expect]]: which originators must be heard, and how often."""

from typing import Annotated, Final

from pydantic import BeforeValidator

from relay.values.configuration.setting_rules import between
from relay.values.configuration.setting_types import Duration, Patterns, Table
from relay.values.duration import duration_text

SHORTEST_EXPECTATION: Final = 1.0
LONGEST_EXPECTATION: Final = 366 * 86_400.0


class ReceiverExpect(Table):
    """One table."""

    originator: Annotated[Patterns, BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
    """Names of originators' folders, or globs."""
    within: Annotated[Duration, between(SHORTEST_EXPECTATION, LONGEST_EXPECTATION, duration_text)]
