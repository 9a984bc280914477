"""Finds the files of the course layout, in whatever language its folders are named."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from cxr.data.sources.root import Root, wrong_name
from cxr.findings import FindingVocabulary, UnknownLabelError


def locate(root: Path) -> Path:
    """Return the folder with train.csv: ``root`` itself, a folder in it, or the folder above it.

    Raises ``FileNotFoundError`` if there is none or several, and ``TableError`` if a link leads out of ``root``.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder, expected one that holds train.csv")
    below = [folder for folder in sorted(root.iterdir()) if folder.is_dir()]
    for folders in ([root], below, [root.absolute().parent]):
        places = [folder for folder in folders if (folder / "train.csv").is_file()]
        if len(places) > 1:
            raise FileNotFoundError(f"{root}: train.csv lies in {', '.join(f.name for f in places)}; name one of them")
        if places:
            return Root(root).check(places[0]) if folders is below else places[0]
    raise FileNotFoundError(
        f"{root} holds no train.csv, nor does a folder just below or above it; a csv of your own with a row a box is"
        " data=boxes_csv (cxr audit: --data boxes_csv), which says what columns it has to have"
    )


def category_folders(train: Path, findings: FindingVocabulary) -> Mapping[str, list[Path]]:
    """Return the folders of each category, by its canonical name, in whatever language they are named."""
    folders: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(train.iterdir()) if train.is_dir() else []:
        try:
            folders[findings.canonical(folder.name)].append(folder)
        except UnknownLabelError:
            continue  # such as __MACOSX; if it is a misspelt category, its files are reported as missing
    return folders


def find(folder: Path, listed: str, folders: Iterable[Path] = ()) -> Path | None:
    """Return the file that a csv lists as ``<category>/image/<name>``, with or without a leading slash or split.

    ``folder`` is the folder of the split, ``folders`` are those of the category. Return None if there is no file. The
    file may be outside the data set: see ``cxr.data.sources.root``.
    """
    parts = path_parts(folder, listed)
    if wrong_name(listed) or not parts:
        return None
    candidates = [folder.joinpath(*parts), *(other.joinpath(*parts[1:]) for other in folders)]
    return next((path for path in candidates if path.is_file()), None)


def path_parts(folder: Path, listed: str) -> list[str]:
    """Return the parts of a listed path below ``folder``; a leading slash does not mean the root of the disk."""
    parts = [part for part in listed.replace("\\", "/").split("/") if part]
    return parts[1:] if parts[:1] == [folder.name] else parts
