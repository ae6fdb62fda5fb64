"""Configs that are refused."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from study.config import approval
from tests.support.study_project import ROOT


def refusal_of(config: Mapping[str, Any]) -> str:
    """Why a config is refused, before any job."""
    with pytest.raises(approval.ConfigError) as caught:
        approval.check(dict(config), folders=[ROOT])
    return str(caught.value)
