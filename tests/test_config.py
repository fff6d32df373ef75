"""Settings: right without a file; a mistake in one is found with file, line, key and remedy."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.config import (
    DEFAULT_RULES,
    HostPort,
    ListenerSettings,
    NetworkSettings,
    PolicySettings,
    RecordSettings,
    RuleSettings,
    Settings,
    When,
    default_settings,
    load,
    problems,
    read_text,
    render,
    template,
)
from netinspect.config.file import TABLES
from netinspect.config.lines import locate
from netinspect.config.rules import CATEGORIES
from netinspect.config.schema import GatewaySettings
from netinspect.config.text import field_docs
from netinspect.errors import ConfigError
from netinspect.limits import Limits
from netinspect.scan.contract import Category

FULL = """\
[[listener]]
name = "ext"
zone = "external"
listen = "127.0.0.1:10025"
mode = "reverse"
upstream = "[2001:db8::25]:25"

[[listener]]
name = "int"
zone = "internal"
listen = ":10026"
interface = "int0"

[gateway]
delivery = "cut-through"
connect_timeout = 5

[networks]
domains = ["example.org", "bücher.example"]
addresses = ["10.0.0.0/8", "2001:db8::/32"]

[scan]
clamd = "tcp:127.0.0.1:3310"
rules_dir = "rules"

[quarantine]
directory = "/var/lib/netinspect/quarantine"
answer = 550

[records]
file = "events.json"

[limits]
recipients = 50

