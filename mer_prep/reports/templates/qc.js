// Filters, sorting and keys of a quality-control page.
(() => {
  const byId = (id) => document.getElementById(id);
  const cards = [...document.querySelectorAll(".card")];
  const homes = new Map(cards.map((card) => [card, card.parentElement]));
  const sections = [...new Set(homes.values())];
  const states = ["failed", "warned", "left out", "pending", "good"];
  const fields = { search: byId("search"), subject: byId("subject"), class: byId("class"), state: byId("state"), sort: byId("sort") };
  let shown = cards;
  let current = -1;
  let sorting = "";

  // Panels leave their template as they come near, and go back when they are far: a page of
  // thousands of clips then costs little more than what is in sight.
  function show(card, near) {
    const panels = card.querySelector(".panels");
    const template = panels.querySelector("template");
    if (near && template.content.firstElementChild) panels.append(template.content);
    else if (!near) template.content.append(...[...panels.children].filter((one) => one !== template));
  }

  const watcher = new IntersectionObserver(
    (entries) => { for (const entry of entries) show(entry.target, entry.isIntersecting); },
    { rootMargin: "1500px 0px" },
  );
  for (const card of cards) watcher.observe(card);
  addEventListener("beforeprint", () => { for (const card of shown) show(card, true); });

  // Where all cards go while they are not sorted by subject.
  const sorted = document.createElement("section");
  sorted.hidden = true;
  sorted.setAttribute("aria-label", "All clips, sorted");
  sections[0]?.before(sorted);

  function fits(card, words) {
    const { subject, class: kind, state, text } = card.dataset;
    const asked = fields.state.value;
    return (!fields.subject.value || subject === fields.subject.value)
      && (!fields.class.value || kind === fields.class.value)
      && (!asked || state === asked || (asked === "remarks" && (state === "failed" || state === "warned")))
      && words.every((word) => text.includes(word));
  }

  function order(name) {
    const place = (card) => Number(card.dataset.order);
    if (name === "state") return (a, b) => states.indexOf(a.dataset.state) - states.indexOf(b.dataset.state) || place(a) - place(b);
    if (name === "class") return (a, b) => a.dataset.class.localeCompare(b.dataset.class) || place(a) - place(b);
    // The worst first: little confidence, much of anything else; what is not known comes last.
    const sign = name === "confidence" || name === "detector" ? 1 : -1;
    const value = (card) => (card.dataset[name] === undefined ? Infinity : sign * Number(card.dataset[name]));
    // Infinity less Infinity is no number, and then the place decides.
    return (a, b) => (value(a) - value(b)) || place(a) - place(b);
  }

  function update() {
    const words = fields.search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const visible = new Set(cards.filter((card) => fits(card, words)));
    for (const card of cards) card.hidden = !visible.has(card);
    const name = fields.sort.value;
    shown = [...visible];
    if (name) {
      shown.sort(order(name));
      sorted.replaceChildren(...shown);
    }
    // Cards go home only when they have been away: moving thousands takes its time.
    if (!name && sorting) for (const card of cards) homes.get(card).append(card);
    sorting = name;
    sorted.hidden = !name;
    const inhabited = new Set(name ? [] : shown.map((card) => homes.get(card)));
    for (const section of sections) section.hidden = !inhabited.has(section);
    byId("count").textContent = shown.length === cards.length ? `${cards.length} clips` : `${shown.length} of ${cards.length} clips`;
    current = -1;
  }

  function reset() {
    for (const field of Object.values(fields)) field.value = "";
    update();
  }

  function step(by) {
    if (!shown.length) return;
    if (current < 0) {
      // Begin at the card in sight.
      const seen = shown.findIndex((card) => card.getBoundingClientRect().bottom > 100);
      current = Math.max(0, seen) - (by > 0 ? 1 : 0);
    }
    current = Math.min(shown.length - 1, Math.max(0, current + by));
    shown[current].focus({ preventScroll: true });
    shown[current].scrollIntoView({ block: "start" });
  }

  function toggleLandmarks() {
    const off = document.body.classList.toggle("no-landmarks");
    byId("landmarks").setAttribute("aria-pressed", String(!off));
  }

  function toggleRemarks() {
    fields.state.value = fields.state.value === "remarks" ? "" : "remarks";
    update();
  }

  // A link to a card must reach it, whatever the filters hide.
  function follow() {
    const card = cards.find((one) => `#${one.id}` === location.hash);
    if (!card) return;
    if (card.hidden) reset();
    card.scrollIntoView({ block: "start" });
    current = shown.indexOf(card);
  }

  let waiting;
  for (const field of Object.values(fields)) {
    field.addEventListener("input", () => {
      clearTimeout(waiting);
      waiting = setTimeout(update, field === fields.search ? 150 : 0);
    });
  }
  byId("reset").addEventListener("click", reset);
  byId("landmarks").addEventListener("click", toggleLandmarks);
  addEventListener("hashchange", follow);
  Object.assign(page.keys, {
    j: () => step(1), k: () => step(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1),
    "/": () => { fields.search.focus(); fields.search.select(); },
    l: toggleLandmarks, w: toggleRemarks, 0: reset,
  });
  const toolbar = document.querySelector(".toolbar");
  new ResizeObserver(() => {
    const sticky = getComputedStyle(toolbar).position === "sticky";
    document.documentElement.style.setProperty("--toolbar-height", sticky ? `${toolbar.offsetHeight + 8}px` : "8px");
  }).observe(toolbar);
  update();
  follow();
})();
