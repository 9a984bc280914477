"""``cxr <command> …``: every command of the project under one name, in a clone and where the wheel is installed.

Nothing is imported but the command that is called, so that help and a misspelt word are answered at once.
"""

import importlib
import sys
from importlib.metadata import version
from typing import NamedTuple

from cxr import installation
from cxr.config.command_line import nearest


class Command(NamedTuple):
    """A command: what it calls (a module and its function), what it does, and whether Hydra reads its words."""

    call: str
    does: str
    hydra: bool = False


COMMANDS = {
    "train": Command("cxr.runs.commands:train", "train a detector and test its best checkpoint", hydra=True),
    "evaluate": Command(
        "cxr.runs.commands:evaluate", "measure a trained detector as a clinician would ask", hydra=True
    ),
    "explain": Command("cxr.runs.commands:explain", "show what a trained detector looked at", hydra=True),
    "predict": Command("cxr.runs.commands:predict", "say what a trained detector finds on films", hydra=True),
    "serve": Command(
        "cxr.runs.commands:serve", "take films from a PACS and bring what is found back into their study", hydra=True
    ),
    "export": Command(
        "cxr.runs.commands:export", "make a faster network for other runtimes, held against the detector", hydra=True
    ),
    "annotate": Command(
        "cxr.runs.commands:annotate", "write films for annotators, with a detector's boxes to correct", hydra=True
    ),
    "changes": Command("cxr.report.changes:main", "say how doctors changed our boxes, and how far they agree"),
    "sweep": Command("cxr.runs.sweep_report:main", "report the jobs of a sweep: table, page, the best run's command"),
    "card": Command("cxr.runs.model_card:main", "write the card of a model: what it is, how good, what it is not for"),
    "merge": Command("cxr.runs.merge:main", "write the tables of all shards of a prediction as one"),
    "fetch": Command("cxr.data.fetch:main", "copy films and reports of an archive (DICOMweb) into a folder"),
    "audit": Command("cxr.data.audit:main", "say what a data set holds and what is wrong with it"),
    "figures": Command("cxr.data.figures:main", "draw films with their marks, a row for each finding"),
    "convert": Command("cxr.data.convert:main", "make pictures of DICOM films, under pseudonyms"),
    "show": Command("cxr.runs.show:main", "draw a film before and after preprocessing, with histograms"),
    "doctor": Command("cxr.doctor.__main__:main", "say what this machine and this installation can do"),
}
_HELP = """Find disease on chest radiographs.

  cxr train model=fasterrcnn optimizer.lr=0.005
  cxr predict ckpt=outputs/…/checkpoints/best.ckpt images=FOLDER

{commands}

`cxr COMMAND --help` says what a command takes. YAML of your own: cxr train --config-dir FOLDER model=NAME"""


def main() -> None:
    """Read the first word of the command line and hand over to the command it names."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(_HELP.format(commands="\n".join(f"  {name:9} {command.does}" for name, command in COMMANDS.items())))
        return
    if words[0] in ("-V", "--version"):
        print(f"cxr {version('cxr')}")
        return
    if words[0] not in COMMANDS:
        print(f"cxr {words[0]}: there is no such command. {nearest(words[0], list(COMMANDS))}", file=sys.stderr)
        raise SystemExit(2)
    _call(words[0])


def _call(name: str) -> None:
    command = COMMANDS[name]
    installation.find_modules_here()
    installation.call_by_console(name)
    module, _, name_there = command.call.partition(":")
    call = getattr(importlib.import_module(module), name_there)
    if command.hydra:  # its help stands in conf/ and asks ``installation`` for the name
        call()
    else:
        call(prog=f"cxr {name}")


if __name__ == "__main__":
    main()
