"use strict";
// Sorting, filters, choices and the theme. Without this script the page shows all that it has, but for the matrices.
(() => {
  const root = document.documentElement;
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  root.classList.add("js");

  // --- dark and light: as the system has it, or as was chosen here before
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const kept = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
  if (kept === "dark" || kept === "light") root.dataset.theme = kept;
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
  const label = () => { button.textContent = isDark() ? "Light page" : "Dark page"; };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* it is not kept */ }
    label();
  });
  system.addEventListener("change", label);
  label();

  // --- sorting: one way, the other way, as it was
  const blank = (value) => value === "" || value === undefined;
  function sort(table, column, way) {
    const body = table.tBodies[0];
    const keyed = [...body.rows].map((row) => ({ row, value: row.cells[column].dataset.v ?? row.cells[column].textContent.trim() }));
    const number = keyed.every(({ value }) => blank(value) || !Number.isNaN(Number(value)));
    const compare = (a, b) => (number ? a - b : a.localeCompare(b, undefined, { numeric: true }));
    keyed.sort((a, b) => {
      if (way === "none") return a.row.dataset.at - b.row.dataset.at;
      if (blank(a.value) || blank(b.value)) return blank(a.value) - blank(b.value);
      return way === "ascending" ? compare(a.value, b.value) : compare(b.value, a.value);
    });
    body.append(...keyed.map(({ row }) => row));
    table.classList.toggle("sorted", way !== "none");
  }
  for (const table of all("table.sortable")) {
    [...table.tBodies[0].rows].forEach((row, place) => { row.dataset.at = place; });
    all("thead th button", table).forEach((head) => {
      const cell = head.closest("th");
      const first = cell.classList.contains("n") ? "descending" : "ascending";
      const ways = ["none", first, first === "descending" ? "ascending" : "descending"];
      head.addEventListener("click", () => {
        const way = ways[(ways.indexOf(cell.getAttribute("aria-sort")) + 1) % 3];
        all("thead th[aria-sort]", table).forEach((other) => other.setAttribute("aria-sort", "none"));
        cell.setAttribute("aria-sort", way);
        sort(table, cell.cellIndex, way);
      });
    });
  }

  // --- filters by method and set
  const boxes = all(".filters input");
  const said = document.getElementById("shown");
  function filter() {
    const out = { method: new Set(), set: new Set() };
    for (const box of boxes) if (!box.checked) out[box.name].add(box.value);
    for (const node of all("[data-method], [data-set]")) {
      node.classList.toggle("out", out.method.has(node.dataset.method) || out.set.has(node.dataset.set));
    }
    for (const details of all(".filters details")) {
      const own = all("input", details), on = own.filter((box) => box.checked).length;
      details.querySelector("summary span").textContent = on === own.length ? "all" : `${on} of ${own.length}`;
    }
    const rows = all("tbody tr[data-method]");
    said.textContent = `${rows.filter((row) => !row.classList.contains("out")).length} of ${rows.length} rows are shown.`;
  }
  boxes.forEach((box) => box.addEventListener("change", filter));
  all(".filters button").forEach((each) => each.addEventListener("click", () => {
    all("input", each.closest("details")).forEach((box) => { box.checked = each.value === "all"; });
    filter();
  }));
  if (said) filter();

  // --- one comparison at a time
  const gain = document.getElementById("gain");
  const show = () => all("article.gain").forEach((each) => { each.hidden = each.id !== gain.value; });
  if (gain) { gain.addEventListener("change", show); show(); }

  // --- one matrix at a time
  const chosen = document.getElementById("confusion-of");
  const make = (name, text, more = {}) => Object.assign(document.createElement(name), { textContent: text }, more);
  function head(name, scope, inner) {
    const cell = make("th", "", { scope, title: name });
    cell.append(inner);
    return cell;
  }
  function cell(count, of, right, text) {
    const made = make("td", count || "", { title: text });
    if (count) made.style.background = `rgba(var(--heat), ${(0.12 + 0.55 * (count / of)).toFixed(2)})`;
    if (right) made.classList.add("right");
    return made;
  }
  function draw(matrices) {
    const { classes, rows, title, left_out: others } = matrices[Number(chosen.value)];
    const table = make("table", "", { className: "matrix" });
    const caption = make("caption", "");
    caption.append(make("span", `${title}: images of each class (rows), by what was answered (columns)`));
    table.append(caption);
    const heads = table.createTHead().insertRow();
    heads.append(head("class", "col", "class"));
    for (const name of [...classes, ...(others ? ["another class"] : [])]) heads.append(head(name, "col", make("span", name)));
    const body = table.createTBody();
    rows.forEach(([total, correct, elsewhere, told], place) => {
      const counts = new Map(told.split(" ").filter(Boolean).map((part) => part.split(":").map(Number)));
      counts.set(place, correct);
      const row = body.insertRow();
      row.append(head(classes[place], "row", classes[place]));
      classes.forEach((name, column) => {
        const count = counts.get(column) ?? 0;
        row.append(cell(count, total, column === place, `${count} of ${total} images of ${classes[place]}: ${name}`));
      });
      if (others) row.append(cell(elsewhere, total, false, `${elsewhere} of ${total} images of ${classes[place]}: another class`));
    });
    document.getElementById("matrix").replaceChildren(table);
    document.getElementById("matrix-note").textContent = others
      ? `The ${classes.length} classes that were mistaken most; ${others} more are left out.` : "";
  }
  if (chosen) {
    const matrices = JSON.parse(document.getElementById("matrices").textContent);
    chosen.addEventListener("change", () => draw(matrices));
    draw(matrices);
  }
})();
