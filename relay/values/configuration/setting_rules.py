"""The rules that single values of the configuration obey. Pure.

Each rule takes a value as the file has it, and returns it as `Settings` has it. A value that breaks the rule raises
ValueError with one plain sentence that follows the key: "must be an absolute path, not "keys/id"". The types that apply
these rules are in `relay.values.configuration.setting_types`.
"""

import re
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, Final, TypeVar

from pydantic import AfterValidator

from relay.values.address import Address
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.duration import parse_duration
from relay.values.glob_matcher import glob_matcher
from relay.values.size import parse_size, size_text
from relay.values.text import quoted

Rule = Callable[[str], str]
_Value = TypeVar("_Value")
_LONGEST_LINE: Final = 255
_LARGEST_PEM: Final = 256 * 1024
_PEM: Final = "-----BEGIN CERTIFICATE-----"
_MODE: Final = re.compile("0?[0-7]{3}")
_SHA_256: Final = re.compile(r"sha-?256(?::| fingerprint=)((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)

# --- Rules that are made for a type ---


def matching(pattern: str, sentence: str) -> Rule:
    """The rule that a text matches a pattern as a whole."""
    expression = re.compile(pattern)

    def rule(text: str) -> str:
        if expression.fullmatch(text) is None:
            raise ValueError(f"{sentence}, not {quoted(text)}")
        return text

    return rule


def or_empty(rule: Rule) -> Rule:
    """The same rule for a text that may be empty as well."""
    return lambda text: rule(text) if text else text


def between(low: float, high: float, show: Callable[[Any], str] = str) -> AfterValidator:
    """The rule that a number is from `low` to `high`; `show` writes numbers for people."""

    def rule(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"must be from {show(low)} to {show(high)}, not {show(value)}")
        return value

    return AfterValidator(rule)


# --- Texts ---


def line(text: str) -> str:
    """One line of up to 255 printable characters."""
    if not text.isprintable():
        raise ValueError(f"must be one line without control characters, not {quoted(text)}")
    if len(text) > _LONGEST_LINE:
        raise ValueError(f"must be at most {_LONGEST_LINE} characters long, not {len(text)}")
    return text


def filled(text: str) -> str:
    """Not the empty text."""
    if not text:
        raise ValueError("must not be empty")
    return text


def path(text: str) -> str:
    """An absolute path. A private key that was pasted in is not shown."""
    if "-----BEGIN" in text:
        raise ValueError("must be the path of a file, not the content of the file")
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"must be an absolute path, not {quoted(text)}")
    return line(text)


def socket_path(text: str) -> str:
    """The absolute path of a Unix socket."""
    return ListenerUrl.parse(f"unix://{path(text)}").path


def certificates(text: str) -> str:
    """A file's path, or the content of such a file: certificates in PEM."""
    if not is_pem(text):
        return path(text)
    if "PRIVATE KEY" in text:
        raise ValueError("must hold only certificates; move the private key into a file and name it in `private-key`")
    if len(text) > _LARGEST_PEM:
        raise ValueError(f"must be at most {size_text(_LARGEST_PEM)}, not {size_text(len(text))}; name a file instead")
    return text


def is_pem(text: str) -> bool:
    """Whether a text is certificates, not the path of a file."""
    return _PEM in text


def ip(text: str) -> str:
    """An IP address."""
    try:
        ip_address(text)
    except ValueError:
        raise ValueError(f'must be an IP address of this machine, as in "127.0.0.1", not {quoted(text)}') from None
    return text


def fingerprint(text: str) -> str:
    """As RFC 5425 section 4.2.2 or openssl writes it. SHA-1, which the RFC allows too, can be forged."""
    match = _SHA_256.fullmatch(text)
    if match is None:
        raise ValueError(
            'must be "sha-256:" and 32 pairs of hexadecimal digits, as printed by `openssl x509 -noout -fingerprint '
            f"-sha256 -in FILE`, not {quoted(text)}"
        )
    return f"sha-256:{bytes.fromhex(match[1].replace(':', '')).hex(':').upper()}"


