# ruff: noqa: E501  because a vector has one line
"""Messages in the forms that senders write, and what each says about itself.

The forms are those of RFC 3164, of the makers' documentation, and of the tests of rsyslog, syslog-ng, syslog_loose and
Splunk Connect for Syslog; the texts are our own. All are received at `RECEIVED`, in UTC.
"""

from datetime import UTC, datetime
from typing import NamedTuple

RECEIVED_AT = datetime(2026, 11, 30, 10, tzinfo=UTC)


def us(moment: str) -> int:
    """Microseconds since the epoch."""
    begin = datetime.fromisoformat(moment)
    whole = begin.replace(microsecond=0, tzinfo=begin.tzinfo or UTC)
    return int(whole.timestamp()) * 1_000_000 + begin.microsecond


RECEIVED = us("2026-11-30T10:00:00Z")


class Vector(NamedTuple):
    """A message and what it says; `marks` are the ledger's words."""

    message: bytes
    priority: int
    time: str | None
    host: bytes | None
    app: bytes | None
    procid: bytes | None
    msg: bytes
    marks: str


_Row = tuple[bytes, int, str | None, str | None, str | None, str | None, bytes, str]


def _vectors(*rows: _Row) -> tuple[Vector, ...]:
    def octets(text: str | None) -> bytes | None:
        return None if text is None else text.encode(errors="surrogateescape")

    return tuple(
        Vector(message, pri, time, octets(host), octets(app), octets(pid), msg, marks)
        for message, pri, time, host, app, pid, msg, marks in rows
    )


N30 = "2026-11-30T09:01:02"
INFERRED = "inferred"
NEAR = "repaired"

PRI = _vectors(
    (b"<0>Nov 30 09:01:02 fw1 app: x", 0, N30, "fw1", "app", None, b"x", INFERRED),
    (b"<191>Nov 30 09:01:02 fw1 app: x", 191, N30, "fw1", "app", None, b"x", INFERRED),
    (b"<192>Nov 30 09:01:02 fw1 app: x", 13, N30, "fw1", "app", None, b"x", "no-pri repaired inferred"),
    (b"<999>Nov 30 09:01:02 fw1 app: x", 13, N30, "fw1", "app", None, b"x", "no-pri repaired inferred"),
    (b"<>Nov 30 09:01:02 fw1 app: x", 13, N30, "fw1", "app", None, b"x", "no-pri repaired inferred"),
    (b"<013>Nov 30 09:01:02 fw1 app: x", 13, N30, "fw1", "app", None, b"x", "repaired inferred"),
    (b"< 14>Nov 30 09:01:02 fw1 app: x", 14, N30, "fw1", "app", None, b"x", "repaired inferred"),
    (b"<14> Nov 30 09:01:02 fw1 app: x", 14, N30, "fw1", "app", None, b"x", "repaired inferred"),
    (
        b"<-1>Nov 30 09:01:02 fw1 app: x",
        13,
        None,
        None,
        None,
        None,
        b"<-1>Nov 30 09:01:02 fw1 app: x",
        "no-pri no-time",
    ),
    (b"<html>", 13, None, None, None, None, b"<html>", "no-pri no-time"),
    (b"<14", 13, None, None, None, None, b"<14", "no-pri no-time"),
    (b"", 13, None, None, None, None, b"", "no-pri no-time"),
    (b"\xef\xbb\xbf<14>Nov 30 09:01:02 fw1 app: x", 14, N30, "fw1", "app", None, b"x", "repaired inferred"),
    (b"\0 <14>1 2026-11-30T09:01:02Z fw1 app 1 - - x", 14, N30, "fw1", "app", "1", b"x", "repaired"),
    (b'{"level":"info"}', 13, None, None, None, None, b'{"level":"info"}', "no-pri no-time"),
    (
        b"complete and utter gobbledegook",
        13,
        None,
        None,
        None,
        None,
        b"complete and utter gobbledegook",
        "no-pri no-time",
    ),
)

