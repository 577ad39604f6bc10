"""Settings come from the environment, and each is in the documentation."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.config import DEFAULTS, settings

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


def test_an_empty_environment_gives_the_defaults():
    assert settings({}) == DEFAULTS


def test_a_variable_replaces_a_default():
    given = settings({"GLIMPSE_MAX_IMAGES": "5", "GLIMPSE_DEFAULT_MODEL": "emotions"})
    assert given == {**DEFAULTS, "MAX_IMAGES": 5, "DEFAULT_MODEL": "emotions"}


@pytest.mark.parametrize("value", ["", "x", "-1", "0", "1.5", "9" * 30])
def test_a_wrong_value_is_named(value):
    with pytest.raises(ValueError, match="GLIMPSE_MAX_PIXELS"):
        settings({"GLIMPSE_MAX_PIXELS": value})


@pytest.mark.parametrize("name", DEFAULTS)
def test_every_setting_is_documented(name):
    assert f"| `GLIMPSE_{name}` |" in PAGE.read_text(encoding="utf-8")
