"""Do films that nobody marked help? Detectors from several starts on 10, 25 and 100 % of the marked films.

    python benchmarks/pretraining.py OUT --data coco --root FOLDER --films FOLDER [--shares 0.1 0.25 1] [--seeds 0 1 2]
    python benchmarks/pretraining.py OUT --data phantom

Pretrains on ``--films`` (default: those of the marked set) without the validation and test patients of the marked set,
then trains a detector from each start on each share of the marked training films, and prints test AP50 and AP as
Markdown, the mean of the seeds and each of them. Every run has a folder of its own below OUT, is skipped where it is
complete and goes on where it was cut off: the same command may be typed again at any time. A share is made by
``data.shots``, so many films of each finding and so many normal ones; the table says how many films it gave. A tenth of
the films is shown four times as often as all of them, a quarter twice as often.

    random             the backbone from random numbers
    imagenet           efficientnet_lite0 with ImageNet weights, in float32 (its steps in bfloat16 take twice as long)
    pretrained         random, then pretrained here
    imagenet+pretrained
    ema                random, with the moving average of the weights that a teacher needs
    teacher            ema, and from a third of the epochs on ``--films`` teach too (task=teacher); a step has as many
                       marked films as one of ema, which it is held against. Where ``--films`` are the marked ones
                       themselves, those that a share leaves out teach, and there is none for the whole. Boxes count
                       as sure from 0.5 on: with the default of 0.8 these short trainings are sure of next to none

Not part of ``make bench``: hours for three seeds.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Start:
    """What a detector knows before it sees marked films, and what it learns from beside them."""

    backbone: str
    weights: str | None = None
    pretrained: bool = False
    average: bool = False
    teacher: bool = False

    @property
    def words(self) -> list[str]:
        float32 = ["trainer.precision=32-true"] if self.backbone == "efficientnet_lite0" else []
        return [f"model/backbone={self.backbone}", *float32]


STARTS = {
    "tiny random": Start("tiny"),
    "tiny pretrained": Start("tiny", pretrained=True),
    "tiny ema": Start("tiny", average=True),
    "tiny teacher": Start("tiny", average=True, teacher=True),
    "lite0 random": Start("efficientnet_lite0"),
    "lite0 pretrained": Start("efficientnet_lite0", pretrained=True),
    "lite0 imagenet": Start("efficientnet_lite0", "imagenet"),
    "lite0 imagenet+pretrained": Start("efficientnet_lite0", "imagenet", pretrained=True),
}
_VAL_FRACTION = 0.1  # of experiment=course_cpu
_FINDINGS = {"coco": 2, "phantom": 7}  # of the films at hand, from which the shots of a share follow


def main() -> None:
    given = arguments()
    figures: dict[str, list[dict[str, Any]]] = {}
    for start, share, seed in cells(given):
        weights = pretrained(given, start, seed) if STARTS[start].pretrained else STARTS[start].weights
        result = trained(given, start, weights, share, seed)
        figures.setdefault(start, []).append(result | {"share": share, "seed": seed})
        show(figures, given.shares)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of the runs")
    parser.add_argument("--data", default="phantom", help="of the marked films, a name of conf/data")
    parser.add_argument("--root", type=Path, help="data.root of the marked films; not for the phantom")
    parser.add_argument("--films", type=Path, help="folder of films without marks; default: that of the marked ones")
    parser.add_argument("--starts", nargs="+", default=list(STARTS), choices=list(STARTS))
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.25, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--size", type=int, default=256, help="longest side of the films, pixels")
    parser.add_argument("--epochs", type=int, default=36, help="of a detector on all films")
    parser.add_argument("--pretraining-epochs", type=int, default=100)
    given = parser.parse_args()
    given.out = given.out.absolute()
    if given.root is None:
        given.root = given.out / "phantom"
        given.root.mkdir(parents=True, exist_ok=True)  # the phantom draws its films into a folder that is there
    given.root = given.root.absolute()
    given.films = (given.films or given.root).absolute()
    return given


def cells(given: argparse.Namespace) -> Iterator[tuple[str, float, int]]:
    """Yield what is to be trained: all starts on the smallest share first, where a difference shows soonest."""
    for seed in given.seeds:
        for share in sorted(given.shares):
            without = share == 1 and given.films == given.root  # no film is left that is not marked
            yield from ((start, share, seed) for start in given.starts if not (without and STARTS[start].teacher))


def pretrained(given: argparse.Namespace, start: str, seed: int) -> str:
    """Return the file of the backbone of a start, pretrained where it is not there yet."""
    folder = given.out / "pretraining" / f"{slug(start)}-{seed}"
    words = ["experiment=pretrain", f"data.root={given.films}", f"data@data.marked={given.data}"]
    words += [f"data.marked.root={given.root}", f"trainer.max_epochs={given.pretraining_epochs}"]
    words.append(f"data.marked.val_fraction={_VAL_FRACTION}")  # the split of the detectors
    if STARTS[start].weights:
        words.append("optimizer.lr=0.0003")  # with the 0.003 that suits random numbers the features become alike
    run(given, folder, [*words, *backbone(start, STARTS[start].weights)], seed)
    return str(folder / "backbone.pth")


def trained(given: argparse.Namespace, start: str, weights: str | None, share: float, seed: int) -> dict[str, Any]:
    """Return test figures and number of films of a detector, trained where it is not there yet."""
    folder = given.out / "detectors" / f"{slug(start)}-{share:g}-{seed}"
    epochs = round(given.epochs * share**-0.6)  # four times as many for a tenth, twice as many for a quarter
    words = ["experiment=course_cpu", f"data={given.data}", f"data.root={given.root}", f"trainer.max_epochs={epochs}"]
    if share < 1:
        words.append(f"data.shots={shots(given, share, seed)}")
    if STARTS[start].average:
        words.append("callbacks=[default,ema]")
    if STARTS[start].teacher:  # one unmarked film beside each marked one
        words += ["task=teacher", f"data.unmarked={given.films}", f"task.begins_at={epochs // 3}", "data.batch_size=8"]
        words.append("task.confident=0.5")
    run(given, folder, [*words, *backbone(start, weights)], seed)
    metrics = json.loads((folder / "result.json").read_text(encoding="utf-8"))["metrics"]
    films = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))[-1]["films"]["train"]
    return {"ap50": metrics["test/map_50"], "ap": metrics["test/map"], "films": films}


def shots(given: argparse.Namespace, share: float, seed: int) -> int:
    """Return the films of each finding that make about a share of the training films."""
    everything = given.out / "detectors" / f"films-{seed}.json"
    if not everything.exists():
        words = [f"data={given.data}", f"data.root={given.root}", "data.size=64", f"seed={seed}", "trainer=cpu"]
        words += ["model=fasterrcnn_tiny", "trainer.max_epochs=1", "+trainer.limit_train_batches=1"]
        words += ["+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1", "logger=[]"]
        folder = given.out / "detectors" / f"films-{seed}"
        call([*words, f"hydra.run.dir={folder}"])
        everything.write_text((folder / "provenance.json").read_text(encoding="utf-8"), encoding="utf-8")
    films = json.loads(everything.read_text(encoding="utf-8"))[-1]["films"]["train"]
    return max(1, round(share * films / (_FINDINGS.get(given.data, 7) + 1)))


def backbone(start: str, weights: str | None) -> list[str]:
    return [*STARTS[start].words, *([f"model.backbone.weights={weights}"] if weights else [])]


def run(given: argparse.Namespace, folder: Path, words: list[str], seed: int) -> None:
    """Train in a folder, unless it is complete."""
    if not (folder / "result.json").exists():
        call([*words, f"data.size={given.size}", f"seed={seed}", f"hydra.run.dir={folder}"])


def call(words: list[str]) -> None:
    print("train.py", *words, flush=True)
    subprocess.run([sys.executable, str(ROOT / "train.py"), *words], check=True)  # noqa: S603


def show(figures: dict[str, list[dict[str, Any]]], shares: list[float]) -> None:
    """Print the table of what is done so far: mean AP50 / AP, and in brackets the AP50 of each seed."""
    print(f"\n| start | {' | '.join(f'{share:.0%}' for share in sorted(shares))} |\n|---|{'---|' * len(shares)}")
    for start, results in figures.items():
        of_shares = ([one for one in results if one["share"] == share] for share in sorted(shares))
        print(f"| {start} | {' | '.join(cell(some) for some in of_shares)} |")
    print(flush=True)


def cell(results: list[dict[str, Any]]) -> str:
    if not results:
        return "–"
    ap50, ap = (fmean(one[name] for one in results) for name in ("ap50", "ap"))
    films = round(fmean(one["films"] for one in results))  # that of a teacher counts the unmarked ones, too
    each = ", ".join(f"{one['ap50']:.3f}" for one in results)
    return f"{ap50:.3f} / {ap:.3f} ({each}; {films} films)"


def slug(start: str) -> str:
    return start.replace(" ", "-").replace("+", "-")


if __name__ == "__main__":
    main()
