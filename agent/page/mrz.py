"""The machine readable zone of a TD3 data page: ICAO Doc 9303 parts 3 and 4. Pure.

The zone is determined by the fields but for the name, where the issuer chooses among
transliterations and truncations; so a check asks whether one of the allowed zones was chosen.
Error texts name the part and never its content.
"""

from __future__ import annotations

import enum
import unicodedata
from dataclasses import dataclass

from agent.model import TravelDocument

LINE_LENGTH = 44  # characters, Doc 9303-4 section 4.2
NAME_LENGTH = 39  # characters, positions 6 to 44 of line 1
PERSONAL_NUMBER_LENGTH = 14  # characters, positions 29 to 42 of line 2
FILLER = "<"

_WEIGHTS = (7, 3, 1)  # Doc 9303-3 section 4.9
_VALUES = {
    character: value for value, character in enumerate("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ")
}
_VALUES[FILLER] = 0


def _table(rows: str) -> dict[str, tuple[str, ...]]:
    """Reads rows ``CODE:ALTERNATIVE/ALTERNATIVE``; ``-`` is a character that is not encoded."""
    pairs = (row.split(":") for row in rows.split())
    return {chr(int(code, 16)): tuple(to.replace("-", "").split("/")) for code, to in pairs}


# Doc 9303-3 section 6 A, but for the letters that lose a diacritical mark and nothing else.
_LATIN = _table(
    "00C4:AE/A 00C5:AA/A 00C6:AE 00D0:D 00D1:N/NXX 00D6:OE/O 00D8:OE 00DC:UE/UXX/U 00DE:TH 0110:D "
    "0126:H 0131:I 0132:IJ 013F:L 0141:L 014A:N 0152:OE 0166:T 1E9E:SS"
)
# Section 6 B; the second and third are the exceptions for single languages. The signs that it does
# not list (042C) are not encoded; 0403, 0402 and 040B stand for what its misprinted rows mean.
_CYRILLIC = _table(
    "0401:E/IO 0402:D 0403:G/GJ 0404:IE 0405:DZ 0406:I 0407:I 0408:J 0409:LJ 040A:NJ 040B:C/D "
    "040C:K/KJ 040E:U 040F:DZ/DJ 0410:A 0411:B 0412:V 0413:G/H 0414:D 0415:E 0416:ZH/Z 0417:Z "
    "0418:I/Y 0419:I 041A:K 041B:L 041C:M 041D:N 041E:O 041F:P 0420:R 0421:S 0422:T 0423:U 0424:F "
    "0425:KH/H 0426:TS/C 0427:CH/C 0428:SH/S 0429:SHCH/SHT 042A:IE 042B:Y 042C:- 042D:E 042E:IU "
    "042F:IA 046A:U 0474:Y 0490:G 0492:G/GJ 04BA:C"
)
# "Except if Ukrainian first character".
_CYRILLIC_INITIAL = _table("0404:YE 0407:YI 0419:Y 042E:YU 042F:YA")
# Section 6 C.
_ARABIC = _table(
    "0621:XE 0622:XAA 0623:XAE 0624:U 0625:I 0626:XI 0627:A 0628:B 0629:XTA 062A:T 062B:XTH "
    "062C:J 062D:XH 062E:XKH 062F:D 0630:XDH 0631:R 0632:Z 0633:S 0634:XSH 0635:XSS 0636:XDZ "
    "0637:XTT 0638:XZZ 0639:E 063A:G 0640:- 0641:F 0642:Q 0643:K 0644:L 0645:M 0646:N 0647:H "
    "0648:W 0649:XAY 064A:Y 0671:XXA 0679:XXT 067C:XRT 067E:P 0681:XKE 0685:XXH 0686:XC 0688:XXD "
    "0689:XDR 0691:XXR 0693:XRR 0696:XRX 0698:XJ 069A:XXS 069C:- 06A2:- 06A7:- 06A8:- 06A9:XKK "
    "06AB:XXK 06AD:XNG 06AF:XGG 06BA:XNN 06BC:XXN 06BE:XDO 06C0:XYH 06C1:XXG 06C2:XGE 06C3:XTG "
    "06CC:XYA 06CD:XXY 06D0:Y 06D2:XYB 06D3:XBE"
)
_ARABIC_FINAL = _table("0629:XAH")  # teh marbuta at the end of a name component
_SHADDA = "\u0651"  # doubles what stands before it
_TRANSLITERATIONS = _LATIN | _CYRILLIC | _ARABIC


class _Break(enum.IntEnum):
    """Fillers between two name components, and between the two identifiers."""

    COMPONENT = 1
    IDENTIFIER = 2


