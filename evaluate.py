"""Measure a trained detector as a clinician would ask: sensitivity at bearable false alarms, and screening.

python evaluate.py ckpt=outputs/…/checkpoints/best.ckpt
python evaluate.py ckpt=a.ckpt,b.ckpt data=course data.root=FOLDER     is the difference between two real?
python evaluate.py --help
"""

import sys

from omegaconf import DictConfig

from cxr import config
from cxr.command_line import as_hydra_reads


@config.entry("evaluate")
def main(cfg: DictConfig) -> None:
    """Evaluate what ``cfg`` composes."""
    config.check(cfg)
    from cxr import evaluating  # here, not above: it imports torch, which --help and a misspelt word need not wait for

    with evaluating.opened(cfg) as folder:
        parts = evaluating.instantiate(cfg)
        evaluating.detect(parts, folder)
        evaluating.measure(parts)
        evaluating.report(parts, folder)


if __name__ == "__main__":
    sys.argv = as_hydra_reads(sys.argv)
    main()
