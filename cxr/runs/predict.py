"""What ``python predict.py …`` and ``cxr predict …`` do: say what a trained detector finds on films."""

from pathlib import Path

from omegaconf import DictConfig

from cxr import config


@config.entry("predict")
def main(cfg: DictConfig) -> None:
    """Predict what ``cfg`` composes."""
    config.check(cfg)
    # Imports stand here, not above: --help and a misspelt word need not wait for them
    from cxr.data import inputs
    from cxr.read import workers

    if not inputs.is_one_film(Path(cfg.images)):
        workers.stand_by(inputs.__name__, cfg.workers or workers.usable_cores())  # they start while torch is imported
    from cxr import predicting

    with predicting.opened(cfg) as folder:
        parts = predicting.instantiate(cfg, folder)
        predicting.predict(parts, folder)
        predicting.report(parts, folder)
