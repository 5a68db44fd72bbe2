"""The share of the campaign that every run of the tests plays; `make campaign` kills as often as one likes."""

from __future__ import annotations

import shutil

import pytest

from tests.campaign.__main__ import told
from tests.campaign.cuts import Kind
from tests.campaign.day import run
from tests.campaign.report import report

KINDS = (Kind.AGENT, Kind.OFFICE, Kind.PRINTER, Kind.CABLE)


def test_a_killed_agent_loses_nothing_and_prints_nothing_twice() -> None:
    result = run(1, KINDS)
    if result.verdicts:
        pytest.fail("\n".join(told(result)))
    assert [cut.kind for cut in result.cuts] == list(KINDS)
    assert len(result.cycles) >= len(KINDS)
    assert not result.folder.exists()
    assert "4 cuts in 1 offices" in next(report([result]))


def test_the_judge_notices_a_real_agent_that_is_broken() -> None:
    result = run(2, [Kind.AGENT], mutation="process IDs that start again")
    shutil.rmtree(result.folder)
    assert any("process ID" in verdict for verdict in result.verdicts)
    assert "the agent is killed" in "\n".join(told(result))
