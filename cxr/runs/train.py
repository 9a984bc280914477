"""What ``python train.py …`` and ``cxr train …`` do: train a detector and test its best checkpoint."""

from omegaconf import DictConfig

from cxr import config


@config.entry("train")
def main(cfg: DictConfig) -> float:
    """Train what ``cfg`` composes and return the monitored score of its best epoch."""
    config.check(cfg)
    from cxr import run  # here, not above: it imports torch, which --help and a misspelt word need not wait for

    with run.opened(cfg) as folder:
        if folder.completed:
            return folder.show()
        parts = run.instantiate(cfg)
        run.fit(parts, folder)
        if not parts.pruned:
            run.calibrate(parts, folder)
            run.test(parts, folder)
        return folder.complete(parts)
