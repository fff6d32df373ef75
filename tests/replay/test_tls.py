"""TLS of a capture with the secrets of its client, against the implementation everybody uses."""

from __future__ import annotations

import contextlib
import itertools
import ssl
import struct
from pathlib import Path

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import ARC4, TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from OpenSSL import SSL

from netinspect.errors import NetinspectError
from netinspect.replay import ciphers, keylog
from netinspect.replay.keylog import KeyLog
from netinspect.replay.tls import Decryptor, TlsFacts
from netinspect.smtp.events import Side
from tests.replay.tls_talk import NAME, NO_ENCRYPT_THEN_MAC, Wire, contexts, pem, talk

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
Said = list[tuple[Side, bytes]]


def read(octets: Said, keys: KeyLog) -> tuple[Said, Decryptor]:
    """What was said, turns of one side joined."""
    decryptor = Decryptor(keys)
    out: Said = []
    for side, piece in octets:
        for speaker, said in decryptor.feed(side, piece):
            assert said
            if out and out[-1][0] is speaker:
                out[-1] = (speaker, out[-1][1] + said)
            else:
                out.append((speaker, said))
    return out, decryptor


def joined(said: Said) -> Said:
    return [
        (side, b"".join(one for _, one in group)) for side, group in itertools.groupby(said, key=lambda one: one[0])
    ]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Wire, KeyLog]]:
    """A session of each version, for tests that change it."""
    made = {}
    for name, version, suite in (("1.2", V12, "ECDHE-ECDSA-AES256-GCM-SHA384"), ("1.3", V13, "")):
        folder = tmp_path_factory.mktemp("tls")
        wire = talk(Wire(*contexts(folder, version, suite)))
        made[name] = (wire, KeyLog.load(str(folder / "keys")))
    return made


# --- all that OpenSSL speaks ----------------------------------------------------------------------------------------

SUITES = [
    ("ECDHE-ECDSA-AES128-GCM-SHA256", "ec"), ("ECDHE-ECDSA-AES256-GCM-SHA384", "ec"),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", "ec"), ("ECDHE-ECDSA-AES128-CCM", "ec"),
    ("ECDHE-ECDSA-AES256-CCM8", "ec"), ("ECDHE-ECDSA-AES128-SHA", "ec"),
    ("ECDHE-ECDSA-AES256-SHA384", "ec"), ("ECDHE-RSA-AES128-SHA256", "rsa"), ("ECDHE-RSA-AES256-SHA", "rsa"),
    ("AES128-SHA", "rsa"), ("AES256-SHA256", "rsa"), ("AES256-GCM-SHA384", "rsa"), ("AECDH-AES256-SHA", "ec"),
]  # fmt: skip


@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
@pytest.mark.parametrize(("suite", "kind"), SUITES)
def test_tls_1_2(suite: str, kind: str, options: int, tmp_path: Path) -> None:
    wire = talk(Wire(*contexts(tmp_path, V12, suite, kind=kind, options=options)))
    said, decryptor = read(wire.octets, KeyLog.load(str(tmp_path / "keys")))
    assert said == joined(wire.said)
    assert not decryptor.failed
    facts = decryptor.facts
    assert (facts.version, facts.server_name, facts.decrypted) == ("TLS 1.2", NAME, True)
    assert facts.cipher in ciphers.SUITES.values()
    assert facts.certificates == (() if suite.startswith("AECDH") else (certificate(kind),))
    assert decryptor.ended(Side.CLIENT)


def certificate(kind: str) -> bytes:
    text = pem(kind).decode()
    return ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERTIFICATE") :])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.parametrize("options", [0, NO_ENCRYPT_THEN_MAC])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_tls_1_0_and_1_1(version: ssl.TLSVersion, options: int, tmp_path: Path) -> None:
    wire = talk(Wire(*contexts(tmp_path, version, "ECDHE-RSA-AES128-SHA", kind="rsa", options=options)))
    said, decryptor = read(wire.octets, KeyLog.load(str(tmp_path / "keys")))
    assert said == joined(wire.said)
    assert decryptor.facts.version in ("TLS 1.0", "TLS 1.1")


