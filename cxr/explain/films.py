"""Films explained one by one, each kept in a folder of its own as soon as it is done."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.ops import box_iou

from cxr.data.dataset import RadiographDataset
from cxr.data.film import Film
from cxr.detect.candidates import Candidate
from cxr.detect.detector import Detector
from cxr.detect.ensemble import Ensemble
from cxr.detect.finite import NotFiniteError, watched
from cxr.detect.prediction import Threshold, least_score
from cxr.explain.cam import Cam
from cxr.explain.ensemble import FusedBox, Reading, as_read, members_of
from cxr.explain.faithful import deletion_insertion, randomised, similarity
from cxr.explain.reading import FilmReading, detector_score
from cxr.explain.record import (
    PICTURE,
    RECORD,
    Box,
    Explained,
    ExplainedFilm,
    Marked,
    Outcome,
    whole_record,
    write_map,
)
from cxr.explain.scores import baseline_maps, localisation
from cxr.findings import NORMAL, FindingVocabulary
from cxr.read.burnt_text import without_text
from cxr.read.chest_films import NOT_FINITE
from cxr.read.dicom import read_film
from cxr.read.preprocessing import Preprocessing

_log = logging.getLogger(__name__)

HIT_IOU = 0.5
PICTURE_SIDE = 1024


@dataclass(frozen=True)
class Explainer:
    """Explains the detections of a film by several methods, and measures the maps.

    Args:
        detector: on the device to work on; or an ensemble, whose maps are those of ``cxr.explain.ensemble``.
        findings: the vocabulary behind its labels.
        methods: method → cam.
        intensity: of the films, for the picture at the eye's size.
        threshold: detections from this score up are explained; one for all findings, or one for each.
        most: findings a film that are explained, the highest scores first.
        faithfulness: whether deletion and insertion are measured too (some 15 looks of the detector a map).
        seed: of the random baseline.
    """

    detector: Detector | Ensemble
    findings: FindingVocabulary
    methods: Mapping[str, Cam]
    intensity: Preprocessing
    threshold: Threshold
    most: int
    faithfulness: bool
    seed: int

    def explain(self, film: Film, image: Tensor, folder: Path, truth_known: bool) -> ExplainedFilm:
        """Explain a film, write its maps, its picture and at last its record into ``folder``, and return the record.

        Args:
            film: with its true boxes, if they are known.
            image: [1, h, w] float32 in 0..1, the film in the network frame.
            folder: of this film alone.
            truth_known: whether a film without boxes is a normal one.

        Raises ``ReadError`` where the film's file can no longer be read, ``NotFiniteError`` where the detector computes
        NaN or infinity of it, or where a map holds some.
        """
        reading = self._read(image)
        chosen = reading.chosen(self.least_scores, self.most)
        maps = {name: reading.maps(cam, chosen).cpu() for name, cam in self.methods.items()} if chosen else {}
        folder.mkdir(parents=True, exist_ok=True)
        self._write_picture(film, folder / PICTURE)
        scale = np.array([image.shape[2] / film.width, image.shape[1] / film.height] * 2, np.float32)
        boxes = []
        for number, candidate in enumerate(chosen):
            of_box = {name: some[number] for name, some in maps.items()}
            names = {name: f"{name}-{number}.png" for name in of_box}
            for name, heatmap in of_box.items():
                write_map(folder / names[name], _in_original(heatmap, film))
            boxes.append(self._explained(film, reading, candidate, of_box, names, scale))
        marks = tuple(Marked(n, _box(b)) for n, b in zip(film.findings, film.boxes, strict=True))
        record = ExplainedFilm(film.study, film.patient, film.width, film.height, truth_known, marks, tuple(boxes))
        record.write(folder)
        return record

    @property
    def least_scores(self) -> float | Mapping[int, float]:
        """The threshold, by class where each finding has one."""
        if not isinstance(self.threshold, Mapping):
            return self.threshold
        return {self.findings.index(name): score for name, score in self.threshold.items()}

    def _read(self, image: Tensor) -> Reading:
        with watched(self.detector) as watch:
            reading = as_read(self.detector, image.to(next(self.detector.parameters()).device))
        if not watch.finite:
            raise NotFiniteError(NOT_FINITE.text)
        return reading

    def _explained(
        self,
        film: Film,
        reading: Reading,
        candidate: Candidate,
        maps: Mapping[str, Tensor],
        names: dict[str, str],
        scale: NDArray[np.float32],
    ) -> Explained:
        finding = self.findings.name(candidate.label)
        truth = film.boxes[[name == finding for name in film.findings]] * scale
        outcome = self._outcome(candidate, truth)
        return Explained(
            finding,
            candidate.score,
            _box((candidate.box.cpu().numpy() / scale).astype(np.float32)),
            outcome,
            names,
            {name: "blind" for name in names if not self.methods[name].knows_the_finding},
            {} if outcome == "suppressed" else self._figures(film, reading, candidate, maps, truth, outcome),
            candidate.disagreement if isinstance(candidate, FusedBox) else None,
        )

    def _outcome(self, candidate: Candidate, truth: NDArray[np.float32]) -> Outcome:
        if candidate.score < least_score(self.threshold, self.findings.name(candidate.label)):
            return "suppressed"
        overlaps = box_iou(candidate.box.cpu()[None], torch.from_numpy(truth))
        return "hit" if overlaps.numel() and overlaps.max() >= HIT_IOU else "false alarm"

    def _figures(
        self,
        film: Film,
        reading: Reading,
        candidate: Candidate,
        maps: Mapping[str, Tensor],
        truth: NDArray[np.float32],
        outcome: Outcome,
    ) -> dict[str, dict[str, float]]:
        """Return how good each map and baseline is.

        Localisation against the truth where the box is a hit (elsewhere the map explains a mistake, and pointing beside
        the finding may be right), faithfulness for every detection.
        """
        baselines = baseline_maps(reading.size, _box(candidate.box.cpu().numpy()), film.study, self.seed)
        every = {**maps, **{name: torch.from_numpy(heatmap) for name, heatmap in baselines.items()}}
        figures: dict[str, dict[str, float]] = {name: {} for name in every}
        if outcome == "hit":
            for name, heatmap in every.items():
                figures[name] |= localisation(heatmap.numpy(), [_box(box) for box in truth])
        if self.faithfulness:
            score = detector_score(self.detector, candidate.box, candidate.label)
            curves = deletion_insertion(reading.image, torch.stack(list(every.values())).to(reading.image), score)
            for name, areas in zip(every, curves, strict=True):
                figures[name] |= areas
        return figures

    def _write_picture(self, film: Film, path: Path) -> None:
        values = self.intensity(read_film(film.path))
        values = values if values.ndim == 2 else values[0]  # of several channels the first is shown
        values = without_text(values)
        shrink = min(1.0, PICTURE_SIDE / max(values.shape))
        size = max(1, round(values.shape[1] * shrink)), max(1, round(values.shape[0] * shrink))
        grey = np.uint8(np.clip(cv2.resize(values, size, interpolation=cv2.INTER_AREA), 0, 1) * 255 + 0.5)
        Image.fromarray(grey).save(path, quality=90)


def explain_films(
    dataset: RadiographDataset,
    explainer: Explainer,
    run: Path,
    truth_known: bool,
    failed: Callable[[Film, Exception], None],
) -> Iterator[Film]:
    """Explain each film of ``dataset`` that ``run`` does not hold yet, and yield every film once it is there.

    A film that cannot be read, or of which the detector or a map is not finite, is handed to ``failed`` with the
    reason, and the others go on. A film whose record is damaged is explained again. Raises ``OSError`` where the disk
    takes nothing more.
    """
    for index, (film, name) in enumerate(zip(dataset.films, folder_names(dataset.films), strict=True)):
        folder = run / "films" / name
        if whole_record(folder) is None:
            if (folder / RECORD).exists():
                _log.warning("%s is damaged: the film is explained again", folder / RECORD)
                (folder / RECORD).unlink()  # its maps will be others while it is being explained
            try:
                explainer.explain(film, dataset[index][0], folder, truth_known)
            except ValueError as error:  # ReadError and NotFiniteError are such
                failed(film, error)
        yield film


def folder_names(films: Sequence[Film]) -> list[str]:
    """Return a name for each film: its study's pseudonym, numbered from the study's second film on."""
    seen: dict[str, int] = {}
    names = []
    for film in films:
        seen[film.study] = seen.get(film.study, 0) + 1
        names.append(film.study if seen[film.study] == 1 else f"{film.study}-{seen[film.study]}")
    return names


def representative(films: Sequence[Film], findings: FindingVocabulary, most: int | None) -> list[int]:
    """Return the indices of at most ``most`` films, in their order, taken in turn from each category.

    So that a few films show all findings and normal. None takes all films.
    """
    if most is None or most >= len(films):
        return list(range(len(films)))
    queues = {name: [i for i, film in enumerate(films) if name in film.findings] for name in findings.names}
    queues[NORMAL] = [i for i, film in enumerate(films) if film.normal]
    chosen: dict[int, None] = {}
    while len(chosen) < most:
        for queue in queues.values():
            fresh = next((i for i in queue if i not in chosen), None)
            if fresh is not None and len(chosen) < most:
                chosen[fresh] = None
    return sorted(chosen)


def sanity_check(
    dataset: RadiographDataset, explainer: Explainer, progress: Callable[[], None] = lambda: None
) -> dict[str, dict[str, float]]:
    """Return method → part of the detector, from the output to the input → rank correlation.

    Of its maps with those of the trained detector once everything from the output to that part is random (Adebayo
    2018), inside the explained boxes: outside, a map of the cells a head read is zero whatever the weights are. The
    mean over the boxes explained on the films of ``dataset``, of those that have a map at all. Of an ensemble it is the
    mean over its members, each of which explains its own boxes.
    """
    likeness: dict[str, dict[str, list[float]]] = {name: {} for name in explainer.methods}
    device = next(explainer.detector.parameters()).device
    for index in range(len(dataset)):
        image = dataset[index][0].to(device)
        for detector in members_of(explainer.detector):
            reading = FilmReading(detector, image)
            chosen = reading.chosen(explainer.least_scores, explainer.most)
            if not chosen:
                continue
            trained = {name: cam(reading, chosen).cpu().numpy() for name, cam in explainer.methods.items()}
            for part, forgotten in randomised(detector, explainer.seed):
                blank = FilmReading(forgotten, image)
                for name, cam in explainer.methods.items():
                    likeness[name].setdefault(part, []).extend(_similarities(cam, blank, chosen, trained[name]))
        progress()
    return {name: {part: _mean(values) for part, values in parts.items()} for name, parts in likeness.items()}


def _similarities(
    cam: Cam, blank: FilmReading, chosen: Sequence[Candidate], trained: NDArray[np.float32]
) -> list[float]:
    """Return how alike the maps of each box are; none where random weights make a map that is not finite."""
    try:
        after = cam(blank, chosen).cpu().numpy()
    except NotFiniteError:
        return []
    pairs = zip(chosen, trained, after, strict=True)
    return [similarity(_cut(before, c), _cut(other, c)) for c, before, other in pairs]


def _cut(heatmap: NDArray[np.float32], candidate: Candidate) -> NDArray[np.float32]:
    x0, y0, x1, y1 = (int(edge) for edge in candidate.box)
    return heatmap[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _box(box: NDArray[np.float32]) -> Box:
    x0, y0, x1, y1 = (float(edge) for edge in box)
    return x0, y0, x1, y1


def _in_original(heatmap: Tensor, film: Film) -> NDArray[np.float32]:
    """Return a map [h, w] of the network frame in the film's own pixels, [height, width]."""
    size = (film.width, film.height)
    return cv2.resize(heatmap.numpy(), size, interpolation=cv2.INTER_LINEAR).astype(np.float32, copy=False)
