"""A message's PRI, compared with RFC 5424's tables and a naive reading."""

import re
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from relay.syslog.priority import EVERY_PRIORITY, FACILITIES, SEVERITIES, USER_NOTICE, priorities, priority
from relay.values.configuration.setting_types import Facility, Severity

PRI = re.compile(rb"<(0|[1-9][0-9]{0,2})>")


@pytest.mark.parametrize(
    ("message", "value"),
    [
        (b"<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - x", 34),  # RFC 5424 section 6.5
        (b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - x", 165),
        (b"<0>kernel panic", 0),
        (b"<191>", 191),
        (b"<192>1 - - - - - -", USER_NOTICE),
        (b"<00>1", USER_NOTICE),
        (b"<034>1", USER_NOTICE),
        (b"<>1", USER_NOTICE),
        (b"<1", USER_NOTICE),
        (b"<-1>", USER_NOTICE),
        (b" <34>1", USER_NOTICE),
        (b"no priority <34>", USER_NOTICE),
        (b"", USER_NOTICE),
    ],
)
def test_a_priority_is_the_pri_of_the_message_or_that_of_user_notice(message: bytes, value: int) -> None:
    """RFC 3164 section 4.3.3."""
    assert priority(message) == value


@given(st.binary(max_size=8) | st.from_regex(rb"<[0-9]{0,4}>?.{0,3}", fullmatch=True))
@example(b"<13")
def test_any_octets_have_the_priority_of_a_plain_reading(message: bytes) -> None:
    match = PRI.match(message)
    plain = int(match[1]) if match else USER_NOTICE
    assert priority(message) == (plain if plain <= 191 else USER_NOTICE)


def test_the_names_are_those_of_the_standards_tables_and_of_the_settings() -> None:
    assert [FACILITIES.index(name) for name in ("kern", "authpriv", "audit", "local0", "local7")] == [0, 10, 13, 16, 23]
    assert [SEVERITIES.index(name) for name in ("emerg", "err", "warning", "info", "debug")] == [0, 3, 4, 6, 7]
    assert (get_args(Facility), get_args(Severity)) == (FACILITIES, SEVERITIES)


def test_without_a_facility_the_least_severity_means_every_priority() -> None:
    assert priorities((), "debug") == EVERY_PRIORITY == sum(1 << value for value in range(192))


@given(st.sets(st.sampled_from(FACILITIES)), st.sampled_from(SEVERITIES), st.integers(0, 191))
def test_a_set_holds_the_priorities_of_its_facilities_that_are_severe_enough(
    facilities: set[str], severity: str, value: int
) -> None:
    facility, level = divmod(value, 8)
    expected = (not facilities or FACILITIES[facility] in facilities) and level <= SEVERITIES.index(severity)
    assert bool(priorities(facilities, severity) >> value & 1) == expected
