"""Each check against something real: a port that is taken, a scanner that answers, a folder that is not there."""

from __future__ import annotations

import dataclasses
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from netinspect import doctor
from netinspect.config import HostPort, ListenerSettings, Settings, default_settings
from netinspect.doctor import Check, checks


def settings(**tables: dict[str, object]) -> Settings:
    """The defaults with some fields of some tables replaced, and a listener on a port that the system chose."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    changed = {name: dataclasses.replace(getattr(default_settings(), name), **keys) for name, keys in tables.items()}
    own = ListenerSettings(name="outside", listen=HostPort("127.0.0.1", port))
    return dataclasses.replace(default_settings(), listeners=(own,), **changed)  # type: ignore[arg-type]


def only(name: str, found: list[Check]) -> Check:
    [check] = [check for check in found if check.name == name]
    return check


@contextmanager
def clamd_that_says(answer: bytes) -> Iterator[str]:
    """One connection is answered and closed; the address as the setting writes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.settimeout(10)
                connection.recv(64)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"tcp:127.0.0.1:{server.getsockname()[1]}"
        thread.join()


def test_every_fault_has_a_remedy_and_nothing_else_has() -> None:
    wrong = settings(spool={"directory": "/nowhere"}, scan={"clamd": "unix:/nowhere/clamd"})
    found = checks(wrong)
    assert [check.name for check in found if check.remedy] == [check.name for check in found if not check.ok]
    assert {"spool", "clamd"} <= {check.name for check in found if not check.ok}


def test_the_defaults_need_no_daemon_and_no_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.resource, "getrlimit", lambda _: (65_536, 65_536))
    assert [check for check in checks(settings()) if not check.ok] == []


def test_a_library_that_does_not_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LIBRARIES", (("yara-x", "no_such_module", ""), ("uvloop", "no_such_module", "slow")))
    found = checks(settings())
    assert not only("yara-x", found).ok
    assert only("uvloop", found) == Check("uvloop", True, "not here: slow")


def test_without_the_libraries_the_doctor_still_answers() -> None:
    # In a child: this process has loaded them already.
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['pyclamd', 'mitmproxy', 'yara_x']))\n"
        "from dataclasses import replace; from netinspect import config, doctor\n"
        "base = config.default_settings()\n"
        "found = doctor.checks(replace(base, scan=replace(base.scan, clamd='unix:/nowhere'),"
        " gateway=replace(base.gateway, keep_client_address=True)))\n"
        "print(*(check.name for check in found if not check.ok))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.stderr == ""
    assert {"mitmproxy", "pyclamd", "yara-x", "clamd", "keep_client_address"} <= set(done.stdout.split())


def test_a_port_that_is_taken_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listener = ListenerSettings(name="outside", listen=HostPort("127.0.0.1", taken.getsockname()[1]))
        check = only("listener outside", checks(dataclasses.replace(settings(), listeners=(listener,))))
    assert not check.ok
    assert "ss -ltnp" in check.remedy


def test_an_address_that_is_not_ours_is_found() -> None:
    listener = ListenerSettings(name="outside", listen=HostPort("192.0.2.1", 10025))
    check = only("listener outside", checks(dataclasses.replace(settings(), listeners=(listener,))))
    assert not check.ok
    assert "ip address" in check.remedy


@pytest.mark.parametrize(("age", "fresh"), [(timedelta(days=1), True), (timedelta(days=30), False)])
def test_clamd_with_old_signatures_is_a_fault(age: timedelta, fresh: bool) -> None:
    built = (datetime.now(UTC) - age).astimezone().strftime("%a %b %d %H:%M:%S %Y")
    with clamd_that_says(f"ClamAV 1.4.6/27000/{built}\0".encode()) as address:
        check = only("clamd", checks(settings(scan={"clamd": address})))
    assert check.ok is fresh
    assert f"signatures 27000, {age.days} days old" in check.detail


@pytest.mark.parametrize("answer", [b"", b"ClamAV", b"HTTP/1.1 400 Bad Request\r\n\r\n\0"])
def test_something_that_is_no_clamd_is_a_fault(answer: bytes) -> None:
    with clamd_that_says(answer) as address:
        assert not only("clamd", checks(settings(scan={"clamd": address}))).ok


