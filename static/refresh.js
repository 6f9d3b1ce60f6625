// Keeps a page up to date without reloading it, so that the reader does not lose their place.
//
// data-refresh="15"        on one element of the page, of any kind: seconds until it is fetched again
// data-refresh-url="/…"    on the same element: the URL to fetch
// data-refresh-part        on elements with an id: the parts to replace if they have changed
//
// A page with parts is fetched while it is visible, until an error or a redirect; reloading starts it again.
// A page without parts waits for an outcome: when its h1 changes, the content of main is replaced, until then
// only the element with data-refresh, which names the next delay and URL. It ends when that element is gone;
// after an error it tries again.
"use strict";
{
  const RETRY_SECONDS = 10;

  const schedule = () => {
    const next = document.querySelector("[data-refresh]");
    if (next) setTimeout(refresh, 1000 * next.dataset.refresh, next.dataset.refreshUrl);
  };

  const refresh = async (url) => {
    const parts = document.querySelectorAll("[data-refresh-part]");
    if (parts.length && document.hidden) return schedule();
    try {
      const page = await fetched(url);
      if (parts.length) parts.forEach((part) => replacePart(part, page.getElementById(part.id)));
      else replaceMain(page);
    } catch {
      if (!parts.length) setTimeout(refresh, 1000 * RETRY_SECONDS, url);
      return;
    }
    schedule();
  };

  const fetched = async (url) => {
    const answer = await fetch(url, { redirect: "error", cache: "no-store", headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  const replacePart = (old, fresh) => {
    if (!fresh) return;
    const open = [...old.querySelectorAll("details")].map((details) => details.open);
    fresh.querySelectorAll("details").forEach((details, index) => { details.open = open[index] ?? false; });
    // Leave a part alone while the user has focus or selected text in it.
    const chosen = getSelection();
    const busy = old.contains(document.activeElement) || (!chosen.isCollapsed && chosen.containsNode(old, true));
    if (!busy && !old.isEqualNode(fresh)) old.replaceWith(fresh);
  };

  const replaceMain = (page) => {
    const [old, fresh] = [document, page].map((each) => each.querySelector("main"));
    const [before, after] = [old, fresh].map((each) => each.querySelector("h1")?.textContent);
    const [waiting, next] = [old, fresh].map((each) => each.querySelector("[data-refresh]"));
    if (before === after && next) {
      waiting.replaceWith(next);
    } else {
      document.title = page.title;
      old.replaceChildren(...fresh.childNodes);
    }
  };

  schedule();
}
