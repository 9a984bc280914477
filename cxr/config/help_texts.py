"""What a script says of itself when ``--help`` is typed: resolvers for the templates in ``conf/``."""

from hydra.core.global_hydra import GlobalHydra

from cxr.installation import CONF


def choices(group: str) -> str:
    """Return the options of a group as a line, those in the user's own folders too.

    Hydra's own list, ``$APP_CONFIG_GROUPS``, has all groups of ``conf/``, also those that a script refuses.
    """
    return f"{group}: {', '.join(GlobalHydra.instance().config_loader().get_group_options(group))}"


def settings(script: str) -> str:
    """Return the settings of a script as its file in ``conf/`` has them, with the comments that explain them.

    They stand there between the defaults list and the key ``hydra``, an empty line before each.
    """
    text = (CONF / f"{script}.yaml").read_text(encoding="utf-8")
    return text.partition("\n\n")[2].partition("\n\nhydra:\n")[0]
