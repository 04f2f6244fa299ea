// @ts-check
// The batch as a picture. Only what is in view is drawn, from `kindAt`, which is also what anybody asks.

/** @typedef {"terminated" | "truncated" | "empty"} End */
/**
 * @typedef {object} Row
 * @property {string} filled
 * @property {string} terminated
 * @property {string | null} truncated
 * @property {number} length
 * @property {End} end
 * @property {{ t: number, rule: string } | null} fault
 */
/** @typedef {"row" | "length" | "problem"} Sort */
/** @typedef {{ row: number, t: number }} Cell */
/** Column 0 begins at `left`, less what is scrolled. @typedef {{ left: number, pitch: number, width: number, scrolled: number }} Axis */

/** All cells of the batch, classified once. @param {Row[]} rows @param {number} columns */
function classifyBatch(rows, columns) {
  const kinds = new Uint8Array(rows.length * columns);
  /** Steps on which the masks differ, for each row. @type {Difference[][]} */
  const differences = [];
  rows.forEach((row, r) => {
    const [filled, terminated] = [toBits(row.filled), toBits(row.terminated)];
    const truncated = row.truncated === null ? null : toBits(row.truncated);
    const found = classifyRow(filled, terminated, truncated, row.length, row.end === "terminated");
    found.kinds.forEach((kind, t) => (kinds[r * columns + t] = KINDS.indexOf(kind)));
    differences.push(found.differences);
  });
  /** @param {number} row @param {number} t @returns {Kind} */
  const kindAt = (row, t) => KINDS[kinds[row * columns + t]];
  return { kinds, kindAt, differences };
}

/**
 * @param {Row[]} rows
 * @param {Difference[][]} differences
 * @param {Sort} sort
 */
function orderRows(rows, differences, sort) {
  const order = rows.map((_, r) => r);
  /** @param {number} r */
  const weight = (r) => (rows[r].fault ? 1e6 : 0) + differences[r].length;
  if (sort === "length") order.sort((a, b) => rows[b].length - rows[a].length || a - b);
  if (sort === "problem") order.sort((a, b) => weight(b) - weight(a) || a - b);
  return order;
}

const HEADER = 22;
const PRINTED_ROWS = 250;

/**
 * @param {object} options
 * @param {HTMLElement} options.scroller takes the keyboard; holds the spacer
 * @param {HTMLElement} options.spacer as large as the whole picture; holds the canvas and the ring
 * @param {HTMLCanvasElement} options.canvas
 * @param {HTMLElement} options.ring around the cell that is asked about
 * @param {Row[]} options.rows
 * @param {number} options.columns
 * @param {(row: number, t: number) => Kind} options.kindAt
 * @param {Difference[][]} options.differences
 * @param {(cell: Cell, speak: boolean) => void} options.onCell a person asks about a cell
 * @param {(axis: Axis) => void} options.onMove the time axis moved
 */