@pytest.mark.parametrize("session", range(3))
def test_tls_1_3(session: int, tmp_path: Path) -> None:
    wire = talk(Wire(*contexts(tmp_path, V13)))
    said, decryptor = read(wire.octets, KeyLog.load(str(tmp_path / "keys")))
    assert said == joined(wire.said)
    assert decryptor.facts == TlsFacts("TLS 1.3", "AES_256_GCM_SHA384", NAME, (certificate("ec"),), (), True)


def test_tls_1_3_after_a_hello_retry(tmp_path: Path) -> None:
    client, server = contexts(tmp_path, V13)
    server.set_ecdh_curve("secp384r1")  # no client sends a share of it unasked
    wire = talk(Wire(client, server))
    assert [side for side, _ in wire.octets[:3]] == [Side.CLIENT, Side.SERVER, Side.CLIENT]
    said, decryptor = read(wire.octets, KeyLog.load(str(tmp_path / "keys")))
    assert said == joined(wire.said)
    assert not decryptor.failed


@pytest.mark.parametrize("version", [V12, V13])
def test_a_session_that_is_taken_up_again(version: ssl.TLSVersion, tmp_path: Path) -> None:
    client, server = contexts(tmp_path, version)
    first = talk(Wire(client, server))
    second = talk(Wire(client, server, session=first.client.session))
    assert second.client.session_reused
    keys = KeyLog.load(str(tmp_path / "keys"))
    for wire in (first, second):
        said, decryptor = read(wire.octets, keys)
        assert said == joined(wire.said)
        assert not decryptor.failed


def test_a_certificate_of_the_client(tmp_path: Path) -> None:
    for version in (V12, V13):
        client, server = contexts(tmp_path, version)
        client.load_cert_chain(tmp_path / "ec.pem")
        server.verify_mode = ssl.CERT_REQUIRED
        server.load_verify_locations(tmp_path / "ec.pem")
        wire = talk(Wire(client, server))
        said, decryptor = read(wire.octets, KeyLog.load(str(tmp_path / "keys")))
        assert said == joined(wire.said)
        assert decryptor.facts.client_certificates == (certificate("ec"),)


# --- key updates, which Python cannot ask for -----------------------------------------------------------------------


def seal(keys: KeyLog, label: bytes, random: bytes, number: int, kind: int, octets: bytes, updates: int = 0) -> bytes:
    """A record of TLS 1.3 under AES-256-GCM."""
    suite = ciphers.suite_of(0x1302)
    secret = keys.secret(label, random)
    assert suite is not None
    assert secret is not None
    for _ in range(updates):
        secret = ciphers.next_secret(suite, secret)
    key, iv = (ciphers.expand_label(secret, name, size, "sha384") for name, size in (("key", 32), ("iv", 12)))
    head = struct.pack("!BHH", 23, 0x0303, len(octets) + 17 + 3)
    nonce = (int.from_bytes(iv) ^ number).to_bytes(12)
    return head + AESGCM(key).encrypt(nonce, octets + bytes((kind, 0, 0, 0)), head)


def test_keys_are_updated(recorded: dict[str, tuple[Wire, KeyLog]]) -> None:
    wire, keys = recorded["1.3"]
    random = wire.octets[0][1][11:43]
    decryptor = Decryptor(keys)
    for side, octets in wire.octets[:3]:  # the handshake
        decryptor.feed(side, octets)
    made = [
        seal(keys, keylog.CLIENT_TRAFFIC, random, 0, 23, b"one"),
        seal(keys, keylog.CLIENT_TRAFFIC, random, 1, 22, b"\x18\0\0\1\0"),
        seal(keys, keylog.CLIENT_TRAFFIC, random, 0, 23, b"two", 1),
        seal(keys, keylog.CLIENT_TRAFFIC, random, 1, 22, b"\x18\0\0\1\1", 1),
        seal(keys, keylog.CLIENT_TRAFFIC, random, 0, 23, b"three", 2),
    ]
    assert decryptor.feed(Side.CLIENT, b"".join(made)) == [(Side.CLIENT, b"onetwothree")]
    assert not decryptor.failed


