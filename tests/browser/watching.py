"""What a browser complains of while it shows our pages: all of it fails a test."""

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response, WebError

# The policy's reports go to the console by themselves; this also tells which directive it was.
REPORT_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`);
});
"""


class Watch:
    """The complaints of all windows of a browser context, about pages of `origin`.

    Console errors and warnings, exceptions, violations of the policy, requests that failed. Pages
    of other origins, such as a payment provider's, are not ours to mend.
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
        """From now on answers of these statuses are no complaint; Chromium notes every one."""
        self._allowed |= set(statuses)

    def check(self) -> None:
        """Fail with what there is to complain of."""
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
        # Leaving a page ends what it was still loading; a download ends the navigation to it.
        if request.url.startswith(self._origin) and request.failure != "net::ERR_ABORTED":
            self.problems.append(f"failed: {request.method} {request.url} {request.failure}")

    def _note_response(self, response: Response) -> None:
        if not response.url.startswith(self._origin):
            return
        status = response.status
        if status >= 400 and status not in self._allowed:
            self.problems.append(f"{status}: {response.request.method} {response.url}")
