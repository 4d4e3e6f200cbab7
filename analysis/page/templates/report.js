// The table of all trials: sorted, filtered and shown a page at a time from the data in the page.
(() => {
  const { studies, rows } = JSON.parse(document.getElementById("trial-data").textContent);
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
          const mark = i === 1 && r[2] ? " ○" : "";
          line.append(text("td", (numeric ? number(value) : value) + mark, numeric ? "number" : ""));
        });
        if (r[2]) line.className = "paper";
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
      `${studies[r[0]].id} ${studies[r[0]].name} ${r[3]} ${r[2] ? "paper hand-tuned" : "search"} ${values(r)} ${r[8]}`.toLowerCase();
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
  root.hidden = false;
  filter();
})();
