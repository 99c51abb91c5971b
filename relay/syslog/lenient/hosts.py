"""Which words can be a host, and which a tag. Pure."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

TAG: Final = re.compile(
    rb"(?P<app>(?![0-9]+:)[^\s:\[\]]{1,128}+)(?:\[(?P<pid>[^\s\]]{0,64}+)\])?:(?=\s|\Z)"  # TAG: or TAG[PID]:
    rb"|(?P<app2>[^\s:\[\]]{1,128}+)\[(?P<pid2>[^\s\]]{1,64}+)\](?::|(?=\s|\Z))"  # TAG[PID] and TAG[PID]:text
    rb"|(?P<app3>CEF|LEEF):(?=[0-9])"
)
"""A tag, to be matched where it begins."""

_REMEMBERED_WORDS: Final = 4096
_WORD: Final = re.compile(rb"[0-9A-Za-z_.:\x80-\xff-]{1,255}")
_SEVERITIES: Final = frozenset(
    b"trace debug info information notice warn warning err error crit critical alert emerg emergency panic".split()
)
_LIKE_A_NAME: Final = re.compile(rb"[0-9A-Za-z\x80-\xff]+(?:[._-]+[0-9A-Za-z\x80-\xff]+)+|[A-Za-z]+[0-9][0-9A-Za-z]*")


def is_address(word: bytes) -> bool:
    """Whether the word is an IP address."""
    if len(word) > len("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255") or not word.isascii():
        return False
    text = word.decode("ascii")
    try:
        IPv6Address(text) if ":" in text else IPv4Address(text)
    except AddressValueError:
        return False
    return True


@lru_cache(_REMEMBERED_WORDS)
def can_be_host(word: bytes) -> bool:
    """Whether the word is written as a host name or address, and is not a severity (as in `INFO app: text`)."""
    if _WORD.fullmatch(word) is None or word.lower() in _SEVERITIES or word.isdigit():
        return False
    return b":" not in word or is_address(word)


def looks_like_host(word: bytes) -> bool:
    """Whether the word is a host's even where no tag follows it: an address, or a name such as fw1 or web.example."""
    return is_address(word) or (_LIKE_A_NAME.fullmatch(word) is not None and can_be_host(word))


def is_severity(word: bytes) -> bool:
    """Whether the word names a severity."""
    return word.lower() in _SEVERITIES


def app_and_pid(tag: "re.Match[bytes]") -> tuple[bytes, bytes | None]:
    """Both parts of a match of TAG."""
    return tag["app"] or tag["app2"] or tag["app3"], tag["pid"] or tag["pid2"] or None
