from __future__ import annotations

import itertools
import json
import string
import time
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import TravelDocument
from agent.page.mrz import (
    NAME_LENGTH,
    check_digit,
    check_mrz,
    compose_mrz,
    compose_name,
    is_name_field,
)

FIELDS = {
    "document_type": "P",
    "issuing_state": "UTO",
    "nationality": "UTO",
    "primary_identifier": "ERIKSSON",
    "secondary_identifier": "ANNA MARIA",
    "document_number": "L898902C3",
    "date_of_birth": "1974-08-12",
    "date_of_expiry": "2012-04-15",
    "sex": "F",
    "personal_number": "ZE184226B",
}
BENNELONG = ("BENNELONG WOOLOOMOOLOO WARRANDYTE WARNAMBOOL", "DINGO POTOROO")

# Doc 9303-3 section 6 A: the rows whose recommended transliteration is the bare letter.
SECTION_6A = (
    "AÀÁÂÃĀĂĄ CÇĆĈĊČ DÐĎĐ EÈÉÊËĒĔĖĘĚ GĜĞĠĢ HĤĦ IÌÍÎÏĨĪĬĮİ\u0131 JĴ KĶ LĹĻĽĿŁ NŃŅŇŊ OÒÓÔÕŌŎŐ RŔŖŘ "
    "SŚŜŞŠ TŢŤŦ UÙÚÛŨŪŬŮŰŲ WŴ YÝŶŸ ZŹŻŽ"
)
ALTERNATIVES = {
    "Ä": ["AE", "A"],
    "Å": ["AA", "A"],
    "Æ": ["AE"],
    "Ñ": ["N", "NXX"],
    "Ö": ["OE", "O"],
    "Ø": ["OE"],
    "Ü": ["UE", "UXX", "U"],
    "Þ": ["TH"],
    "Ĳ": ["IJ"],
    "Œ": ["OE"],
    "ẞ": ["SS"],
    "ß": ["SS"],
}


def travel_document(lines: tuple[str, str], **over: str) -> TravelDocument:
    rest: dict[str, Any] = {"date_of_issue": "", "place_of_birth": "", "issuing_authority": ""}
    return TravelDocument(**(FIELDS | rest | over), mrz=lines, photo=b"")


def allowed(field: str, primary: str, secondary: str = "") -> bool:
    return is_name_field(
        field.ljust(NAME_LENGTH, "<"), primary_identifier=primary, secondary_identifier=secondary
    )


def test_the_specimen_of_doc_9303() -> None:
    lines = compose_mrz(**FIELDS)
    assert lines == (
        "P<UTOERIKSSON<<ANNA<MARIA<<<<<<<<<<<<<<<<<<<",
        "L898902C36UTO7408122F1204159ZE184226B<<<<<10",
    )
    check_mrz(travel_document(lines))


@pytest.mark.parametrize(
    ("text", "digit"), [("520727", "3"), ("AB2134<<<", "5"), ("", "0"), ("<<<<", "0")]
)
def test_check_digits_of_doc_9303(text: str, digit: str) -> None:
    assert check_digit(text) == digit


def test_a_check_digit_over_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match="zone"):
        check_digit("\u0661")


@pytest.mark.parametrize("position", range(44))
@pytest.mark.parametrize("line", [0, 1])
def test_no_position_may_differ(line: int, position: int) -> None:
    lines = list(compose_mrz(**FIELDS))
    for other in "0A<":
        if other != lines[line][position]:
            bent = list(lines)
            bent[line] = lines[line][:position] + other + lines[line][position + 1 :]
            with pytest.raises(ValueError, match="line") as refused:
                check_mrz(travel_document((bent[0], bent[1])))
            assert "ERIKSSON" not in str(refused.value)


@pytest.mark.parametrize("digit", ["<", "0"])
def test_an_unused_personal_number_has_either_check_digit(digit: str) -> None:
    upper, lower = compose_mrz(**FIELDS | {"personal_number": ""})
    lower = lower[:42] + digit
    lower += check_digit(lower[0:10] + lower[13:20] + lower[21:43])
    check_mrz(travel_document((upper, lower), personal_number=""))


