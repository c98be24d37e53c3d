// A long list that is drawn as it is scrolled: blocks of cards, of which only those near the window are filled.

const BLOCK = 8;
const MOST_PRINTED = 400;
const list = document.getElementById("list");
let shown = []; // the questions that pass the filters, by their places in the document
let chosenOf = () => 0; // the run whose answer is highlighted in a question
let usual = 420; // a block's height per card until it was measured

const watcher = new IntersectionObserver(
  (entries) => entries.forEach((entry) => (entry.isIntersecting ? fill(entry.target) : empty(entry.target))),
  { rootMargin: "800px 0px" },
);

function cardsOf(number) {
  const from = number * BLOCK;
  return shown.slice(from, from + BLOCK).map((index, place) => cardOf(index, from + place, shown.length, chosenOf(data.questions[index])));
}

function fill(block) {
  if (block.firstChild) return;
  block.append(...cardsOf(Number(block.dataset.block)));
  block.style.height = "";
  usual = block.offsetHeight / block.children.length || usual;
}

// Out of sight it keeps its place, so that nothing jumps; a block that has the keyboard's focus stays.
function empty(block) {
  if (!block.firstChild || block.contains(document.activeElement)) return;
  block.style.height = `${block.offsetHeight}px`;
  block.replaceChildren();
}

function show(indices, chooser) {
  shown = indices;
  chosenOf = chooser;
  watcher.disconnect();
  list.replaceChildren();
  if (!shown.length) list.append(el("p", { class: "nothing" }, "No question is like that."));
  for (let number = 0; number * BLOCK < shown.length; number += 1) {
    const block = el("div", { "data-block": number });
    block.style.height = `${usual * Math.min(BLOCK, shown.length - number * BLOCK)}px`;
    list.append(block);
    if (number === 0) fill(block);
    watcher.observe(block);
  }
}

// One card is drawn again, the keyboard's focus stays on the same button.
function redraw(article, selector) {
  const place = Number(article.getAttribute("aria-posinset")) - 1;
  const made = cardOf(shown[place], place, shown.length, chosenOf(data.questions[shown[place]]));
  article.replaceWith(made);
  made.querySelector(selector)?.focus({ preventScroll: true });
}

list.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const kind = button.dataset.best ? "best" : "whole";
  const key = button.dataset[kind];
  if (!opened.delete(key)) opened.add(key);
  redraw(button.closest("article"), `[data-${kind}="${key}"]`);
});

// To the next card or the one before, also where its block is not filled yet.
function step(by) {
  const here = document.activeElement.closest?.("article");
  const place = here ? Number(here.getAttribute("aria-posinset")) - 1 + by : 0;
  const block = list.children[Math.floor(place / BLOCK)];
  if (place < 0 || place >= shown.length || !block) return;
  fill(block);
  const article = block.children[place % BLOCK];
  article.focus({ preventScroll: true });
  article.scrollIntoView({ block: "start" });
}

window.addEventListener("beforeprint", () => [...list.children].slice(0, MOST_PRINTED / BLOCK).forEach((block) => block.dataset.block && fill(block)));
