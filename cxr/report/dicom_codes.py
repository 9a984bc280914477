"""Coded names of findings (PS3.3 8.8): SNOMED CT where a code is known to mean the finding, else a private one.

A code that is nearly right is wrong in a patient's record, so there are few: each is active in SNOMED CT's
international edition under the name given here. Where the finding lies is coded with PS3.16's own codes.
"""

from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes

from cxr.read.chest_films import Reason

PRIVATE_SCHEME = "99CXR"  # PS3.16 8.2: a private scheme's designator begins with 99

REASON_NOT_ASSESSED = CodedConcept("REASON", PRIVATE_SCHEME, "Reason for not being assessed")
_REFUSALS = {
    "too_small": CodedConcept("TOO_SMALL", PRIVATE_SCHEME, "Too few pixels for the detector"),
    "other_part": CodedConcept("OTHER_PART", PRIVATE_SCHEME, "Not a film of the chest"),
    "other_kind": CodedConcept("OTHER_KIND", PRIVATE_SCHEME, "Not a radiograph"),
    "lateral": CodedConcept("LATERAL", PRIVATE_SCHEME, "Not a frontal view"),
    "inverted": CodedConcept("INVERTED", PRIVATE_SCHEME, "Grey values inverted against the header"),
    "turned": CodedConcept("TURNED", PRIVATE_SCHEME, "Film turned by 90 or 180 degrees"),
    "unlike": CodedConcept("UNLIKE", PRIVATE_SCHEME, "Unlike the films that the detector was trained on"),
    "not_finite": CodedConcept("NOT_FINITE", PRIVATE_SCHEME, "The detector's answer is not finite"),
}

_FINDINGS = {
    "cardiac_hypertrophy": ("8186001", "Cardiomegaly"),
    "aortic_atherosclerosis_calcification": ("81817003", "Atherosclerosis of aorta"),
    "lung_field_infiltration": ("409609008", "Radiologic infiltrate of lung"),
    "scoliosis": ("298382003", "Scoliosis deformity of spine"),
}
# CID 7180. A method that is no class activation map in the code's own sense is a saliency map, as all of them are.
_QUANTITIES = {
    "ablationcam": CodedConcept("130402", "DCM", "Class activation"),
    "gradcam": CodedConcept("130403", "DCM", "Gradient-weighted class activation"),
    "gradcampp": CodedConcept("130403", "DCM", "Gradient-weighted class activation"),
}
_SALIENCY = CodedConcept("130404", "DCM", "Saliency")
_SITES = {
    "aortic_curvature": codes.SCT.ThoracicAorta,
    "aortic_atherosclerosis_calcification": codes.SCT.ThoracicAorta,
    "cardiac_hypertrophy": codes.SCT.Heart,
    "intercostal_pleural_thickening": codes.SCT.Pleura,
    "lung_field_infiltration": codes.SCT.Lung,
    "degenerative_joint_disease_of_the_thoracic_spine": codes.SCT.ThoracicSpine,
    "scoliosis": codes.SCT.Spine,
}


def finding_code(name: str) -> CodedConcept:
    """Return the code of a finding by its canonical name.

    A private code's value is the name in upper case, cut to the 16 characters that a code may have; its meaning is the
    name in words, cut to 64.
    """
    if name in _FINDINGS:
        value, meaning = _FINDINGS[name]
        return CodedConcept(value, "SCT", meaning)
    return CodedConcept(name.upper()[:16], PRIVATE_SCHEME, name.replace("_", " ")[:64])


def finding_site(name: str) -> CodedConcept | None:
    """Return the code of the organ that has a finding; None for a finding that is not in the table."""
    site = _SITES.get(name)
    return None if site is None else CodedConcept.from_code(site)


def map_quantity(method: str) -> CodedConcept:
    """Return what the values of a method's maps are."""
    return _QUANTITIES.get(method, _SALIENCY)


def refusal_code(reason: Reason) -> CodedConcept:
    """Return the private code of why a film is not assessed; the standard has none for these reasons."""
    return _REFUSALS[reason.cause]


def private_scheme() -> CodingSchemeIdentificationItem:
    """Return what a file that uses private codes must say of them (PS3.3 C.12.1)."""
    return CodingSchemeIdentificationItem(PRIVATE_SCHEME, name="Findings of cxr", responsible_organization="cxr")
