"""Globs, as Telegraf's filters have them."""

import pytest

from relay.values.glob import matcher


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        ("cpu", "cpu", True),
        ("cpu", "cpu0", False),
        ("cpu*", "cpu", True),
        ("cpu*", "cpu0", True),
        ("cpu*", "mem", False),
        ("net**", "network.0", True),
        ("*process32:*.exe:*.*", "cpu.process32:testcase.exe:caserunner.2222", True),
        ("*process32:*.exe:*.*", "unwanted", False),
        ("ad?in", "admin", True),
        ("ad?in", "adin", False),
        ("ad?in", "ad\nin", True),
        ("[ab]*", "alarm", True),
        ("[!ab]*", "alarm", False),
        ("[!ab]*", "traffic", True),
        ("[a-c]?", "c1", True),
        ("[a-c]?", "d1", False),
        ("[^a]*", "^x", True),
        ("[^a]*", "ax", True),
        ("[^a]*", "b", False),
        ("{alarm,ad*}", "admin", True),
        ("{alarm,ad*}", "alarm", True),
        ("{alarm,ad*}", "system", False),
        (r"\**", "*x", True),
        (r"\**", "x", False),
        ("a.c*", "abc", False),
        ("*", "", True),
        ("Admin*", "admin", False),
        ("ü?*", "üß", True),
    ],
)
def test_a_pattern_matches_the_whole_text(pattern: str, text: str, matches: bool) -> None:
    assert matcher([pattern])(text) is matches


def test_one_of_several_patterns_suffices() -> None:
    matches = matcher(["cpu", "mem", "net*"])
    assert [matches(text) for text in ("cpu", "cpu0", "mem", "network")] == [True, False, True, True]


def test_among_several_patterns_a_comma_parts_two() -> None:
    """Telegraf puts them in one pair of braces; a single one stays as it is, and so do names."""
    texts = ("cpu", "mem", "cpu,mem", "network")
    assert [matcher(["cpu,mem", "net*"])(text) for text in texts] == [True, True, False, True]
    assert [matcher([r"cpu\,mem", "net*"])(text) for text in texts] == [False, False, True, True]
    assert [matcher(["cpu,me?"])(text) for text in texts] == [False, False, True, False]
    assert [matcher(["cpu,mem", "net"])(text) for text in texts] == [False, False, True, False]


def test_in_a_list_without_wildcards_every_character_means_itself() -> None:
    matches = matcher(["{a,b}", "c\\"])
    assert [matches(text) for text in ("{a,b}", "a", "c\\")] == [True, False, True]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("*[", '"*[" is no pattern: a "[" is not followed by what belongs to it'),
        ("[]*", '"[]*" is no pattern: a "[" is not followed by what belongs to it'),
        ("*{a", '"*{a" is no pattern: a "{" is not closed'),
        ("[z-a]", '"[z-a]" is no pattern: "z-a" ends before it begins'),
        ("*\\", '"*\\" is no pattern: a "\\" is not followed by what belongs to it'),
    ],
)
def test_what_is_no_pattern_is_told(pattern: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="is no pattern") as told:
        matcher([pattern])
    assert str(told.value) == sentence
