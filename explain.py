"""Show what a trained detector looked at, for each finding on each film, and how far that can be believed.

python explain.py ckpt=outputs/…/checkpoints/best.ckpt
python explain.py ckpt=… images=FOLDER cam=[gradcam,drise] language=zh
python explain.py --help
"""

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


if __name__ == "__main__":
    main()
