"""A study of Optuna: what it asks for, what it keeps, and when it ends a run."""

from pathlib import Path
from types import SimpleNamespace

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.pruners import MedianPruner
from optuna.samplers import TPESampler

from cxr.runs.pruning import Pruning
from cxr.runs.search import Study, Trial

SPACE = {"optimizer.lr": FloatDistribution(0.001, 0.1, log=True)}
MONITOR = "val/map_50"


@pytest.fixture
def storage(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/study.db"


def opened(storage: str, trials: int) -> Study:
    study = Study(trials, storage, TPESampler(seed=0), MedianPruner(n_startup_trials=1, n_warmup_steps=0))
    study.open()
    return study


def test_a_trial_that_was_cut_off_comes_first_with_its_values(storage: str) -> None:
    study = opened(storage, trials=4)
    cut_off = study.next(SPACE, most=2)[1]
    study.tell(Trial(0, {}), 0.5)
    again = opened(storage, trials=4)
    one, other = again.next(SPACE, most=2)
    assert one == cut_off
    assert other.number == 2
    assert other.values != cut_off.values
    for trial in (one, other):
        again.tell(trial, 0.1)
    (last,) = again.next(SPACE, most=2)
    again.tell(last, None)
    assert again.next(SPACE, most=2) == []
    states = [trial.state.name for trial in optuna.load_study(study_name="cxr", storage=storage).trials]
    assert states == ["COMPLETE", "COMPLETE", "COMPLETE", "FAIL"]


def epoch(pruning: Pruning, number: int, score: float) -> bool:
    """Whether the run goes on after an epoch with this score."""
    trainer = SimpleNamespace(callback_metrics={MONITOR: score}, current_epoch=number, should_stop=False)
    pruning.on_train_epoch_end(trainer, None)
    assert pruning.pruned == trainer.should_stop
    return not trainer.should_stop


def test_a_run_below_the_median_of_the_others_ends(storage: str, tmp_path: Path) -> None:
    study = opened(storage, trials=3)
    pruner = MedianPruner(n_startup_trials=1, n_warmup_steps=0)
    good, poor, better = study.next(SPACE, most=3)
    runs = []
    for trial in (good, poor, better):
        study.mark(tmp_path / str(trial.number), trial)
        runs.append(Pruning(tmp_path / str(trial.number), MONITOR, pruner))
    assert epoch(runs[0], 0, 0.6)
    assert epoch(runs[0], 1, 0.7)
    study.tell(good, 0.7)
    assert not epoch(runs[1], 0, 0.2)
    study.tell(poor, None, pruned=True)
    assert epoch(runs[2], 0, 0.65)
    assert epoch(runs[2], 0, 0.65)  # resumed: the epoch is told again, and nothing said of it
    states = [trial.state.name for trial in optuna.load_study(study_name="cxr", storage=storage).trials]
    assert states == ["COMPLETE", "PRUNED", "RUNNING"]


@pytest.mark.parametrize(("trials", "seeds"), [(0, 1), (1, 0)])
def test_a_study_of_nothing_is_refused(storage: str, trials: int, seeds: int) -> None:
    with pytest.raises(ValueError, match="expected 1 or more of each"):
        Study(trials, storage, TPESampler(), MedianPruner(), seeds)
