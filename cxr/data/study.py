"""A volume and what is known of it as a whole: the item of data sets of series."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Study:
    """One volume and the findings of it; as ``Film`` is one film with its boxes.

    Args:
        path: folder of the series, or of the films to be stacked.
        id: the folder as the table names it; stays inside the process.
        study, patient: pseudonyms; volumes of one patient never stand in two splits.
        findings: canonical names, none on a normal one.
        split: the split that the table itself gives the volume to, else "".
        modality: Modality of the first file that can be read, "" where there is none.
        series: pseudonym of the series to read where the folder holds several, else "".
        stacked: whether the folder holds films of one patient, to be laid upon each other, and no slices.
    """

    path: Path
    id: str
    study: str
    patient: str
    findings: tuple[str, ...]
    split: str = ""
    modality: str = ""
    series: str = ""
    stacked: bool = False

    @property
    def normal(self) -> bool:
        """Whether the volume has none of the findings."""
        return not self.findings

    def __str__(self) -> str:
        return str(self.path)
