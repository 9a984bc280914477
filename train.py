"""Train a detector and test its best checkpoint.

python train.py model=fasterrcnn optimizer.lr=0.005
python train.py -m optimizer.lr=0.001,0.005 trainer.max_epochs=10,20
python train.py --help
"""

from cxr.runs.commands import train

if __name__ == "__main__":
    train()
