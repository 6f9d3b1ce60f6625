"""Mail messages: templates with a text and an HTML part, and the headers of every mail."""

from datetime import UTC
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, parseaddr
from pathlib import Path
from urllib.parse import urlencode, urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from promptly.models import OutboxMail
from promptly.services.mail.outbox import LINK_HOURS
from promptly.settings import Settings

TEMPLATES = Path(__file__).parents[3] / "templates" / "mail"

SUBJECTS = {
    "new_key": "Your promptly API key",
    "confirm_reissue": "Confirm your new promptly API key",
    "confirm_deletion": "Confirm the deletion of your promptly account",
    "receipt": "Receipt for your promptly purchase",
    "refund_notice": "Refund of your promptly purchase",
    "payment_notice": "Your promptly payment is not complete yet",
    "dispute_notice": "Update on the payment for your promptly purchase",
    "low_balance": "Your promptly balance is low",
    "trial_ending": "Your promptly trial ends soon",
    "key_created": "A new key for your promptly account",
    "sign_in": "New sign-in to your promptly account",
    "operator_alert": "promptly: {subject}",
    "operator_digest": "promptly on {day}",
}
OPERATOR_ALERT, OPERATOR_DIGEST = "operator_alert", "operator_digest"
# Mails to OPERATOR_EMAIL; all others go to customers.
OPERATOR_KINDS = (OPERATOR_ALERT, OPERATOR_DIGEST)
# Mails that carry a key, which is created when they are sent.
WITH_KEY = frozenset({"new_key"})
# Paths of the links in mails, by kind.
LINKS = {"confirm_reissue": "/register/confirm", "confirm_deletion": "/dashboard/delete/confirm"}

_templates = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=select_autoescape(["html"]),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def compose(mail: OutboxMail, settings: Settings, raw_key: str | None) -> EmailMessage:
    """Compose the finished mail; `raw_key` appears in it and nowhere else."""
    support_email = "" if mail.kind in OPERATOR_KINDS else settings.support_email
    values = {
        **mail.payload,
        "base_url": settings.base_url,
        "admin_url": settings.panel_url,
        "support_email": support_email,
        "email": mail.recipient,
        "raw_key": raw_key,
        "trial_tokens": settings.trial_tokens,
        "trial_expiry_days": settings.trial_expiry_days,
        "reissued": bool(mail.payload.get("reissued")),
        "trial_deferred": bool(mail.payload.get("trial_deferred")),
        "seller": mail.payload.get("seller") or settings.seller,
        "link_hours": LINK_HOURS,
        "link": signed_link(mail, settings) if mail.kind in LINKS else "",
    }
    message = EmailMessage()
    message["Subject"] = SUBJECTS[mail.kind].format_map(mail.payload)
    message["From"] = settings.smtp_from
    if support_email:
        message["Reply-To"] = support_email
    local, _, domain = mail.recipient.rpartition("@")
    message["To"] = Address(username=local, domain=domain)
    message["Date"] = format_datetime(mail.created_at.astimezone(UTC))
    message["Message-ID"] = message_id(mail, settings)
    message["Auto-Submitted"] = "auto-generated"
    text = _templates.get_template(f"{mail.kind}.txt").render(values)
    if support_email:
        text += "\n" + _templates.get_template("_signature.txt").render(values)
    html = _templates.get_template(f"{mail.kind}.html").render(values)
    message.set_content(text, cte=_encoding(text))
    message.add_alternative(html, subtype="html", cte=_encoding(html))
    return message


def _encoding(text: str) -> str | None:
    # 7bit where possible: quoted-printable would break a key over two lines.
    return "7bit" if text.isascii() else None


def message_id(mail: OutboxMail, settings: Settings) -> str:
    """Return the same id for every sending of a mail, so that mail clients detect duplicates."""
    domain = parseaddr(settings.smtp_from)[1].rpartition("@")[2]
    domain = domain or urlsplit(settings.base_url).hostname or "localhost"
    return f"<outbox-{mail.id}-{int(mail.created_at.timestamp())}@{domain}>"


def signed_link(mail: OutboxMail, settings: Settings) -> str:
    """Return the link in a mail that asks for a confirmation."""
    token = _serializer(mail.kind, settings).dumps([mail.user_id, mail.id])
    return f"{settings.base_url}{LINKS[mail.kind]}?{urlencode({'token': token})}"


def read_token(kind: str, token: str, settings: Settings) -> tuple[int, int] | None:
    """Return the account's and the mail's id in a link, or None if it is forged or expired.

    A link of another kind of mail counts as forged.
    """
    try:
        user_id, mail_id = _serializer(kind, settings).loads(token, max_age=LINK_HOURS * 3600)
    except (BadSignature, ValueError, TypeError):
        return None
    return int(user_id), int(mail_id)


def _serializer(kind: str, settings: Settings) -> URLSafeTimedSerializer:
    salt = kind.replace("_", "-")
    return URLSafeTimedSerializer(settings.signing_keys, salt=salt)
