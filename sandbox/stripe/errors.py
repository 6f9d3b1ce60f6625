"""Errors in the shape of Stripe's error object."""

from sandbox.provider.http import Answer, json_answer


class ApiError(Exception):
    """A refused call.

    ``executed`` separates refusals during execution (stored under the idempotency key) from those
    of the validation before it (not stored).
    """

    def __init__(
        self,
        message: str,
        *,
        code: str = "",
        param: str = "",
        status: int = 400,
        type: str = "invalid_request_error",
        executed: bool = False,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.executed = executed
        fields = {"code": code, "message": message, "param": param, "type": type}
        self.error = {name: value for name, value in fields.items() if value}
        if code:
            slug = code.replace("_", "-")
            self.error["doc_url"] = f"https://stripe.com/docs/error-codes/{slug}"

    def answer(self) -> Answer:
        """Return the error as an answer."""
        return json_answer({"error": self.error}, self.status)


def missing(kind: str, object_id: str, param: str) -> ApiError:
    """Return the error of an id that does not exist."""
    return ApiError(
        f"No such {kind}: '{object_id}'", code="resource_missing", param=param, status=404
    )


def simulated(status: int) -> Answer:
    """Return the answer of a fault with this status."""
    if status == 429:
        error = ApiError("Too many requests in a short time.", code="rate_limit", status=status)
    elif status < 500:
        error = ApiError("A simulated refusal.", status=status)
    else:
        error = ApiError("A simulated failure of the API.", status=status, type="api_error")
    return error.answer()
