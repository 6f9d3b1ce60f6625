"""Every kind of mail, rendered: both parts state all facts and leave no placeholder."""

import re
from datetime import UTC, datetime

import pytest

from promptly.models import OutboxMail
from promptly.services.mail import messages
from promptly.services.mail.messages import SUBJECTS
from tests.support.servers import make_settings

PURCHASE = {
    "number": "P-7K3M-9QX2-VB4D",
    "pack": "standard",
    "price": "$2.00",
    "tokens": 25_000_000,
    "provider": "stripe",
    "ordered_on": "2026-11-23",
    "balance_tokens": 25_100_000,
}
SELLER = {"name": "Token Works Ltd", "address": ["1 Mill Lane", "Ely"], "tax_id": "GB123456789"}
PAID = PURCHASE | {
    "paid_on": "2026-11-24",
    "seller": SELLER,
    "tax": "$0.33",
    "received": "$2.40",
    "test_mode": True,
}
PARTLY = PURCHASE | {
    "arrived": "$1.00",
    "due": "$1.00",
    "due_bitcoin": "0.00001000 BTC",
    "until": "2026-11-23 14:30 UTC",
}
REVERSED = PURCHASE | {
    "refunded": "$1.00",
    "credited": True,
    "taken_tokens": 12_500_000,
    "claim_url": "",
}
CLAIM = "https://btcpay.example.com/pull-payments/x?y=1"
BALANCE = {"tokens": 12_345, "kept_tokens": 50_000}
TRIAL = {"tokens": 12_345, "ends_at": "2026-11-30 09:12 UTC", "paid_tokens": 0}
KEY = {"name": "laptop", "prefix": "sk-abcdefghi", "scope": "inference", "by_operator": False}
SIGN_IN = {
    "browser": "Firefox on Linux",
    "network": "203.0.113.0/24",
    "signed_in_at": "2026-11-30 09:12 UTC",
}

ALERT = {
    "subject": "2 webhook events have been parked",
    "advice": "promptly could not process them.",
    "path": "/webhooks?state=parked",
    "items": [
        {"text": "Stripe: charge.updated", "path": "/webhooks/7"},
        {"text": "http://gpu-1:8080", "path": ""},
    ],
    "more": 1_980,
}
DIGEST = {
    "day": "2026-11-30",
    "requests": 1_234,
    "prompt_tokens": 2_345_678,
    "completion_tokens": 3_456,
    "charged_tokens": 4_567,
    "uncharged_tokens": 5,
    "active_accounts": 6,
    "new_accounts": 7,
    "sales": [
        {"purchases": 2, "revenue": "$4.00", "livemode": True},
        {"purchases": 1, "revenue": "2.00 CHF", "livemode": False},
    ],
    "waiting": [{"text": "3 failed emails", "path": "/outbox?state=failed"}],
}