def test_folders_of_spool_quarantine_and_records_are_tried(tmp_path: Path) -> None:
    there, missing = tmp_path / "spool", tmp_path / "missing"
    there.mkdir()
    found = checks(
        settings(
            spool={"directory": str(there)},
            quarantine={"directory": str(missing)},
            records={"file": str(missing / "events.json")},
        )
    )
    assert [only(name, found).ok for name in ("spool", "quarantine", "records")] == [True, False, False]
    assert list(there.iterdir()) == []
    assert not missing.exists()


def test_the_folder_of_recordings_has_room_for_what_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(directory: Path) -> doctor.Check:
        return only("record", checks(settings(record={"directory": str(directory), "keep_size": 500_000_000})))

    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 400_000_000})())
    assert not check(tmp_path / "missing").ok
    assert "keep_size" in check(tmp_path).remedy
    with (tmp_path / "netinspect-20260101T000000Z-1-0001.pcapng").open("wb") as file:
        file.truncate(200_000_000)
    assert check(tmp_path).ok, "what is there may be deleted for new ones"


def test_a_full_disk_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1_000_000})())
    check = only("spool", checks(settings()))
    assert not check.ok
    assert "524 MB" in check.remedy


def test_a_server_that_does_not_listen_is_found() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        up = HostPort("127.0.0.1", server.getsockname()[1])
        [own] = settings().listeners
        front = dataclasses.replace(own, mode="reverse", upstream=up)
        configured = dataclasses.replace(settings(), listeners=(front,))
        assert only("server of outside", checks(configured)).ok
    assert not only("server of outside", checks(configured)).ok


def test_an_interface_that_is_not_here_is_found() -> None:
    [own] = settings().listeners
    configured = dataclasses.replace(settings(), listeners=(dataclasses.replace(own, interface="nosuch0"),))
    assert not only("interface nosuch0", checks(configured)).ok


def test_too_few_descriptors_for_the_sessions_are_found() -> None:
    check = only("open files", checks(settings(gateway={"max_sessions": 10_000_000})))
    assert not check.ok
    assert "ulimit -n 30000200" in check.remedy


def test_a_limit_that_does_not_hold_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LIMITED", "pass")
    assert not only("workers", checks(settings())).ok


def test_rules_that_do_not_compile_are_found_with_their_place(tmp_path: Path) -> None:
    rule = tmp_path / "own.yar"
    rule.write_text("rule A { condition: true }", "ascii")
    assert only("rules", checks(settings(scan={"rules_dir": str(tmp_path)}))).ok
    rule.write_text("rule A {\n condition: nothing }", "ascii")
    check = only("rules", checks(settings(scan={"rules_dir": str(tmp_path)})))
    assert not check.ok
    assert f"{rule}:2" in check.detail
    assert check.remedy


def test_a_folder_of_rules_that_is_not_there_is_found(tmp_path: Path) -> None:
    assert not only("rules", checks(settings(scan={"rules_dir": str(tmp_path / "none")}))).ok
    assert only("rules", checks(settings(scan={"rules": False}))).ok


def test_lists_of_digests_are_read(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_text("a" * 64 + "\n", "ascii")
    bad.write_text("a" * 64 + "\nnone\n", "ascii")
    found = checks(settings(scan={"hash_block": (str(good),), "hash_allow": (str(bad), str(tmp_path / "none"))}))
    assert only("hash_block", found) == Check("hash_block", True, f"{good}: 1 digests")
    wrong = [check for check in found if check.name == "hash_allow"]
    assert [check.ok for check in wrong] == [False, False]
    assert f"{bad}:2" in wrong[0].detail
    assert all(check.remedy for check in wrong)


def test_addons_are_compiled(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("addons = []\n", "ascii")
    bad.write_text("addons = []\ndef\n", "ascii")
    found = checks(settings(gateway={"scripts": (str(good), str(bad), str(tmp_path / "none.py"))}))
    scripts = [check for check in found if check.name == "script"]
    assert [check.ok for check in scripts] == [True, False, False]
    assert f"{bad}:2" in scripts[1].detail
    assert all(check.remedy for check in scripts[1:])
