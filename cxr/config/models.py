"""A detector of conf/model/ from Python, built as ``train.py model=NAME`` builds it."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import OmegaConf

import cxr.config.entry  # noqa: F401  the resolvers of its configs
from cxr.installation import CONF

SIDE = 256
"""Longest side in pixels of the films that anchors are made for, unless ``anchors__image_size`` says otherwise."""


def build(name: str, num_classes: int, **settings: Any) -> Any:
    """Return the detector of ``model=NAME`` for so many classes, background among them.

    ``settings`` are keys of its YAML: ``regions__width=64`` is ``model.regions.width=64``, and ``backbone="tiny"`` is
    ``model/backbone=tiny``. Raises ``KeyError`` for a key that it does not have.
    """
    return _built(name, settings, num_classes)


def builder(name: str, **settings: Any) -> Callable[..., Any]:
    """Return what a task takes for its ``model``: ``build`` but for the number of classes."""
    return partial(_built, name, settings)


def _built(name: str, settings: dict[str, Any], num_classes: int) -> Any:
    backbone = settings.get("backbone")
    cfg = OmegaConf.create(_model(name, backbone))
    for key, value in settings.items():
        if key == "backbone":
            continue
        place = key.replace("__", ".")
        if place.partition(".")[0] not in cfg:
            raise KeyError(f"model={name} has no {place}, only {', '.join(map(str, cfg))}")
        OmegaConf.update(cfg, place, _plain(value), merge=False)
    return instantiate(cfg, _convert_="all")(num_classes=num_classes)


@cache
def _model(name: str, backbone: str | None) -> Any:
    words = [f"model={name}", f"data.size={SIDE}", *([f"model/backbone={backbone}"] if backbone else [])]
    if GlobalHydra.instance().is_initialized():
        return _composed(words)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return _composed(words)


def _composed(words: list[str]) -> Any:
    model = compose("train", overrides=words).model
    return OmegaConf.to_container(model, resolve=True)


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
