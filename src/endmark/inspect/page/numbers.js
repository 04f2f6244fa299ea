// @ts-check
// The batch in numbers and words: verdict, figures, what is wrong, lengths.

/**
 * @typedef {object} Summary
 * @property {number} rows
 * @property {number} columns
 * @property {number} steps
 * @property {number} terminated
 * @property {number} truncated
 * @property {number} empty
 * @property {number | null} length_min
 * @property {number | null} length_median
 * @property {number | null} length_max
 * @property {number} padding_share
 * @property {number} padding_bytes
 * @property {number} total_bytes
 * @property {Record<string, number>} differences
 * @property {{ field: string, real: number, elsewhere: number, first: [number, number] | null }[]} nonfinite
 * @property {number} faults
 * @property {{ n_actions: number | null, outside: number, illegal: number, first_outside: [number, number, number, string] | null, first_illegal: [number, number, number, string] | null } | null} actions
 */
/**
 * @typedef {object} PageData
 * @property {string} source
 * @property {string} kind
 * @property {number} columns
 * @property {Row[]} rows
 * @property {Record<string, string>} reasons
 * @property {Record<string, string>} rules
 * @property {Summary} summary
 * @property {{ reward: (number | string | null)[][], actions: (string | null)[][] }} values of the first rows
 */

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element with text and children. Data reaches the page through here, as text.
 * @param {string} tag
 * @param {Record<string, string>} [attributes]
 * @param {...(Node | string)} children
 */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** @param {string} id */
function byId(id) {
  return /** @type {HTMLElement} */ (document.getElementById(id));
}

/** 12,345 or, with a digit, 12,345.6. @param {number} number @param {0 | 1} [digits] */
function format(number, digits = 0) {
  const [whole, fraction] = String(Number(number.toFixed(digits))).split(".");
  const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return fraction ? `${grouped}.${fraction}` : grouped;
}

/** @param {number} number @param {string} one @param {string} [many] */
function count(number, one, many = `${one}s`) {
  return `${format(number)} ${number === 1 ? one : many}`;
}

/** @param {number} bytes */
function formatBytes(bytes) {
  const power = bytes < 1000 ? 0 : Math.min(3, Math.floor(Math.log10(bytes) / 3));
  return `${format(bytes / 1000 ** power, power ? 1 : 0)} ${["B", "kB", "MB", "GB"][power]}`;
}

/** @param {PageData} data @param {Difference[][]} differences */
function showVerdict({ summary, rows }, differences) {
  const steps = differences.reduce((sum, found) => sum + found.length, 0);
  const inRows = differences.filter((found) => found.length).length;
  const broken = summary.nonfinite.filter(({ real }) => real).map(({ field }) => field);
  const parts = [
    steps
      ? `The shift mask counts ${count(steps, "step")} that ${steps === 1 ? "is" : "are"} not real, in ` +
        `${format(inRows)} of ${count(rows.length, "episode")}.`
      : "Both masks agree on every step.",
  ];
  if (summary.faults) parts.push(`The flags of ${count(summary.faults, "row")} are faulty.`);
  if (broken.length) parts.push(`Real steps hold NaN or infinity: ${broken.join(", ")}.`);
  const { outside, illegal } = summary.actions ?? { outside: 0, illegal: 0 };
  if (outside) parts.push(`Real steps hold ${count(outside, "action")} that ${outside === 1 ? "does" : "do"} not exist.`);
  if (illegal) parts.push(`Real steps hold ${count(illegal, "action")} that ${illegal === 1 ? "was" : "were"} not legal.`);
  const verdict = byId("verdict");
  verdict.textContent = parts.join(" ");
  verdict.dataset.state = parts.length > 1 || steps ? "wrong" : "right";
}

/** @param {Summary} summary */
function showFigures(summary) {
  const places = summary.rows * Math.max(0, summary.columns - 1);
  /** @param {number | null} length */
  const length = (length) => (length === null ? "\u2013" : format(length, 1));
  const differing = Object.values(summary.differences).reduce((sum, n) => sum + n, 0);
  const nonfinite = summary.nonfinite.reduce((sum, { real, elsewhere }) => sum + real + elsewhere, 0);
  const onReal = summary.nonfinite.reduce((sum, { real }) => sum + real, 0);
  const empty = summary.empty ? ` \u00b7 ${format(summary.empty)} empty` : "";
  const figures = [
    ["Episodes", format(summary.rows), `${count(summary.columns, "frame")} wide`],
    ["Real steps", format(summary.steps), `of ${count(places, "place")}`],
    ["Median length", length(summary.length_median), `${length(summary.length_min)} to ${length(summary.length_max)}`],
    ["Terminated", format(summary.terminated), `${format(summary.truncated)} truncated${empty}`],
    ["Padding", `${format(100 * summary.padding_share)} %`, `${formatBytes(summary.padding_bytes)} of ${formatBytes(summary.total_bytes)}`],
    ["Masks differ", format(differing), differing === 1 ? "step" : "steps"],
    ["NaN or infinity", format(nonfinite), nonfinite ? `${format(onReal)} on real steps` : "nowhere"],
  ];
  byId("figures").replaceChildren(
    ...figures.map(([name, value, more]) =>
      make("div", {}, make("dt", {}, name), make("dd", {}, make("b", {}, value), make("span", {}, more))),
    ),
  );
}

/**
 * Why the masks differ, what is no part of an episode, where numbers are not finite; with ways to the cells.
 * @param {PageData} data
 * @param {Difference[][]} differences
 * @param {(cell: Cell) => void} onJump
 */
