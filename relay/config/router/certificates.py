"""A router's certificates as keys of a server that uses TLS: sections in, values out. Pure.

    trusted-ca-certificate                             → ca: all of them, as PEM
    client-certificate that the syslog section names   → certificate, as PEM, and private-key: a file
relay takes private keys from files only. A warning says into which file to put the private key of a content.
"""

import re
from collections.abc import Sequence
from typing import Final

from relay.config.document.settings_draft import SettingsDraft
from relay.config.router.leaf_reader import LeafReader, line_of, named
from relay.config.router.section import Section
from relay.values.text import quoted

_FOLDER: Final = "/etc/relay"
_PEM: Final = re.compile(
    r"^-----BEGIN CERTIFICATE-----\n.*?(?:^-----END CERTIFICATE-----\n|\Z)", re.DOTALL | re.MULTILINE
)


def certificate_keys(reader: LeafReader, levels: Sequence[Section], syslog: Section) -> dict[str, tuple[object, int]]:
    """The keys for TLS of a syslog section's servers, each with its value and its line.

    `levels` are the sections that can have certificates.
    """
    found: dict[str, tuple[object, int]] = {}
    trusted = [entry for level in levels for entry in named(level.sections("trusted-ca-certificate"))]
    texts = [text for name, section in trusted if (text := _pem(reader.draft, section, "trusted-ca-certificate", name))]
    if texts:
        found["ca"] = "".join(dict.fromkeys(texts)), trusted[0][1].line
    named_one = reader.value(syslog, "client-certificate-name", ("syslog", "client-certificate-name"))
    if named_one is None:
        return found
    name, line = str(named_one), line_of(syslog, "client-certificate-name")
    key_file = f"{_FOLDER}/client-certificate-{name}.key"
    known = {key: section for level in levels for key, section in named(level.sections("client-certificate"))}
    if name not in known:
        reader.draft.mistake(f"there is no client-certificate {quoted(name)} in this text", line)
    elif not all(letter.isalnum() or letter in "._-" for letter in name):
        reader.draft.mistake(f"the client-certificate's name {quoted(name)} cannot be the name of a file", line)
    elif text := _pem(reader.draft, known[name], "client-certificate", name):
        reader.draft.warn(
            f"client-certificate {quoted(name)}: relay takes private keys from files only; put its key into "
            f"{key_file} with mode 0600, or name another file with `private-key`",
            known[name].line,
        )
        found |= {"certificate": (text, line), "private-key": (key_file, line)}
    return found


def _pem(draft: SettingsDraft, section: Section, kind: str, name: str) -> str:
    """The certificates in a section's content, each once; private keys are left out."""
    content = "".join(f"{line}\n" for leaf in section.leaves("content") for line in leaf.text)
    found = dict.fromkeys(_PEM.findall(content))  # the content is twice in a text that was pasted twice
    if not found:
        draft.warn(f"{kind} {quoted(name)}: its content has no certificate", section.line)
    return "".join(found)
