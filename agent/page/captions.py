"""What stands beside the holder's data: captions and the forms of Doc 9303 for the visual zone.

Captions are in Indonesian and English: Doc 9303-3 section 3.3 asks for the State's language, an
oblique, and one of English, French and Spanish.
"""

from __future__ import annotations

TITLE = "PASPOR"
TITLE_ENGLISH = "PASSPORT"

TYPE = "Jenis/Type"
STATE = "Kode negara/Code of State"
NUMBER = "No. paspor/Passport No."
PRIMARY = "Nama keluarga/Surname"
SECONDARY = "Nama depan/Given names"
NAME = "Nama lengkap/Full name"
NATIONALITY = "Kewarganegaraan/Nationality"
BIRTH = "Tanggal lahir/Date of birth"
SEX = "Kelamin/Sex"
BIRTH_PLACE = "Tempat lahir/Place of birth"
ISSUE = "Tgl. pengeluaran/Date of issue"
EXPIRY = "Tgl. habis berlaku/Date of expiry"
PERSONAL_NUMBER = "Nomor pribadi/Personal No."
AUTHORITY = "Kantor yang mengeluarkan/Authority"
SIGNATURE = "Tanda tangan pemegang/Holder's signature"

_MONTHS = (
    ("JAN", "JAN"),
    ("FEB", "FEB"),
    ("MAR", "MAR"),
    ("APR", "APR"),
    ("MEI", "MAY"),
    ("JUN", "JUN"),
    ("JUL", "JUL"),
    ("AGU", "AUG"),
    ("SEP", "SEP"),
    ("OKT", "OCT"),
    ("NOV", "NOV"),
    ("DES", "DEC"),
)
_SEXES = {"F": "P/F", "M": "L/M", "X": "X"}


def visual_date(date: str) -> str:
    """``1991-03-14`` as ``14 MAR/MAR 1991``: the month twice, as in Doc 9303-3 section 3.8."""
    year, month, day = date.split("-")
    local, english = _MONTHS[int(month) - 1]
    return f"{day} {local}/{english} {year}"


def visual_sex(sex: str) -> str:
    """The sex in both languages: perempuan/female, laki-laki/male, X as it is."""
    return _SEXES[sex]