def test_a_personal_number_of_zeros_has_no_choice() -> None:
    upper, lower = compose_mrz(**FIELDS | {"personal_number": "0" * 14})
    bent = lower[:42] + "<"
    bent += check_digit(bent[0:10] + bent[13:20] + bent[21:43])
    check_mrz(travel_document((upper, lower), personal_number="0" * 14))
    with pytest.raises(ValueError, match="personal_number's check digit"):
        check_mrz(travel_document((upper, bent), personal_number="0" * 14))


def test_the_check_digit_of_a_used_personal_number_is_not_a_filler() -> None:
    upper, lower = compose_mrz(**FIELDS)
    bent = lower[:42] + "<"
    bent += check_digit(bent[0:10] + bent[13:20] + bent[21:43])
    with pytest.raises(ValueError, match="personal_number's check digit"):
        check_mrz(travel_document((upper, bent)))


@pytest.mark.parametrize("text", ["1" * 15, "a1", "\u00c4", "1\u06611"])
def test_a_personal_number_that_does_not_fit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="personal_number") as refused:
        compose_mrz(**FIELDS | {"personal_number": text})
    assert text not in str(refused.value)


def test_a_separator_in_a_personal_number_is_a_filler() -> None:
    assert compose_mrz(**FIELDS | {"personal_number": "12-34 5"})[1][28:42] == "12<34<5<<<<<<<"


@pytest.mark.parametrize("row", SECTION_6A.split())
def test_letters_that_lose_their_mark(row: str) -> None:
    for letter in row:
        assert allowed(f"X{row[0]}X", f"x{letter}x"), f"U+{ord(letter):04X}"
        assert allowed(f"X{row[0]}X", unicodedata.normalize("NFD", f"X{letter}X"))
        assert not allowed("XX", f"X{letter}X")


@pytest.mark.parametrize(("letter", "alternatives"), ALTERNATIVES.items())
def test_letters_with_a_spelling_of_their_own(letter: str, alternatives: list[str]) -> None:
    every = {"".join(t) for n in (1, 2, 3) for t in itertools.product("AENOUXTHSIJ", repeat=n)}
    assert {t for t in every if allowed(f"Q{t}Q", f"Q{letter}Q")} == set(alternatives)
    assert compose_name(f"Q{letter}Q", "").rstrip("<") == f"Q{alternatives[0]}Q"


def test_each_letter_of_a_name_may_take_another_alternative() -> None:
    assert allowed("MUELLERSON<<KATHE", "MÜLLERSÖN", "KÄTHE")
    assert allowed("MUXXLLERSOEN<<KAETHE", "müllersön", "käthe")
    assert not allowed("MULLERSONE<<KATHE", "MÜLLERSÖN", "KÄTHE")


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("O'CONNOR", "OCONNOR"),
        ("D\u2019ARTAGNAN", "DARTAGNAN"),
        ("SMITH-JONES", "SMITH<JONES"),
        ("SMITH\u2010JONES", "SMITH<JONES"),
        ("SMITH - JONES", "SMITH<JONES"),
        ("A, B", "A<B"),
        ("ST. JOHN", "ST<JOHN"),
        (" A  B ", "A<B"),
        ("A\u00a0B", "A<B"),
        ("Щукин", "SHCHUKIN"),
        ("Щукин", "SHTUKYN"),
        ("Юрій", "YURII"),
        ("Юрій", "IURII"),
        ("Ђоковић", "DOKOVIC"),
        ("Игорь", "IGOR"),
        ("عبّاس", "EBBAS"),
        ("فضة", "FXDZXAH"),
        ("محمود", "MXHMWD"),
    ],
)
def test_names_as_doc_9303_writes_them(name: str, field: str) -> None:
    assert allowed(field, name)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("O'CONNOR", "O<CONNOR"),
        ("SMITH-JONES", "SMITHJONES"),
        ("SMITH-JONES", "SMITH<<JONES"),
        ("Марія", "MARYA"),  # YA only at the beginning
        ("فضة", "FXDZXTA"),  # XTA only before the end
        ("ANNA", "ANN"),
        ("ANNA", "ANNAA"),
        ("ANNA", "<ANNA"),
    ],
)
def test_names_as_doc_9303_does_not(name: str, field: str) -> None:
    assert not allowed(field, name)


