from __future__ import annotations

import pytest

from tools.write_states import ARCHITECTURE, with_states


def test_the_diagram_in_the_documentation_is_the_table():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    assert text == with_states(text), "run make states"


def test_a_document_that_lost_its_marks_is_not_taken_as_up_to_date():
    with pytest.raises(ValueError, match="marks"):
        with_states("# Architecture\n")
