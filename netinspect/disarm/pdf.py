"""PDF: actions, scripts, files and media taken out, through pikepdf (qpdf). Runs in a worker.

Every object of the file is looked at once, reachable or not, with the objects in it. An action is emptied where it
stands, so that no way to it is left; what points to it is removed as well, so that readers find nothing odd. What qpdf
writes afterwards holds only what it read: nothing before the header, behind the end or between the objects remains.

ISO 32000-2: actions 12.6, names 7.7.4, embedded files 7.11.4, annotations 12.5, forms 12.7, multimedia 13.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from netinspect.disarm.contract import CannotClean, Cleaned, Removal
from netinspect.files import kind as kinds
from netinspect.files.budget import Budget, OverBudget

if TYPE_CHECKING:
    from netinspect.limits import Limits

OBJECTS: Final = 1_000_000
"""Objects of one document, those in objects included; 25 MB of an ordinary one have 100,000."""
LISTED: Final = 100
"""Removals that are told one by one."""

_ACTIONS: Final = {
    "/JavaScript": "javascript", "/Launch": "launch", "/GoToE": "embedded-file", "/GoToR": "remote-file",
    "/Thread": "remote-file", "/SubmitForm": "form-submission", "/ImportData": "form-import",
    "/Rendition": "multimedia", "/RichMediaExecute": "multimedia", "/Movie": "multimedia", "/Sound": "multimedia",
    "/GoTo3DView": "multimedia",
}  # fmt: skip
"""Types of action (12.6.4) that go. Those of other kinds of dictionaries (`/S`) have none of these names."""
_KEPT_ACTIONS: Final = frozenset(
    {"/GoTo", "/GoToDp", "/URI", "/Named", "/Hide", "/ResetForm", "/SetOCGState", "/Trans"}
)
_PAGES: Final = frozenset({"/NextPage", "/PrevPage", "/FirstPage", "/LastPage"})
"""Named actions of the standard; readers know menu commands besides."""

_KEYS: Final = {
    "/AA": "additional-actions", "/JS": "javascript", "/JavaScript": "javascript", "/EmbeddedFiles": "embedded-file",
    "/EF": "embedded-file", "/RF": "embedded-file", "/AF": "embedded-file", "/Collection": "embedded-file",
    "/XFA": "xfa", "/NeedsRendering": "xfa", "/RichMediaContent": "multimedia", "/RichMediaSettings": "multimedia",
    "/Renditions": "multimedia", "/AlternatePresentations": "multimedia", "/3DD": "multimedia",
    "/Ref": "remote-file", "/OPI": "remote-file",
}  # fmt: skip
_RESOURCES: Final = frozenset({"/Font", "/XObject", "/Pattern", "/ExtGState", "/OCG", "/OCMD", "/CMap"})
"""Fonts and images have names of the author's choice, and `/AA` is a good name for a font."""
_ANNOTATIONS: Final = {
    "/FileAttachment": "embedded-file", "/RichMedia": "multimedia", "/Movie": "multimedia", "/Sound": "multimedia",
    "/Screen": "multimedia", "/3D": "multimedia",
}  # fmt: skip
_STREAMS: Final = {"/EmbeddedFile": "embedded-file", "/3D": "multimedia"}
_TO_ACTIONS: Final = ("/A", "/PA", "/Next", "/OpenAction")
_TELLING: Final = ("/S", "/Type", "/Subtype", "/F", "/FFilter", "/FDecodeParms")
_SCHEMES: Final = ("http:", "https:", "mailto:")


def clean(data: bytes, limits: Limits) -> Cleaned:
    """`data` without what acts. Deterministic.

    Raises:
        CannotClean: it is encrypted, damaged beyond reading, or too much.
    """
    import pikepdf

    errors = (
        pikepdf.PdfError, pikepdf.DataDecodingError, RuntimeError, ValueError, TypeError, LookupError, OverflowError,
    )  # fmt: skip
    try:
        with pikepdf.open(io.BytesIO(data), suppress_warnings=True) as document:
            if document.is_encrypted:
                raise CannotClean("encrypted")
            work = _Work(Budget(limits))
            work.run(document)
            # Objects that the cross-reference does not lead to, or another file around this one.
            if document.get_warnings() or not data.startswith(b"%PDF-") or kinds.carries(data):
                work.removed("hidden-data")
            if not work.removals:
                return Cleaned(data)
            out = io.BytesIO()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what it thinks of the form
                document.save(out, deterministic_id=True, fix_metadata_version=False)
    except pikepdf.PasswordError as error:
        raise CannotClean("encrypted") from error
    except OverBudget as over:
        raise CannotClean(over.reason) from over
    except errors as error:
        raise CannotClean("damaged document") from error
    if out.tell() > limits.member_bytes:
        raise CannotClean("member_bytes")
    cleaned = out.getvalue()
    if cleaned == data:  # what there is to warn of is not hidden: it is all there is
        return Cleaned(data)
    return Cleaned(cleaned, tuple(work.removals))


