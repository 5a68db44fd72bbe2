"""A missing typeface stops the station with a sentence, not with a traceback or a wrong letter."""

from __future__ import annotations

import pytest

from agent.errors import ConfigurationInvalid
from agent.page.fonts import Style, check_fonts, find_font


def test_a_missing_font_names_its_package(tmp_path):
    with pytest.raises(ConfigurationInvalid, match="apt install fonts-ocr-b"):
        find_font(Style.OCR_B, (tmp_path,))
    with pytest.raises(ConfigurationInvalid, match="apt install fonts-dejavu-core"):
        find_font(Style.TEXT, (tmp_path,))


def test_a_font_in_another_folder_is_found(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "OCRB.otf").touch()
    assert find_font(Style.OCR_B, (tmp_path,)) == tmp_path / "elsewhere" / "OCRB.otf"


def test_the_machine_has_every_font():
    check_fonts()
