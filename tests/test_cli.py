"""The command line as a user and a script meet it: words, exit codes, and one line for whatever goes wrong."""

from __future__ import annotations

import contextlib
import importlib
import os
import pty
import socket
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from netinspect import cli, config
from netinspect.cli import main
from netinspect.samples import mails

COMMAND = [sys.executable, "-m", "netinspect"]
ROOT = str(Path(cli.__file__).parents[1])
SECONDS = 60
_DROPPED = "-dac_override,-dac_read_search"
UNREADABLE = ["setpriv", "--bounding-set", _DROPPED, "--inh-caps", _DROPPED]
"""Root without the privilege to read everything."""


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """What mitmproxy says to a parser of its own while it is imported is not ours to mend."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module("netinspect.gateway.run")


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(config.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


def run(*args: str, line: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """A process of its own; `line` is what stands behind the command in a shell's line."""
    environment = {**os.environ, **more, "PYTHONPATH": ROOT}
    if line:
        return subprocess.run(
            ["sh", "-c", f'"$@" {line}', "sh", *COMMAND, *args],
            env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    return subprocess.run(
        [*COMMAND, *args], env=environment, capture_output=True, text=True, timeout=SECONDS, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def fails(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Run it here; the one line that it says, without its beginning."""
    try:
        code: object = main(args)
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.startswith("netinspect")
    assert said.err.count("\n") == 1, said.err
    return said.err.partition(": ")[2].strip()


def written(name: str, text: str) -> str:
    Path(name).write_text(text, encoding="utf-8")
    return name


# --- what is there ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["", "demo", "gateway", "scan", "firewall", "config", "doctor"])
def test_every_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as end:
        main([*command.split(), "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) > 10
    assert all(len(line) <= 120 for line in text.splitlines())


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("netinspect ")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "the following arguments are required: COMMAND; see netinspect --help"),
        (["frobnicate"], "invalid choice: 'frobnicate'"),
        (["scan"], "the following arguments are required: FILE; see netinspect scan --help"),
        (["scan", "--jsno", "x"], "unrecognized arguments: --jsno"),
        (["config"], "the following arguments are required"),
        (["config", "mend"], "invalid choice: 'mend'"),
        (["firewall", "show", "x"], "unrecognized arguments: x"),
        (["-c"], "expected one argument"),
    ],
)
def test_wrong_words_are_one_line_and_name_the_help(
    capsys: pytest.CaptureFixture[str], args: list[str], said: str
) -> None:
    line = fails(capsys, *args)
    assert said in line
    assert "--help" in line


# --- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [["config", "check"], ["config", "show"], ["gateway"], ["scan", "x"], ["doctor"],
                                     ["firewall", "show"]])  # fmt: skip
def test_a_configuration_that_is_not_there_is_named_with_a_remedy(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    expected = "none.toml: cannot be read: No such file or directory; `netinspect config init none.toml` writes one"
    assert fails(capsys, "-c", "none.toml", *command) == expected
    assert fails(capsys, *command[:1], "-c", "none.toml", *command[1:]) == expected


def test_a_configuration_that_the_environment_names_is_said_to_be_so(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(config.VARIABLE, "none.toml")
    assert "(named by NETINSPECT_CONFIG)" in fails(capsys, "config", "check")
    assert "(named by NETINSPECT_CONFIG)" in fails(capsys, "doctor")
    assert main(["-c", written("right.toml", ""), "config", "check"]) == 0, "-c goes before the environment"


def test_a_folder_and_no_name_at_all_are_no_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert fails(capsys, "-c", ".", "config", "check") == ".: cannot be read: Is a directory; name the file in it"
    assert fails(capsys, "-c", "", "doctor") == "-c: names no file; leave it out for the built-in defaults"


def test_a_file_that_may_not_be_read_is_named_with_a_remedy() -> None:
    Path(written("secret.toml", "")).chmod(0)
    privileged = UNREADABLE if os.geteuid() == 0 else []
    done = subprocess.run(
        [*privileged, *COMMAND, "-c", "secret.toml", "config", "check"], capture_output=True, text=True, check=False,
        timeout=SECONDS, env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (
        2,
        "netinspect: secret.toml: cannot be read: Permission denied; let the user that runs netinspect read it\n",
    )


def test_config_check_tells_every_mistake_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = written("wrong.toml", '[gateway]\nhostnam = "x"\nmax_sessions = "many"\n\n[scn]\n')
    for args in (["-c", wrong, "config", "check"], ["config", "check", wrong]):
        assert main(args) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert [line.split(": ")[1] for line in said.err.splitlines()] == [f"{wrong}:{n}" for n in (2, 3, 5)]
        assert 'did you mean "hostname"?' in said.err
    assert fails(capsys, "-c", wrong, "gateway").startswith("wrong.toml:2: ")


def test_config_check_tells_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check"]) == 0
    assert capsys.readouterr().out == "built-in defaults: ok, 2 listeners\n"
    one = written("one.toml", '[[listener]]\nname = "a"\nlisten = ":10025"\n')
    assert main(["config", "check", one]) == 0
    assert capsys.readouterr().out == "one.toml: ok, 1 listener\n"


def test_config_init_writes_a_file_that_is_right_and_never_overwrites(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "init", "fresh.toml"]) == 0
    assert "netinspect -c fresh.toml config check" in capsys.readouterr().out
    assert main(["config", "check", "fresh.toml"]) == 0
    capsys.readouterr()
    assert fails(capsys, "config", "init", "fresh.toml").startswith("fresh.toml: exists already; ")
    assert fails(capsys, "config", "init", "no/such.toml") == "no/such.toml: cannot write: No such file or directory"
    assert main(["config", "init"]) == 0
    assert capsys.readouterr().out == Path("fresh.toml").read_text(encoding="utf-8")


def test_config_show_prints_what_reads_back_as_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    mine = written("mine.toml", '[networks]\ndomains = ["corp.example"]\n')
    assert main(["config", "show", "-c", mine]) == 0
    shown = written("shown.toml", capsys.readouterr().out)
    assert config.load(Path(shown)) == config.load(Path(mine))


# --- what cannot be done ---------------------------------------------------------------------------------------------


def test_a_port_in_use_is_named_with_its_listener_and_a_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        table = f'[[listener]]\nname = "mx"\nlisten = "127.0.0.1:{port}"\nmode = "reverse"\nupstream = "127.0.0.1:1"\n'
        assert fails(capsys, "-c", written("x.toml", table), "gateway") == (
            f"listener mx: cannot listen on 127.0.0.1:{port}: Address already in use; "
            "another program listens there: stop it or change [[listener]] listen"
        )


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[records]\nfile = "no/such/file"\n', "no/such/file: records cannot be written: No such file or directory; "),
        ('[spool]\ndirectory = "none"\n', "none: is no folder; make it or set directory in [spool]"),
        ('[scan]\nrules_dir = "none"\n', "none: the folder of rules does not exist; make it or change rules_dir"),
        ('[scan]\nhash_block = ["none"]\n', "none: the hash list cannot be read: No such file or directory"),
        ('[gateway]\nscripts = ["none.py"]\n', "x.toml: [gateway] scripts: there is no file "),
    ],
)
def test_a_setting_that_names_nothing_is_told_before_the_gateway_listens(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, table: str, said: str
) -> None:
    listener = '[[listener]]\nname = "a"\nlisten = "127.0.0.1:1"\nmode = "reverse"\nupstream = "127.0.0.1:2"\n'
    line = fails(capsys, "-c", written("x.toml", f"{table}\n{listener}"), "gateway")
    assert line.removeprefix(f"{tmp_path}/").startswith(said)


def test_a_script_that_cannot_be_loaded_keeps_the_gateway_from_starting(capsys: pytest.CaptureFixture[str]) -> None:
    """Mail must not pass because a check of the administrator's is missing."""
    written("broken.py", "class Check:\n    def load(self, loader):\n        raise RuntimeError('boom')\n\n\n"
            "addons = [Check()]\n")  # fmt: skip
    assert main(["-c", written("x.toml", '[gateway]\nscripts = ["broken.py"]\n'), "gateway"]) == 2
    said = capsys.readouterr().err
    assert said.splitlines()[-1].endswith("broken.py cannot be loaded; mend the error above")


def test_firewall_without_an_interface_names_the_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert 'write interface = "eth0" under its [[listener]]' in fails(capsys, "firewall", "show")


def test_a_missing_library_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "netinspect.scanfiles", None)
    assert "`netinspect doctor` names what is missing" in fails(capsys, "scan", "x")


def test_the_doctor_ends_with_1_when_something_does_not_work(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = written("x.toml", '[scan]\nclamd = "unix:/nowhere/clamd"\n')
    assert main(["-c", wrong, "doctor"]) == 1
    said = capsys.readouterr().out
    assert "FAIL clamd: unix:/nowhere/clamd" in said
    assert "     → apt-get install" in said


# --- streams and signals ---------------------------------------------------------------------------------------------


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    Path("many").mkdir()
    for number in range(100):
        written(f"many/{number}.txt", "a text " * number)
    done = run("scan", "--json", "many", line="| head -n 1")
    assert done.stdout.count("\n") == 1
    assert done.stderr == ""


@pytest.mark.parametrize("args", [["config", "show"], ["config", "init"], ["scan", "x.txt"], ["doctor"]])
@pytest.mark.parametrize(
    ("line", "reason"), [(">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")]
)
def test_output_that_cannot_be_written_is_told(args: list[str], line: str, reason: str) -> None:
    written("x.txt", "a text")
    done = run(*args, line=line)
    assert (done.returncode, done.stderr) == (2, f"netinspect: standard output: {reason}\n")


def test_closed_input_is_told_where_it_is_read_and_else_does_no_harm() -> None:
    done = run("scan", "-", line="<&-")
    assert (done.returncode, done.stderr) == (2, "netinspect: -: Bad file descriptor\n")
    assert run("config", "check", line="<&- 2>&-").returncode == 0


def test_a_closed_output_does_not_get_the_records_into_another_file() -> None:
    """Its number would be given to the next file or socket that is opened."""
    program = "import os; from netinspect import cli; cli._mend_streams(); os._exit(os.open('/dev/null', os.O_RDONLY))"
    for closed in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        done = subprocess.run(["sh", "-c", f'"$@" {closed}', "sh", sys.executable, "-c", program], check=False,
                              timeout=SECONDS, env={**os.environ, "PYTHONPATH": ROOT})  # fmt: skip
        assert done.returncode > 2, closed


def test_names_of_files_that_are_no_utf8_are_shown_and_told() -> None:
    raw = os.fsencode(Path.cwd()) + b"/caf\xe9.txt"
    with open(raw, "wb") as file:
        file.write(b"a text")
    done = run("scan", os.fsdecode(raw), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "caf\\udce9.txt: accept" in done.stdout
    assert run("scan", "--json", os.fsdecode(raw)).stdout.isascii()


@pytest.mark.parametrize("args", [["scan", "-"], ["scan", "a.eml", "pipe"], ["demo"]], ids=["typed", "waits", "demo"])
def test_control_c_ends_it_at_once_without_a_traceback(args: list[str]) -> None:
    Path("a.eml").write_bytes(mails.macro_mail())
    os.mkfifo("pipe")
    terminal, other = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "--ctty", *COMMAND, *args], stdin=other, stdout=other, stderr=other,
        env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    os.close(other)
    said = os.read(terminal, 65536)
    os.write(terminal, b"\x03")
    with contextlib.suppress(OSError):  # EIO: nobody has it open any more
        while data := os.read(terminal, 65536):
            said += data
    os.close(terminal)
    assert process.wait(SECONDS) == cli.INTERRUPTED, said[-2000:]
    assert b"Traceback" not in said
