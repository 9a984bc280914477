"""The page of explanations: one file, pseudonyms only; and each of its controls does what it says in a browser."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select

from cxr.explain.record import ExplainedFilm, Marked, read_film_record
from cxr.explain.scores import ScoreRow
from cxr.findings import Finding, FindingVocabulary
from cxr.read.chest_films import Reason
from cxr.report.explain_page import explain_page
from cxr.report.page import NotShown
from cxr.report.words import not_assessed_words, words

ABOUT = {"model": "tiny <b>detector</b>", "data": "drawn films"}
NOT_SHOWN = NotShown(["file 1: <pixels> missing"], ["p8: not finite"], ["p9: not assessed: a foot"])
SANITY = {"gradcam": {"scores": 0.4, "features": 0.0}, "box": {"scores": float("nan"), "features": 0.1}}


@pytest.fixture
def page(explained_run: Path, findings: FindingVocabulary, score_rows: list[ScoreRow]) -> Path:
    return explain_page(explained_run, findings, score_rows, ABOUT, NOT_SHOWN, SANITY)


# --- what the file says ---


def test_one_file_that_needs_no_network(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert page.name == "index.html"
    assert "http" not in text
    sources = re.findall(r"(?:src|href)=[\"']?([^\"'> ]+)", text)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in text.replace("url(data:", "")


def test_every_film_by_its_pseudonym_and_no_patient(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert re.findall(r"<h3>(p\w+)", text) == ["p0two", "p1alarm", "p2normal"]
    assert "secret-patient" not in text


def test_words_from_outside_are_escaped(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for raw, safe in (("<b>", "&lt;b&gt;"), ("<pixels>", "&lt;pixels&gt;"), ("<apart>", "&lt;apart&gt;")):
        assert raw not in text
        assert safe in text


def test_names_of_findings_and_films_are_escaped(explained_run: Path) -> None:
    folder = explained_run / "films" / "p2normal"
    record = read_film_record(folder)
    name = "<i>&'\""
    marks = (Marked(name, (1, 1, 9, 9)),)
    ExplainedFilm(**{**vars(record), "study": "<s>", "truth": marks, "boxes": ()}).write(folder)
    shutil.rmtree(explained_run / "films" / "p0two")
    shutil.rmtree(explained_run / "films" / "p1alarm")
    text = explain_page(explained_run, FindingVocabulary([{"name": name}]), [], {}, NotShown(), {}).read_text(
        encoding="utf-8"
    )
    assert "<s>" not in text
    assert name not in text
    assert "&lt;i&gt;&amp;&#39;&#34;" in text


def test_the_tables_say_values_with_intervals_and_what_could_not_be_measured(page: Path) -> None:
    rows = {
        tuple(re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)): "baseline" in kind
        for kind, row in re.findall(r"<tr([^>]*)>(.*?)</tr>", page.read_text(encoding="utf-8"))
    }
    assert rows["Box-level map", "0.75 <small>[0.50–0.90]</small>", "0.38 <small>[0.30–0.45]</small>"] is False
    assert rows["EigenCAM", "0.30 <small>[0.20–0.40]</small>", "–"] is False
    assert rows["Random map", "0.05 <small>[0.00–0.10]</small>", "0.06 <small>[0.04–0.08]</small>"] is True
    assert ("Box-level map", "0.80 <small>[0.60–1.00]</small>", "0.50") in rows  # by finding; one patient: no interval
    assert ("Box-level map", "–", "0.10") in rows  # sanity
    assert ("Grad-CAM", "0.40", "0.00") in rows


def test_a_run_without_films_scores_or_checks_says_so(tmp_path: Path, findings: FindingVocabulary) -> None:
    text = explain_page(tmp_path, findings, [], {}, NotShown(), {}).read_text(encoding="utf-8")
    for sentence in (
        "No film was explained.",
        "Nothing could be scored",
        "could not be measured",
        "Every film could be",
    ):
        assert sentence in text


def test_films_without_marks_have_no_hits_and_no_false_alarms(explained_run: Path, findings: FindingVocabulary) -> None:
    for folder in (explained_run / "films").iterdir():
        record = read_film_record(folder)
        ExplainedFilm(**{**vars(record), "truth_known": False, "truth": ()}).write(folder)
    text = explain_page(explained_run, findings, [], {}, NotShown(), {}).read_text(encoding="utf-8")
    assert "· detected</label>" in text
    assert "· hit</label>" not in text
    assert "false alarm" not in text
    assert "film without marks" in text


def test_it_is_written_in_chinese_with_a_font_of_its_own(explained_run: Path, findings: FindingVocabulary) -> None:
    text = explain_page(explained_run, findings, [], {}, NotShown(), {}, "zh").read_text(encoding="utf-8")
    assert '<html lang="zh-Hant">' in text
    assert "浸潤 0.87 · 命中" in text
    assert "研究用軟體，不是診斷" in text
    assert "data:font/woff;base64," in text
    english = [text for text in words("en").values() if isinstance(text, str) and len(text) > 12]
    assert not [sentence for sentence in english if f">{sentence}<" in text]


# --- what it does in a browser ---


def test_a_browser_draws_chinese_with_the_font_of_the_page(
    chromium: webdriver.Chrome, explained_run: Path, findings: FindingVocabulary
) -> None:
    chromium.get(explain_page(explained_run, findings, [], {}, NotShown(), {}, "zh").as_uri())
    for domain in ("DOM", "CSS"):
        chromium.execute_cdp_cmd(f"{domain}.enable", {})
    document = chromium.execute_cdp_cmd("DOM.getDocument", {})["root"]["nodeId"]
    for selector in ("h1", "nav a", ".chip"):
        node = chromium.execute_cdp_cmd("DOM.querySelector", {"nodeId": document, "selector": selector})
        fonts = chromium.execute_cdp_cmd("CSS.getPlatformFontsForNode", node)["fonts"]
        ours = sum(font["glyphCount"] for font in fonts if font["isCustomFont"])
        text = chromium.find_element(By.CSS_SELECTOR, selector).text
        assert ours == len(re.findall("[\u2e80-\uffff]", text)) > 0, (selector, text, fonts)


@pytest.fixture
def browser(chromium: webdriver.Chrome, page: Path, resize: Callable[[int], None]) -> Iterator[webdriver.Chrome]:
    """The page, opened from disk in a wide window; its script must not have complained when the test is over."""
    resize(1280)
    chromium.get(page.as_uri())
    yield chromium
    assert [entry["message"] for entry in chromium.get_log("browser")] == []


def chip(browser: webdriver.Chrome, text: str) -> WebElement:
    return browser.find_element(By.XPATH, f"//label[contains(., '{text}')]")


def seen(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return [element for element in browser.find_elements(By.CSS_SELECTOR, selector) if element.is_displayed()]


def overlays(browser: webdriver.Chrome) -> list[tuple[str | None, str | None]]:
    """Method and box of each map that is shown, by film."""
    return [(e.get_attribute("data-method"), e.get_attribute("data-box")) for e in seen(browser, "img.map")]


def films(browser: webdriver.Chrome) -> list[str]:
    return [film.find_element(By.TAG_NAME, "h3").text.split()[0] for film in seen(browser, ".film")]


def style(element: WebElement, name: str) -> str:
    return str(element.value_of_css_property(name))


def test_the_method_switch_changes_every_film(browser: webdriver.Chrome) -> None:
    assert overlays(browser) == [("box", "0")] * 3
    assert "shows what inside the box the score depends on" in seen(browser, ".method-text")[0].text
    chip(browser, "EigenCAM").click()
    assert overlays(browser) == [("eigencam", "0")] * 3
    assert [note.text for note in seen(browser, ".veil")] == ["EigenCAM cannot tell findings <apart>"] * 3
    assert "It ignores the finding" in seen(browser, ".method-text")[0].text


def test_a_zero_map_is_words_and_no_picture(browser: webdriver.Chrome) -> None:
    chip(browser, "Grad-CAM").click()
    assert overlays(browser) == [("gradcam", "0")] * 2  # not on the normal film
    assert [note.text for note in seen(browser, ".veil")] == ["no evidence: the map is zero"]


def test_keys_choose_a_method_but_not_while_a_list_is_used(browser: webdriver.Chrome) -> None:
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys("3")
    assert overlays(browser) == [("eigencam", "0")] * 3
    body.send_keys("9")  # there are three
    assert overlays(browser) == [("eigencam", "0")] * 3
    browser.find_element(By.ID, "finding").send_keys("1")
    assert overlays(browser) == [("eigencam", "0")] * 3


def test_a_film_with_two_boxes_shows_the_map_of_the_chosen_one(browser: webdriver.Chrome) -> None:
    assert [p.text for p in seen(browser, "figcaption p")] == ["maximum inside the marked box · 50 % of the map inside"]
    chip(browser, "effusion 0.62").click()
    assert overlays(browser) == [("box", "1"), ("box", "0"), ("box", "0")]
    names = [text.text for text in seen(browser, ".predicted text")]
    assert names == ["effusion 0.62", "effusion 0.41", "nodule 0.03"]


def test_the_slider_changes_the_opacity(browser: webdriver.Chrome) -> None:
    slider = browser.find_element(By.ID, "opacity")
    slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert browser.find_element(By.ID, "opacity-value").text == "70 %"
    browser.execute_script("for (const a of document.getAnimations()) a.finish()")
    assert style(seen(browser, "img.map")[0], "opacity") == "0.7"


def test_boxes_are_told_apart_by_line_and_can_be_hidden(browser: webdriver.Chrome) -> None:
    lines = {kind: seen(browser, f".{kind} rect:not(.halo)")[-1] for kind in ("truth", "predicted", "suppressed")}
    dashes = {kind: style(line, "stroke-dasharray") for kind, line in lines.items()}
    assert dashes["truth"] == "none"
    assert len(set(dashes.values())) == 2  # the last detected box is the suppressed one
    assert style(seen(browser, ".predicted:not(.suppressed) rect:not(.halo)")[0], "stroke-dasharray") != "none"
    for kind in ("truth", "predicted"):
        assert seen(browser, f"g.{kind}")
        browser.find_element(By.ID, kind).click()
        assert not seen(browser, f"g.{kind}")
    browser.find_element(By.ID, "truth").click()
    assert len(seen(browser, "g.truth")) == 3


def test_boxes_lie_where_the_record_says(browser: webdriver.Chrome) -> None:
    """The nodule of the first film: x 40 to 140 of 320, y 50 to 150 of 400."""
    stage = browser.find_element(By.CSS_SELECTOR, ".stage").rect
    box = browser.find_element(By.CSS_SELECTOR, ".predicted rect.halo").rect
    assert box["x"] - stage["x"] == pytest.approx(stage["width"] * 40 / 320, abs=4)  # half a line's width
    assert box["y"] - stage["y"] == pytest.approx(stage["height"] * 50 / 400, abs=4)
    assert box["width"] == pytest.approx(stage["width"] * 100 / 320, abs=8)


def test_of_the_marks_only_the_missed_are_named(browser: webdriver.Chrome) -> None:
    assert [text.text for text in seen(browser, ".truth text")] == ["nodule"]


@pytest.mark.parametrize(
    ("finding", "outcome", "left"),
    [
        ("nodule", "all", ["p0two", "p1alarm"]),
        ("effusion", "all", ["p0two", "p1alarm"]),
        ("normal", "all", ["p2normal"]),
        ("all", "hit", ["p0two"]),
        ("all", "false alarm", ["p1alarm"]),
        ("all", "missed", ["p1alarm"]),
        ("all", "normal", ["p2normal"]),
        ("nodule", "false alarm", []),  # the false alarm is another finding's
        ("all", "all", ["p0two", "p1alarm", "p2normal"]),
    ],
)
def test_filters_leave_the_films_they_name(
    browser: webdriver.Chrome, finding: str, outcome: str, left: list[str]
) -> None:
    Select(browser.find_element(By.ID, "finding")).select_by_visible_text(finding)
    Select(browser.find_element(By.ID, "outcome")).select_by_visible_text(outcome)
    assert films(browser) == left
    assert browser.find_element(By.ID, "count").text == f"{len(left)} of 3 films"


def test_every_control_is_reached_by_keyboard_and_the_focus_is_seen(browser: webdriver.Chrome) -> None:
    reached = []
    for _ in range(20):
        browser.switch_to.active_element.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("name") or active.get_attribute("class"))
        ring = active if active.get_attribute("type") != "radio" else active.find_element(By.XPATH, "..")
        assert style(ring, "outline-style") == "solid", reached[-1]
        if reached[-1] == "scroll":
            break
    controls = ["method", "opacity", "truth", "predicted", "finding", "outcome", "box-0", "box-1", "box-2", "scroll"]
    assert [name for name in reached if name] == controls
    names = "return [...document.querySelectorAll('input, select')].filter(e => !e.labels.length).length"
    assert browser.execute_script(names) == 0


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_sticks_out_of_the_window(browser: webdriver.Chrome, width: int, resize: Callable[[int], None]) -> None:
    resize(width)
    sizes = "const page = document.documentElement; return [window.innerWidth, page.scrollWidth - page.clientWidth]"
    assert browser.execute_script(sizes) == [width, 0]
    browser.execute_script("document.querySelector('.films').scrollIntoView()")
    assert seen(browser, ".methods")[0].rect["width"] <= width
    top = browser.execute_script("return document.querySelector('.methods').getBoundingClientRect().top")
    assert 0 <= top < 20  # the methods stay in view beside the films
    chip(browser, "EigenCAM").click()
    assert overlays(browser) == [("eigencam", "0")] * 3


def test_motion_can_be_refused(browser: webdriver.Chrome) -> None:
    assert style(seen(browser, "img.map")[0], "transition-duration") != "0s"
    calm = {"features": [{"name": "prefers-reduced-motion", "value": "reduce"}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", calm)
    assert style(seen(browser, "img.map")[0], "transition-duration") == "0s"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_films_without_maps_are_listed_with_the_reason_in_both_languages(
    explained_run: Path, findings: FindingVocabulary
) -> None:
    for language, headings in (
        ("en", ("Films that were not assessed (1)", "Films that failed (1)", "Films that could not be read (1)")),
        ("zh", ("未解讀的影像 (1)", "無法解釋的影像 (1)", "無法讀取的影像 (1)")),
    ):
        text = explain_page(explained_run, findings, [], {}, NOT_SHOWN, {}, language).read_text(encoding="utf-8")
        assert all(heading in text for heading in headings)
        assert "<li>p9: not assessed: a foot</li>" in text


def test_a_long_name_of_a_part_goes_on_below_and_does_not_cover_its_neighbour(
    explained_run: Path, findings: FindingVocabulary
) -> None:
    sanity = {"box": {"roi_heads.box_head/rpn.head": 0.1, "<b>": 0.2}}
    text = explain_page(explained_run, findings, [], {}, NOT_SHOWN, sanity, "en").read_text(encoding="utf-8")
    assert "roi_heads.<wbr>box_head/<wbr>rpn.<wbr>head" in text
    assert "&lt;b&gt;" in text


def test_a_long_name_is_written_smaller_than_to_leave_the_film(
    explained_run: Path, findings: FindingVocabulary
) -> None:
    others = [finding for finding in findings.findings if finding.name != "effusion"]
    long = FindingVocabulary([*others, Finding("effusion", "肋膜增厚" * 20)])  # 80 letters, as wide as high
    text = explain_page(explained_run, long, [], {}, NOT_SHOWN, {}, "zh").read_text(encoding="utf-8")
    (x, size), *_ = re.findall(r'<text +x="([\d.]+)" y="[\d.]+" font-size="([\d.]+)">肋膜增厚肋膜', text)
    assert (float(x), float(size)) == (0.0, pytest.approx(320 / (80 + 5 * 0.66), abs=0.06))


def test_a_reason_is_told_in_both_languages() -> None:
    reason = Reason("other_part", "BodyPartExamined is FOOT, not the chest")
    assert not_assessed_words(reason, "en") == "not assessed: BodyPartExamined is FOOT, not the chest"
    assert not_assessed_words(reason, "zh") == "未解讀: 不是胸部影像"
