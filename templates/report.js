// What is shown: search, filters and order. They stand in the address, so that a view can be kept and sent.

const controls = document.getElementById("controls");
const search = document.getElementById("search");
const runChoice = document.getElementById("run");
const order = document.getElementById("order");
const filters = [...controls.querySelectorAll("[data-filter]")];
const TESTS = {
  wrong: (answer) => answer.exact === false,
  differs: (answer) => answer.agrees === false,
  none: (answer, question) => textOf(answer.at, question) === "",
};
const ORDERS = { f1: (answer) => answer.f1 ?? 2, sure: (answer) => answer.at[2] ?? 2 };

const plain = (text) => text.toLowerCase().normalize("NFKC");
const plainContexts = [];
const plainQuestions = [];

function contextHas(context, words) {
  plainContexts[context] ??= plain(data.contexts[context]);
  return plainContexts[context].includes(words);
}

function questionHas(index, words) {
  const question = data.questions[index];
  plainQuestions[index] ??= plain([question.id, question.question, question.title, ...question.golds, ...question.runs.map((answer) => textOf(answer.at, question))].join("\n"));
  return plainQuestions[index].includes(words) || contextHas(question.context, words);
}

const answersMeant = (question) => (runChoice.value === "" ? question.runs : [question.runs[Number(runChoice.value)]]);
const passes = (question, filter) => answersMeant(question).some((answer) => TESTS[filter](answer, question));

const pressed = () => filters.filter((button) => button.getAttribute("aria-pressed") === "true").map((button) => button.dataset.filter);

// Highlighted is the answer of the chosen run; where none is chosen, of the first that meets the filters.
function chosen(question) {
  if (runChoice.value !== "") return Number(runChoice.value);
  const wanted = pressed();
  return Math.max(0, question.runs.findIndex((answer) => wanted.every((filter) => TESTS[filter](answer, question))));
}

function found() {
  const words = plain(search.value.trim());
  const wanted = pressed();
  const indices = [];
  data.questions.forEach((question, index) => {
    if (wanted.every((filter) => passes(question, filter)) && (!words || questionHas(index, words))) indices.push(index);
  });
  const key = ORDERS[order.value];
  if (!key) return indices;
  const keys = new Map(indices.map((index) => [index, Math.min(...answersMeant(data.questions[index]).map(key))]));
  return indices.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
}

function count() {
  for (const button of filters) {
    const total = data.questions.reduce((sum, question) => sum + passes(question, button.dataset.filter), 0);
    button.querySelector(".n").textContent = total.toLocaleString("en");
  }
}

function refresh() {
  const indices = found();
  show(indices, chosen);
  document.getElementById("shown").textContent = `${indices.length.toLocaleString("en")} of ${data.questions.length.toLocaleString("en")} questions`;
}

function remember() {
  const view = new URLSearchParams();
  if (search.value) view.set("q", search.value);
  if (pressed().length) view.set("only", pressed().join(" "));
  if (runChoice.value) view.set("run", runChoice.value);
  if (order.value) view.set("order", order.value);
  const hash = view.toString();
  if (hash || location.hash) history.replaceState(null, "", `#${hash}`);
}

function recall() {
  const view = new URLSearchParams(location.hash.slice(1));
  const wanted = new Set((view.get("only") ?? "").split(" "));
  search.value = view.get("q") ?? "";
  runChoice.value = view.get("run") ?? "";
  order.value = view.get("order") ?? "";
  for (const choice of [runChoice, order]) if (choice.selectedIndex < 0) choice.value = "";
  for (const button of filters) button.setAttribute("aria-pressed", String(wanted.has(button.dataset.filter)));
}

function changed() {
  remember();
  refresh();
}

let pause = 0;
search.addEventListener("input", () => {
  clearTimeout(pause);
  pause = setTimeout(changed, 120);
});
controls.addEventListener("submit", (event) => event.preventDefault());
order.addEventListener("change", changed);
runChoice.addEventListener("change", () => {
  count();
  changed();
});
for (const button of filters) {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    changed();
  });
}
window.addEventListener("hashchange", () => {
  if (document.getElementById(location.hash.slice(1))) return remember(); // a link to a part of the page
  recall();
  count();
  return refresh();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target === search) {
    search.value = "";
    changed();
  }
  if (event.target.matches("input, select")) return;
  if (event.key === "/") {
    event.preventDefault();
    search.focus();
  }
  if (event.key === "j") step(1);
  if (event.key === "k") step(-1);
});

const theme = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => (theme.textContent = isDark() ? "Light" : "Dark");
theme.addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  nameTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", nameTheme);

data.runs.forEach((name, run) => runChoice.append(el("option", { value: run }, name)));
nameTheme();
theme.hidden = false;
controls.hidden = false;
recall();
count();
refresh();
