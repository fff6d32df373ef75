"""`Settings` → TOML: what is in force (`config show`), and a commented file to start from (`config init`)."""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import json
import textwrap
from typing import Any

from netinspect.config.file import TABLES
from netinspect.config.rules import PolicySettings, RuleSettings, When
from netinspect.config.schema import HostPort, ListenerSettings, Settings

_HEAD = """\
# netinspect.toml: the settings of netinspect. What is commented out is the default; a file with nothing in it is right.
# Check with `netinspect config check`, see what is in force with `netinspect config show`."""

_LISTENER_EXAMPLES = """\
# The two listeners that stand here are the default.
#
# [[listener]]
# name = "outside"
# zone = "external"
# listen = ":10025"
# mode = "transparent"
# interface = "ext0"
#
# [[listener]]
# name = "inside"
# zone = "internal"
# listen = ":10026"
# mode = "transparent"
# interface = "int0"
#
# In front of one server, without a packet filter:
#
# [[listener]]
# name = "front"
# zone = "external"
# listen = "[::]:2525"
# mode = "reverse"
# upstream = "192.0.2.25:25"
"""


def render(settings: Settings) -> str:
    """Give the settings as TOML that reads back as the same settings; the built-in rules are written out too."""
    blocks = [_table("[[listener]]", listener) for listener in settings.listeners]
    blocks += [_table(f"[{name}]", getattr(settings, name)) for name in TABLES]
    blocks.append(f"[policy]\ndefault = {_value(settings.policy.default)}\ndefaults = false\n")
    blocks += [_rule(rule) for rule in settings.policy.rules]
    return "\n".join(blocks)


def template() -> str:
    """Give a file in which every key stands commented out with its default and its documentation."""
    settings = Settings()
    blocks = [_HEAD + "\n"]
    listener = "".join(f"# {key}: {text}\n" for key, text in field_docs(ListenerSettings).items())
    blocks.append(f"{_comment(ListenerSettings)}{listener}{_LISTENER_EXAMPLES}")
    for name, cls in TABLES.items():
        docs = field_docs(cls)
        lines = [f"{_comment(cls)}[{name}]"]
        for key, value in _items(getattr(settings, name)):
            lines += [*_wrapped(docs.get(key, "")), f"# {key} = {_value(value)}"]
        blocks.append("\n".join(lines) + "\n")
    blocks.append(_policy_template(settings.policy))
    return "\n".join(blocks)


def _policy_template(policy: PolicySettings) -> str:
    lines = [f"{_comment(PolicySettings)}[policy]"]
    lines += [*_wrapped(field_docs(PolicySettings)["default"]), f"# default = {_value(policy.default)}"]
    lines += ["# false: only the rules of this file are in force, not the built-in ones.", "# defaults = true", "#"]
    lines += _wrapped((inspect.getdoc(RuleSettings) or "") + " Its keys:")
    lines += [f"#   {key}: {text}" for key, text in field_docs(RuleSettings).items()]
    lines += ["#", *_wrapped((inspect.getdoc(When) or "").replace("`", "")), "# Keys of when:"]
    lines += [f"#   {key}: {text}" for key, text in field_docs(When).items()]
    lines += ["#", "# The built-in rules, in order:", "#"]
    for rule in policy.rules:
        lines += [f"# {line}".rstrip() for line in _rule(rule).splitlines()] + ["#"]
    return "\n".join(lines[:-1]) + "\n"


@functools.cache
def field_docs(cls: type) -> dict[str, str]:
    """Give the documentation of each field: the string under it in the class body, on one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    docs: dict[str, str] = {}
    field = ""
    for node in body.body if isinstance(body, ast.ClassDef) else []:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            field = node.target.id
        elif field and isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs[field] = " ".join(str(node.value.value).split())
            field = ""
        else:
            field = ""
    return docs


def _comment(cls: type) -> str:
    return "".join(line + "\n" for line in _wrapped((inspect.getdoc(cls) or "").split("\n\n")[0]))


def _wrapped(text: str) -> list[str]:
    return [f"# {line}" for line in textwrap.wrap(" ".join(text.split()), 116, break_long_words=False)]


def _items(obj: Any) -> list[tuple[str, Any]]:
    return [(field.name, getattr(obj, field.name)) for field in dataclasses.fields(obj)]


def _table(head: str, obj: Any) -> str:
    lines = [f"{key} = {_value(value)}" for key, value in _items(obj) if value is not None]
    return "\n".join([head, *lines]) + "\n"


def _rule(rule: RuleSettings) -> str:
    standard = RuleSettings(rule.name, rule.action)
    lines = ["[[policy.rule]]", f"name = {_value(rule.name)}"]
    given = [(key, value) for key, value in _items(rule.when) if value != getattr(When(), key)]
    if rule.when.cel and len(given) == 1:
        lines.append(f"when = {_value(rule.when.cel)}")
    elif given:
        lines.append("when = { " + ", ".join(f"{key} = {_value(value)}" for key, value in given) + " }")
    lines.append(f"action = {_value(rule.action)}")
    for key in ("code", "enhanced", "text", "reset"):
        if getattr(rule, key) != getattr(standard, key):
            lines.append(f"{key} = {_value(getattr(rule, key))}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, HostPort):
        value = str(value)
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for DEL, which TOML wants escaped (TOML 1.0, "String").
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    return str(value)
