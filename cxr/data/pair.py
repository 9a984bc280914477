"""A patient with a film, a series or both: the item of data sets that join the two."""

from dataclasses import dataclass
from pathlib import Path

from cxr.data.study import Study


@dataclass(frozen=True)
class Patient:
    """A patient with what was taken of them, and what is known of them as a whole.

    Args:
        film: the radiograph; None: there is none.
        series: the volume; None: there is none.
        study, patient: pseudonyms; the study's is that of the row.
        findings: canonical names; () is a normal patient.
        split: the split that the data set itself gives the patient to, else "".
    """

    film: Path | None
    series: Study | None
    study: str
    patient: str
    findings: tuple[str, ...]
    split: str = ""

    @property
    def id(self) -> str:
        """The pseudonym of the patient's row, the only name it has."""
        return self.study

    @property
    def normal(self) -> bool:
        """Whether the patient has no finding."""
        return not self.findings
