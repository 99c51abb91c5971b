"""The time zone that a setting names."""

import os
import re
from datetime import UTC, timedelta, timezone, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from relay.errors import ConfigurationError
from relay.values.text import quoted

_OFFSET: Final = re.compile(r"([+-])([0-9]{2}):([0-9]{2})")
_LOCAL: Final = "/etc/localtime"


def zone_of(name: str, key: str) -> tzinfo:
    """The zone of the setting `key`: "local", an offset, or a name; ConfigurationError when this machine has none."""
    if name == "local":
        return _local()
    if offset := _OFFSET.fullmatch(name):
        east = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-east if offset[1] == "-" else east)
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        cause = f"this machine does not know the time zone {quoted(name)}"
        raise ConfigurationError(
            key, (cause,), 'install tzdata, correct the name, or write an offset ("+01:00")'
        ) from None


def _local() -> tzinfo:
    """The zone of this process: TZ, else /etc/localtime, else UTC."""
    name = os.environ.get("TZ", "").lstrip(":")
    try:
        if name:
            return ZoneInfo(name)
        with open(_LOCAL, "rb") as file:
            return ZoneInfo.from_file(file, key="local")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC
