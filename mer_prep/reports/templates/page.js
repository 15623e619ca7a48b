"use strict";
// The shell of a report: theme, help, and keys that other scripts add to.
const page = { keys: {} };

(() => {
  const themes = ["auto", "light", "dark"];
  const button = document.getElementById("theme");
  const help = document.getElementById("help");

  function setTheme(name) {
    if (name === "auto") document.documentElement.removeAttribute("data-theme");
    else document.documentElement.setAttribute("data-theme", name);
    button.textContent = `Theme: ${name}`;
    button.setAttribute("aria-label", `Theme: ${name}; press to change`);
    // A page opened from disk may have no storage; then the choice lasts as long as the page.
    try { localStorage.setItem("mer-prep-theme", name); } catch { /* no storage */ }
  }

  function nextTheme() {
    const now = document.documentElement.getAttribute("data-theme") || "auto";
    setTheme(themes[(themes.indexOf(now) + 1) % themes.length]);
  }

  let stored = "auto";
  try { stored = localStorage.getItem("mer-prep-theme") || "auto"; } catch { /* no storage */ }
  setTheme(themes.includes(stored) ? stored : "auto");
  button.addEventListener("click", nextTheme);
  document.getElementById("help-open").addEventListener("click", () => help.showModal());
  document.getElementById("help-close").addEventListener("click", () => help.close());

  const contents = document.querySelector("nav.contents details");
  if (matchMedia("(max-width: 60rem)").matches) contents.open = false;

  page.keys["t"] = nextTheme;
  page.keys["?"] = () => help.showModal();

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || help.open) return;
    const typing = event.target.matches("input, select, textarea");
    if (typing) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    const action = page.keys[event.key];
    if (action) {
      event.preventDefault();
      action();
    }
  });
})();