@pytest.mark.parametrize("name", ["\u5f20", "\u0394", "HENRY 8", "A<B", "A+B"])
def test_a_character_without_transliteration_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no transliteration") as refused:
        compose_name(name, "")
    assert name not in str(refused.value)


@pytest.mark.parametrize("name", ["", "-", "'", " . "])
def test_a_primary_identifier_without_a_letter_is_refused(name: str) -> None:
    for act in (lambda: compose_name(name, "X"), lambda: allowed("X", name, "X")):
        with pytest.raises(ValueError, match="no letter"):
            act()


def test_the_secondary_identifier_is_after_two_fillers_and_may_be_absent() -> None:
    assert allowed("A<<B", "A", "B")
    assert not allowed("A<B", "A", "B")
    assert not allowed("A", "A", "B")
    assert allowed("A", "A", "-")


@pytest.mark.parametrize(
    "field",
    [
        "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<W<<DI",
        "BENNELONG<WOOLOOM<WARRAND<WARNAM<<DINGO",
        "BENNEL<WOOLOO<WARRAN<WARNAM<<DINGO<POTO",
    ],
)
def test_truncations_that_doc_9303_shows(field: str) -> None:
    assert allowed(field, *BENNELONG)


@pytest.mark.parametrize(
    "field",
    [
        "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<WARNA",  # the secondary identifier is gone
        "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<WAR<<",  # and so it is here
        "BENNELONG<WOOLOOMOOLOO<WARRAND<W<<DING<",  # position 44 is no letter
        "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<<DING",  # a primary component is gone
        "BENNELONG<WARRANDYTE<WARNAMBO<<DINGO<PO",  # one in the middle is gone
        "BENNELONG<WOOLOOMOOLOO<WARRANDYTE<X<<DI",  # another letter
        "BENNELONG<WOOLOOMOLOO<WARRANDYTE<WA<<DI",  # a letter in the middle is gone
        "B<W<W<W<<D",  # shorter than it must be
    ],
)
def test_truncations_that_are_none(field: str) -> None:
    assert not allowed(field, *BENNELONG)


def test_a_name_that_fits_is_never_truncated() -> None:
    fits = ("PAPANDROPOULOUS", "JONATHON WARREN TREVOR")
    assert allowed("PAPANDROPOULOUS<<JONATHON<WARREN<TREVOR", *fits)
    assert not allowed("PAPANDROPOULOUS<<JONATHON<WARREN<TREVO", *fits)
    assert not allowed("PAPANDROPOULO<<JONATHON<WARREN<TREVORXX", *fits)


def test_whether_a_name_fits_is_asked_of_the_spelling_that_was_chosen() -> None:
    name = "Ü" * 20
    assert allowed("U" * 20, name)
    assert allowed(("UE" * 20)[:39], name)
    assert not allowed("U" * 39, name), "no spelling of it begins so"
    assert not allowed("UE" * 19, name), "38 positions: neither whole nor cut"
    assert not allowed("U" * 18 + "UE", name), "it fits, and was cut"


def test_a_cut_may_go_through_the_letters_of_one_character() -> None:
    assert allowed("A" * 38 + "N", "A" * 38 + "ÑB")
    assert allowed("A" * 37 + "NX", "A" * 37 + "ÑB")


def test_trailing_components_of_a_mononym_may_be_left_out() -> None:
    name = " ".join(["ABCDEFGHI"] * 6)
    assert allowed("ABCDEFGHI<ABCDEFGHI<ABCDEFGHI<ABCDEFGHI", name)
    assert allowed("ABCDEFGH<ABCDEFGHI<ABCDEFGHI<ABCDEFGH<A", name)


