"""Which records end an event: facts about libaudit, written out by hand."""

import pytest

from relay.events.audit.record_types import NUMBERS, completes_event, number


@pytest.mark.parametrize(
    "name",
    [
        b"PROCTITLE",
        b"EOE",
        b"KERNEL",
        b"USER",
        b"USER_AUTH",
        b"DAEMON_START",
        b"ANOM_LOGIN_FAILURES",
        b"CRYPTO_KEY_USER",
        b"VIRT_CONTROL",
        b"MAC_UNLBL_ALLOW",
        b"MAC_CALIPSO_DEL",
        b"UNKNOWN[1199]",
        b"UNKNOWN[1299]",
        b"UNKNOWN[2999]",
    ],
)
def test_these_records_are_the_last_of_their_event(name: bytes) -> None:
    assert completes_event(name)


@pytest.mark.parametrize(
    "name",
    [
        b"LOGIN",
        b"SYSCALL",
        b"PATH",
        b"CWD",
        b"EXECVE",
        b"AVC",
        b"ANOM_ABEND",
        b"MAC_CONFIG_CHANGE",
        b"BPF",
        b"UNKNOWN[1334]",
        b"UNKNOWN[1420]",
        b"UNKNOWN[2099]",
        b"UNKNOWN[99999999999]",
        b"UNKNOWN[]",
        b"NO_SUCH_TYPE",
        b"",
    ],
)
def test_these_records_may_be_followed_by_more_of_their_event(name: bytes) -> None:
    assert not completes_event(name)


def test_an_unnamed_type_is_known_by_its_number() -> None:
    assert number(b"UNKNOWN[1334]") == 1334
    assert number(b"SYSCALL") == 1300
    assert number(b"UNKNOWN[13 34]") is None
    assert number(b"NO_SUCH_TYPE") is None


def test_no_number_has_two_names() -> None:
    assert len(set(NUMBERS.values())) == len(NUMBERS)
