"""Tables of all shards of a prediction as one: ``python -m cxr merge outputs/sweeps/NAME``.

They are those of one run over all films, with the same numbers of films. Pictures and DICOM objects stay in the folders
of the shards. Nothing here imports torch.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from rich.console import Console

from cxr.config.errors import ConfigError, exit_with, reason
from cxr.config.run_files import RESULT
from cxr.detect.prediction import Prediction
from cxr.files import DamagedFileError, part_of, why_not_written, write_json, write_whole
from cxr.findings import FindingVocabulary
from cxr.progress import working
from cxr.report.film_counts import film_counts
from cxr.report.film_key import HOLDS_IDENTITIES, KEY, image_name, write_key
from cxr.report.submission import PROMISES, write_coco, write_detections, write_films
from cxr.runs.folder import occupied
from cxr.runs.merged_films import MergedFilms
from cxr.runs.shards import FinishedShard, finished_shards

MERGED = "merged"
_FILES = {KEY, RESULT, "detections.json", "images.json", "detections.csv", "films.csv", PROMISES}


def merge(folder: Path) -> Path:
    """Write the tables of all shards below ``folder`` into its ``merged/``, and return that.

    Raises ``ConfigError`` where they are not all shards of one prediction, or ``merged/`` holds other files.
    """
    started, shards, place = time.monotonic(), finished_shards(folder), folder / MERGED
    with occupied(place, f"{place}: another process merges these shards", "folder"):
        names = sorted(entry.name for entry in place.iterdir() if not entry.name.startswith("."))
        if foreign := [name for name in names if name not in _FILES]:
            raise ConfigError(f"{place} holds files that no merge has made: {foreign[0]}; move them away")
        with (
            working(f"merging {len(shards)} shards"),
            part_of(place / "films.sqlite") as database,
            closing(MergedFilms(database, shards)) as films,
        ):
            _write_tables(place, films, shards[0])
            result = {
                "status": "completed",
                **film_counts(films),
                "key": HOLDS_IDENTITIES,
                "algorithm": shards[0].result["algorithm"],
                "shards": len(shards),
                "overrides": [word for word in shards[0].result["overrides"] if not word.startswith("shard=")],
                "seconds": round(sum(shard.result["seconds"] for shard in shards), 1),
                "seconds_of_merge": round(time.monotonic() - started, 1),
            }
        write_json(place / RESULT, result)
    return place


def _write_tables(place: Path, films: MergedFilms, shard: FinishedShard) -> None:
    """Write what predict.py writes at its end, as the shard noted it."""
    (place / RESULT).unlink(missing_ok=True)  # of a merge before: its presence says that this one ended well
    findings, folder = FindingVocabulary([{"name": name} for name in shard.note["findings"]]), shard.note["images"]
    images = None if folder is None else lambda number: image_name(films.path(number), Path(folder))
    threshold = shard.note["threshold"]
    write_key(place / KEY, films.key())
    write_coco(place, films, findings, images)
    write_detections(place / "detections.csv", _predictions(films), threshold, images, shard.note["several"])
    write_films(place / "films.csv", films, findings, threshold, images)
    if (promises := shard.folder / PROMISES).exists():  # all shards have the same
        write_whole(place / PROMISES, promises.read_text(encoding="utf-8"))


def _predictions(films: MergedFilms) -> Iterator[Prediction]:
    return (done.prediction for done in films if done.prediction is not None)


def main(prog: str = "python -m cxr merge") -> None:
    """Read the command line and merge; exit with 2 where that is refused."""
    parser = argparse.ArgumentParser(prog=prog, description="Write the tables of all shards of a prediction as one.")
    parser.add_argument("folder", type=Path, help="of the shards: outputs/sweeps/NAME")
    folder = parser.parse_args().folder
    if not folder.is_dir():
        exit_with(f"{folder}: there is no such folder")
    try:
        place = merge(folder)
    except (ConfigError, DamagedFileError) as error:
        exit_with(str(error))
    except OSError as error:
        if not why_not_written(error):
            raise
        exit_with(reason(error), code=1)
    Console(highlight=False).print(f"{place}   ·   {KEY} there holds identities: keep it to yourself", soft_wrap=True)


if __name__ == "__main__":
    main()
