"""Our machine-readable zones in the eyes of two libraries that share no line with them.

PyPI's ``mrz`` generates and checks, npm's ``mrz`` parses and checks. Where one of them knows less
than Doc 9303 (truncation, umlauts), the comparison is limited to what both define.
"""

from __future__ import annotations

import json
import random
import shutil
import string
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mrz.checker.td3 import TD3CodeChecker
from mrz.generator.td3 import TD3CodeGenerator

sys.path.insert(0, str(Path(__file__).parent))

from page_samples import vector_zones

from agent.page.mrz import compose_mrz

HERE = Path(__file__).parent
TESTS = HERE.parents[1]


def random_fields(rng: random.Random) -> dict[str, str]:
    def name(words: int, longest: int) -> str:
        lengths = [rng.randint(1, longest) for _ in range(words)]
        return " ".join("".join(rng.choices(string.ascii_uppercase, k=size)) for size in lengths)

    def date(first: int, last: int) -> str:
        return f"{rng.randint(first, last)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"

    return {
        "document_type": rng.choice(["P", "PD", "PO"]),
        "issuing_state": rng.choice(["IDN", "D", "TLS", "NLD"]),
        "nationality": rng.choice(["IDN", "D", "TLS", "MYS"]),
        "primary_identifier": name(rng.randint(1, 3), 5),
        "secondary_identifier": name(rng.randint(0, 3), 5),
        "document_number": "".join(
            rng.choices(string.ascii_uppercase + string.digits, k=rng.randint(1, 9))
        ),
        "date_of_birth": date(1950, 2020),
        "date_of_expiry": date(2027, 2045),
        "sex": rng.choice("FMX"),
        "personal_number": "".join(rng.choices(string.digits, k=rng.choice([0, 7, 14]))),
    }


SAMPLES = [random_fields(random.Random(seed)) for seed in range(200)]


def short_date(date: str) -> str:
    return date[2:].replace("-", "")


@pytest.fixture(scope="module")
def parsed_by_node() -> Any:
    """Runs npm's parser once over all zones: the composed ones, then the vectors'."""
    if not (TESTS / "node_modules" / "mrz").is_dir():
        pytest.fail("npm's mrz is not installed: run `npm ci --prefix tests` (make setup does)")
    node = shutil.which("node") or shutil.which("nodejs")
    assert node is not None, "node is not installed: apt install nodejs"
    zones = [compose_mrz(**fields) for fields in SAMPLES] + vector_zones()
    run = subprocess.run(
        [node, str(HERE / "parse_mrz.mjs")],
        input=json.dumps(zones),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return dict(zip(zones, json.loads(run.stdout), strict=True))


def test_the_generator_of_pypi_writes_the_same_lines():
    for fields in SAMPLES:
        ours = compose_mrz(**fields)
        theirs = str(
            TD3CodeGenerator(
                document_type=fields["document_type"],
                country_code=fields["issuing_state"],
                surname=fields["primary_identifier"],
                given_names=fields["secondary_identifier"],
                document_number=fields["document_number"],
                nationality=fields["nationality"],
                birth_date=short_date(fields["date_of_birth"]),
                sex=fields["sex"],
                expiry_date=short_date(fields["date_of_expiry"]),
                optional_data=fields["personal_number"],
                force=True,
            )
        ).split("\n")
        assert ours[0] == theirs[0]
        # Doc 9303-4: the check digit of an empty personal number may be 0 or a filler.
        if not fields["personal_number"]:
            assert ours[1][42] in "0<"
            theirs[1] = theirs[1][:42] + ours[1][42] + theirs[1][43]
        assert ours[1] == theirs[1]


@pytest.mark.parametrize("zones", ["composed", "vectors"])
def test_the_checker_of_pypi_finds_every_check_digit_right(zones):
    chosen = vector_zones() if zones == "vectors" else [compose_mrz(**each) for each in SAMPLES]
    for zone in chosen:
        checker = TD3CodeChecker("\n".join(zone))
        for digit in ("document_number_hash", "birth_date_hash", "expiry_date_hash"):
            assert getattr(checker, digit) is True, (digit, zone)
        assert checker.optional_data_hash is True
        assert checker.final_hash is True


def test_the_checker_of_pypi_would_notice_a_wrong_digit():
    upper, lower = compose_mrz(**SAMPLES[0])
    for position in (9, 19, 27, 43):
        wrong = str((int(lower[position]) + 1) % 10)
        checker = TD3CodeChecker(f"{upper}\n{lower[:position]}{wrong}{lower[position + 1 :]}")
        assert not bool(checker)


def test_the_parser_of_npm_reads_the_fields_that_were_composed(parsed_by_node):
    for fields in SAMPLES:
        result = parsed_by_node[compose_mrz(**fields)]
        assert result["format"] == "TD3"
        assert result["wrong"] == [], (result, fields)
        assert result["valid"] is True
        read = result["fields"]
        assert read["lastName"] == fields["primary_identifier"]
        assert (read["firstName"] or "") == fields["secondary_identifier"]
        assert read["documentNumber"] == fields["document_number"]
        assert read["birthDate"] == short_date(fields["date_of_birth"])
        assert read["expirationDate"] == short_date(fields["date_of_expiry"])
        assert read["personalNumber"] == fields["personal_number"]


def test_the_parser_of_npm_finds_every_vector_right(parsed_by_node):
    digits = {
        "documentNumberCheckDigit",
        "birthDateCheckDigit",
        "expirationDateCheckDigit",
        "personalNumberCheckDigit",
        "compositeCheckDigit",
    }
    for zone in vector_zones():
        result = parsed_by_node[zone]
        assert result["format"] == "TD3"
        assert not digits & set(result["wrong"]), (zone, result)
