r"""InfluxDB line protocol, as Telegraf writes and reads it.

    NAME[,TAG=VALUE]… FIELD=VALUE[,FIELD=VALUE]… [TIME]

A comma, a space and (except in NAME) an equals sign inside a name or a tag's value are escaped with `\`. Field values
are `"text"` (in which `\"` and `\\` mean `"` and `\`, and which may hold line feeds), `12i`, `12u`, `1.5e3`, `true` and
`false` and their short forms. TIME is in nanoseconds. A `\` that escapes nothing means itself. So does one in a tag
before another `\`, which may escape the next octet. Of a key that occurs twice the last one counts. Accepted beyond
Telegraf: empty tag values, an `=` in a tag's value, a `\` in a text that escapes nothing, and carriage returns and form
feeds there.

`parse` raises NotCollectedError. All work is linear in the record, and its size has no ceiling here.
"""

import math
import re
from typing import Final

from relay.events.ssr.collected import Collected, NotCollectedError, Value

_SPACE: Final = re.compile(rb"[\t\v\f ]+")
_NAME: Final = re.compile(rb"(?:[^\t\v\f\r\n ,\\]++|\\[^\t\v\f\r\n]|\\\Z)++")
_TAG_KEY: Final = re.compile(rb"(?:[^\t\v\f\r\n ,=\\]++|\\(?=\\)|\\[^\t\v\f\r\n\\]|\\\Z)++=")
_TAG_VALUE: Final = re.compile(rb"(?:[^\t\v\f\r\n ,\\]++|\\(?=\\)|\\[^\t\v\f\r\n\\]|\\\Z)*+")
_FIELD_KEY: Final = re.compile(rb"(?:[^\t\v\f\r\n ,=\\]++|\\[^\t\v\f\r\n]|\\\Z)++=")
_TEXT: Final = re.compile(rb'"((?:[^"\\]++|\\.)*+)"', re.DOTALL)
_BARE: Final = re.compile(rb"[^\t\v\f\r\n ,]+")
_WHOLE: Final = re.compile(rb"(-?[0-9]+)[iu]")
_NUMBER: Final = re.compile(rb"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_TIME: Final = re.compile(rb"-?[0-9]{1,19}")
_ESCAPED_NAME: Final = re.compile(rb"\\([, ])")
_ESCAPED_KEY: Final = re.compile(rb'\\([," =])')
_ESCAPED_TEXT: Final = re.compile(rb'\\(["\\])')
_TRUE: Final = frozenset({b"t", b"T", b"true", b"True", b"TRUE"})
_FALSE: Final = frozenset({b"f", b"F", b"false", b"False", b"FALSE"})
_LONGEST_WORD: Final = 20
"""Characters of a 64-bit number with its sign."""


def parse(record: bytes) -> Collected:
    """Parse one record, without the line feed that ends it."""
    return _LineReader(record).record()


class _LineReader:
    """One record, read from left to right."""

    def __init__(self, record: bytes) -> None:
        self._octets = record.rstrip(b" \t\v\f\r")
        self._at = 0

    def record(self) -> Collected:
        self._skip(_SPACE)
        name = self._expect(_NAME, "a name")
        tags: dict[bytes, bytes] = {}
        while self._next(b","):
            key = self._key(_TAG_KEY, "a tag's name and =")
            tags[key] = _ESCAPED_KEY.sub(rb"\1", self._expect(_TAG_VALUE, "a tag's value"))
        self._expect(_SPACE, "tags or a space")
        fields: dict[bytes, Value] = {}
        is_first = True
        while is_first or self._next(b","):
            is_first = False
            key = self._key(_FIELD_KEY, "a field's name and =")
            fields[key] = self._value()
        time = None
        if self._skip(_SPACE):
            time = int(self._expect(_TIME, "a time in nanoseconds"))
        if self._at < len(self._octets):
            raise self._wrong("the end of the record")
        return Collected(_ESCAPED_NAME.sub(rb"\1", name), tags, fields, time)

    def _key(self, pattern: re.Pattern[bytes], rule: str) -> bytes:
        return _ESCAPED_KEY.sub(rb"\1", self._expect(pattern, rule)[:-1])

    def _value(self) -> Value:
        text = _TEXT.match(self._octets, self._at)
        if text is not None:
            self._at = text.end()
            return _ESCAPED_TEXT.sub(rb"\1", text[1]) if b"\\" in text[1] else text[1]
        begun = self._at
        word = self._expect(_BARE, "a field's value")
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        if whole := _WHOLE.fullmatch(word):
            return int(whole[1]) if len(whole[1]) <= _LONGEST_WORD else whole[1]
        if _NUMBER.fullmatch(word):
            number = float(word)
            return number if math.isfinite(number) else word
        self._at = begun
        raise self._wrong("a text in quotes, a number, or true or false")

    def _expect(self, pattern: re.Pattern[bytes], rule: str) -> bytes:
        match = pattern.match(self._octets, self._at)
        if match is None:
            raise self._wrong(rule)
        self._at = match.end()
        return match[0]

    def _skip(self, pattern: re.Pattern[bytes]) -> bool:
        match = pattern.match(self._octets, self._at)
        if match is not None:
            self._at = match.end()
        return match is not None

    def _next(self, octet: bytes) -> bool:
        found = self._octets.startswith(octet, self._at)
        self._at += found
        return found

    def _wrong(self, rule: str) -> NotCollectedError:
        return NotCollectedError(self._at, f"{rule} belongs here")