function createPicture(options) {
  const { scroller, spacer, canvas, ring, rows, columns, kindAt, differences, onCell, onMove } = options;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const gutter = 24 + 7 * String(Math.max(0, rows.length - 1)).length;
  const pitchY = rows.length <= 100 ? 17 : 13;
  let pitchX = 9;
  let palette = readPalette();
  let order = orderRows(rows, differences, "row");
  let places = invert(order);
  /** The cell that the keyboard is on. @type {Cell} */
  let current = { row: order[0] ?? 0, t: 0 };
  /** The cell in the ring. @type {Cell | null} */
  let shown = null;
  let waiting = false;
  /** @type {Axis | null} */
  let axis = null;
  let laidOutFor = -1;
  /** @type {Map<string, HTMLCanvasElement>} */
  const tiles = new Map();

  /** @param {number[]} permutation */
  function invert(permutation) {
    const inverse = new Array(permutation.length);
    permutation.forEach((r, place) => (inverse[r] = place));
    return inverse;
  }

  function layout() {
    const height = HEADER + rows.length * pitchY + 2;
    const bound = Math.min(height, Math.max(320, window.innerHeight * 0.75));
    scroller.style.height = `${bound}px`;
    spacer.style.height = `${height}px`;
    const room = scroller.clientWidth - gutter - 2;
    pitchX = Math.max(7, Math.min(26, Math.floor(room / columns)));
    spacer.style.width = `${gutter + columns * pitchX + 2}px`;
    scroller.style.height = `${bound + scroller.offsetHeight - scroller.clientHeight}px`; // room for a scroll bar
    draw();
    placeRing();
  }

  function draw() {
    waiting = false;
    paint(canvas, context, window.devicePixelRatio, {
      width: scroller.clientWidth,
      height: scroller.clientHeight,
      left: scroller.scrollLeft,
      top: scroller.scrollTop,
    });
    const moved = { left: gutter, pitch: pitchX, width: scroller.clientWidth, scrolled: scroller.scrollLeft };
    if (JSON.stringify(moved) !== JSON.stringify(axis)) onMove((axis = moved));
  }

  function drawSoon() {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      draw();
      placeRing();
    });
  }

  /**
   * @param {HTMLCanvasElement} target
   * @param {CanvasRenderingContext2D} brush
   * @param {number} scale device pixels of a CSS pixel
   * @param {{ width: number, height: number, left: number, top: number }} view
   */
  function paint(target, brush, scale, view) {
    target.width = Math.round(view.width * scale);
    target.height = Math.round(view.height * scale);
    target.style.width = `${view.width}px`;
    target.style.height = `${view.height}px`;
    const firstRow = Math.floor(view.top / pitchY);
    const lastRow = Math.min(rows.length, Math.ceil((view.top + view.height - HEADER) / pitchY));
    const firstColumn = Math.floor(view.left / pitchX);
    const lastColumn = Math.min(columns, Math.ceil((view.left + view.width - gutter) / pitchX));
    for (let place = firstRow; place < lastRow; place++) {
      const y = Math.round((HEADER + place * pitchY - view.top) * scale);
      for (let t = firstColumn; t < lastColumn; t++) {
        const x = Math.round((gutter + t * pitchX - view.left) * scale);
        brush.drawImage(tile(kindAt(order[place], t), scale), x, y);
      }
    }
    brush.setTransform(scale, 0, 0, scale, 0, 0);
    brush.fillStyle = palette.paper; // axes lie over cells that are scrolled under them
    brush.fillRect(0, 0, gutter, view.height);
    brush.fillRect(0, 0, view.width, HEADER);
    brush.font = "11px ui-monospace, 'SF Mono', 'Cascadia Mono', 'DejaVu Sans Mono', monospace";
    brush.textBaseline = "middle";
    brush.textAlign = "right";
    for (let place = firstRow; place < lastRow; place++) {
      const y = HEADER + place * pitchY - view.top + pitchY / 2 - 1;
      if (y < HEADER) continue;
      const row = order[place];
      brush.fillStyle = palette.faint;
      brush.fillText(String(row), gutter - 6, y);
      if (rows[row].fault || differences[row].length) {
        brush.fillStyle = palette.phantom;
        brush.beginPath(); // hollow where only the masks differ, full where the row itself is at fault
        brush.moveTo(3, y + 3.5);
        brush.lineTo(7, y - 3.5);
        brush.lineTo(11, y + 3.5);
        brush.closePath();
        brush.strokeStyle = palette.phantom;
        if (rows[row].fault) brush.fill();
        brush.stroke();
      }
    }
    brush.textAlign = "center";
    brush.fillStyle = palette.faint;
    const every = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000].find((n) => n * pitchX >= 38) ?? 2000;
    for (let t = Math.ceil(firstColumn / every) * every; t < lastColumn; t += every) {
      const x = gutter + t * pitchX - view.left + pitchX / 2;
      if (x > gutter) brush.fillText(String(t), x, HEADER / 2 - 1);
    }
    brush.textAlign = "right";
    brush.fillText("t", gutter - 6, HEADER / 2 - 1);
    brush.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** @param {Kind} kind @param {number} scale */
  function tile(kind, scale) {
    const key = `${kind} ${pitchX} ${scale}`;
    let drawn = tiles.get(key);
    if (!drawn) {
      drawn = document.createElement("canvas");
      drawn.width = Math.round((pitchX - 1) * scale);
      drawn.height = Math.round((pitchY - 3) * scale);
      const brush = /** @type {CanvasRenderingContext2D} */ (drawn.getContext("2d"));
      drawTile(brush, kind, palette, [0, 0, drawn.width, drawn.height]);
      tiles.set(key, drawn);
    }
    return drawn;
  }

  /** Where a cell lies in the scroller, from the corner of what is in view. @param {Cell} cell */
  function boxOf({ row, t }) {
    return {
      x: gutter + t * pitchX - scroller.scrollLeft,
      y: HEADER + places[row] * pitchY - scroller.scrollTop,
      width: pitchX - 1,
      height: pitchY - 3,
    };
  }

  function placeRing() {
    const box = shown && boxOf(shown);
    const hidden = !box || box.x < gutter - 1 || box.y < HEADER - 1;
    ring.hidden = hidden;
    if (hidden) return;
    ring.style.width = `${box.width}px`;
    ring.style.height = `${box.height}px`;
    ring.style.transform = `translate(${box.x + scroller.scrollLeft}px, ${box.y + scroller.scrollTop}px)`;
  }

  /** @param {Cell} cell @param {boolean} speak */
  function ask(cell, speak) {
    shown = cell;
    placeRing();
    onCell(cell, speak);
  }

  /** @param {Cell} cell */
  function scrollTo(cell) {
    const box = boxOf(cell);
    const [right, bottom] = [scroller.clientWidth - pitchX, scroller.clientHeight - pitchY];
    if (box.x < gutter) scroller.scrollLeft -= gutter - box.x;
    if (box.x > right) scroller.scrollLeft += box.x - right;
    if (box.y < HEADER) scroller.scrollTop -= HEADER - box.y;
    if (box.y > bottom) scroller.scrollTop += box.y - bottom;
  }

  /** Move the keyboard's cell. @param {Cell} cell @param {boolean} [speak] */
  function go(cell, speak = true) {
    current = cell;
    scrollTo(cell);
    ask(cell, speak);
  }

  /** @param {MouseEvent} event @returns {Cell | null} */
  function cellUnder(event) {
    const frame = scroller.getBoundingClientRect();
    const x = event.clientX - frame.left - scroller.clientLeft;
    const y = event.clientY - frame.top - scroller.clientTop;
    if (x < gutter || y < HEADER || x >= scroller.clientWidth || y >= scroller.clientHeight) return null;
    const t = Math.floor((x - gutter + scroller.scrollLeft) / pitchX);
    const place = Math.floor((y - HEADER + scroller.scrollTop) / pitchY);
    return t < columns && place < rows.length ? { row: order[place], t } : null;
  }

  scroller.addEventListener("keydown", (event) => {
    if (!rows.length || event.altKey || event.metaKey) return;
    const place = places[current.row];
    const page = Math.max(1, Math.floor((scroller.clientHeight - HEADER) / pitchY) - 1);
    /** @type {Record<string, [number, number]>} place and t */
    const moves = {
      ArrowLeft: [place, current.t - 1],
      ArrowRight: [place, current.t + 1],
      ArrowUp: [place - 1, current.t],
      ArrowDown: [place + 1, current.t],
      PageUp: [place - page, current.t],
      PageDown: [place + page, current.t],
      Home: [event.ctrlKey ? 0 : place, 0],
      End: [event.ctrlKey ? rows.length - 1 : place, columns - 1],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    const to = Math.max(0, Math.min(rows.length - 1, move[0]));
    go({ row: order[to], t: Math.max(0, Math.min(columns - 1, move[1])) });
  });
  scroller.addEventListener("focus", () => {
    if (rows.length && scroller.matches(":focus-visible")) go(current);
  });
  scroller.addEventListener("pointermove", (event) => {
    const cell = cellUnder(event);
    if (cell && (cell.row !== shown?.row || cell.t !== shown?.t)) ask(cell, false);
  });
  scroller.addEventListener("pointerdown", (event) => {
    const cell = cellUnder(event);
    if (cell) go(cell, false);
  });
  scroller.addEventListener("scroll", drawSoon, { passive: true });
  const frame = /** @type {HTMLElement} */ (scroller.parentElement);
  new ResizeObserver(() => {
    if (frame.clientWidth === laidOutFor) return;
    laidOutFor = frame.clientWidth;
    layout();
  }).observe(frame);

  return {
    boxOf,
    go,
    order: () => order,
    repaint() {
      palette = readPalette();
      tiles.clear();
      draw();
    },
    /** @param {Sort} sort */
    sort(sort) {
      order = orderRows(rows, differences, sort);
      places = invert(order);
      scroller.scrollTop = 0;
      current = { row: order[0] ?? 0, t: 0 };
      shown = null;
      draw();
      placeRing();
    },
    /** The picture on a canvas for paper: every row, up to a bound. @returns {number} rows left out */
    paintForPaper(/** @type {HTMLCanvasElement} */ paper) {
      const shownRows = Math.min(rows.length, PRINTED_ROWS);
      const brush = /** @type {CanvasRenderingContext2D} */ (paper.getContext("2d"));
      const view = { width: gutter + columns * pitchX + 2, height: HEADER + shownRows * pitchY, left: 0, top: 0 };
      paint(paper, brush, 2, view);
      paper.style.width = paper.style.height = "";
      return rows.length - shownRows;
    },
  };
}
