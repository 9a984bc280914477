"""Pictures of a training in TensorBoard."""

from collections.abc import Sequence

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image


def show_pictures(trainer: Trainer, pictures: Sequence[Image.Image]) -> None:
    """Send pictures of the current epoch to the loggers that are TensorBoard's, as ``validation/<number>``."""
    for logger in trainer.loggers:
        if isinstance(logger, TensorBoardLogger):
            for i, picture in enumerate(pictures):
                logger.experiment.add_image(
                    f"validation/{i}", np.asarray(picture), trainer.current_epoch, dataformats="HWC"
                )
