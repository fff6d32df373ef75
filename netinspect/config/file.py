"""A configuration file → `Settings`, or every mistake in it with file, line, key and remedy.

Values are read by the types of the fields in `schema` and `rules`; nothing is listed twice.
"""

from __future__ import annotations

import dataclasses
import errno
import re
import tomllib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin, get_type_hints

from netinspect.config.lines import KeyPath, locate, locate_character
from netinspect.config.rules import DEFAULT_RULES, FieldError, PolicySettings, RuleSettings, When, nearest
from netinspect.config.schema import (
    DEFAULT_LISTENERS,
    PATH,
    FirewallSettings,
    GatewaySettings,
    HostPort,
    ListenerSettings,
    NetworkSettings,
    QuarantineSettings,
    RecorderSettings,
    RecordSettings,
    ScanSettings,
    Settings,
    SpoolSettings,
)
from netinspect.errors import ConfigError
from netinspect.limits import Limits

T = TypeVar("T")

TABLES: dict[str, type] = {
    "gateway": GatewaySettings,
    "networks": NetworkSettings,
    "scan": ScanSettings,
    "spool": SpoolSettings,
    "quarantine": QuarantineSettings,
    "records": RecordSettings,
    "record": RecorderSettings,
    "firewall": FirewallSettings,
    "limits": Limits,
}
"""The plain tables; `[[listener]]` and `[policy]` have a shape of their own."""

_FILE_BOUND = 4_194_304
"""A configuration above 4 MiB is some other file."""
_SYNTAX_PLACE = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


class _Wrong(ValueError):
    def __init__(self, message: str, remedy: str = "") -> None:
        self.message = message
        self.remedy = remedy
        super().__init__(message)


def read(path: Path) -> tuple[Settings, list[ConfigError]]:
    """Read the file; with mistakes, the settings are not to be used. A file that cannot be read is a mistake too."""
    try:
        with path.open("rb") as file:
            raw = file.read(_FILE_BOUND + 1)
    except OSError as error:
        remedy = {
            errno.ENOENT: f"`netinspect config init {path}` writes one",
            errno.EISDIR: "name the file in it",
            errno.EACCES: "let the user that runs netinspect read it",
        }.get(error.errno or 0, "")
        return Settings(), [ConfigError(f"cannot be read: {error.strerror}", place=str(path), remedy=remedy)]
    if len(raw) > _FILE_BOUND:
        return Settings(), [ConfigError("is too large to be a configuration", place=str(path))]
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        return Settings(), [ConfigError("is not UTF-8 text", place=f"{path}:{line}", remedy="save the file as UTF-8")]
    return read_text(text, path)


def read_text(text: str, path: Path) -> tuple[Settings, list[ConfigError]]:
    """Read the text of a file that stands (or would stand) at `path`."""
    text = text.removeprefix("\ufeff")
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        return Settings(), [_syntax_error(error, text, path)]
    reader = _Reader(data, text, path)
    settings = reader.settings()
    return settings, [error for _, error in sorted(reader.problems, key=lambda problem: problem[0])]


def _syntax_error(error: tomllib.TOMLDecodeError, text: str, path: Path) -> ConfigError:
    message = str(error)
    found = _SYNTAX_PLACE.search(message)
    if not found:
        return ConfigError(message, place=str(path))
    line = found[1] or str(text.rstrip("\n").count("\n") + 1)
    column = f", column {found[2]}" if found[2] else ""
    return ConfigError(f"is no TOML: {message[: found.start()]}{column}", place=f"{path}:{line}")


