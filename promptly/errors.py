"""The errors that promptly raises deliberately, with their HTTP status and type or code.

    PromptlyError                    500  server_error
    ├── InvalidRequest               400  invalid_request_error
    │   ├── UnsupportedParameter     400  code unsupported_parameter
    │   ├── ContextLengthExceeded    400  code context_length_exceeded
    │   ├── RequestRejected          400  code request_rejected
    │   ├── BodyTooLarge             413  code request_too_large
    │   ├── BodyTimeout              408  code body_timeout
    │   └── UnsupportedContentEncoding  415  code unsupported_content_encoding
    ├── InvalidKey                   401  code invalid_api_key
    ├── Forbidden                    403
    │   ├── AccountSuspended         403  code account_suspended
    │   ├── AddressNotAllowed        403  code address_not_allowed
    │   └── ModelNotAllowed          403  code model_not_allowed
    ├── InsufficientQuota            402  code insufficient_quota
    ├── KeyLimitReached              402  code key_limit_reached
    ├── NotFound                     404
    │   ├── UnknownURL               404  code unknown_url
    │   └── UnsupportedEndpoint      404  code unsupported_endpoint
    ├── RateLimited                  429  code rate_limit_exceeded
    │   └── TokensReserved           429  code tokens_reserved
    ├── UpstreamError                502  code upstream_error
    ├── PaymentRefused               502
    ├── Unavailable                  503  with retry-after
    │   ├── PaymentUnavailable       503
    │   ├── UpstreamUnavailable      503  code upstream_unavailable
    │   ├── QueueFull                503  code queue_full
    │   └── ServiceUnavailable       503  code service_unavailable
    └── UpstreamTimeout              504  code timeout

Shape and codes follow OpenAI's API, so that its SDKs map them to their own exceptions.
"""

from enum import StrEnum
from typing import Any, ClassVar, Self


class Limit(StrEnum):
    """The limits that a request may meet, as the metrics name them."""

    # Requests per minute of an address and of a key.
    ADDRESS = "address"
    KEY = "key"
    # The same of an account with a limit of its own.
    ACCOUNT = "account"
    # Requests of an account at a time; bytes of its bodies, and counts of its prompts.
    CONCURRENCY = "concurrency"
    BODY_MEMORY = "body_memory"
    COUNTING = "counting"
    # Requests that wait for a slot.
    QUEUE = "queue"
    # Connections, or behind proxies requests, of an address at a time.
    CONNECTIONS = "connections"
    # Requests for pages and forms, and tries of wrong keys.
    PAGES = "pages"
    WRONG_KEYS = "wrong_keys"


class PromptlyError(Exception):
    """Base class; `message` is shown to the client and must contain nothing private.

    With `retried` false, SDKs and agents are told not to repeat the request by themselves. `limit`
    is the one that the request met, if that is the reason.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    retried: ClassVar[bool] = True
    code: str | None = None
    limit: Limit | None = None
    message = "The server had an error. Please try again."

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        limit: Limit | None = None,
        retry_after_seconds: int | None = None,
    ) -> None:
        self.message = message or self.message
        self.param = param
        self.code = code or self.code
        self.limit = limit or self.limit
        self.retry_after_seconds = retry_after_seconds
        super().__init__(self.message)

    def body(self) -> dict[str, Any]:
        """Return the response body, in the shape of OpenAI's API."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def headers(self) -> dict[str, str]:
        """Return the headers that control the client's retries."""
        headers = {} if self.retried else {"x-should-retry": "false"}
        if self.retry_after_seconds is not None:
            headers["retry-after"] = str(self.retry_after_seconds)
        return headers


class InvalidRequest(PromptlyError):
    status = 400
    type = "invalid_request_error"
    message = "The request is not valid."


class UnsupportedParameter(InvalidRequest):
    code = "unsupported_parameter"

    def __init__(self, param: str, reason: str = "it is not supported here") -> None:
        super().__init__(f"Unsupported parameter: '{param}': {reason}.", param=param)


