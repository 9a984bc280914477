"""How many films of its own kind a gate refuses, and how many drawn laterals, over random divisions of the films.

    python benchmarks/gate_refusals.py ROOT [--size 256] [--divisions 180/36x6 100/20x4]

No detector is trained: a gate needs the films alone. Each division takes patients at random: so many films to learn
from, so many that choose the distance, and all others to be tested. The films are read as a training reads them
(``intensity=log_window``).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cxr.data.film import Film
from cxr.data.sources.layouts import read_films, vocabulary_of
from cxr.phantom.other_films import draw_lateral
from cxr.progress import track
from cxr.read.chest_films import ChestFilms
from cxr.read.dicom import read_film
from cxr.read.frame import at_working_size
from cxr.read.intensity import Intensity, LogWindow
from cxr.read.known_films import KnownFilms, Values, learn, small_picture
from cxr.read.radiograph import Radiograph, Window

SEED, LATERALS = 20261, 120
DIVISIONS = ("180/36x6", "209/23x6", "100/20x4", "40/8x4")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="films of frontal chests, in any layout that the project reads")
    parser.add_argument("--size", type=int, default=256, help="longest side in px of the pictures (default 256)")
    parser.add_argument("--divisions", nargs="+", default=DIVISIONS, help="TRAINED/VALIDATEDxTIMES …")
    given = parser.parse_args()
    films = read_films(given.root, vocabulary_of(given.root))
    intensity = Intensity([LogWindow()])
    pixels = [at_working_size(read_film(film.path), intensity, given.size) for film in track(films, "reading")]
    pictures = [small_picture(one) for one in pixels]
    drawn = (_lateral(n) for n in range(LATERALS))
    laterals = [at_working_size(film, intensity, given.size) for film in track(drawn, "laterals", LATERALS)]
    print(f"{len(films)} films of {len({film.patient for film in films})} patients")
    print("| to train | to validate | divisions | own films refused | drawn laterals refused |\n|---|---|---|---|---|")
    for words in given.divisions:
        counts, _, times = words.partition("x")
        train, validate = (int(count) for count in counts.split("/"))
        own, tested, other = 0, 0, 0
        for number in range(int(times)):
            order = _by_patient(films, np.random.default_rng([SEED, train, number]))
            model = _learnt(pictures, order[:train], order[train : train + validate])
            gate = ChestFilms(given.size, "radiograph", (model,))
            left = order[train + validate :]
            own += sum(gate.refusal_by_pixels(pixels[n]) is not None for n in left)
            tested += len(left)
            other += sum(gate.refusal_by_pixels(film) is not None for film in laterals)
        all_laterals = LATERALS * int(times)
        shares = (f"{own} of {tested} ({own / tested:.1%})", f"{other} of {all_laterals} ({other / all_laterals:.0%})")
        print(f"| {train} | {validate} | {times} | {' | '.join(shares)} |", flush=True)


def _lateral(number: int) -> Radiograph:
    pixels = draw_lateral(np.random.default_rng([SEED, number]), 1024)
    return Radiograph(Path("drawn"), pixels, "MONOCHROME1", 12, "drawn", "drawn", windows=(Window(2048, 4096),))


def _learnt(pictures: Sequence[Values], train: Sequence[int], validate: Sequence[int]) -> KnownFilms:
    model = learn([pictures[n] for n in train], [pictures[n] for n in validate])
    if model is None:
        raise SystemExit(f"{len(train)} films to train on and {len(validate)} to validate on are too few for a gate")
    return model


def _by_patient(films: Sequence[Film], rng: np.random.Generator) -> list[int]:
    """Return the places of the films in a random order of the patients, those of a patient side by side."""
    patients = sorted({film.patient for film in films})
    rank = {patient: int(n) for patient, n in zip(patients, rng.permutation(len(patients)), strict=True)}
    return sorted(range(len(films)), key=lambda n: rank[films[n].patient])


if __name__ == "__main__":
    main()
