"""Data sets joined under one vocabulary: what a film tells of, what it does not, and what is dropped."""

import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from cxr.data.audit import main
from cxr.data.film import Film, Reading
from cxr.data.source_balance import SourceCount, count_sources, cramers_v, entangled
from cxr.data.sources.chestxdet import read_chestxdet
from cxr.data.sources.layouts import VOCABULARY, read_merge_file, read_vocabulary
from cxr.data.sources.merge import MappingError, Source, join, read_merge
from cxr.data.sources.nih import read_nih
from cxr.data.sources.rsna import read_rsna
from cxr.findings import FindingVocabulary
from scripts import ROOT, call

COMMON = FindingVocabulary([{"name": "heart"}, {"name": "opacity"}])
OWN = FindingVocabulary([{"name": "Cardiomegaly"}, {"name": "Nodule"}, {"name": "Mass"}, {"name": "Hernia"}])
MAPPING = {"cardiomegaly": "heart", "Nodule": "opacity", "Mass": "opacity"}


def film(name: str, *marks: str, labelled: frozenset[str] | None = None, **more: Any) -> Film:
    boxes = np.array([[i, 0, i + 9, 9] for i in range(len(marks))], np.float32).reshape(-1, 4)
    return Film(Path(name), name, "s", "p", boxes, marks, 100, 100, labelled=labelled, **more)


def joined(*films: Film, mapping: dict[str, str] | None = MAPPING, **more: Any) -> Any:
    source = Source(lambda root, findings: list(films), OWN, root="x", mapping=mapping, **more)
    return join(Path(), COMMON, {"a": source})


def test_findings_get_their_common_names_and_others_are_dropped_and_counted() -> None:
    merged = joined(film("1", "Mass", "Hernia", "Cardiomegaly"), film("2", "Hernia", "Hernia"))
    (one, two) = merged.films
    assert one.findings == ("opacity", "heart")
    assert one.boxes.tolist() == [[0, 0, 9, 9], [2, 0, 11, 9]]
    assert one.labelled is None
    assert merged.dropped == {"a": {"Hernia": 3}}
    assert not two.findings
    assert not two.normal  # it has a hernia
    assert two.labelled == {"heart", "opacity"}  # and neither of these


def test_a_normal_film_stays_normal_only_where_all_was_looked_for() -> None:
    assert joined(film("1")).films[0].normal
    (part,) = joined(film("1"), mapping={"Mass": "opacity"}).films
    assert not part.normal
    assert part.labelled == {"opacity"}


def test_a_film_tells_of_a_finding_that_several_make_up_where_it_tells_of_each() -> None:
    labelled = frozenset({"Cardiomegaly", "Nodule"})
    (one,) = joined(film("1", "Nodule", labelled=labelled)).films
    assert one.labelled == {"heart"}  # nobody looked for a mass, which is an opacity too
    assert one.findings == ("opacity",)


def test_a_film_that_tells_of_nothing_is_left_out() -> None:
    assert joined(film("1", "Hernia"), film("2"), mapping={}).films == []
    assert joined(film("1", labelled=frozenset({"Hernia"}))).films == []


def test_readings_are_mapped_too() -> None:
    reading = Reading("R1", np.array([[0, 0, 1, 1], [2, 2, 3, 3]], np.float32), ("Hernia", "Mass"))
    (one,) = joined(film("1", "Mass", readings=(reading,))).films
    assert (one.readings[0].findings, one.readings[0].boxes.tolist()) == (("opacity",), [[2, 2, 3, 3]])


def test_patients_of_two_sources_are_two_unless_they_are_said_to_be_one() -> None:
    def patients(*names: str | None) -> list[Film]:
        sources = {
            key: Source(lambda root, findings: [film("1")], OWN, root=key, mapping=MAPPING, patients=name)
            for key, name in zip("ab", names, strict=True)
        }
        return join(Path(), COMMON, sources).films

    apart, together = patients(None, None), patients("nih", "nih")
    assert apart[0].patient != apart[1].patient
    assert together[0].patient == together[1].patient
    for films in (apart, together):
        assert films[0].study != films[1].study
        assert [f.id for f in films] == ["a/1", "b/1"]
        assert [f.source for f in films] == ["a", "b"]


def test_without_a_mapping_names_are_the_same() -> None:
    same = Source(lambda root, findings: [film("1", "heart")], COMMON, root="x")
    assert join(Path(), COMMON, {"a": same}).films[0].findings == ("heart",)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"Pox": "heart"}, r"a\.mapping names 'Pox', which the source does not have\. The source has Cardiomegaly, "),
        (
            {"Mass": "pox"},
            r"'pox', which the common vocabulary does not have.*the common vocabulary has heart, opacity",
        ),
        ({"normal": "heart"}, "'normal', which the source does not have"),
    ],
)
def test_a_mapping_of_unknown_names_shows_both_lists(mapping: dict[str, str], message: str) -> None:
    with pytest.raises(MappingError, match=message):
        joined(film("1"), mapping=mapping)


def test_without_a_root_it_says_what_to_type() -> None:
    with pytest.raises(
        ValueError, match=r"at least of vindr: python train\.py data=merge data\.read\.sources\.vindr\.ro"
    ):
        read_merge(".", COMMON, {"vindr": {"read": read_nih, "findings": OWN, "root": None, "mapping": {}}})


