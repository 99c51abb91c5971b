"""The manual, made from what `--help` tells: click's commands as a man page and as a table for a page.

Pure: commands and texts in, text out; `scripts/manual` writes the files. `settings_page` makes the man page of the
configuration from the commented sample, whose grammar is: `# text` is prose, `[header]` and `key = value` stand for
themselves, with or without a `#` right before them; prose belongs to the header or to the keys that follow it.
`undocumented` names what has no help. Roff is that of man(7), in UTF-8.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

import click

from relay import errors

BEGIN: Final = "<!-- commands: made by scripts/manual -->"
END: Final = "<!-- end -->"
_MADE: Final = '.\\" Made by scripts/manual: change what it is made from.'
_HEADER: Final = re.compile(r"#?(\[\[?[a-z.-]+\]\]?)")
_KEY: Final = re.compile(r"#?([a-z-]+ = .*)")
_PROSE: Final = re.compile(r"#(?: (.*))?")
_CODE: Final = re.compile(r"`([^`]*)`")
_SIGNALS: Final = (
    ("SIGHUP", "`relay run` and `relay receive` reload, as `relay reload` asks for it."),
    ("SIGUSR1", "They log their status: the spool, each source, each destination."),
    ("SIGTERM, SIGINT", "They stop. No other signal ends them, except SIGKILL and those that report a fault."),
)


# --- What there is to tell -----------------------------------------------------------------------------


class Documented(NamedTuple):
    """A command as its help tells it."""

    name: str
    """With all that leads to it: `relay config check`."""
    arguments: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    """Each with its help; those that all commands share are left out."""
    paragraphs: tuple[str, ...]


def documented(root: click.Command, name: str = "relay") -> Iterator[Documented]:
    """Every command that can be called; groups are told by what is in them."""
    context = click.Context(root, info_name=name)
    if isinstance(root, click.Group):
        for word in root.list_commands(context):
            command = root.get_command(context, word)
            if command is not None and not command.hidden:
                yield from documented(command, f"{name} {word}")
    else:
        arguments = (p.make_metavar(context) for p in root.params if isinstance(p, click.Argument))
        yield Documented(name, tuple(arguments), _options(root, context, shared=False), _paragraphs(root.help or ""))


def undocumented(root: click.Command, name: str = "relay") -> Iterator[str]:
    """What has no help: commands, groups and options."""
    context = click.Context(root, info_name=name)
    if not root.help:
        yield name
    for parameter in root.get_params(context):
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help:
            yield f"{name} {parameter.opts[-1]}"
    if isinstance(root, click.Group):
        for word in root.list_commands(context):
            yield from undocumented(root.get_command(context, word) or click.Command(word), f"{name} {word}")


def _options(command: click.Command, context: click.Context, *, shared: bool) -> tuple[tuple[str, str], ...]:
    """A command's options; those that every command has, which it gets from no parameter, only where they are told."""
    parameters = (p for p in command.get_params(context) if isinstance(p, click.Option))
    options = (p for p in parameters if shared or p.expose_value)
    return tuple(record for option in options if (record := option.get_help_record(context)) is not None)


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(" ".join(paragraph.split()) for paragraph in text.partition("\f")[0].split("\n\n"))


# --- Markdown ------------------------------------------------------------------------------------------


def command_table(root: click.Command) -> str:
    """The commands as a table in Markdown."""
    rows = ["| command | what it does | arguments and options |", "|---|---|---|"]
    for command in documented(root):
        words = [f"`{word}`" for word in (*command.arguments, *(names for names, _ in command.options))]
        cells = (f"`{command.name}`", command.paragraphs[0], " ".join(words))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def with_table(page: str, root: click.Command) -> str:
    """The page with the table between its markers; ValueError when it has none."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{command_table(root)}\n{END}{after}"


# --- The man pages -------------------------------------------------------------------------------------


def man_page(root: click.Command) -> str:
    """relay(1)."""
    return _lines(_man_page(root))


def settings_page(sample: str) -> str:
    """relay.toml(5), from the sample's text."""
    return _lines(_settings_page(sample))