# --- Quantities and addresses ---


def duration(value: object) -> object:
    """A duration in quotes, as seconds."""
    if isinstance(value, str):
        return parse_duration(value)
    raise ValueError('must be a duration in quotes, with its unit, as in "10ms" or "90s"')


def size(value: object) -> object:
    """A size in quotes, or a number of bytes."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return parse_size(value)
    raise ValueError('must be a size, as in "16MiB", or a number of bytes')


def network(value: object) -> IPv4Network | IPv6Network:
    """An address, or a network with the length of its prefix, in quotes."""
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    try:
        return ip_network(value if isinstance(value, str) else "")
    except ValueError:
        shown = quoted(value) if isinstance(value, str) else str(value)
        raise ValueError(f'{shown} must be an address or a network, as in "192.0.2.7" or "192.0.2.0/24"') from None


def file_mode(value: object) -> object:
    """The permission bits of a file in octal digits, in quotes; TOML has no octal numbers as chmod writes them."""
    if isinstance(value, str) and _MODE.fullmatch(value):
        return int(value, 8)
    raise ValueError(f'must be a mode in quotes, as chmod writes it: "0640" or "0666", not {quoted(str(value))}')


def listen_address(value: object) -> Address:
    """HOST:PORT in quotes."""
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('must be an address in quotes, as in "127.0.0.1:9999"')  # noqa: TRY004  pydantic reports ValueErrors
    return Address.parse(value)


def listen_url(value: object) -> ListenerUrl:
    """A listener's URL; HOST:PORT without a scheme means tcp."""
    if isinstance(value, ListenerUrl):
        return value
    if not isinstance(value, str):
        raise ValueError('must be a URL in quotes, as in "udp://0.0.0.0:514"')  # noqa: TRY004  as above
    return ListenerUrl.parse(value)


def loopback(url: ListenerUrl) -> ListenerUrl:
    """A TCP address that only this machine can reach."""
    if url.scheme != "tcp":
        raise ValueError(f"{quoted(str(url))}: audisp-remote connects by tcp:// only")
    try:
        local = ip_address(url.address.host).is_loopback
    except ValueError:
        local = url.address.host.lower() == "localhost"
    if not local:
        cause = "is not on loopback, and this protocol cannot prove who the sender is"
        raise ValueError(f"{quoted(str(url.address))} {cause}")
    return url


# --- Lists of texts ---


def distinct(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """No value twice."""
    twice = {str(value) for value in values if values.count(value) > 1}
    if twice:
        raise ValueError(f"names {' and '.join(sorted(twice))} more than once")
    return values


def some(values: tuple[_Value, ...]) -> tuple[_Value, ...]:
    """At least one value."""
    if not values:
        raise ValueError("must name at least one")
    return values


def command(words: tuple[str, ...]) -> tuple[str, ...]:
    """A program's absolute path and its arguments."""
    if not words:
        raise ValueError('must name a program and its arguments, as in ["/usr/bin/eventCollector128t"]')
    for word in words:
        if "\0" in word:
            raise ValueError(f"must not contain zero bytes: {quoted(word)}")
    path(words[0])
    return words


def environment(variables: tuple[str, ...]) -> tuple[str, ...]:
    """Variables as environ(7) has them. A value may be a secret: only the name is shown."""
    for variable in variables:
        name, equals, _ = variable.partition("=")
        if not (name and equals):
            raise ValueError(f'must be as in ["NAME=value"]; {quoted(name)} has no name or no value')
        if "\0" in variable:
            raise ValueError(f"must not contain zero bytes: {quoted(name)}")
    return variables


def patterns(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Globs, as `relay.values.glob_matcher` reads them."""
    glob_matcher(texts)
    return texts
