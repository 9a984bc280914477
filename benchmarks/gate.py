"""What the gate in front of a detector lets pass, and what a detector would have said of the rest, as Markdown.

    python benchmarks/gate.py CKPT OUT [--films 120] [--shared ../shared]

CKPT: any checkpoint of train.py on frontal films whose data are still there. Where it holds no model of its training
films, that model is made here, of the same films. ``--shared`` holds ``data/real_cxr`` (COCO) and ``data/dicom``; what
is missing is left out, with a word. Groups of films, none of which the detector was trained on:

- its own test films, which are what the others are compared with; drawn and real frontal films from elsewhere;
- other radiographs; drawn laterals and hands; noise;
- its own test films inverted against their header, turned by 90 and by 180 degrees, and cropped to a quarter.

All pass the part of the gate that looks at pixels, whatever their header states; "by header" counts the films that the
header alone would have stopped. AUROC: of the distance, between a group and the detector's own test films, with its
95 % interval (1000 resamples of the films). "Normal without": films that the operating point would have put aside as
normal if there were no gate; "with": those that pass the gate and are put aside.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from cxr.data.film_data import FilmDataModule
from cxr.data.inputs import Decoded
from cxr.detect.stream import sample
from cxr.detect.task import DetectionTask
from cxr.phantom.films import draw_phantom
from cxr.phantom.other_films import draw_hand, draw_lateral
from cxr.progress import track
from cxr.read.chest_films import ChestFilms
from cxr.read.dicom import ReadError, find_dicoms, read_film
from cxr.read.frame import at_working_size, to_longest_side
from cxr.read.known_films import likeness, small_picture
from cxr.read.preprocessing import Preprocessing
from cxr.read.radiograph import Radiograph, Window
from cxr.runs.checkpoint import Checkpoint, read_checkpoint
from cxr.runs.gate import known_films
from cxr.runs.restore import load_data, load_task, restored_intensity
from cxr.runs.restored_network import operating_point

OWN = "its own test films"
SEED = 20261
_SAME = 0.08  # mean difference of the ranks of two films below which they are one; other films differ by 0.11 or more

Films = Iterator[Radiograph]


@dataclass(frozen=True)
class Answer:
    """What gate and detector say of one film."""

    distance: float
    header: str
    pixels: str
    abnormal: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("out", type=Path, help="folder for gate.json and gate.md")
    parser.add_argument("--films", type=int, default=120, help="of each group at most (default 120)")
    parser.add_argument("--shared", type=Path, default=Path("../shared"), help="folder of data/real_cxr and data/dicom")
    parser.add_argument("--data", nargs="*", default=[], help="settings over the checkpoint's data: root=FOLDER")
    given = parser.parse_args()
    checkpoint = read_checkpoint(given.checkpoint)
    data = load_data(checkpoint, dict(word.split("=", 1) for word in given.data))
    data.prepare_data()
    data.setup()
    known = checkpoint.known or tuple(model for model in [known_films(data)] if model)
    if not known:
        parser.error(f"{given.checkpoint}: too few training films for a gate")
    gate = ChestFilms(checkpoint.size, checkpoint.kind, known)
    ask = _asking(gate, restored_intensity(checkpoint), load_task(checkpoint))
    answers = {
        name: [ask(film) for film in track(list(films), name)]
        for name, films in groups(data, given.shared, given.films).items()
    }
    write(given.out, checkpoint, gate, {name: some for name, some in answers.items() if some})


def groups(data: FilmDataModule, shared: Path, most: int) -> dict[str, Films]:
    """Return the films of each group, read or drawn one by one."""
    own = [film.path for film in data.films["test"]][:most]
    rng = np.random.default_rng(SEED)

    def changed(change: Callable[[NDArray[Any]], NDArray[Any]]) -> Films:
        return (replace(film, pixels=np.ascontiguousarray(change(film.pixels))) for film in map(read_film, own))

    def drawn(draw: Callable[[np.random.Generator, int], NDArray[np.uint16]]) -> Films:
        return (_as_film(draw(np.random.default_rng([SEED, n]), 1024)) for n in range(most))

    return {
        OWN: map(read_film, own),
        "drawn frontal films": drawn(
            lambda rng, size: draw_phantom(rng, size, None if rng.random() < 0.5 else ()).pixels
        ),
        "real frontal films": _read(_others(shared / "data" / "real_cxr" / "images", data), most),
        "real frontal DICOM films": _read(find_dicoms(shared / "data" / "dicom" / "chest"), most),
        "other radiographs": _read(find_dicoms(shared / "data" / "dicom" / "radiograph_other"), most),
        "drawn laterals": drawn(draw_lateral),
        "drawn hands": drawn(draw_hand),
        "inverted": (replace(film, photometric_interpretation=_other(film)) for film in map(read_film, own)),
        "turned by 90°": changed(lambda pixels: np.rot90(pixels, 1 + 2 * int(rng.integers(2)))),
        "turned by 180°": changed(lambda pixels: np.rot90(pixels, 2)),
        "cropped to a quarter": changed(lambda pixels: _quarter(pixels, rng)),
        "noise": drawn(_noise),
    }


def write(out: Path, checkpoint: Checkpoint, gate: ChestFilms, answers: Mapping[str, Sequence[Answer]]) -> None:
    """Write what was answered, and print it as a table."""
    point = operating_point(checkpoint)
    threshold = None if point is None else point.threshold
    rows = {name: _row(some, answers[OWN], threshold) for name, some in answers.items()}
    out.mkdir(parents=True, exist_ok=True)
    about = {"films": gate.known[0].films, "chosen_on": gate.known[0].chosen_on, "threshold": threshold}
    content = {"gate": about, "groups": rows, "answers": {k: [asdict(one) for one in v] for k, v in answers.items()}}
    (out / "gate.json").write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    headings = ["films", "refused", "why", "by header", "AUROC", "normal without", "with"]
    lines = [f"| | {' | '.join(headings)} |", "|---" * (len(headings) + 1) + "|"]
    lines += [f"| {name} | {' | '.join(str(row[key]) for key in headings)} |" for name, row in rows.items()]
    table = "\n".join(lines)
    (out / "gate.md").write_text(table + "\n", encoding="utf-8")
    print(f"gate of {about['films']} training films, chosen on {about['chosen_on']}; threshold {threshold}\n{table}")


def _row(some: Sequence[Answer], own: Sequence[Answer], threshold: float | None) -> dict[str, Any]:
    why = Counter(one.pixels for one in some if one.pixels)
    row: dict[str, Any] = {
        "films": len(some),
        "refused": sum(why.values()),
        "why": ", ".join(f"{cause} {count}" for cause, count in why.most_common()),
        "by header": sum(bool(one.header) for one in some),
        "AUROC": "" if some is own else _auroc([one.distance for one in own], [one.distance for one in some]),
    }
    normal = [one for one in some if threshold is not None and one.abnormal < threshold]
    return row | {"normal without": len(normal), "with": sum(not one.pixels for one in normal)}


def _auroc(inside: Sequence[float], outside: Sequence[float]) -> str:
    """Return the share of pairs in which the film from outside is farther, with its bootstrap interval."""
    own, other = np.array(inside), np.array(outside)
    further = (other[:, None] > own[None]) + 0.5 * (other[:, None] == own[None])
    rng = np.random.default_rng(0)
    drawn = [
        further[rng.integers(len(other), size=len(other))][:, rng.integers(len(own), size=len(own))].mean()
        for _ in range(1000)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return f"{further.mean():.3f} [{low:.3f}, {high:.3f}]"


def _asking(gate: ChestFilms, intensity: Preprocessing, task: DetectionTask) -> Callable[[Radiograph], Answer]:
    @torch.no_grad()
    def ask(film: Radiograph) -> Answer:
        height, width = film.pixels.shape
        stated = (film.body_part, film.view_position, film.modality, film.row_direction)
        header = gate.refusal(height, width, *stated)
        picture = at_working_size(film, intensity, gate.size)
        pixels = gate.refusal_by_pixels(picture)
        decoded = Decoded(to_longest_side(picture, gate.size), height, width, film.study, film.patient)
        image, target = sample(decoded)
        abnormal = float(task.detect([image], [target])[0]["abnormal"])
        causes = ["" if reason is None else reason.cause for reason in (header, pixels)]
        return Answer(likeness(gate.known, picture).distance, *causes, abnormal)

    return ask


def _read(paths: Sequence[Path], most: int) -> Films:
    for path in paths[:most]:
        try:
            yield read_film(path)
        except ReadError as error:
            print(f"left out: {type(error).__name__} of {path.name}")


def _others(folder: Path, data: FilmDataModule) -> list[Path]:
    """Return the films of a folder that the detector was not trained or chosen on."""
    if not folder.exists():
        print(f"left out: there is no {folder}")
        return []
    films = [film.path for split in ("train", "val", "test") for film in data.films[split]]
    taught = np.stack([small_picture(data.cache.get(path).pixels) for path in films])

    def taught_by(path: Path) -> bool:  # also as a copy in another format or with another window
        return bool(np.abs(taught - small_picture(data.cache.get(path).pixels)).mean((1, 2)).min() < _SAME)

    return [path for path in sorted(folder.iterdir()) if not taught_by(path)]


def _as_film(pixels: NDArray[np.uint16]) -> Radiograph:
    """Return drawn stored values as the film that ``cxr.phantom.course_layout`` would have written."""
    about: dict[str, Any] = {"modality": "CR", "pixel_intensity_relationship": "LOG", "windows": (Window(2048, 4096),)}
    return Radiograph(Path("drawn"), pixels, "MONOCHROME1", 12, "drawn", "drawn", **about)


def _noise(rng: np.random.Generator, size: int) -> NDArray[np.uint16]:
    grain = int(rng.choice([1, 4, 16, 64]))
    noise = rng.normal(2048, 700, (size // grain, size // grain)).clip(0, 4095).astype(np.float32)
    return np.asarray(cv2.resize(noise, (size, size), interpolation=cv2.INTER_NEAREST), np.uint16)


def _other(film: Radiograph) -> str:
    return "MONOCHROME2" if film.photometric_interpretation == "MONOCHROME1" else "MONOCHROME1"


def _quarter(pixels: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
    height, width = pixels.shape
    top, left = int(rng.integers(height // 2)), int(rng.integers(width // 2))
    return pixels[top : top + height // 2, left : left + width // 2]


if __name__ == "__main__":
    main()
