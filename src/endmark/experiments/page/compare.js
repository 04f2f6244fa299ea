// @ts-check
// Tables that sort, curves that switch on and off, charts that read out.

for (const table of /** @type {NodeListOf<HTMLTableElement>} */ (document.querySelectorAll("table.sortable"))) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    // Numbers first from high to low, words from a to z; a second click turns it about.
    const body = table.tBodies[0];
    const key = (/** @type {HTMLTableRowElement} */ row) => keyOf(row.cells[column]);
    const numeric = [...body.rows].some((row) => typeof key(row) === "number");
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const order = before === first ? (numeric ? "ascending" : "descending") : first;
    heads.forEach((other) => other.setAttribute("aria-sort", other === head ? order : "none"));
    const sign = order === "ascending" ? 1 : -1;
    const rows = [...body.rows].sort((a, b) => compared(key(a), key(b), sign));
    body.append(...rows);
  }));
}

/** @param {HTMLTableCellElement} cell */
function keyOf(cell) {
  const text = cell.dataset.value ?? cell.textContent.trim();
  if (text === "-" || text === "") return null;
  const time = /^(?:(\d+) h )?(\d+) (min|s)$/.exec(text);
  if (time) return time[3] === "s" ? Number(time[2]) : 60 * (60 * Number(time[1] ?? 0) + Number(time[2]));
  const number = Number(text.replaceAll(",", "").replace(/\/\d+$/, ""));
  return Number.isNaN(number) ? text : number;
}

/** What is missing stands last in both orders.
 * @param {string | number | null} a @param {string | number | null} b @param {number} sign */
function compared(a, b, sign) {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  if (typeof a === "number" && typeof b === "number") return sign * (a - b);
  return sign * String(a).localeCompare(String(b), undefined, {numeric: true});
}

const legend = document.getElementById("legend");
legend.addEventListener("click", (event) => {
  const button = /** @type {HTMLElement} */ (event.target).closest("button");
  if (!button) return;
  const shown = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(shown));
  for (const curve of document.querySelectorAll(`.curve[data-variant="${button.dataset.variant}"]`)) {
    curve.classList.toggle("off", !shown);
  }
});

const names = [...legend.querySelectorAll("button")].map((button) => button.textContent);
for (const figure of document.querySelectorAll("figure[data-chart]")) {
  const svg = figure.querySelector("svg");
  const cursor = svg.querySelector(".cursor");
  const readout = figure.querySelector(".readout");
  const span = JSON.parse(svg.dataset.span);
  const curves = [...svg.querySelectorAll(".curve")].map((curve) => ({curve, points: JSON.parse(curve.dataset.points)}));
  const places = [...new Set(curves.flatMap(({points}) => points.map(([at]) => at)))].sort((a, b) => a - b);
  let here = places.length - 1;

  /** @param {number | null} index */
  function read(index) {
    cursor.classList.toggle("off", index === null);
    if (index === null) { readout.textContent = ""; return; }
    here = Math.min(Math.max(index, 0), places.length - 1);
    const at = places[here];
    const x = span.left + (span.right - span.left) * (at - span.low) / (span.high - span.low);
    cursor.setAttribute("x1", x);
    cursor.setAttribute("x2", x);
    const words = curves.filter(({curve}) => !curve.classList.contains("off")).map(({curve, points}) => {
      const nearest = points.reduce((best, point) => Math.abs(point[0] - at) < Math.abs(best[0] - at) ? point : best);
      const [, value, low, high] = nearest.map((number) => number === null ? null : Number(number.toPrecision(3)));
      return `${names[curve.dataset.variant]} ${value}${low === null ? "" : ` (${low} to ${high})`}`;
    });
    const place = at > 10 ? Math.round(at).toLocaleString("en") : Number(at.toPrecision(3));
    readout.textContent = `at ${place}: ${words.join(", ")}`;
  }

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
    const at = span.low + (span.high - span.low) * (x - span.left) / (span.right - span.left);
    const distance = places.map((place) => Math.abs(place - at));
    if (places.length) read(distance.indexOf(Math.min(...distance)));
  });
  svg.addEventListener("pointerleave", () => read(null));
  svg.addEventListener("blur", () => read(null));
  svg.addEventListener("keydown", (event) => {
    const moves = {ArrowLeft: here - 1, ArrowRight: here + 1, Home: 0, End: places.length - 1};
    if (!(event.key in moves) || !places.length) return;
    event.preventDefault();
    read(moves[event.key]);
  });
}
