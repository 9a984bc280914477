"""Say what a trained detector finds on films: tables, a submission, pictures, and objects that a PACS opens.

python predict.py ckpt=outputs/…/checkpoints/best.ckpt images=FOLDER
python predict.py ckpt=… images=data/course/test.csv pictures=true dicom=true
python predict.py ckpt=… images=FOLDER dicom=true cam=ablationcam
python predict.py --help
"""

from cxr.runs.commands import predict

if __name__ == "__main__":
    predict()
