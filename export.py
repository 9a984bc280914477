"""Turn a trained detector into a network that ONNX Runtime, OpenVINO or TorchScript runs, and prove it says the same.

python export.py ckpt=outputs/…/checkpoints/best.ckpt to=openvino
python predict.py ckpt=outputs/export/… runtime=openvino images=FOLDER
python export.py --help
"""

from cxr.runs.commands import export

if __name__ == "__main__":
    export()
