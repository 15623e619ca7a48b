// Sorting by a column: a click on its heading, another for the other way round.
(() => {
  function valueOf(row, column) {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.trim();
    const value = Number(text);
    return text === "" || Number.isNaN(value) ? text.toLowerCase() : value;
  }

  function compare(left, right) {
    // What is not known stands last, whichever way it is sorted.
    if (typeof left === typeof right) return left < right ? -1 : left > right ? 1 : 0;
    return 0;
  }

  function sort(table, heading) {
    const column = heading.cellIndex;
    const before = heading.getAttribute("aria-sort");
    const first = heading.classList.contains("number") ? "descending" : "ascending";
    const second = first === "descending" ? "ascending" : "descending";
    const way = before === first ? second : first;
    for (const one of table.tHead.rows[0].cells) one.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const rows = [...table.tBodies[0].rows].map((row) => [valueOf(row, column), row]);
    const known = rows.filter(([value]) => value !== "");
    const unknown = rows.filter(([value]) => value === "");
    known.sort(([left], [right]) => sign * compare(left, right));
    table.tBodies[0].append(...[...known, ...unknown].map(([, row]) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sort(table, button.closest("th")));
    }
  }
})();
