// All trials from the data in the page: a plane of any two of their values, a table, and the trial that was chosen.
(() => {
  const { studies, rows, beside } = JSON.parse(document.getElementById("trial-data").textContent);
  const root = document.getElementById("trial-table");
  const [head, body] = [root.querySelector("thead tr"), root.querySelector("tbody")];
  const [input, count, more] = ["input", ".count", "p > button"].map((s) => root.querySelector(s));
  const [FEW, MANY] = [25, 500]; // rows at first, and with each "show more"
  const number = (v) => (v === null ? "–" : typeof v !== "number" ? String(v) : Number(v.toPrecision(3)).toString());
  const values = (r) => studies[r[0]].knobs.map((k, i) => (r[7][i] === null ? "" : `${k}=${number(r[7][i])}`)).join("  ");
  const columns = [
    ["study", (r) => r[0]], // in the order of the leaderboard
    ["#", (r) => r[1]],
    ["state", (r) => r[3].replace("_", " ")],
    ["value", (r) => r[4]],
    ["epochs", (r) => r[5]],
    ["seconds", (r) => r[6]],
    ["values", values],
    ["reason", (r) => r[8]],
  ];
  let [shown, key, up, limit] = [rows, 0, true, FEW];

  // The trial that was chosen, in the plane or in the table
  const chosen = document.getElementById("chosen-trial");
  const named = (r) => `${studies[r[0]].id}-${String(r[1]).padStart(4, "0")}`;
  function choose(r) {
    const facts = [
      ["state", r[3].replaceAll("_", " ") + (r[8] ? ` (${r[8]})` : "")],
      ["origin", r[2]],
      ["value", number(r[4])],
      ["epochs", number(r[5])],
      ["seconds", number(r[6])],
      ...studies[r[0]].knobs.map((k, i) => [k, number(r[7][i])]),
    ];
    const list = document.createElement("dl");
    facts.forEach(([name, value]) => {
      const line = document.createElement("div");
      line.append(text("dt", name), text("dd", value));
      list.append(line);
    });
    const pictures = ["samples", "reconstructions"].map((name) => {
      const figure = document.createElement("figure");
      const img = document.createElement("img");
      figure.hidden = true; // until it has been found beside the page
      img.onload = () => (figure.hidden = false);
      img.alt = `${name} of ${named(r)}`;
      img.src = `${beside}trials/${named(r)}/${name}.png`;
      figure.append(img, text("figcaption", `${name} at its last evaluation`));
      return figure;
    });
    const grids = document.createElement("div");
    grids.className = "grids";
    if (beside !== null) grids.append(...pictures, byEpoch(r));
    chosen.replaceChildren(text("h3", named(r)), list, grids);
    chosen.hidden = false;
    plane.mark(r);
  }

  // Samples of the trial at each of its evaluations, with a slider
  function byEpoch(r) {
    const figure = document.createElement("figure");
    const [img, caption, slider] = ["img", "figcaption", "input"].map((tag) => document.createElement(tag));
    const epochs = studies[r[0]].evaluated.filter((epoch) => epoch <= r[5]);
    figure.hidden = true; // until the grid of the last epoch has been found beside the page
    if (epochs.length < 2) return figure;
    img.onload = () => (figure.hidden = false);
    Object.assign(slider, { type: "range", min: 0, max: epochs.length - 1, value: epochs.length - 1 });
    slider.setAttribute("aria-label", "epoch of the samples");
    const show = () => {
      const epoch = epochs[slider.value];
      img.src = `${beside}trials/${named(r)}/samples-${String(epoch).padStart(4, "0")}.png`;
      img.alt = caption.textContent = `samples at epoch ${epoch}`;
    };
    slider.oninput = show;
    figure.append(img, slider, caption);
    show();
    return figure;
  }

  const text = (tag, words, className) => {
    const element = document.createElement(tag);
    element.textContent = words;
    if (className) element.className = className;
    return element;
  };
  function draw() {
    const of = columns[key][1];
    const order = (a, b) => (a === null) - (b === null) || (a < b ? -1 : a > b ? 1 : 0) * (up ? 1 : -1);
    const rank = (r) => (r[3] === "complete" && r[4] !== null ? r[4] : Infinity);
    shown.sort((a, b) => order(of(a), of(b)) || a[0] - b[0] || (rank(a) < rank(b) ? -1 : rank(a) > rank(b) ? 1 : a[1] - b[1]));
    body.replaceChildren(
      ...shown.slice(0, limit).map((r) => {
        const line = document.createElement("tr");
        columns.forEach(([, of], i) => {
          const value = i === 0 ? studies[r[0]].name : of(r);
          const numeric = i === 1 || (i > 2 && i < 6);
          const mark = i === 1 && r[2] === "paper" ? " ○" : "";
          const cell = text("td", i === 1 ? "" : numeric ? number(value) : value, numeric ? "number" : "");
          if (i === 1) {
            const button = text("button", number(value) + mark);
            button.type = "button";
            button.title = `show ${named(r)}`;
            button.onclick = () => {
              choose(r);
              chosen.scrollIntoView({ block: "nearest" });
            };
            cell.append(button);
          }
          line.append(cell);
        });
        if (r[2] === "paper") line.className = "paper";
        return line;
      }),
    );
    count.textContent = `${shown.length} of ${rows.length} trials, ○ hand-tuned`;
    more.hidden = limit >= shown.length;
    [...head.children].forEach((th, i) => th.setAttribute("aria-sort", i !== key ? "none" : up ? "ascending" : "descending"));
  }
  function filter() {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const haystack = (r) =>
      `${studies[r[0]].id} ${studies[r[0]].name} ${r[3]} ${r[2] === "paper" ? "paper hand-tuned" : r[2]} ${values(r)} ${r[8]}`.toLowerCase();
    shown = words.length ? rows.filter((r) => words.every((w) => haystack(r).includes(w))) : rows.slice();
    limit = FEW;
    draw();
  }
  columns.forEach(([name], i) => {
    const th = document.createElement("th");
    const button = text("button", name);
    button.type = "button";
    button.onclick = () => {
      [up, key] = [i === key ? !up : true, i];
      draw();
    };
    th.scope = "col";
    if (i === 1 || (i > 2 && i < 6)) th.className = "number";
    th.append(button);
    head.append(th);
  });
  input.oninput = filter;
  more.onclick = () => {
    limit += MANY;
    draw();
  };
  const plane = thePlane(studies, rows, number, choose);
  root.hidden = false;
  filter();
})();

