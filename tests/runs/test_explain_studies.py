"""What explain.py says where it is asked of a network for studies what that cannot do."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from cxr.config.errors import ConfigError
from cxr.runs.explain_studies import explain


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"images": "films", "views": 1}, r"images=…: a network for studies explains those of its data"),
        ({"images": None, "views": 3}, r"views=…: a network for studies looks at each as it is; leave it out"),
    ],
)
def test_what_a_network_for_studies_cannot_do_is_refused(asked: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        explain(OmegaConf.create(asked), None, tmp_path)  # type: ignore[arg-type] # refused before it is looked at
    assert not list(tmp_path.iterdir())
