"""Where Hydra looks for sweepers. Imports next to nothing: Hydra imports this module at every start."""

from collections.abc import Mapping
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class CxrSweeper(Sweeper):
    """A sweep that can be killed, goes on, and tells at its end what failed and why (``cxr.runs.sweep``).

    Args:
        params: what is swept, key → values in Hydra's grammar; the command line adds to it.
        retry: whether failed jobs are begun again.
        max_batch_size: jobs given to the launcher at once.
        study: an Optuna study that chooses the values (``cxr.runs.search.Study``); None: every combination.
    """

    def __init__(self, params: Mapping[str, Any], retry: bool, max_batch_size: int | None, study: Any) -> None:
        self.params, self.retry, self.max_batch_size, self.study = params, retry, max_batch_size, study

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take what Hydra gives a sweeper."""
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the jobs that are left, and report on all. Raises ``ConfigError`` and ``SweepError``."""
        from cxr.runs.sweep import Given, sweep

        if self.config is None or self.hydra_context is None or self.launcher is None:
            raise RuntimeError("sweep() before setup()")
        means = self.config, self.hydra_context.config_loader, self.launcher
        sweep(Given(*means, self.params, self.retry, self.max_batch_size, self.study), arguments)