// Trials in the plane of two of their values. A rectangle that is drawn is zoomed into.
function thePlane(studies, rows, number, choose) {
  const root = document.getElementById("trial-plane");
  const [study, across, up] = root.querySelectorAll("select");
  const whole = root.querySelector("button");
  const svg = root.querySelector("svg");
  const [W, H, L, R, T, B] = [720, 400, 108, 16, 16, 56];
  let [zoom, marks] = [null, new Map()];

  const draw = (tag, attributes, words, where = svg) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
    if (words !== undefined) element.textContent = words;
    where.append(element);
    return element;
  };
  const fill = (select, words, chosen) => {
    select.replaceChildren(...words.map((word, i) => new Option(word, i)));
    select.value = chosen;
  };
  const axes = () => [
    ["value", (r) => r[4]],
    ["epochs", (r) => r[5]],
    ["seconds", (r) => r[6]],
    ...studies[study.value].knobs.map((knob, i) => [knob, (r) => r[7][i]]),
  ];
  function scale(values, from, to, range) {
    const words = values.some((v) => typeof v === "string") ? [...new Set(values.map(String))].sort() : null;
    const at = words ? (v) => words.indexOf(String(v)) : Number;
    const found = values.map(at);
    let [low, high] = range ?? [Math.min(...found), Math.max(...found)];
    const log = !words && Math.min(...found) > 0 && Math.max(...found) > 20 * Math.min(...found);
    const f = log ? Math.log10 : (v) => v;
    let [a, b] = [f(low), f(high)];
    if (!range) {
      const margin = (b - a || 1) * 0.04;
      [a, b] = [a - margin, b + margin];
    }
    const place = (v) => from + ((f(at(v)) - a) / (b - a)) * (to - from);
    const value = (p) => (log ? (v) => 10 ** v : (v) => v)(a + ((p - from) / (to - from)) * (b - a));
    let ticks;
    if (words) ticks = words.map((word, i) => [i, word]).filter(([i]) => i >= a && i <= b);
    else {
      const inside = (v) => f(v) >= a && f(v) <= b;
      const decades = Array.from({ length: 40 }, (_, i) => 10 ** (i - 20));
      const found = log ? [[1, 2, 5], [1, 3], [1]].map((ms) => decades.flatMap((d) => ms.map((m) => m * d)).filter(inside)).find((vs) => vs.length <= 7) : null;
      const [least, most] = log ? [10 ** a, 10 ** b] : [a, b];
      const step = 10 ** Math.floor(Math.log10((most - least) / 4));
      const wide = [1, 2, 5, 10].map((m) => m * step).find((s) => (most - least) / s <= 6);
      const first = Math.ceil(least / wide);
      const even = Array.from({ length: 1 + Math.floor(most / wide) - first }, (_, i) => (first + i) * wide);
      const shown = found?.length > 1 ? found : even;
      ticks = shown.map((v) => [v, number(Number(v.toPrecision(6)))]);
    }
    const of = (v) => from + ((f(v) - a) / (b - a)) * (to - from);
    return { place, value, ticks: ticks.map(([v, word]) => [of(v), word]), log };
  }
  let [x, y] = [null, null];
  function show() {
    const [[xName, ofX], [yName, ofY]] = [axes()[across.value], axes()[up.value]];
    const shown = rows.filter((r) => r[0] === Number(study.value) && ofX(r) !== null && ofY(r) !== null);
    svg.replaceChildren();
    marks = new Map();
    whole.hidden = zoom === null;
    if (!shown.length) return draw("text", { x: W / 2, y: H / 2, "text-anchor": "middle" }, "no trial has both values yet");
    x = scale(shown.map(ofX), L, W - R, zoom?.x);
    y = scale(shown.map(ofY), H - B, T, zoom?.y);
    x.ticks.forEach(([at, word]) => {
      draw("line", { x1: at, x2: at, y1: T, y2: H - B, class: "grid" });
      draw("text", { x: at, y: H - B + 20, "text-anchor": "middle" }, word);
    });
    y.ticks.forEach(([at, word]) => {
      draw("line", { x1: L, x2: W - R, y1: at, y2: at, class: "grid" });
      draw("text", { x: L - 8, y: at + 4, "text-anchor": "end" }, word);
    });
    draw("text", { x: (L + W - R) / 2, y: H - 6, "text-anchor": "middle", class: "name" }, xName + (x.log ? " (log)" : ""));
    draw("text", { x: 14, y: (T + H - B) / 2, "text-anchor": "middle", class: "name", transform: `rotate(-90 14 ${(T + H - B) / 2})` }, yName + (y.log ? " (log)" : ""));
    const order = shown.filter((r) => r[3] === "complete" && r[4] !== null).sort((a, b) => b[4] - a[4]);
    const rank = new Map(order.map((r, i) => [r, (i + 1) / order.length]));
    const worst = shown.sort((a, b) => (rank.get(a) ?? 0) - (rank.get(b) ?? 0)); // the best on top
    worst.forEach((r) => {
      const [cx, cy] = [x.place(ofX(r)), y.place(ofY(r))];
      if (cx < L - 1 || cx > W - R + 1 || cy < T - 1 || cy > H - B + 1) return;
      const share = rank.get(r);
      const look = share === undefined ? { class: "other" } : { class: "complete", style: `fill-opacity:${0.15 + 0.85 * share ** 2}` };
      const mark = draw("circle", { cx, cy, r: 6, ...look });
      if (r[2] === "paper") mark.classList.add("paper");
      draw("title", {}, `#${r[1]} ${r[3].replaceAll("_", " ")}, value ${number(r[4])}`, mark);
      mark.onclick = () => choose(r);
      marks.set(r, mark);
    });
  }
  const point = (event) => {
    const box = svg.getBoundingClientRect();
    const place = [((event.clientX - box.left) / box.width) * W, ((event.clientY - box.top) / box.height) * H];
    return [Math.min(Math.max(place[0], L), W - R), Math.min(Math.max(place[1], T), H - B)];
  };
  let [start, frame] = [null, null];
  svg.onpointerdown = (event) => {
    if (event.pointerType === "mouse" && x) start = point(event); // a finger scrolls the page
  };
  svg.onpointermove = (event) => {
    if (!start) return;
    const end = point(event);
    frame ??= draw("rect", { class: "frame" });
    const box = { x: Math.min(start[0], end[0]), y: Math.min(start[1], end[1]), width: Math.abs(start[0] - end[0]), height: Math.abs(start[1] - end[1]) };
    Object.entries(box).forEach(([name, value]) => frame.setAttribute(name, value));
  };
  window.addEventListener("pointerup", (event) => {
    const [from, end] = [start, start && point(event)];
    frame?.remove();
    [start, frame] = [null, null];
    if (!from || Math.abs(from[0] - end[0]) < 8 || Math.abs(from[1] - end[1]) < 8) return;
    const range = (axis, i) => [axis.value(from[i]), axis.value(end[i])].sort((a, b) => a - b);
    zoom = { x: range(x, 0), y: range(y, 1) };
    show();
  });
  const anew = () => {
    zoom = null;
    show();
  };
  const ofStudy = () => {
    const names = axes().map(([name]) => name);
    fill(across, names, names.length > 3 ? 3 : 2);
    fill(up, names, names.length > 4 ? 4 : 0);
    anew();
  };
  fill(study, studies.map((s) => s.name), 0);
  [study.onchange, across.onchange, up.onchange, whole.onclick] = [ofStudy, anew, anew, anew];
  root.hidden = !rows.length;
  if (rows.length) ofStudy();
  return {
    mark: (r) => {
      if (Number(study.value) !== r[0]) {
        study.value = r[0];
        ofStudy();
      }
      marks.forEach((mark) => mark.classList.remove("chosen"));
      marks.get(r)?.classList.add("chosen");
    },
  };
}
