"""One run of annotate.py: films for annotators, with our boxes to be corrected, those that teach most first.

A folder holds ``pictures/``, what the annotators' tool takes (``cxr.report.annotation_tasks``), and ``result.json``.
``key.json`` (``cxr.data.annotation_key``) says which film is behind which picture; what comes back is read with it. As
in a prediction, ``films.jsonl`` is what a run that was killed goes on from, and ``key.csv`` its key.
"""

import importlib.metadata
import shlex
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from PIL import Image

from cxr.config.entry import resolved
from cxr.config.errors import ConfigError
from cxr.config.run_files import COMMAND
from cxr.data.annotation_key import KEY, KeyEntry, write_key
from cxr.data.inputs import Decode
from cxr.detect.prediction import Prediction
from cxr.findings import FindingVocabulary
from cxr.installation import command
from cxr.report.algorithm import Algorithm
from cxr.report.annotation_order import doubt
from cxr.report.annotation_pictures import AnnotationPictures
from cxr.report.annotation_tasks import write_coco, write_cvat, write_labelstudio
from cxr.report.film_files import PICTURES
from cxr.report.film_key import FilmKey
from cxr.report.journal import Journal
from cxr.runs.folder import held
from cxr.runs.gate import gate
from cxr.runs.given_films import films_at
from cxr.runs.named_detector import shown_from
from cxr.runs.predict import Parts, refuse_other_films
from cxr.runs.predict_exported import RUNTIMES, restored
from cxr.runs.restore import intensity_of_films
from cxr.runs.restored_network import operating_point
from cxr.runs.result import tell, typed, warn, warn_without_key, write_result

TOOLS = ("labelstudio", "cvat", "coco")
_LEAST_SIDE = 256  # px; on a smaller picture nobody sees a finding


def opened(cfg: DictConfig) -> AbstractContextManager[Path]:
    """Hold the run folder of ``cfg``; refuse one begun with other settings."""
    if cfg.to not in TOOLS:
        raise ConfigError(f"to is {cfg.to!r}, expected one of {', '.join(TOOLS)}")
    if cfg.longest is not None and not (isinstance(cfg.longest, int) and cfg.longest >= _LEAST_SIDE):
        raise ConfigError(
            f"longest is {cfg.longest!r}, expected {_LEAST_SIDE} px or more, or null for films as they are"
        )
    if cfg.runtime not in RUNTIMES:
        raise ConfigError(f"runtime is {cfg.runtime!r}, expected one of {', '.join(RUNTIMES)}")
    return held(cfg, may_differ=("run_dir", "batch", "workers"))


def instantiate(cfg: DictConfig, folder: Path) -> Parts:
    """Restore the detector and find the films. Raises ``ConfigError`` as a prediction does."""
    plain = resolved(cfg)
    named = restored(plain["ckpt"], str(cfg.runtime), cfg.batch, cfg.trust, plain["members"], plain["views"])
    checkpoint, threshold = named.checkpoint, shown_from(cfg.threshold, named.thresholds)
    try:
        films = films_at(Path(cfg.images))
    except (ValueError, OSError) as error:  # of the films and their tables, in words for their owner
        raise ConfigError(f"images: {error}") from error
    refuse_other_films(folder, named.digest, films.digest)
    point = operating_point(checkpoint)
    algorithm = Algorithm(importlib.metadata.version("cxr"), named.digest, threshold, point)
    pictures = AnnotationPictures(folder, checkpoint.findings, algorithm, True, False, longest=cfg.longest)
    rule = gate(checkpoint, cfg.gate)
    decode = Decode(intensity_of_films(checkpoint), rule.size, rule.kind, rule.known)
    return Parts(plain, named.task, decode, films, pictures, None, named.members > 1)


