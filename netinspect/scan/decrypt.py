"""Opening encrypted documents with passwords that are known: Office's own one, and those that the caller has.

Excel encrypts a write-protected workbook with the password `VelvetSweatshop` and opens it without asking; other
documents are closed in earnest. The work is msoffcrypto-tool's. A key costs as many hash rounds as the document says,
so these are paid from a budget before they are run.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Final
from xml.parsers.expat import ExpatError

import msoffcrypto
import olefile
from cryptography.exceptions import UnsupportedAlgorithm
from msoffcrypto import exceptions

ENGINE: Final = "office"

STANDARD: Final = ("VelvetSweatshop", "/01Hannes Ruescher/01")
"""What Excel and PowerPoint encrypt with when only writing is protected."""

ROUNDS: Final = 3_000_000
"""Hash rounds that all tries on one document may cost together, about 2 s; Office writes documents with 100,000."""

_SPIN = re.compile(rb'spinCount="(\d{1,12})"')

# msoffcrypto raises these for documents that are damaged or of a kind that it does not know.
_FAILURES: Final = (
    exceptions.FileFormatError, exceptions.ParseError, exceptions.DecryptionError, exceptions.EncryptionError,
    OSError, ValueError, LookupError, struct.error, TypeError, AttributeError, AssertionError, ArithmeticError,
    EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError, ExpatError,
    UnsupportedAlgorithm,
)  # fmt: skip


def open_document(data: bytes, passwords: Sequence[str] = STANDARD) -> tuple[bytes, str] | None:
    """The decrypted document and the password that opened it; None when none of `passwords` does.

    Office's own passwords are tried in any case, and first.
    """
    budget = ROUNDS
    cost = _rounds(data)
    for password in dict.fromkeys((*STANDARD, *passwords)):
        budget -= cost
        if budget < 0:
            return None
        try:
            document = msoffcrypto.OfficeFile(io.BytesIO(data))
            if not document.is_encrypted():
                return None
            document.load_key(password=password)
            plain = io.BytesIO()
            document.decrypt(plain)
        except _FAILURES:
            continue
        content = plain.getvalue()
        # The library's own check of the password is wrong for keys of 128 bits, so what comes out decides.
        if content.startswith((b"PK\x03\x04", olefile.MAGIC)) and content != data:
            return content, password
    return None


def _rounds(data: bytes) -> int:
    """Hash rounds of one try: an agile document tells them, a standard one has always 50,000."""
    return max((int(spin[1]) for spin in _SPIN.finditer(data)), default=50_000)