class ContextLengthExceeded(InvalidRequest):
    code = "context_length_exceeded"
    # As reported by upstream, or a lower bound; None if it gave no figures.
    prompt_tokens: int | None = None
    n_ctx: int | None = None


class RequestRejected(InvalidRequest):
    code = "request_rejected"
    message = (
        "This request is refused for some minutes: model servers stopped twice while they "
        "processed it. Change the request, or send it again later."
    )


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class BodyTimeout(InvalidRequest):
    status = 408
    code = "body_timeout"
    message = "The request body did not arrive in time."
    retried = False


class UnsupportedContentEncoding(InvalidRequest):
    status = 415
    code = "unsupported_content_encoding"
    message = "Unsupported Content-Encoding. Use one of gzip, deflate or zstd, or none."

    def headers(self) -> dict[str, str]:
        return {"accept-encoding": "gzip, deflate, zstd"}


class InvalidKey(PromptlyError):
    status = 401
    type = "invalid_request_error"
    code = "invalid_api_key"
    message = "Incorrect API key provided. Send it as 'Authorization: Bearer sk-…' or x-api-key."
    # Some agents repeat every error for minutes unless told otherwise.
    retried = False


class Forbidden(PromptlyError):
    status = 403
    type = "invalid_request_error"
    message = "Not allowed."
    retried = False


class AccountSuspended(Forbidden):
    code = "account_suspended"
    message = "This account is suspended. Its balance is kept. Ask the operator."

    @classmethod
    def with_contact(cls, support_email: str) -> Self:
        """Return the error with the address to write to, which may be empty."""
        ask = f"Write to {support_email}." if support_email else "Ask the operator."
        return cls(cls.message.replace("Ask the operator.", ask))


class AddressNotAllowed(Forbidden):
    code = "address_not_allowed"


class ModelNotAllowed(Forbidden):
    code = "model_not_allowed"


class InsufficientQuota(PromptlyError):
    status = 402
    type = "insufficient_quota"
    code = "insufficient_quota"
    retried = False


class KeyLimitReached(PromptlyError):
    """The cap of a key leaves `room` tokens, too few for a request."""

    status = 402
    type = "insufficient_quota"
    code = "key_limit_reached"
    retried = False

    def __init__(self, message: str, *, room: int = 0) -> None:
        super().__init__(message)
        self.room = room


class NotFound(PromptlyError):
    status = 404
    type = "invalid_request_error"
    message = "The requested resource does not exist."


class UnknownURL(NotFound):
    code = "unknown_url"


class UnsupportedEndpoint(NotFound):
    code = "unsupported_endpoint"
    message = "This service has no model server for this endpoint."


class RateLimited(PromptlyError):
    status = 429
    type = "requests"
    code = "rate_limit_exceeded"


class TokensReserved(RateLimited):
    type = "tokens"
    code = "tokens_reserved"


class UpstreamError(PromptlyError):
    status = 502
    code = "upstream_error"
    message = "The model server failed while answering."


class PaymentRefused(PromptlyError):
    status = 502
    message = "The payment provider refused this purchase. Nothing was charged."


class Unavailable(PromptlyError):
    status = 503

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 5) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)


class UpstreamUnavailable(Unavailable):
    code = "upstream_unavailable"
    message = "No model server is ready. Please try again shortly."


class PaymentUnavailable(Unavailable):
    message = (
        "The payment provider is not responding. Nothing was charged. Please try again in a minute."
    )


class QueueFull(Unavailable):
    code = "queue_full"
    limit = Limit.QUEUE
    message = "Too many requests are waiting for the model. Please try again shortly."


class ServiceUnavailable(Unavailable):
    code = "service_unavailable"
    message = "The service is temporarily unavailable. Please try again shortly."


class UpstreamTimeout(PromptlyError):
    status = 504
    code = "timeout"
    message = "The model server did not answer in time."
    # A retry would take as long and cost as much.
    retried = False
