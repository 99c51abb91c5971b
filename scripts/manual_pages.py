"""The manual, made from the help texts of click's commands: a man page, and a table for a page in Markdown.

Pure: commands and texts in, text out; `scripts/manual` writes the files. `settings_page` makes the man page of the
configuration from the commented sample. In the sample `# text` is prose, and `[header]` and `key = value` may have a
`#` right before them. Prose belongs to the header or to the keys that follow it. `undocumented` names commands and
options without help. Roff is that of man(7), in UTF-8.
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
_ABOUT_OPTIONS: Final = "All except the first are accepted after the command too; `relay events` has its own --router."
_FURTHER_SECTIONS: Final = {
    "SIGNALS": (
        ("SIGHUP", "`relay run` and `relay receive` reload their configuration, as `relay reload` makes them do."),
        ("SIGUSR1", "They log their status: the spool, each source, each destination."),
        (
            "SIGTERM, SIGINT",
            "They stop. No other signal ends them, except SIGKILL and those for faults of the program.",
        ),
    ),
    "ENVIRONMENT": (("RELAY_CONFIG", "The configuration file, unless --config names one."),),
    "FILES": (("/etc/relay/relay.toml", "The configuration file, unless --config or RELAY_CONFIG names one."),),
}


# --- The help of each command ---


class CommandHelp(NamedTuple):
    """What the help of a command contains."""

    name: str
    """With the names of its groups: `relay config check`."""
    arguments: tuple[str, ...]
    options: tuple[tuple[str, str], ...]
    """Each with its help; those that all commands share are left out."""
    paragraphs: tuple[str, ...]


def command_helps(root: click.Command, name: str = "relay") -> Iterator[CommandHelp]:
    """Every command that can be called; of a group, those in it."""
    context = click.Context(root, info_name=name)
    if isinstance(root, click.Group):
        for word in root.list_commands(context):
            command = root.get_command(context, word)
            if command is not None and not command.hidden:
                yield from command_helps(command, f"{name} {word}")
    else:
        arguments = (p.make_metavar(context) for p in root.params if isinstance(p, click.Argument))
        yield CommandHelp(name, tuple(arguments), _options(root, context, shared=False), _paragraphs(root.help or ""))


def undocumented(root: click.Command, name: str = "relay") -> Iterator[str]:
    """The commands, groups and options that have no help."""
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
    """A command's options; with `shared` also those that every command has, whose values it gets by no parameter."""
    parameters = (p for p in command.get_params(context) if isinstance(p, click.Option))
    options = (p for p in parameters if shared or p.expose_value)
    return tuple(record for option in options if (record := option.get_help_record(context)) is not None)


def _paragraphs(text: str) -> tuple[str, ...]:
    return tuple(" ".join(paragraph.split()) for paragraph in text.partition("\f")[0].split("\n\n"))


# --- Markdown ---


def command_table(root: click.Command) -> str:
    """The commands as a table in Markdown."""
    rows = ["| command | what it does | arguments and options |", "|---|---|---|"]
    for command in command_helps(root):
        words = [f"`{word}`" for word in (*command.arguments, *(names for names, _ in command.options))]
        cells = (f"`{command.name}`", command.paragraphs[0], " ".join(words))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows)


def with_table(page: str, root: click.Command) -> str:
    """The page with the table between its markers; ValueError when it has no markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no {BEGIN} … {END}")
    return f"{before}{BEGIN}\n{command_table(root)}\n{END}{after}"


# --- The man pages ---


def man_page(root: click.Command) -> str:
    """relay(1)."""
    context = click.Context(root, info_name="relay", **root.context_settings)
    summary, *more = _paragraphs(root.help or "")
    page = [
        '.TH RELAY 1 "" relay "relay manual"',
        *(".SH NAME", f"relay \\- {_roff(summary[0].lower() + summary[1:].rstrip('.'))}"),
        *(".SH SYNOPSIS", r"\fBrelay\fR [\fB\-c\fR FILE]... [\fB\-v\fR] COMMAND [ARGUMENT]..."),
        *(".SH DESCRIPTION", _roff(summary), *_further(more)),
        *(".SH OPTIONS", *_tagged(_options(root, context, shared=True)), *_further([_ABOUT_OPTIONS]), ".SH COMMANDS"),
    ]
    for command in command_helps(root):
        page.append(f".SS {_roff(' '.join((command.name, *command.arguments)))}")
        page += (_roff(command.paragraphs[0]), *_further(command.paragraphs[1:]), *_tagged(command.options))
    kinds = (kind for kind in errors.RelayError.__subclasses__() if kind.__module__ == errors.__name__)
    codes = sorted((str(kind.exit_code), (kind.__doc__ or "").partition(";")[0].rstrip(".") + ".") for kind in kinds)
    page += (".SH EXIT STATUS", *_tagged([("0", "Success."), *codes, ("130", "Interrupted.")]))
    for title, records in _FURTHER_SECTIONS.items():
        page += (f".SH {title}", *_tagged(records))
    return _text([*page, ".SH SEE ALSO", r"\fBrelay.toml\fR(5), \fBsshd\fR(8), \fBauditd\fR(8)"])


class _Section(NamedTuple):
    """One table of the sample: its header, its purpose, and its keys in groups, each with its prose."""

    header: str
    prose: list[str]
    groups: list[tuple[list[str], list[str]]]


def _sections(lines: Iterable[str]) -> list[_Section]:
    """The tables of the sample; the first one has no header and is the introduction."""
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


def settings_page(sample: str) -> str:
    """relay.toml(5), from the text of the sample."""
    introduction, *tables = _sections(sample.splitlines())
    page = ['.TH RELAY.TOML 5 "" relay "relay manual"', ".SH NAME", r"relay.toml \- the configuration of relay"]
    page += (".SH DESCRIPTION", *_further(_texts(introduction.prose)))
    for table in tables:
        page += (f".SH {_roff(table.header)}", *map(_roff, _texts(table.prose)))
        for keys, prose in table.groups:
            for number, key in enumerate(keys):
                page += (".TQ" if number else ".TP", f"\\fB{_roff(key)}\\fR")
            page += map(_roff, _texts(prose))
    return _text([*page, ".SH SEE ALSO", r"\fBrelay\fR(1)"])


def _further(paragraphs: Iterable[str]) -> Iterator[str]:
    return (line for text in paragraphs for line in (".PP", _roff(text)))


def _texts(prose: Iterable[str]) -> list[str]:
    """Lines as paragraphs; an empty line separates two."""
    return [" ".join(text.split()) for text in "\n".join(prose).split("\n\n") if text.strip()]


def _tagged(records: Iterable[tuple[str, str]]) -> Iterator[str]:
    return (line for term, text in records for line in (".TP", f"\\fB{_roff(term)}\\fR", _roff(text)))


def _roff(text: str) -> str:
    """Text for man(7): requests and escapes in it are text, and code between backquotes is bold."""
    plain = text.replace("\\", r"\e").replace("-", r"\-")
    plain = _CODE.sub(r"\\fB\1\\fR", plain)
    return rf"\&{plain}" if plain.startswith((".", "'")) else plain


def _text(lines: Iterable[str]) -> str:
    return "\n".join((_MADE, *lines, ""))