_Letters = tuple[str, ...]
"""The allowed transliterations of one character; an empty string where it is not encoded."""
_Component = list[_Letters]


def check_digit(text: str) -> str:
    """The check digit over ``text``, Doc 9303-3 section 4.9.

    Raises:
        ValueError: a character other than A-Z, 0-9 and the filler.
    """
    if not all(character in _VALUES for character in text):
        raise ValueError("a character that a zone cannot hold")
    total = sum(
        _VALUES[character] * _WEIGHTS[position % 3] for position, character in enumerate(text)
    )
    return str(total % 10)


def is_well_read(lower: str) -> bool:
    """Whether line 2, read back from a book, agrees with its own check digits: a misread one hardly ever does."""
    return lower[9] == check_digit(lower[:9]) and lower[43] == _composite(lower)


def document_number(lower: str) -> str:
    """The document number in line 2 (Doc 9303-4 section 4.2.2.2, positions 1 to 9)."""
    return lower[:9].rstrip(FILLER)


def check_mrz(document: TravelDocument) -> None:
    """Checks that Doc 9303 allows this zone for this document's fields.

    Raises:
        ValueError: which part does not agree; never its content.
    """
    upper, lower = document.mrz
    if len(upper) != LINE_LENGTH or len(lower) != LINE_LENGTH:
        raise ValueError(f"a line has not {LINE_LENGTH} characters")
    if upper[:5] != document.document_type.ljust(2, FILLER) + document.issuing_state.ljust(
        3, FILLER
    ):
        raise ValueError("line 1, positions 1 to 5: not the document_type and issuing_state")
    if not is_name_field(
        upper[5:],
        primary_identifier=document.primary_identifier,
        secondary_identifier=document.secondary_identifier,
    ):
        raise ValueError("line 1, positions 6 to 44: not a spelling of the name")
    _check_lower(document, lower)


def _check_lower(document: TravelDocument, lower: str) -> None:
    for part, start, expected in _lower_parts(
        document_number=document.document_number,
        nationality=document.nationality,
        date_of_birth=document.date_of_birth,
        sex=document.sex,
        date_of_expiry=document.date_of_expiry,
        personal_number=document.personal_number,
    ):
        found = lower[start : start + len(expected)]
        # Doc 9303-4: the check digit of an unused personal number may be zero or the filler.
        unused = part == "the personal_number's check digit" and not lower[28:42].strip(FILLER)
        if found != expected and not (unused and found in (FILLER, "0")):
            raise ValueError(f"line 2, position {start + 1}: not {part}")
    if lower[43] != _composite(lower):
        raise ValueError("line 2, position 44: not the composite check digit")


def compose_mrz(
    *,
    document_type: str,
    issuing_state: str,
    nationality: str,
    primary_identifier: str,
    secondary_identifier: str,
    document_number: str,
    date_of_birth: str,
    date_of_expiry: str,
    sex: str,
    personal_number: str,
) -> tuple[str, str]:
    """The two lines for these fields, the first transliteration where Doc 9303 names several.

    Raises:
        ValueError: a field that cannot be written in a zone.
    """
    upper = document_type.ljust(2, FILLER) + issuing_state.ljust(3, FILLER)
    upper += compose_name(primary_identifier, secondary_identifier)
    parts = _lower_parts(
        document_number=document_number,
        nationality=nationality,
        date_of_birth=date_of_birth,
        sex=sex,
        date_of_expiry=date_of_expiry,
        personal_number=personal_number,
    )
    lower = "".join(text for _, _, text in parts)
    return upper, lower + _composite(lower)


def _lower_parts(
    *,
    document_number: str,
    nationality: str,
    date_of_birth: str,
    sex: str,
    date_of_expiry: str,
    personal_number: str,
) -> list[tuple[str, int, str]]:
    """Line 2 without its last position: what it is, where it starts (from 0), the characters."""
    number = document_number.ljust(9, FILLER)
    birth, expiry = (date[2:4] + date[5:7] + date[8:10] for date in (date_of_birth, date_of_expiry))
    personal = _personal_number(personal_number)
    return [
        ("the document_number", 0, number),
        ("the document_number's check digit", 9, check_digit(number)),
        ("the nationality", 10, nationality.ljust(3, FILLER)),
        ("the date_of_birth", 13, birth),
        ("the date_of_birth's check digit", 19, check_digit(birth)),
        ("the sex", 20, FILLER if sex == "X" else sex),
        ("the date_of_expiry", 21, expiry),
        ("the date_of_expiry's check digit", 27, check_digit(expiry)),
        ("the personal_number", 28, personal),
        (
            "the personal_number's check digit",
            42,
            check_digit(personal) if personal.strip(FILLER) else FILLER,
        ),
    ]


