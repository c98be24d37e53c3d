"use strict";
// One question as a card. Texts from the document become text nodes, never markup.

const data = JSON.parse(document.getElementById("data").textContent);
const opened = new Set(); // "question/run" whose n-best list is open, and "question" whose whole context is shown
const NEAR = 320; // of a long context, so much is shown on either side of what is marked
const LONG = 1400;

function el(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null) made.setAttribute(key, String(value));
  }
  made.append(...children);
  return made;
}

const bdi = (text) => el("bdi", {}, text);
const figure = (value, digits) => (value === null ? "–" : value.toFixed(digits));

function textOf(span, question) {
  return span.length > 3 ? span[3] : data.contexts[question.context].slice(span[0], span[1]);
}

const inContext = (span) => span.length === 3 && span[1] > span[0];

// Known answers come without a place: each is looked for where it is nearest to the answer given.
function placesOfTruth(question, near) {
  const context = data.contexts[question.context];
  const places = [];
  for (const gold of new Set(question.golds)) {
    let best = null;
    for (let at = gold ? context.indexOf(gold) : -1; at >= 0; at = context.indexOf(gold, at + 1)) {
      if (best === null || Math.abs(at - near) < Math.abs(best - near)) best = at;
    }
    if (best !== null) places.push([best, best + gold.length]);
  }
  return places;
}

function marksOf(question, chosen) {
  const marks = [];
  question.runs.forEach((answer, run) => {
    if (inContext(answer.at)) marks.push([answer.at[0], answer.at[1], run === chosen ? "answer" : "other"]);
  });
  const near = inContext(question.runs[chosen].at) ? question.runs[chosen].at[0] : 0;
  for (const [start, end] of placesOfTruth(question, near)) marks.push([start, end, "truth"]);
  return marks;
}

// The pieces between `from` and `to`, each with the classes of the marks that cover it.
function painted(text, marks, from, to) {
  const edges = [from, to, ...marks.flatMap(([start, end]) => [start, end])].filter((edge) => edge >= from && edge <= to);
  const cuts = [...new Set(edges)].sort((a, b) => a - b);
  return cuts.slice(1).map((end, place) => {
    const start = cuts[place];
    const kinds = new Set(marks.filter((mark) => mark[0] <= start && mark[1] >= end).map((mark) => mark[2]));
    if (kinds.has("answer")) kinds.delete("other");
    const piece = text.slice(start, end);
    return kinds.size ? el("mark", { class: [...kinds].join(" ") }, piece) : document.createTextNode(piece);
  });
}

function contextOf(question, index, chosen) {
  const text = data.contexts[question.context];
  const marks = marksOf(question, chosen);
  const made = el("p", { class: "context", dir: "auto" });
  let from = 0;
  let to = text.length;
  const long = text.length > LONG;
  if (long && !opened.has(`${index}`)) {
    from = marks.length ? Math.max(0, Math.min(...marks.map((mark) => mark[0])) - NEAR) : 0;
    to = marks.length ? Math.min(text.length, Math.max(...marks.map((mark) => mark[1])) + NEAR) : 2 * NEAR;
    from = from && text.indexOf(" ", from) + 1;
    to = to < text.length && text.lastIndexOf(" ", to) > from ? text.lastIndexOf(" ", to) : to;
  }
  made.append(from > 0 ? "… " : "", ...painted(text, marks, from, to), to < text.length ? " …" : "");
  if (long) {
    const whole = opened.has(`${index}`);
    made.append(el("button", { type: "button", class: "quiet", "data-whole": index, "aria-expanded": whole }, whole ? "Show less" : "Show all of the text"));
  }
  return made;
}

function answerText(span, question) {
  const text = textOf(span, question);
  return text ? el("bdi", {}, text) : el("span", { class: "empty" }, "no answer");
}

function verdictOf(answer) {
  const words = [];
  if (answer.exact !== null) {
    const half = !answer.exact && answer.f1 > 0;
    words.push(el("span", { class: answer.exact ? "verdict good" : half ? "partly" : "verdict bad" }, answer.exact ? "right" : half ? "partly" : "wrong"));
  }
  if (!answer.agrees) words.push(el("small", {}, "differs from the reference"));
  return words;
}

function bestOf(question, answer, id) {
  const list = el("ol", { class: "best", id });
  for (const span of answer.best) {
    const fill = el("span");
    fill.style.width = `${100 * (span[2] ?? 0)}%`;
    list.append(el("li", {}, answerText(span, question), el("span", { class: "meter", "aria-hidden": "true" }, fill), el("span", { class: "n" }, figure(span[2], 3))));
  }
  return list;
}

function rowsOf(question, index, run, chosen) {
  const answer = question.runs[run];
  const key = `${index}/${run}`;
  const open = opened.has(key);
  const id = `best-${index}-${run}`;
  const button = el("button", { type: "button", class: "quiet", "data-best": key, "aria-expanded": open, "aria-controls": id, "aria-label": `n-best of ${data.runs[run]}` }, "n-best");
  const row = el(
    "tr",
    { class: run === chosen ? "chosen" : null },
    el("th", { scope: "row" }, el("span", { class: `swatch s${run % 8}`, "aria-hidden": "true" }), bdi(data.runs[run])),
    el("td", {}, answerText(answer.at, question)),
    el("td", {}, ...verdictOf(answer)),
    el("td", { class: "n", "data-label": "F1" }, answer.f1 === null ? "–" : figure(100 * answer.f1, 0)),
    el("td", { class: "n", "data-label": "confidence" }, figure(answer.at[2], 3)),
    el("td", {}, answer.best.length ? button : ""),
  );
  if (!open) return [row];
  return [row, el("tr", { class: "more" }, el("td", { colspan: 6 }, bestOf(question, answer, id)))];
}

function answersOf(question, index, chosen) {
  const heads = ["Run", "Answer", "Verdict", "F1", "Confidence"].map((name, place) => el("th", { scope: "col", class: place > 2 ? "n" : null }, name));
  heads.push(el("th", { scope: "col" }, el("span", { class: "unseen" }, "Other candidates")));
  const rows = question.runs.flatMap((_, run) => rowsOf(question, index, run, chosen));
  return el("table", { class: "answers" }, el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...rows));
}

function knownOf(question) {
  const line = el("p", { class: "known" });
  const golds = [...new Set(question.golds)];
  if (question.impossible) line.append(el("span", { class: "label" }, "Known to have "), "no answer");
  else if (golds.length) {
    line.append(el("span", { class: "label" }, golds.length > 1 ? "Known answers: " : "Known answer: "));
    golds.forEach((gold, place) => line.append(place ? " · " : "", bdi(gold)));
  } else return "";
  return line;
}

function cardOf(index, place, total, chosen) {
  const question = data.questions[index];
  const heading = `question-${index}`;
  const about = el("p", { class: "about" }, ...(question.title ? [bdi(question.title), " · "] : []), el("span", { class: "id" }, bdi(question.id)));
  const reference = el("p", { class: "known" }, el("span", { class: "label" }, "Reference: "), answerText(question.reference, question));
  return el(
    "article",
    { tabindex: 0, "aria-labelledby": heading, "aria-posinset": place + 1, "aria-setsize": total, "data-index": index },
    el("h3", { id: heading, dir: "auto" }, question.question),
    about,
    el("div", { class: "columns" }, el("div", {}, contextOf(question, index, chosen), knownOf(question), reference), answersOf(question, index, chosen)),
  );
}
