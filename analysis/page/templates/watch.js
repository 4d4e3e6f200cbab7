"use strict";
const SECONDS = 3;
const tabs = [...document.querySelectorAll("nav button")];
const running = document.getElementById("running");
const trouble = document.getElementById("trouble");
const main = document.querySelector("main");
let chosen = 0, loaded = "", shown = null, sweeps = [];

// A new report replaces the shown one once it is loaded completely, at the same scroll position.
function load(number, version) {
  const wanted = `${number}/${version}`;
  if (wanted === loaded) return;
  const same = loaded.startsWith(`${number}/`);
  loaded = wanted;
  for (const old of main.querySelectorAll(".next")) old.remove();
  const next = document.createElement("iframe");
  next.className = "next";
  next.title = "Report";
  next.addEventListener("load", () => {
    if (same && shown) next.contentWindow.scrollTo({ top: shown.contentWindow.scrollY, behavior: "instant" });
    next.className = "";
    if (shown) shown.remove();
    shown = next;
  });
  next.src = `/report/${number}/`;
  main.append(next);
}

function element(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function show() {
  tabs.forEach((tab, number) => {
    tab.setAttribute("aria-pressed", String(number === chosen));
    tab.querySelector("span").textContent = sweeps[number].words;
  });
  const sweep = sweeps[chosen];
  running.replaceChildren(...sweep.running.map((trial) => {
    const line = document.createElement("li"), bar = document.createElement("progress");
    bar.max = trial.epochs;
    bar.value = trial.epoch;
    line.append(element("b", trial.trial), bar, element("span", `epoch ${trial.epoch}/${trial.epochs}  ${trial.value}`));
    return line;
  }));
  load(chosen, sweep.version);
}

async function look() {
  try {
    const answer = await fetch("/state", { cache: "no-store" });
    if (!answer.ok) throw new Error(await answer.text());
    sweeps = await answer.json();
    trouble.hidden = true;
    show();
  } catch {
    trouble.hidden = false;
  }
  setTimeout(look, 1000 * SECONDS);
}

tabs.forEach((tab, number) => tab.addEventListener("click", () => {
  chosen = number;
  if (sweeps.length) show();
}));
look();
