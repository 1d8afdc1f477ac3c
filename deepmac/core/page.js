// What the windows in the browser share: each joins this with its own scripts.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (typeof value === "boolean" && !name.startsWith("aria-")) made.toggleAttribute(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

const GONE = "The kernel was restarted, or is gone: run the cells again.";

// Black or white, whichever is read more easily on a colour "#rrggbb".
function inkOn(color) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 140 ? "#000" : "#fff";
}

// Whether a key saves the notebook, which is never the window's affair.
const saves = (event) => (event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "s";