def test_three_public_sources_make_one_data_set(
    published: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    published.nih(tmp_path / "nih")
    published.rsna(tmp_path / "rsna")
    published.chestxdet(tmp_path / "det")
    eda = read_vocabulary(VOCABULARY)
    with caplog.at_level(logging.WARNING):
        films = read_merge_file(
            ROOT / "conf/data/merge.yaml",
            {"nih": str(tmp_path / "nih"), "rsna": str(tmp_path / "rsna"), "chestxdet": str(tmp_path / "det")},
            eda,
        )
    by_id = {film.id: film for film in films.films}
    assert len(by_id) == 5 + 3 + 3
    heart, infiltration = "cardiac_hypertrophy", "lung_field_infiltration"
    assert by_id["nih/00000001_000.png"].findings == (heart,)
    assert by_id["nih/00000001_000.png"].labelled == {heart, infiltration}
    assert by_id["rsna/u2"].findings == (infiltration, infiltration)
    assert by_id["rsna/u1"].labelled == {infiltration}
    assert by_id["chestxdet/36302.png"].findings == ("intercostal_pleural_thickening",)
    assert not any(film.normal for film in films.films)  # no source looks for all seven
    assert films.dropped == {"nih": {"effusion": 1}, "rsna": {}, "chestxdet": {"effusion": 2}}


# which source brings which finding


def test_cramers_v_is_1_where_the_source_tells_all_and_0_where_it_tells_nothing() -> None:
    assert cramers_v([(10, 0), (0, 30)]) == pytest.approx(1)
    assert cramers_v([(5, 5), (20, 20)]) == pytest.approx(0)
    assert cramers_v([(30, 10), (10, 30)]) == pytest.approx(0.5)  # phi: (900 - 100) / (40 · 40)
    assert cramers_v([(0, 5), (0, 9)]) is None


def test_a_finding_is_judged_among_the_sources_that_tell_of_it() -> None:
    def counts(*counted: tuple[int, int]) -> dict[str, dict[str, SourceCount]]:
        return {f"s{i}": {"mass": SourceCount(labelled, films, films)} for i, (labelled, films) in enumerate(counted)}

    assert entangled(counts((100, 50), (0, 0))) == []  # the other source never looked
    assert entangled(counts((100, 50), (100, 40))) == []
    (text,) = entangled(counts((40, 30), (40, 10)))
    assert text == "mass: s0 75% of 40, s1 25% of 40; Cramér's V 0.50"
    assert len(entangled(counts((100, 5), (100, 0)))) == 1  # V is only .16, but five were to be expected there
    assert entangled(counts((100, 5), (50, 0))) == []  # none of 2.5 may be chance


def test_the_films_of_a_source_are_counted_where_they_tell() -> None:
    films = [
        film("1", "heart", "heart", source="a"),
        film("2", source="a"),
        film("3", source="a", labelled=frozenset({"opacity"})),
    ]
    counts = count_sources(films, COMMON.names)["a"]
    assert counts["heart"] == SourceCount(labelled=2, films=1, boxes=2)
    assert counts["opacity"] == SourceCount(labelled=3, films=0, boxes=0)
    assert counts["normal"] == SourceCount(labelled=2, films=1, boxes=0)


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["audit", *words])
    with pytest.raises(SystemExit) as end:
        main()
    return int(end.value.code or 0)


def test_the_audit_of_a_merge_shows_sources_and_what_is_dropped(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    published.nih(tmp_path / "nih")
    published.rsna(tmp_path / "rsna")
    monkeypatch.chdir(tmp_path)
    words = [str(ROOT / "conf/data/merge.yaml"), "--source", "nih=nih", "--source", "rsna=rsna"]
    typed(monkeypatch, *words)
    text = capsys.readouterr().out
    assert "Films with a finding, of those that tell of it" in text
    assert "1 of 5" in text  # infiltration in NIH
    assert "nih: 1 boxes of findings that are not mapped: effusion 1" in text
    assert "rsna: 0 boxes of findings that are not mapped: none" in text


def test_the_audit_of_vindr_needs_no_vocabulary_and_shows_how_readers_agree(
    published: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    typed(monkeypatch, str(published.vindr(tmp_path / "vindr")))
    text = capsys.readouterr().out
    assert "Agreement between readers" in text
    assert "1 of 3" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--source", "pox=x"], "has no source pox, expected vindr, nih, rsna, chestxdet, course, coco"),
        (["--source", "nih"], "--source nih: expected NAME=FOLDER"),
        ([], "no source has a root, expected one at least of vindr"),
    ],
)
def test_a_wrong_source_is_one_line(
    words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert typed(monkeypatch, str(ROOT / "conf/data/merge.yaml"), *words) == 2
    assert message in capsys.readouterr().err


def test_every_public_reader_stands_in_the_merge_file() -> None:
    sources = yaml.safe_load((ROOT / "conf/data/merge.yaml").read_text(encoding="utf-8"))["read"]["sources"]
    named = {node["read"]["_target_"].rpartition(".")[2] for node in sources.values()}
    assert {read.__name__ for read in (read_nih, read_rsna, read_chestxdet)} <= named


@pytest.mark.slow
def test_a_run_over_three_sources_trains(published: Any, tmp_path: Path) -> None:
    published.nih(tmp_path / "nih")
    published.rsna(tmp_path / "rsna")
    published.chestxdet(tmp_path / "det")
    settings = {"nih": "nih", "rsna": "rsna", "chestxdet": "det"}
    words = ["data=merge", "model=fasterrcnn_tiny", "trainer=cpu", f"data.root={tmp_path}", "optimizer.lr=0.001"]
    words += [f"data.read.sources.{name}.root={root}" for name, root in settings.items()]
    words += ["data.size=64", "data.batch_size=2", "data.val_fraction=0.3", "trainer.max_epochs=1"]
    call("train.py", tmp_path, *words)
    (result,) = tmp_path.glob("outputs/*/*/result.json")
    assert '"completed"' in result.read_text(encoding="utf-8")