class _Work:
    """One document."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._left = OBJECTS
        self._where = ""
        self._told: set[Removal] = set()
        self.removals: list[Removal] = []

    def removed(self, what: str) -> None:
        """Note what was taken out of the present object."""
        removal = Removal(what, self._where)
        if len(self.removals) < LISTED and removal not in self._told:
            self._told.add(removal)
            self.removals.append(removal)

    def run(self, document: Any) -> None:
        """Look at everything."""
        for here, keys in self._everything(document):
            if "/Annots" in keys:
                self._annotations(here)
            if not keys.isdisjoint(_TO_ACTIONS):
                self._links(here)
            if not keys.isdisjoint(_TELLING):
                self._itself(here)
            if not keys.isdisjoint(_KEYS):
                self._keys(here)
        self._where = ""

    def _everything(self, document: Any) -> Iterator[tuple[Any, set[str]]]:
        """All dictionaries and streams with their keys: objects of their own, each with those that stand in it."""
        import pikepdf

        for item in (document.trailer, *document.objects):
            self._budget.check_time()
            if not isinstance(item, pikepdf.Array | pikepdf.Dictionary | pikepdf.Stream):
                continue
            self._where = f"object {item.objgen[0]}" if item.is_indirect else "trailer"
            waiting: list[Any] = [item]
            while waiting:
                here = waiting.pop()
                self._left -= 1
                if self._left < 0:
                    raise CannotClean("too many objects")
                if isinstance(here, pikepdf.Dictionary | pikepdf.Stream):
                    yield here, set(here.keys())
                    values = [value for _, value in here.items()]
                elif isinstance(here, pikepdf.Array):
                    values = list(here)
                else:
                    continue
                waiting += [
                    value for value in values
                    if isinstance(value, pikepdf.Array | pikepdf.Dictionary) and not value.is_indirect
                ]  # fmt: skip

    def _annotations(self, here: Any) -> None:
        import pikepdf

        listed = here.get("/Annots")
        if not isinstance(listed, pikepdf.Array):
            return
        kept = []
        for one in listed:
            what = _ANNOTATIONS.get(_name(one, "/Subtype")) if isinstance(one, pikepdf.Dictionary) else None
            if what is None:
                kept.append(one)
            else:
                self.removed(what)
        if len(kept) < len(listed):
            here["/Annots"] = pikepdf.Array(kept)

    def _links(self, here: Any) -> None:
        """References to actions that are, or were, none that may stay."""
        import pikepdf

        for key in _TO_ACTIONS:
            value = here.get(key)
            if not isinstance(value, pikepdf.Dictionary):
                continue
            if not len(value):
                del here[key]
                continue
            # The attributes of a structure element are under /A too (14.7.6); they have no type of action.
            what = _harm(value)
            if what is None and key == "/OpenAction" and _name(value, "/S") != "/GoTo":
                what = "open-action"
            if what:
                self.removed(what)
                del here[key]

    def _itself(self, here: Any) -> None:
        import pikepdf

        what = _harm(here, anywhere=True)
        if what is None and _name(here, "/Subtype") in _ANNOTATIONS and "/Rect" in here:
            what = _ANNOTATIONS[_name(here, "/Subtype")]
        if what:
            self.removed(what)
            for key in list(here.keys()):
                if not (isinstance(here, pikepdf.Stream) and key == "/Length"):
                    del here[key]
        if isinstance(here, pikepdf.Stream):
            what = what or _STREAMS.get(_name(here, "/Type"))
            if what:
                self.removed(what)
                here.write(b"")
                for key in ("/Type", "/Subtype", "/OnInstantiate", "/Params"):
                    if key in here:
                        del here[key]
            for key in ("/F", "/FFilter", "/FDecodeParms"):  # 7.3.8.2: the content is in another file
                if key in here:
                    self.removed("remote-file")
                    del here[key]

    def _keys(self, here: Any) -> None:
        import pikepdf

        for key in list(here.keys()):
            what = _KEYS.get(key)
            if what is None:
                continue
            value = here[key]
            if isinstance(value, pikepdf.Dictionary | pikepdf.Stream) and _name(value, "/Type") in _RESOURCES:
                continue
            self.removed(what)
            if key == "/EF" and isinstance(value, pikepdf.Dictionary):
                for file in value.values():
                    if isinstance(file, pikepdf.Stream):
                        file.write(b"")
            del here[key]


def _harm(action: Any, *, anywhere: bool = False) -> str | None:
    """What a dictionary does if it is an action; None when it may stay. `anywhere`: it need not be an action."""
    kind = _name(action, "/S")
    if kind in _ACTIONS:
        return _ACTIONS[kind]
    if kind == "/URI":
        return None if _address_may_stay(action.get("/URI")) else "link"
    if kind == "/Named":
        return None if _name(action, "/N") in _PAGES else "menu-command"
    if not kind or kind in _KEPT_ACTIONS or (anywhere and _name(action, "/Type") != "/Action"):
        return None
    return "action"


def _address_may_stay(value: Any) -> bool:
    import pikepdf

    if not isinstance(value, pikepdf.String):
        return False
    text = "".join(char for char in str(value) if char > " ").lower()
    if ":" not in text.partition("/")[0]:
        return not text.startswith(("/", "\\"))  # a relative one; a share of another machine is none
    return text.startswith(_SCHEMES)


def _name(here: Any, key: str) -> str:
    """The value of `key` when it is a name."""
    import pikepdf

    value = here.get(key)
    return str(value) if isinstance(value, pikepdf.Name) else ""
