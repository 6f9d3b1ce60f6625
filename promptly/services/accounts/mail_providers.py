"""Public mail providers: which spellings they deliver to one mailbox, and their domains.

Only rules that a provider documents or that its sign-up enforces are here: folding the addresses
of two people would take a trial from one of them. Aliases with names of their own stay apart.
"""

from collections.abc import Callable

# Domains whose addresses with the same local part belong to one mailbox, by the domain used for it.
_ALIASES = {
    "gmail.com": ("googlemail.com",),
    "icloud.com": ("me.com", "mac.com"),
    "proton.me": ("protonmail.com", "protonmail.ch", "pm.me"),
    "yandex.ru": ("ya.ru", "yandex.by", "yandex.com", "yandex.kz", "yandex.ua", "yandex.uz"),
}
_SAME_DOMAIN = {alias: domain for domain, aliases in _ALIASES.items() for alias in aliases}

_YAHOO = frozenset(
    {
        "myyahoo.com", "rocketmail.com", "yahoo.ca", "yahoo.co.id", "yahoo.co.in", "yahoo.co.uk",
        "yahoo.com", "yahoo.com.ar", "yahoo.com.au", "yahoo.com.br", "yahoo.com.mx", "yahoo.com.ph",
        "yahoo.com.sg", "yahoo.com.tr", "yahoo.com.tw", "yahoo.com.vn", "yahoo.de", "yahoo.dk",
        "yahoo.es", "yahoo.fr", "yahoo.gr", "yahoo.ie", "yahoo.in", "yahoo.it", "yahoo.no",
        "yahoo.pl", "yahoo.ro", "yahoo.se", "ymail.com",
    }
)  # fmt: skip

# Providers where a new mailbox costs effort. Not here: forwarding services with unlimited aliases.
LARGE = _YAHOO | frozenset(_ALIASES) | frozenset(_SAME_DOMAIN) | {
    "126.com", "163.com", "aol.com", "att.net", "bell.net", "bigpond.com", "bk.ru", "bluewin.ch",
    "bol.com.br", "btinternet.com", "comcast.net", "cox.net", "daum.net", "email.cz",
    "fastmail.com", "fastmail.fm", "foxmail.com", "free.fr", "freenet.de", "gmx.at", "gmx.ch",
    "gmx.com", "gmx.de", "gmx.net", "hanmail.net", "hey.com", "hotmail.be", "hotmail.co.uk",
    "hotmail.com", "hotmail.com.br", "hotmail.de", "hotmail.es", "hotmail.fr", "hotmail.it",
    "hotmail.nl", "hotmail.se", "inbox.ru", "interia.pl", "laposte.net", "libero.it", "list.ru",
    "live.ca", "live.co.uk", "live.com", "live.de", "live.fr", "live.it", "live.nl", "mail.com",
    "mail.ru", "mailbox.org", "msn.com", "naver.com", "o2.pl", "onet.pl", "optonline.net",
    "orange.fr", "outlook.com", "outlook.com.br", "outlook.de", "outlook.es", "outlook.fr",
    "outlook.it", "outlook.jp", "posteo.de", "qq.com", "rediffmail.com", "rogers.com", "sapo.pt",
    "sbcglobal.net", "seznam.cz", "sfr.fr", "shaw.ca", "sina.com", "sky.com", "sympatico.ca",
    "t-online.de", "telenet.be", "terra.com.br", "tiscali.it", "tuta.com", "tutanota.com",
    "uol.com.br", "verizon.net", "virgilio.it", "wanadoo.fr", "web.de", "wp.pl", "yahoo.co.jp",
    "ziggo.nl", "zoho.com",
}  # fmt: skip

# Registries sell names below these labels of a country, as in co.uk.
_SECOND_LEVEL = frozenset(
    {"ac", "asn", "co", "com", "edu", "gob", "gov", "gv", "id", "ltd", "me", "mil", "ne", "net",
     "nom", "or", "org", "plc", "sch"}
)  # fmt: skip


def fold(local: str, domain: str) -> tuple[str, str]:
    """Return one local part and domain for all spellings of a mailbox; both in lower case."""
    local = local.partition("+")[0]
    if domain.endswith(".fastmail.com"):
        # Fastmail delivers anything@user.fastmail.com to user@fastmail.com.
        return domain.removesuffix(".fastmail.com"), "fastmail.com"
    domain = _SAME_DOMAIN.get(domain, domain)
    rule = _RULES.get(domain)
    return (local if rule is None else rule(local)), domain


def registered_domain(domain: str) -> str:
    """Return the domain that somebody registered: whoever owns it has mailboxes at all below it.

    A rule of thumb in place of the list of public suffixes: two labels, three below ones as co.uk.
    """
    labels = domain.split(".")
    country = len(labels) > 2 and len(labels[-1]) == 2 and labels[-2] in _SECOND_LEVEL
    return ".".join(labels[-3 if country else -2 :])


def _without_dots(local: str) -> str:
    return local.replace(".", "")


def _without_punctuation(local: str) -> str:
    return local.translate(str.maketrans("", "", ".-_"))


def _without_keyword(local: str) -> str:
    # Names of accounts have no hyphen: it separates the keyword of a disposable address.
    return local.partition("-")[0]


def _with_hyphens(local: str) -> str:
    return local.replace(".", "-")


_RULES: dict[str, Callable[[str], str]] = {
    "gmail.com": _without_dots,
    "proton.me": _without_punctuation,
    "yandex.ru": _with_hyphens,
    **dict.fromkeys(_YAHOO, _without_keyword),
}
