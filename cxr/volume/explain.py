"""Studies explained: which finding a network saw, and where in the volume, as pictures of three planes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from cxr.detect.finite import NotFiniteError
from cxr.files import read_mapping, write_json
from cxr.findings import FindingVocabulary
from cxr.progress import track
from cxr.volume.cam import grad_cam
from cxr.volume.task import StudyTask
from cxr.volume.views import captioned, planes


@dataclass(frozen=True)
class ExplainedFinding:
    """One finding of a study: its score 0..1, whether it is marked, and the map's picture and highest voxel (z, y, x).

    ``peak`` is None where the map is zero everywhere, because nothing raised the finding's logit.
    """

    finding: str
    score: float
    marked: bool
    picture: str
    peak: tuple[int, int, int] | None


@dataclass(frozen=True)
class ExplainedStudy:
    """The content of ``study.json``: pseudonyms, marked findings, scores of all findings, and explained findings."""

    study: str
    patient: str
    marked: tuple[str, ...]
    scores: Mapping[str, float]
    explained: tuple[ExplainedFinding, ...]


def explain_studies(
    task: StudyTask,
    dataset: Dataset[dict[str, Tensor]],
    studies: Sequence[Any],
    folder: Path,
    findings: FindingVocabulary,
    count: int | None = 16,
    findings_per_study: int = 2,
    language: str = "en",
    failed: Callable[[str, Exception], None] | None = None,
) -> list[tuple[Path, ExplainedStudy]]:
    """Write ``studies/<study>/`` with a picture a finding, the map and ``study.json``; return the folder of each study.

    A study with a ``study.json`` is not explained again, unless that file is damaged. Where a study's scores or map are
    not finite, ``failed`` is called, if it is given, with the study's pseudonym and the reason, and there is no record.

    ``dataset`` holds samples of ``studies``, in the same order. ``count`` studies are taken in turn from each finding
    and from normal ones (None takes all), and of each the ``findings_per_study`` findings with the highest scores.
    """
    done = []
    for index in track(in_turn(studies, findings, count), "explaining"):
        name = studies[index].study
        if earlier := sum(study.study == name for study in studies[:index]):  # earlier series of the same study
            name = f"{name}-{earlier + 1}"
        study_folder = folder / "studies" / name
        record = _read(study_folder)
        if record is None:
            study_folder.mkdir(parents=True, exist_ok=True)
            (study_folder / "study.json").unlink(missing_ok=True)  # a damaged one
            try:
                _explain(task, dataset[index], studies[index], study_folder, findings, findings_per_study, language)
            except NotFiniteError as error:
                if failed is None:
                    raise
                failed(studies[index].study, error)
            record = _read(study_folder)
        if record is not None:
            done.append((study_folder, record))
    return done


def in_turn(studies: Sequence[Any], findings: FindingVocabulary, count: int | None) -> list[int]:
    """Return the indices of ``count`` studies, taken in turn from those of each finding and from the normal ones."""
    groups = [[i for i, study in enumerate(studies) if name in study.findings] for name in findings.names]
    groups.append([i for i, study in enumerate(studies) if study.normal])
    turns = [group[turn] for turn in range(len(studies)) for group in groups if turn < len(group)]
    return list(dict.fromkeys(turns))[:count]


def study_picture(
    task: StudyTask, sample: Mapping[str, Tensor], label: int, caption: str
) -> tuple[Image.Image, NDArray[np.float32]]:
    """Return the three planes through the peak of a finding's Grad-CAM, with the map over them, and the map [D, H, W].

    ``sample`` is one study, as a data set gives it; ``label`` is 1..K; ``caption`` stands above the planes.
    """
    batch = {name: values[None].to(task.device) for name, values in sample.items()}
    heat = grad_cam(task, batch, label)[0].cpu().numpy()
    volume = sample["volume"].float().cpu().numpy()
    return captioned(planes(volume, heat=heat, at=peak_of(heat)), caption), heat


def peak_of(heat: NDArray[np.float32]) -> tuple[int, int, int] | None:
    """Return the highest voxel of a map, None if the map is zero everywhere."""
    if heat.max() <= 0:
        return None
    z, y, x = (int(place) for place in np.unravel_index(int(heat.argmax()), heat.shape))
    return z, y, x


def _explain(
    task: StudyTask,
    sample: dict[str, Tensor],
    study: Any,
    folder: Path,
    findings: FindingVocabulary,
    most: int,
    language: str,
) -> None:
    batch = {name: values[None].to(task.device) for name, values in sample.items()}
    scores = task.eval().classify(batch)[0].cpu()
    if not bool(torch.isfinite(scores).all()):
        raise NotFiniteError("the network's scores are not finite: NaN or infinity")
    explained = []
    for label in (torch.argsort(scores, descending=True)[:most] + 1).tolist():
        name, score = findings.name(label), float(scores[label - 1])
        caption = f"{study.study} · {findings.label(name, language)} {score:.2f}"
        picture, heat = study_picture(task, sample, label, caption)
        if not np.isfinite(heat).all():
            raise NotFiniteError(f"the map of {name} is not finite: NaN or infinity")
        picture.save(folder / f"{name}.png")
        np.save(folder / f"{name}.npy", np.uint8(heat * 255 + 0.5))
        explained.append(ExplainedFinding(name, score, name in study.findings, f"{name}.png", peak_of(heat)))
    by_name = dict(zip(findings.names, scores.tolist(), strict=True))
    record = ExplainedStudy(study.study, study.patient, tuple(study.findings), by_name, tuple(explained))
    write_json(folder / "study.json", asdict(record), allow_nan=False)


def _read(folder: Path) -> ExplainedStudy | None:
    """Return the record of a study, None where it is absent or damaged."""
    try:
        fields = read_mapping(folder / "study.json")
        explained = tuple(
            ExplainedFinding(**{**one, "peak": tuple(one["peak"]) if one["peak"] else None})
            for one in fields["explained"]
        )
        return ExplainedStudy(**{**fields, "marked": tuple(fields["marked"]), "explained": explained})
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
