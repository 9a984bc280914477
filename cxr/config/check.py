"""Checks a whole config before data are read and before torch is imported."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf

from cxr.config.command_line import nearest
from cxr.config.errors import ConfigError
from cxr.config.run_files import COMMAND, FAILED, check_name
from cxr.config.signatures import constant, signature
from cxr.data.archive_query import service_url
from cxr.export.card import CARD
from cxr.installation import CONF


def check(cfg: DictConfig) -> None:
    """Raise one ``ConfigError`` that lists all problems of ``cfg`` that can be seen without data and without torch.

    These are checked: values that are still missing (``???``), interpolations, whether each ``_target_`` exists and
    takes its arguments, with the types of its signature, and paths.
    """
    if "task" in cfg and "_target_" not in cfg.data:  # other settings refer to those of the data
        raise ConfigError("data names no data set to train on; type data=phantom, data=course or data=coco")
    problems = [*_missing(cfg)]
    for name in cfg:  # without ``task``: it repeats whole groups, whose problems are reported under their own name
        group = cfg._get_node(name)
        if isinstance(group, DictConfig) and name != "task":
            problems += [p for key, node in _nodes(group, str(name)) for p in _check_call(key, node)]
    problems += [*_check_parts(cfg), *_check_data(cfg), *_check_values(cfg)]
    if problems:
        head = "the config has a problem" if len(problems) == 1 else f"the config has {len(problems)} problems"
        raise ConfigError("\n  - ".join([f"{head}; nothing was started:", *problems]))


def _missing(cfg: DictConfig) -> Iterator[str]:
    for key in sorted(k for k in OmegaConf.missing_keys(cfg) if not k.startswith("task.")):
        comment = _comment(key)
        yield f"{key} has no value yet: type {key}=…" + (f" ({comment})" if comment else "")


def _comment(key: str) -> str:
    """Return what the chosen file of a group says of a key that has to be typed; "" where it says nothing."""
    group, _, rest = key.partition(".")
    chosen = HydraConfig.get().runtime.choices.get(group) if HydraConfig.initialized() else None
    file = CONF / group / f"{chosen}.yaml"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    found = re.search(rf"^ *{re.escape(rest.rpartition('.')[2])}: \?\?\? *# *(.+)$", text, re.MULTILINE)
    return found[1] if found else ""


def _nodes(node: Any, key: str = "") -> Iterator[tuple[str, DictConfig]]:
    """Yield every node with a ``_target_``, with its key."""
    if isinstance(node, DictConfig) and not node._is_none() and not node._is_interpolation():
        if "_target_" in node:
            yield key, node
        for name in node:
            yield from _nodes(node._get_node(name), f"{key}.{name!s}")
    elif isinstance(node, ListConfig) and not node._is_none() and not node._is_interpolation():
        for i in range(len(node)):
            yield from _nodes(node._get_node(i), f"{key}.{i}")


def _check_call(key: str, node: DictConfig) -> Iterator[str]:
    target = str(node["_target_"])
    try:
        parameters = signature(target)
    except LookupError as error:
        yield f"{key}._target_: {error}"
        return
    given = [str(k) for k in node if k not in ("_target_", "_partial_", "_convert_", "_recursive_", "_args_")]
    if parameters is None:  # takes anything (**kwargs)
        return
    for name in given:
        if name not in parameters:
            yield f"{key}.{name}: {target} takes no such argument. {nearest(name, sorted(parameters))}"
        elif _is_plain(node, name) and not parameters[name].accepts(value := node[name]):
            yield f"{key}.{name} is {value!r}, expected {parameters[name].expected}"
    if not node.get("_partial_") and "_args_" not in node:
        for name, parameter in parameters.items():
            if parameter.required and name not in given:
                yield f"{key}.{name} is missing: {target} needs it"


def _is_plain(node: DictConfig, name: str) -> bool:
    """Return whether a key has a value, which is not missing and not interpolated from another key."""
    return not OmegaConf.is_missing(node, name) and not OmegaConf.is_interpolation(node, name)


def _check_parts(cfg: DictConfig) -> Iterator[str]:
    """Each callback and logger says what it is; settings of one that is not chosen would reach the trainer as such."""
    for group in ("callbacks", "logger"):
        for name, node in (cfg.get(group) or {}).items():
            if not isinstance(node, DictConfig) or "_target_" not in node:
                yield (
                    f"{group}.{name} has settings and no _target_: none of the chosen {group}=… defines it; choose one"
                    f" that does, or leave it out with ~{group}.{name}"
                )


def _check_data(cfg: DictConfig) -> Iterator[str]:
    """The data serve what the task learns from, where both say what that is."""
    wanted, target = cfg.get("learns_from"), str(OmegaConf.select(cfg, "data._target_"))
    served = constant(target, "serves")
    if wanted and served and served != wanted:
        choices = " or ".join(f"data={name}" for name, data in _shipped_data() if constant(data, "serves") == wanted)
        hint = f"; type {choices}" if choices else ""
        yield f"data: {target} serves {served}, and {cfg.task._target_} learns from {wanted}{hint}"


def _shipped_data() -> Iterator[tuple[str, str]]:
    """Yield the name and the data module of every data set of conf/data/."""
    for path in sorted((CONF / "data").glob("*.yaml")):
        node: Any = OmegaConf.load(path)
        inherited = [str(entry).strip("/").partition("@")[0] for entry in node.get("defaults", [])]
        for name in inherited if "_target_" not in node else ():
            if (CONF / f"{name}.yaml").exists():
                node = OmegaConf.load(CONF / f"{name}.yaml")
        yield path.stem, str(node.get("_target_"))


def _check_values(cfg: DictConfig) -> Iterator[str]:
    """Yield a problem for each file or folder that must exist, and for a bad ``name``.

    Only the phantom may make its folder, if that is below the current folder.
    """
    root = OmegaConf.select(cfg, "data.root", throw_on_missing=False)
    draws = ".read_phantom" in str(OmegaConf.select(cfg, "data.read._target_"))
    if root is not None and not Path(root).exists() and not (draws and not Path(root).is_absolute()):
        yield f"data.root={root}: there is no such folder. " + (
            "The phantom draws its films there once you have made it; for films of your own type data=course or"
            " data=coco too"
            if draws
            else "Type the folder that holds the data set's table"
        )
    try:
        check_name(OmegaConf.select(cfg, "name", default=""))
    except ConfigError as error:
        yield str(error)
    if cfg.get("monitor") == "val/probe_auc" and OmegaConf.select(cfg, "data.marked") is None:
        yield "monitor=val/probe_auc: a probe needs marked films: type data@data.marked=course data.marked.root=FOLDER"
    for key in ("images", "data.unmarked"):
        films = OmegaConf.select(cfg, key, throw_on_missing=False)
        if films is not None and (problem := _no_films(str(films), archives="dates" in cfg)):
            yield f"{key}{problem}"
    for key in ("model.weights", "model.film_weights", "model.volume_weights", "ckpt"):
        value = OmegaConf.select(cfg, key, throw_on_missing=False)
        if isinstance(value, str) and value != "DEFAULT" and not Path(value).exists():
            yield f"{key}={value}: there is no such file"
        elif key == "ckpt" and isinstance(value, str) and Path(value).is_dir() and not _of_export_or_sweep(Path(value)):
            yield f"ckpt={value}: a folder, expected a checkpoint of train.py: type ckpt={_best(Path(value))}"


def _no_films(films: str, archives: bool) -> str:
    """Return why there can be no films at a place, "" where there may be some; an archive is not asked."""
    try:
        archive = service_url(films)
    except ValueError as error:
        return f": {error}"
    if archive is None:
        return "" if Path(films).exists() else f"={films}: there is no such file or folder"
    if archives:
        return ""
    fetch = "copy its films with `python -m cxr fetch ARCHIVE FOLDER`, and name the folder"
    return f"={films}: an archive is read by predict.py alone; {fetch}"


def _of_export_or_sweep(folder: Path) -> bool:
    """Whether a folder is what export.py leaves, or holds jobs of a sweep."""
    jobs = (entry for name in (COMMAND, FAILED) for entry in folder.glob(f"*/{name}"))
    return (folder / CARD).exists() or next(jobs, None) is not None


def _best(folder: Path) -> str:
    """Return the best checkpoint in the folder of a run, or a pattern of its path for any other folder."""
    places = [folder / "best.ckpt", folder / "checkpoints" / "best.ckpt"]
    return str(next((place for place in places if place.is_file()), f"{folder}/…/checkpoints/best.ckpt"))
