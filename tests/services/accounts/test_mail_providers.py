import pytest

from promptly.services.accounts import mail_providers


@pytest.mark.parametrize(
    ("domain", "registered"),
    [
        ("example.com", "example.com"),
        ("a.b.c.example.com", "example.com"),
        ("mail.example.co.uk", "example.co.uk"),
        ("example.co.uk", "example.co.uk"),
        ("mail.example.com.au", "example.com.au"),
        ("co.uk", "co.uk"),
        ("mail.co.de", "mail.co.de"),
        ("host", "host"),
    ],
)
def test_the_domain_that_somebody_registered(domain: str, registered: str) -> None:
    assert mail_providers.registered_domain(domain) == registered


def test_large_providers_are_named_as_addresses_name_them() -> None:
    for domain in mail_providers.LARGE:
        assert domain == domain.lower().strip() and "." in domain
        assert mail_providers.registered_domain(domain) == domain
