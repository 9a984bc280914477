"""explain.py on a network for whole studies: 3D Grad-CAM on three planes, and a page of them.

A folder holds ``studies/<study>/`` (a picture a finding, its map and ``study.json``, written last), ``index.html``, and
``result.json`` from its end.
"""

from pathlib import Path

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from cxr.config import run_files
from cxr.config.errors import ConfigError, film_errors
from cxr.files import write_json
from cxr.report.studies_page import StudyFigure, studies_page
from cxr.runs.checkpoint import Checkpoint
from cxr.runs.restore import load_study_data, load_study_task
from cxr.runs.result import warn
from cxr.volume.explain import ExplainedStudy, explain_studies


def explain(cfg: DictConfig, checkpoint: Checkpoint, folder: Path) -> None:
    """Explain the studies of the checkpoint's split that the folder does not hold yet, and write the page."""
    if cfg.images is not None:
        raise ConfigError("images=…: a network for studies explains those of its data; type data.root=FOLDER split=…")
    if cfg.views != 1:
        raise ConfigError("views=…: a network for studies looks at each as it is; leave it out")
    task = load_study_task(checkpoint).to("cuda" if torch.cuda.is_available() else "cpu")
    data = load_study_data(checkpoint, cfg.data)
    with film_errors():
        data.prepare_data()
        data.setup()
    if cfg.split not in data.films:
        raise ConfigError(f"split is {cfg.split!r}, expected one of {', '.join(data.films)}")
    dataset, studies = data.dataset(cfg.split), data.films[cfg.split]
    most = (cfg.films, cfg.findings_per_film, cfg.language)
    failed: list[str] = []

    def note(study: str, error: Exception) -> None:
        failed.append(f"{study}: {error}")

    explained = explain_studies(task, dataset, studies, folder, checkpoint.findings, *most, failed=note)
    figures = [
        StudyFigure(study.study, one.finding, one.score, study.marked, one.peak is None, home / one.picture)
        for home, study in explained
        for one in study.explained
    ]
    studies_page(folder / "index.html", figures, checkpoint.findings, cfg.language)
    write_json(folder / run_files.RESULT, {"status": "completed", "studies": len(explained), "failed": failed})
    for line in failed:
        warn(f"not explained: {line}")
    Console().print(
        _table([study for _, study in explained]), f"{len(explained)} studies · open {folder / 'index.html'}"
    )


def _table(explained: list[ExplainedStudy]) -> Table:
    table = Table("study", "marked", "highest scores", title="Explained", title_justify="left")
    for study in explained:
        highest = sorted(study.scores.items(), key=lambda item: -item[1])[:2]
        shown = ", ".join(f"{name.replace('_', ' ')} {score:.2f}" for name, score in highest)
        table.add_row(study.study, ", ".join(study.marked).replace("_", " ") or "normal", shown)
    return table
