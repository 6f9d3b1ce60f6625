// Solves the challenge of a form with data-challenge="/…" (its URL) before the form is sent: a proof of work of
// ALTCHA's version 2 with PBKDF2. The solution goes into the field "altcha". It is begun as soon as somebody types.
"use strict";
{
  const FRESH_MS = 10 * 60 * 1000; // half the time that the server accepts it
  const AT_ONCE = 16;

  const form = document.querySelector("form[data-challenge]");
  const button = form.querySelector("button[type=submit]");
  const solution = form.elements.altcha;
  const bar = form.querySelector("progress");
  const status = form.querySelector("[role=status]");
  let work = null;

  const toHex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  const fromHex = (text) => Uint8Array.from(text.match(/../g), (pair) => parseInt(pair, 16));

  const derive = async ({ nonce, salt, cost, keyLength }, counter) => {
    const password = new Uint8Array(nonce.length / 2 + 4);
    password.set(fromHex(nonce));
    new DataView(password.buffer).setUint32(nonce.length / 2, counter);
    const key = await crypto.subtle.importKey("raw", password, "PBKDF2", false, ["deriveBits"]);
    const options = { name: "PBKDF2", hash: "SHA-256", salt: fromHex(salt), iterations: cost };
    return { counter, derivedKey: toHex(new Uint8Array(await crypto.subtle.deriveBits(options, key, 8 * keyLength))) };
  };

  const solve = async () => {
    if (!globalThis.crypto?.subtle) throw new Error("Browsers solve the puzzle on https pages only. Open this page with https.");
    const answer = await fetch(form.dataset.challenge, { cache: "no-store" });
    if (!answer.ok) throw new Error("The puzzle could not be loaded. Please try again.");
    const challenge = await answer.json();
    const { parameters } = challenge;
    if (parameters.algorithm !== "PBKDF2/SHA-256") throw new Error("The puzzle is of a new kind. Please reload the page.");
    const chance = 16 ** -parameters.keyPrefix.length;
    for (let counter = 0; ; counter += AT_ONCE) {
      const tries = await Promise.all(Array.from({ length: AT_ONCE }, (_, more) => derive(parameters, counter + more)));
      const found = tries.find((each) => each.derivedKey.startsWith(parameters.keyPrefix));
      if (found) return btoa(JSON.stringify({ challenge, solution: found }));
      // How likely it was to be solved by now.
      bar.value = 1 - (1 - chance) ** (counter + AT_ONCE);
    }
  };

  const start = () => {
    if (!work || Date.now() - work.began > FRESH_MS) {
      work = { began: Date.now(), solved: solve() };
      work.solved.catch(() => {}); // shown when the form is sent
    }
    return work.solved;
  };

  const show = (text, working = false) => {
    status.textContent = text;
    status.className = working ? "field-hint" : "field-error";
    bar.hidden = !working;
    button.disabled = working;
  };

  form.addEventListener("input", start);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    show("Solving the puzzle, which takes a few seconds…", true);
    try {
      solution.value = await start();
    } catch (problem) {
      work = null;
      show(problem instanceof TypeError ? "The puzzle could not be loaded. Please try again." : problem.message);
      return;
    }
    work = null; // works once
    form.submit();
  });
  // Back from the next page: browsers restore the page as it was left.
  addEventListener("pageshow", () => show(""));
}
