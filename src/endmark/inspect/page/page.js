// @ts-check
// Puts the page together.

const began = performance.now();
const data = /** @type {PageData} */ (JSON.parse(byId("page-data").textContent ?? ""));
const root = document.documentElement;
const darkWanted = matchMedia("(prefers-color-scheme: dark)");
/** What a person chose; null follows the system. @type {"light" | "dark" | null} */
let chosenTheme = null;
const themeInForce = () => chosenTheme ?? (darkWanted.matches ? "dark" : "light");
root.dataset.theme = themeInForce();

const { kinds, kindAt, differences } = classifyBatch(data.rows, data.columns);
let palette = readPalette();

const parts = data.source.split(/[\\/]/).filter(Boolean);
byId("source").textContent = parts[parts.length - 1] ?? data.source;
byId("source").title = data.source;
byId("kind").textContent = data.kind;

/** Both masks at a cell, or null in the last column, which has no step. @param {Cell} cell */
function masksAt({ row, t }) {
  if (t >= data.columns - 1) return null;
  const { filled, terminated } = data.rows[row];
  const { shift, exact } = explainMask(toBits(filled), toBits(terminated));
  return { shift: shift[t], exact: exact[t] };
}

/** Why a cell is what it is. @param {Cell} cell */
function wordsFor({ row, t }) {
  const { fault } = data.rows[row];
  const kind = kindAt(row, t);
  const difference = differences[row].find((found) => found.t === t);
  /** @type {Partial<Record<Kind, string>>} */
  const own = {
    step: "a real step: both masks count it",
    terminal: "the step that ended the episode: nothing follows it, its discount is 0",
    truncated: "the last step of an episode that was cut off: the value of the next frame counts",
    final: "the final frame: seen, never acted on",
    padding: "nothing is stored here",
    stray: data.rules.outside,
  };
  const words = difference ? data.reasons[difference.reason] : own[kind] ?? data.rules[kind] ?? KIND_LABELS[kind];
  const known = fault?.t !== t || fault.rule === kind || data.rules[fault.rule] === words;
  return known ? words : `${words}; ${data.rules[fault.rule]}`;
}

/** @param {Cell} cell @param {boolean} speak */
function inspect(cell, speak) {
  const { row, t } = cell;
  const { filled, terminated, truncated } = data.rows[row];
  const masks = masksAt(cell);
  const kind = kindAt(row, t);
  const values = data.values;
  /** @type {[string, string][]} */
  const facts = [
    ["filled", filled[t]],
    ["terminated", terminated[t]],
    ...(truncated === null ? [] : [/** @type {[string, string]} */ (["truncated", truncated[t]])]),
    ["shift mask", masks ? String(masks.shift) : "\u2013"],
    ["exact mask", masks ? String(masks.exact) : "\u2013"],
  ];
  const missing = row < values.reward.length ? "\u2013" : "not on this page";
  facts.push(["reward", String(values.reward[row]?.[t] ?? missing)], ["actions", values.actions[row]?.[t] ?? missing]);
  const words = wordsFor(cell);
  byId("inspector").replaceChildren(
    make(
      "p",
      { class: "what" },
      swatch(kind, palette, 12, 18),
      make("b", {}, KIND_LABELS[kind]),
      make("span", { class: "where" }, `row ${row}, t ${t}`),
    ),
    make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    make("p", { class: "words" }, `${words[0].toUpperCase()}${words.slice(1)}.`),
  );
  const said = facts.map(([name, value]) => `${name} ${value}`).join(", ");
  if (speak) byId("spoken").textContent = `Row ${row}, t ${t}: ${KIND_LABELS[kind]}. ${words}. ${said}.`;
}

const picture = createPicture({
  scroller: byId("scroller"),
  spacer: byId("spacer"),
  canvas: /** @type {HTMLCanvasElement} */ (byId("canvas")),
  ring: byId("ring"),
  rows: data.rows,
  columns: data.columns,
  kindAt,
  differences,
  onCell: inspect,
  onMove: (axis) => drawHistogram(data.rows, data.columns, axis),
});

/** @param {Sort} sort */
function sortBy(sort) {
  picture.sort(sort);
  for (const button of document.querySelectorAll("[data-sort]")) {
    button.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (button).dataset.sort === sort));
  }
}
for (const button of document.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => sortBy(/** @type {Sort} */ (/** @type {HTMLElement} */ (button).dataset.sort)));
}

function showLegend() {
  const counts = new Array(KINDS.length).fill(0);
  for (const kind of kinds) counts[kind]++;
  byId("legend").replaceChildren(
    ...KINDS.map((kind, i) =>
      make(
        "li",
        { "data-kind": kind, ...(counts[i] ? {} : { class: "absent" }) },
        swatch(kind, palette, 12, 18),
        make("span", {}, KIND_LABELS[kind]),
        make("span", { class: "count" }, format(counts[i])),
      ),
    ),
  );
}

const withValues = data.values.reward.length;
byId("values").hidden = withValues === data.rows.length;
byId("values").textContent =
  `Rewards and actions are on this page for ${withValues === 1 ? "row 0" : `rows 0 to ${format(withValues - 1)}`} ` +
  `of ${format(data.rows.length)}; with those of all rows it would be too large.`;
showVerdict(data, differences);
showFigures(data.summary);
showFindings(data, differences, (cell) => {
  byId("scroller").focus({ preventScroll: true });
  byId("picture").scrollIntoView({ block: "start" });
  picture.go(cell);
});
showLegend();
const playground = createPlayground(data.reasons, () => palette);
if (data.rows.length) {
  const first = differences.findIndex((found) => found.length);
  inspect(first < 0 ? { row: 0, t: 0 } : { row: first, t: differences[first][0].t }, false);
}

function nameTheme() {
  const other = root.dataset.theme === "dark" ? "Light" : "Dark";
  byId("theme").textContent = other;
  byId("theme").setAttribute("aria-label", `${other} colours`);
}

/** @param {"light" | "dark"} theme */
function setTheme(theme) {
  root.dataset.theme = theme;
  palette = readPalette();
  nameTheme();
  picture.repaint();
  playground.repaint();
  showLegend();
}
nameTheme();
byId("theme").addEventListener("click", () => {
  chosenTheme = themeInForce() === "dark" ? "light" : "dark";
  setTheme(chosenTheme);
});
darkWanted.addEventListener("change", () => setTheme(themeInForce()));

const paper = /** @type {HTMLCanvasElement} */ (byId("paper"));
addEventListener("beforeprint", () => {
  setTheme("light");
  const left = picture.paintForPaper(paper);
  byId("left-out").textContent = left ? `${count(left, "more row")} not printed.` : "";
});
addEventListener("afterprint", () => {
  paper.width = paper.height = 0;
  setTheme(themeInForce());
});

/** For tests, and for the curious. */
Object.assign(window, {
  endmark: {
    ready: Math.round(performance.now() - began),
    /** What is drawn at a cell. @param {number} row @param {number} t */
    classOf: kindAt,
    /** @param {number} row @param {number} t */
    masksAt: (row, t) => masksAt({ row, t }),
    /** @param {number} row @param {number} t */
    boxOf: (row, t) => picture.boxOf({ row, t }),
    order: picture.order,
    explainMask,
  },
});
