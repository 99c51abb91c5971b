"""`relay test-connection` checks the configuration, the state directory and the local port."""

import socket
import sys
from pathlib import Path

from harness.collector import Collector
from harness.ports import LOOPBACK
from harness.process import Process
from harness.relay import PROGRAM, Router
from harness.rights import WITHOUT_ROOTS_RIGHTS
from program.connection_test.asking import ask, in_namespace

LISTEN = """
import socket, sys
listening = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("up", flush=True)
listening.accept()
"""


# --- Configuration ---


def test_every_mistake_is_reported_on_a_line_of_its_own(router: Router) -> None:
    text = router.configuration.read_text()
    router.configuration.write_text(text + 'portt = 1\nframing = "x"\n')
    answer = ask(router.configuration)
    failed = answer.failure("configuration", 78)
    keys = {line.split(": ")[1] for line in failed["found"].split("\n")}
    assert keys == {"remote-logging-server[1].portt", "remote-logging-server[1].framing"}
    assert f"`{PROGRAM} config check -c {router.configuration}`" in failed["remedy"]
    assert answer.whole["servers"] == []
    assert answer.sentence.endswith("(and 1 more)")


def test_a_configuration_that_is_missing(tmp_path: Path) -> None:
    failed = ask(tmp_path / "relay.toml").failure("configuration", 78)
    assert "no such file" in failed["found"]


def test_a_configuration_without_a_server(router: Router) -> None:
    text = router.configuration.read_text()
    router.configuration.write_text(text[: text.index("[[remote-logging-server]]")])
    failed = ask(router.configuration).failure("configuration", 78)
    assert "no [[remote-logging-server]]" in failed["found"]


def test_a_server_without_a_port_forwarding_is_a_warning_that_names_a_likely_typing_error(router: Router) -> None:
    router.server["port"] = 1
    router.write_configuration()
    answer = ask(router.configuration)
    assert answer.steps["configuration"]["outcome"] == "warning"
    assert "no [[port-forwarding]] has this address and port" in answer.steps["configuration"]["found"]
    assert "connection refused" in answer.failure("TCP connection", 69)["found"]


def test_a_mistake_that_does_not_affect_the_test_is_a_warning(router: Router) -> None:
    router.audit_log.unlink()
    answer = ask(router.configuration)
    assert (answer.exit_code, answer.steps["configuration"]["outcome"]) == (0, "warning")
    assert str(router.audit_log) in answer.steps["configuration"]["found"]
    assert answer.sentence.endswith("; 1 warning")


# --- State directory ---


def test_a_missing_state_directory_is_not_created_by_the_test(router: Router) -> None:
    answer = ask(router.configuration)
    assert "relay creates it when it starts" in answer.steps["state directory"]["found"]
    assert not router.state.exists()


def test_a_state_directory_that_the_user_is_not_allowed_to_write(router: Router) -> None:
    router.state.mkdir(mode=0o500)
    failed = ask(router.configuration, prefix=WITHOUT_ROOTS_RIGHTS).failure("state directory", 74)
    assert f"is not allowed to write {router.state}" in failed["found"]
    assert f"chown {router.state.owner()} {router.state}" in failed["remedy"]


def test_a_state_directory_that_cannot_be_created(router: Router, tmp_path: Path) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=0o500)
    router.state = above / "state"
    router.write_configuration()
    failed = ask(router.configuration, prefix=WITHOUT_ROOTS_RIGHTS).failure("state directory", 74)
    assert f"is not allowed to write {above}, so {router.state} cannot be created" in failed["found"]


def test_a_spool_of_another_user_is_reported(router: Router) -> None:
    router.state.mkdir()
    (router.state / "lock").touch(0o400)
    failed = ask(router.configuration, prefix=WITHOUT_ROOTS_RIGHTS).failure("state directory", 74)
    assert f"is not allowed to write {router.state}/lock" in failed["found"]


def test_a_file_where_the_state_directory_should_be(router: Router) -> None:
    router.state.touch()
    assert "is not a folder" in ask(router.configuration).failure("state directory", 74)["found"]


def test_a_state_directory_that_is_mounted_read_only(router: Router) -> None:
    router.state.mkdir()
    script = f"mount -t tmpfs -o ro none {router.state}"
    failed = ask(router.configuration, prefix=in_namespace("mount", script)).failure("state directory", 74)
    assert f"{router.state} is on a file system that is mounted read-only" in failed["found"]
    assert f"findmnt -T {router.state}" in failed["remedy"]


def test_little_free_space_is_a_warning(router: Router) -> None:
    router.state.mkdir()
    script = f"mount -t tmpfs -o size=50m none {router.state}"
    answer = ask(router.configuration, prefix=in_namespace("mount", script))
    assert (answer.exit_code, answer.steps["state directory"]["outcome"]) == (0, "warning")
    assert "50 MiB free, less than 100 MiB" in answer.steps["state directory"]["found"]
    assert f"`df -h {router.state}`" in answer.steps["state directory"]["remedy"]


# --- Local port ---


def test_a_local_port_of_another_process_is_a_warning_that_names_it(router: Router, tmp_path: Path) -> None:
    with Process([sys.executable, "-c", LISTEN, str(router.local_port)], tmp_path / "holder.log") as holder:
        holder.wait_for_log("up")
        answer = ask(router.configuration)
        name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
    step = answer.steps["local port"]
    assert (answer.exit_code, step["outcome"]) == (0, "warning")
    assert f"taken by {name} (process {holder.pid})" in step["found"]
    assert answer.sentence.endswith("; 1 warning")


def test_a_lock_file_left_by_a_relay_that_has_ended_claims_no_port(router: Router, collector: Collector) -> None:
    router.state.mkdir()
    (router.state / "lock").write_text("1\n")
    with socket.create_server((LOOPBACK, router.local_port)):
        assert ask(router.configuration).steps["local port"]["outcome"] == "warning"
    assert collector.received.count(b" TEST ") == 1


def test_a_local_address_that_this_machine_does_not_have_is_a_warning(router: Router) -> None:
    router.server["address"] = "192.0.2.7"
    router.write_configuration(local_address="192.0.2.7")
    answer = ask(router.configuration)
    assert (answer.exit_code, answer.steps["local port"]["outcome"]) == (0, "warning")
    assert "no such address" in answer.steps["local port"]["found"]
