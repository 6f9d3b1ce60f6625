"""Problems that a browser reports while it shows our pages; each fails the test."""

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response, WebError

# The browser logs CSP violations anyway; this adds the violated directive.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});
"""


class Watch:
    """Collect the problems of all windows of a browser context with pages of `origin`.

    These are console errors and warnings, exceptions, CSP violations and failed requests. Pages of
    other origins, such as a payment provider's, are ignored.
    """

    def __init__(self, context: BrowserContext, origin: str) -> None:
        self.problems: list[str] = []
        self._origin = origin
        self._allowed: set[int] = set()
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self._note_message)
        context.on("weberror", self._note_exception)
        context.on("requestfailed", self._note_failure)
        context.on("response", self._note_response)

    def allow(self, *statuses: int) -> None:
        """Accept responses with these statuses from now on; Chromium logs each one as an error."""
        self._allowed |= set(statuses)

    def check(self) -> None:
        """Fail with all problems so far."""
        assert not self.problems, "\n".join(self.problems)

    def _note_message(self, message: ConsoleMessage) -> None:
        if message.type not in {"error", "warning"}:
            return
        ours = message.location["url"].startswith(self._origin)
        wanted = any(f"status of {status} " in message.text for status in self._allowed)
        if (ours or "Security Policy" in message.text) and not wanted:
            self.problems.append(f"{message.type}: {message.text} {message.location['url']}")

    def _note_exception(self, error: WebError) -> None:
        if error.page is None or error.page.url.startswith(self._origin):
            self.problems.append(f"exception: {error.error.message}")

    def _note_failure(self, request: Request) -> None:
        # Leaving a page aborts its pending requests; a download aborts the navigation to it.
        if request.url.startswith(self._origin) and request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.method} {request.url} {request.failure}")

    def _note_response(self, response: Response) -> None:
        if not response.url.startswith(self._origin):
            return
        status = response.status
        if status >= 400 and status not in self._allowed:
            self.problems.append(f"{status}: {response.request.method} {response.url}")
