"""Hints for programs with a wrong base URL: usually they omit `/v1`, or have it twice."""

from flask import current_app, request

from promptly.blueprints import error_shapes

PREFIX = "/v1"


def hint() -> str:
    """Return advice for the path of this request, which is no route; it begins with a space."""
    route = _meant(request.path)
    if route is None:
        known = error_shapes.is_api(request.path)
        return "" if known else f" The API is below {PREFIX}, for example {PREFIX}/models."
    if route.startswith(error_shapes.MESSAGES) or error_shapes.is_anthropic(request):
        return f" Did you mean {route}? The base URL of Anthropic's clients ends before {PREFIX}."
    return f" Did you mean {route}? The base URL ends in {PREFIX}."


def _meant(path: str) -> str | None:
    """Return the route that a path may mean: one that it ends in, whatever comes before."""
    path = path.rstrip("/")
    rules = current_app.url_map.iter_rules()
    routes = {rule.rule for rule in rules if rule.endpoint.startswith("v1.") and not rule.arguments}
    if error_shapes.is_api(path):
        # OpenAI has more routes below the same prefix, such as /v1/threads/…/messages.
        meant = PREFIX + path.rpartition(PREFIX)[2]
        return meant if meant in routes else None
    found = [route for route in routes if path.endswith(route.removeprefix(PREFIX))]
    return max(found, key=len, default=None)