RFC_5424_NEARLY = _vectors(
    (b"<14>1 2026-11-30T09:01:02.123456789Z h1 a - - - x", 14, f"{N30}.123456", "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30t09:01:02z h1 a - - - x", 14, N30, "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30T09:00:60Z h1 a - - - x", 14, "2026-11-30T09:01:00", "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30 09:01:02 h1 a - - - x", 14, N30, "h1", "a", None, b"x", "repaired inferred"),
    (b"<14>1 2026-11-30T10:01:02+0100 h1 a - - - x", 14, N30, "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30T10:01:02+01 h1 a - - - x", 14, N30, "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30T09:01:02 h1 a - - - x", 14, N30, "h1", "a", None, b"x", "repaired inferred"),
    (b"<14>1 2026-11-30T09:01:02,5Z h1 a - - - x", 14, f"{N30}.5", "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-02-30T09:01:02Z h1 a - - - x", 14, None, "h1", "a", None, b"x", "repaired no-time"),
    (b"<14>1 2026-11-30T24:01:02Z h1 a - - - x", 14, None, "h1", "a", None, b"x", "repaired no-time"),
    (b"<14>1 2026-11-30T09:01:02Z h1 a 1 2 no data", 14, N30, "h1", "a", "1", b"no data", NEAR),
    (b"<14>1 2026-11-30T09:01:02Z h1", 14, N30, "h1", None, None, b"", NEAR),
    (b"<14>1 2026-11-30T09:01:02Z - a - - [] x", 14, N30, None, "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30T09:01:02Z h1 a - - [a@1 x=1 y=] x", 14, N30, "h1", "a", None, b"x", NEAR),
    (b'<14>1 2026-11-30T09:01:02Z h1 a - - [a@1 x="\xfc"] x', 14, N30, "h1", "a", None, b"x", NEAR),
    (b'<14>1 2026-11-30T09:01:02Z h1 a - - [action:"Accept"; x] x', 14, N30, "h1", "a", None, b'[action:"Accept"; x] x', NEAR),
    (b"<14>1 2026-11-30T09:01:02Z z\xfcrich a - - - x", 14, N30, "z\udcfcrich", "a", None, b"x", NEAR),
    (b"<14>1  2026-11-30T09:01:02Z  h1  a - - - x", 14, N30, "h1", "a", None, b"x", NEAR),
    (b"<14>2 2026-11-30T09:01:02Z h1 a - - - x", 14, N30, "h1", "a", None, b"x", NEAR),
    (b"<14>1 2026-11-30T09:01:02Z h1 %b - - - x" % (b"a" * 60), 14, N30, "h1", "a" * 60, None, b"x", NEAR),
    (b"<14>1 2026-11-30T09:01:02Z h1 Hostd: info", 14, N30, "h1", "Hostd", None, b"info", NEAR),
    (b"1 2026-11-30T09:01:02Z h1 a - - - x", 13, N30, "h1", "a", None, b"x", "no-pri repaired"),
    (b"<13> 1 2026-11-30T09:01:02Z h1 a - - - x", 13, N30, "h1", "a", None, b"x", NEAR),
    (b"<134>1 1796029262.774247467 mx84 flows src=192.0.2.1", 134, f"{N30}.774247", "mx84", None, None, b"flows src=192.0.2.1", NEAR),
    (b"<14>1 - not really", 14, None, None, None, None, b"1 - not really", "no-time"),
    (b"<14>1", 14, None, None, None, None, b"1", "no-time"),
)  # fmt: skip

