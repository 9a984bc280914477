"""Every language says the same things: what is missing in one would stop a page that is written in it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from cxr.report.words import LANGUAGES, words


def texts(node: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Each text by its keys, from the outermost in."""
    if isinstance(node, str):
        yield key, node
        return
    for name, inner in node.items() if isinstance(node, dict) else enumerate(node):
        yield from texts(inner, f"{key}/{name}")


def test_english_and_chinese_are_there() -> None:
    assert LANGUAGES == ("en", "zh")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_the_keys_and_the_places_to_fill_in_of_english(language: str) -> None:
    english, here = dict(texts(words("en"))), dict(texts(words(language)))
    assert list(here) == list(english)
    places = {key: sorted(re.findall(r"{\w*}", text)) for key, text in here.items()}
    assert places == {key: sorted(re.findall(r"{\w*}", text)) for key, text in english.items()}


def test_no_english_sentence_is_left_in_chinese() -> None:
    assert not [key for key, text in texts(words("zh")) if re.search("[a-z]{2,} [a-z]{2,} [a-z]{2,}", text)]


def test_an_unknown_language_is_named_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="language is 'de', expected one of en, zh"):
        words("de")
