// @ts-check
// The scripts of this page share one scope: html.py joins them, in the order of its list, into one module.
// This one is src/endmark/episodes/masks.py for a single row; flags are arrays of 0 and 1, T + 1 long.

/** @typedef {"stale" | "second" | "phantom" | "gap"} Reason */
/** @typedef {{ t: number, reason: Reason }} Difference */
/** @typedef {"step" | "terminal" | "truncated" | "final" | "padding" | Reason | "stray"} Kind */

/** What a cell can be, in the order of the legend. @type {readonly Kind[]} */
const KINDS = [
  "step", "terminal", "truncated", "final", "padding", "phantom", "stale", "second", "gap", "stray",
];

/** @type {Record<Kind, string>} */
const KIND_LABELS = {
  step: "real step",
  terminal: "terminal step",
  truncated: "truncated end",
  final: "final frame",
  padding: "padding",
  phantom: "phantom step",
  stale: "stale step",
  second: "second episode",
  gap: "after a gap",
  stray: "stray end flag",
};

/** @param {string} text one character a column @returns {number[]} */
function toBits(text) {
  const bits = new Array(text.length);
  for (let t = 0; t < text.length; t++) bits[t] = text[t] === "1" ? 1 : 0;
  return bits;
}

/**
 * The exact mask over T steps.
 * @param {number[]} filled
 * @param {number[]} terminated
 */
function stepMask(filled, terminated) {
  const mask = [];
  let open = 1; // no hole so far and no end before t
  for (let t = 0; t + 1 < filled.length; t++) {
    open &= filled[t];
    mask.push(open & (filled[t + 1] | terminated[t]));
    open &= 1 - terminated[t];
  }
  return mask;
}

/**
 * The three lines, and every tensor that exists while they run.
 * @param {number[]} filled
 * @param {number[]} terminated
 */
function shiftLines(filled, terminated) {
  const ended = terminated.slice(0, -1);
  const mask = filled.slice(0, -1);
  const keep = ended.slice(0, -1).map((end) => 1 - end);
  const shift = mask.map((frame, t) => (t === 0 ? frame : frame * keep[t - 1]));
  return { ended, mask, keep, shift };
}

/**
 * Both masks, and the reason for each step on which they differ.
 * @param {number[]} filled
 * @param {number[]} terminated
 */
function explainMask(filled, terminated) {
  const exact = stepMask(filled, terminated);
  const { shift } = shiftLines(filled, terminated);
  const firstEnd = firstIndex(terminated, 1);
  const lastEnd = terminated.lastIndexOf(1);
  const firstHole = firstIndex(filled, 0);
  /** @type {Difference[]} */
  const differences = [];
  exact.forEach((real, t) => {
    if (real === shift[t]) return;
    if (firstEnd < t) differences.push({ t, reason: lastEnd >= t ? "second" : "stale" });
    else differences.push({ t, reason: firstHole < t ? "gap" : "phantom" });
  });
  return { exact, shift, differences };
}

/** @param {number[]} bits @param {number} bit */
function firstIndex(bits, bit) {
  const index = bits.indexOf(bit);
  return index < 0 ? Infinity : index;
}

/**
 * What each of the T + 1 cells of a row is. A step on which the masks differ is its reason, always.
 * @param {number[]} filled
 * @param {number[]} terminated
 * @param {number[] | null} truncated
 * @param {number} length real steps of the row's episode
 * @param {boolean} ended whether the last one terminated
 */
function classifyRow(filled, terminated, truncated, length, ended) {
  const { exact, differences } = explainMask(filled, terminated);
  /** @type {Map<number, Kind>} */
  const reasons = new Map(differences.map(({ t, reason }) => [t, reason]));
  const firstEnd = firstIndex(terminated, 1);
  const lastEnd = terminated.lastIndexOf(1);
  // The masks do not look at `truncated`: a row that goes on after a cut is real to both, not to from_padded.
  const cutShort = length < exact.reduce((sum, real) => sum + real, 0);
  /** @param {number} frame @param {number} t @returns {Kind} */
  const kindAt = (frame, t) => {
    if (t < length - 1) return "step";
    if (t === length - 1) return ended ? "terminal" : "truncated";
    const reason = reasons.get(t);
    if (reason) return reason;
    const flagged = terminated[t] === 1 || (truncated?.[t] === 1 && !exact[t]);
    if (!frame) return flagged ? "stray" : "padding";
    if (t === length) return flagged ? "stray" : "final";
    // Frames that carry no wrongly counted step: those that the shift hides, and the last column.
    if (firstEnd < t) return lastEnd >= t - 1 ? "second" : "stale";
    return cutShort ? "second" : "gap";
  };
  return { kinds: filled.map(kindAt), differences };
}
