"""Take chest films from a modality or a PACS, and bring what a trained detector finds on them back into their study.

python serve.py ckpt=outputs/…/checkpoints/best.ckpt allow=[PACS@127.0.0.1:4242]
python serve.py ckpt=… allow=[CR1@10.0.0.7,PACS@10.0.0.5:104] dicom=0.0.0.0:11112 when=study
python serve.py --help
"""

from cxr.runs.commands import serve

if __name__ == "__main__":
    serve()
