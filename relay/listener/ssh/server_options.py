"""The options of asyncssh's server: each one that opens or closes something is named, and no default is relied on.

They are made once for a host key, because that takes longer than a key exchange. No configuration file is read, no name
looked up, and nothing offered but a login by key.
"""

import logging
from typing import Final

import asyncssh
from asyncssh.kex import get_kex_algs

from relay.transport.ssh import private_key
from relay.transport.ssh.algorithms import SERVER, signature_algorithms
from relay.transport.ssh.private_key import PrivateKey

NAME: Final = "relay"
"""What the banner says: the forwarder recognises its own receiver by it."""
REKEY_OCTETS: Final = 1 << 30
REKEY_SECONDS: Final = 3600

logging.getLogger("asyncssh").setLevel(logging.CRITICAL + 1)  # relay logs each failure in its own words


def server_options(host_key: PrivateKey, quiet: float, answer: float) -> asyncssh.SSHServerConnectionOptions:
    """The options for a host key. A peer that is silent for `quiet` seconds has `answer` seconds more for an answer."""
    key = asyncssh.import_private_key(private_key.openssh(host_key))
    options = asyncssh.SSHServerConnectionOptions(
        config=None,
        server_version=NAME,
        kex_algs=[name for name in SERVER.key_exchange if name.encode("ascii") in get_kex_algs()],
        encryption_algs=list(SERVER.ciphers),
        mac_algs=list(SERVER.macs),
        compression_algs=["none"],
        signature_algs=list(signature_algorithms(SERVER.key_types)),
        server_host_keys=[key],
        send_server_host_keys=False,
        host_based_auth=False,
        public_key_auth=True,
        kbdint_auth=False,
        password_auth=False,
        gss_host=None,
        gss_kex=False,
        gss_auth=False,
        x509_trusted_certs=None,
        known_client_hosts=None,
        authorized_client_keys=None,
        rdns_lookup=False,
        allow_pty=False,
        x11_forwarding=False,
        agent_forwarding=False,
        process_factory=None,
        session_factory=None,
        sftp_factory=None,
        allow_scp=False,
        line_editor=False,
        encoding=None,
        tcp_keepalive=True,
        login_timeout=0,  # relay has its own
        keepalive_interval=quiet,
        keepalive_count_max=max(1, round(answer / quiet)),
        rekey_bytes=REKEY_OCTETS,
        rekey_seconds=REKEY_SECONDS,
    )
    # By itself asyncssh signs with SHA-1 too. And it keeps the algorithm that a client chose in the key pair, which all
    # connections share: of two clients that choose differently at the same time, one could not log in. So each
    # algorithm has a pair.
    options.server_host_keys.clear()
    for name in signature_algorithms([key.get_algorithm()]):
        (options.server_host_keys[name.encode("ascii")],) = asyncssh.load_keypairs([key])
    return options
