"""Why the classical maps are poor on detectors, step by step: hit rate and energy inside the true box.

    python benchmarks/maps.py CKPT --out maps.json        CKPT: of `make demo`, or any of train.py on boxes
    make bench: {demo} --out {json} --films 30

On the checkpoint's own test films, for each true finding that was found (score 0.3 and up, IoU 0.5 and up). Each method
twice: as a classifier's (`paper`: the formula on the box's own level, grad-cam's where it has it), and as shipped
(`read`: weighted by how much of each cell the head read; for AblationCAM also what was taken from a cell, not what it
holds). Means over findings.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytorch_grad_cam as library
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torchvision.ops import box_iou

from cxr.detect.candidates import Candidate
from cxr.explain.ablation import AblationCam
from cxr.explain.cam import BoxCam, Cam, EigenCam
from cxr.explain.library import LibraryCam
from cxr.explain.reading import FilmReading
from cxr.explain.saliency import Saliency
from cxr.explain.scores import baseline_maps, localisation
from cxr.progress import track
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import load_data, load_task

Measured = dict[str, dict[str, list[dict[str, float]]]]  # map → finding → figures of each box


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--out", type=Path, default=Path("maps.json"))
    parser.add_argument("--films", type=int, help="at most so many")
    given = parser.parse_args()
    checkpoint = read_checkpoint(given.checkpoint)
    task, data = load_task(checkpoint), load_data(checkpoint)
    data.prepare_data()
    data.setup()
    films = data.dataset("test")
    measured: Measured = {}
    for index in track(range(min(given.films or len(films), len(films))), "measuring"):
        image, target = films[index]
        reading = FilmReading(task.detector, image)
        for candidate in reading.chosen(0.3, most=99):
            truth = target["boxes"][target["labels"] == candidate.label]
            if len(truth) and box_iou(candidate.box[None], truth).max() >= 0.5:
                finding = task.findings.name(candidate.label)
                for name, heat in maps_of(reading, candidate, str(index)).items():
                    figures = localisation(heat, [tuple(box) for box in truth.tolist()])
                    measured.setdefault(name, {}).setdefault(finding, []).append(figures)
    rows = [{"map": name, **means(found)} for name, found in measured.items()]
    boxes = sum(len(some) for some in next(iter(measured.values())).values())
    given.out.write_text(json.dumps({"boxes": boxes, "maps": rows}, indent=2) + "\n", encoding="utf-8")
    table = Table("map", "hit rate", "energy inside", title=f"Mean over findings, {boxes} boxes")
    for row in rows:
        table.add_row(str(row["map"]), f"{row['hit']:.2f}", f"{row['energy']:.2f}")
    Console().print(table)


OF_THE_LIBRARY = {
    "Grad-CAM": library.GradCAM,
    "Grad-CAM++": library.GradCAMPlusPlus,
    "XGrad-CAM": library.XGradCAM,
    "HiResCAM": library.HiResCAM,
    "LayerCAM": library.LayerCAM,
    "Score-CAM": library.ScoreCAM,
}
COMPONENTS = {"Eigen-Grad-CAM": library.EigenGradCAM, "KPCA-CAM": library.KPCA_CAM}


def both_ways() -> tuple[dict[str, Cam], dict[str, Cam]]:
    """Return the methods as their papers have them, and as they are shipped."""
    papers: dict[str, Cam] = {"EigenCAM": LibraryCam(library.EigenCAM, grounded=False, signed=False)}
    shipped: dict[str, Cam] = {"EigenCAM": EigenCam(), "box-level": BoxCam(), "AblationCAM": AblationCam()}
    for name, method in (*OF_THE_LIBRARY.items(), *COMPONENTS.items()):
        papers[name] = LibraryCam(method, grounded=False, signed=name not in COMPONENTS)
        shipped[name] = LibraryCam(method, signed=name not in COMPONENTS)
    return papers, shipped


def maps_of(reading: FilmReading, candidate: Candidate, film: str) -> dict[str, np.ndarray]:
    papers, shipped = both_ways()
    maps = {f"{name}, paper": cam(reading, [candidate])[0] for name, cam in papers.items()}
    maps["AblationCAM, paper"] = reading.on_film(ablationcam_of_the_paper(reading, candidate).clamp(min=0))
    maps |= {f"{name}, read": cam(reading, [candidate])[0] for name, cam in shipped.items()}
    maps["saliency"] = Saliency()(reading, [candidate])[0]
    baselines = baseline_maps(reading.size, tuple(candidate.box.tolist()), film)
    return {name: heat.detach().numpy() for name, heat in sorted(maps.items())} | baselines


@torch.no_grad()
def ablationcam_of_the_paper(reading: FilmReading, candidate: Candidate) -> Tensor:
    level = reading.level(candidate)
    drops = reading.heads.log_odds(level, candidate) - AblationCam("zero").ablated(reading, candidate)
    return torch.einsum("c,chw->hw", drops, level[0])


def means(found: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    def mean(figure: str, some: Sequence[dict[str, float]]) -> float:
        return float(np.mean([figures[figure] for figures in some]))

    return {figure: float(np.mean([mean(figure, some) for some in found.values()])) for figure in ("hit", "energy")}


if __name__ == "__main__":
    main()
