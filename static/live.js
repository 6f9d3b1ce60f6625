// Keeps the page fresh while somebody looks at it: every 15 s it is fetched anew, and what is marked
// data-live is swapped where it has changed. After an error or a redirect it stops; a reload begins again.
"use strict";
{
  const SECONDS = 15;
  const url = document.currentScript.dataset.url;
  let timer;

  const swap = (old, fresh) => {
    const open = [...old.querySelectorAll("details")].map((part) => part.open);
    fresh.querySelectorAll("details").forEach((part, index) => { part.open = open[index] ?? false; });
    // What somebody is in the middle of stays as it is: a focused link, a selected text.
    const chosen = getSelection();
    const busy = old.contains(document.activeElement) || (!chosen.isCollapsed && chosen.containsNode(old, true));
    if (!busy && !old.isEqualNode(fresh)) old.replaceWith(fresh);
  };

  const look = async () => {
    try {
      const answer = await fetch(url, { redirect: "error", cache: "no-store" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      for (const old of document.querySelectorAll("[data-live]")) {
        const fresh = page.getElementById(old.id);
        if (fresh) swap(old, fresh);
      }
    } catch {
      return;
    }
    wait();
  };

  const wait = () => {
    clearTimeout(timer);
    timer = setTimeout(() => { document.hidden ? wait() : look(); }, SECONDS * 1000);
  };

  wait();
}
