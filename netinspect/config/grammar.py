"""The grammar of a rule's expression (CEL, the Common Expression Language): a text → a tree with places.

The library that evaluates expressions tells no places of what is wrong in their meaning; this tree is what
`netinspect.config.expression` checks. It takes what a rule needs: no maps, no octet strings, no messages.

    expression = or ["?" or ":" expression]     or = and {"||" and}     and = relation {"&&" relation}
    relation = sum {("==" | "!=" | "<" | "<=" | ">" | ">=" | "in") sum}
    sum = product {("+" | "-") product}         product = unary {("*" | "/" | "%") unary}
    unary = {"!" | "-"} member                  member = primary {"." NAME ["(" list ")"] | "[" expression "]"}
    primary = NAME ["(" list ")"] | "(" expression ")" | "[" list "]" | literal
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

LENGTH = 8192
"""Characters of one expression."""
DEPTH = 48
"""Brackets, operators and dots in each other; the evaluating library takes 96."""

_TOKEN = re.compile(
    r"(?P<blank>(?:[ \t\r\n\f]|//[^\n]*)+)"
    r"|(?P<text>[rRbB]{0,2}(?:'''|\"\"\"|'|\"))"
    r"|(?P<number>(?:0[xX][0-9a-fA-F]+|\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?)[uU]?)"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\|\||&&|[=!<>]=|[-+*/%!<>?:.,()\[\]{}])"
)
_ESCAPE = re.compile(
    r"\\(?:[abfnrtv\\?\"'`]|[xX][0-9a-fA-F]{2}|[0-3][0-7]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
)
_PLAIN_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_RELATIONS = frozenset({"==", "!=", "<", "<=", ">", ">=", "in"})

Kind = Literal["name", "number", "text", "sign", "end"]
Op = Literal[
    "text", "number", "truth", "null", "list", "name", "select", "call", "method", "index", "unary", "binary", "choice",
]  # fmt: skip


class ExpressionError(ValueError):
    """What is wrong in an expression. `at` counts characters from its start, `remedy` may be empty."""

    def __init__(self, message: str, at: int, remedy: str = "") -> None:
        self.message = message
        self.at = at
        self.remedy = remedy
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class Node:
    """One node. `at` is where its name or sign stands; `text` is the name, the sign or the literal as it is written.

    The first of `args` is what a select, method or index is applied to. `&&` and `||` have two or more of them.
    """

    op: Op
    at: int
    text: str = ""
    args: tuple[Node, ...] = ()


def parse(source: str) -> Node:
    """Read a whole expression.

    Raises:
        ExpressionError: with the place of the first thing that does not fit.
    """
    if len(source) > LENGTH:
        raise ExpressionError(f"is longer than {LENGTH} characters", LENGTH)
    return _Parser(source).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Kind
    at: int
    text: str


def _tokens(source: str) -> Iterator[_Token]:
    at = 0
    while at < len(source):
        match = _TOKEN.match(source, at)
        if match is None:
            remedy = {"=": 'write "=="', "&": 'write "&&"', "|": 'write "||"'}.get(source[at], "")
            raise ExpressionError(f'"{source[at]}" has no meaning here', at, remedy)
        kind = match.lastgroup
        end = match.end()
        if kind == "text":
            end = _text_end(source, at, match.group())
        if kind == "number":
            _check_number(source[at:end], at)
        if kind in ("text", "number", "name", "sign"):
            yield _Token(cast("Kind", kind), at, source[at:end])
        at = end
    yield _Token("end", len(source), "")


def _check_number(text: str, at: int) -> None:
    # CEL compares no whole number with another kind; no fact is of another kind.
    if text[-1] in "uU" or (not text[:2].lower() == "0x" and not text.isdecimal()):
        raise ExpressionError("numbers are whole here", at, "write it without point, exponent and u")
    if int(text, 0 if text[:2].lower() == "0x" else 10) >= 1 << 63:
        raise ExpressionError("the number is too large", at)


def text_value(literal: str) -> str:
    """Give what a text literal says."""
    prefix = literal[: len(literal) - len(literal.lstrip("rR"))]
    body = literal[len(prefix) :]
    width = 3 if body[:3] in ("\'\'\'", '"""') and len(body) >= 6 else 1
    body = body[width:-width]
    if prefix:
        return body
    return _ESCAPE.sub(lambda match: _unescape(match.group()[1:]), body)


def _unescape(code: str) -> str:
    if code[0] in "01234567":
        return chr(int(code, 8))
    if code[0] in "xXuU" and len(code) > 1:
        return chr(min(int(code[1:], 16), 0x10FFFF))
    return _PLAIN_ESCAPES.get(code, code)