@pytest.mark.parametrize("suite", [b"ECDHE-RSA-AES128-GCM-SHA256", b"ECDHE-RSA-AES128-SHA"])
def test_a_second_handshake_inside_the_first(suite: bytes, tmp_path: Path) -> None:
    chain = tmp_path / "rsa.pem"
    chain.write_bytes(pem("rsa"))
    keys = KeyLog()
    client, server = SSL.Context(SSL.TLS_CLIENT_METHOD), SSL.Context(SSL.TLS_SERVER_METHOD)
    server.use_privatekey_file(str(chain))
    server.use_certificate_chain_file(str(chain))
    client.set_keylog_callback(lambda _, line: keys.add(line))
    for context in (client, server):
        context.set_max_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(suite)
    ends = {Side.CLIENT: SSL.Connection(client, None), Side.SERVER: SSL.Connection(server, None)}
    ends[Side.CLIENT].set_connect_state()
    ends[Side.SERVER].set_accept_state()
    wire: Said = []
    heard: Said = []

    def go_on(*, handshake: bool) -> None:
        for _ in range(8):
            for side, other in ((Side.CLIENT, Side.SERVER), (Side.SERVER, Side.CLIENT)):
                with contextlib.suppress(SSL.WantReadError):
                    if handshake:
                        ends[side].do_handshake()
                with contextlib.suppress(SSL.WantReadError):
                    heard.append((other, ends[side].recv(65_536)))
                with contextlib.suppress(SSL.WantReadError):
                    octets = ends[side].bio_read(65_536)
                    ends[other].bio_write(octets)
                    wire.append((side, octets))

    go_on(handshake=True)
    ends[Side.CLIENT].send(b"before")
    go_on(handshake=False)
    assert ends[Side.SERVER].renegotiate()
    go_on(handshake=True)
    ends[Side.CLIENT].send(b"after")
    ends[Side.SERVER].send(b"answer")
    go_on(handshake=False)
    assert ends[Side.SERVER].total_renegotiations() == 1
    said, decryptor = read(wire, keys)
    assert not decryptor.failed
    assert said == joined(heard)
    assert {octets for _, octets in said} == {b"beforeafter", b"answer"}


# --- what cannot be read --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_without_a_key(version: str, recorded: dict[str, tuple[Wire, KeyLog]]) -> None:
    said, decryptor = read(recorded[version][0].octets, KeyLog())
    assert said == []
    assert decryptor.failed == "no key for this session"
    facts = decryptor.facts
    assert (facts.version, facts.server_name, facts.decrypted) == (f"TLS {version}", NAME, False)
    assert len(facts.certificates) == (1 if version == "1.2" else 0)


@pytest.mark.parametrize("missing", [keylog.CLIENT_TRAFFIC, keylog.SERVER_TRAFFIC])
def test_with_half_of_the_keys(missing: bytes, recorded: dict[str, tuple[Wire, KeyLog]], tmp_path: Path) -> None:
    wire = talk(Wire(*contexts(tmp_path, V13)))
    keys = KeyLog()
    keys.add(b"\n".join(one for one in (tmp_path / "keys").read_bytes().splitlines() if not one.startswith(missing)))
    said, decryptor = read(wire.octets, keys)
    assert decryptor.failed == "no key for this session"
    assert said in ([], [(Side.SERVER, wire.said[0][1])])


