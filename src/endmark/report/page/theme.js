// @ts-check
// Light or dark: as the system has it, until a person chooses.

const root = document.documentElement;
const button = /** @type {HTMLButtonElement} */ (document.getElementById("theme"));
const dark = matchMedia("(prefers-color-scheme: dark)");
/** @type {string | null} */
let chosen = null;

function show() {
  const theme = chosen ?? (dark.matches ? "dark" : "light");
  const other = theme === "dark" ? "Light" : "Dark";
  root.dataset.theme = theme;
  button.textContent = other;
  button.setAttribute("aria-label", `${other} colours`);
}

button.addEventListener("click", () => {
  chosen = root.dataset.theme === "dark" ? "light" : "dark";
  show();
});
dark.addEventListener("change", show);
addEventListener("beforeprint", () => { root.dataset.theme = "light"; });
addEventListener("afterprint", show);
show();