def report(parts: Parts, folder: Path) -> None:
    """Put the pictures in order, write the key and the tool's files, and say what to do with them.

    Raises ``OSError`` where the disk does not take them.
    """
    algorithm = parts.files.algorithm
    model = f"cxr {algorithm.version} {algorithm.digest}"
    with Journal(folder) as journal:
        FilmKey(folder).put_in_order()
        films = _in_order(parts, journal, folder)
        refused = sum(done.not_assessed is not None and not done.failed for done in journal)
        failed = [done.failed or done.note for done in journal if done.failed or done.note]
    write_key(folder / KEY, model, films)
    _writer(parts.cfg)(folder, films, parts.files.findings, model)
    boxes = sum(len(film.boxes) for film in films.values())
    result = {"films": len(films), "boxes": boxes, "not_assessed": refused, "failed": len(failed), "problems": failed}
    write_result(folder, parts.started, {**result, "key": f"{KEY} and key.csv hold identities: keep them to yourself"})
    for line in failed:
        warn(line)
    if refused:
        warn(f"{refused} films are no frontal chest films that the detector may assess, and are left out")
    warn(f"{folder / KEY} holds identities (paths): it stays here, and reads what comes back")
    warn_without_key()
    tell(f"{len(films)} films with {boxes} boxes · {folder}")
    root = {"labelstudio": "EXPORT.json", "cvat": "annotations.xml", "coco": "EXPORT.json"}[parts.cfg["to"]]
    words = f"{command('train')} data={parts.cfg['to']} data.root={root} data.read.key={folder}{_as_trained(parts.cfg)}"
    tell(f"when it is back: {words}")


def _as_trained(cfg: Mapping[str, Any]) -> str:
    """Return the words that train the same detector on, from its weights; "" for one whose training is not known."""
    ckpt = cfg["ckpt"]
    run = Path(ckpt).absolute().parent.parent if isinstance(ckpt, str) and Path(ckpt).is_file() else None
    if run is None or not (run / COMMAND).is_file():
        return ""
    of_model = ("experiment=", "model=", "model/", "model.", "intensity=")
    chosen = [word for word in typed(run) if word.startswith(of_model) and not word.startswith("model.weights=")]
    return f" {shlex.join([*chosen, f'model.weights={ckpt}'])}"


def _writer(cfg: Mapping[str, str]) -> Callable[[Path, Mapping[str, KeyEntry], FindingVocabulary, str], None]:
    if cfg["to"] == "labelstudio":
        return partial(write_labelstudio, address=cfg["address"])
    return write_cvat if cfg["to"] == "cvat" else write_coco


def _in_order(parts: Parts, journal: Journal, folder: Path) -> dict[str, KeyEntry]:
    """Return the films that have a picture by its name, which begins with their place: tools sort by name.

    The pictures get these names now. Where a kill stopped that, the same command goes on with it.
    """
    threshold = parts.files.algorithm.threshold
    ranked = sorted(
        ((doubt(film, threshold), name, film) for name, film in journal.predictions()),
        key=lambda one: (one[0], -one[2].number), reverse=True,
    )  # fmt: skip
    films: dict[str, KeyEntry] = {}
    digits = max(4, len(str(len(ranked))))
    for place, (_, name, film) in enumerate(ranked, start=1):
        picture = f"{place:0{digits}d}-{name}.png"
        before, now = folder / PICTURES / f"{name}.png", folder / PICTURES / picture
        if before.is_file():
            before.replace(now)
        if now.is_file():
            films[picture] = _entry(parts, film, now)
    return films


def _entry(parts: Parts, film: Prediction, picture: Path) -> KeyEntry:
    shown = film.shown(parts.files.algorithm.threshold)
    with Image.open(picture) as image:
        width, height = image.size
    return KeyEntry(
        path=str(parts.films[film.number].path.absolute()),
        study=film.study,
        patient=film.patient,
        width=film.width,
        height=film.height,
        picture_width=width,
        picture_height=height,
        boxes=tuple(film.boxes[n] for n in shown),
        findings=tuple(film.findings[n] for n in shown),
        scores=tuple(film.scores[n] for n in shown),
        ids=tuple(f"{picture.stem}-{n}" for n in range(1, len(shown) + 1)),
    )
