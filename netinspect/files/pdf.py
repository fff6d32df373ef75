"""PDF, through pikepdf (qpdf): files in it, its scripts, and the actions that start something.

Only a document that can have any of these is parsed: names stand in the open, unless they are in object streams,
written with `#` escapes, or the document is encrypted.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from netinspect.files.budget import Budget, Damaged, Member, Report
from netinspect.files.streams import Deflate, inflate

if TYPE_CHECKING:
    import pikepdf

_TELLING = re.compile(
    rb"/(?:ObjStm|JS|JavaScript|EmbeddedFile|Filespec|EF|Launch|OpenAction|AA|XFA|RichMedia|GoToE|GoToR|ImportData|Encrypt)\b"
    rb"|/[A-Za-z]*#[0-9A-Fa-f]{2}"
)


def load() -> None:
    """Import what takes long."""
    import pikepdf  # noqa: F401


def members(data: bytes, kind: str, name: str, budget: Budget, report: Report) -> Iterator[Member]:
    """Yield files and scripts. Raises Damaged when it cannot be read, and OverBudget."""
    at = data.find(b"MIME-Version:")
    if at >= 0:
        # Word opens a PDF with a web archive in it as that archive, and a reader as a PDF.
        yield Member("page.mht", budget.take(data[at:]))
    if not _TELLING.search(data):
        return
    import pikepdf

    errors = (
        pikepdf.PdfError, pikepdf.PasswordError, pikepdf.DataDecodingError, RuntimeError, ValueError, TypeError,
        LookupError, OverflowError,
    )  # fmt: skip
    document = _opened(data, budget, report)
    if document is None:
        report.encrypted.append(name)
        return
    with document:
        seen: set[tuple[int, int]] = set()
        unnamed: list[Any] = []
        number = 0
        for count, item in enumerate(document.objects):
            if not count % 512:
                budget.check_time()
            try:
                found = list(_look(item, seen, unnamed, budget, report))
            except errors:
                report.could_not("damaged document")
                continue
            for member in found:
                number += 1
                yield Member(member.name or f"script{number}.js", member.data)
        for stream in unnamed:
            if stream.objgen in seen:
                continue
            report.saw("attachment")
            try:
                content = _content(stream, seen, budget)
            except errors:
                report.could_not("damaged document")
                continue
            yield Member("attachment", content)


def _opened(data: bytes, budget: Budget, report: Report) -> pikepdf.Pdf | None:
    """None when it wants a password that nobody knows. Most encrypted ones open without."""
    import pikepdf

    for password in ("", *budget.passwords):
        if password and not budget.take_try():
            break
        try:
            document = pikepdf.open(io.BytesIO(data), password=password, suppress_warnings=True)
        except pikepdf.PasswordError:
            continue
        except (pikepdf.PdfError, RuntimeError, ValueError, TypeError, LookupError) as error:
            raise Damaged(str(error)) from error
        if password:
            budget.opened_with(password)
            report.saw("password", password)
        return document
    return None


def _look(
    item: Any, seen: set[tuple[int, int]], unnamed: list[Any], budget: Budget, report: Report
) -> Iterator[Member]:
    """What one object holds. Objects in objects (an action in a page) are looked at with it."""
    import pikepdf

    waiting = [(item, 0)]
    while waiting:
        here, depth = waiting.pop()
        if isinstance(here, pikepdf.Array):
            values = list(here)
        elif isinstance(here, pikepdf.Dictionary | pikepdf.Stream):
            yield from _dictionary(here, seen, unnamed, budget, report)
            values = [value for _, value in here.items()]
        else:
            continue
        if depth < 8:
            for value in values:
                # What is an object of its own comes by itself.
                if isinstance(value, pikepdf.Object) and not value.is_indirect:
                    waiting.append((value, depth + 1))


def _dictionary(
    here: Any, seen: set[tuple[int, int]], unnamed: list[Any], budget: Budget, report: Report
) -> Iterator[Member]:
    import pikepdf

    keys = set(here.keys())
    if "/S" in keys:
        if here["/S"] == "/Launch":
            report.saw("launch", str(here.get("/F", here.get("/Win", "")))[:200])
        elif here["/S"] in ("/GoToR", "/GoToE", "/ImportData"):
            _share(here.get("/F"), report)
    if "/OpenAction" in keys or "/AA" in keys:
        report.saw("autorun", "")
    if "/JS" in keys:
        script = here["/JS"]
        report.saw("javascript", "")
        if isinstance(script, pikepdf.Stream):
            yield Member("", _content(script, seen, budget))
        elif isinstance(script, pikepdf.String):
            yield Member("", budget.take(_words(bytes(script))))
    if "/EF" in keys and isinstance(here["/EF"], pikepdf.Dictionary):
        name = str(here.get("/UF", here.get("/F", "attachment")))
        report.saw("attachment", name)
        for file in here["/EF"].values():
            if isinstance(file, pikepdf.Stream) and file.objgen not in seen:
                yield Member(name, _content(file, seen, budget))
    if "/XFA" in keys:
        parts = here["/XFA"]
        for part in [parts] if isinstance(parts, pikepdf.Stream) else list(parts):
            if isinstance(part, pikepdf.Stream) and part.objgen not in seen:
                form = _content(part, seen, budget)
                if b"<script" in form:
                    report.saw("javascript", "form")
                    if b"activity=\"initialize\"" in form or b"activity=\"docReady\"" in form:
                        report.saw("autorun", "form")
                yield Member("form.xml", form)
    if here.get("/Type") == "/EmbeddedFile" and isinstance(here, pikepdf.Stream):
        unnamed.append(here)


def _share(target: Any, report: Report) -> None:
    """A file on a server is asked for with the reader's name and a proof of the password."""
    import pikepdf

    if isinstance(target, pikepdf.Dictionary):
        target = target.get("/UF", target.get("/F"))
    if isinstance(target, pikepdf.String):
        place = str(target)
        if place.replace("/", "\\").startswith("\\\\") or place.lower().startswith("file://"):
            report.saw("remote", place)


def _words(octets: bytes) -> bytes:
    """A text string (ISO 32000-1, 7.9.2.2) as UTF-8."""
    if octets.startswith(b"\xfe\xff"):
        return octets[2:].decode("utf-16-be", "replace").encode("utf-8")
    return octets


def _content(stream: Any, seen: set[tuple[int, int]], budget: Budget) -> bytes:
    seen.add(stream.objgen)
    budget.take_member()
    raw = stream.read_raw_bytes()
    filters = stream.get("/Filter", [])
    names = [str(one) for one in filters] if not isinstance(filters, str) and _is_array(filters) else [str(filters)]
    if names == ["/FlateDecode"] and "/DecodeParms" not in stream:
        try:
            content, _ = inflate(memoryview(raw), lambda: Deflate(15), budget, partial=True)
        except zlib.error as error:
            raise ValueError("stream") from error
        return content
    # Other filters are qpdf's own, within the worker's memory.
    content = stream.read_bytes() if "/Filter" in stream else raw
    budget.members += 1
    return budget.take(content)


def _is_array(value: Any) -> bool:
    import pikepdf

    return isinstance(value, pikepdf.Array | list)
