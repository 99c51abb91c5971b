"""A Monitoring Agent's `config.yaml`, and the files of its inputs and outputs, as a draft.

    inputs/NAME.conf     the plugins of an input, in Telegraf's TOML
    outputs/NAME.conf    the plugins of an output
The two folders are beside config.yaml (a copy), or else in its lib-directory. `conf` names another file there.
`MonitoringAgent` translates the contents. config.yaml has at most 64 KiB.
"""

import os
import re
from pathlib import Path
from typing import Any, Final

from relay.config.agent import outputs
from relay.config.agent.monitoring_agent import MonitoringAgent
from relay.config.agent.plugin_table import PluginTable, Variables
from relay.config.agent.telegraf_filters import as_list
from relay.config.document.config_file import NotAConfigurationError, decode_text, read_octets, toml_draft
from relay.config.document.settings_draft import SettingsDraft
from relay.config.router.router_choice import RouterChoice
from relay.errors import NoInputError, PermissionRefusedError
from relay.values.text import quoted

NAME: Final = "config.yaml"
LIBRARY: Final = "/var/lib/128t-monitoring"
LARGEST: Final = 64 * 1024
_OPENING: Final = re.compile(r"(?:(?:[ \t]*#[^\n]*|[ \t\r]*)\n)*(?:---|[A-Za-z][A-Za-z_-]*[ \t]*:(?:\s|\Z))")


def is_agent_text(text: str) -> bool:
    """Whether a text is YAML: TOML cannot begin like that."""
    return _OPENING.match(text) is not None


def within(path: str) -> str:
    """The configuration file of a Monitoring Agent's folder; any other path unchanged."""
    inner = os.path.join(path, NAME)
    return inner if os.path.isfile(inner) else path


def agent_draft(file: str, text: str, named: RouterChoice) -> SettingsDraft:
    """The draft of config.yaml and the files that it names; `named` are the router and the node that it runs on."""
    draft = SettingsDraft(file)
    document, lines = _yaml(text)
    asked = (each.get("name") for each in as_list(document.get("variables")) if isinstance(each, dict))
    variables = Variables(named.router, named.node, frozenset(map(str, asked)))
    library, said = Path(file).parent, document.get("lib-directory")
    if not (library / "inputs").is_dir() and not (library / "outputs").is_dir():
        library = Path(said if isinstance(said, str) and "\0" not in said else LIBRARY)

    def plugins_of(folder: str, name: str, entry: dict[Any, Any]) -> list[PluginTable]:
        conf = str(library / folder / str(entry.get("conf") or f"{name}.conf").replace("\0", ""))
        try:
            read = toml_draft(conf, decode_text(read_octets(conf)))
            return list(PluginTable.all_of(read, folder, draft, variables))
        except (NoInputError, PermissionRefusedError) as error:
            draft.mistake(f"{quoted(name)}: {error.what}: {error.cause}", lines.get(folder), (folder,))
        except NotAConfigurationError as error:
            draft.mistake(error.sentence, error.line, file=conf)
        return []

    MonitoringAgent(draft, document, lines, variables).translate(plugins_of)
    return draft


def implied(agent: SettingsDraft) -> SettingsDraft:
    """The draft that enables traffic events, which [audit] disables by default, when a server gets them.

    Whether there are such events is the router's decision: its collector writes only what the router's own audit has
    enabled.
    """
    draft = SettingsDraft(agent.file)
    for index, server in enumerate(agent.document.get(outputs.SERVERS, ())):
        if "traffic" in server["types"]:
            why = "what it sends to a server includes traffic"
            file = agent.locations[outputs.SERVERS, index].file
            draft.put(("audit", "traffic", "enabled"), True, why=why, file=file)
            draft.put(("audit", "traffic", "persist"), False, why=why, file=file)
            break
    return draft


def _yaml(text: str) -> tuple[dict[Any, Any], dict[str, int]]:
    """The document, and the line of each key of its top level."""
    import yaml  # noqa: PLC0415 - slow to import, and only needed for this kind of file

    if len(text) > LARGEST:
        raise NotAConfigurationError(f"is larger than {LARGEST // 1024} KiB, the limit of a Monitoring Agent's config")
    try:
        document, node = yaml.safe_load(text), yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        cause = error.problem or error.context or "it cannot be parsed"
        raise NotAConfigurationError(f"is not YAML: {cause}", None if mark is None else mark.line + 1) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise NotAConfigurationError("is not YAML that can be parsed") from None
    if not isinstance(document, dict) or not isinstance(node, yaml.MappingNode):
        raise NotAConfigurationError(
            "is not a configuration of a Monitoring Agent: it has neither `inputs:` nor `outputs:`"
        )
    return document, {str(key.value): key.start_mark.line + 1 for key, _ in node.value}
