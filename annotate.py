"""Write films for annotators, as pictures under pseudonyms with a detector's boxes to correct, the hardest films first.

python annotate.py ckpt=outputs/…/checkpoints/best.ckpt images=FOLDER to=labelstudio
python annotate.py ckpt=… images=FOLDER to=cvat
python annotate.py --help
"""

from cxr.runs.commands import annotate

if __name__ == "__main__":
    annotate()
