"""Files and folders of a configuration that other users can change, so that no program starts with them.

Keys, lists of keys and certificates are examined where they are read: each stops only the part that uses it.
"""

from collections.abc import Iterator, Sequence

from relay.config.configuration import Configuration
from relay.config.intended_program import Program
from relay.config.mistake import ConfigLocation, Mistake, MistakesError
from relay.system.files.strict_modes import mode_objection


def require_strict_configuration(configuration: Configuration, program: Program) -> None:
    """MistakesError if other users can change the configuration's own files, the state directory or the archive."""
    if mistakes := tuple(mode_mistakes(configuration, (program,))):
        raise MistakesError(mistakes)


def mode_mistakes(configuration: Configuration, programs: Sequence[Program]) -> Iterator[Mistake]:
    """One mistake for each of them."""
    settings = configuration.settings
    trusted = [(ConfigLocation(file), file) for file in _files(configuration)]
    trusted.append((configuration.locate(("relay", "state-directory")), settings.relay.state_directory))
    if "receive" in programs:
        trusted.append((configuration.locate(("receiver", "archive")), settings.receiver.archive))
    for location, path in trusted:
        if objection := mode_objection(path):
            yield Mistake(location, f"{objection.cause}; {objection.remedy}")


def _files(configuration: Configuration) -> list[str]:
    """The configuration's files, with those that a Monitoring Agent's file names."""
    tables = [("source", index) for index in range(len(configuration.settings.source))]
    tables += [("remote-logging-server", index) for index in range(len(configuration.settings.remote_logging_server))]
    named = (configuration.locate(table).file for table in tables)
    return list(dict.fromkeys((*configuration.files, *named))) if configuration.files else []
