"""The share of the campaign that every run of the tests plays; `make campaign` kills as often as one likes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from random import Random

import pytest

from agent.authority import Authority, random_document
from agent.crypto.keys import init_station_keys
from agent.drivers.virtual.book import Book, InkPass
from tests.campaign.__main__ import told
from tests.campaign.cuts import Cut, Cycle, Kind, Moment, Printer, Result
from tests.campaign.day import run
from tests.campaign.pages import SIZE, Pages
from tests.campaign.report import report

CUTS_OF_EACH = 2
BROKEN = "process IDs that start again"
LATE = Printer("unknown", "printed")
PROMPT = Printer("durable", "ejected")


@pytest.fixture(scope="module")
def days() -> Iterator[dict[str, Future[Result]]]:
    """A day of each kind of cut and, beside them, one of an agent that is broken on purpose; they mostly wait."""
    with ProcessPoolExecutor(len(Kind) + 1) as pool:
        yield {
            BROKEN: pool.submit(run, 0, [Kind.AGENT], mutation=BROKEN),
            **{
                kind: pool.submit(run, seed, [kind] * CUTS_OF_EACH)
                for seed, kind in enumerate(Kind, start=1)
            },
        }


@pytest.mark.parametrize("kind", Kind)
def test_a_cut_loses_nothing_and_prints_nothing_twice(days, kind: Kind) -> None:
    result = days[kind].result()
    if result.verdicts:
        pytest.fail("\n".join(told(result)))
    assert [cut.kind for cut in result.cuts] == [kind] * CUTS_OF_EACH
    assert all(cut.struck for cut in result.cuts)
    assert result.cycles
    if not result.needless:
        assert not result.folder.exists()


def test_the_judge_notices_a_real_agent_that_is_broken(days) -> None:
    result = days[BROKEN].result()
    shutil.rmtree(result.folder)
    assert any("process ID" in verdict for verdict in result.verdicts)
    assert "the agent is killed" in "\n".join(told(result))


def _inked(rows: bytes, *, passes: int = 1) -> Book:
    book = Book("C00001A", SIZE["width"], SIZE["height"])
    book.rows[:] = rows.ljust(len(book.rows), b"\0")
    book.passes = [InkPass(0.0, page_mode=True)] * passes
    return book


def test_a_look_at_a_book_tells_whose_page_it_bears(tmp_path) -> None:
    keys = init_station_keys(tmp_path / "station.jwks")
    authority = Authority.create(tmp_path / "authority", "a")
    authority.add_station("s", keys.public_jwks())
    pages, rng = Pages(keys), Random(1)
    for job in ("C1", "C2"):
        books = [(f"{job}A", random_document(f"{job}A", rng))]
        pages.order(job, authority.authorize("s", books=books, jti=job, exp=2, now=1))
    first, second = pages.ordered
    assert pages.whole(_inked(first)) == [("C1", 0)]
    assert pages.whole(_inked(first, passes=2)) == []
    half = first[: len(first) // 2]
    assert pages.whole(_inked(half)) == []
    assert pages.traces(_inked(half)) == {"C1"}
    assert pages.traces(_inked(half + second[len(half) :])) == {"C1", "C2"}
    assert pages.whole(_inked(b"")) == []
    assert pages.traces(_inked(b"")) == set()


def _cut(kind: Kind, moment: Moment, printer: Printer = LATE, *, doubt: bool = True) -> Cut:
    return Cut(kind, printer, 1.0, 2.0, moment, "C00001" if doubt else "", by_person=doubt)


@pytest.mark.parametrize(
    ("cut", "needless"),
    [
        (_cut(Kind.OFFICE, Moment.INK), False),
        (_cut(Kind.OFFICE, Moment.REPLY), False),
        (_cut(Kind.OFFICE, Moment.BETWEEN), True),
        (_cut(Kind.OFFICE, Moment.LOADING, PROMPT), True),
        (_cut(Kind.OFFICE, Moment.INTENT, PROMPT), True),
        (_cut(Kind.PRINTER, Moment.LOADING, PROMPT), True),
        (_cut(Kind.AGENT, Moment.INK), True),
        (_cut(Kind.AGENT, Moment.LOADING), False),
        (_cut(Kind.AGENT, Moment.LOADING, PROMPT), True),
        (_cut(Kind.CABLE, Moment.INK), True),
        (_cut(Kind.CABLE, Moment.INK, doubt=False), False),
    ],
)
def test_a_doubt_is_needless_where_the_evidence_was_there(cut: Cut, *, needless: bool) -> None:
    assert cut.needless is needless


def test_the_report_holds_the_shares_against_the_goals(tmp_path) -> None:
    cuts = [
        *[_cut(Kind.OFFICE, Moment.INK, PROMPT)] * 3,
        _cut(Kind.OFFICE, Moment.BETWEEN, PROMPT, doubt=False),
        _cut(Kind.AGENT, Moment.INK, doubt=False),
        _cut(Kind.AGENT, Moment.REPLY),
    ]
    cycles = [Cycle(PROMPT, cycle_s=4.0, intent_to_reply_s=3.0, ink_to_reply_s=2.0)]
    text = "\n".join(report([Result(1, PROMPT, tmp_path, cuts, cycles)]))
    assert "office: 3 of 4 (75.0%) in doubt" in text
    assert "first inked row to reply, 50.0% of the cycle: allowed 51.0%" in text
    assert "3 of 4 (75.0%) struck there, 3 of 4 (75.0%) in doubt" in text
    assert "goal, reply still held: 0 of 1 (0.0%) in doubt, allowed 1%" in text