def test_the_keys_of_what_follows_the_handshake_are_enough(tmp_path: Path) -> None:
    wire = talk(Wire(*contexts(tmp_path, V13)))
    keys = KeyLog()
    keys.add(b"\n".join(one for one in (tmp_path / "keys").read_bytes().splitlines() if b"HANDSHAKE" not in one))
    said, decryptor = read(wire.octets, keys)
    assert said == joined(wire.said)
    assert not decryptor.failed


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_changed_record_ends_it(version: str, recorded: dict[str, tuple[Wire, KeyLog]]) -> None:
    wire, keys = recorded[version]
    whole, _ = read(wire.octets, keys)
    for number in (-2, -3, -4):
        octets = list(wire.octets)
        side, one = octets[number]
        octets[number] = (side, one[:-1] + bytes((one[-1] ^ 1,)))
        said, decryptor = read(octets, keys)
        assert decryptor.failed == "damaged record, or a wrong key"
        assert b"".join(one for _, one in said) != b"".join(one for _, one in whole)
        assert joined(whole)[: len(said) - 1] == said[:-1]


def test_a_hole_ends_it(recorded: dict[str, tuple[Wire, KeyLog]]) -> None:
    wire, keys = recorded["1.3"]
    decryptor = Decryptor(keys)
    for side, octets in wire.octets[:5]:
        decryptor.feed(side, octets)
    decryptor.gap(Side.CLIENT, 10)
    assert decryptor.failed == "gap"
    assert decryptor.feed(*wire.octets[5]) == []


def test_one_direction_only_is_hidden(recorded: dict[str, tuple[Wire, KeyLog]]) -> None:
    for wire, keys in recorded.values():
        for side in Side:
            said, decryptor = read([(who, octets) for who, octets in wire.octets if who is side], keys)
            assert said == []
            assert decryptor.failed
            assert decryptor.hidden


def test_a_hole_behind_the_end_is_none(recorded: dict[str, tuple[Wire, KeyLog]]) -> None:
    wire, keys = recorded["1.3"]
    _, decryptor = read(wire.octets, keys)
    decryptor.gap(Side.CLIENT, 1)
    assert not decryptor.failed


def test_a_suite_nobody_reads(tmp_path: Path) -> None:
    wire = talk(Wire(*contexts(tmp_path, V12, "CAMELLIA128-SHA", kind="rsa")))
    said, decryptor = read(wire.octets, KeyLog.load(str(tmp_path / "keys")))
    assert said == []
    assert decryptor.failed == "cipher suite 0x0041 is not supported"
    assert decryptor.facts.cipher == "0x0041"


def test_a_handshake_that_is_refused_hides_nothing(tmp_path: Path) -> None:
    client, server = contexts(tmp_path, V13)
    server.maximum_version = V13
    client.minimum_version = client.maximum_version = V12
    wire = Wire(client, server)
    with pytest.raises(ssl.SSLError):
        wire.handshake()
    said, decryptor = read(wire.octets, KeyLog())
    assert said == []
    assert not decryptor.failed
    assert not decryptor.hidden
    assert decryptor.ended(Side.SERVER)


def test_no_secret_is_shown() -> None:
    keys = KeyLog()
    keys.add(b"CLIENT_RANDOM " + b"ab" * 32 + b" " + b"cd" * 48)
    assert keys
    for shown in (repr(keys), str(keys), repr(Decryptor(keys))):
        assert "abab" not in shown
        assert "cdcd" not in shown


