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
        fields: dict[bytes, Value] = {}
        for key, value in read.fields.items():
            if isinstance(value, str):
                fields[key.encode()] = value.encode()
            elif isinstance(value, dict | list):
                fields[key.encode()] = msgspec.json.encode(value)
            elif value is not None:
                fields[key.encode()] = value
        tags = {key.encode(): value.encode() for key, value in read.tags.items()}
        time = None if read.timestamp is None else nanoseconds(read.timestamp)
        return Collected(read.name.encode(), tags, fields, time)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise NotCollectedError(0, f"a JSON object with name and fields is required here ({error})") from None
