"""Pictures of a run on volumes: three planes with Grad-CAM, in TensorBoard and in the folder of the run."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from lightning.pytorch import Callback, LightningModule, Trainer
from PIL import Image
from torch import Tensor

from cxr.learn.tensorboard import show_pictures
from cxr.volume.explain import study_picture
from cxr.volume.task import StudyTask
from cxr.volume.views import stacked


class StudyPictures(Callback):
    """Show validation studies in TensorBoard after each epoch, and write a picture of test studies.

    Each study is shown as three planes through the peak of the Grad-CAM of the finding with the highest score. If there
    are several processes, the first one shows studies of its own share.

    ``studies`` is how many are shown. ``planes.png`` is written into ``folder``, that of the run, after the test.
    """

    def __init__(self, folder: str, studies: int = 6) -> None:
        self.folder = Path(folder)
        self.studies = studies
        self._pictures: list[Image.Image] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Draw studies of the batch until ``studies`` are drawn."""
        self._draw(trainer, cast(StudyTask, pl_module), outputs["measured"], batch, "val")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the pictures to TensorBoard."""
        show_pictures(trainer, self._pictures)
        self._pictures = []

    def on_test_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *args: Any, **kwargs: Any
    ) -> None:
        """Draw studies of the batch until ``studies`` are drawn."""
        self._draw(trainer, cast(StudyTask, pl_module), outputs["measured"], batch, "test")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the pictures, one below the other."""
        if self._pictures:
            stacked(self._pictures).save(self.folder / "planes.png")
        self._pictures = []

    def _draw(self, trainer: Trainer, task: StudyTask, scores: Tensor, batch: Mapping[str, Tensor], split: str) -> None:
        if not trainer.is_global_zero:
            return
        studies = trainer.datamodule.films[split]  # type: ignore[attr-defined]  # not declared by Lightning
        for sample, score in zip(_samples(batch), scores, strict=True):
            if len(self._pictures) >= self.studies:
                return
            study = studies[int(sample["item"])]
            name = task.findings.names[int(score.argmax())]
            marked = ", ".join(task.findings.label(name) for name in study.findings) or "normal"
            caption = f"{study.study} · {task.findings.label(name)} {float(score.max()):.2f} · marked: {marked}"
            self._pictures.append(study_picture(task, sample, task.findings.index(name), caption)[0])


def _samples(batch: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    for row in range(len(batch["item"])):
        yield {name: values[row] for name, values in batch.items()}
