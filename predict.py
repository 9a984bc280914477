"""Say what a trained detector finds on films: tables, a submission, pictures, and objects that a PACS opens.

python predict.py ckpt=outputs/…/checkpoints/best.ckpt images=FOLDER
python predict.py ckpt=… images=data/course/test.csv pictures=true dicom=true
python predict.py ckpt=… images=FOLDER dicom=true cam=ablationcam
python predict.py --help
"""

from cxr.runs.predict import main

if __name__ == "__main__":
    main()
