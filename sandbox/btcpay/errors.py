"""Errors in Greenfield's two shapes: a problem, or a list of invalid fields."""

from sandbox.provider.http import Answer, json_answer


class ApiError(Exception):
    """A refused call: a code for programs and a message for people."""

    def __init__(self, status: int, code: str, message: str, **more: str) -> None:
        super().__init__(message)
        self.status = status
        self.problem = {"code": code, "message": message, **more}

    def answer(self) -> Answer:
        """Return the error as an answer."""
        return json_answer(self.problem, self.status)


class Invalid(Exception):
    """Invalid fields of a request: 422 with path and message of each."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{path}: {message}" for path, message in problems))
        self.problems = problems

    def answer(self) -> Answer:
        """Return the errors as an answer."""
        found = [{"path": path, "message": message} for path, message in self.problems]
        return json_answer(found, 422)


def simulated(status: int) -> Answer:
    """Return the answer of a fault with this status; above 500 a proxy's HTML page, not JSON."""
    if status > 500:
        page = f"<html><body><h1>{status}</h1><p>A simulated proxy error.</p></body></html>"
        return Answer(page.encode(), status, {"Content-Type": "text/html"})
    if status == 500:
        return Answer(status=status)
    return ApiError(status, "generic-error", "A simulated refusal").answer()