def test_hostile_names_cost_no_more_than_their_length() -> None:
    started = time.perf_counter()
    for character in ("Ü", "Щ", "Ñ", "\u042c", "ß", "\u0628\u0651", "\u0629"):
        name = (character * 64)[:64]
        for field in ("U" * 39, "UE" * 19 + "U", "UX" * 19 + "U", "SH" * 19 + "S", "N" * 39):
            try:
                allowed(field, name, name)
            except ValueError as error:
                assert "no letter" in str(error)  # noqa: PT017 - a soft sign alone is no name
    assert allowed("BB<<BB", "\u0628" + "\u0651" * 63, "\u0628" + "'\u0651" * 30)
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize(
    "ident", ["A B", "AB CD EF", "ÜBER STRAß", "A B C D E F G H I J K L M N OO"]
)
def test_what_is_composed_is_allowed(ident: str) -> None:
    assert allowed(compose_name(ident, ident), ident, ident)


@given(
    st.text(st.sampled_from("ABÜÑß -'Щ"), min_size=1, max_size=64),
    st.text(st.sampled_from("ABÜÑß -'Щ"), max_size=64),
)
def test_what_is_composed_of_anything_is_allowed(primary: str, secondary: str) -> None:
    try:
        field = compose_name(primary, secondary)
    except ValueError:
        return
    assert len(field) == NAME_LENGTH
    assert set(field) <= set(string.ascii_uppercase + "<")
    assert allowed(field, primary, secondary)


@given(st.text(max_size=64), st.text(max_size=64), st.text("AB<U", min_size=39, max_size=39))
def test_any_name_is_decided_or_a_value_error(primary: str, secondary: str, field: str) -> None:
    try:
        allowed(field, primary, secondary)
    except ValueError as error:
        assert primary not in str(error) or len(primary) < 3  # noqa: PT017 - the point of it


def test_a_brute_force_of_small_names_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search against a plain enumeration of the contract's sentence, in a field of 6."""
    monkeypatch.setattr("agent.page.mrz.NAME_LENGTH", 6)
    names = ["AB", "ABC D", "A B C", "Ü B", "ABCDEFG", "AÜB CD"]
    spellings = {
        pair: _every_spelling(*pair, 6) for pair in itertools.product(names, ["", *names[:5]])
    }
    fields = set().union(*spellings.values())
    fields |= {
        f[:at] + c + f[at + 1 :] for f in list(fields)[::7] for at in range(6) for c in "AU<"
    }
    for (primary, secondary), want in spellings.items():
        got = {
            field
            for field in fields
            if is_name_field(field, primary_identifier=primary, secondary_identifier=secondary)
        }
        assert got == want, (primary, secondary)


def _every_spelling(primary: str, secondary: str, length: int) -> set[str]:
    found = set()
    options = [ALTERNATIVES.get(c, [c]) for c in f"{primary}/{secondary}"]
    for choice in itertools.product(*options):
        first, second = ("".join(choice)).split("/")
        words = [first.split(), second.split()]
        whole = "<<".join("<".join(w) for w in words if w)
        if len(whole) <= length:
            found.add(whole.ljust(length, "<"))
            continue
        flat = [w for part in words for w in part]
        least = len(words[0]) + 1 if words[1] else 1
        for kept in range(least, len(flat) + 1):
            for cuts in itertools.product(*(range(1, len(w) + 1) for w in flat[:kept])):
                short = [w[:n] for w, n in zip(flat, cuts, strict=False)]
                parts = [short[: len(words[0])], short[len(words[0]) :]]
                field = "<<".join("<".join(w) for w in parts if w)
                if len(field) == length:
                    found.add(field)
    return found


def test_the_vectors_are_composed_again(vectors_dir: Path) -> None:
    index = json.loads((vectors_dir / "index.json").read_text(encoding="utf-8"))
    specimen = next(v for v in index["vectors"] if v["name"] == "valid-ed25519")
    assert list(compose_mrz(**FIELDS)) == specimen["mrz"]
