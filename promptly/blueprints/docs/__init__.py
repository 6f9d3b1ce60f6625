"""The customers' documents of `docs/` as pages, and /AGENTS.md and /llms.txt for agents.

Public, the same for every client and cacheable: nothing here reads the session.
"""

from pathlib import Path

from flask import Blueprint, Response, current_app, redirect, render_template, request, url_for
from flask.blueprints import BlueprintSetupState
from werkzeug.wrappers import Response as AnyResponse

from promptly.blueprints.docs import reference
from promptly.blueprints.docs.library import SUFFIX, Library
from promptly.blueprints.docs.search import MAX_LENGTH, search
from promptly.blueprints.page_headers import add_page_headers
from promptly.errors import NotFound
from promptly.settings import Settings

CACHE_CONTROL = "public, max-age=300"


def show(path: str) -> AnyResponse:
    """Show a document as a page, or as Markdown if its URL ends in `.md`."""
    library: Library = current_app.extensions["docs"]
    if path in library.names:
        return answer(page(library, path), "text/html")
    if path.endswith(SUFFIX) and (name := path.removesuffix(SUFFIX)) in library.sources:
        return answer(library.sources[name], "text/markdown")
    if f"{path}/" in library.names:
        return redirect(url_for("docs.show", path=f"{path}/"), 301)
    raise NotFound("This documentation page does not exist.")


def show_search() -> Response:
    """Show the sections that contain the words of `q`."""
    library: Library = current_app.extensions["docs"]
    query = request.args.get("q", "").replace("\x00", "").strip()[:MAX_LENGTH]
    text = render_template(
        "docs/search.html", query=query, hits=search(library, query), contents=library.contents
    )
    return answer(text, "text/html")


def show_agents() -> Response:
    """Show the whole API on one page, with the values of this installation."""
    return answer(render_template("agents.md", **reference.facts()), "text/markdown")


def show_llms() -> Response:
    """Show a summary of the API with links (https://llmstxt.org)."""
    library: Library = current_app.extensions["docs"]
    text = render_template("llms.txt", contents=library.contents, **reference.facts())
    return answer(text, "text/plain")


def page(library: Library, path: str) -> str:
    """Return the HTML of a document, rendered once per process."""
    pages: dict[str, str] = current_app.extensions["docs_pages"]
    if path not in pages:
        previous, following = library.neighbours(path)
        pages[path] = render_template(
            "docs/page.html",
            document=library.document(path),
            titles=library.titles,
            contents=library.contents,
            path=path,
            previous=previous,
            following=following,
        )
    return pages[path]


def answer(text: str, mimetype: str) -> Response:
    """Return text that caches may keep for five minutes and then revalidate by its ETag."""
    response = Response(f"{text.rstrip()}\n", mimetype=mimetype)
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.add_etag()
    response.make_conditional(request)
    return response


blueprint = Blueprint("docs", __name__)
blueprint.after_request(add_page_headers)
blueprint.add_url_rule("/docs/", "show", show, defaults={"path": ""})
blueprint.add_url_rule("/docs/search", "show_search", show_search)
blueprint.add_url_rule("/docs/<path:path>", "show", show)
blueprint.add_url_rule("/AGENTS.md", "show_agents", show_agents)
blueprint.add_url_rule("/llms.txt", "show_llms", show_llms)


@blueprint.record_once
def set_up(state: BlueprintSetupState) -> None:
    """Load the documents from `docs/`, next to the package."""
    settings: Settings = state.app.extensions["settings"]
    folder = Path(state.app.root_path).parent / "docs"
    state.app.extensions["docs"] = Library(folder, settings.base_url)
    state.app.extensions["docs_pages"] = {}
