"""Building blocks of the payment pages: plain HTML, one style, no script."""

from collections.abc import Iterable
from html import escape

from sandbox.provider.http import Answer

STYLE = """
body { font: 1.05rem/1.5 system-ui, sans-serif; max-width: 34rem; margin: 2rem auto;
       padding: 0 1rem; color: #1c1e21; background: #fff }
dt { font-weight: 600 } dd { margin: 0 0 .5rem; overflow-wrap: anywhere }
fieldset { margin: 1rem 0; border: 1px solid #767676 } label { display: block; padding: .3rem 0 }
input[type=email] { display: block; width: 100%; box-sizing: border-box; font: inherit;
                    padding: .4rem }
button { font: inherit; padding: .5rem 1rem; margin: .3rem .3rem .3rem 0 }
.notice { border-left: .3rem solid #8a5a00; padding: .2rem .8rem; background: #fff7e6 }
"""


def page(title: str, content: str, status: int = 200) -> Answer:
    """Return a complete page; ``content`` is HTML."""
    text = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        '<p class="notice">This is a simulation. No money moves.</p>\n'
        f"{content}\n</main>\n</body>\n</html>\n"
    )
    headers = {"Content-Type": "text/html; charset=utf-8", "Cache-Control": "no-store"}
    return Answer(text.encode(), status, headers)


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and values."""
    items = (f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in pairs)
    return f"<dl>{''.join(items)}</dl>"


def form(inner: str) -> str:
    """Return a form that posts to its own page; ``inner`` is HTML."""
    return f'<form method="post">\n{inner}\n</form>'


def button(name: str, value: str, label: str) -> str:
    """Return a button that submits its form with this value."""
    return f'<button name="{escape(name)}" value="{escape(value)}">{escape(label)}</button>'


def choices(legend: str, name: str, options: Iterable[tuple[str, str]]) -> str:
    """Return radio buttons for the options, with the first one selected."""
    rows = [
        f'<label><input type="radio" name="{escape(name)}" value="{escape(value)}"'
        f"{'' if number else ' checked'}> {escape(label)}</label>"
        for number, (value, label) in enumerate(options)
    ]
    return f"<fieldset><legend>{escape(legend)}</legend>\n{''.join(rows)}\n</fieldset>"


def link(address: str, label: str) -> str:
    """Return a link in its own paragraph."""
    return f'<p><a href="{escape(address)}">{escape(label)}</a></p>'