class _Reader:
    def __init__(self, data: dict[str, Any], text: str, path: Path) -> None:
        self._data = data
        self._text = text
        self._lines = locate(text)
        self._path = path
        self.problems: list[tuple[int, ConfigError]] = []

    def settings(self) -> Settings:
        known = [*TABLES, "listener", "policy"]
        parts: dict[str, Any] = {"source": str(self._path)}
        for key, value in self._data.items():
            if key in TABLES:
                if self._is_table(value, (key,)):
                    parts[key] = self._build(TABLES[key], value, (key,))
            elif key == "listener":
                parts["listeners"] = self._listeners(value)
            elif key == "policy":
                if self._is_table(value, (key,)):
                    parts["policy"] = self._policy(value)
            else:
                what = "table" if isinstance(value, dict | list) else "key"
                self._problem((key,), f'there is no {what} "{key}"', nearest(key, known))
        settings = Settings(**{key: value for key, value in parts.items() if value is not None})
        if not self.problems:
            self._check_together(settings)
        return settings

    def _listeners(self, value: object) -> tuple[ListenerSettings, ...]:
        built = list(self._tables(ListenerSettings, value, ("listener",)))
        listeners = [listener for _, listener in built]
        for index, listener in built:
            earlier = [other for before, other in built if before < index]
            if any(other.name == listener.name for other in earlier):
                self._problem(("listener", index, "name"), f'two listeners have the name "{listener.name}"')
            if any(other.listen == listener.listen for other in earlier):
                self._problem(("listener", index, "listen"), f"two listeners have the address {listener.listen}")
        return tuple(listeners) or DEFAULT_LISTENERS

    def _policy(self, table: dict[str, Any]) -> PolicySettings | None:
        table = dict(table)
        rules = [(index, rule) for index, rule in self._tables(RuleSettings, table.pop("rule", []), ("policy", "rule"))]
        names: set[str] = set()
        for index, rule in rules:
            if rule.name in names:
                self._problem(("policy", "rule", index, "name"), f'two rules have the name "{rule.name}"')
            names.add(rule.name)
        defaults = table.pop("defaults", True)
        if not isinstance(defaults, bool):
            self._problem(("policy", "defaults"), f"defaults must be true or false, not {_shown(defaults)}")
        own = tuple(rule for _, rule in rules)
        # A rule of the file with a built-in rule's name takes its place in the records; both stay in force.
        table["rules"] = own + (DEFAULT_RULES if defaults else ())
        return self._build(PolicySettings, table, ("policy",), given=("rules",), extra=("rule", "defaults"))

    def _check_together(self, settings: Settings) -> None:
        """What no table can know alone."""
        for index, rule in enumerate(settings.policy.rules):
            place: KeyPath = ("policy", "rule", index, "action")
            if rule.action in ("quarantine", "disarm") and not settings.quarantine.directory:
                what = "mail" if rule.action == "quarantine" else "the original of what it disarms"
                message = f'rule "{rule.name}" puts {what} into quarantine, but there is no folder for it'
                self._problem(place, message, "set directory in [quarantine]")
            if rule.action == "disarm" and not settings.scan.workers:
                message = f'rule "{rule.name}" disarms, which is done by the workers, and there are none'
                self._problem(place, message, "set workers in [scan]")
            if rule.action == "disarm" and settings.gateway.delivery == "cut-through":
                message = f'rule "{rule.name}" disarms, but with delivery "cut-through" the mail has flowed on by then'
                self._problem(place, message, 'write delivery = "hold" in [gateway]')
        if settings.policy.default == "quarantine" and not settings.quarantine.directory:
            self._problem(("policy", "default"), "there is no folder for quarantine", "set directory in [quarantine]")

    def _tables(self, cls: type[T], value: object, path: KeyPath) -> Iterable[tuple[int, T]]:
        if not isinstance(value, list):
            self._problem(path, f"{_name(path)} is a list of tables", f"write [[{_name(path)}]]")
            return
        for index, table in enumerate(value):
            if self._is_table(table, (*path, index)):
                built = self._build(cls, table, (*path, index))
                if built is not None:
                    yield index, built

    def _is_table(self, value: object, path: KeyPath) -> bool:
        if isinstance(value, dict):
            return True
        self._problem(path, f"{_name(path)} must be a table, not {_shown(value)}")
        return False

    def _build(
        self, cls: type[T], table: dict[str, Any], path: KeyPath, *, given: tuple[str, ...] = (),
        extra: tuple[str, ...] = (),
    ) -> T | None:  # fmt: skip
        """Make one settings object; `given` fields are values already, `extra` keys are known but no fields."""
        hints = get_type_hints(cls, include_extras=True)
        fields = dataclasses.fields(cast("Any", cls))
        known = [field.name for field in fields if field.name not in given] + list(extra)
        before = len(self.problems)
        values: dict[str, Any] = {name: table[name] for name in given}
        for key, value in table.items():
            if key in given:
                continue
            if key not in known:
                self._problem((*path, key), f'{_label(path)}there is no key "{key}"', nearest(key, known))
                continue
            try:
                values[key] = self._convert(value, hints[key], (*path, key))
            except _Wrong as wrong:
                self._problem((*path, key), f"{_label(path)}{key} {wrong.message}", wrong.remedy)
        for field in fields:
            required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
            if required and field.name not in table:
                self._problem(path, f'{_label(path)}the key "{field.name}" is missing')
        if len(self.problems) > before:
            return None
        try:
            return cls(**values)
        except FieldError as error:
            self._problem((*path, error.key), f"{_label(path)}{error.key}: {error.message}", error.remedy, error.at)
            return None

    def _convert(self, value: object, hint: Any, path: KeyPath) -> Any:
        origin = get_origin(hint)
        if origin is types.UnionType:
            hint = next(option for option in get_args(hint) if option is not type(None))
            origin = get_origin(hint)
        if origin is Annotated:
            return self._file(_plain(value, str)) if PATH in get_args(hint) else _plain(value, get_args(hint)[0])
        if origin is Literal:
            return _choice(value, [option for option in get_args(hint) if option != ""])
        if origin is tuple:
            if isinstance(value, str) and "when" in path:
                value = [value]
            if not isinstance(value, list):
                raise _Wrong(f"must be a list, not {_shown(value)}", "write it in brackets")
            if not value and "when" in path:
                # Nothing is in an empty list; without a word the condition would be none, and the rule hold always.
                raise _Wrong("must not be empty", "remove it if it is no condition")
            return tuple(self._convert(entry, get_args(hint)[0], path) for entry in value)
        if hint is HostPort:
            try:
                return HostPort.parse(_plain(value, str))
            except _Wrong:
                raise
            except ValueError as error:
                raise _Wrong(f"= {_shown(value)}: {error}") from None
        if hint is When:
            if isinstance(value, str):
                return self._expression(value, path)
            if not isinstance(value, dict):
                remedy = 'write when = { category = ["malware"] }'
                raise _Wrong(f"must be a table or an expression in quotes, not {_shown(value)}", remedy)
            if value.get("cel", ".") == "":
                raise _Wrong("has an empty cel", "remove it if it is no condition")
            return self._build(When, value, path)
        number = _plain(value, hint)
        if path[0] == "limits" and number <= 0:
            raise _Wrong(f"must be above 0, not {_shown(value)}")
        return number

    def _expression(self, text: str, path: KeyPath) -> When | None:
        if not text.strip():
            raise _Wrong("must not be empty", "remove it if it is no condition")
        try:
            return When(cel=text)
        except FieldError as error:
            self._problem(path, f"{_label(path[:-1])}when: {error.message}", error.remedy, error.at)
            return None

    def _file(self, text: str) -> str:
        if text in ("", "-"):
            return text
        return str(self._path.parent.absolute() / Path(text).expanduser())

    def _problem(self, path: KeyPath, message: str, remedy: str = "", at: int = -1) -> None:
        """Note a mistake in what stands at `path`; `at` is the place in it if it is a text."""
        where = path
        while where and where not in self._lines:
            where = where[:-1]
        line = self._lines.get(where, 1)
        place = f"{self._path}:{line}"
        found = locate_character(self._text, path, at) if at >= 0 else None
        if found is not None:
            line, column = found
            place = f"{self._path}:{line}:{column}"
        self.problems.append((line, ConfigError(message, place=place, remedy=remedy)))


def _plain(value: object, kind: type[T]) -> T:
    # bool is an int in Python, but `workers = true` is a mistake.
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return cast("T", float(value))
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        if isinstance(value, float) and not abs(value) < float("inf"):
            raise _Wrong("must be a finite number")
        return value
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "a text in quotes"}
    raise _Wrong(f"must be {words[kind]}, not {_shown(value)}")


def _choice(value: object, options: list[Any]) -> Any:
    for option in options:
        if type(option) is type(value) and option == value:
            return option
    listed = " or ".join(_shown(option) for option in options)
    texts = [option for option in options if isinstance(option, str)]
    remedy = nearest(value, texts) if isinstance(value, str) and texts else ""
    raise _Wrong(f"must be {listed}, not {_shown(value)}", remedy if remedy.startswith("did") else "")


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value[:60]}"'
    if isinstance(value, dict):
        return "a table"
    return "a list" if isinstance(value, list) else str(value)[:60]


def _name(path: KeyPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _label(path: KeyPath) -> str:
    table = _name(path)
    return f"[[{table}]] " if isinstance(path[-1], int) else f"[{table}] "
