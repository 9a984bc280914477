"""Show what a trained detector looked at, for each finding on each film, and how far that can be believed.

python explain.py ckpt=outputs/…/checkpoints/best.ckpt
python explain.py ckpt=… images=FOLDER cam=[gradcam,drise] language=zh
python explain.py --help
"""

from cxr.runs.commands import explain

if __name__ == "__main__":
    explain()
