"""Maps of what a detection was read from, as an image that viewers lay over the film: a Parametric Map (PS3.3 A.75).

Values are stored as whole thousandths in 16 bits, RLE compressed, and mapped to 0..1 by slope. Float pixels would say
the same without a slope, but few viewers show Float Pixel Data and no transfer syntax compresses it: 30 MB a finding on
a film of 3000 × 2500, where these take 1.5 MB. A map's maximum is 1 by definition and its cells are far coarser than a
pixel, so that a thousandth is finer than anything it says.
"""

from typing import Any

import cv2
import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import RLELossless

from cxr.report.algorithm import Algorithm
from cxr.report.dicom_codes import map_quantity
from cxr.report.dicom_origin import derived_uid, origin
from cxr.report.figures import Marks

_STEPS = 1000
# PS3.3 C.11.2.1.2.1: a LINEAR window from 0 to w - 1 has its centre at w / 2
_WHOLE_RANGE = hd.VOILUTTransformation(window_center=(_STEPS + 1) / 2, window_width=_STEPS + 1)


class _ParametricMap(hd.pm.ParametricMap):
    """A Parametric Map whose frames have one dimension, the detection (PS3.3 C.7.6.17), by Frame Label.

    highdicom (0.28) makes none of an image outside a frame of reference, as most radiographs are: it declares that
    dimension, gives the frames no place in it, and misses it when it builds its own tables of frames, at the end.
    """

    def _build_luts(self, *args: Any, **kwargs: Any) -> None:
        index = self.DimensionIndexSequence[0]
        index.DimensionIndexPointer = Tag("FrameLabel")
        index.FunctionalGroupPointer = Tag("FrameContentSequence")
        index.DimensionDescriptionLabel = "Detection"
        shared = self.SharedFunctionalGroupsSequence[0]  # has the mapping where there is one frame
        for n, group in enumerate(self.PerFrameFunctionalGroupsSequence, start=1):
            holder = group if "RealWorldValueMappingSequence" in group else shared
            content = group.FrameContentSequence[0]
            content.DimensionIndexValues = [n]
            content.FrameLabel = holder.RealWorldValueMappingSequence[0].LUTExplanation
        super()._build_luts(*args, **kwargs)


def parametric_map(
    source: Dataset, marks: Marks, method: str, maps: NDArray[np.uint16], algorithm: Algorithm
) -> hd.pm.ParametricMap:
    """Return the maps of one method, a frame a detection in the order of ``marks``.

    A frame's Frame Label, and the LUT Explanation of its Real World Value Mapping, name its detection: finding, score,
    and box in pixels of the film.

    Args:
        source: header of the film; frames have its rows and columns, and lie on it pixel by pixel.
        marks: the detections, at least one, boxes in its pixels.
        method: of the maps.
        maps: [M, h, w], 65535 = 1.0, of the whole film at any size.
        algorithm: the detector behind the detections.
    """
    size = (int(source.Columns), int(source.Rows))
    frames = [cv2.resize(one, size, interpolation=cv2.INTER_LINEAR) for one in maps]
    stored = np.stack([np.rint(frame * np.float32(_STEPS / 65535)).astype(np.uint16) for frame in frames], axis=-1)
    made = _ParametricMap(
        [source],
        stored[None],
        real_world_value_mappings=[[_mapping(marks, n, method)] for n in range(len(maps))],
        voi_lut_transformations=[_WHOLE_RANGE],
        contains_recognizable_visual_features=False,
        content_label=method.upper()[:16],
        content_description=f"{method}: where each finding was read from, 0..1"[:64],
        transfer_syntax_uid=RLELossless,
        **origin(source, algorithm, "pm", method),
    )
    _place(made)
    _order(made)
    return made


def _place(made: hd.pm.ParametricMap) -> None:
    """Say of the maps' place in the patient what is known, and guess no more.

    A Frame of Reference is demanded, but a plane in the patient only of one that is patient-relative (PS3.3 A.75.5),
    which a film's is not: where it has none, its maps have one of their own. Pixel Measures are demanded too, but may
    be without a spacing, which few films know.
    """
    if "FrameOfReferenceUID" not in made:
        made.FrameOfReferenceUID = derived_uid("frame", made.SOPInstanceUID)
        made.PositionReferenceIndicator = None
    anatomy, shared = Dataset(), made.SharedFunctionalGroupsSequence[0]
    anatomy.FrameLaterality = "U"  # unpaired: a film shows both lungs
    anatomy.AnatomicRegionSequence = [CodedConcept.from_code(codes.SCT.Chest)]
    shared.FrameAnatomySequence = [anatomy]
    if "PixelMeasuresSequence" not in shared:
        shared.PixelMeasuresSequence = [Dataset()]


def _order(made: hd.pm.ParametricMap) -> None:
    """Give the order of the frames a UID that follows from the object's; highdicom draws one by chance."""
    uid = derived_uid("frames", made.SOPInstanceUID)
    made.DimensionOrganizationSequence[0].DimensionOrganizationUID = uid
    made.DimensionIndexSequence[0].DimensionOrganizationUID = uid


def _mapping(marks: Marks, n: int, method: str) -> hd.pm.RealWorldValueMapping:
    finding = f"{n + 1} {marks.findings[n].replace('_', ' ')}"
    score = "" if marks.scores is None else f" {marks.scores[n]:.2f}"
    place = f"{score} at {','.join(f'{side:.0f}' for side in marks.boxes[n])}"
    return hd.pm.RealWorldValueMapping(
        lut_label=finding[:16].strip(),
        lut_explanation=finding[: 64 - len(place)] + place,
        unit=CodedConcept.from_code(codes.UCUM.NoUnits),
        value_range=(0, _STEPS),
        slope=1 / _STEPS,
        intercept=0,
        quantity_definition=map_quantity(method),
    )
