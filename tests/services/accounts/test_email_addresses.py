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


def test_spellings_of_one_mailbox() -> None:
    pepper = Secret("p" * 40)
    spellings = ["ada@example.com", "Ada@example.com", "ada+x@EXAMPLE.com", "ADA+a+b@example.com"]
    assert len({email_addresses.mailbox_hash(text, pepper) for text in spellings}) == 1
    assert email_addresses.fold("+tag@example.com") == "+tag@example.com"
    assert email_addresses.mailbox_hash("eve@example.com", pepper) != email_addresses.mailbox_hash(
        "ada@example.com", pepper
    )