# --- any octets -----------------------------------------------------------------------------------------------------


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_however_the_octets_are_cut(recorded: dict[str, tuple[Wire, KeyLog]], data: st.DataObject) -> None:
    wire, keys = recorded[data.draw(st.sampled_from(["1.2", "1.3"]))]
    cut: Said = []
    for side, octets in wire.octets:
        places = sorted(data.draw(st.sets(st.integers(0, min(len(octets), 400)), max_size=6)))
        cut += [(side, octets[low:high]) for low, high in itertools.pairwise([0, *places, len(octets)])]
    said, decryptor = read(cut, keys)
    assert said == joined(wire.said)
    assert not decryptor.failed


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_gives_octets_that_were_said_or_none(
    recorded: dict[str, tuple[Wire, KeyLog]], data: st.DataObject
) -> None:
    wire, keys = recorded[data.draw(st.sampled_from(["1.2", "1.3"]))]
    octets = [(side, bytearray(one)) for side, one in wire.octets]
    for _ in range(data.draw(st.integers(1, 3))):
        _, one = octets[data.draw(st.integers(0, len(octets) - 1))]
        one[data.draw(st.integers(0, min(len(one) - 1, 300)))] = data.draw(st.integers(0, 255))
    said, _ = read([(side, bytes(one)) for side, one in octets], keys)
    for speaker in Side:
        whole = b"".join(one for side, one in wire.said if side is speaker)
        assert whole.startswith(b"".join(one for side, one in said if side is speaker))


@given(st.lists(st.tuples(st.sampled_from(Side), st.binary(max_size=80))), st.booleans())
def test_nothing_is_raised_on_any_octets(octets: Said, record: bool) -> None:
    decryptor = Decryptor(KeyLog())
    for side, one in octets:
        decryptor.feed(side, (b"\x16\x03\x01" + struct.pack("!H", len(one)) if record else b"") + one)
    assert decryptor.facts is not None


def test_what_waits_is_bounded() -> None:
    decryptor = Decryptor(KeyLog())
    record = b"\x17\x03\x03\x40\x00" + bytes(16_384)
    for _ in range(100):
        decryptor.feed(Side.CLIENT, record)
    assert decryptor.failed == "no handshake"
    decryptor = Decryptor(KeyLog())
    for _ in range(100):
        decryptor.feed(Side.SERVER, b"\x16\x03\x03\x40\x00" + b"\x0b\xff\xff\xff" + bytes(16_380))
    assert decryptor.failed == "a handshake message is too long"


# --- ciphers that OpenSSL has given up ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0x000A, 0x0004])
@pytest.mark.parametrize("version", [ciphers.TLS_1_0, ciphers.TLS_1_2])
def test_triple_des_and_rc4(number: int, version: int) -> None:
    suite = ciphers.suite_of(number)
    assert suite is not None
    master, client, server = bytes(48), b"c" * 32, b"s" * 32
    opener, _ = ciphers.both_directions(suite, version, master, client, server, mac_last=False)
    size = 20 if suite.mac == "sha1" else 16
    block = ciphers._key_block(
        master, server + client, 2 * (size + suite.key_size + suite.iv_size), version, suite.digest
    )
    mac, key = block[:size], block[2 * size : 2 * size + suite.key_size]
    iv = block[2 * (size + suite.key_size) :][: suite.iv_size]
    cipher = Cipher(TripleDES(key), modes.CBC(iv)) if suite.iv_size else Cipher(ARC4(key), None)
    encryptor = cipher.encryptor()
    for sequence, octets in enumerate((b"", b"EHLO a\r\n", b"x" * 300)):
        head = struct.pack("!QBHH", sequence, 23, version, len(octets))
        plain = octets + ciphers.hmac.digest(mac, head + octets, suite.mac)
        if suite.iv_size:
            fill = 7 - len(plain) % 8
            plain += bytes((fill,)) * (fill + 1)
            if version > ciphers.TLS_1_0:
                plain = b"explicit" + plain
        assert opener.open(23, struct.pack("!H", version), encryptor.update(plain)) == (23, octets)
    with pytest.raises(ciphers.Damaged):
        opener.open(23, struct.pack("!H", version), bytes(64))


