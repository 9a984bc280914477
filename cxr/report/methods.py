"""What each method is called, does and can be trusted for, in English and Chinese: the one place that says so."""

from collections.abc import Iterable
from dataclasses import dataclass

from cxr.explain.scores import BASELINES

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class MethodText:
    """A method's name, what it computes in one sentence, and how far its map may be believed."""

    name: str
    explained: str
    trust: str


# In the order of pages and tables: methods from the most to the least specific to a box, then what they must beat.
_TEXTS: dict[str, tuple[MethodText, MethodText]] = {
    "box": (
        MethodText(
            "Box-level map",
            "Gradient × activation, kept where positive, at the pyramid level this box is read from, "
            "through the box head alone.",
            "It looks only through the head that scored this very box: trust it for where inside the box "
            "the evidence lies.",
        ),
        MethodText(
            "框內證據圖",
            "在讀取此框的金字塔層上，只經由框的分類頭計算梯度 × 特徵，保留正值。",
            "它只看為此框評分的分類頭：要知道證據在框內何處，以此圖為準。",
        ),
    ),
    "gradcam": (
        MethodText(
            "Grad-CAM",
            "Features weighted by the mean gradient of this finding's score, where the head read this box.",
            "Taken at the pyramid level this box is read from; at any other level it would be all zero. "
            "One weight a channel: what shares features with the finding lights up beside it.",
        ),
        MethodText(
            "Grad-CAM",
            "在分類頭讀取此框之處，以此病灶分數的平均梯度為特徵加權。",
            "取自讀取此框的金字塔層；在其他層上此圖全為零。每個通道只有一個權重：旁邊特徵相同之處也會亮起。",
        ),
    ),
    "gradcampp": (
        MethodText(
            "Grad-CAM++",
            "Grad-CAM with gradients weighted place by place, so that several lesions of a kind all count.",
            "Read it as Grad-CAM: same level, same limits.",
        ),
        MethodText("Grad-CAM++", "逐點加權梯度的 Grad-CAM，使同類的多個病灶都計入。", "解讀方式與限制同 Grad-CAM。"),
    ),
    "ablationcam": (
        MethodText(
            "AblationCAM",
            "Features weighted by how far this finding's score drops when a channel is removed.",
            "It measures the drop of the score instead of trusting a gradient. One weight a channel, as in Grad-CAM.",
        ),
        MethodText(
            "AblationCAM",
            "以移除每個通道時此病灶分數下降的程度為特徵加權。",
            "實際量測分數的下降，不依賴梯度。與 Grad-CAM 相同，每個通道只有一個權重。",
        ),
    ),
    "saliency": (
        MethodText(
            "Saliency",
            "Size of the gradient of this finding's score at each pixel of the film.",
            "Fine-grained and noisy: read clusters of points, never single ones.",
        ),
        MethodText("顯著圖", "影像每個像素上此病灶分數梯度的大小。", "細緻但雜訊多：看成群的點，不看單獨的點。"),
    ),
    "smoothgrad": (
        MethodText(
            "SmoothGrad",
            "Mean saliency over copies of the film with noise added.",
            "Saliency with less noise of its own; read clusters of points.",
        ),
        MethodText("SmoothGrad", "在加上雜訊的多份影像上取顯著圖的平均。", "雜訊較少的顯著圖；看成群的點。"),
    ),
    "drise": (
        MethodText(
            "D-RISE",
            "Parts of the film are covered at random; a part counts when the box is found again with it uncovered.",
            "It treats the detector as a black box, so it holds for any detector; it is coarse, "
            "and as sure as the number of covers.",
        ),
        MethodText(
            "D-RISE",
            "隨機遮住影像的一部分；露出某處而仍能偵測到此框時，該處即得分。",
            "把偵測器當作黑盒，適用於任何偵測器；結果較粗，遮罩愈多愈可靠。",
        ),
    ),
    "eigencam": (
        MethodText(
            "EigenCAM",
            "First principal component of the features that the head read for this box; the finding plays no part.",
            "It ignores the finding: it shows what stands out to the network, not why this box got this name.",
        ),
        MethodText(
            "EigenCAM",
            "分類頭為此框所讀特徵的第一主成分；與病灶類別無關。",
            "它不看病灶類別：顯示網路覺得醒目之處，不說明此框為何得此名稱。",
        ),
    ),
    "random": (
        MethodText("Random map", "Smooth noise: what chance alone scores.", "A baseline."),
        MethodText("隨機圖", "平滑的雜訊：僅憑機率的得分。", "對照基準。"),
    ),
    "centre": (
        MethodText("Centre prior", "A blob in the middle of the film, whatever it shows.", "A baseline."),
        MethodText("中心先驗", "不論內容為何，影像中央的一團。", "對照基準。"),
    ),
    "own_box": (
        MethodText("Detector's own box", "The detected box filled evenly, without any map.", "A baseline."),
        MethodText("偵測框本身", "把偵測框均勻填滿，不用任何圖。", "對照基準。"),
    ),
}


def language_index(language: str) -> int:
    """Return the place of ``language`` in a pair of texts; an unknown one is a ``ValueError``."""
    if language not in LANGUAGES:
        raise ValueError(f"language is {language!r}, expected one of {', '.join(LANGUAGES)}")
    return LANGUAGES.index(language)


def method_text(method: str, language: str = "en") -> MethodText:
    """Return the texts of a method; one that is not in the table goes by its key, without further words."""
    which = language_index(language)
    return _TEXTS[method][which] if method in _TEXTS else MethodText(method, "", "")


def in_order(methods: Iterable[str]) -> list[str]:
    """Return methods in the order pages and tables show them: known ones, others by name, then the baselines."""
    present = set(methods)
    known = [m for m in _TEXTS if m not in BASELINES]
    others = sorted(present - set(_TEXTS))
    return [m for m in (*known, *others, *BASELINES) if m in present]


def fixed_texts() -> list[str]:
    """Return every Chinese text of the table, for the test of the font."""
    return [part for _, text in _TEXTS.values() for part in (text.name, text.explained, text.trust)]
