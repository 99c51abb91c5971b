"""What rsyslog and syslog-ng read in a message: host, program and time."""

from typing import Final, NamedTuple

from typing_extensions import override

from harness.rsyslog import Rsyslog
from harness.syslog_ng import SyslogNg

_RSYSLOG: Final = "%hostname%\x1e%programname%\x1e%timereported:::date-rfc3339%\\n"
_SYSLOG_NG: Final = "${HOST}\x1e${PROGRAM}\x1e${ISODATE}\\n"


class ParsedHeader(NamedTuple):
    """The parts of one message."""

    host: str
    app: str
    time: str
    """RFC 3339."""


def _headers(octets: bytes) -> list[ParsedHeader]:
    lines = octets.decode("utf-8", "surrogateescape").split("\n")[:-1]
    return [ParsedHeader(*line.split("\x1e")) for line in lines]


class ParsingRsyslog(Rsyslog):
    """An rsyslog that keeps only what it read, one message a line, in the order of arrival."""

    @override
    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "TZ": "UTC"}

    @override
    def _configuration(self) -> str:
        return super()._configuration().replace("%$.length% %rawmsg%", _RSYSLOG)

    def headers(self) -> list[ParsedHeader]:
        """What it read in each message so far."""
        return _headers(self.output.read_bytes()) if self.output.exists() else []


class ParsingSyslogNg(SyslogNg):
    """A syslog-ng that keeps only what it read, one message a line, in the order of arrival."""

    @override
    def _environment(self) -> dict[str, str]:
        return {**super()._environment(), "TZ": "UTC"}

    @override
    def _configuration(self) -> str:
        whole = super()._configuration()
        begin = whole.index('template("$(length')
        end = whole.index(");", begin)
        return whole[:begin] + f'template("{_SYSLOG_NG}")' + whole[end:]

    def headers(self) -> list[ParsedHeader]:
        """What it read in each message so far."""
        return _headers(self.output.read_bytes()) if self.output.exists() else []
