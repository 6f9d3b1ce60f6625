// A button with data-copy="#id" copies the text of that element; without scripts it stays hidden.
"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  const label = button.textContent;
  let reset;
  button.hidden = !navigator.clipboard;
  button.addEventListener("click", async () => {
    const source = document.querySelector(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.value ?? source.textContent);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select and copy";
      getSelection().selectAllChildren(source);
    }
    clearTimeout(reset);
    reset = setTimeout(() => { button.textContent = label; }, 2000);
  });
}
