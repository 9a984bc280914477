"""Score a submission as the course does: python tests/score_submission.py SUBMISSION.csv TEST_TRUTH.csv

Independent of the project on purpose: it knows the two tables and pycocotools, nothing else. Prints mean AP at IoU 0.5
over the findings that stand in the truth.
"""

import contextlib
import csv
import io
import sys
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(table.read_text(encoding="utf-8-sig"))))


def bbox(row: dict[str, str]) -> list[float]:
    """x, y, width, height; COCO's areas need not be pixels, only alike on both sides."""
    x0, x1, y0, y1 = (float(row[key]) * 1000 for key in ("xmin", "xmax", "ymin", "ymax"))
    return [x0, y0, x1 - x0, y1 - y0]


def ap50(submission: Path, truth: Path) -> float:
    """Mean AP at IoU 0.5 over the findings of ``truth``, whose normal films have a row ``normal`` or none."""
    marked = [row for row in rows(truth) if row["category"] != "normal"]
    detections = rows(submission)
    images = {name: n for n, name in enumerate(dict.fromkeys(row["ID"] for row in [*rows(truth), *detections]), 1)}
    classes = {name: n for n, name in enumerate(sorted({row["category"] for row in marked}), 1)}
    boxes = [{"image_id": images[r["ID"]], "category_id": classes[r["category"]], "bbox": bbox(r)} for r in marked]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": n} for n in images.values()],
            "categories": [{"id": n, "name": name} for name, n in classes.items()],
            "annotations": [
                {**box, "id": n, "iscrowd": 0, "area": box["bbox"][2] * box["bbox"][3]}
                for n, box in enumerate(boxes, 1)
            ],
        }
        coco.createIndex()
        results = coco.loadRes([
            {"image_id": images[r["ID"]], "category_id": classes[r["category"]], "bbox": bbox(r),
             "score": float(r["score"])} for r in detections if r["category"] in classes
        ])  # fmt: skip
        scoring = COCOeval(coco, results, "bbox")
        scoring.evaluate()
        scoring.accumulate()
    precision = scoring.eval["precision"][0, :, :, 0, -1]  # IoU 0.5, all areas, at most 100 a film
    return float(np.mean(precision[precision > -1]))


if __name__ == "__main__":
    print(f"{ap50(Path(sys.argv[1]), Path(sys.argv[2])):.6f}")
