// @ts-check
// The three lines on a row that a person clicks together.

/** The worked table: T = 6. @type {readonly { name: string, filled: string, terminated: string }[]} */
const PRESETS = [
  { name: "filled to the brim after the end", filled: "1111111", terminated: "0001000" },
  { name: "PyMARL layout, ended at step 3", filled: "1111100", terminated: "0001000" },
  { name: "truncated after 4 steps", filled: "1111100", terminated: "0000000" },
  { name: "final frame not stored", filled: "1111000", terminated: "0001000" },
  { name: "full length, truncated at the limit", filled: "1111111", terminated: "0000000" },
  { name: "full length, terminated at the last step", filled: "1111111", terminated: "0000010" },
  { name: "nothing filled", filled: "0000000", terminated: "0000000" },
];
const LONGEST = 12;

/** @typedef {"filled" | "terminated"} Flag */

/**
 * @param {Record<string, string>} reasons
 * @param {() => Palette} palette
 */
function createPlayground(reasons, palette) {
  /** @type {Record<Flag, number[]>} */
  const flags = { filled: toBits(PRESETS[0].filled), terminated: toBits(PRESETS[0].terminated) };
  const flagNames = /** @type {Flag[]} */ (["filled", "terminated"]);
  /** The button that Tab reaches. @type {{ flag: Flag, t: number }} */
  let focus = { flag: "filled", t: 0 };
  const inputs = byId("inputs");
  const presets = byId("presets");

  const steps = () => flags.filled.length - 1;

  /** A lane of cells: name or code, cells, shape. @param {string} id @param {string} name @param {Node[]} cells @param {string} shape */
  function lane(id, name, cells, shape) {
    const label = make("div", { class: "lane-name" });
    label.append(...(id === "time" ? [name] : [make("code", {}, name)]));
    return make(
      "div",
      { class: "lane", "data-lane": id },
      label,
      make("div", { class: "lane-cells" }, ...cells),
      make("div", { class: "lane-shape" }, shape),
    );
  }

  /**
   * Values that nobody clicks. `skip` columns stay free, so that a value stands under what it meets.
   * @param {string} id @param {string} name @param {number[]} bits @param {number} [skip] @param {number[]} [wrong]
   */
  function values(id, name, bits, skip = 0, wrong = []) {
    const cells = [
      ...Array.from({ length: skip }, () => make("span", { class: "cell none" })),
      ...bits.map((bit, t) =>
        make("span", { class: `cell ${bit ? "one" : "zero"}${wrong.includes(t) ? " wrong" : ""}`, "data-t": String(t) }, String(bit)),
      ),
    ];
    return lane(id, name, cells, `(1, ${bits.length}, 1)`);
  }

  function rebuild() {
    focus.t = Math.min(focus.t, steps());
    const time = flags.filled.map((_, t) => make("span", { class: "cell time" }, String(t)));
    const lanes = flagNames.map((flag) => {
      const buttons = flags[flag].map((_, t) => {
        const button = make("button", { type: "button", class: "cell", "data-flag": flag, "data-t": String(t) });
        button.addEventListener("click", () => {
          flags[flag][t] = 1 - flags[flag][t];
          focus = { flag, t };
          update();
        });
        button.addEventListener("focus", () => {
          focus = { flag, t };
          rove();
        });
        return button;
      });
      const made = lane(flag, flag, buttons, `(1, ${steps() + 1}, 1)`);
      made.setAttribute("role", "group");
      made.setAttribute("aria-label", `${flag}, ${steps() + 1} columns`);
      return made;
    });
    inputs.replaceChildren(lane("time", "t", time, "shape"), ...lanes);
    update();
  }

  /** @param {Flag} flag @param {number} t */
  function buttonOf(flag, t) {
    return /** @type {HTMLButtonElement} */ (inputs.querySelector(`[data-flag="${flag}"][data-t="${t}"]`));
  }

  function rove() {
    for (const button of inputs.querySelectorAll("button")) button.tabIndex = -1;
    buttonOf(focus.flag, focus.t).tabIndex = 0;
  }

  function update() {
    for (const flag of flagNames) {
      flags[flag].forEach((bit, t) => {
        const button = buttonOf(flag, t);
        button.textContent = String(bit);
        button.className = `cell ${bit ? "one" : "zero"}`;
        button.setAttribute("aria-pressed", String(bit === 1));
        button.setAttribute("aria-label", `${flag} at ${t}`);
      });
    }
    rove();
    const { filled, terminated } = flags;
    const lines = shiftLines(filled, terminated);
    const { exact, shift, differences } = explainMask(filled, terminated);
    const wrong = differences.map(({ t }) => t);
    byId("lines").replaceChildren(
      values("line-1", "terminated = terminated[:, :-1].float()", lines.ended),
      values("line-2", "mask = filled[:, :-1].float()", lines.mask),
      values("line-3-mask", "mask[:, 1:]", lines.mask.slice(1), 1),
      values("line-3-keep", "  * (1 - terminated[:, :-1])", lines.keep, 1),
      values("line-3", "  = mask[:, 1:]", shift.slice(1), 1),
    );
    const length = exact.reduce((sum, real) => sum + real, 0);
    const { kinds } = classifyRow(filled, terminated, null, length, length > 0 && terminated[length - 1] === 1);
    const tiles = kinds.map((kind) =>
      make("span", { class: "cell", title: KIND_LABELS[kind], "data-kind": kind }, swatch(kind, palette(), 22, 26)),
    );
    byId("masks").replaceChildren(
      values("shift", "shift mask", shift, 0, wrong),
      values("exact", "exact mask", exact),
      lane("kinds", "what each cell is", tiles, ""),
    );
    byId("reasons").replaceChildren(
      ...(differences.length
        ? differences.map(({ t, reason }) =>
            make("li", { "data-t": String(t), "data-reason": reason }, make("b", {}, `Step ${t}, ${KIND_LABELS[reason]}: `), `${reasons[reason] ?? reason}.`),
          )
        : [make("li", { class: "agree" }, "Both masks agree on every step.")]),
    );
    const bits = { filled: filled.join(""), terminated: terminated.join("") };
    const words = ["endmark explain", `--filled ${bits.filled}`, `--terminated ${bits.terminated}`];
    byId("command").replaceChildren(...words.flatMap((part, i) => [i ? " " : "", make("span", {}, part)]));
    byId("steps").textContent = `T = ${steps()}`;
    /** @type {HTMLButtonElement} */ (byId("shorter")).disabled = steps() <= 1;
    /** @type {HTMLButtonElement} */ (byId("longer")).disabled = steps() >= LONGEST;
    presets.querySelectorAll("button").forEach((button, i) => {
      const same = PRESETS[i].filled === bits.filled && PRESETS[i].terminated === bits.terminated;
      button.setAttribute("aria-pressed", String(same));
    });
  }

  inputs.addEventListener("keydown", (event) => {
    const { flag, t } = focus;
    /** @type {Record<string, [Flag, number]>} */
    const moves = {
      ArrowLeft: [flag, Math.max(0, t - 1)],
      ArrowRight: [flag, Math.min(steps(), t + 1)],
      ArrowUp: ["filled", t],
      ArrowDown: ["terminated", t],
      Home: [flag, 0],
      End: [flag, steps()],
    };
    const move = moves[event.key];
    if (!move) return;
    event.preventDefault();
    buttonOf(...move).focus();
  });
  byId("shorter").addEventListener("click", () => {
    if (steps() <= 1) return;
    for (const flag of flagNames) flags[flag].pop();
    rebuild();
  });
  byId("longer").addEventListener("click", () => {
    if (steps() >= LONGEST) return;
    for (const flag of flagNames) flags[flag].push(0);
    rebuild();
  });
  presets.replaceChildren(
    ...PRESETS.map(({ name, filled, terminated }) => {
      const button = make("button", { type: "button" }, name);
      button.addEventListener("click", () => {
        flags.filled = toBits(filled);
        flags.terminated = toBits(terminated);
        rebuild();
      });
      return button;
    }),
  );
  rebuild();
  return { repaint: update };
}
