"""What ``python explain.py …`` and ``cxr explain …`` do: show what a trained detector looked at."""

from omegaconf import DictConfig

from cxr import config


@config.entry("explain")
def main(cfg: DictConfig) -> None:
    """Explain what ``cfg`` composes."""
    config.check(cfg)
    # here, not above: they import torch, which --help and a misspelt word need not wait for
    from cxr import checkpoint, explaining, explaining_studies, restore

    with explaining.opened(cfg) as folder:
        trained = checkpoint.read_checkpoint(cfg.ckpt)
        if restore.of_studies(trained):
            explaining_studies.explain(cfg, trained, folder)
            return
        parts = explaining.instantiate(cfg)
        explaining.explain(parts, folder)
        explaining.score(parts, folder)
        explaining.report(parts, folder)
