"""An hour of use in a few seconds: what programs of a Debian system do, for auditd to log.

Run as a program (by root, in a session of its own: `loginuid`), it makes system calls of many kinds, with names,
arguments and addresses that are hard to write down, for the given number of seconds: SECONDS FOLDER.
"""

import contextlib
import ctypes
import mmap
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

NAMES = (
    b"plain",
    b"with a space",
    b'with a "quote"',
    b"it's",
    b"a\nline",
    b"tab\t",
    "grün".encode(),
    b"\xff\xfe no UTF-8",
    b"comma,(bracket) {brace}=x",
    b"ABCDEF01",
    b"(null)",
    b"?",
    b"x" * 200,
)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def main() -> None:
    """Do everything again and again, until the time is over."""
    until = time.monotonic() + float(sys.argv[1])
    os.chdir(sys.argv[2])
    login()
    while True:
        for deed in (files, attributes, addresses, programs, processes, kernel_things):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                deed()
        if time.monotonic() > until:
            return


def login() -> None:
    """Begin a session, as pam_loginuid does."""
    Path("/proc/self/loginuid").write_text("61234")


def files() -> None:
    """Make, rename, link and delete files of every name."""
    for name in NAMES:
        with contextlib.suppress(OSError):
            descriptor = os.open(name, os.O_CREAT | os.O_RDWR, 0o640)
            os.write(descriptor, b"content")
            os.ftruncate(descriptor, 3)
            os.fchmod(descriptor, 0o600)
            os.close(descriptor)
            os.chown(name, 65534, 65534)
            os.link(name, name + b".link")
            os.symlink(name, name + b".symlink")
            os.rename(name, name + b".renamed")
            for end in (b".link", b".symlink", b".renamed"):
                os.unlink(name + end)
            os.mkdir(name)
            os.rmdir(name)
    for missing in (b"/nonexistent/" + name for name in NAMES):
        with contextlib.suppress(OSError):
            os.open(missing, os.O_RDONLY)
    with contextlib.suppress(OSError):
        os.mkfifo("fifo")
    os.unlink("fifo")


def attributes() -> None:
    """Set what files may have beside them, and capabilities of files."""
    Path("attributed").write_text("")
    os.setxattr("attributed", "user.relay", b"value with a space")
    os.removexattr("attributed", "user.relay")
    with contextlib.suppress(OSError):
        os.setxattr("attributed", "security.capability", bytes.fromhex("0100000200040000000000000000000000000000"))
    subprocess.run(["./attributed"], env=ENVIRONMENT, check=False, capture_output=True)
    os.unlink("attributed")


def addresses() -> None:
    """Connect to addresses of each family; no program listens there."""
    wanted: list[tuple[int, tuple[str, int] | bytes]] = [
        (socket.AF_INET, ("127.0.0.1", 9)),
        (socket.AF_INET6, ("::1", 9)),
        (socket.AF_UNIX, b"/nonexistent/a socket"),
        (socket.AF_UNIX, b"\0abstract \xff"),
    ]
    for family, address in wanted:
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.setblocking(False)
            connection.connect(address)
    with contextlib.suppress(OSError), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as netlink:
        netlink.bind((0, 0))
    left, right = socket.socketpair()
    left.close()
    right.close()


def programs() -> None:
    """Run programs with every argument, with many of them, and with a long one."""
    for name in NAMES:
        with contextlib.suppress(OSError, ValueError):
            subprocess.run([b"true", name, b""], env=ENVIRONMENT, check=False)
    subprocess.run(["true", *(f"argument {number}" for number in range(300))], env=ENVIRONMENT, check=False)
    subprocess.run(["true", "long " * 4000], env=ENVIRONMENT, check=False)
    subprocess.run(["ls", "-la", "/etc"], env=ENVIRONMENT, check=False, capture_output=True)
    subprocess.run(["sh", "-c", "id; hostname; cat /etc/passwd | sort | head"], check=False, capture_output=True)


def processes() -> None:
    """Fork, signal, limit and end processes."""
    child = os.fork()
    if child == 0:
        signal.pause()
        os._exit(0)
    os.kill(child, signal.SIGTERM)
    os.waitpid(child, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.umask(0o022)
    os.sched_yield()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.setgroups([])
        os.setresgid(65534, 65534, 65534)
        os.setresuid(65534, 65534, 65534)
        with contextlib.suppress(OSError):
            os.open("/etc/shadow", os.O_RDONLY)
        os.abort()
    os.waitpid(child, 0)


def kernel_things() -> None:
    """Use pipes, maps, message queues and namespaces."""
    reader, writer = os.pipe()
    with mmap.mmap(-1, 4096) as memory:
        memory[0] = 1
    with Path("/bin/true").open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ):
        pass
    os.close(reader)
    os.close(writer)
    library = ctypes.CDLL(None, use_errno=True)
    library.msgctl(library.msgget(0, 0o1600), 0, None)  # IPC_PRIVATE, IPC_CREAT; IPC_RMID
    subprocess.run(
        ["unshare", "--mount", "sh", "-c", "mount -t tmpfs 'a name' /mnt; umount /mnt"],
        env=ENVIRONMENT,
        check=False,
        capture_output=True,
    )


if __name__ == "__main__":
    main()
