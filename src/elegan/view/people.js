"use strict";
const { style, choices, of, width, height, texts } = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const root = location.pathname.replace(/\/*$/, "/");

// ---- words, in the browser's language if there are any

const wanted = navigator.languages.find((name) => /^(en|zh)\b/i.test(name)) ?? "en";
const language = /^zh/i.test(wanted) ? "zh-CN" : "en";
const say = (name, values = {}) => texts[language][name].replace(/\{(\w+)\}/g, (_, key) => values[key]);
const share = (x) => new Intl.NumberFormat(language, { style: "percent", maximumFractionDigits: 1 }).format(x);
document.documentElement.lang = language;
document.title = `${say("title")} · elegan`;
for (const part of document.querySelectorAll("[data-text]")) part.textContent = say(part.dataset.text);
at("about").textContent = say(style === "pair" ? "about_pair" : "about");
at("many").textContent = say("many", { n: of });
at("asked").textContent = say(style === "pair" ? "which" : "title");

// ---- theme, as the page of a run has it

const themes = ["system", "light", "dark"];
const kept = (store, name) => { try { return store.getItem(name); } catch { return null; } };
const keep = (store, name, value) => { try { store.setItem(name, value); } catch { /* then not */ } };
function useTheme(name) {
  document.documentElement.dataset.theme = name;
  at("theme").textContent = `${say("theme")}: ${say(name)}`;
}
useTheme(themes.includes(kept(localStorage, "elegan-theme")) ? kept(localStorage, "elegan-theme") : "system");
at("theme").addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length];
  useTheme(next);
  keep(localStorage, "elegan-theme", next);
});

// ---- one question after the other

let person = "";
let open = null; // the question on the screen, null while there is none to answer
const show = (name) => {
  for (const part of ["welcome", "question", "end", "trouble"]) at(part).hidden = part !== name;
};

async function tell(where, body) {
  open = null;
  let answer, told;
  try {
    answer = await fetch(root + where, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body),
    });
    told = await answer.json();
  } catch {
    return trouble(say("gone"), where, body);
  }
  if (answer.status === 409) return tell("question", { person }); // answered already: go on where it is
  if (!answer.ok) return trouble(say("trouble", { reason: told.error }), where, body);
  person = told.person;
  keep(sessionStorage, "elegan-person", person);
  if (told.result) return end(told.result);
  await put(told);
}

function trouble(reason, where, body) {
  at("reason").textContent = reason;
  at("retry").onclick = () => tell(where, body);
  show("trouble");
  at("retry").focus();
}

async function put(told) {
  const pictures = await Promise.all(told.pictures.map(async (name, k) => {
    const picture = new Image(width, height);
    picture.alt = style === "pair" ? say(choices[k]) : say("picture");
    picture.src = `${root}picture/${name}`;
    if (Math.max(width, height) < 256) picture.className = "pixels";
    await picture.decode().catch(() => {});
    return picture;
  }));
  at("shown").replaceChildren(...pictures.map((picture, k) => {
    if (style !== "pair") return picture;
    picture.addEventListener("click", () => choose(k));
    return picture;
  }));
  at("bar").max = of;
  at("bar").value = told.number;
  at("count").textContent = say("progress", { k: told.number + 1, n: of });
  show("question");
  open = told.question;
}

function choose(k) {
  if (open !== null) tell("answer", { person, question: open, answer: choices[k] });
}

at("shown").className = style;
at("shown").style.setProperty("--side", `${width}px`); // what is large is shown large
at("choices").replaceChildren(...choices.map((name, k) => {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "main";
  const arrow = document.createElement("span");
  arrow.setAttribute("aria-hidden", "true");
  arrow.textContent = "←→"[k];
  button.append(...(k ? [say(name), arrow] : [arrow, say(name)]));
  button.setAttribute("aria-keyshortcuts", ["ArrowLeft", "ArrowRight"][k]);
  button.addEventListener("click", () => choose(k));
  return button;
}));
document.addEventListener("keydown", (event) => {
  const k = ["ArrowLeft", "ArrowRight"].indexOf(event.key);
  if (k < 0 || event.repeat || event.altKey || event.ctrlKey || event.metaKey || event.target.tagName === "INPUT") return;
  if (open !== null) event.preventDefault();
  choose(k);
});

// ---- the result

function end({ yours, all }) {
  at("thanks").textContent = say("done", { person });
  const parts = [["yours", yours, ""], ["all", all, say(all.people === 1 ? "of_person" : "of_people", { n: all.people })]];
  at("results").replaceChildren(...parts.map(([name, rate, people]) => {
    const part = document.createElement("section");
    const lines = [
      ["h2", say(name)], ["strong", share(rate.wrong / rate.answers)], ["p", say("wrong", rate)],
      ["p", say("between", { low: share(rate.low), high: share(rate.high) })], ["p", people],
    ];
    for (const [tag, text] of lines) {
      const line = document.createElement(tag);
      line.textContent = text;
      if (text) part.append(line);
    }
    return part;
  }));
  show("end");
}

at("again").addEventListener("click", () => {
  keep(sessionStorage, "elegan-person", "");
  at("person").value = "";
  show("welcome");
  at("person").focus();
});
at("start").addEventListener("submit", (event) => {
  event.preventDefault();
  tell("question", { person: at("person").value });
});
person = kept(sessionStorage, "elegan-person") || "";
if (person) tell("question", { person });
else show("welcome");
