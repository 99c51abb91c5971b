"""Telegraf's JSON: one object a line, `{"name": …, "tags": {…}, "fields": {…}, "timestamp": 1587687966}`.

The size of the time shows its unit (`nanoseconds`). A field that is null is left out; an object or an array stays JSON
text. Of a key that occurs twice the last one counts. `parse` raises NotCollectedError, also for octets that are not
UTF-8 and for objects that are nested too deeply.
"""

from typing import Any, Final

import msgspec

from relay.events.ssr.collected import Collected, NotCollectedError, Value, nanoseconds


class _JsonLine(msgspec.Struct):
    name: str
    fields: dict[str, Any]
    tags: dict[str, str] = {}
    timestamp: int | float | None = None


_DECODER: Final = msgspec.json.Decoder(_JsonLine)


def parse(line: bytes) -> Collected:
    """Parse one line, without its line feed."""
    try:
        read = _DECODER.decode(line)
        return Collected(
            read.name.encode(),
            {key.encode(): value.encode() for key, value in read.tags.items()},
            {key.encode(): _value(value) for key, value in read.fields.items() if value is not None},
            None if read.timestamp is None else nanoseconds(read.timestamp),
        )
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise NotCollectedError(0, f"a JSON object with name and fields is required here ({error})") from None


def _value(value: bool | float | str | dict[str, Any] | list[Any]) -> Value:  # noqa: FBT001  JSON has booleans
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict | list):
        return msgspec.json.encode(value)
    return value
