"""What each modality tells of phantom patients, and what is left where one is missing, as Markdown.

    python train.py experiment=fusion hydra.run.dir=outputs/fused
    python train.py experiment=fusion model.modalities=[film] hydra.run.dir=outputs/film
    python train.py experiment=fusion model.modalities=[volume] hydra.run.dir=outputs/volume
    python benchmarks/fusion.py outputs/fused outputs/film outputs/volume

Each network on the same test patients, and the first one again with the films and with the series taken away. AUC with
95 % intervals, bootstrap over patients.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from cxr.measure.intervals import Estimate
from cxr.measure.screening import roc_auc
from cxr.measure.studies import study_results
from cxr.runs.checkpoint import read_checkpoint
from cxr.runs.restore import load_study_data, load_study_task
from cxr.volume.fusion import MODALITIES
from cxr.volume.task import StudyTask


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders of train.py, the fused network first")
    given = parser.parse_args()
    print("| network | test patients with | AUC [95 %] |\n|---|---|---|")
    for number, run in enumerate(given.runs):
        checkpoint = read_checkpoint(run / "checkpoints" / "best.ckpt")
        task, data = load_study_task(checkpoint), load_study_data(checkpoint)
        data.prepare_data()
        data.setup()
        for taken in (None, *MODALITIES) if number == 0 else (None,):
            left = " and ".join(name for name in MODALITIES if name != taken)
            auc = measured(task, data.dataset("test"), [patient.patient for patient in data.films["test"]], taken)
            looks = " and ".join(checkpoint.config["model"]["modalities"])
            print(f"| {looks} | {left} | {auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}] |")


@torch.no_grad()
def measured(task: StudyTask, dataset: Any, patients: Sequence[str], taken: str | None) -> Estimate:
    """Return the AUC of the first finding on patients of whom the modality ``taken`` is taken away."""
    batches = [(batch, task.classify(batch)) for batch in without(dataset, taken)]
    item, labels = (torch.cat([batch[name] for batch, _ in batches]) for name in ("item", "labels"))
    scores = torch.cat([scores for _, scores in batches])
    return roc_auc(study_results(item.numpy(), scores.numpy(), labels.numpy(), patients), label=1)


def without(dataset: Any, taken: str | None) -> Iterator[dict[str, Tensor]]:
    for batch in DataLoader(dataset, batch_size=8):
        if taken is not None:
            batch["present"][:, MODALITIES.index(taken)] = False
        yield batch


if __name__ == "__main__":
    main()