@pytest.mark.parametrize("number", sorted(ciphers.SUITES))
def test_every_suite_that_is_named_can_be_made(number: int) -> None:
    suite = ciphers.suite_of(number)
    assert suite is not None
    name = ciphers.SUITES[number]
    assert suite.digest == ("sha384" if name.endswith("384") else "sha256")
    if number >> 8 == 0x13:
        opener = ciphers.one_direction(suite, bytes(48 if suite.digest == "sha384" else 32))
    else:
        opener, _ = ciphers.both_directions(suite, ciphers.TLS_1_2, bytes(48), bytes(32), bytes(32), mac_last=False)
    for size in (0, 1, 7, 8, 15, 16, 17, 32, 64):
        with pytest.raises(ciphers.Damaged):
            opener.open(23, b"\3\3", bytes(size))


def test_chacha_of_tls_1_2_counts_its_nonce() -> None:
    suite = ciphers.suite_of(0xCCA8)
    assert suite is not None
    opener, _ = ciphers.both_directions(suite, ciphers.TLS_1_2, bytes(48), bytes(32), bytes(32), mac_last=False)
    block = ciphers._key_block(bytes(48), bytes(64), 88, ciphers.TLS_1_2, "sha256")
    key, iv = block[:32], block[64:76]
    for sequence in range(3):
        nonce = (int.from_bytes(iv) ^ sequence).to_bytes(12)
        octets = ChaCha20Poly1305(key).encrypt(nonce, b"said", struct.pack("!QBHH", sequence, 23, 0x0303, 4))
        assert opener.open(23, b"\3\3", octets) == (23, b"said")


# --- key logs -------------------------------------------------------------------------------------------------------

RANDOM = bytes(range(32))


def test_lines_of_a_key_log() -> None:
    keys = KeyLog()
    keys.add(
        b"# comment\r\n\r\nCLIENT_RANDOM " + RANDOM.hex().upper().encode() + b" " + b"aa" * 48 + b"\r\n"
        b"CLIENT_TRAFFIC_SECRET_0 " + RANDOM.hex().encode() + b" " + b"bb" * 32 + b"\n"
        b"EXPORTER_SECRET " + RANDOM.hex().encode() + b" " + b"cc" * 32 + b"\n"
        b"CLIENT_RANDOM 00 11\nCLIENT_RANDOM xx yy\nCLIENT_RANDOM\n\xff\xfe\n"
        b"SERVER_TRAFFIC_SECRET_0 " + RANDOM.hex().encode() + b" " + b"dd" * 48
    )
    assert keys.secret(keylog.MASTER, RANDOM) == b"\xaa" * 48
    assert keys.secret(keylog.CLIENT_TRAFFIC, RANDOM) == b"\xbb" * 32
    assert keys.secret(keylog.SERVER_TRAFFIC, RANDOM) == b"\xdd" * 48
    assert keys.secret(keylog.SERVER_HANDSHAKE, RANDOM) is None
    assert keys.secret(keylog.MASTER, bytes(32)) is None


def test_a_file_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keylog, "PIECE", 100)
    lines = [b"CLIENT_RANDOM %064x %096x" % (number, number) for number in range(50)]
    (tmp_path / "keys").write_bytes(b"\n".join(lines))
    keys = KeyLog.load(str(tmp_path / "keys"))
    assert all(keys.secret(keylog.MASTER, number.to_bytes(32)) == number.to_bytes(48) for number in range(50))


def test_a_line_without_end_is_not_kept(tmp_path: Path) -> None:
    (tmp_path / "keys").write_bytes(b"x" * 3_000_000 + b"\nCLIENT_RANDOM %064x %096x\n" % (1, 1))
    assert KeyLog.load(str(tmp_path / "keys"))


def test_secrets_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keylog, "SECRETS", 3)
    keys = KeyLog()
    keys.add(b"\n".join(b"CLIENT_RANDOM %064x %096x" % (number, number) for number in range(5)))
    assert keys.lost == 2
    assert keys.secret(keylog.MASTER, (2).to_bytes(32)) is not None


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"hello\n", "no TLS secret in it")])
def test_a_key_log_that_is_none_is_told(content: bytes | None, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(NetinspectError, match=reason) as caught:
        KeyLog.load(str(path))
    assert str(path) in str(caught.value)
    assert caught.value.remedy
