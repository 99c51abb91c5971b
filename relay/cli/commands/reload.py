"""`relay reload`: have the relay that runs read its configuration again.

--json prints one object with the schema "relay.reload/1": {"schema", "changes": [SENTENCE…]}.
"""

import json
from typing import TYPE_CHECKING

import click

from relay.cli.options import config_option
from relay.cli.state import state_directory, state_option
from relay.values.text import escaped

if TYPE_CHECKING:
    from relay.program.control_socket import Reloaded


@click.command("reload")
@state_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
@config_option
@click.pass_context
def reload(context: click.Context, *, state: str | None, as_json: bool) -> None:
    """Have the relay that runs read its configuration again, and wait until it has.

    It exchanges what changed and nothing else. A mistake changes nothing: exit code 78, one line for each mistake.
    """
    answer = _ask(state_directory(context, state))
    answer.raise_refusal()
    if as_json:
        click.echo(json.dumps({"schema": "relay.reload/1", "changes": answer.changes}))
    else:
        click.echo("\n".join(map(escaped, answer.changes)) or "nothing changed")


def _ask(folder: str) -> "Reloaded":
    """Ask the relay that uses this state directory; an error says why none answers."""
    import msgspec

    from relay.errors import TemporaryError, UnavailableError
    from relay.program.control_socket import ask_to_reload
    from relay.spool.store import LOCK
    from relay.system.disk import Disk, permission_refused

    try:
        return ask_to_reload(folder)
    except PermissionError as error:
        raise permission_refused(folder) from error
    except TimeoutError:
        raise TemporaryError(folder, "the relay that runs has not reloaded in time", "its log says why") from None
    except (OSError, msgspec.MsgspecError):
        pid = Disk().lock_owner(f"{folder}/{LOCK}")
        if pid is not None:
            cause = f"the relay that runs there (process {pid}) does not answer: it starts or stops"
            raise TemporaryError(folder, cause, "ask again") from None
        remedy = "start relay, or name its state directory by --state"
        raise UnavailableError(folder, "no relay runs on this state directory", remedy) from None
