"""The codes of findings in checkpoints that were written before a vocabulary held them."""

from collections.abc import Mapping
from typing import Any

from cxr.data.sources.layouts import VOCABULARY, read_vocabulary


def with_codes(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a vocabulary's fields, in which a finding without the key ``codes`` gets those of conf/findings/eda.yaml.

    Such a finding was written by an earlier version, whose reports named it by these codes. So a detector's reports are
    the same after an update. What is no vocabulary is returned as it is; ``FindingVocabulary`` refuses it.
    """
    listed = fields.get("findings")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        return dict(fields)
    if all("codes" in one for one in listed):
        return dict(fields)
    codes = {finding.name: [list(code) for code in finding.codes] for finding in read_vocabulary(VOCABULARY).findings}
    return {**fields, "findings": [{"codes": codes.get(str(one.get("name")), []), **one} for one in listed]}
