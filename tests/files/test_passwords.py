"""Where a mail says its password, it is among the first words that are tried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netinspect.files.passwords import MOST, candidates


@pytest.mark.parametrize(
    ("text", "password"),
    [
        ("The password is hunter2.", "hunter2"),
        ("Password: Inv-2024!", "Inv-2024!"),
        ("PASSWORD:1234", "1234"),
        ("archive pass - 7777\r\n", "7777"),
        ("Das Passwort lautet 'Geheim1'", "Geheim1"),
        ("Passwort für das Archiv: abc", "abc"),
        ("La contraseña es \"clave99\"", "clave99"),
        ("Mot de passe : secret77", "secret77"),
        ("Пароль: тайна", "тайна"),
        ("密码\uff1a8888", "8888"),
        ("<p>Password:&nbsp;<b>html33</b></p>", "html33"),
        ("Use the code below\n\n   99-11-22\n", "99-11-22"),
        ("password (for the attachment) = zip2024", "zip2024"),
    ],
)
def test_a_password_in_the_mail_is_found(text: str, password: str) -> None:
    assert password in candidates([text.encode()])


def test_the_nearest_words_come_first() -> None:
    assert candidates([b'See "report". The password is hunter2, thanks.'])[:2] == ["is", "hunter2,"]


def test_a_mail_that_speaks_of_no_password_has_none() -> None:
    assert candidates([b'Please find the "report" attached.', b""]) == []


@given(st.lists(st.binary(max_size=500), max_size=5))
def test_any_octets_give_a_bounded_list(texts: list[bytes]) -> None:
    found = candidates([b"password " + text for text in texts])
    assert len(found) <= MOST
    assert all(len(word) <= 64 for word in found)
