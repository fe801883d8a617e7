// Open units, oldest first, a page at a time; and rolling one back.
import { cell, empty, keyed, make, setText, table } from "./dom.js";
import { getJson, post } from "./api.js";
import { age, plural, visible, whole } from "./format.js";
import { confirm, needToken } from "./dialogs.js";

const PAGE = 50;
const columns = [
  { label: "Unit", width: "8%" }, { label: "State", width: "18%" }, { label: "For", width: "22%" },
  { label: "Age", number: true, width: "10%" }, { label: "Writes", number: true, width: "7%" },
  { label: "Locks", number: true, width: "7%" }, { label: "Collections" }, { label: "", width: "9.5rem" },
];

export function who(unit) {
  return [unit.user, unit.client, unit.appName].filter((text) => text !== "").map(visible).join(" · ") || "–";
}

export function collections(unit) {
  return unit.namespaces.map(visible).join(", ") || "–";
}

async function rollBack(unit) {
  if (!(await needToken())) {
    return;
  }
  const content = make("div", { class: "stack" },
    make("p", {}, `${who(unit)}, open for ${age(unit.ageMillis)}, ${plural(unit.writes, "write")}.`),
    make("p", {}, "Its writes are undone. Its client is told that the transaction is gone " +
      "(NoSuchTransaction), which drivers answer by running it again. A unit whose command is at " +
      "work is rolled back behind it, unless that commits it, as a plain write does."));
  await confirm(`Roll unit ${unit.unit} back?`, content, "Roll it back",
    async () => (await post(`/rollback?unit=${unit.unit}`)).trim());
}

function createRow(unit) {
  const parts = {
    name: make("th", { scope: "row", class: "unit" }, `${unit.unit}`),
    state: make("span"),
    boundary: make("span", { class: "tag" }),
    for: make("span"),
    age: make("span"),
    writes: make("span"),
    locks: make("span"),
    namespaces: make("span", { class: "mono" }),
    note: make("div", { class: "sub" }),
  };
  const row = make("tr", {}, parts.name,
    cell(columns[1], make("div", {}, parts.state, parts.note)),
    cell(columns[2], make("div", {}, parts.boundary, " ", parts.for)),
    cell(columns[3], parts.age), cell(columns[4], parts.writes), cell(columns[5], parts.locks),
    cell(columns[6], parts.namespaces));
  const button = make("button", { type: "button", class: "danger", "aria-label": `Roll unit ${unit.unit} back` }, "Roll back …");
  button.addEventListener("click", () => rollBack(row.unit));
  row.append(make("td", { class: "act" }, button));
  row.parts = parts;
  return row;
}

function updateRow(row, unit) {
  const parts = row.parts;
  row.unit = unit;
  setText(parts.state, unit.state.toLowerCase() + (unit.busy ? ", at work" : ""));
  setText(parts.note, [
    unit.waitsFor === undefined ? "" : `waits for unit ${unit.waitsFor}`,
    unit.endsWith === undefined ? "" : `to be rolled back: ${unit.endsWith}`,
  ].filter((text) => text !== "").join("; "));
  setText(parts.boundary, unit.boundary);
  setText(parts.for, who(unit));
  setText(parts.age, age(unit.ageMillis));
  setText(parts.writes, whole(unit.writes));
  setText(parts.locks, whole(unit.locksHeld));
  setText(parts.namespaces, collections(unit));
}

export function units() {
  const { element: whole_, body } = table("Open units", columns);
  const nothing = empty("No unit is open", "Units appear here while services are at work.");
  const range = make("span", { role: "status" });
  const before = make("button", { type: "button" }, "Older");
  const behind = make("button", { type: "button" }, "Younger");
  const pages = make("div", { class: "pages" }, range, make("div", { class: "actions" }, before, behind));
  let from = 0;
  let refresh = () => {};
  before.addEventListener("click", () => {
    from = Math.max(0, from - PAGE);
    refresh();
  });
  behind.addEventListener("click", () => {
    from += PAGE;
    refresh();
  });
  return {
    title: "Open units",
    about: "Oldest first: what has been open for long is in others' way.",
    element: make("div", { class: "stack" }, whole_, nothing, pages),
    onRefresh(again) {
      refresh = again;
    },
    async load() {
      let answer = await getJson(`/units?from=${from}&count=${PAGE}`);
      if (answer.units.length === 0 && from > 0) {
        from = 0;
        answer = await getJson(`/units?from=0&count=${PAGE}`);
      }
      return answer;
    },
    update(_, answer) {
      const count = answer.units.length;
      whole_.hidden = count === 0;
      nothing.hidden = count > 0;
      pages.hidden = count === 0;
      keyed(body, answer.units, (unit) => unit.unit, createRow, updateRow);
      setText(range, `${from + 1} to ${from + count} of ${answer.open}`);
      before.disabled = from === 0;
      behind.disabled = !answer.more;
    },
  };
}
