"""A run that is a trial of a search reports every epoch to it, and ends early where the search decides so."""

import warnings
from pathlib import Path

import optuna
from lightning.pytorch import Callback, LightningModule, Trainer
from optuna.pruners import BasePruner

from cxr.config.run_files import TRIAL
from cxr.files import read_mapping
from cxr.runs.search import STUDY


class Pruning(Callback):
    """Reports the monitored figure of each epoch to the trial of a study, and ends a run that the study prunes.

    Args:
        folder: of the run, in which the study has noted its trial.
        monitor: the figure.
        pruner: what decides; a storage does not keep it.

    ``pruned`` says afterwards whether it was.
    """

    def __init__(self, folder: Path, monitor: str, pruner: BasePruner) -> None:
        note = read_mapping(folder / TRIAL)
        study = optuna.load_study(study_name=STUDY, storage=note["storage"], pruner=pruner)
        trial_id = next(t._trial_id for t in study.get_trials(deepcopy=False) if t.number == note["number"])
        self._trial = optuna.trial.Trial(study, trial_id)
        self.monitor, self.pruned = monitor, False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Report, and stop after this epoch if the pruner says so."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # an epoch that a resumed run does again
            self._trial.report(float(trainer.callback_metrics[self.monitor]), trainer.current_epoch)
        if self._trial.should_prune():
            self.pruned = trainer.should_stop = True
