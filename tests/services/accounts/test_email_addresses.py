import pytest

from promptly.errors import InvalidRequest
from promptly.secret import Secret
from promptly.services.accounts import email_addresses


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("ada@example.com", "ada@example.com"),
        ("  Ada+key@EXAMPLE.com ", "Ada+key@example.com"),
        ("ada@bücher.de", "ada@xn--bcher-kva.de"),
        ("ada@mail.internal", "ada@mail.internal"),
        ("ada@shop.test", "ada@shop.test"),
    ],
)
def test_accepted_addresses(typed: str, stored: str) -> None:
    assert email_addresses.normalise(typed) == stored


@pytest.mark.parametrize(
    "typed",
    [
        "",
        "   ",
        "ada",
        "ada@",
        "@example.com",
        "ada@example",
        "a b@example.com",
        "ada@example..com",
        "ada@[127.0.0.1]",
        "ada@example.com\r\nBcc: eve@example.com",
        "ä@example.com",
        "a" * 250 + "@b.co",
    ],
)
def test_refused_addresses(typed: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        email_addresses.normalise(typed)
    assert caught.value.param == "email"


@pytest.mark.parametrize(
    "spellings",
    [
        ["ada@example.com", "Ada@example.com", "ada+x@EXAMPLE.com", "ADA+a+b@example.com"],
        ["ada.l@gmail.com", "adal@gmail.com", "a.d.a.l+x@googlemail.com", "ADAL@GoogleMail.com"],
        ["ada@icloud.com", "ada@me.com", "Ada+x@mac.com"],
        ["ada.l@proton.me", "ada_l@protonmail.com", "AdaL+x@pm.me", "a-d-a-l@protonmail.ch"],
        ["ada.l@yandex.ru", "ada-l@ya.ru", "ada.l+x@yandex.com"],
        ["ada@yahoo.com", "ada-shop@yahoo.com", "Ada-x-y@yahoo.com"],
        ["ada@fastmail.com", "x@ada.fastmail.com", "ada+x@fastmail.com"],
        ["ada@bücher.de", "ada@BÜCHER.de", "ada+x@xn--bcher-kva.de", "ada@bu\u0308cher.de"],
        ["ada@gmail.com", "ada@gmail。com", "ada@ｇｍａｉｌ.com"],
    ],
)
def test_spellings_of_one_mailbox(spellings: list[str]) -> None:
    pepper = Secret("p" * 40)
    stored = [email_addresses.normalise(typed) for typed in spellings]
    assert len({email_addresses.mailbox_hash(text, pepper) for text in stored}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ada@example.com", "eve@example.com"),
        ("ada.l@example.com", "adal@example.com"),
        ("ada-x@example.com", "ada@example.com"),
        ("ada.l@outlook.com", "adal@outlook.com"),
        ("ada@outlook.com", "ada@hotmail.com"),
        ("ada@yahoo.com", "ada@yahoo.de"),
        ("ada-x@gmail.com", "ada@gmail.com"),
        ("ada@mail.fastmail.example", "x@mail.fastmail.example"),
    ],
)
def test_mailboxes_of_two_people(one: str, other: str) -> None:
    assert email_addresses.fold(one) != email_addresses.fold(other)


def test_no_mailbox_folds_to_nothing() -> None:
    assert email_addresses.fold("+tag@example.com") == "+tag@example.com"
    assert email_addresses.fold("-x@yahoo.com") == "-x@yahoo.com"


def test_a_mailbox_is_also_known_under_the_folding_before() -> None:
    pepper = Secret("p" * 40)
    plain = email_addresses.mailbox_hashes("Ada+x@example.com", pepper)
    assert plain == {email_addresses.mailbox_hash("ada@example.com", pepper)}
    dotted = email_addresses.mailbox_hashes("A.da+x@googlemail.com", pepper)
    assert len(dotted) == 2 and email_addresses.mailbox_hash("ada@gmail.com", pepper) in dotted
