"""What single values of the configuration can be: types for pydantic, each with its rule and one plain sentence. Pure.

Durations are seconds (float) and are given as text ("10ms"), sizes are bytes (int), paths are absolute (str).
"""

import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, PlainValidator

from relay.values.glob import matcher
from relay.values.quantity import HIGHEST_PORT, Address, duration_text, host, octets, seconds, size_text
from relay.values.text import quoted

_RESERVED_SD_IDS: Final = frozenset({"timeQuality", "origin", "meta"})  # RFC 5424 section 7
_SD_ID_LIMIT: Final = 32
_APP_NAME_LIMIT: Final = 48
_TEXT_LIMIT: Final = 255
_NAME_LIMIT: Final = 64
_PEM: Final = "-----BEGIN CERTIFICATE-----"
_LARGEST_PEM: Final = 256 * 1024
_SHA_256: Final = re.compile(r"sha-?256(?::| fingerprint=)((?:[0-9a-f]{2}:?){31}[0-9a-f]{2})", re.IGNORECASE)


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line without control characters")
    if len(text) > _TEXT_LIMIT:
        raise ValueError(f"must be at most {_TEXT_LIMIT} characters long, not {len(text)}")
    return text


def _visible_ascii(text: str) -> str:
    """RFC 5424 section 6, PRINTUSASCII: what a header field may hold."""
    if not all("!" <= character <= "~" for character in text):
        raise ValueError("must be printable ASCII without spaces")
    return text


def _filled(text: str) -> str:
    if not text:
        raise ValueError("must not be empty")
    return text


def _name(text: str) -> str:
    if len(text) > _NAME_LIMIT or not all(c.isascii() and (c.isalnum() or c in "._:-[]") for c in text):
        raise ValueError(f"must be at most {_NAME_LIMIT} letters, digits and . _ : - [ ], not {quoted(text)}")
    return text


def _sd_id(text: str) -> str:
    """RFC 5424 section 6.3.2. A name without @ is IANA's (section 7); routers' own `128T` disregards that."""
    if not 1 <= len(text) <= _SD_ID_LIMIT or set(text) & set('="]') or text in _RESERVED_SD_IDS:
        raise ValueError('must be an SD-ID of RFC 5424: 1 to 32 characters, none of = ] ", as in "128T" or "128T@2636"')
    return _visible_ascii(text)


def _app_name(text: str) -> str:
    """RFC 5424 section 6.2.5."""
    if not 1 <= len(text) <= _APP_NAME_LIMIT:
        raise ValueError(f"must be 1 to {_APP_NAME_LIMIT} characters long, not {len(text)}")
    return _visible_ascii(text)


def _path(text: str) -> str:
    if "-----BEGIN" in text:  # a key that was pasted in: not to be shown
        raise ValueError("must be the path of a file, not what stands in the file")
    if not text.startswith("/") or "\0" in text:
        raise ValueError(f"must be an absolute path, not {quoted(text)}")
    return text


def _path_or_empty(text: str) -> str:
    return _path(text) if text else text


def _certificates(text: str) -> str:
    """A file's path, or certificates in PEM as they stand in it."""
    if not is_pem(text):
        return _printable(_path_or_empty(text))
    if "PRIVATE KEY" in text:
        raise ValueError("must hold certificates only; a private key belongs into a file that `private-key` names")
    if len(text) > _LARGEST_PEM:
        raise ValueError(f"must be at most {size_text(_LARGEST_PEM)}, not {size_text(len(text))}; name a file")
    return text


def is_pem(text: str) -> bool:
    """Whether it is certificates themselves, and no path."""
    return _PEM in text


def _program(command: tuple[str, ...]) -> tuple[str, ...]:
    if not command:
        raise ValueError('must name a program and its arguments, as in ["/usr/bin/eventCollector128t"]')
    for argument in command:
        if "\0" in argument:
            raise ValueError(f"must hold no zero bytes: {quoted(argument)}")
    _path(command[0])
    return command


def _environment(variables: tuple[str, ...]) -> tuple[str, ...]:
    """environ(7). A value may be a secret: only the name is shown."""
    for variable in variables:
        name, equals, _ = variable.partition("=")
        if not (name and equals):
            raise ValueError(f'must be as in ["NAME=value"]; {quoted(name)} has no name or no value')
        if "\0" in variable:
            raise ValueError(f"must hold no zero bytes: {quoted(name)}")
    return variables


def _globs(patterns: tuple[str, ...]) -> tuple[str, ...]:
    matcher(patterns)
    return patterns


def _ip(text: str) -> str:
    try:
        ip_address(text)
    except ValueError:
        raise ValueError(f'must be an IP address of this machine, as in "127.0.0.1", not {quoted(text)}') from None
    return text


def _host_or_empty(text: str) -> str:
    return host(text) if text else text


