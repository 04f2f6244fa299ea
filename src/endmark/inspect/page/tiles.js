// @ts-check
// How a cell looks. Every kind has a colour and a shape of its own, so that neither has to be seen.

/** @typedef {Record<Kind | "paper" | "ink" | "faint" | "line", string>} Palette */

/** The colours of the theme in force, which page.css knows. @returns {Palette} */
function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const names = /** @type {(keyof Palette)[]} */ ([...KINDS, "paper", "ink", "faint", "line"]);
  return /** @type {Palette} */ (
    Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]))
  );
}

/**
 * Draw a cell into the box (x, y, w, h), in whatever unit the context has.
 * @param {CanvasRenderingContext2D} context
 * @param {Kind} kind
 * @param {Palette} palette
 * @param {[number, number, number, number]} box
 */
function drawTile(context, kind, palette, [x, y, w, h]) {
  const stroke = Math.max(1, Math.min(w, h) / 7);
  const colour = palette[kind];
  context.save();
  context.beginPath();
  context.rect(x, y, w, h);
  context.clip();
  context.fillStyle = context.strokeStyle = colour;
  context.lineWidth = stroke;
  const hollow = () => context.strokeRect(x + stroke / 2, y + stroke / 2, w - stroke, h - stroke);
  const wash = () => {
    context.globalAlpha = 0.22;
    context.fillRect(x, y, w, h);
    context.globalAlpha = 1;
  };
  /** @param {number[][]} points */
  const lines = (...points) => {
    context.beginPath();
    for (const [x0, y0, x1, y1] of points) {
      context.moveTo(x0, y0);
      context.lineTo(x1, y1);
    }
    context.stroke();
  };
  /** @param {number[][]} points */
  const polygon = (...points) => {
    context.beginPath();
    for (const [px, py] of points) context.lineTo(px, py);
    context.fill();
  };
  const [middle, centre] = [x + w / 2, y + h / 2];
  switch (kind) {
    case "step":
      context.fillRect(x, y, w, h);
      break;
    case "terminal": { // a wall with a hole
      const hole = Math.max(2, Math.min(w, h) * 0.36);
      context.beginPath();
      context.rect(x, y, w, h);
      context.rect(middle - hole / 2, centre - hole / 2, hole, hole);
      context.fill("evenodd");
      break;
    }
    case "truncated": // cut off with scissors
      polygon([x, y], [x + w, y], [x, y + h]);
      break;
    case "final":
      hollow();
      break;
    case "padding": {
      const dot = Math.max(1, stroke);
      context.fillRect(middle - dot / 2, centre - dot / 2, dot, dot);
      break;
    }
    case "phantom":
      wash();
      hollow();
      lines([x, y, x + w, y + h], [x, y + h, x + w, y]);
      break;
    case "stale": {
      wash();
      context.lineWidth = stroke * 1.5;
      const pitch = Math.max(4, stroke * 3.2);
      for (let offset = -h; offset < w + h; offset += pitch) lines([x + offset, y + h, x + offset + h, y]);
      break;
    }
    case "second":
      wash();
      context.fillRect(x, y, w / 3, h);
      context.fillRect(x + (2 * w) / 3, y, w / 3, h);
      break;
    case "gap":
      wash();
      for (const part of [0, 2, 4]) context.fillRect(x, y + (part * h) / 5, w, h / 5);
      break;
    case "stray":
      polygon([middle, y + h * 0.12], [x + w, centre], [middle, y + h * 0.88], [x, centre]);
      break;
  }
  context.restore();
}

/**
 * A cell on a canvas of its own, for legends and the playground.
 * @param {Kind} kind
 * @param {Palette} palette
 * @param {number} width
 * @param {number} height
 * @param {HTMLCanvasElement} [canvas]
 */
function swatch(kind, palette, width, height, canvas = document.createElement("canvas")) {
  const scale = Math.max(2, window.devicePixelRatio);
  canvas.width = width * scale;
  canvas.height = height * scale;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.setAttribute("aria-hidden", "true");
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.scale(scale, scale);
  drawTile(context, kind, palette, [0, 0, width, height]);
  return canvas;
}
