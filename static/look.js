// Polls for news: fetches the data-next URL of an element with data-look="seconds" after that time and
// replaces only the parts that changed, so the reader does not lose their place. Without scripts, the page
// refreshes itself.
"use strict";

const main = document.querySelector("main");

function wait() {
  const waiting = main.querySelector("[data-look]");
  if (waiting) setTimeout(look, 1000 * waiting.dataset.look, waiting.dataset.next);
}

async function look(url) {
  try {
    const answer = await fetch(url, { headers: { Accept: "text/html" } });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const news = page.querySelector("main");
    if (!answer.ok || !news) throw new Error("no such page");
    const [before, after] = [main, news].map((each) => each.querySelector("h1")?.textContent);
    const [waiting, next] = [main, news].map((each) => each.querySelector("[data-look]"));
    if (before === after && next) {
      waiting.replaceWith(next);
    } else {
      document.title = page.title;
      main.replaceChildren(...news.childNodes);
    }
    wait();
  } catch {
    setTimeout(look, 10000, url);
  }
}

wait();