BSD = _vectors(
    (b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed", 34, "2026-10-11T22:14:15", "mymachine", "su", None, b"'su root' failed", INFERRED),
    (b"<13>Feb  5 17:32:18 192.0.2.99 Use the BFG!", 13, "2026-02-05T17:32:18", "192.0.2.99", None, None, b"Use the BFG!", INFERRED),
    (b"<46>Nov 30 09:01:02 Two Words user system logged out", 46, N30, None, None, None, b"Two Words user system logged out", INFERRED),
    (b"<30>Nov 30 09:01:02 2001:db8:115e:c0b::a:1 named[16548]: x", 30, N30, "2001:db8:115e:c0b::a:1", "named", "16548", b"x", INFERRED),
    (b"<30>Nov 30 09:01:02 ::ffff:192.0.2.1 named: x", 30, N30, "::ffff:192.0.2.1", "named", None, b"x", INFERRED),
    (b"<30>Nov 30 09:01:02 [2001:db8::1] named: x", 30, N30, "2001:db8::1", "named", None, b"x", INFERRED),
    (b"<30>Nov 30 09:01:02 [2001:db8::x] named: x", 30, N30, None, None, None, b"[2001:db8::x] named: x", INFERRED),
    (b"<30>2026:11:30-09:01:02 utm1 httpproxy[123]: x", 30, N30, "utm1", "httpproxy", "123", b"x", "repaired inferred"),
    (b"<189>Nov 30 2026 09:01:02 HW1 %%01SHELL/5/CMDRECORD(l)[1]:x", 189, N30, "HW1", "%%01SHELL/5/CMDRECORD(l)", "1", b"x", "repaired inferred"),
    (b"<22>Nov 30 09:01:02 2026 mail1 filter_instance1[1234]: x", 22, N30, "mail1", "filter_instance1", "1234", b"x", "repaired inferred"),
    (b"<134>Nov 30 09:01:02 zscaler-nss: LEEF:1.0|x", 134, N30, None, "zscaler-nss", None, b"LEEF:1.0|x", INFERRED),
    (b"<30>Nov 30 09:01:02 MikroTik system,info user admin logged in", 30, N30, None, None, None, b"MikroTik system,info user admin logged in", INFERRED),
    (b"<40>1 2026-11-30T09:01:02+00:00 host app web.3 - State changed", 40, N30, "host", "app", "web.3", b"State changed", NEAR),
    (b"<38>Nov 30 09:01:02 host1 sshd[12]: [ID 800047 auth.info] x", 38, N30, "host1", "sshd", "12", b"[ID 800047 auth.info] x", INFERRED),
    (b"<189>: sw1: 2026 Nov 30 09:01:02 UTC: %ETH-5-UP: x", 189, N30, "sw1", "%ETH-5-UP", None, b"x", NEAR),
    (b"<134>WLC1: *emWeb: Nov 30 09:01:02.123: %AAA-6-X: x", 134, None, None, "WLC1", None, b"*emWeb: Nov 30 09:01:02.123: %AAA-6-X: x", "no-time"),
    (b"<7> Nov 30 09:01:02. web1 snmpd[2499]: x", 7, N30, "web1", "snmpd", "2499", b"x", "repaired inferred"),
    (b"<187>Nov 30 09:01:02 router 6951: .Nov 30 09:01:01: %LINK-3-UPDOWN: x", 187, N30, "router", "%LINK-3-UPDOWN", None, b"x", INFERRED),
    (b"<187>Nov 30 09:01:02 192.0.2.4 6951: *Nov 30 09:01:01.100 EDT: %SYS-5-X: x", 187, N30, "192.0.2.4", "%SYS-5-X", None, b"x", INFERRED),
    (b"<190>Nov 30 2026 09:01:02 %ASA: x", 190, N30, None, "%ASA", None, b"x", "repaired inferred"),
    (b"<190>NOV 30 09:01:02 192.0.2.8-1 CMDLOGGER[165319912]: x", 190, N30, "192.0.2.8-1", "CMDLOGGER", "165319912", b"x", "repaired inferred"),
    (b"<7>Nov 30 09:01:02 bzorp ctld/snmpd[2499]:", 7, N30, "bzorp", "ctld/snmpd", "2499", b"", INFERRED),
    (b"<13>Nov 30 24:60:60 web1 logger: x", 13, None, "web1", "logger", None, b"x", "repaired no-time"),
    (b"<13>Nov 30 09:01:02 192.0.2.1: link is down", 13, N30, "192.0.2.1", None, None, b"link is down", INFERRED),
    (b"<133>Nov 30 09:01:02 haproxy[73411]: Proxy started.", 133, N30, None, "haproxy", "73411", b"Proxy started.", INFERRED),
    (b"<133>Nov 30 09:01:02 su: x", 133, N30, None, "su", None, b"x", INFERRED),
    (b"<15> openvpn[2499]: PTHREAD support initialized", 15, None, None, "openvpn", "2499", b"PTHREAD support initialized", "repaired no-time"),
    (b"<14>root: text", 14, None, None, "root", None, b"text", "no-time"),
    (b"<14>only text: here", 14, None, None, None, None, b"only text: here", "no-time"),
    (b"Nov 30 09:01:02 fw1 su[12345]: x", 13, N30, "fw1", "su", "12345", b"x", "no-pri inferred"),
    (b"<14>Nov 30 09:01:02.421 2026 router1 RT_FLOW: x", 14, f"{N30}.421", "router1", "RT_FLOW", None, b"x", "repaired inferred"),
    (b"<14>Nov 30 2026 09:01:02 router1 app: x", 14, N30, "router1", "app", None, b"x", "repaired inferred"),
    (b"<14>Mon Nov 30 09:01:02 2026 router1 app: x", 14, N30, "router1", "app", None, b"x", "repaired inferred"),
    (b"<14>nov 30 9:01:02 router1 app: x", 14, N30, "router1", "app", None, b"x", "repaired inferred"),
    (b"<14>Nov 30 10:01:02 CET router1 app: x", 14, N30, "router1", "app", None, b"x", "repaired inferred"),
    (b"<14>Nov 30 10:01:02 +0100 router1 app: x", 14, N30, "router1", "app", None, b"x", "repaired inferred"),
    (b"<14>Nov 30 2026 10:01:02 GMT+1 router1 app: x", 14, N30, "router1", "app", None, b"x", NEAR),
    (b"<14>Nov 30 09:01:02 CST router1 app: x", 14, N30, "router1", "app", None, b"x", "repaired inferred"),
    (b"<14>Nov 30 09:01:02 met su: x", 14, N30, "met", "su", None, b"x", INFERRED),
    (b"<14>Nov 31 09:01:02 router1 app: x", 14, None, "router1", "app", None, b"x", "repaired no-time"),
    (b"<14>Feb 29 09:01:02 router1 app: x", 14, None, "router1", "app", None, b"x", "repaired no-time"),
    (b"Nov 30 third has none", 13, None, None, None, None, b"Nov 30 third has none", "no-pri no-time"),
    (b"2026-11-30 second has none", 13, None, None, None, None, b"2026-11-30 second has none", "no-pri no-time"),
    (b"2026-11-30T10:01:02.464+01:00 192.0.2.94 CEF:0|Vendor|FW", 13, f"{N30}.464", "192.0.2.94", "CEF", None, b"0|Vendor|FW", "no-pri repaired"),
    (b"2026-11-30 09:01:02,123 INFO app: started", 13, f"{N30}.123", None, None, None, b"INFO app: started", "no-pri repaired inferred"),
    (b"2026/11/30 09:01:02 [error] 7#7: *1 open() failed", 13, N30, None, None, None, b"[error] 7#7: *1 open() failed", "no-pri repaired inferred"),
    (b"<166>2026-11-30T09:01:02.207Z esx01 Hostd: info hostd[2100345] [Originator@6876 sub=Vimsvc] x", 166, f"{N30}.207", "esx01", "Hostd", None, b"info hostd[2100345] [Originator@6876 sub=Vimsvc] x", NEAR),
    (b"<7>2026-11-30T09:01:02.15600000000000000000000000000000000+00:00 bzorp openvpn[2499]: x", 7, f"{N30}.156", "bzorp", "openvpn", "2499", b"x", NEAR),
    (b"<7>2026-11-30T09:01:02Z %bzorp openvpn[2499]: x", 7, N30, None, None, None, b"%bzorp openvpn[2499]: x", NEAR),
    (b"<7>2026-11-30T09:01:02Z", 7, N30, None, None, None, b"", NEAR),
    (b"<13>Nov 30 09:01:02 Message forwarded from host1: su: x", 13, N30, "host1", "su", None, b"x", "repaired inferred"),
    (b"<5>Nov 30 09:01:02 myhost last message repeated 2 times", 5, N30, "myhost", None, None, b"last message repeated 2 times", INFERRED),
    (b"<5>Nov 30 09:01:02 last message repeated 2 times", 5, N30, None, None, None, b"last message repeated 2 times", INFERRED),
    (b"<13>Nov 30 09:01:02 SV5-F5 notice tmsh[16322]: x", 13, N30, "SV5-F5", "tmsh", "16322", b"x", INFERRED),
    (b"<14>Nov 30 09:01:02 PA-220 1,2026/11/30 10:15:31,0099", 14, N30, "PA-220", None, None, b"1,2026/11/30 10:15:31,0099", INFERRED),
    (b"<13>Nov 30 09:01:02 web1 sshd(pam_unix)[19939]: x", 13, N30, "web1", "sshd(pam_unix)", "19939", b"x", INFERRED),
    (b"<13>Nov 30 09:01:02 web1 snmp#supervisord: x", 13, N30, "web1", "snmp#supervisord", None, b"x", INFERRED),
    (b"<21>Nov 30 09:01:02 host_a .NetRuntime[-]: x", 21, N30, "host_a", ".NetRuntime", "-", b"x", INFERRED),
    (b"<46>Nov 30 09:01:02 \xc3\x9cbergr\xc3\xb6\xc3\x9fe app: x", 46, N30, "Übergröße", "app", None, b"x", INFERRED),
    (b"<13>Nov 30 09:01:02 ../../etc app: x", 13, N30, None, None, None, b"../../etc app: x", INFERRED),
    (b"<13>Nov 30 09:01:02 http://x.example/ is gone", 13, N30, None, None, None, b"http://x.example/ is gone", INFERRED),
    (b"<13>Nov 30 09:01:02", 13, N30, None, None, None, b"", "repaired inferred"),
    (b"<13>Nov 30 09:01:02 ", 13, N30, None, None, None, b"", INFERRED),
)  # fmt: skip

DEVICES = _vectors(
    (b"<189>29: *Mar  1 18:46:11.123: %SYS-5-CONFIG_I: x", 189, None, None, "%SYS-5-CONFIG_I", None, b"x", "repaired no-time"),
    (b"<189>29: *Nov 30 09:01:02.123: %SYS-5-CONFIG_I: x", 189, f"{N30}.123", None, "%SYS-5-CONFIG_I", None, b"x", "repaired inferred"),
    (b"<180>782431: sw-core1: .Nov 30 09:01:02.631 GMT: %CDP-4-X: x", 180, f"{N30}.631", "sw-core1", "%CDP-4-X", None, b"x", "repaired inferred"),
    (b"<180>sw-core1: Nov 30 2026 09:01:02 GMT: %CDP-4-X: x", 180, N30, "sw-core1", "%CDP-4-X", None, b"x", NEAR),
    (b"<189>29: 192.0.2.1: Nov 30 09:01:02: %CDP-4-X: x", 189, N30, "192.0.2.1", "%CDP-4-X", None, b"x", "repaired inferred"),
    (b'<187>208: [syslog@9 s_sn="127" s_id="sw1:666"]: 000204: *Nov 30 2026 09:01:02.989: %LINK-3-UPDOWN: x', 187, f"{N30}.989", "sw1", "%LINK-3-UPDOWN", None, b"x", "repaired inferred"),
    (b"<189>: 2026 Nov 30 10:01:02 CET: %ETHPORT-5-IF_UP: x", 189, N30, None, "%ETHPORT-5-IF_UP", None, b"x", NEAR),
    (b"<189>29: 1d03h: %SYS-5-CONFIG_I: x", 189, None, None, "%SYS-5-CONFIG_I", None, b"x", "repaired no-time"),
    (b"<189>29: 00:00:46: %LINK-3-UPDOWN: x", 189, None, None, "%LINK-3-UPDOWN", None, b"x", "repaired no-time"),
    (b"<166>Nov 30 2026 09:01:02 asa1 : %ASA-6-106100: x", 166, N30, "asa1", "%ASA-6-106100", None, b"x", "repaired inferred"),
    (b"<166>Nov 30 2026 09:01:02: %ASA-6-106100: x", 166, N30, None, "%ASA-6-106100", None, b"x", "repaired inferred"),
    (b"<166>:Nov 30 09:01:02 UTC: %ASA-session-6-302013: x", 166, N30, None, "%ASA-session-6-302013", None, b"x", "repaired inferred"),
    (b"%ASA-6-302013: Built", 13, None, None, "%ASA-6-302013", None, b"Built", "no-pri repaired no-time"),
    (b"<189>29: RP/0/RSP0/CPU0:Nov 30 09:01:02.123 UTC: ifmgr[123]: %PKT_INFRA-LINK-3-UPDOWN : x", 189, f"{N30}.123", None, "ifmgr", "123", b"%PKT_INFRA-LINK-3-UPDOWN : x", "repaired inferred"),
    (b"<189>29: xr1 RP/0/RSP0/CPU0:Nov 30 09:01:02.123 UTC: ifmgr[123]: %PKT-3-X : x", 189, f"{N30}.123", "xr1", "ifmgr", "123", b"%PKT-3-X : x", "repaired inferred"),
    (b"<14>MiniSwitch 7483c04f9d75,USW-1.8.6.694: NETDEV: x", 14, None, "MiniSwitch", "NETDEV", None, b"x", "repaired no-time"),
    (b'<189>date=2026-11-30 time=10:01:02 devname="fw1" devid="FG1" tz="+0100" logid=1', 189, N30, "fw1", None, None, b'date=2026-11-30 time=10:01:02 devname="fw1" devid="FG1" tz="+0100" logid=1', NEAR),
    (b"<13>Nov 30 09:01:02 pc1\tMSWinEventLog\t1\tSecurity", 13, N30, "pc1", None, None, b"MSWinEventLog\t1\tSecurity", INFERRED),
    (b"<13>pc1\tMSWinEventLog\t1\tSecurity", 13, None, "pc1", "MSWinEventLog", None, b"1\tSecurity", "repaired no-time"),
    (b'<38> Jun 5 12:10:07 node0.Spoke1 SSR 128 SESSION_BLOCK [ssr@2636.1.0.0 a="1"] x', 38, "2026-06-05T12:10:07", "node0.Spoke1", "SSR", "128", b"x", "repaired inferred"),
)  # fmt: skip

EVERYTHING = (*PRI, *RFC_5424_NEARLY, *BSD, *DEVICES)