def _man_page(root: click.Command) -> Iterator[str]:
    context = click.Context(root, info_name="relay", **root.context_settings)
    summary, *more = _paragraphs(root.help or "")
    yield '.TH RELAY 1 "" relay "relay manual"'
    yield from (".SH NAME", f"relay \\- {_roff(summary[0].lower() + summary[1:].rstrip('.'))}")
    yield from (".SH SYNOPSIS", r"\fBrelay\fR [\fB\-c\fR FILE]... [\fB\-v\fR] COMMAND [ARGUMENT]...")
    yield from (".SH DESCRIPTION", _roff(summary), *(line for text in more for line in (".PP", _roff(text))))
    yield ".SH OPTIONS"
    yield from _tagged(_options(root, context, shared=True))
    yield from (
        ".PP",
        _roff("All but the first are accepted after the command too; only `relay events` has a --router of its own."),
    )
    yield ".SH COMMANDS"
    for command in documented(root):
        yield f".SS {_roff(' '.join((command.name, *command.arguments)))}"
        yield _roff(command.paragraphs[0])
        yield from (line for text in command.paragraphs[1:] for line in (".PP", _roff(text)))
        yield from _tagged(command.options)
    yield ".SH EXIT STATUS"
    yield from _tagged([("0", "It worked."), *_exit_codes()])
    yield from (".SH SIGNALS", *_tagged(_SIGNALS))
    yield from (".SH ENVIRONMENT", *_tagged([("RELAY_CONFIG", "The configuration file, where no --config names one.")]))
    yield from (".SH FILES", *_tagged([("/etc/relay/relay.toml", "The configuration file, where nothing names one.")]))
    yield from (".SH SEE ALSO", r"\fBrelay.toml\fR(5), \fBsshd\fR(8), \fBauditd\fR(8)")


def _exit_codes() -> list[tuple[str, str]]:
    """Every error's exit code and what it means, by number."""
    classes = [cls for cls in errors.RelayError.__subclasses__() if cls.__module__ == errors.__name__]
    told = [(str(cls.exit_code), (cls.__doc__ or "").partition(";")[0].rstrip(".") + ".") for cls in classes]
    return [*sorted(told), ("130", "It was interrupted.")]


class _Section(NamedTuple):
    """One table of the sample: its header, what it is for, and its keys, each group with what is said of it."""

    header: str
    prose: list[str]
    groups: list[tuple[list[str], list[str]]]


def _sections(lines: Iterable[str]) -> list[_Section]:
    """The sample's tables; the first has no header and is the introduction."""
    sections = [_Section("", [], [])]
    prose = sections[0].prose
    for line in lines:
        if header := _HEADER.fullmatch(line):
            sections.append(_Section(header[1], prose, []))
            prose = []
        elif key := _KEY.fullmatch(line):
            if prose or not sections[-1].groups:
                sections[-1].groups.append(([], prose))
                prose = []
            sections[-1].groups[-1][0].append(key[1])
        elif text := _PROSE.fullmatch(line):
            prose.append(text[1] or "")
        elif line.strip():
            raise ValueError(f"neither prose nor a header nor a key: {line}")
        elif len(sections) == 1:
            prose = []
    return sections


def _settings_page(sample: str) -> Iterator[str]:
    introduction, *tables = _sections(sample.splitlines())
    yield '.TH RELAY.TOML 5 "" relay "relay manual"'
    yield from (".SH NAME", r"relay.toml \- the configuration of relay", ".SH DESCRIPTION")
    yield from (line for text in _texts(introduction.prose) for line in (".PP", _roff(text)))
    for table in tables:
        yield f".SH {_roff(table.header)}"
        yield from map(_roff, _texts(table.prose))
        for keys, prose in table.groups:
            for number, key in enumerate(keys):
                yield from (".TQ" if number else ".TP", f"\\fB{_roff(key)}\\fR")
            yield from map(_roff, _texts(prose))
    yield from (".SH SEE ALSO", r"\fBrelay\fR(1)")


def _texts(prose: Iterable[str]) -> list[str]:
    """Lines as paragraphs, which empty ones part."""
    return [" ".join(text.split()) for text in "\n".join(prose).split("\n\n") if text.strip()]


def _tagged(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (line for term, text in records for line in (".TP", f"\\fB{_roff(term)}\\fR", _roff(text)))


def _roff(text: str) -> str:
    """Text for man(7): nothing in it is a request or an escape, and code between backquotes is bold."""
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    plain = _CODE.sub(r"\\fB\1\\fR", plain)
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


def _lines(lines: Iterable[str]) -> str:
    return "\n".join((_MADE, *lines, ""))
