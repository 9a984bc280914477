"""The fixed words of pictures and pages of explanations, English and Chinese side by side."""

from cxr.read.chest_films import Reason
from cxr.report.methods import language_index

WORDS: dict[str, tuple[str, str]] = {
    # pictures and page
    "film": ("film", "影像"),
    "marked": ("marked by a reader", "醫師標記"),
    "detected": ("detected", "偵測"),
    "suppressed": ("strongest suppressed candidate", "最強的未達門檻候選"),
    "no_detection": ("no detection; strongest suppressed candidate", "沒有偵測；最強的未達門檻候選"),
    "nothing": ("nothing to explain: the detector named no box", "沒有可解釋的框：偵測器未提出任何框"),
    "hit": ("hit", "命中"),
    "false_alarm": ("false alarm", "誤報"),
    "missed": ("missed", "漏失"),
    "normal": ("normal", "正常"),
    "zero": ("no evidence: the map is zero", "沒有證據：此圖全為零"),
    "blind": ("cannot tell findings apart", "無法分辨病灶類別"),
    "evidence": ("evidence (share of the map's maximum)", "證據（相對於此圖最大值）"),
    "no_example": ("no film with this finding among those explained", "已解釋的影像中沒有此病灶"),
    "no_normal": ("no normal film among those explained", "已解釋的影像中沒有正常影像"),
    "not_measured": ("could not be measured", "無法量測"),
    "interval": ("dot: mean over findings · line: 95 % interval", "點：各病灶平均 · 線：95 % 信賴區間"),
    "baselines": ("grey: baselines", "灰色：對照基準"),
    # names of the figures and what they mean
    "fig_hit": ("hit rate", "命中率"),
    "fig_energy": ("energy inside", "框內能量"),
    "fig_iou": ("overlap (IoU)", "重疊（IoU）"),
    "fig_deletion": ("deletion", "刪除"),
    "fig_insertion": ("insertion", "插入"),
    "says_hit": (
        "how often the map's maximum lies inside the marked box (the pointing game). Higher is better.",
        "此圖最大值落在標記框內的比例（指向測驗）。愈高愈好。",
    ),
    "says_energy": (
        "share of the whole map that lies inside the marked box. Higher is better.",
        "整張圖落在標記框內的比例。愈高愈好。",
    ),
    "says_iou": (
        "overlap of the strong part of the map with the marked box. Higher is better.",
        "圖中較強部分與標記框的重疊。愈高愈好。",
    ),
    "says_deletion": (
        "the detector's score, as a share of that on the whole film, while the film is blurred away where the map is "
        "highest first; the area under that curve. A good map makes the score fall at once: lower is better.",
        "由此圖最高處開始逐步把影像模糊掉時，偵測器分數（相對於完整影像）曲線下的面積。好的圖使分數立即下降：愈低愈好。",
    ),
    "says_insertion": (
        "the same while a blurred film is made sharp where the map is highest first. "
        "A good map makes the score rise at once: higher is better.",
        "由此圖最高處開始把模糊影像逐步還原時，同一曲線下的面積。好的圖使分數立即上升：愈高愈好。",
    ),
    # page
    "title": ("What the detector looked at", "偵測器看了哪裡"),
    "research": (
        "Research software, not a diagnosis. A map says what moved the detector's score, not what is wrong with "
        "a patient; it can light up the right place for the wrong reason.",
        "研究用軟體，不是診斷。圖只表示什麼影響了偵測器的分數，不表示病人有何問題；亮處正確，理由也可能錯誤。",
    ),
    "films": ("Films", "影像"),
    "controls": ("What is shown", "顯示內容"),
    "method": ("Method", "方法"),
    "keys": ("keys 1–9", "按鍵 1–9"),
    "opacity": ("Opacity", "不透明度"),
    "show_truth": ("Marked boxes", "標記框"),
    "show_predicted": ("Detected boxes", "偵測框"),
    "finding": ("Finding", "病灶"),
    "outcome": ("Outcome", "結果"),
    "all": ("all", "全部"),
    "shown": ("{shown} of {total} films", "{total} 張中的 {shown} 張"),
    "scale": ("share of the map's maximum; clear where the map is 0", "相對於此圖最大值；0 處透明"),
    "which_box": ("Explained box", "解釋的框"),
    "unmarked": ("film without marks", "無標記的影像"),
    "peak_inside": ("maximum inside the marked box", "最大值在標記框內"),
    "peak_outside": ("maximum outside the marked box", "最大值在標記框外"),
    "inside": ("{share} % of the map inside", "{share} % 的圖在框內"),
    "no_map": ("this method has no map of this box", "此方法沒有此框的圖"),
    "no_films": ("No film was explained.", "沒有已解釋的影像。"),
    "scores": ("How good are the maps?", "圖有多好？"),
    "scores_lead": (
        "Mean over findings, with the 95 % interval in brackets (bootstrap over patients). Where a map should point is "
        "measured on hits alone: elsewhere it explains a mistake. A method says something where its interval lies "
        "clear of the baselines' (grey).",
        "各病灶的平均，括號內為 95 % 信賴區間（以病人為單位重抽樣）。"
        "圖該指向何處只在命中的框上量測：其餘的圖解釋的是錯誤。信賴區間與對照基準（灰色）明顯分開的方法，才有說明力。",
    ),
    "no_scores": (
        "Nothing could be scored.",
        "無法評分。",
    ),
    "by_finding": ("Hit rate by finding", "各病灶的命中率"),
    "boxes": ("boxes: {boxes}, patients: {patients}", "{boxes} 框，{patients} 位病人"),
    "mean": ("mean", "平均"),
    "trust": ("Which map to trust", "該相信哪張圖"),
    "sanity": ("Sanity check", "合理性檢查"),
    "sanity_lead": (
        "The detector's weights are randomised part by part, from the scores downwards. Shown is the rank correlation "
        "of each map with that of the trained detector: a map that reflects what was learned falls towards 0; one "
        "that stays near 1 shows the picture, not the detector.",
        "從輸出分數往下，逐部分把偵測器的權重隨機化。表中為各圖與訓練後偵測器之圖的等級相關：反映所學的圖會降向 0；"
        "維持接近 1 的圖只顯示影像本身，不顯示偵測器。",
    ),
    "about": ("Model and data", "模型與資料"),
    "unreadable": ("Films that could not be read", "無法讀取的影像"),
    "all_read": ("Every film could be read.", "所有影像皆可讀取。"),
    # films that the detector does not speak of
    "not_assessed": ("not assessed", "未解讀"),
    "failed": ("Films that failed", "無法解釋的影像"),
    "refused": ("Films that were not assessed", "未解讀的影像"),
    "reason_too_small": ("too few pixels", "像素比偵測器所用的少"),
    "reason_other_part": ("not the chest", "不是胸部影像"),
    "reason_lateral": ("not a frontal view", "是側面影像，不是正面影像"),
    "reason_not_finite": ("the detector's answer is not finite", "偵測器的結果不是有限的數"),
}


def words(language: str) -> dict[str, str]:
    """Return the fixed words by key in one language, ``en`` or ``zh``."""
    which = language_index(language)
    return {key: pair[which] for key, pair in WORDS.items()}


def not_assessed_words(reason: Reason, language: str) -> str:
    """Return that a film is not assessed and why: in English with what its file states, in Chinese the cause alone."""
    say = words(language)
    why = reason.text if language == "en" else say[f"reason_{reason.cause}"]
    return f"{say['not_assessed']}: {why}"
