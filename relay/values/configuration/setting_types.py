"""The types of single values of the configuration, for pydantic; their rules are in `setting_rules`. Pure.

Durations are seconds (float) and are written as text ("10ms"), sizes are bytes (int), paths are absolute (str).
"""

from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, PlainValidator
from pydantic_core import InitErrorDetails, PydanticCustomError

from relay.values.address import HIGHEST_PORT, Address, parse_host
from relay.values.configuration import setting_rules as rules
from relay.values.configuration.listener_url import ListenerUrl
from relay.values.duration import duration_text
from relay.values.event import SERVER_TYPES
from relay.values.size import size_text

Flag = Annotated[bool, Field(strict=True)]
Line = Annotated[str, AfterValidator(rules.line)]
Filled = Annotated[str, AfterValidator(rules.filled)]
FilledLine = Annotated[Line, AfterValidator(rules.filled)]
HeaderField = Annotated[Line, AfterValidator(rules.matching("[!-~]*", "must be printable ASCII without spaces"))]
"""What a field of the header can be, where it may be empty too: PRINTUSASCII of RFC 5424 section 6."""
Name = Annotated[
    str,
    AfterValidator(rules.matching(r"[A-Za-z0-9._:\[\]-]{0,64}", "must be at most 64 letters, digits and . _ : - [ ]")),
]
FilledName = Annotated[Name, AfterValidator(rules.filled)]
SdId = Annotated[
    str,
    AfterValidator(
        rules.matching(
            r"(?!(?:timeQuality|origin|meta)\Z)[!#-<>-\\^-~]{1,32}",
            'must be an SD-ID of RFC 5424: 1 to 32 characters of printable ASCII, none of = ] ", as in "128T" or '
            '"128T@2636"',
        )
    ),
]
"""RFC 5424 section 6.3.2; section 7 reserves three. A name without @ is IANA's; the routers' own `128T` is not."""
AppName = Annotated[
    str, AfterValidator(rules.matching("[!-~]{1,48}", "must be 1 to 48 characters of printable ASCII without spaces"))
]
"""RFC 5424 section 6.2.5."""
Path = Annotated[str, AfterValidator(rules.path)]
PathOrEmpty = Annotated[str, AfterValidator(rules.or_empty(rules.path))]
SocketPathOrEmpty = Annotated[str, AfterValidator(rules.or_empty(rules.socket_path))]
Certificates = Annotated[str, AfterValidator(rules.or_empty(rules.certificates))]
Fingerprint = Annotated[str, AfterValidator(rules.or_empty(rules.fingerprint))]
Program = Annotated[tuple[str, ...], AfterValidator(rules.command)]
Environment = Annotated[tuple[str, ...], AfterValidator(rules.environment)]
Ip = Annotated[str, AfterValidator(rules.ip)]
Host = Annotated[str, AfterValidator(parse_host)]
HostOrEmpty = Annotated[str, AfterValidator(rules.or_empty(parse_host))]
Port = Annotated[int, Field(strict=True), rules.between(1, HIGHEST_PORT)]
Duration = Annotated[float, BeforeValidator(rules.duration), PlainSerializer(duration_text, when_used="json")]
Size = Annotated[int, BeforeValidator(rules.size), PlainSerializer(size_text, when_used="json")]
SMALLEST_MESSAGE_SIZE: Final = 480
"""RFC 5424 section 6.1: every receiver must accept 480 octets."""
LARGEST_MESSAGE_SIZE: Final = 1024**2
"""A ceiling for memory."""
MessageSize = Annotated[Size, rules.between(SMALLEST_MESSAGE_SIZE, LARGEST_MESSAGE_SIZE, size_text)]
Network = Annotated[IPv4Network | IPv6Network, PlainValidator(rules.network), PlainSerializer(str, when_used="json")]
ListenAddress = Annotated[
    Address, PlainValidator(rules.listen_address), PlainSerializer(Address.__str__, when_used="json")
]
ListenUrl = Annotated[
    ListenerUrl, PlainValidator(rules.listen_url), PlainSerializer(ListenerUrl.__str__, when_used="json")
]
ListenUrls = Annotated[tuple[ListenUrl, ...], AfterValidator(rules.some), AfterValidator(rules.distinct)]
LoopbackUrl = Annotated[ListenUrl, AfterValidator(rules.loopback)]
LoopbackUrls = Annotated[tuple[LoopbackUrl, ...], AfterValidator(rules.some), AfterValidator(rules.distinct)]
FileMode = Annotated[
    int, BeforeValidator(rules.file_mode), PlainSerializer(lambda mode: f"{mode:04o}", when_used="json")
]
Patterns = Annotated[tuple[str, ...], AfterValidator(rules.some), AfterValidator(rules.patterns)]
"""Names, or globs as Telegraf has them."""
OriginatorPatterns = Annotated[tuple[Filled, ...], AfterValidator(rules.patterns)]
"""The same, or nothing."""
Tags = Mapping[FilledLine, FilledLine]
if TYPE_CHECKING:
    EventLabel = str
else:  # one of these labels, which a type checker cannot read from the table of types
    EventLabel = Literal[tuple(kind.label for kind in SERVER_TYPES)]
_Usual = Literal["kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"]
_Unusual = Literal["ntp", "audit", "alert", "clock"]
_Local = Literal["local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"]
Facility = Literal[_Usual, _Unusual, _Local]
Severity = Literal["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]


class Table(BaseModel):
    """One table of the configuration."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        alias_generator=lambda name: name.replace("_", "-"),
        validate_by_name=True,
        validate_by_alias=True,
        serialize_by_alias=True,
        validate_default=False,
    )


def contradiction(sentence: str, path: tuple[str | int, ...], value: object) -> InitErrorDetails:
    """Return the mistake of a value that its own type allows; `path` is relative to the table."""
    # The sentence is an argument of the template, so its own braces mean nothing.
    error = PydanticCustomError("contradiction", "{sentence}", {"sentence": sentence})
    return InitErrorDetails(type=error, loc=path, input=value)
