"""The page of a run's test films: figures for each finding, curves, and each film with its boxes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from cxr.findings import FindingVocabulary
from cxr.report.page import Card, Chip, Row, finding_chip, finding_row, only_detected_in_words, write_page
from cxr.report.words import words


@dataclass(frozen=True)
class FilmCard:
    """One film of the page: its pseudonym, the picture, and the findings a reader and the detector saw."""

    study: str
    picture: Image.Image
    truth: Sequence[str]
    detected: Sequence[str]


def run_page(
    path: Path,
    findings: FindingVocabulary,
    boxes: Mapping[str, int],
    metrics: Mapping[str, float],
    curves: bytes,
    cards: Sequence[FilmCard],
    films: tuple[int, int],
    threshold: float,
    run: str,
    language: str = "en",
) -> None:
    """Write the page to ``path``, one file with everything in it, in ``language``, ``en`` or ``zh``.

    ``boxes`` are the numbers of true boxes of each finding, ``metrics`` the test figures by their logged names,
    ``curves`` a PNG, ``films`` the numbers of test films and of normal ones among them; boxes are drawn from the score
    ``threshold`` up; ``run`` says in a line what was trained on what.
    """
    rows = [
        finding_row(findings, name, [str(boxes.get(name, 0)), *_figures(metrics, "ap50 ap ar", f"/{name}")], language)
        for name in findings.names
    ]
    mean = [str(sum(boxes.values())), *_figures(metrics, "map_50 map mar_100")]
    unmarked = {name: int(metrics.get(f"test/only_detected/{name}", 0)) for name in findings.names}
    write_page(
        path,
        "run.html",
        language,
        rows=[*rows, Row(words(language)["run"]["mean"], mean)],
        false_positives=_figures(metrics, "false_positives_per_normal_film")[0],
        unmarked=only_detected_in_words(findings, unmarked, language),
        curves=curves,
        cards=[_card(film, findings, language) for film in cards],
        total=films[0],
        normal=films[1],
        threshold=f"{threshold:g}",
        run=run,
    )


def _card(film: FilmCard, findings: FindingVocabulary, language: str) -> Card:
    say = words(language)["run"]
    chips = [finding_chip(findings, name, say["marked"], language) for name in dict.fromkeys(film.truth)]
    chips += [finding_chip(findings, name, say["detected"], language) for name in film.detected]
    if not film.detected:
        chips.append(Chip(say["nothing_detected"]))
    return Card(film.study, film.picture, chips, "" if film.truth else findings.normal.label(language))


def _figures(metrics: Mapping[str, float], names: str, finding: str = "") -> list[str]:
    keys = [f"test/{name}{finding}" for name in names.split()]
    return [f"{metrics[key]:.3f}" if key in metrics else "–" for key in keys]
