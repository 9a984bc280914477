"""What ``python export.py …`` and ``cxr export …`` do: make a network for other runtimes of a trained detector."""

from omegaconf import DictConfig

from cxr import config


@config.entry("export")
def main(cfg: DictConfig) -> None:
    """Export what ``cfg`` composes."""
    config.check(cfg)
    from cxr import exporting  # here, not above: it imports torch, which --help and a misspelt word need not wait for

    with exporting.opened(cfg) as folder:
        parts = exporting.instantiate(cfg)
        card = exporting.export(parts, folder)
        exporting.report(parts, card, folder)