def _personal_number(text: str) -> str:
    """Doc 9303-4 section 4.2.2.2: special characters and spaces become the filler."""
    written = "".join(
        FILLER if character.isspace() or unicodedata.category(character)[0] == "P" else character
        for character in text
    )
    if len(written) > PERSONAL_NUMBER_LENGTH or not all(c in _VALUES for c in written):
        raise ValueError(
            f"the personal_number is not {PERSONAL_NUMBER_LENGTH} or fewer characters A-Z 0-9"
        )
    return written.ljust(PERSONAL_NUMBER_LENGTH, FILLER)


def _composite(lower: str) -> str:
    """Doc 9303-4 section 4.2.2.2: over positions 1 to 10, 14 to 20 and 22 to 43."""
    return check_digit(lower[0:10] + lower[13:20] + lower[21:43])


def compose_name(primary_identifier: str, secondary_identifier: str) -> str:
    """The name field, truncated as Doc 9303-4 section 4.2.3 says where it must be.

    Raises:
        ValueError: no letter in the primary identifier, a character without a transliteration, or
            too many components.
    """
    primary, secondary = (
        ["".join(letters[0] for letters in component) for component in _components(identifier)]
        for identifier in (primary_identifier, secondary_identifier)
    )
    if not primary:
        raise ValueError("the primary_identifier has no letter for the zone")
    while True:
        first, second = FILLER.join(primary), FILLER.join(secondary)
        whole = first + (FILLER * 2 + second if second else "")
        if len(whole) < NAME_LENGTH or (
            whole[NAME_LENGTH - 1] != FILLER and (not second or len(first) + 2 < NAME_LENGTH)
        ):
            return whole[:NAME_LENGTH].ljust(NAME_LENGTH, FILLER)
        if not (_shorten(primary) or _shorten(secondary)):
            raise ValueError("the name has too many components for the zone")


def _shorten(components: list[str]) -> bool:
    """Takes one letter from the longest component that has more than one."""
    if not components:
        return False
    longest = max(range(len(components)), key=lambda position: len(components[position]))
    if len(components[longest]) < 2:
        return False
    components[longest] = components[longest][:-1]
    return True


def is_name_field(field: str, *, primary_identifier: str, secondary_identifier: str) -> bool:
    """Whether ``field`` (39 characters) is one of the spellings that Doc 9303 allows for the name.

    Raises:
        ValueError: no letter in the primary identifier, or a character without a transliteration.
    """
    primary, secondary = _components(primary_identifier), _components(secondary_identifier)
    if not primary:
        raise ValueError("the primary_identifier has no letter for the zone")
    name = _with_breaks(primary)
    if secondary:
        name += [_Break.IDENTIFIER, *_with_breaks(secondary)]
    if _is_whole(field.rstrip(FILLER), name):
        return True
    return field[-1] != FILLER and _is_truncated(field, name)


def _with_breaks(components: list[_Component]) -> list[_Letters | _Break]:
    name: list[_Letters | _Break] = []
    for component in components:
        if name:
            name.append(_Break.COMPONENT)
        name += component
    return name


def _is_whole(field: str, name: list[_Letters | _Break]) -> bool:
    """Whether some choice of transliterations gives exactly ``field``.

    It follows all choices at once, as the set of positions reached and the fillers that are due
    before the next letter, so that a hostile name costs no more than its length.
    """
    states = {(0, 0)}
    for step in name:
        if isinstance(step, _Break):
            states = {(at, max(due, int(step)) if at else 0) for at, due in states}
            continue
        reached = set()
        for at, due in states:
            for letters in step:
                written = FILLER * due + letters if letters else ""
                if field.startswith(written, at):
                    reached.add((at + len(written), 0 if letters else due))
        states = reached
    return any(at == len(field) for at, _ in states)


class _Mode(enum.Enum):
    WRITING = enum.auto()
    CUT = enum.auto()  # the rest of this component is left out
    OMITTING = enum.auto()  # this component and all after it are left out


@dataclass(frozen=True, slots=True)
class _Truncation:
    """How far the field is explained: position, fillers due, and whether the component began."""

    at: int
    due: int
    mode: _Mode
    began: bool


