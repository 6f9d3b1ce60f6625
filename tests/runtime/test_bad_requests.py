from gunicorn.http import errors

from promptly.runtime.bad_requests import status_of


def kinds(base: type[Exception]) -> set[type[Exception]]:
    return {base}.union(*(kinds(kind) for kind in base.__subclasses__()))


def test_every_parse_error_has_a_status() -> None:
    ours = {
        errors.ConfigurationProblem,
        errors.InvalidResponseHeader,
        errors.InvalidResponseHeaderName,
    }
    for kind in kinds(errors.ParseException):
        known = status_of(kind.__new__(kind))
        assert (known is None) == (kind in ours), kind
        assert known is None or 400 <= known[0] < 500
    assert status_of(errors.LimitRequestHeaders("")) == (431, "Request Header Fields Too Large")
    assert status_of(ValueError()) is None
