"""A film before and after the steps of an intensity: ``python -m cxr show FILM OUT.png --intensity percentile``."""

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException

from cxr.config.entry import instantiated
from cxr.config.errors import ConfigError, explain
from cxr.installation import CONF
from cxr.read import show
from cxr.read.preprocessing import Preprocessing


def steps_of(name: str) -> Preprocessing:
    """Return the intensity ``conf/intensity/NAME.yaml``, as a training has it. Raises ``ConfigError`` for none."""
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = compose("train", overrides=[f"intensity={name}"])
    except HydraException as error:
        raise ConfigError(explain(error)) from error
    intensity: Preprocessing = instantiated(cfg.intensity)
    return intensity


def main(prog: str = "python -m cxr show") -> None:
    """Draw the film named on the command line."""
    show.main(prog, steps_of)