def _is_truncated(field: str, name: list[_Letters | _Break]) -> bool:
    """Whether ``field`` is a truncation of some choice of transliterations that does not fit.

    Each state keeps the length of the longest untruncated name that leads to it: a name may be
    truncated only where, in that choice of transliterations, it has more than 39 characters.
    """
    states = {_Truncation(at=0, due=0, mode=_Mode.WRITING, began=False): 0}
    for step in name:
        reached: dict[_Truncation, int] = {}
        for state, length in states.items():
            moves = (
                _after_break(state, step)
                if isinstance(step, _Break)
                else _after_letters(state, step, field)
            )
            for following, grown in moves:
                reached[following] = max(reached.get(following, 0), length + grown)
        states = reached
    return any(state.at == NAME_LENGTH and length > NAME_LENGTH for state, length in states.items())


def _after_break(state: _Truncation, step: _Break) -> list[tuple[_Truncation, int]]:
    due = max(state.due, int(step)) if state.at else 0
    if state.mode is _Mode.OMITTING:
        # Only trailing components may be left out, and never the whole secondary identifier.
        omitted = _Truncation(at=state.at, due=due, mode=_Mode.OMITTING, began=False)
        return [] if step is _Break.IDENTIFIER else [(omitted, 0)]
    moves = [(_Truncation(at=state.at, due=due, mode=_Mode.WRITING, began=False), 0)]
    if state.at == NAME_LENGTH and step is _Break.COMPONENT:
        moves.append((_Truncation(at=state.at, due=due, mode=_Mode.OMITTING, began=False), 0))
    return moves


def _after_letters(state: _Truncation, step: _Letters, field: str) -> list[tuple[_Truncation, int]]:
    moves: list[tuple[_Truncation, int]] = []
    for letters in step:
        if not letters:
            moves.append((state, 0))
        elif state.mode is not _Mode.WRITING:
            skipped = _Truncation(at=state.at, due=0, mode=state.mode, began=state.began)
            moves.append((skipped, state.due + len(letters)))
        else:
            grown = state.due + len(letters)
            for count in range(0 if state.began else 1, len(letters) + 1):
                written = FILLER * state.due + letters[:count]
                if field.startswith(written, state.at):
                    mode = _Mode.WRITING if count == len(letters) else _Mode.CUT
                    at = state.at + len(written)
                    moves.append((_Truncation(at=at, due=0, mode=mode, began=True), grown))
    return moves


def _components(identifier: str) -> list[_Component]:
    """The name components as sequences of transliterations; those without a letter vanish."""
    components: list[_Component] = []
    for word in _words(unicodedata.normalize("NFC", identifier)):
        component: _Component = []
        doubled = -1
        for position, character in enumerate(word):
            if character == _SHADDA:
                doubled = _double_last(component, doubled)
                continue
            letters = _transliterate(character)
            upper = character.upper()
            if position == 0:
                letters += _CYRILLIC_INITIAL.get(upper, ())
            if position == len(word) - 1:
                letters = _ARABIC_FINAL.get(upper, letters)
            component.append(letters)
        if any(any(letters) for letters in component):
            components.append(component)
    return components


def _words(text: str) -> list[str]:
    """Doc 9303-3 section 4.6: spaces, hyphens and commas separate components."""
    separated = "".join(
        " " if character == "," or unicodedata.category(character) == "Pd" else character
        for character in text
    )
    return separated.split()


def _double_last(component: _Component, doubled: int) -> int:
    """Doc 9303-3 section 6 C, note 3: shadda repeats the letter, or sequence, before it.

    Once: a row of them on one letter must not grow it without bound. Returns which it was.
    """
    encoded = [position for position, letters in enumerate(component) if any(letters)]
    if encoded and encoded[-1] != doubled:
        component[encoded[-1]] = tuple(letters * 2 for letters in component[encoded[-1]])
    return encoded[-1] if encoded else -1


def _transliterate(character: str) -> _Letters:
    upper = character if character in _TRANSLITERATIONS else character.upper()
    if len(upper) > 1:  # such as the German sharp s, which has no capital of its own
        return ("".join(_transliterate(part)[0] for part in upper),)
    if upper in _TRANSLITERATIONS:
        return _TRANSLITERATIONS[upper]
    if "A" <= upper <= "Z":
        return (upper,)
    # Doc 9303-3 section 4.6: apostrophes and all other punctuation are left out without a filler.
    if unicodedata.category(upper)[0] in "PM" or unicodedata.category(upper) in ("Lm", "Sk"):
        return ("",)
    base = unicodedata.normalize("NFD", upper)[0]
    if base == upper:
        raise ValueError("a character for which Doc 9303-3 section 6 has no transliteration")
    return _transliterate(base)