function showFindings({ rows, reasons, rules, summary }, differences, onJump) {
  /** @param {Cell[]} cells */
  const jumps = (cells) => {
    const list = make("span", { class: "jumps" });
    for (const cell of cells.slice(0, 12)) {
      const button = make("button", { type: "button", title: `Show row ${cell.row}, t ${cell.t}` }, `${cell.row}`);
      button.addEventListener("click", () => onJump(cell));
      list.append(button);
    }
    if (cells.length > 12) list.append(`and ${format(cells.length - 12)} more`);
    return list;
  };
  /** @param {string} head @param {string} words @param {Cell[]} cells */
  const finding = (head, words, cells) =>
    make("li", {}, make("b", {}, head), make("p", {}, `${words}.`), make("p", { class: "rows" }, "Rows ", jumps(cells)));
  /** @param {string} title @param {Node[]} items */
  const section = (title, items) =>
    items.length ? [make("div", {}, make("h3", {}, title), make("ul", {}, ...items))] : [];

  const byReason = Object.keys(reasons).flatMap((reason) => {
    const cells = differences.flatMap((found, row) =>
      found.filter((difference) => difference.reason === reason).slice(0, 1).map(({ t }) => ({ row, t })),
    );
    const steps = differences.reduce((sum, found) => sum + found.filter((d) => d.reason === reason).length, 0);
    const label = KIND_LABELS[/** @type {Kind} */ (reason)];
    return cells.length ? [finding(`${label}: ${count(steps, "step")}`, reasons[reason], cells)] : [];
  });
  const byRule = Object.keys(rules).flatMap((rule) => {
    const cells = rows.flatMap(({ fault }, row) => (fault?.rule === rule ? [{ row, t: fault.t }] : []));
    return cells.length ? [finding(`${rule}: ${count(cells.length, "row")}`, rules[rule], cells)] : [];
  });
  const byField = summary.nonfinite.map(({ field, real, elsewhere, first }) =>
    finding(field, `${format(real)} on real steps, ${format(elsewhere)} elsewhere`, first ? [{ row: first[0], t: first[1] }] : []),
  );
  const { outside = 0, illegal = 0, first_outside = null, first_illegal = null } = summary.actions ?? {};
  /** @type {[string, string, [number, number, number, string] | null][]} */
  const wrong = [
    [`No action: ${format(outside)}`, "Not a whole number, or not in the range of the actions", first_outside],
    [`Not legal: ${format(illegal)}`, "avail_actions does not allow it, and the agent is alive", first_illegal],
  ];
  const byAction = wrong.flatMap(([head, words, first]) =>
    first ? [finding(head, `${words}; first agent ${first[2]}, action ${first[3]}`, [{ row: first[0], t: first[1] }])] : [],
  );
  const sections = [
    ...section("Where the masks differ", byReason),
    ...section("Faulty rows", byRule),
    ...section("NaN or infinity", byField),
    ...section("Actions", byAction),
  ];
  byId("findings").hidden = !sections.length;
  byId("findings-list").replaceChildren(...sections);
}

/**
 * How long the episodes are, on the time axis of the picture.
 * @param {Row[]} rows
 * @param {number} columns
 * @param {Axis} axis
 */
function drawHistogram(rows, columns, axis) {
  const height = 84;
  const base = height - 18;
  const bin = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => columns / n <= 30) ?? 1000;
  // The first bin holds length 0, the next ones `bin` lengths each, so that the limit is not left alone.
  const counts = Array.from({ length: 1 + Math.ceil((columns - 1) / bin) }, () => ({ terminated: 0, truncated: 0, empty: 0 }));
  for (const row of rows) counts[Math.ceil(row.length / bin)][row.end]++;
  const most = Math.max(1, ...counts.map((c) => c.terminated + c.truncated + c.empty));
  const svg = byId("histogram");
  svg.setAttribute("viewBox", `0 0 ${axis.width} ${height}`);
  svg.setAttribute("width", String(axis.width));
  svg.setAttribute("height", String(height));
  /** @param {string} tag @param {Record<string, string | number>} attributes @param {string} [text] */
  const shape = (tag, attributes, text) => {
    const element = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const inside = shape("svg", { x: axis.left, y: 0, width: Math.max(1, axis.width - axis.left), height });
  const moving = shape("g", { transform: `translate(${-axis.scrolled} 0)` });
  counts.forEach((ends, i) => {
    let top = base;
    const [from, to] = i ? [(i - 1) * bin + 1, Math.min(columns - 1, i * bin)] : [0, 0];
    const x = from * axis.pitch;
    const width = (to - from + 1) * axis.pitch - 1;
    const group = shape("g", {});
    for (const end of /** @type {End[]} */ (["terminated", "truncated", "empty"])) {
      const size = (ends[end] / most) * (base - 14);
      if (!size) continue;
      top -= size;
      group.append(shape("rect", { x, y: top, width, height: size, class: end }));
    }
    const all = ends.terminated + ends.truncated + ends.empty;
    if (all) {
      const lengths = to > from ? `${from} to ${to} steps` : count(to, "step");
      const parts = `${ends.terminated} terminated, ${ends.truncated} truncated, ${ends.empty} empty`;
      group.append(shape("title", {}, `${lengths}: ${count(all, "episode")} (${parts})`));
      if (width > 12) group.append(shape("text", { x: x + width / 2, y: top - 4, "text-anchor": "middle" }, format(all)));
    }
    moving.append(group);
  });
  const ticks = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((n) => n * axis.pitch >= 38) ?? 1000;
  for (let length = 0; length < columns; length += ticks) {
    moving.append(shape("text", { x: (length + 0.5) * axis.pitch, y: height - 4, "text-anchor": "middle" }, String(length)));
  }
  moving.append(shape("line", { x1: 0, x2: columns * axis.pitch, y1: base + 0.5, y2: base + 0.5 }));
  inside.append(moving);
  svg.replaceChildren(inside);
}
