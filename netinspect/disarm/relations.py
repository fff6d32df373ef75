"""The relationships and content types of an OOXML package (ECMA-376 part 2), and which of them lead to what runs."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from netinspect.disarm.contract import CannotClean
from netinspect.disarm.fields import may_link
from netinspect.disarm.package import plain
from netinspect.disarm.xmlcut import Element, Surgeon

TYPES: Final = "[content_types].xml"

# The last step of a relationship's type, lower case: what runs, or shows what another document holds.
BANNED: Final = {
    "vbaproject": "vba", "vbaprojectsignature": "vba", "vbaprojectsignatureagile": "vba",
    "vbaprojectsignaturev3": "vba", "wordvbadata": "vba", "attachedtoolbars": "vba",
    "keymapcustomizations": "vba", "legacykeymapcustomizations": "vba",
    "control": "activex", "activexcontrolbinary": "activex", "activexcontrol": "activex",
    "extensibility": "customui", "usercustomization": "customui", "customui": "customui",
    "webextension": "webextension", "webextensiontaskpanes": "webextension",
    "oleobject": "object", "afchunk": "chunk", "subdocument": "link", "frame": "link", "externallink": "link",
}  # fmt: skip
INERT: Final = "removed"
"""The target of a relationship that had to stay because a binary part names it."""
MACRO_SHEETS: Final = frozenset({"xlmacrosheet", "xlintlmacrosheet"})
STALE: Final = frozenset({"origin", "signature", "calcchain", "xlbinaryindex"})
"""What is about the content of other parts, and can be left out."""

# The same by content type, for parts that have another relationship or none.
_BANNED_TYPES: Final = (
    ("vbaproject", "vba"), ("vbadata", "vba"), ("attachedtoolbars", "vba"), ("keymapcustomizations", "vba"),
    ("activex", "activex"), ("customui", "customui"), ("webextension", "webextension"), ("oleobject", "object"),
    ("externallink", "link"), ("text/html", "chunk"), ("message/", "chunk"), ("xhtml", "chunk"), ("rtf", "chunk"),
)  # fmt: skip
# And by place, as programs name them.
_BANNED_NAMES: Final = (
    (re.compile(r"(?:^|/)vba(?:project|data)[^/]*\.(?:bin|xml)$"), "vba"),
    (re.compile(r"(?:^|/)activex/"), "activex"),
    (re.compile(r"^(?:customui|usercustomization)/"), "customui"),
    (re.compile(r"(?:^|/)webextensions/"), "webextension"),
    (re.compile(r"^xl/externallinks/"), "link"),
)
_SCHEME = re.compile(r"[\x00-\x20]*(?:[a-z][a-z0-9+.\-]*:|[\\/]{2})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Relation:
    """One relationship. `kind` is the last step of its type, `part` the plain name of its target, "" for others."""

    id: str
    kind: str
    target: str
    external: bool
    part: str

    @property
    def may_stay(self) -> bool:
        """Whether nothing is fetched by it, as far as the relationship itself tells."""
        if self.external:
            if self.target == INERT:
                return True
            return self.kind == "hyperlink" and may_link(self.target)
        return self.kind not in BANNED


def source_of(key: str) -> str:
    """The part whose relationships stand in the member `key`; "" for those of the package."""
    folder, _, name = key.rpartition("/")
    folder = folder.removesuffix("_rels").rstrip("/")
    name = name.removesuffix(".rels")
    return f"{folder}/{name}" if folder else name


def relationships_of(part: str) -> str:
    """The member that holds the relationships of `part`."""
    folder, _, name = part.rpartition("/")
    return f"{folder}/_rels/{name}.rels" if folder else f"_rels/{name}.rels"


def resolve(source: str, target: str) -> str:
    """The plain name of the part that `target` leads to from `source`."""
    path = unquote(target.split("#")[0].split("?")[0]).replace("\\", "/")
    base = "" if path.startswith("/") else posixpath.dirname(source)
    return plain(posixpath.normpath(posixpath.join("/", base, path)))


class Relations(Surgeon):
    """Reads one `.rels` part (`run`), or edits it: `cut` and `turn` (id to a new type's last step and target)."""

    def __init__(self, source: str, cut: frozenset[str] = frozenset(), turn: dict[str, tuple[str, str]] | None = None):
        super().__init__()
        self._source = source
        self._cut = cut
        self._turn = turn or {}
        self.found: dict[str, Relation] = {}

    def opened(self, element: Element) -> None:
        if element.name != "Relationship":
            return
        name, target = element.get("Id"), element.get("Target")
        if name in self.found:
            raise CannotClean("two relationships of one id")
        external = element.get("TargetMode").lower() == "external" or _SCHEME.match(target) is not None
        kind = element.get("Type").rstrip("/").rpartition("/")[2].lower()
        part = "" if external else resolve(self._source, target)
        self.found[name] = Relation(name, kind, target, external, part)
        if name in self._cut:
            element.fate = "cut"
        elif name in self._turn:
            step, where = self._turn[name]
            kind = f"{element.get('Type').rpartition('/')[0]}/{step}" if "/" not in step else step
            element.values |= {"Type": kind, "Target": where}


class Types(Surgeon):
    """Reads `[Content_Types].xml`, or edits it: `drop` are plain names, `add` has new parts and their types."""

    def __init__(self, drop: frozenset[str] = frozenset(), add: dict[str, str] | None = None, unused: bool = False):
        super().__init__()
        self._drop = drop
        self._add = add or {}
        self._unused = unused
        self.defaults: dict[str, str] = {}
        self.parts: dict[str, str] = {}

    def opened(self, element: Element) -> None:
        kind = element.get("ContentType").strip().lower()
        if element.name == "Default":
            self.defaults.setdefault(element.get("Extension").lower(), kind)
            if self._unused and by_type(kind) in ("vba", "activex", "customui"):
                element.fate = "cut"
        elif element.name == "Override":
            name = plain(unquote(element.get("PartName")))
            if name in self.parts:
                raise CannotClean("two types of one part")
            self.parts[name] = kind
            if name in self._drop:
                element.fate = "cut"

    def closed(self, element: Element) -> None:
        if element.parent is None and self._add:
            prefix = self.data[element.start + 1 : element.inner].split(b"Types")[0]
            self.insert(element, b"".join(
                b'<%sOverride PartName="/%s" ContentType="%s"/>' % (prefix, name.encode(), kind.encode())
                for name, kind in self._add.items()
            ))  # fmt: skip

    def of(self, key: str) -> str:
        """The content type of a member, lower case; "" when it has none."""
        found = self.parts.get(key)
        return self.defaults.get(key.rpartition(".")[2], "") if found is None else found


def by_type(content_type: str) -> str:
    """What a content type says that may not stay, `""` for the others."""
    return next((what for word, what in _BANNED_TYPES if word in content_type), "")


def by_name(key: str) -> str:
    """What the place of a member says that may not stay, `""` for the others."""
    return next((what for pattern, what in _BANNED_NAMES if pattern.search(key)), "")
