"""SVG as a file: parsed as the XML that it is, and written anew from a list of elements and attributes.

Shapes, texts, gradients, filters and pictures stay; scripts, event handlers, foreign content, animations (which can set
an address), links other than to the web and references to other documents go.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from netinspect.disarm.contract import CannotClean, Cleaned, Removal
from netinspect.disarm.css import address_may_stay, sheet, style_may_stay
from netinspect.files.budget import Budget, OverBudget

if TYPE_CHECKING:
    from netinspect.limits import Limits

LONGEST: Final = 16_777_216
_DEEPEST: Final = 500
_LISTED: Final = 100

_SVG: Final = "http://www.w3.org/2000/svg"
_XLINK: Final = "http://www.w3.org/1999/xlink"
_XML: Final = "http://www.w3.org/XML/1998/namespace"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTS: Final = _words(
    "a circle clipPath defs desc ellipse feBlend feColorMatrix feComponentTransfer feComposite feConvolveMatrix"
    " feDiffuseLighting feDisplacementMap feDistantLight feDropShadow feFlood feFuncA feFuncB feFuncG feFuncR"
    " feGaussianBlur feMerge feMergeNode feMorphology feOffset fePointLight feSpecularLighting feSpotLight feTile"
    " feTurbulence filter g image line linearGradient marker mask path pattern polygon polyline radialGradient rect"
    " stop style svg switch symbol text textPath title tspan use view"
)
_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,60}")
_URL: Final = re.compile(r"""url\(\s{0,20}["']?([^"')]*)""", re.IGNORECASE)
_WORDS: Final = {"script": "script", "foreignObject": "foreign-object", "animate": "animation", "set": "animation",
                 "animateTransform": "animation", "animateMotion": "animation", "handler": "script",
                 "iframe": "frame", "embed": "object", "object": "object"}  # fmt: skip


def clean(data: bytes, limits: Limits) -> Cleaned:
    """`data` without what acts; a picture that is clean already comes back as it was. Deterministic.

    Raises:
        CannotClean: it is no well-formed XML, declares entities, or is too long or too deep.
    """
    if len(data) > LONGEST:
        raise CannotClean("document too long")
    writer = _Writer(Budget(limits))
    try:
        writer.read(data)
    except expat.ExpatError as error:
        raise CannotClean("damaged document") from error
    except OverBudget as over:
        raise CannotClean(over.reason) from over
    if not writer.removals:
        return Cleaned(data)
    return Cleaned("".join(writer.out).encode("utf-8"), tuple(writer.removals))


class _Writer:
    """Takes the parser's events; `out` is the picture as it may stay."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._open: list[str] = []
        self._skip = 0  # depth in an element that does not stay
        self._css: list[str] | None = None
        self._count = 0
        self.out: list[str] = ['<?xml version="1.0" encoding="UTF-8"?>\n']
        self.removals: list[Removal] = []

    def read(self, data: bytes) -> None:
        """Parse all of it."""
        parser = expat.ParserCreate(namespace_separator="\n")
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        parser.EntityDeclHandler = self._declared
        parser.AttlistDeclHandler = self._declared
        parser.ProcessingInstructionHandler = self._instruction
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
        parser.Parse(data, True)

    def _removed(self, what: str, where: str = "") -> None:
        removal = Removal(what, where[:100])
        if len(self.removals) < _LISTED and removal not in self.removals:
            self.removals.append(removal)

    def _declared(self, *_: Any) -> None:
        raise CannotClean("entities")

    def _instruction(self, target: str, data: str) -> None:
        self._removed("instruction", target)  # a style sheet, which may be a program (XSLT)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._count += 1
        if not self._count % 512:
            self._budget.check_time()
        space, _, local = name.rpartition("\n")
        if self._skip or self._css is not None:
            self._skip += 1
            return
        if space not in (_SVG, "") or local not in _ELEMENTS:
            # What programs keep for themselves (Inkscape) does nothing, and goes all the same.
            self._removed(_WORDS.get(local, "element"), local)
            self._skip = 1
            return
        if len(self._open) >= _DEEPEST:
            raise CannotClean("nested too deep")
        kept = [self._attribute(local, key, value) for key, value in attributes.items()]
        first = f' xmlns="{_SVG}" xmlns:xlink="{_XLINK}"' if not self._open else ""
        self._open.append(local)
        self.out.append(f"<{local}{first}{''.join(kept)}>")
        if local == "style":
            self._css = []

    def _attribute(self, element: str, key: str, value: str) -> str:
        space, _, local = key.rpartition("\n")
        if not _NAME.fullmatch(local) or space not in ("", _XLINK, _XML):
            self._removed("attribute", local)
            return ""
        low = local.lower()
        if low.startswith("on"):
            self._removed("event-handler", local)
            return ""
        if low in ("href", "src", "base", "action", "formaction", "data", "begin", "end", "attributename"):
            use = "source" if element == "image" else "link"
            outside = element not in ("a", "image") and not value.lstrip().startswith("#")
            if low != "href" or outside or not address_may_stay(value, use):
                self._removed("address", value)
                return ""
        elif low == "style":
            if not style_may_stay(value):
                self._removed("style-code", element)
                return ""
        elif any(not address_may_stay(match, "source") for match in _URL.findall(value)):
            self._removed("address", value)
            return ""
        prefix = {"": "", _XLINK: "xlink:", _XML: "xml:"}[space]
        return f" {prefix}{local}={quoteattr(value)}"

    def _end(self, name: str) -> None:
        if self._skip:
            self._skip -= 1
            return
        if not self._open:
            return
        local = self._open.pop()
        if self._css is not None:
            css, self._css = "".join(self._css), None
            kept = sheet(css)
            if kept != css.strip():
                self._removed("style-code", "style")
            self.out.append(escape(kept))
        self.out.append(f"</{local}>")

    def _text(self, text: str) -> None:
        if self._skip:
            return
        if self._css is not None:
            self._css.append(text)
        elif self._open:
            self.out.append(escape(text))
