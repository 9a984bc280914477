"""The shards of a prediction in a folder: what each notes for the merge, and whether they belong together."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cxr.config.errors import ConfigError
from cxr.config.run_files import COMMAND, RESULT, locked
from cxr.data.shards import Shard
from cxr.files import read_mapping, write_json
from cxr.report.film_files import FilmFiles
from cxr.runs.folder import flat

SHARD = "shard.json"
_MAY_DIFFER = ("run_dir", "shard", "batch", "workers", "token")  # between shards that belong together
_MANY = 10  # folders or settings that one message names


@dataclass(frozen=True)
class FinishedShard:
    """A shard that has ended.

    Args:
        folder: of its run.
        number: which part it is, from 0.
        note: what it noted for the merge, see ``note_shard``.
        result: its ``result.json``.
    """

    folder: Path
    number: int
    note: Mapping[str, Any]
    result: Mapping[str, Any]


def note_shard(folder: Path, shard: Shard, files: FilmFiles, images: Path | None, several: bool) -> None:
    """Note what the tables of a shard were written with, so that those of all shards can be written without a detector.

    ``images`` is the folder that their names of films are relative to; None where they show pseudonyms alone.
    """
    point = files.algorithm.operating_point
    note = {
        "shard": shard.number,
        "shards": shard.of,
        "findings": list(files.findings.names),
        "threshold": None if point is None else point.threshold,
        "images": None if images is None else str(images),
        "several": several,
    }
    write_json(folder / SHARD, note)


def finished_shards(folder: Path) -> list[FinishedShard]:
    """Return the shards in the folders below ``folder``, in their order, all of one prediction and all of it.

    Raises ``ConfigError``, which names them, where shards are missing, at work or unfinished, stand there twice, or
    were run with another checkpoint or other settings.
    """
    begun = {run: _settings(run) for run in sorted(command.parent for command in folder.glob(f"*/{COMMAND}"))}
    begun = {run: settings for run, settings in begun.items() if settings.get("shards") is not None}
    if not begun:
        raise ConfigError(f"{folder}: holds no shard of a prediction; type the folder of `predict.py -m shard=0,1,…`")
    first = next(iter(begun.values()))
    problems = [problem for run, settings in begun.items() for problem in _other_settings(run, settings, first)]
    if not problems:
        problems = [*_wrong_numbers(begun, int(first["shards"])), *_unfinished(begun)]
    if problems:
        more = [f"and {len(problems) - _MANY} more"] if len(problems) > _MANY else []
        raise ConfigError("\n  - ".join([f"{folder} cannot be merged:", *problems[:_MANY], *more]))
    shards = [_finished(run, settings) for run, settings in begun.items()]
    _refuse_other_detectors(shards)
    return sorted(shards, key=lambda shard: shard.number)


def _settings(run: Path) -> dict[str, Any]:
    return flat(read_mapping(run / COMMAND, "config")["config"])


def _finished(run: Path, settings: Mapping[str, Any]) -> FinishedShard:
    note = read_mapping(run / SHARD, "findings", "threshold", "images", "several")
    result = read_mapping(run / RESULT, "films", "failed", "not_assessed", "algorithm", "seconds", "overrides")
    return FinishedShard(run, int(settings["shard"]), note, result)


def _other_settings(run: Path, settings: Mapping[str, Any], first: Mapping[str, Any]) -> list[str]:
    keys = sorted(key for key in settings.keys() | first.keys() if key.partition(".")[0] not in _MAY_DIFFER)
    return [
        f"{run.name}: {key} is {settings.get(key, 'absent')}, {first.get(key, 'absent')} in the first"
        for key in keys
        if settings.get(key) != first.get(key)
    ]


def _wrong_numbers(begun: Mapping[Path, Mapping[str, Any]], shards: int) -> list[str]:
    """Return a line for all shards that are missing, and one for each that stands there twice."""
    runs: dict[int, list[str]] = {}
    for run, settings in begun.items():
        runs.setdefault(int(settings["shard"]), []).append(run.name)
    missing = [str(number) for number in range(shards) if number not in runs]
    few = ", ".join(missing[:_MANY]) + (", …" if len(missing) > _MANY else "")
    lines = [f"{len(missing)} of {shards} shards are missing: shard={few}"] if missing else []
    twice = {number: names for number, names in runs.items() if len(names) > 1}
    return [*lines, *(f"shard={number} stands there twice: {' and '.join(names)}" for number, names in twice.items())]


def _unfinished(begun: Iterable[Path]) -> list[str]:
    return [
        f"{run.name}: {'is at work' if locked(run) else 'has not ended; type its command again'}"
        for run in begun
        if not (run / RESULT).exists() or not (run / SHARD).exists() or locked(run)
    ]


def _refuse_other_detectors(shards: Sequence[FinishedShard]) -> None:
    """Raise ``ConfigError`` where a checkpoint under one name was not the same for all shards."""
    first = shards[0]
    for shard in shards:
        if shard.result["algorithm"] != first.result["algorithm"] or _findings(shard) != _findings(first):
            raise ConfigError(
                f"{shard.folder.name}: was run with another detector than {first.folder.name}:"
                f" {'; '.join(shard.result['algorithm'])} there, {'; '.join(first.result['algorithm'])} here"
            )


def _findings(shard: FinishedShard) -> list[Any]:
    return [shard.note[key] for key in ("findings", "threshold", "several", "images")]
