"""Measure a trained detector as a clinician would ask: sensitivity at bearable false alarms, and screening.

python evaluate.py ckpt=outputs/…/checkpoints/best.ckpt
python evaluate.py ckpt=a.ckpt,b.ckpt data=course data.root=FOLDER     is the difference between two real?
python evaluate.py --help
"""

from cxr.runs.commands import evaluate

if __name__ == "__main__":
    evaluate()
