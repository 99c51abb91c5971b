"""`relay key generate`, as a user calls it, with OpenSSH as the judge of its keys."""

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from harness.debian import OPENSSH, fetch
from harness.openssh import Sshd
from harness.relay import RELAY, Router
from harness.rights import WITHOUT_ROOTS_RIGHTS
from harness.rsyslog import Rsyslog


def generate(*arguments: str | Path, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    argv = [*prefix, *RELAY, "key", "generate", *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)


def ssh_keygen(*arguments: str | Path) -> str:
    root = fetch(OPENSSH)
    argv = [root.file("usr/bin/ssh-keygen"), *map(str, arguments)]
    return subprocess.run(argv, env=root.environment(), check=True, capture_output=True, text=True).stdout


def configured(folder: Path, text: str = "") -> Path:
    path = folder / "relay.toml"
    path.write_text(f'[[port-forwarding]]\nserver-address = "log.example"\nprivate-key = "{folder}/id"\n{text}')
    return path


@pytest.mark.parametrize(("kind", "named"), [("ed25519", "256 ED25519"), ("ecdsa", "384 ECDSA"), ("rsa", "3072 RSA")])
def test_openssh_reads_every_kind_of_key_that_relay_makes(tmp_path: Path, kind: str, named: str) -> None:
    key = tmp_path / "id"
    done = generate(key, "--type", kind, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    bits, named_kind = named.split()
    described = ssh_keygen("-lf", key).split()
    assert (described[0], described[1], described[-1]) == (bits, result["fingerprint"], f"({named_kind})")
    assert ssh_keygen("-y", "-f", key).split()[:2] == result["authorized_keys"][0].split()[1:3]
    assert key.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    assert (result["schema"], result["file"]) == ("relay.key-generate/1", str(key))


def test_only_the_owner_can_read_the_key_with_any_umask(tmp_path: Path) -> None:
    script = 'umask 000; exec "$@"'
    assert generate(tmp_path / "id", prefix=("bash", "-c", script, "bash")).returncode == 0
    assert stat.S_IMODE((tmp_path / "id").stat().st_mode) == 0o600


def test_standard_output_is_the_authorized_keys_line_and_nothing_else(tmp_path: Path) -> None:
    done = generate(tmp_path / "id")
    words = done.stdout.removesuffix("\n").split(" ")
    assert words[:2] == ['restrict,port-forwarding,permitopen="127.0.0.1:9999"', "ssh-ed25519"]
    assert words[3] == f"relay@{os.uname().nodename}"
    assert f"made {tmp_path}/id" in done.stderr


def test_the_line_and_the_file_come_from_the_configuration(tmp_path: Path) -> None:
    configuration = configured(tmp_path, 'remote-host = "::1"\nremote-port = 601\n')
    done = generate("-c", configuration)
    assert done.stdout.startswith('restrict,port-forwarding,permitopen="[::1]:601" ssh-ed25519 ')
    assert "relay@log.example" in done.stderr
    assert (tmp_path / "id").exists()


def test_with_fips_algorithms_the_key_is_ecdsa(tmp_path: Path) -> None:
    configuration = configured(tmp_path, 'algorithms = "fips"\n')
    assert generate("-c", configuration, "--type", "ed25519").returncode == 64
    assert not (tmp_path / "id").exists()
    assert " ecdsa-sha2-nistp384 " in generate("-c", configuration).stdout


def test_with_several_private_keys_in_the_configuration_file_is_required(tmp_path: Path) -> None:
    configuration = configured(tmp_path)
    other = f'local-port = 7778\nremote-port = 9998\nprivate-key = "{tmp_path}/other"\n'
    with configuration.open("a") as file:
        file.write(f'[[port-forwarding]]\nserver-address = "b.example"\n{other}')
    done = generate("-c", configuration)
    assert done.returncode == 64
    assert "several private-key" in done.stderr
    assert 'permitopen="127.0.0.1:9998"' in generate("-c", configuration, tmp_path / "other").stdout


def test_an_existing_key_is_never_overwritten_and_its_line_is_printed_again(tmp_path: Path) -> None:
    key = tmp_path / "id"
    line = generate(key).stdout.strip()
    before = key.read_bytes()
    again = generate(key)
    assert (again.returncode, again.stdout) == (73, "")
    assert again.stderr.startswith(f"relay: private key {key}: the file exists already")
    assert line in again.stderr
    assert key.read_bytes() == before


@pytest.mark.parametrize("contents", [b"", b"something else"])
def test_an_existing_file_without_a_key_is_not_overwritten(tmp_path: Path, contents: bytes) -> None:
    key = tmp_path / "id"
    key.write_bytes(contents)
    done = generate(key, "--json")
    assert done.returncode == 73
    assert json.loads(done.stdout)["exit_code"] == 73
    assert key.read_bytes() == contents


def test_a_dangling_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "id").symlink_to(tmp_path / "elsewhere")
    assert generate(tmp_path / "id").returncode == 73
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_folder_is_reported_and_not_created(tmp_path: Path) -> None:
    done = generate(tmp_path / "folder" / "id")
    assert done.returncode == 73
    assert "its folder does not exist" in done.stderr
    assert not (tmp_path / "folder").exists()


def test_a_folder_that_is_not_writable_is_reported(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(mode=0o500)
    done = generate(folder / "id", prefix=WITHOUT_ROOTS_RIGHTS)
    assert done.returncode == 73
    assert "Permission denied" in done.stderr


def test_a_full_disk_leaves_no_partial_key() -> None:
    """In its own mount namespace, on a file system of one page that another file fills."""
    script = """
        folder=$(mktemp -d) && mount -t tmpfs -o size=4k none "$folder" && head -c 4096 /dev/zero > "$folder/full"
        "$@" "$folder/id"; code=$?
        ls "$folder"; umount "$folder"; rmdir "$folder"; exit $code
    """
    root = ["--map-root-user"] if os.geteuid() else []
    argv = ["unshare", *root, "--mount", "bash", "-c", script, "bash", *RELAY, "key", "generate"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (74, "full\n")
    assert "No space left on device; free space" in done.stderr


def test_with_the_line_in_authorized_keys_relay_delivers(tmp_path: Path) -> None:
    """The two ends need only the key and the line, which allows the destination."""
    with Rsyslog() as rsyslog, Sshd() as sshd:
        router = Router(tmp_path, sshd, rsyslog.port)
        router.write_configuration(private_key=str(tmp_path / "id"))
        router.audit_log.write_text("type=DAEMON_START msg=audit(1700000000.123:1): op=start res=success\n")
        line = router.run("key", "generate").stdout
        assert f'permitopen="127.0.0.1:{rsyslog.port}"' in line
        sshd.authorized_keys.write_text(line)
        assert router.drain().returncode == 0
        assert any(b"op=start" in message for message in rsyslog.wait_for_messages(1))
