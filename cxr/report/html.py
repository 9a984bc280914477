"""A self-contained page of a run's test films: figures per finding, curves, and each film with its boxes."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from cxr.files import write_whole
from cxr.findings import FindingVocabulary
from cxr.fonts.page import font_face
from cxr.measure.average_precision import only_detected_in_words
from cxr.palette import colour

_STYLE = """
:root { color-scheme: dark; }
body { font: 15px/1.5 cxr, system-ui, "Noto Sans TC", "Noto Sans CJK TC", "PingFang TC", "Microsoft JhengHei",
  sans-serif; margin: 0 auto; max-width: 1240px; padding: 24px; background: #14171a; color: #e8eaed; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 18px; margin: 32px 0 8px; }
p { max-width: 80ch; } .quiet { color: #9aa0a6; }
table { border-collapse: collapse; }
th, td { padding: 4px 14px 4px 0; text-align: right; border-bottom: 1px solid #2c3136; }
th:first-child, td:first-child, th:nth-child(2), td:nth-child(2) { text-align: left; }
.swatch { display: inline-block; width: 12px; height: 12px; margin-right: 8px; border-radius: 2px; }
.films { display: grid; grid-template-columns: repeat(auto-fill, minmax(360px, 1fr)); gap: 20px; }
figure { margin: 0; } img { width: 100%; height: auto; display: block; border-radius: 4px; }
img.curves { max-width: 990px; } figcaption { font-size: 13px; padding-top: 4px; }
.solid, .dashed { display: inline-block; width: 28px; border-top: 3px solid #e8eaed; margin: 0 6px 4px 14px; }
.dashed { border-top-style: dashed; }
"""


@dataclass(frozen=True)
class FilmCard:
    """One film of the page: its pseudonym, the picture, and the findings a reader and the detector saw."""

    study: str
    picture: Image.Image
    truth: Sequence[str]
    detected: Sequence[str]


def test_page(
    path: Path,
    findings: FindingVocabulary,
    boxes: Mapping[str, int],
    metrics: Mapping[str, float],
    curves: bytes,
    cards: Sequence[FilmCard],
    films: tuple[int, int],
    threshold: float,
    run: str,
) -> None:
    """Write the page to ``path``, one file with everything in it.

    ``boxes`` counts the true boxes a finding, ``metrics`` are the test figures by their logged names, ``curves`` is a
    PNG, ``films`` the number of test films and of normal ones among them; boxes are drawn from ``threshold`` up;
    ``run`` says in a line what was trained on what.
    """
    total, normal = films
    shown = "".join(_figure(card, findings) for card in cards)
    table = _table(findings, boxes, metrics)
    more = f" The first {len(cards)} are shown." if len(cards) < total else ""
    page = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>cxr: test films</title><style>{_STYLE}{font_face(run + table + shown)}</style>
<h1>Test films</h1>
<p class="quiet">{escape(run)}</p>
<p class="quiet">{total} films the detector never saw in training or in the choice of its epoch, {normal} of them
normal. AP is COCO's average precision over IoU 0.50–0.95, AP50 at IoU 0.5, AR the recall with 100 boxes a film.
Research software: a score here describes this data set, not a patient.</p>
{table}
<h2>Curves</h2>
<img class="curves" alt="loss and average precision over the epochs" src="{_data(curves, "png")}">
<h2>Films</h2>
<p><span class="solid"></span>marked by a reader<span class="dashed"></span>detected, with its score
(from {threshold:g} up).{more}</p>
<div class="films">{shown}</div>
</html>
"""
    write_whole(path, page)


def _table(findings: FindingVocabulary, boxes: Mapping[str, int], metrics: Mapping[str, float]) -> str:
    rows = "".join(
        f"<tr><td><span class='swatch' style='background:{colour(findings, name)}'></span>"
        f"{escape(findings.label(name))}</td><td>{escape(findings.label(name, 'zh'))}</td>"
        f"<td>{boxes.get(name, 0)}</td>"
        + "".join(f"<td>{_cell(metrics, f'test/{m}/{name}')}</td>" for m in ("ap50", "ap", "ar"))
        + "</tr>"
        for name in findings.names
    )
    mean = "".join(f"<td>{_cell(metrics, f'test/{m}')}</td>" for m in ("map_50", "map", "mar_100"))
    unmarked = {name: int(metrics.get(f"test/only_detected/{name}", 0)) for name in findings.names}
    return f"""<table><tr><th>finding</th><th></th><th>boxes</th><th>AP50</th><th>AP</th><th>AR</th></tr>{rows}
<tr><th>mean</th><td></td><td>{sum(boxes.values())}</td>{mean}</tr></table>
<p>False positives per normal film: {_cell(metrics, "test/false_positives_per_normal_film")} (score 0.5 and up).
{escape(only_detected_in_words(unmarked, findings))}</p>"""


def _figure(card: FilmCard, findings: FindingVocabulary) -> str:
    out = io.BytesIO()
    card.picture.save(out, format="JPEG", quality=88)
    truth = ", ".join(findings.label(name) for name in card.truth) or "normal"
    seen = ", ".join(findings.label(name) for name in card.detected) or "nothing"
    return (
        f'<figure><img alt="film {escape(card.study)}" src="{_data(out.getvalue(), "jpeg")}">'
        f"<figcaption>{escape(card.study)} · marked: {escape(truth)}<br>"
        f"<span class=quiet>detected: {escape(seen)}</span></figcaption></figure>"
    )


def _cell(metrics: Mapping[str, float], key: str) -> str:
    return f"{metrics[key]:.3f}" if key in metrics else "–"


def _data(content: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
