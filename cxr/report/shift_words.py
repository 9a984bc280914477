"""Whether films differ from those that a detector was chosen on, as words and as rows of a table."""

from cxr.measure.shift import Shift
from cxr.report.page import Row
from cxr.report.words import words


def shift_in_words(shift: Shift, language: str) -> str:
    """Return in a sentence or two whether a window of films differs from the reference, and in what."""
    say = words(language)["shift"]
    about = {"films": shift.films, "reference": shift.reference, "windows": f"{1 / shift.rate:.0f}"}
    if not shift.can_tell:
        return str(say["too_few"]).format(**about)
    if not shift.differs:
        return str(say["same"]).format(**about)
    changed = [say["features"][one.name] for one in shift.features if one.differs]
    return str(say["differs"]).format(features=say["between"].join(changed), **about)


def shift_rows(shift: Shift, language: str) -> list[Row]:
    """Return a line for each feature: its median in the reference and here, the distance, and the one allowed.

    An asterisk marks what has changed.
    """
    say = words(language)["shift"]["features"]
    return [
        Row(
            say[one.name],
            [
                f"{one.reference:.3f}",
                f"{one.window:.3f}",
                f"{one.distance:.2f}{'*' if one.differs else ''}",
                f"{min(one.allowed, 1):.2f}",
            ],
        )
        for one in shift.features
    ]
