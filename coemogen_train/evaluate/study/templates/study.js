"use strict";
// One question at a time. Everything is inside this page, and nothing leaves it but the file that is saved.

const at = (id) => document.getElementById(id);
const study = JSON.parse(at("study").textContent);
const SHELF = "study-" + study.study;
const PAUSE = 250; // milliseconds in which a second press is not yet an answer
let mine, screens = [], shownAt = 0, ready = 0, started = false;

// A small generator of random numbers, seeded by the rater's own: a page that is opened again asks the same.
function dice(seed) {
  let state = 0x9e3779b9;
  for (const letter of seed) state = Math.imul(state ^ letter.charCodeAt(0), 0x85ebca6b) ^ (state >>> 13);
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return Math.floor((((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296) * below);
  };
}

function shuffled(list, roll) {
  const out = [...list];
  for (let last = out.length - 1; last > 0; last--) {
    const other = roll(last + 1);
    [out[last], out[other]] = [out[other], out[last]];
  }
  return out;
}

// Which trials this rater sees, in which order, on which side: a run of the pairs, and all checks in between.
// The run goes round from the last pair to the first, so that every pair is seen as often as any other.
function laidOut(rater) {
  const roll = dice(rater);
  const asked = study.trials.filter((trial) => !trial.always);
  const pairs = [...new Set(asked.map((trial) => trial.pair))];
  const begin = roll(pairs.length);
  const chosen = shuffled(pairs.map((_, i) => pairs[(begin + i) % pairs.length]).slice(0, study.pairs), roll);
  const blocks = chosen.map((pair) => asked.filter((trial) => trial.pair === pair));
  const checks = shuffled(study.trials.filter((trial) => trial.always), roll);
  checks.forEach((check, i) => {
    const stretch = chosen.length / checks.length; // one check in each stretch of the pairs
    const place = 1 + Math.floor(i * stretch) + roll(Math.max(Math.floor(stretch), 1));
    blocks.splice(Math.min(place + i, blocks.length), 0, [check]);
  });
  return blocks.flat().flatMap((trial) => {
    const sides = roll(2) ? [trial.options[1], trial.options[0]] : trial.options;
    return trial.questions.map((question) => ({ trial: trial.id, question, sides }));
  });
}

function fresh() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return { rater: Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""), answers: [] };
}

function keep() {
  try {
    localStorage.setItem(SHELF, JSON.stringify(mine));
  } catch {
    tell("This browser keeps nothing for this page: please answer all questions without closing it.");
  }
}

function kept() {
  try {
    const found = JSON.parse(localStorage.getItem(SHELF));
    if (/^[0-9a-f]{16}$/.test(found.rater) && Array.isArray(found.answers)) return found;
  } catch { /* nothing kept, or nothing that can be read */ }
  return null;
}

function tell(text) {
  at("problem").textContent = text;
  at("problem").hidden = !text;
}

function put(side, option, letter) {
  const holder = at("pictures-" + side);
  holder.className = option.pictures.length > 1 ? "pictures several" : "pictures";
  holder.replaceChildren(...option.pictures.map((name, i) => {
    const picture = new Image();
    picture.src = study.pictures[name];
    picture.alt = `Picture ${letter}` + (option.pictures.length > 1 ? `, ${i + 1} of ${option.pictures.length}` : "");
    picture.addEventListener("click", () => enlarge(picture));
    return picture;
  }));
}

function enlarge(picture) {
  const large = new Image();
  large.src = picture.src;
  large.alt = picture.alt;
  at("large").replaceChildren(large);
  at("large").showModal();
}

let pictured = "";
function show() {
  const done = mine.answers.length;
  at("start").hidden = started;
  at("desk").hidden = !started || done >= screens.length;
  at("end").hidden = !started || done < screens.length;
  if (!started || done >= screens.length) {
    pictured = "";
    return;
  }
  const { trial, question, sides } = screens[done];
  at("place").textContent = `${done + 1} of ${screens.length}`;
  at("progress").value = done / screens.length;
  at("question").textContent = question.text;
  at("hint").textContent = question.hint;
  if (pictured !== trial) {
    put("a", sides[0], "A");
    put("b", sides[1], "B");
    pictured = trial;
    ready = performance.now() + PAUSE;
  }
  at("undone").disabled = done === 0;
  shownAt = performance.now();
}

function choose(pick) {
  const screen = screens[mine.answers.length];
  const now = performance.now();
  if (!started || !screen || now < ready) return;
  const choice = { a: screen.sides[0].id, b: screen.sides[1].id, equal: "equal" }[pick];
  const seconds = Math.min(Math.round((now - shownAt) / 10) / 100, 100000);
  mine.answers.push({ trial: screen.trial, question: screen.question.name, choice, first: screen.sides[0].id, seconds });
  ready = now + PAUSE;
  keep();
  show();
  if (mine.answers.length >= screens.length) at("save").focus();
}

function undo() {
  if (!started || !mine.answers.length) return;
  mine.answers.pop();
  keep();
  show();
}

const result = () => JSON.stringify({ format: 1, study: study.study, rater: mine.rater, finished: mine.answers.length >= screens.length, answers: mine.answers });

function save() {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([result()], { type: "application/json" }));
  link.download = `study-${study.study.slice(0, 8)}-${mine.rater}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  at("told").textContent = `Saved as ${link.download}, where your browser puts downloads.`;
}

async function copy() {
  at("answers").hidden = false;
  at("answers").value = result();
  at("answers").select();
  try {
    await navigator.clipboard.writeText(result());
    at("told").textContent = "Copied: paste them into a message to whoever gave you this page.";
  } catch {
    at("told").textContent = "Copy the text below into a message to whoever gave you this page.";
  }
}

function another() {
  if (!confirm("Has the file with the answers been saved? They will be removed from this device.")) return;
  begin(fresh(), false);
}

function begin(who, going) {
  mine = who;
  screens = laidOut(mine.rater);
  // What was kept must fit what is asked: the rest is forgotten.
  const fits = mine.answers.findIndex((given, i) => !screens[i] || given.trial !== screens[i].trial || given.question !== screens[i].question.name);
  if (fits >= 0) mine.answers.length = fits;
  started = going;
  at("told").textContent = "";
  at("answers").hidden = true;
  at("length").textContent = `There are ${screens.length} questions, which take about ${Math.max(1, Math.round(screens.length * 6 / 60))} minutes.`;
  at("begin").textContent = mine.answers.length ? "Go on" : "Start";
  keep();
  show();
}

const acts = {
  "choose-a": () => choose("a"), "choose-b": () => choose("b"), "choose-equal": () => choose("equal"),
  undone: undo, back: undo, save, copy, another,
  begin: () => { started = true; show(); at("question").focus(); },
};
at("large").addEventListener("click", () => at("large").close());
for (const [id, act] of Object.entries(acts)) at(id).addEventListener("click", act);
const keys = { a: "choose-a", arrowleft: "choose-a", b: "choose-b", arrowright: "choose-b", e: "choose-equal", u: "undone" };
document.addEventListener("keydown", (event) => {
  const act = keys[event.key.toLowerCase()];
  if (!act || !started || at("large").open || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  acts[act]();
});
begin(kept() || fresh(), false);
