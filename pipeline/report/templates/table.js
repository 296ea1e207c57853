const table = document.getElementById("table");
const body = table.tBodies[0];
const rows = [...body.rows];

function valueOf(row, column) {
  const cell = row.cells[column];
  return "value" in cell.dataset ? cell.dataset.value : cell.textContent.trim();
}

function compare(a, b) {
  const [x, y] = [Number.parseFloat(a), Number.parseFloat(b)];
  // Cells without a number come last among numbers.
  if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
  return a.localeCompare(b, undefined, { numeric: true });
}

table.tHead.addEventListener("click", (event) => {
  const heading = event.target.closest("button")?.closest("th");
  if (!heading) return;
  const up = heading.getAttribute("aria-sort") !== "ascending";
  table.tHead.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  heading.setAttribute("aria-sort", up ? "ascending" : "descending");
  const column = heading.cellIndex;
  rows.sort((a, b) => (up ? 1 : -1) * compare(valueOf(a, column), valueOf(b, column)));
  body.append(...rows);
});

const filter = document.getElementById("filter");
filter.addEventListener("input", () => {
  const wanted = filter.value.toLowerCase();
  let shown = 0;
  rows.forEach((row) => {
    row.hidden = !row.textContent.toLowerCase().includes(wanted);
    shown += row.hidden ? 0 : 1;
  });
  document.getElementById("filtered").textContent = wanted ? `${shown} of ${rows.length} rows` : "";
});
