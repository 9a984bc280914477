"""What ``python evaluate.py …`` and ``cxr evaluate …`` do: measure a trained detector as a clinician would ask."""

import sys

from omegaconf import DictConfig

from cxr import config
from cxr.command_line import as_hydra_reads


@config.entry("evaluate")
def evaluate(cfg: DictConfig) -> None:
    """Evaluate what ``cfg`` composes."""
    config.check(cfg)
    from cxr import evaluating  # here, not above: it imports torch, which --help and a misspelt word need not wait for

    with evaluating.opened(cfg) as folder:
        parts = evaluating.instantiate(cfg)
        evaluating.detect(parts, folder)
        evaluating.measure(parts)
        evaluating.report(parts, folder)


def main() -> None:
    """Evaluate what the command line says."""
    sys.argv = as_hydra_reads(sys.argv)
    evaluate()
