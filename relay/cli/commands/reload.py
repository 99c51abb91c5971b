"""`relay reload`: have the running relay read its configuration again.

--json prints one object with the schema "relay.reload/1": {"schema", "changes": [SENTENCE…]}.
"""

import click
import msgspec

from relay.cli.options import usual_options
from relay.cli.output import print_json, print_line
from relay.cli.state import state_directory, state_option
from relay.errors import TemporaryError, UnavailableError
from relay.program.status.control_socket import ask_to_reload
from relay.spool.store import LOCK
from relay.system.disk import Disk, permission_refused


@click.command("reload")
@state_option
@usual_options
def reload(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Have the running relay read its configuration again, and wait until it has.

    It exchanges what changed and nothing else. A mistake changes nothing: exit code 78, one line for each mistake.
    """
    folder = state_directory(context, state)
    try:
        answer = ask_to_reload(folder)
    except PermissionError as error:
        raise permission_refused(folder) from error
    except TimeoutError:
        raise TemporaryError(folder, "the running relay has not reloaded in time", "see its log") from None
    except (OSError, msgspec.MsgspecError):
        pid = Disk().lock_owner(f"{folder}/{LOCK}")
        if pid is not None:
            raise TemporaryError(folder, f"relay (process {pid}) is starting or stopping", "try again") from None
        remedy = "start relay, or name its state directory with --state"
        raise UnavailableError(folder, "no relay runs on this state directory", remedy) from None
    answer.raise_refusal()
    if as_json:
        print_json("relay.reload/1", changes=answer.changes)
    else:
        for change in answer.changes or ("nothing changed",):
            print_line(change)
