"""Opening encrypted documents with passwords that are known: Office's own one, and those that the caller has.

Excel encrypts a write-protected workbook with the password `VelvetSweatshop` and opens it without asking; other
documents are closed in earnest. The work is msoffcrypto-tool's. A key costs as many hash rounds as the document says, so
these are paid from a budget before they are run.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Final

import msoffcrypto
import olefile
from msoffcrypto import exceptions

ENGINE: Final = "office"

STANDARD: Final = ("VelvetSweatshop", "/01Hannes Ruescher/01")
"""What Excel and PowerPoint encrypt with when only writing is protected."""

ROUNDS: Final = 1_500_000
"""Hash rounds that all tries on one document may cost together, about 1.5 s; Office writes documents with 100,000."""

_SPIN = re.compile(rb'spinCount="(\d{1,12})"')

# msoffcrypto raises these for documents that are damaged or of a kind that it does not know.
_FAILURES: Final = (
    exceptions.FileFormatError, exceptions.ParseError, exceptions.DecryptionError, exceptions.EncryptionError,
    OSError, ValueError, LookupError, struct.error, TypeError, AttributeError, AssertionError, ArithmeticError,
    EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error, RuntimeError, SyntaxError,
)  # fmt: skip


def is_encrypted(data: bytes) -> bool:
    """Whether the compound file `data` is an encrypted document; False as well where that cannot be told."""
    try:
        return bool(msoffcrypto.OfficeFile(io.BytesIO(data)).is_encrypted())
    except _FAILURES:
        return False


def open_document(data: bytes, passwords: Sequence[str] = STANDARD) -> tuple[bytes, str] | None:
    """The decrypted document and the password that opened it; None when none of `passwords` does."""
    budget = ROUNDS
    cost = _rounds(data)
    for password in passwords:
        budget -= cost
        if budget < 0:
            return None
        try:
            document = msoffcrypto.OfficeFile(io.BytesIO(data))
            if not document.is_encrypted():
                return None
            document.load_key(password=password, **({"verify_password": True} if document.format == "ooxml" else {}))
            plain = io.BytesIO()
            document.decrypt(plain)
        except _FAILURES:
            continue
        content = plain.getvalue()
        if content and content != data:
            return content, password
    return None


def _rounds(data: bytes) -> int:
    """Hash rounds of one try: three keys in an agile document, of which the document tells the rounds."""
    spin = _SPIN.search(data[:65_536]) or _SPIN.search(data)
    if spin:
        return 3 * int(spin[1])
    return 50_000 if olefile.isOleFile(data[:1024].ljust(1536, b"\0")) else 0
