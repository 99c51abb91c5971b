"""Globs, as Telegraf's filters have them."""

import pytest

from relay.values.glob_matcher import glob_matcher


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
    assert glob_matcher([pattern])(text) is matches


def test_one_of_several_patterns_suffices() -> None:
    matches = glob_matcher(["cpu", "mem", "net*"])
    assert [matches(text) for text in ("cpu", "cpu0", "mem", "network")] == [True, False, True, True]


def test_in_a_list_of_patterns_a_comma_separates_two() -> None:
    """Telegraf puts a list into one pair of braces; a single pattern and a list of names stay unchanged."""
    texts = ("cpu", "mem", "cpu,mem", "network")
    assert [glob_matcher(["cpu,mem", "net*"])(text) for text in texts] == [True, True, False, True]
    assert [glob_matcher([r"cpu\,mem", "net*"])(text) for text in texts] == [False, False, True, True]
    assert [glob_matcher(["cpu,me?"])(text) for text in texts] == [False, False, True, False]
    assert [glob_matcher(["cpu,mem", "net"])(text) for text in texts] == [False, False, True, False]


def test_in_a_list_without_wildcards_every_character_means_itself() -> None:
    matches = glob_matcher(["{a,b}", "c\\"])
    assert [matches(text) for text in ("{a,b}", "a", "c\\")] == [True, False, True]


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("*[", '"*[" is not a pattern: "[" needs characters and a "]" behind it'),
        ("[]*", '"[]*" is not a pattern: "[" needs characters and a "]" behind it'),
        ("*{a", '"*{a" is not a pattern: a "{" is not closed'),
        ("[z-a]", '"[z-a]" is not a pattern: "z-a" ends before it begins'),
        ("*\\", '"*\\" is not a pattern: "\\" needs a character behind it'),
    ],
)
def test_an_illegal_pattern_is_rejected_with_its_cause(pattern: str, sentence: str) -> None:
    with pytest.raises(ValueError, match="is not a pattern") as rejected:
        glob_matcher([pattern])
    assert str(rejected.value) == sentence
