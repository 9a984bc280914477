"""The colours of every picture, page and plot: one a finding, the dark ground, and the letters on it."""

from cxr.findings import FindingVocabulary

GROUND, INK, QUIET = "#14171a", "#e8eaed", "#9aa0a6"  # the ground, letters, and letters that matter less
# Light and saturated, so that each stands out on a grey film; neighbours in hue differ in lightness too.
_COLOURS = (
    "#ffd166",
    "#4cc9f0",
    "#ff6b6b",
    "#80ed99",
    "#c77dff",
    "#ff9f1c",
    "#f72585",
    "#00f5d4",
    "#bde0fe",
    "#e9ff70",
)


def colour(findings: FindingVocabulary, name: str) -> str:
    """Return the colour of a finding as ``#rrggbb``."""
    return _COLOURS[findings.names.index(name) % len(_COLOURS)]
