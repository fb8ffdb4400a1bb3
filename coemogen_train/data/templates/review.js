"use strict";
// One caption at a time. Whatever comes from the set is put in as text, never as markup.

const at = (id) => document.getElementById(id);
const STATES = { accepted: "Accepted", mended: "Mended", rejected: "Rejected" };
let total = 0, place = 0, item = null, busy = false, ended = false;

// Characters that cannot be seen are written out: they could hide what a caption says.
const visible = (text) => text.replace(/(?!\n)[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Cs}]/gu, (c) => "\\u{" + c.codePointAt(0).toString(16) + "}");

async function ask(door, told) {
  const options = told === undefined ? {} : {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(told),
  };
  let response;
  try {
    response = await fetch(door, options);
  } catch {
    throw new Error("The review has ended, or the command was stopped. What you said until now is kept.");
  }
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function tell(text) {
  at("message").textContent = text;
  at("message").hidden = !text;
}

function count(answer) {
  total = answer.total;
  const given = answer.given;
  at("counts").textContent = `${given.accepted} accepted, ${given.mended} mended, ${given.rejected} rejected`;
  at("progress").value = total ? (given.accepted + given.mended + given.rejected) / total : 0;
}

function fact(name, value, warn) {
  if (value === null || value === undefined || value === "") return;
  const term = document.createElement("dt"), said = document.createElement("dd");
  term.textContent = name;
  said.textContent = visible(String(value));
  said.dir = "auto";
  if (warn) said.className = "warn";
  at("facts").append(term, said);
}

function show() {
  at("desk").hidden = false;
  const picture = "picture?id=" + encodeURIComponent(item.id);
  if (at("picture").getAttribute("src") !== picture) {
    at("picture").hidden = false;
    at("nothing").hidden = true;
    at("picture").src = picture;
  }
  at("emotion").textContent = item.emotion;
  at("caption").textContent = item.caption ? visible(item.caption) : "No caption";
  at("caption").className = item.caption ? "" : "none";
  at("state").textContent = STATES[item.review] ? STATES[item.review] + (item.given ? "" : " earlier") : "";
  at("state").className = item.review || "";
  at("undone").disabled = !item.given;
  at("accepted").disabled = !item.caption && !item.draft;
  at("what").textContent = item.caption ? "" : "the draft ";
  at("back").disabled = place === 0;
  at("next").disabled = place + 1 >= total;
  at("place").textContent = `${place + 1} of ${total}`;
  at("facts").replaceChildren();
  fact("set aside because", item.faults.join(", "), true);
  fact(item.caption ? "before" : "draft", item.draft);
  fact("the sentence alone says", item.says, item.says !== item.emotion);
  if (item.similarity !== null) fact("similarity", item.similarity.toFixed(4) + (item.dropped ? ", dropped by the filter" : ""), item.dropped);
  fact("written by", { given: "the source", model: "a model", person: "a person" }[item.origin] || item.origin);
  fact("split", item.split);
  fact("id", item.id);
}

async function go(to) {
  const answer = await ask(`items?start=${to}&count=2`);
  count(answer);
  at("title").textContent = answer.title;
  if (!answer.items.length) {
    if (!total) tell("There is nothing to review here.");
    return;
  }
  stopMending();
  [place, item] = [to, answer.items[0]];
  show();
  if (answer.items[1]) new Image().src = "picture?id=" + encodeURIComponent(answer.items[1].id);
}

async function judge(decision, caption) {
  const told = { position: place, id: item.id, decision };
  const answer = await ask("verdict", caption === undefined ? told : { ...told, caption });
  count(answer);
  item = answer.item;
  stopMending();
  show();
  if (decision === "undone") return;
  if (place + 1 < total) await go(place + 1);
  else tell("That was the last one.");
}

function mend() {
  at("text").value = item.caption || item.draft;
  at("mending").hidden = false;
  at("caption").hidden = at("actions").hidden = true;
  at("text").focus();
}

function stopMending() {
  at("mending").hidden = true;
  at("caption").hidden = at("actions").hidden = false;
}

async function finish() {
  await ask("finish", {});
  ended = true;
  at("desk").hidden = at("finish").hidden = true;
  tell("The review has ended, and the command takes your verdicts into the set. This page can be closed.");
}

// One thing at a time: a key held down must not judge what was not seen.
async function once(work) {
  if (busy || ended || (item === null && work !== finish)) return;
  busy = true;
  tell("");
  try {
    await work();
  } catch (error) {
    tell(error.message);
  }
  busy = false;
}

const mending = () => !at("mending").hidden;
const acts = {
  accepted: () => once(() => judge("accepted")),
  rejected: () => once(() => judge("rejected")),
  undone: () => once(async () => { if (item.given) await judge("undone"); }),
  mend: () => once(mend),
  cancel: stopMending,
  back: () => once(async () => { if (place > 0) await go(place - 1); }),
  next: () => once(async () => { if (place + 1 < total) await go(place + 1); }),
  finish: () => once(finish),
};
const keys = { a: "accepted", r: "rejected", u: "undone", e: "mend", arrowleft: "back", arrowright: "next" };

for (const [id, act] of Object.entries(acts)) at(id).addEventListener("click", act);
at("mending").addEventListener("submit", (event) => {
  event.preventDefault();
  once(() => judge("mended", at("text").value));
});
at("picture").addEventListener("error", () => {
  at("picture").hidden = true;
  at("nothing").hidden = false;
});
document.addEventListener("keydown", (event) => {
  if (mending()) {
    if (event.key === "Escape") stopMending();
    else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      at("mending").requestSubmit();
    }
    return;
  }
  const act = keys[event.key.toLowerCase()];
  if (!act || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  acts[act]();
});
item = null;
(async () => {
  try {
    await go(0);
  } catch (error) {
    tell(error.message);
  }
})();
