// Keeps a visible page up to date: fetches it every 15 s and replaces elements marked data-live that have
// changed. Stops after an error or a redirect; reloading the page starts it again.
"use strict";
{
  const SECONDS = 15;
  const url = document.currentScript.dataset.url;
  let timer;

  const swap = (old, fresh) => {
    const open = [...old.querySelectorAll("details")].map((part) => part.open);
    fresh.querySelectorAll("details").forEach((part, index) => { part.open = open[index] ?? false; });
    // Leave an element alone while the user has focus or selected text in it.
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
