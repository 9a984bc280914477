"""What is said of a film that has just come in, without decoding it."""

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from cxr.doctor.decoders import _ENCODERS
from cxr.read.dicom import IncompleteError, ReadError, check_film, read_film


def arrival(path: Path):
    return check_film(path, path.read_bytes())


def test_a_film_is_known_by_its_uid_pixels_and_pseudonyms(write_film):
    path = write_film(name="a.dcm", SeriesInstanceUID="1.2.3.1")
    known, read = arrival(path), read_film(path)
    assert (known.instance, known.study, known.patient) == ("1.2.3.4", read.study, read.patient)
    assert (known.modality, known.sop_class) == ("CR", "1.2.840.10008.5.1.4.1.1.1")
    assert "1.2.3.4" not in repr(known)
    for syntax in (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian):
        again = arrival(write_film(name="b.dcm", syntax=syntax, SeriesInstanceUID="1.2.3.1", StudyDate="20200101"))
        assert again.digest == known.digest
    pixels = np.arange(2**20, dtype=np.uint16).reshape(1024, 1024)  # more than a deflated file is read ahead
    plain, deflated = (
        arrival(write_film(pixels, syntax=one)) for one in (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
    )
    assert plain.digest == deflated.digest
    for other in ({"PatientName": "Other^Name"}, {"pixels": ((0, 1), (2, 4))}, {"SeriesInstanceUID": "1.2.3.2"}):
        changed = {"SeriesInstanceUID": "1.2.3.1", **other}
        assert arrival(write_film(name="c.dcm", **changed)).digest != known.digest


@pytest.mark.parametrize("syntax", list(_ENCODERS), ids=lambda syntax: syntax.name)
def test_a_compressed_film_passes_whole_and_not_cut_off(write_film, syntax):
    pixels = np.random.default_rng(0).integers(0, 200, (16, 16), np.uint16)
    stream = _ENCODERS[syntax](pixels)
    bits = {"BitsAllocated": 16, "BitsStored": 12, "HighBit": 11}
    if syntax.name == "JPEG Baseline (Process 1)":
        pixels, bits = pixels.astype(np.uint8), {}
    assert len(arrival(write_film(pixels, syntax=syntax, codestream=stream, **bits)).digest) == 40
    if syntax == RLELossless:
        return  # its end is not told from its bytes alone; it is refused when it is decoded
    with pytest.raises(IncompleteError):
        arrival(write_film(pixels, syntax=syntax, codestream=stream[: len(stream) // 2 // 2 * 2], **bits))


def test_what_cannot_be_read_later_for_its_bytes_does_not_pass(write_film):
    path = write_film(np.zeros((64, 64), np.uint16))
    whole = path.read_bytes()
    for end in (0, 60, 132, 300, len(whole) - 2):
        with pytest.raises(ReadError):
            check_film(path, whole[:end])
    with pytest.raises(ReadError, match="expected at most"):
        arrival(write_film(Rows=65535, Columns=65535))


def test_real_films_that_are_read_pass_the_door(real_dicoms):
    passed = 0
    for path in sorted(real_dicoms.rglob("*.dcm")):
        try:
            read_film(path)
        except ReadError:
            continue
        arrival(path)
        passed += 1
    assert passed > 5
