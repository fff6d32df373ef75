"""What an expression of a rule may speak of, and the check of one before any mail comes.

    checked = check('zone == "external" && artifacts.exists(a, glob(a.name, "*.iso"))')
    checked.facts      {"zone": {}, "artifacts": {"name"}}: what has to be made ready for it
    checked.nesting    1: how deep lists are walked in lists

An expression is CEL (the Common Expression Language). Names, fields, functions and types are all known beforehand, so
that a rule which passes here has no reason to fail on a mail. docs/policy.md lists the same.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from netinspect.config import library
from netinspect.config.grammar import ExpressionError, Node, parse, text_value

TRUTH, TEXT, NUMBER, NULL = "truth", "text", "number", "null"
_SHOWN = {TRUTH: "true or false", TEXT: "a text", NUMBER: "a number", NULL: "null"}

FACTS: dict[str, str] = {
    "zone": TEXT,
    "session": "session",
    "envelope": "envelope",
    "mail": "mail",
    "artifacts": "[artifact]",
    "findings": "[finding]",
    "unscanned": "[unscanned]",
    "anomalies": "[anomaly]",
    "coverage": "coverage",
}
"""The facts by name, each with its type; `[x]` is a list of x."""

FIELDS: dict[str, dict[str, str]] = {
    "session": {"client": TEXT, "port": NUMBER, "server": TEXT, "helo": TEXT, "authenticated": TRUTH, "tls": TRUTH},
    "envelope": {"mail_from": TEXT, "recipients": f"[{TEXT}]", "size": NUMBER, "smuggling": TRUTH},
    "mail": {"from": TEXT, "to": f"[{TEXT}]", "subject": TEXT, "message_id": TEXT, "attachments": f"[{TEXT}]"},
    "artifact": {
        "name": TEXT, "path": TEXT, "magic": TEXT, "declared": TEXT, "size": NUMBER, "sha256": TEXT, "parent": TEXT,
        "text": TRUTH, "truncated": TRUTH,
    },
    "finding": {
        "category": TEXT, "severity": NUMBER, "engine": TEXT, "signature": TEXT, "detail": TEXT, "sha256": TEXT,
    },
    "unscanned": {"engine": TEXT, "reason": TEXT, "sha256": TEXT},
    "anomaly": {"kind": TEXT, "layer": TEXT, "offset": NUMBER, "detail": TEXT},
    "coverage": {
        "parts": NUMBER, "bytes": NUMBER, "decoded": NUMBER, "decoded_bytes": NUMBER, "scanned": NUMBER,
        "scanned_bytes": NUMBER, "complete": TRUTH, "skipped": "[skipped]",
    },
    "skipped": {"path": TEXT, "reason": TEXT},
}  # fmt: skip
"""The fields of each kind of fact."""

FUNCTIONS: dict[str, tuple[tuple[str, ...], str]] = {
    "header": ((TEXT,), TEXT),
    "headers": ((TEXT,), f"[{TEXT}]"),
    "glob": ((TEXT, TEXT), TRUTH),
    "within": ((TEXT, TEXT), TRUTH),
    "lower": ((TEXT,), TEXT),
    "matches": ((TEXT, TEXT), TRUTH),
    "contains": ((TEXT, TEXT), TRUTH),
    "startsWith": ((TEXT, TEXT), TRUTH),
    "endsWith": ((TEXT, TEXT), TRUTH),
}
"""Arguments and result. `header` and `headers` stand alone, the last four behind a dot, the others either way."""

_METHODS = frozenset({"glob", "within", "lower", "matches", "contains", "startsWith", "endsWith"})
_METHODS_ONLY = frozenset({"matches", "contains", "startsWith", "endsWith"})
_MACROS = frozenset({"exists", "all", "exists_one", "filter", "map"})


@dataclass(slots=True)
class Checked:
    """A right expression. `facts` are the facts it speaks of, each with the fields that it asks for; `nesting` is how
    deep the lists of a mail are walked in each other."""

    source: str
    facts: dict[str, set[str]] = field(default_factory=dict)
    nesting: int = 0


def check(source: str) -> Checked:
    """Check one expression.

    Raises:
        ExpressionError: with the place of the mistake.
    """
    tree = parse(source)
    checker = _Checker(source)
    result = checker.type_of(tree, {})
    if result != TRUTH:
        raise ExpressionError(f"gives {shown(result)}, but a rule asks for true or false", tree.at)
    _compile(source)
    return checker.checked


def shown(kind: str) -> str:
    """Name a type in a sentence."""
    return f"a list of {kind[1:-1]}" if kind.startswith("[") else _SHOWN.get(kind, f"the whole {kind}")


def _compile(source: str) -> None:
    """Let the library have the last word: what it will not take must not come out when mail comes."""
    try:
        library.load().compile(source)
    except ValueError as error:
        text = str(error).partition("ERROR: ")[2] or str(error)
        place, _, rest = text.partition(": ")
        _, line, column = [*place.split(":"), "1", "1"][:3] if place.startswith("<input>") else ("", "1", "1")
        lines = source.split("\n")[: int(line) - 1]
        at = sum(len(text) + 1 for text in lines) + int(column) - 1
        raise ExpressionError(rest.split("\n")[0] or text.split("\n")[0], min(at, len(source))) from None


class _Checker:
    def __init__(self, source: str) -> None:
        self.checked = Checked(source)
        self._walked = 0
        """Lists that are walked around the present place."""

    def type_of(self, node: Node, names: dict[str, str]) -> str:
        """Give the type of a node; `names` are those that macros have bound."""
        match node.op:
            case "text" | "number" | "truth" | "null":
                return node.op
            case "name":
                return self._name(node, names)
            case "select":
                return self._select(node, names)
            case "index":
                return self._index(node, names)
            case "list":
                return self._list(node, names)
            case "call":
                return self._call(node, names)
            case "method":
                return self._method(node, names)
            case "unary":
                kind = TRUTH if node.text == "!" else NUMBER
                self._want(node.args[0], kind, names)
                return kind
            case "choice":
                self._want(node.args[0], TRUTH, names)
                return self._same(node, node.args[1], node.args[2], names)
            case "binary":
                return self._binary(node, names)

    def _want(self, node: Node, kind: str, names: dict[str, str]) -> None:
        found = self.type_of(node, names)
        if found != kind:
            raise ExpressionError(f"must be {shown(kind)}, not {shown(found)}", node.at)

    def _same(self, node: Node, left: Node, right: Node, names: dict[str, str]) -> str:
        one, other = self.type_of(left, names), self.type_of(right, names)
        if one != other and "[]" not in (one, other):
            raise ExpressionError(f'"{node.text}" compares {shown(one)} with {shown(other)}', node.at)
        return other if one == "[]" else one

    def _name(self, node: Node, names: dict[str, str]) -> str:
        kind = names.get(node.text)
        if kind is None:
            kind = FACTS.get(node.text)
            if kind is None:
                if node.text in FUNCTIONS:
                    raise ExpressionError(f"{node.text} is a function", node.at, f"write {node.text}(…)")
                raise ExpressionError(f'there is no fact "{node.text}"', node.at, _nearest(node.text, [*FACTS, *names]))
            self.checked.facts.setdefault(node.text, set())
        return kind

    def _select(self, node: Node, names: dict[str, str]) -> str:
        kind = self.type_of(node.args[0], names)
        fields = FIELDS.get(kind)
        if fields is None:
            remedy = f"write .exists(x, x.{node.text} …)" if kind.startswith("[") else ""
            raise ExpressionError(f"{shown(kind)} has no fields", node.at, remedy)
        if node.text not in fields:
            raise ExpressionError(f'{kind} has no field "{node.text}"', node.at, _nearest(node.text, list(fields)))
        for name, of in FACTS.items():
            if kind == of.strip("[]"):
                self.checked.facts.setdefault(name, set()).add(node.text)
        return fields[node.text]

    def _index(self, node: Node, names: dict[str, str]) -> str:
        raise ExpressionError(
            "a place in a list may not be there", node.at, "write .exists(x, …), or .all(x, …) for every one"
        )

    def _list(self, node: Node, names: dict[str, str]) -> str:
        kinds = [self.type_of(entry, names) for entry in node.args]
        for entry, kind in zip(node.args, kinds, strict=True):
            if kind != kinds[0]:
                raise ExpressionError(f"is {shown(kind)}, the first of the list is {shown(kinds[0])}", entry.at)
        return f"[{kinds[0]}]" if kinds else "[]"

    def _call(self, node: Node, names: dict[str, str]) -> str:
        if node.text == "size":
            return self._size(node, names)
        if node.text == "has":
            if len(node.args) != 1 or node.args[0].op != "select":
                raise ExpressionError("has() asks for a field", node.at, "every field is there always: leave it out")
            self.type_of(node.args[0], names)
            return TRUTH
        if node.text in _METHODS_ONLY or node.text in _MACROS:
            raise ExpressionError(f"{node.text} stands behind a dot", node.at, f"write x.{node.text}(…)")
        return self._function(node, names)

    def _method(self, node: Node, names: dict[str, str]) -> str:
        if node.text in _MACROS:
            return self._macro(node, names)
        if node.text == "size":
            return self._size(node, names)
        if node.text in FUNCTIONS and node.text not in _METHODS:
            raise ExpressionError(f"{node.text} stands alone", node.at, f"write {node.text}(…)")
        return self._function(node, names)

    def _size(self, node: Node, names: dict[str, str]) -> str:
        kind = self.type_of(node.args[0], names) if len(node.args) == 1 else ""
        if kind != TEXT and not kind.startswith("["):
            raise ExpressionError("size() is of one text or list", node.at)
        return NUMBER

    def _function(self, node: Node, names: dict[str, str]) -> str:
        known = FUNCTIONS.get(node.text)
        if known is None:
            words = [*FUNCTIONS, *_MACROS, "size"]
            raise ExpressionError(f'there is no function "{node.text}"', node.at, _nearest(node.text, words))
        wanted, result = known
        if len(node.args) != len(wanted):
            more = len(wanted) - (node.op == "method")
            raise ExpressionError(f"{node.text} takes {more} argument{'s' * (more != 1)}", node.at)
        for argument, kind in zip(node.args, wanted, strict=True):
            self._want(argument, kind, names)
        last = node.args[-1]
        if node.text == "within":
            self._literal(node, last, "a network")
        elif node.text in ("glob", "matches"):
            self._literal(node, last, "a pattern")
        return result

    def _literal(self, node: Node, argument: Node, what: str) -> None:
        """What is written out can be checked, and read once."""
        if argument.op != "text":
            raise ExpressionError(f"{node.text} asks for {what} in quotes", argument.at)
        value = text_value(argument.text)
        problem = ""
        if node.text == "within":
            problem = _network_problem(value)
        elif node.text == "matches":
            problem = _regex_problem(value)
        if problem:
            raise ExpressionError(problem, argument.at)

    def _macro(self, node: Node, names: dict[str, str]) -> str:
        target, *rest = node.args
        kind = self.type_of(target, names)
        if not kind.startswith("["):
            raise ExpressionError(f"{node.text} walks a list, not {shown(kind)}", node.at)
        if len(rest) != 2 or rest[0].op != "name":
            raise ExpressionError(f"{node.text} takes a name and an expression", node.at, f"write .{node.text}(x, …)")
        if rest[0].text in FACTS:
            raise ExpressionError(f'"{rest[0].text}" is the name of a fact', rest[0].at, "choose another name")
        # A list that is written out is short; those of a mail can have thousands of entries.
        deeper = target.op != "list"
        self._walked += deeper
        self.checked.nesting = max(self.checked.nesting, self._walked)
        inner = names | {rest[0].text: kind[1:-1]}
        if node.text == "map":
            result = f"[{self.type_of(rest[1], inner)}]"
        else:
            self._want(rest[1], TRUTH, inner)
            result = kind if node.text == "filter" else TRUTH
        self._walked -= deeper
        return result

    def _binary(self, node: Node, names: dict[str, str]) -> str:
        left, right = node.args[:2]
        match node.text:
            case "&&" | "||":
                for part in node.args:
                    self._want(part, TRUTH, names)
                return TRUTH
            case "==" | "!=":
                self._same(node, left, right, names)
                return TRUTH
            case "in":
                kind, of = self.type_of(left, names), self.type_of(right, names)
                if of not in (f"[{kind}]", "[]"):
                    remedy = f"write x.contains({left.text})" if of == TEXT else ""
                    raise ExpressionError(f'"in" looks for {shown(kind)} in {shown(of)}', node.at, remedy)
                return TRUTH
            case "+":
                kind = self._same(node, left, right, names)
                if kind not in (TEXT, NUMBER) and not kind.startswith("["):
                    raise ExpressionError(f"{shown(kind)} cannot be added", node.at)
                return kind
            case "<" | "<=" | ">" | ">=":
                kind = self._same(node, left, right, names)
                if kind not in (TEXT, NUMBER):
                    raise ExpressionError(f"{shown(kind)} has no order", node.at)
                return TRUTH
            case _:
                self._want(left, NUMBER, names)
                self._want(right, NUMBER, names)
                if node.text in "/%" and (right.op != "number" or not int(right.text, 0)):
                    raise ExpressionError("can be divided by a number above 0 only", right.at)
                return NUMBER


def _network_problem(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as error:
        return f"is no network: {error}"
    return ""


def _regex_problem(pattern: str) -> str:
    try:
        library.load().evaluate("''.matches(p)", {"p": pattern})
    except (RuntimeError, ValueError) as error:
        lines = [line.strip() for line in str(error).split("\n")]
        reason = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[-1])
        return f"is no regular expression: {reason.partition('. Check')[0]}"
    return ""


def _nearest(word: str, known: list[str]) -> str:
    from netinspect.config.rules import nearest

    return nearest(word, known)
