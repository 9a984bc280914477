"""What taking bones and vessels off does to detection and to maps, side by side on the same test films, as Markdown.

    python evaluate.py ckpt=PLAIN.ckpt,SUPPRESSED.ckpt hydra.run.dir=outputs/both
    python explain.py ckpt=PLAIN.ckpt films=null hydra.run.dir=outputs/maps_plain
    python explain.py ckpt=SUPPRESSED.ckpt films=null hydra.run.dir=outputs/maps_suppressed
    python benchmarks/suppression.py outputs/both outputs/maps_plain outputs/maps_suppressed

Reads ``metrics.json`` and ``cam_scores.csv`` of these folders and measures nothing itself.
"""

import argparse
import csv
import json
from pathlib import Path

MAPS = ("ablationcam", "gradcam", "box")
DETECTION = {"ap": "AP", "ap50": "AP50", "sensitivity@1fp": "sensitivity at 1 false positive a film"}

Interval = tuple[float | None, ...]  # value, low, high; None where too few films tell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluation", type=Path, help="folder of evaluate.py with two checkpoints: plain, suppressed")
    parser.add_argument("plain", type=Path, help="folder of explain.py")
    parser.add_argument("suppressed", type=Path, help="folder of explain.py")
    given = parser.parse_args()
    rows = [*detection(given.evaluation / "metrics.json")]
    rows += maps(given.plain / "cam_scores.csv", given.suppressed / "cam_scores.csv")
    print("| | film | suppressed |\n|---|---|---|")
    for name, film, suppressed in rows:
        print(f"| {name} | {shown(film)} | {shown(suppressed)} |")


def detection(path: Path) -> list[tuple[str, Interval, Interval]]:
    """Return the rows of the mean over findings of two checkpoints. Raises ``ValueError`` where there are not two."""
    checkpoints = json.loads(path.read_text(encoding="utf-8"))["checkpoints"]
    if len(checkpoints) != 2:
        raise ValueError(f"{path} has {len(checkpoints)} checkpoints, expected two: evaluate.py ckpt=PLAIN,SUPPRESSED")
    both = [checkpoint["all_findings"] for checkpoint in checkpoints.values()]
    return [
        (label, *(tuple(one[key][k] for k in ("value", "low", "high")) for one in both))
        for key, label in DETECTION.items()
    ]


def maps(plain: Path, suppressed: Path) -> list[tuple[str, Interval, Interval]]:
    """Return the rows of energy inside the true box, mean over findings, of each method that both folders have."""
    first, second = (energies(path) for path in (plain, suppressed))
    return [(f"energy inside, {name}", first[name], second[name]) for name in MAPS if name in first and name in second]


def energies(path: Path) -> dict[str, Interval]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["finding"], row["figure"]) == ("all", "energy")]
    return {row["method"]: (float(row["value"]), float(row["low"]), float(row["high"])) for row in rows}


def shown(interval: Interval) -> str:
    value, low, high = ("–" if one is None else f"{one:.3f}" for one in interval)
    return f"{value} [{low}, {high}]"


if __name__ == "__main__":
    main()
