"""The messages that every peer gets: small, large, and with every octet that a protocol might not carry."""

from typing import Final

HEAD: Final = b"<13>1 2003-10-11T22:14:15.003Z router app - - - "


def filled(size: int) -> bytes:
    """A message of so many octets."""
    return HEAD + b"a" * (size - len(HEAD))


ONE_OCTET: Final = b"x"
LARGE: Final = filled(8192)
HUGE: Final = filled(65_536)
WITH_LF: Final = HEAD + b"line\nline"
WITH_NUL: Final = HEAD + b"a\0b"
NO_UTF_8: Final = HEAD + b"\xff\xfe\x80 and \x1d\x01\r\t\x7f."
SPACED: Final = HEAD + b" two  spaces "
BEGINS_WITH_A_DIGIT: Final = b"7 days, and no priority"
STRUCTURED: Final = (
    b"<109>1 2003-10-11T22:14:15.003123Z router auditd 12 LOGIN "
    b'[128T type="audit" exe="a\\"b\\\\c\\]d" city="Z\xc3\xbcrich"] type=LOGIN msg=audit(1.000:2): pid=1 '
)
MESSAGES: Final = (
    ONE_OCTET,
    LARGE,
    HUGE,
    WITH_LF,
    WITH_NUL,
    NO_UTF_8,
    SPACED,
    BEGINS_WITH_A_DIGIT,
    STRUCTURED,
)


def with_changes(changes: dict[bytes, bytes | None]) -> list[bytes]:
    """The messages that should arrive: MESSAGES with these changes; those that become None do not arrive."""
    changed = (changes.get(message, message) for message in MESSAGES)
    return [message for message in changed if message is not None]


def foreign(messages: list[bytes]) -> list[bytes]:
    """The messages without relay's own events, which are the only ones with its identity."""
    return [message for message in messages if b'relayRun="' not in message]
