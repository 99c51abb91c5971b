"""A private Nagios, which runs its services' plugins every second; nothing is notified."""

import os
import pwd
import re
import shlex
from collections.abc import Mapping, Sequence

from harness.debian import NAGIOS, fetch
from harness.peer import Peer

_CONFIGURATION = """\
log_file={folder}/log
cfg_file={folder}/objects.cfg
object_cache_file={folder}/objects.cache
status_file={folder}/status
status_update_interval=1
nagios_user={user}
nagios_group={group}
check_external_commands=0
check_workers=1
lock_file={folder}/lock
temp_file={folder}/temporary
temp_path={folder}
check_result_path={folder}
query_socket={folder}/query
interval_length=1
retain_state_information=0
enable_notifications=0
check_for_updates=0
use_syslog=0
service_inter_check_delay_method=n
"""
_OBJECTS = """\
define timeperiod {
    timeperiod_name always
    alias always
    monday 00:00-24:00
    tuesday 00:00-24:00
    wednesday 00:00-24:00
    thursday 00:00-24:00
    friday 00:00-24:00
    saturday 00:00-24:00
    sunday 00:00-24:00
}
define command {
    command_name nothing
    command_line /bin/true
}
define contact {
    contact_name operator
    host_notification_period always
    service_notification_period always
    host_notification_commands nothing
    service_notification_commands nothing
}
define host {
    host_name machine
    address 127.0.0.1
    contacts operator
    max_check_attempts 1
    active_checks_enabled 0
}
"""
_SERVICE = """\
define command {{
    command_name {name}
    command_line {command}
}}
define service {{
    host_name machine
    service_description {name}
    check_command {name}
    contacts operator
    max_check_attempts 1
    check_interval 1
    retry_interval 1
    check_period always
}}
"""


class Nagios(Peer):
    """It has a service for each plugin, by the plugin's name."""

    def __init__(self, plugins: Mapping[str, Sequence[str]]) -> None:
        """`plugins` has the command of each plugin."""
        super().__init__("nagios", fetch(NAGIOS))
        self._plugins = plugins

    def _command(self) -> list[str]:
        user = pwd.getpwuid(os.geteuid())
        keys = {"folder": self.folder, "user": user.pw_name, "group": user.pw_gid}
        services = (_SERVICE.format(name=name, command=shlex.join(argv)) for name, argv in self._plugins.items())
        (self.folder / "objects.cfg").write_text(_OBJECTS + "".join(services))
        (self.folder / "nagios.cfg").write_text(_CONFIGURATION.format(**keys))
        return [self._root.file("usr/sbin/nagios4"), str(self.folder / "nagios.cfg")]

    def _listens(self) -> bool:
        return (self.folder / "status").exists()

    def service(self, name: str) -> tuple[int, str, str]:
        """Return the state (the plugin's exit code), the text and the performance data of its last run."""
        found = re.search(
            rf"^servicestatus {{\n(?:\t.*\n)*?\tservice_description={name}\n((?:\t.*\n)*)",
            (self.folder / "status").read_text(),
            re.MULTILINE,
        )
        assert found, name
        fields = dict(line.split("=", 1) for line in found[1].replace("\t", "").splitlines() if "=" in line)
        return int(fields["current_state"]), fields["plugin_output"], fields["performance_data"]