[[policy.rule]]
name = "no-iso"
when = { attachment = "*.iso", zone = "external" }
action = "quarantine"
"""

HERE = Path("/etc/netinspect/netinspect.toml")


def settings_of(text: str) -> Settings:
    settings, mistakes = read_text(text, HERE)
    assert mistakes == []
    return settings


def mistakes_of(text: str) -> list[str]:
    return [str(mistake) for mistake in read_text(text, HERE)[1]]


def test_without_a_file_the_defaults_hold() -> None:
    settings = load(None, {})
    assert settings == default_settings() == settings_of("")
    assert [(item.zone, str(item.listen)) for item in settings.listeners] == [
        ("external", ":10025"),
        ("internal", ":10026"),
    ]
    assert settings.gateway.hostname
    assert settings.policy.rules == DEFAULT_RULES


def test_a_full_file_is_read(tmp_path: Path) -> None:
    file = tmp_path / "netinspect.toml"
    file.write_text(FULL, encoding="utf-8")
    settings = load(None, {"NETINSPECT_CONFIG": str(file)})
    first, second = settings.listeners
    assert first == ListenerSettings(
        "ext", HostPort("127.0.0.1", 10025), "external", "reverse", HostPort("2001:db8::25", 25)
    )
    assert (second.listen, second.interface, second.mode) == (HostPort("", 10026), "int0", "transparent")
    assert settings.gateway.delivery == "cut-through"
    assert settings.gateway.connect_timeout == 5.0
    assert settings.networks.domains == ("example.org", "bücher.example")
    assert settings.quarantine.answer == 550
    assert settings.limits == dataclasses.replace(Limits(), recipients=50)
    own = RuleSettings("no-iso", "quarantine", When(attachment=("*.iso",), zone="external"))
    assert settings.policy.rules == (own, *DEFAULT_RULES)
    assert settings.source == str(file)


def test_a_relative_path_starts_at_the_folder_of_the_file() -> None:
    settings = settings_of(FULL)
    assert settings.scan.rules_dir == "/etc/netinspect/rules"
    assert settings.records.file == "/etc/netinspect/events.json"
    assert settings_of('[records]\nfile = "-"').records.file == "-"
    assert settings_of('[records]\nfile = ""').records.file == ""


def test_the_option_wins_over_the_environment(tmp_path: Path) -> None:
    one, two = tmp_path / "one.toml", tmp_path / "two.toml"
    one.write_text("[scan]\nworkers = 1\n")
    two.write_text("[scan]\nworkers = 7\n")
    assert load(two, {"NETINSPECT_CONFIG": str(one)}).scan.workers == 7


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        load(tmp_path / "nowhere.toml", {})


def test_a_file_that_is_not_utf8_is_an_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_bytes(b"[scan]\n# \xfc\n")
    with pytest.raises(ConfigError, match=r"x\.toml:2: is not UTF-8"):
        load(file, {})


def test_file_policy_defaults_false_leaves_only_the_rules_of_the_file() -> None:
    text = '[policy]\ndefaults = false\ndefault = "tempfail"\n[[policy.rule]]\nname = "all"\naction = "accept"\n'
    assert settings_of(text).policy == PolicySettings("tempfail", (RuleSettings("all", "accept"),))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x = [1,\n\n", ":1: is no TOML: "),
        ("[gateway]\ndelivery = hold\n", ":2: is no TOML: Invalid value, column 12"),
        ("\n[gatway]\n", ':2: there is no table "gatway"; did you mean "gateway"?'),
        ("hold = 1\n", ':1: there is no key "hold"; known are'),
        ("gateway = 3\n", ":1: gateway must be a table, not 3"),
        ("listener = 3\n", ":1: listener is a list of tables; write [[listener]]"),
        ("[listener]\nname = 'x'\n", ":1: listener is a list of tables; write [[listener]]"),
        ("[policy]\nrule = 'x'\n", ":2: policy.rule is a list of tables; write [[policy.rule]]"),
        (
            "[gateway]\n\ndelivry = 'hold'\n",
            ':3: [gateway] there is no key "delivry"; did you mean "delivery"?',
        ),
        (
            "[gateway]\ndelivery = 'holt'\n",
            ':2: [gateway] delivery must be "hold" or "cut-through", not "holt"; did you mean "hold"?',
        ),
        ("[gateway]\nmax_sessions = true\n", ":2: [gateway] max_sessions must be a whole number, not true"),
        ("[gateway]\nkeep_client_address = 1\n", ":2: [gateway] keep_client_address must be true or false, not 1"),
        ("[gateway]\ndata_timeout = 'long'\n", ':2: [gateway] data_timeout must be a number, not "long"'),
        ("[gateway]\ndata_timeout = inf\n", ":2: [gateway] data_timeout must be a finite number"),
        ("[gateway]\nbanner = 'a\\nb'\nhostname = ''\n", ":3: [gateway] hostname: must be a host name"),
        ('[gateway]\nbanner = "a\\nb"\n', ":2: [gateway] banner: must be one line"),
        ("[networks]\ndomains = 'example.org'\n", ':2: [networks] domains must be a list, not "example.org"'),
        ("[networks]\ndomains = [\n 'ok.example',\n 7]\n", ":2: [networks] domains must be a text in quotes, not 7"),
        ("[networks]\ndomains = ['@example.org']\n", ':2: [networks] domains: "@example.org" is no domain'),
        (
            "[networks]\naddresses = ['10.0.0.1/8']\n",
            ':2: [networks] addresses: "10.0.0.1/8" has host bits set; did you mean "10.0.0.0/8"?',
        ),
        ("[networks]\nrelays = ['mx.example']\n", ':2: [networks] relays: "mx.example" is no address or network'),
        ("[scan]\nclamd = '/run/clamd'\n", ':2: [scan] clamd: "/run/clamd" is no address; write "unix:/PATH"'),
        ("[scan]\nclamd = 'tcp:localhost'\n", ':2: [scan] clamd: "tcp:localhost" is no address'),
        ("[scan]\nworkers = -1\n", ":2: [scan] workers: must be 0 to 256"),
        ("[quarantine]\nanswer = 451\n", ":2: [quarantine] answer must be 250 or 550, not 451"),
        ("[quarantine]\nanswer = '250'\n", ':2: [quarantine] answer must be 250 or 550, not "250"'),
        ("[firewall]\nports = [25, 70000]\n", ":2: [firewall] ports: 70000 is no port"),
        ("[limits]\nrecipients = 0\n", ":2: [limits] recipients must be above 0, not 0"),
        ("[limits]\nscan_time = -1.5\n", ":2: [limits] scan_time must be above 0, not -1.5"),
        ("[[listener]]\nlisten = ':25'\n", ':1: [[listener]] the key "name" is missing'),
        ("[[listener]]\nname = 'x'\nlisten = '::1:25'\n", ":3: [[listener]] listen = "),
        ("[[listener]]\nname = 'x'\nlisten = ':0'\n", "must be host:port with a port from 1 to 65535"),
        (
            "[[listener]]\nname = 'x'\nlisten = ':25'\nmode = 'reverse'\n",
            ':1: [[listener]] upstream: mode "reverse" needs the server; write upstream = "host:port"',
        ),
        (
            "[[listener]]\nname = 'x'\nlisten = ':25'\nupstream = 'mx:25'\n",
            ':4: [[listener]] upstream: is for mode "reverse" only',
        ),
        (
            "[[listener]]\nname='x'\nlisten=':25'\n[[listener]]\nname='x'\nlisten=':26'\n",
            ':5: two listeners have the name "x"',
        ),
        (
            "[[listener]]\nname='x'\nlisten=':25'\n[[listener]]\nname='y'\nlisten=':25'\n",
            ":6: two listeners have the address :25",
        ),
        (
            "[[policy.rule]]\nname = 'a'\naction = 'rejct'\n",
            ':3: [[policy.rule]] action must be "accept" or "reject" or "tempfail" or "drop" or "quarantine" or '
            '"disarm" or "tag", not "rejct"; did you mean "reject"?',
        ),
        (
            "[[policy.rule]]\nname = 'a'\naction = 'reject'\n\nwhen = { category = ['malwar'] }\n",
            ':5: [policy.rule.when] category: there is no category "malwar"; did you mean "malware"?',
        ),
        (
            "[[policy.rule]]\nname = 'a'\naction = 'reject'\n[policy.rule.when]\nzone='external'\nsevrity_max=1\n",
            ':6: [policy.rule.when] there is no key "sevrity_max"; did you mean "severity_max"?',
        ),
        ("[[policy.rule]]\nname='a'\naction='reject'\nwhen=3\n", ":4: [[policy.rule]] when must be a table or an exp"),
        (
            "[[policy.rule]]\nname='a'\naction='reject'\nwhen={ category = [] }\n",
            ":4: [policy.rule.when] category must not be empty",
        ),
        (
            "[[policy.rule]]\nname='a'\naction='tempfail'\ncode=550\n",
            ":4: [[policy.rule]] code: 550 does not fit; with tempfail it is 400 to 499",
        ),
        (
            "[[policy.rule]]\nname='a'\naction='reject'\ncode=550\nenhanced='4.7.1'\n",
            ":5: [[policy.rule]] enhanced: 4.7.1 does not fit code 550",
        ),
        ("[[policy.rule]]\nname='a'\naction='accept'\ntext='ok'\n", ":4: [[policy.rule]] text: accept has no reply"),
        ("[[policy.rule]]\nname='a'\naction='reject'\ntext=\"a\\r\\n250 b\"\n", "text: must be one line"),
        ("[[policy.rule]]\nname='a'\naction='reject'\nreset=true\n", ":4: [[policy.rule]] reset: goes with drop only"),
        (
            "[[policy.rule]]\nname='a'\naction='quarantine'\n",
            ':3: rule "a" puts mail into quarantine, but there is no folder for it; set directory in [quarantine]',
        ),
        ("[policy]\ndefault='quarantine'\n", ":2: there is no folder for quarantine"),
        (
            "[[policy.rule]]\nname='a'\naction='tag'\n[[policy.rule]]\nname='a'\naction='tag'\n",
            ':5: two rules have the name "a"',
        ),
        ("[policy]\ndefaults = 'no'\n", ':2: defaults must be true or false, not "no"'),
    ],
)
def test_a_mistake_names_line_key_and_remedy(text: str, expected: str) -> None:
    mistakes = mistakes_of(text)
    assert len(mistakes) == 1
    assert mistakes[0].startswith(str(HERE))
    assert expected in mistakes[0]


def test_all_mistakes_are_told_in_the_order_of_the_lines(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text("[scan]\nworkers = 'a'\n[gateway]\nfoo = 1\nbanner = 3\n")
    places = [mistake.place for mistake in problems(file, {})]
    assert places == [f"{file}:2", f"{file}:4", f"{file}:5"]
    with pytest.raises(ConfigError, match=":2:"):
        load(file, {})


DISARM = "[[policy.rule]]\nname = 'a'\naction = 'disarm'\n"


def test_disarm_needs_a_folder_for_the_originals() -> None:
    (mistake,) = mistakes_of(DISARM)
    assert ':3: rule "a" puts the original of what it disarms into quarantine' in mistake
    assert mistake.endswith("set directory in [quarantine]")
    assert mistakes_of(f"[quarantine]\ndirectory = '/q'\n{DISARM}") == []


def test_what_has_flowed_on_cannot_be_disarmed() -> None:
    (mistake,) = mistakes_of(f"[gateway]\ndelivery = 'cut-through'\n[quarantine]\ndirectory = '/q'\n{DISARM}")
    assert ':7: rule "a" disarms, but with delivery "cut-through"' in mistake
    assert mistake.endswith('write delivery = "hold" in [gateway]')


def test_disarm_has_no_reply_of_its_own() -> None:
    (mistake,) = mistakes_of(f"[quarantine]\ndirectory = '/q'\n{DISARM}code = 550\n")
    assert "disarm has none" in mistake


def test_what_render_gives_reads_back_as_the_same_settings() -> None:
    for settings in (default_settings(), settings_of(FULL)):
        assert settings_of(render(settings)) == settings


@given(st.text(st.characters(exclude_categories=["Cs"])), st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_any_text_survives_render(sender: str, patterns: list[str]) -> None:
    when = When(mail_from=(sender, *patterns))
    settings = Settings(policy=PolicySettings("accept", (RuleSettings("x", "tag", when),)))
    assert settings_of(render(settings)) == settings


def test_the_template_changes_nothing_and_documents_every_key() -> None:
    text = template()
    assert settings_of(text) == default_settings()
    for name, cls in TABLES.items():
        docs = field_docs(cls)
        assert list(docs) == [field.name for field in dataclasses.fields(cls)], f"[{name}] lacks a field's docstring"
        for key in docs:
            assert f"\n# {key} = " in text
    for cls in (ListenerSettings, RuleSettings, When):
        assert list(field_docs(cls)) == [field.name for field in dataclasses.fields(cls)]
    assert max(map(len, text.splitlines())) <= 130


def test_the_template_is_right_with_its_comments_opened() -> None:
    settings = settings_of(re.sub(r"(?m)^# (\[\[|[a-z_]+ = )", r"\1", template()))
    assert [item.name for item in settings.listeners] == ["outside", "inside", "front"]
    assert settings.gateway == GatewaySettings()
    assert settings.networks == NetworkSettings()
    assert settings.records == RecordSettings()
    assert settings.policy.rules == DEFAULT_RULES + DEFAULT_RULES


def test_lines_are_found_in_every_way_to_write_a_key() -> None:
    text = (
        'a = 1 # b = 2\n"q.x" = """\n[no]\n\\""" = \n"""\n[t.u]\nx.y = { z = 1, w = [\n  1,\n  "]",\n]}\n'
        "[[l]]\nn = '''\n[[l]]\n'''\n[[l]]\nn = 2\n[l.sub]\nd = 1979-05-27 07:32:00Z\n[[l.deep]]\n[[l.deep]]\nk='a#b'\n"
    )
    tomllib.loads(text)
    lines = locate(text)
    expected: dict[tuple[str | int, ...], int] = {
        ("a",): 1, ("q.x",): 2, ("t", "u"): 6, ("t", "u", "x", "y"): 7, ("t", "u", "x", "y", "z"): 7,
        ("t", "u", "x", "y", "w", 0): 8, ("t", "u", "x", "y", "w", 1): 9, ("l",): 11, ("l", 0): 11, ("l", 0, "n"): 12,
        ("l", 1): 15, ("l", 1, "n"): 16, ("l", 1, "sub", "d"): 18, ("l", 1, "deep", 0): 19,
        ("l", 1, "deep", 1): 20, ("l", 1, "deep", 1, "k"): 21,
    }  # fmt: skip
    assert {path: lines.get(path) for path in expected} == expected
    assert ("b",) not in lines


def _paths(value: Any, path: tuple[str | int, ...]) -> set[tuple[str | int, ...]]:
    found = {path} if path else set()
    entries: Any = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        found |= _paths(entry, (*path, key))
    return found


def test_every_key_of_a_rendered_file_has_a_line() -> None:
    for text in (render(settings_of(FULL)), FULL, FULL.replace("\n", "\r\n")):
        assert _paths(tomllib.loads(text), ()) <= set(locate(text))


def test_the_categories_are_those_of_the_engines() -> None:
    assert get_args(Category) == CATEGORIES


def test_host_and_port_are_written_as_they_are_read() -> None:
    for text in ("127.0.0.1:25", "[::1]:25", ":25", "mx.example.org:2525"):
        assert str(HostPort.parse(text)) == text
