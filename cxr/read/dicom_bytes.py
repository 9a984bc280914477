"""Turns a DICOM data set into the bytes of its file, so that these can be written as any other file is."""

from io import BytesIO

from pydicom.dataset import Dataset


def dicom_bytes(dataset: Dataset) -> bytes:
    """Return the file (PS3.10) of a data set with its file meta.

    pydicom must not write to a disk itself: an error of the disk comes out of it without its number, so that nobody
    can tell a full disk from a bad header.
    """
    content = BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()
