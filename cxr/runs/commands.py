"""What ``python train.py …`` and ``cxr train …`` do, and evaluate, predict, explain, serve and export alike.

Each composes its config, has it checked, and hands it to the run of that verb. The runs are imported within the
functions: they import torch, which --help and a misspelt word need not wait for.
"""

import sys
from pathlib import Path

from omegaconf import DictConfig

from cxr.config.check import check
from cxr.config.command_line import as_hydra_reads, with_checkpoints_listed
from cxr.config.entry import entry, resolved


@entry("train")
def train(cfg: DictConfig) -> float:
    """Train what ``cfg`` composes and return the monitored score of its best epoch."""
    check(cfg)
    from cxr.runs import train as run

    with run.opened(cfg) as folder:
        if folder.completed:
            return folder.show()
        parts = run.instantiate(cfg)
        run.fit(parts, folder)
        if not parts.pruned:
            run.calibrate(parts, folder)
            run.test(parts, folder)
        return run.complete(parts, folder)


def evaluate() -> None:
    """Measure what the command line says. Hydra would take the comma of ``ckpt=a.ckpt,b.ckpt`` for a sweep."""
    sys.argv = as_hydra_reads(sys.argv)
    _evaluate()


@entry("evaluate")
def _evaluate(cfg: DictConfig) -> None:
    """Measure a trained detector as a clinician would ask."""
    check(cfg)
    from cxr.runs import evaluate as run

    with run.opened(cfg) as folder:
        parts = run.instantiate(cfg)
        run.detect(parts, folder)
        run.measure(parts)
        run.report(parts, folder)


def predict() -> None:
    """Say what a trained detector finds on films. Hydra would take the comma of ``ckpt=a.ckpt,b.ckpt`` for a sweep."""
    sys.argv = with_checkpoints_listed(sys.argv)
    _predict()


@entry("predict")
def _predict(cfg: DictConfig) -> None:
    """Say what a trained detector finds on films."""
    check(cfg)
    from cxr.data import archive_query, fetched, inputs
    from cxr.read import workers

    if not inputs.is_one_film(Path(cfg.images)):  # they start while torch is imported
        reader = inputs if archive_query.service_url(str(cfg.images)) is None else fetched
        workers.stand_by(reader.__name__, cfg.workers or workers.usable_cores())
    from cxr.runs import predict as run

    with run.opened(cfg) as folder:
        parts = run.instantiate(cfg, folder)
        run.predict(parts, folder)
        run.report(parts, folder)


def annotate() -> None:
    """Write films for annotators. Hydra would take the comma of ``ckpt=a.ckpt,b.ckpt`` for a sweep."""
    sys.argv = with_checkpoints_listed(sys.argv)
    _annotate()


@entry("annotate")
def _annotate(cfg: DictConfig) -> None:
    """Write films for annotators, with a detector's boxes to be corrected."""
    check(cfg)
    from cxr.runs import annotate as run
    from cxr.runs import predict

    with run.opened(cfg) as folder:
        parts = run.instantiate(cfg, folder)
        predict.predict(parts, folder)
        run.report(parts, folder)


def explain() -> None:
    """Show what a trained detector looked at. Hydra would take the comma of ``ckpt=a.ckpt,b.ckpt`` for a sweep."""
    sys.argv = with_checkpoints_listed(sys.argv)
    _explain()


@entry("explain")
def _explain(cfg: DictConfig) -> None:
    """Show what a trained detector looked at."""
    check(cfg)
    from cxr.runs import explain as run
    from cxr.runs import explain_studies, restore

    with run.opened(cfg) as (folder, named):
        if restore.of_studies(named.checkpoint):
            explain_studies.explain(cfg, named.checkpoint, folder)
            return
        parts = run.instantiate(cfg, named)
        run.explain(parts, folder)
        run.score(parts, folder)
        run.report(parts, folder)


def serve() -> None:
    """Take films from a PACS, bring results back. Hydra would take the comma of ``ckpt=a.ckpt,b.ckpt`` for a sweep."""
    sys.argv = with_checkpoints_listed(sys.argv)
    _serve()


@entry("serve", ends=False)
def _serve(cfg: DictConfig) -> None:
    """Take films from a PACS and bring results back, until SIGTERM."""
    check(cfg)
    from cxr.runs.serve_settings import settings

    settings(resolved(cfg))  # before torch is imported
    from cxr.runs import serve as run

    with run.opened(cfg) as folder:
        parts = run.instantiate(cfg, folder)
        run.serve(parts, folder)


@entry("export")
def export(cfg: DictConfig) -> None:
    """Make a network for other runtimes of a trained detector."""
    check(cfg)
    from cxr.runs import export as run

    with run.opened(cfg) as folder:
        parts = run.instantiate(cfg)
        card = run.export(parts, folder)
        run.report(parts, card, folder)