def _text_end(source: str, at: int, opening: str) -> int:
    """Give the place behind the closing quote of a text."""
    prefix = opening.rstrip("'\"").lower()
    if "b" in prefix:
        raise ExpressionError("octet strings have no use here", at, "leave out the b")
    quote = opening[len(prefix) :]
    pos = at + len(opening)
    while pos < len(source):
        if source.startswith(quote, pos):
            return pos + len(quote)
        if source[pos] == "\\" and not prefix:
            escape = _ESCAPE.match(source, pos)
            if escape is None:
                raise ExpressionError(f'"{source[pos : pos + 2]}" is no escape', pos, 'write "\\\\" for a backslash')
            pos = escape.end()
        elif source[pos] == "\n" and len(quote) == 1:
            break
        else:
            pos += 1
    raise ExpressionError("this text has no end", at, f"close it with {quote}")


class _Parser:
    def __init__(self, source: str) -> None:
        self._tokens = _tokens(source)
        self._token = next(self._tokens)
        self._depth = 0

    def whole(self) -> Node:
        node = self._expression()
        if self._token.kind != "end":
            raise self._unexpected("an operator or the end")
        return node

    def _unexpected(self, wanted: str) -> ExpressionError:
        token = self._token
        found = "the end" if token.kind == "end" else f'"{token.text[:40]}"'
        return ExpressionError(f"expected {wanted}, found {found}", token.at)

    def _next(self) -> _Token:
        token = self._token
        self._token = next(self._tokens, token)
        return token

    def _take(self, *signs: str) -> _Token | None:
        token = self._token
        # `in` is a name to the lexer and an operator to the grammar.
        if token.text in signs and token.kind in ("sign", "name"):
            return self._next()
        return None

    def _want(self, sign: str) -> None:
        if self._take(sign) is None:
            raise self._unexpected(f'"{sign}"')

    def _expression(self) -> Node:
        self._depth += 1
        self._bound(self._depth, self._token)
        node = self._binary(0)
        if sign := self._take("?"):
            yes = self._binary(0)
            self._want(":")
            node = Node("choice", sign.at, "?", (node, yes, self._expression()))
        self._depth -= 1
        return node

    def _binary(self, level: int) -> Node:
        if level == len(_LEVELS):
            return self._unary()
        node = self._binary(level + 1)
        chain = 0
        while sign := self._take(*_LEVELS[level]):
            right = self._binary(level + 1)
            if level < 2 and node.op == "binary" and node.text == sign.text and chain:
                node = Node("binary", node.at, sign.text, (*node.args, right))
            else:
                node = Node("binary", sign.at, sign.text, (node, right))
                self._bound(chain, sign)
            chain += 1
        return node

    def _bound(self, count: int, token: _Token) -> None:
        if count > DEPTH:
            raise ExpressionError(f"more than {DEPTH} in each other", token.at)

    def _unary(self) -> Node:
        signs: list[_Token] = []
        while sign := self._take("!", "-"):
            signs.append(sign)
            self._bound(len(signs), sign)
        node = self._member()
        for sign in reversed(signs):
            node = Node("unary", sign.at, sign.text, (node,))
        return node

    def _member(self) -> Node:
        node = self._primary()
        chain = 0
        while True:
            chain += 1
            self._bound(chain, self._token)
            if self._take("."):
                name = self._token
                if name.kind != "name":
                    raise self._unexpected("a name")
                self._next()
                if self._take("("):
                    node = Node("method", name.at, name.text, (node, *self._list(")")))
                else:
                    node = Node("select", name.at, name.text, (node,))
            elif sign := self._take("["):
                node = Node("index", sign.at, "[]", (node, self._expression()))
                self._want("]")
            else:
                return node

    def _primary(self) -> Node:
        token = self._token
        if token.kind == "text" or token.kind == "number":
            self._next()
            return Node("text" if token.kind == "text" else "number", token.at, token.text)
        if token.kind == "name" and token.text != "in":
            self._next()
            if token.text in ("true", "false"):
                return Node("truth", token.at, token.text)
            if token.text == "null":
                return Node("null", token.at, token.text)
            if self._take("("):
                return Node("call", token.at, token.text, self._list(")"))
            return Node("name", token.at, token.text)
        if self._take("("):
            node = self._expression()
            self._want(")")
            return node
        if self._take("["):
            return Node("list", token.at, "[]", self._list("]"))
        raise self._unexpected("a value")

    def _list(self, closing: str) -> tuple[Node, ...]:
        entries: list[Node] = []
        while not self._take(closing):
            if entries:
                self._want(",")
                if closing == "]" and self._take("]"):
                    break
            entries.append(self._expression())
        return tuple(entries)


_LEVELS: tuple[tuple[str, ...], ...] = (("||",), ("&&",), tuple(_RELATIONS), ("+", "-"), ("*", "/", "%"))
