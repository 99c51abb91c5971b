"""`certs/make-tls.sh` makes certificates that relay and its collectors take."""

import shutil
import ssl
import subprocess
from pathlib import Path

import pytest
from harness.debian import OPENSSL, fetch

from relay.transport.tls.certificate import certificates, fingerprint
from relay.transport.tls.client import tls_client
from relay.values.configuration.settings import RemoteLoggingServer

SCRIPT = Path(__file__).parents[1] / "certs" / "make-tls.sh"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(SCRIPT, tmp_path)
    return tmp_path


def make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    root = fetch(OPENSSL)
    environment = root.environment()
    environment["PATH"] = f"{Path(root.file('usr/bin/openssl')).parent}:{environment['PATH']}"
    argv = [str(folder / SCRIPT.name), *arguments]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_relay_and_openssl_accept_a_pair_for_each_side(folder: Path) -> None:
    server, router = make(folder, "log.example", "192.0.2.9"), make(folder, "router.example")
    assert (server.returncode, router.returncode) == (0, 0), server.stderr + router.stderr
    keys = {
        "ca": folder / "ca.pem",
        "certificate": folder / "router.example.pem",
        "private-key": folder / "router.example.key",
    }
    tls_client(RemoteLoggingServer(transport="tls", **{key: str(path) for key, path in keys.items()}))

    (shown,) = certificates(str(folder / "log.example.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_verify_locations(folder / "ca.pem")
    context.load_cert_chain(folder / "log.example.pem", folder / "log.example.key")
    der = ssl.PEM_cert_to_DER_cert((folder / "log.example.pem").read_text())
    assert f'fingerprint = "{fingerprint(der)}"' in server.stdout
    assert "192.0.2.9" in str(shown.extensions)


def test_only_its_owner_can_read_a_key(folder: Path) -> None:
    make(folder, "log.example")
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir() if path.name != SCRIPT.name}
    assert modes == {"ca.key": 0o600, "ca.pem": 0o644, "log.example.key": 0o600, "log.example.pem": 0o644}


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 64, "give a host name"),
        (["../away"], 64, "give a host name"),
        (["bad.example", "nowhere"], 65, "bad ip address"),
    ],
)
def test_bad_input_is_reported_and_leaves_no_pair(folder: Path, arguments: list[str], code: int, words: str) -> None:
    done = make(folder, *arguments)
    assert done.returncode == code
    assert words in done.stderr
    assert not list(folder.glob("*.example.*"))


def test_no_file_is_overwritten(folder: Path) -> None:
    make(folder, "log.example")
    before = (folder / "log.example.key").read_bytes()
    assert make(folder, "log.example").returncode == 73
    assert (folder / "log.example.key").read_bytes() == before
