"""Orthanc with its DICOMweb plugin, as Debian packages them (orthanc, orthanc-dicomweb): an archive for tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.orthanc import PROGRAM, Server, free_port

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "tester", "geheim123"  # of an archive that lives for a test


def is_here() -> bool:
    """Return whether Orthanc and its plugin are installed."""
    return Path(PROGRAM).exists() and PLUGIN.exists()


class Orthanc(Server):
    """An archive for DICOMweb alone, at work on a port of this machine, behind a password.

    Args:
        folder: for its files; one that worked there before had the same films.
        port: of HTTP; None takes a free one.
    """

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        self.address = f"dicomweb://127.0.0.1:{self.port}/dicom-web"
        settings = {"Name": "test", "DicomServerEnabled": False, "Plugins": [str(PLUGIN)],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}  # fmt: skip
        super().__init__(folder, self.port, settings, (USER, PASSWORD))
        (folder / "netrc").write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
        (folder / "netrc").chmod(0o600)
        self.start()

    def store(self, film: Path) -> str:
        """Put a DICOM file into the archive, and return its name there."""
        return str(self.ask("instances", film.read_bytes())["ID"])


@contextmanager
def orthanc(folder: Path) -> Iterator[Orthanc]:
    """Have an archive at work in the block."""
    archive = Orthanc(folder)
    try:
        yield archive
    finally:
        archive.stop()
