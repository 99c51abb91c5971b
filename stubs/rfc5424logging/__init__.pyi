# The part of rfc5424-logging-handler 1.4.3 that relay uses; the library has no types.
import logging
import socket
from typing import Any, TextIO

class Rfc5424SysLogHandler(logging.Handler):
    def __init__(
        self,
        address: str | tuple[str, int] = ...,
        facility: int = ...,
        socktype: socket.SocketKind = ...,
        framing: int = ...,
        msg_as_utf8: bool = ...,
        hostname: str | None = ...,
        appname: str | None = ...,
        procid: int | str | None = ...,
        structured_data: dict[str, dict[str, Any]] | None = ...,
        enterprise_id: int | str | None = ...,
        utc_timestamp: bool = ...,
        stream: TextIO | None = ...,
    ) -> None: ...
    def build_msg(self, record: logging.LogRecord) -> bytes: ...

class transport:  # noqa: N801  a module of the library, seen as a namespace
    FRAMING_OCTET_COUNTING: int
    FRAMING_NON_TRANSPARENT: int
