// Who waits for whose lock.
import { cell, empty, keyed, make, setText, table } from "./dom.js";
import { age } from "./format.js";
import { who } from "./units.js";

const columns = [{ label: "Waiting" }, { label: "For the lock of" }];

function describe(unit) {
  return `${unit.boundary} · ${who(unit)} · open for ${age(unit.ageMillis)}`;
}

function createRow(wait) {
  const parts = { waiter: make("div", { class: "sub" }), holder: make("div", { class: "sub" }), also: make("span") };
  const row = make("tr", {}, make("th", { scope: "row" }, `Unit ${wait.unit}`, parts.waiter),
    cell(columns[1], make("div", {}, make("strong", {}, parts.also), parts.holder)));
  row.parts = parts;
  return row;
}

function updateRow(row, wait) {
  const holder = wait.holder;
  setText(row.parts.waiter, describe(wait));
  setText(row.parts.also, `Unit ${wait.waitsFor}` +
    (holder?.waitsFor === undefined ? "" : `, which waits for unit ${holder.waitsFor}`));
  setText(row.parts.holder, holder === undefined ? "it has just ended" : describe(holder));
}

export function waits() {
  const { element: whole, body } = table("Lock waits", columns);
  const nothing = empty("Nobody waits", "No unit waits for a document that another one has locked.");
  const more = make("p", { class: "sub" }, "There are more; the oldest are shown.");
  return {
    title: "Lock waits",
    about: "A wait ends when the other unit does, or with a WriteConflict after unit.lockWait.",
    element: make("div", { class: "stack" }, whole, nothing, more),
    update({ waits: answer }) {
      const list = answer?.waits ?? [];
      whole.hidden = list.length === 0;
      nothing.hidden = list.length > 0;
      more.hidden = !answer?.more;
      keyed(body, list, (wait) => wait.unit, createRow, updateRow);
    },
  };
}
