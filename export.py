"""Turn a trained detector into a network that ONNX Runtime, OpenVINO or TorchScript runs, and prove it says the same.

python export.py ckpt=outputs/…/checkpoints/best.ckpt to=openvino
python predict.py ckpt=outputs/export/… runtime=openvino images=FOLDER
python export.py --help
"""

from omegaconf import DictConfig

from cxr import config


@config.entry("export")
def main(cfg: DictConfig) -> None:
    """Export what ``cfg`` composes."""
    config.check(cfg)
    from cxr import exporting  # imports torch: --help and a misspelt word need not wait for it

    with exporting.opened(cfg) as folder:
        parts = exporting.instantiate(cfg)
        card = exporting.export(parts, folder)
        exporting.report(parts, card, folder)


if __name__ == "__main__":
    main()
