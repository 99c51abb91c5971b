"""Events without text, as `relay events` summarises them on one line."""

from pathlib import Path

import pytest
from program.history.spools import event, filled, foreign

from relay.cli import main
from relay.cli.event_summary import NOTHING, summary
from relay.events.ssr.line_protocol import parse as collected
from relay.events.ssr.mapping import SsrMapping
from relay.syslog import rfc5424
from relay.values.event import EventType

NOW = 1_700_000_000_000_000
MAPPING = SsrMapping(hostname="combo1", router="r1")


def words(record: str) -> str:
    """The summary of a router's event."""
    mapped = MAPPING.event(collected(record.encode()), NOW)
    return summary(mapped.type.label, rfc5424.parse(mapped.head + mapped.tail))


ALARM = (
    r"events,type=alarm,severity=critical,source=peer0\ |\ eth0,node=n1 "
    r'category="interface",operation="add",message="link \"eth0\" is down",process="highway",shelved=false 1'
)
REFUSED = (
    'events,type=traffic,node=n1 protocol="tcp",sourceAddress="10.0.0.1",sourcePort=5000i,'
    'destinationAddress="10.0.0.2",destinationPort=443i,success=false,reasonCode="no route",bytes=7i 1'
)
ALLOWED = 'events,type=traffic protocol="udp",source_ip="fe80::1",source_port=53i,dest-ip="fe80::2",result="allowed" 1'
CHANGE = (
    'events,type=admin,node=n1 user="bob",action="running_config_change",permitted=true,description="new peer",'
    'diff="+ peer a\n- peer b\n",source_ip="10.1.1.1" 1'
)


@pytest.mark.parametrize(
    ("record", "shown"),
    [
        (ALARM, 'critical interface add: link "eth0" is down  node=n1 process=highway source="peer0 | eth0" shelved=0'),
        (REFUSED, "tcp 10.0.0.1:5000 → 10.0.0.2:443 FAILED (no route)  node=n1 bytes=7"),
        (ALLOWED, "udp [fe80::1]:53 → fe80::2 allowed"),
        (
            CHANGE,
            'bob: running_config_change, new peer, permitted  node=n1 diff="+ peer a\n- peer b\n" source_ip=10.1.1.1',
        ),
        (
            'events,type=admin user="alice",action="login",permitted=false,reason="bad password" 1',
            "alice: login, NOT PERMITTED (bad password)",
        ),
        (
            'events,type=provisioning action="download",version="6.1",status="failed",reason="no space" 1',
            "download, failed (no space)  version=6.1",
        ),
        ('events,type=system message="clock adjusted",offset=1.5 1', "clock adjusted  offset=1.5"),
        ('events,type=security,node=n2 description="key rotated" 1', "key rotated  node=n2"),
        ('events,type=audit user="root",command="reboot" 1', "root: reboot"),
        ("events,type=alarm shelved=true 1", "shelved=1"),
        ('events,type=traffic sourcePort=5i,empty="" 1', '?:5 → ?  empty=""'),
        ("events,type=unheard-of a=1i 1", "a=1 event.type=unheard-of"),
    ],
)
def test_each_type_has_a_readable_order(record: str, shown: str) -> None:
    assert words(record) == shown


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        (b"<13>1 - - - - - -", NOTHING),
        (b'<13>1 - h app - - [x@1 a="1" b="x y"][y@1 a="2"]', 'a=1 b="x y" a=2'),
        (b'<13>1 - h app - - [128T relayRun="a" relaySeq="1" type="log" router="r"] \xef\xbb\xbf', NOTHING),
    ],
)
def test_a_foreign_message_without_text_shows_its_parameters(message: bytes, shown: str) -> None:
    assert summary("log", rfc5424.parse(message)) == shown


def test_no_event_is_shown_as_a_blank_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Not even a record without fields, or a text that begins with line feeds."""
    kinds = [EventType.AUDIT, EventType.ADMIN, EventType.ALARM, EventType.TRAFFIC, EventType.RELAY]
    texts = ("", " ", "type=LOGIN msg=audit(1709726400.000:7): ", "\n\nsecond line")
    filled(tmp_path / "state", [event(text, kind) for kind in kinds for text in texts], [foreign(b"")])
    assert main(["events", "--state", str(tmp_path / "state")]) == 0
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == len(kinds) * len(texts) + 1
    assert {line[50:] for line in lines} == {"node=n1", "second line", NOTHING}


def test_a_value_of_several_lines_stays_on_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    changed = MAPPING.event(collected(b'events,type=admin user="bob",diff="+ a\n- b" 1'), NOW)
    filled(tmp_path / "state", [changed])
    assert main(["events", "--state", str(tmp_path / "state")]) == 0
    assert capfd.readouterr().out.endswith('admin       events      bob  diff="+ a\\n- b"\n')


def test_with_full_each_parameter_is_a_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    alarm = MAPPING.event(collected(b'events,type=alarm,severity=major msg="down",process="highway" 1'), NOW)
    filled(tmp_path / "state", [alarm, foreign(b"<13>1 - h app - - -")])
    assert main(["events", "--state", str(tmp_path / "state"), "--full"]) == 0
    shown = [line.strip() for line in capfd.readouterr().out.splitlines()[1:]]
    assert shown == ["down", "process=highway", "severity=major", "-  log  -", NOTHING]