CASES = [
    ("new_key", {}, ["sk-raw", "/v1", "curl https://llm.example.com/v1/chat/completions"]),
    ("new_key", {"trial_deferred": True}, ["no trial tokens", "from tomorrow (UTC) on"]),
    ("confirm_reissue", {}, ["/register/confirm?token="]),
    ("confirm_deletion", {}, ["/dashboard/delete/confirm?token=", "cannot be undone"]),
    ("receipt", PURCHASE, ["P-7K3M-9QX2-VB4D", "25,000,000", "$2.00, by card", "25,100,000"]),
    # A mail that a release from before sellers and taxes has stored.
    ("receipt", PURCHASE | {"provider": "btcpay"}, ["$2.00, in Bitcoin", "2026-11-23"]),
    (
        "receipt",
        PAID,
        [
            "2026-11-24",
            "Token Works Ltd",
            "1 Mill Lane",
            "GB123456789",
            "$0.33, included",
            "$2.40",
            "ada@example.com",
            "test mode",
            "/purchases/P-7K3M-9QX2-VB4D/receipt",
        ],
    ),
    (
        "payment_notice",
        PARTLY | {"event": "incomplete"},
        ["$1.00 of $2.00", "0.00001000 BTC", "until 2026-11-23 14:30 UTC", "/checkout/P-7K3M"],
    ),
    (
        "payment_notice",
        PARTLY | {"event": "paid_partial", "due": None, "due_bitcoin": None},
        ["$1.00 of $2.00 had arrived", "Nothing has been credited", "send nothing more"],
    ),
    (
        "payment_notice",
        PARTLY | {"event": "paid_late", "due": None, "due_bitcoin": None},
        ["arrived after the time to pay", "/checkout/P-7K3M-9QX2-VB4D"],
    ),
    ("refund_notice", REVERSED | {"event": "refunded"}, ["$1.00 of $2.00", "12,500,000"]),
    ("refund_notice", REVERSED | {"event": "refunded", "claim_url": CLAIM}, [CLAIM]),
    (
        "refund_notice",
        REVERSED | {"event": "refunded", "credited": False},
        ["had not been credited", "25,100,000"],
    ),
    (
        "refund_notice",
        REVERSED | {"event": "refunded", "surplus": True, "claim_url": CLAIM},
        ["the surplus of $1.00", "you keep its tokens", CLAIM],
    ),
    ("refund_notice", REVERSED | {"event": "refund_failed"}, ["VB4D failed"]),
    ("dispute_notice", REVERSED | {"event": "disputed"}, ["disputed the payment", "12,500,000"]),
    ("dispute_notice", REVERSED | {"event": "charged_back"}, ["has reversed the payment"]),
    ("dispute_notice", REVERSED | {"event": "invalid"}, ["Bitcoin payment"]),
    ("dispute_notice", REVERSED | {"event": "over"}, ["no longer disputed", "have been returned"]),
    ("low_balance", BALANCE, ["12,345", "50,000", "/dashboard#mails"]),
    ("key_created", KEY, ["laptop", "sk-abcdefghi", "API only", "/dashboard#keys", "/register"]),
    (
        "key_created",
        KEY | {"by_operator": True, "scope": "full"},
        ["The operator", "full access", "/dashboard#mails"],
    ),
    (
        "sign_in",
        SIGN_IN,
        ["2026-11-30 09:12 UTC", "Firefox on Linux", "203.0.113.0/24", "/dashboard#sessions"],
    ),
    ("trial_ending", TRIAL, ["2026-11-30 09:12 UTC", "12,345", "buy a pack"]),
    ("trial_ending", TRIAL | {"paid_tokens": 7_000}, ["7,000", "do not expire"]),
    (
        "operator_alert",
        ALERT,
        [
            "2 webhook events have been parked.",
            "and 1,980 more",
            "/admin/webhooks/7",
            "/admin/webhooks?state=parked",
            "promptly could not",
        ],
    ),
    ("operator_alert", ALERT | {"items": [], "more": 0}, ["/admin/webhooks?state=parked"]),
    (
        "operator_digest",
        DIGEST,
        [
            "2026-11-30 (UTC)",
            "1,234",
            "2,345,678",
            "$4.00 (2 purchases)",
            "test mode 2.00 CHF",
            "3 failed emails",
            "/admin/outbox?state=failed",
        ],
    ),
    (
        "operator_digest",
        DIGEST | {"sales": [], "waiting": []},
        ["revenue none", "Nothing needs attention."],
    ),
]


def test_every_kind_is_tried() -> None:
    assert {kind for kind, _, _ in CASES} == set(SUBJECTS)


@pytest.mark.parametrize(("kind", "payload", "said"), CASES)
def test_both_parts_are_complete(kind: str, payload: dict[str, object], said: list[str]) -> None:
    mail = OutboxMail(
        id=7, user_id=3, recipient="ada@example.com", kind=kind, payload=payload,
        created_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
    )  # fmt: skip
    settings = make_settings(base_url="https://llm.example.com")
    message = messages.compose(mail, settings, "sk-raw" if kind == "new_key" else None)
    assert message["Subject"] == SUBJECTS[kind].format_map(payload)
    assert message["Reply-To"] is None
    text, html = (message.get_body((part,)) for part in ("plain", "html"))
    assert text is not None and html is not None
    assert text["Content-Transfer-Encoding"] == html["Content-Transfer-Encoding"] == "7bit"
    plain = text.get_content()
    assert max(len(line) for line in plain.splitlines() if "http" not in line) <= 110
    shown = re.sub(r"<[^>]+>", " ", html.get_content().replace("&amp;", "&"))
    links = re.findall(r'href="([^"]+)"', html.get_content().replace("&amp;", "&"))
    for part in (" ".join(plain.split()), " ".join([*shown.split(), *links])):
        for words in said:
            assert words in part, (words, part)
        assert "https://llm.example.com" in part
        assert "{{" not in part and "{%" not in part and "None" not in part


@pytest.mark.parametrize(
    ("kind", "payload", "is_named"),
    [("low_balance", BALANCE, True), ("operator_alert", ALERT, False)],
)
def test_customers_can_reply_to_the_support_address(
    kind: str, payload: dict[str, object], is_named: bool
) -> None:
    mail = OutboxMail(
        id=7, recipient="ada@example.com", kind=kind, payload=payload,
        created_at=datetime(2026, 11, 23, 12, tzinfo=UTC),
    )  # fmt: skip
    settings = make_settings(support_email="help@example.com", admin_url="http://private/admin")
    message = messages.compose(mail, settings, None)
    assert message["Reply-To"] == ("help@example.com" if is_named else None)
    for subtype in ("plain", "html"):
        part = message.get_body((subtype,))
        assert part is not None and ("help@example.com" in part.get_content()) is is_named
        assert ("http://private/admin" in part.get_content()) is not is_named
