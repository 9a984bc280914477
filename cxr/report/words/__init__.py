"""The fixed words of pictures and pages: a YAML file beside this one for each language, named as the user types it."""

import functools
from pathlib import Path
from typing import Any

import yaml

from cxr.read.chest_films import Reason

LANGUAGES = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.yaml")))


@functools.cache
def words(language: str) -> dict[str, Any]:
    """Return the fixed words by key in one language; an unknown language is a ``ValueError``."""
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r}, expected one of {', '.join(LANGUAGES)}")
    text = Path(__file__).with_name(f"{language}.yaml").read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


def not_assessed_words(reason: Reason, language: str) -> str:
    """Return that a film is not assessed and why: in English with what its file states, in Chinese the cause alone."""
    say = words(language)
    why = reason.text if language == "en" else say[f"reason_{reason.cause}"]
    return f"{say['not_assessed']}: {why}"