def _fingerprint(text: str) -> str:
    """RFC 5425 section 4.2.2, or as openssl prints it; SHA-1, which the RFC has too, can be forged."""
    if not text:
        return text
    match = _SHA_256.fullmatch(text)
    if match is None:
        raise ValueError(
            'must be "sha-256:" and 32 pairs of hexadecimal digits, as `openssl x509 -noout -fingerprint -sha256 -in '
            f"FILE` shows them, not {quoted(text)}"
        )
    return f"sha-256:{bytes.fromhex(match[1].replace(':', '')).hex(':').upper()}"


def _duration(value: object) -> object:
    if isinstance(value, str):
        return seconds(value)
    raise ValueError('must be a duration in quotes, with its unit, as in "10ms" or "90s"')


def _size(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        return octets(value)
    raise ValueError('must be a size, as in "16MiB", or a number of bytes')


def between(low: float, high: float, show: Callable[[Any], str] = str) -> AfterValidator:
    """Let numbers from `low` to `high` pass; `show` writes them for people."""

    def check(value: float) -> float:
        if not low <= value <= high:
            raise ValueError(f"must be from {show(low)} to {show(high)}, not {show(value)}")
        return value

    return AfterValidator(check)


def _listen_address(value: object) -> Address:
    if isinstance(value, Address):
        return value
    if not isinstance(value, str):
        raise ValueError('must be an address in quotes, as in "127.0.0.1:9999"')  # noqa: TRY004  pydantic reports ValueErrors
    return Address.parse(value)


def _listen_url(value: object) -> Address:
    """Read a listener's URL; a bare HOST:PORT means tcp."""
    if not isinstance(value, str) or "://" not in value:
        return _listen_address(value)
    scheme, _, address = value.partition("://")
    if scheme != "tcp":
        raise ValueError(f"{quoted(value)}: this version of relay listens on tcp:// only")
    return _listen_address(address)


def _listen_url_text(address: Address) -> str:
    return f"tcp://{address}"


def _loopback(address: Address) -> Address:
    try:
        local = ip_address(address.host).is_loopback
    except ValueError:
        local = address.host.lower() == "localhost"
    if not local:
        raise ValueError(f"{quoted(str(address))} is not on loopback, and this protocol knows nobody's identity")
    return address


def distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Let only values pass of which none stands twice."""
    twice = {value for value in values if values.count(value) > 1}
    if twice:
        raise ValueError(f"names {' and '.join(sorted(twice))} more than once")
    return values


def some(values: tuple[str, ...]) -> tuple[str, ...]:
    """Let only what is not empty pass."""
    if not values:
        raise ValueError("must name at least one")
    return values


Flag = Annotated[bool, Field(strict=True)]
Line = Annotated[str, AfterValidator(_printable)]
FilledLine = Annotated[Line, AfterValidator(_filled)]
HeaderField = Annotated[str, AfterValidator(_printable), AfterValidator(_visible_ascii)]
Filled = Annotated[str, AfterValidator(_filled)]
Name = Annotated[str, AfterValidator(_name)]
FilledName = Annotated[Name, AfterValidator(_filled)]
SdId = Annotated[str, AfterValidator(_sd_id)]
AppName = Annotated[str, AfterValidator(_app_name)]
Path = Annotated[str, AfterValidator(_path), AfterValidator(_printable)]
PathOrEmpty = Annotated[str, AfterValidator(_path_or_empty), AfterValidator(_printable)]
Program = Annotated[tuple[str, ...], AfterValidator(_program)]
Environment = Annotated[tuple[str, ...], AfterValidator(_environment)]
Certificates = Annotated[str, AfterValidator(_certificates)]
Fingerprint = Annotated[str, AfterValidator(_fingerprint)]
Ip = Annotated[str, AfterValidator(_ip)]
Host = Annotated[str, AfterValidator(host)]
HostOrEmpty = Annotated[str, AfterValidator(_host_or_empty)]
Port = Annotated[int, Field(strict=True), between(1, HIGHEST_PORT)]
Duration = Annotated[float, BeforeValidator(_duration), PlainSerializer(duration_text, when_used="json")]
Size = Annotated[int, BeforeValidator(_size), PlainSerializer(size_text, when_used="json")]
ListenAddress = Annotated[Address, PlainValidator(_listen_address), PlainSerializer(Address.__str__, when_used="json")]
ListenUrl = Annotated[Address, PlainValidator(_listen_url), PlainSerializer(_listen_url_text, when_used="json")]
LoopbackUrl = Annotated[ListenUrl, AfterValidator(_loopback)]
Patterns = Annotated[tuple[str, ...], AfterValidator(some), AfterValidator(_globs)]
"""Names, or globs as Telegraf has them."""
Tags = Mapping[FilledLine, FilledLine]
EventLabel = Literal["admin", "audit", "alarm", "provisioning", "system", "security", "traffic", "log"]
"""The event types that a server can choose. Relay's own events (`relay`) go to every server."""
_Usual = Literal["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
_Unusual = Literal["ntp", "audit", "alert", "clock"]
_Local = Literal["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]
Facility = Literal[_Usual, _Unusual, _Local]
Severity = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]
