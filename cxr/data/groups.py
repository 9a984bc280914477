"""Groups of films, as reports tell of them: never one so small that it leads to a patient.

A group of fewer patients than a least number is pooled with the others of its kind that are as small, and its value is
not told: a rare machine, or a year with three films, would say who it was.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from cxr.data.film import Film
from cxr.read.film_groups import STATED, read_groups

KINDS = (*STATED, "source")
"""Kinds of groups: what a header states, and the data set where several are joined."""
NOT_STATED = "not stated"
TOO_FEW = "too few"
"""Stands for all groups of a kind that have too few patients."""
LEAST_PATIENTS = 10
"""Of a group that is named anywhere."""

_MOST_GROUPS, _LONGEST = 1000, 64

Groups = Mapping[str, str]
"""The group of a film by its kind, for each of ``KINDS``."""


def groups_of(film: Film) -> dict[str, str]:
    """Return the groups of a film: as its data set tells them, else as its header states them."""
    stated = read_groups(film.path) | dict(film.groups)
    if film.source:
        stated["source"] = film.source
    return {kind: stated.get(kind, NOT_STATED) for kind in KINDS}


def pooled(groups: Sequence[Groups], patients: Sequence[str], least: int = LEAST_PATIENTS) -> list[dict[str, str]]:
    """Return the groups of each film with ``TOO_FEW`` in place of those with fewer than ``least`` patients."""
    members: dict[tuple[str, str], set[str]] = defaultdict(set)
    for of_film, patient in zip(groups, patients, strict=True):
        for kind, group in of_film.items():
            members[kind, group].add(patient)
    small = {key for key, some in members.items() if len(some) < least}
    return [{kind: TOO_FEW if (kind, group) in small else group for kind, group in one.items()} for one in groups]


def counted(groups: Sequence[Groups], patients: Sequence[str], least: int = LEAST_PATIENTS) -> dict[str, Any]:
    """Return how many films and patients each group has, as a checkpoint keeps it; see ``checked``."""
    films: dict[tuple[str, str], list[str]] = defaultdict(list)
    for of_film, patient in zip(pooled(groups, patients, least), patients, strict=True):
        for kind, group in of_film.items():
            films[kind, group].append(patient)
    kinds: dict[str, dict[str, dict[str, int]]] = {kind: {} for kind in KINDS}
    for (kind, group), some in sorted(films.items()):
        kinds[kind][group] = {"films": len(some), "patients": len(set(some))}
    return {"least_patients": least, "films": len(groups), "patients": len(set(patients)), "kinds": kinds}


def checked(fields: Any) -> dict[str, Any]:
    """Return the counts of groups that a checkpoint holds. Raises ``ValueError`` for what is none.

    ``{"least_patients": 10, "films": 408, "patients": 370, "kinds": {"sex": {"F": {"films": 200, "patients": 180}}}}``,
    with each of ``KINDS``, all plain values.
    """
    if not isinstance(fields, dict) or set(fields) != {"least_patients", "films", "patients", "kinds"}:
        raise ValueError("expected least_patients, films, patients and kinds")
    if wrong := [name for name in ("least_patients", "films", "patients") if not _is_count(fields[name])]:
        raise ValueError(f"{wrong[0]} is no number of films or patients")
    if not isinstance(fields["kinds"], dict) or set(fields["kinds"]) != set(KINDS):
        raise ValueError(f"kinds are not {', '.join(KINDS)}")
    for kind, groups in fields["kinds"].items():
        if not isinstance(groups, dict) or len(groups) > _MOST_GROUPS:
            raise ValueError(f"kinds.{kind} is no list of groups, or has more than {_MOST_GROUPS}")
        for group, counts in groups.items():
            if not (isinstance(group, str) and 0 < len(group) <= _LONGEST and group.isprintable()):
                raise ValueError(f"kinds.{kind} names a group that is no text of at most {_LONGEST} letters")
            if not (isinstance(counts, dict) and set(counts) == {"films", "patients"}):
                raise ValueError(f"kinds.{kind} has a group without films and patients")
            if not all(_is_count(count) for count in counts.values()):
                raise ValueError(f"kinds.{kind} has a group whose films or patients are no number of them")
    return fields


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**53
