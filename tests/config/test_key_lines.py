import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.config.document.key_lines import key_lines
from relay.config.key_path import KeyPath


def paths(value: object, path: KeyPath = ()) -> set[KeyPath]:
    """Every path of a document that tomllib read."""
    inner: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return ({path} if path else set()).union(*(paths(element, (*path, key)) for key, element in inner))


EVERYTHING = '''# a comment with = and [
a = 1 # [x]
"q\\u0041.b".'c' = """
[x]
\\"""" # a comment
[[s]] # hi
n = [1, # c ]
 {x = 2, y.z=[3]}, "],", ]
[s.t]
u = 2020-01-01 00:00:00
[[ s ]]
n.m = 'a\\'
[[s.k]]
z = {}
v = """a"""""
w = \'\'\'
]]\'\'\'
'''


def test_every_key_of_a_text_that_uses_all_of_toml_has_its_line() -> None:
    assert key_lines(EVERYTHING) == {
        ("a",): 2,
        ("qA.b",): 3,
        ("qA.b", "c"): 3,
        ("s",): 6,
        ("s", 0): 6,
        ("s", 0, "n"): 7,
        ("s", 0, "n", 0): 7,
        ("s", 0, "n", 1): 8,
        ("s", 0, "n", 1, "x"): 8,
        ("s", 0, "n", 1, "y"): 8,
        ("s", 0, "n", 1, "y", "z"): 8,
        ("s", 0, "n", 1, "y", "z", 0): 8,
        ("s", 0, "n", 2): 8,
        ("s", 0, "t"): 9,
        ("s", 0, "t", "u"): 10,
        ("s", 1): 11,
        ("s", 1, "n"): 12,
        ("s", 1, "n", "m"): 12,
        ("s", 1, "k"): 13,
        ("s", 1, "k", 0): 13,
        ("s", 1, "k", 0, "z"): 14,
        ("s", 1, "k", 0, "v"): 15,
        ("s", 1, "k", 0, "w"): 16,
    }


@pytest.mark.parametrize("text", ["", "\n", "# only a comment", "a=1", "a = 1\r\nb = 2\r\n", "[a]\n[a.b]\n[c]"])
def test_the_paths_are_the_same_as_tomllibs(text: str) -> None:
    assert set(key_lines(text)) == paths(tomllib.loads(text))


KEYS = st.text("ab.\"'\\#=[]\n é", min_size=0, max_size=4)
SCALARS = st.one_of(st.integers(), st.booleans(), st.text("ab\"'\\#=[]{},\n", max_size=6))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=3)),
    max_leaves=12,
)


def inline(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(element)}" for key, element in value.items()) + "}"
    if isinstance(value, list):
        return "[ # comment ]\n" + ",\n".join(map(inline, value)) + "]"
    if isinstance(value, str) and "'" not in value and value:
        return f"'''\n{value}'''"
    return json.dumps(value)


@given(st.lists(st.tuples(st.booleans(), st.dictionaries(KEYS, VALUES, max_size=3)), max_size=4))
def test_any_document_gives_the_paths_of_tomllib(tables: list[tuple[bool, dict[str, Any]]]) -> None:
    text = ""
    for number, (array, table) in enumerate(tables):
        text += f"[[ many . a ]] # {number}\n" if array else f'[ "one {number}" ]\n'
        text += "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in table.items())
    lines = key_lines(text)
    assert set(lines) == paths(tomllib.loads(text))
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
