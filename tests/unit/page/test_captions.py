"""Dates and sexes that nobody can take for another."""

from __future__ import annotations

import pytest

from agent.page.captions import visual_date, visual_sex


@pytest.mark.parametrize(
    ("date", "seen"),
    [
        ("1991-03-14", "14 MAR/MAR 1991"),
        ("2000-05-01", "01 MEI/MAY 2000"),
        ("1999-08-31", "31 AGU/AUG 1999"),
        ("2024-10-09", "09 OKT/OCT 2024"),
        ("2036-12-25", "25 DES/DEC 2036"),
        ("2001-01-02", "02 JAN/JAN 2001"),
    ],
)
def test_a_date_names_its_month_in_letters(date, seen):
    assert visual_date(date) == seen


def test_each_sex_has_its_own_form():
    assert [visual_sex(sex) for sex in "FMX"] == ["P/F", "L/M", "X"]
