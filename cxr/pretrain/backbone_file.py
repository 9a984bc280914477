"""The file that pretraining leaves for ``model.backbone.weights=``, with a card of what it was learnt from."""

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cxr.data.film_digests import film_digests
from cxr.data.unmarked import UnmarkedDataModule
from cxr.detect.detector import name_of
from cxr.files import write_json
from cxr.learn.checkpoint_files import AtomicCheckpointIO
from cxr.pretrain.task import PretrainingTask


class BackboneFile(Callback):
    """After the test, write the weights of the best epoch to ``path``, and their card beside it as ``.json``.

    The file is plain data: ``torch.load(weights_only=True)`` gives {"state_dict": {"pyramid.…": tensor}, "cxr": card}.
    The card names no patient, file or folder. Under ``seen`` the first file holds a digest of each film's pixels, also
    of those that the weights it began with have seen. By it a training knows its test films again
    (``cxr.runs.pretrained_films``).
    """

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write both files."""
        if not trainer.is_global_zero or not isinstance(pl_module, PretrainingTask):
            return
        data: UnmarkedDataModule = trainer.datamodule  # type: ignore[attr-defined]  # not declared by Lightning
        figures = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("test/")}
        card = card_of(data, pl_module.card, figures)
        state = {f"pyramid.{name}": value.cpu() for name, value in pl_module.pyramid.state_dict().items()}
        films = [film for some in data.films.values() for film in some]
        seen = film_digests(films, data.cache)
        if (before := pl_module.card["films"].get("pretrained")) is not None:  # that the weights of its start have seen
            seen = np.union1d(seen, before.numpy())
        AtomicCheckpointIO().save_checkpoint(
            {"state_dict": state, "cxr": {**card, "seen": torch.from_numpy(seen)}}, self.path
        )
        write_json(self.path.with_suffix(".json"), card)
        trainer.print(f"for a detector: model.backbone.weights={self.path}")


def card_of(data: UnmarkedDataModule, task_card: Mapping[str, Any], figures: Mapping[str, float]) -> dict[str, Any]:
    """Return what a backbone was learnt from, in plain values.

    Args:
        data: the films it saw.
        task_card: of the training (``Training.card``), with its config, fingerprint and versions.
        figures: of its best epoch, by name.
    """
    films = [film for some in data.films.values() for film in some]
    config = task_card["config"]
    return {
        "films": {split: len(some) for split, some in data.films.items() if split != "test"},
        "patients": len({film.patient for film in films}),
        "left_out": data.left_out,
        "marked_films_known": data.marked is not None,
        "kind": data.kind,
        "modalities": sorted({data.cache.modality(film.path)[0] for film in films}),
        "size": data.size,
        "intensity": data.cache.intensity.fingerprint(),
        "views": {**config["data"]["views"], "pixels": data.views.pixels(data.size)},
        "model": name_of(config["model"]),
        "epochs": config["trainer"]["max_epochs"],
        "batch_size": data.batch_size,
        "seed": config["seed"],
        "data": task_card["data"],
        "versions": {**task_card["versions"], "lightly": importlib.metadata.version("lightly")},
        "figures": dict(sorted(figures.items())),
    }
