// The units in conflict.
import { cell, empty, keyed, make, setText, table } from "./dom.js";
import { getJson } from "./api.js";
import { moment, plural, visible } from "./format.js";
import { collections, who } from "./units.js";

const columns = [
  { label: "Unit", width: "8%" }, { label: "Began", width: "15%" }, { label: "For", width: "18%" },
  { label: "Collections", width: "19%" }, { label: "Why" }, { label: "", width: "8rem" },
];

function createRow(conflict) {
  const link = make("a", { class: "button", href: `#/conflicts/${conflict.unit}`, "aria-label": `Decide unit ${conflict.unit}` }, "Decide …");
  return make("tr", {}, make("th", { scope: "row", class: "unit" }, `${conflict.unit}`),
    cell(columns[1], moment(conflict.began)),
    cell(columns[2], make("div", {}, make("span", { class: "tag" }, conflict.boundary), " ", who(conflict),
      conflict.name === "" ? null : make("div", { class: "sub" }, visible(conflict.name)))),
    cell(columns[3], make("div", {}, make("span", { class: "mono" }, collections(conflict)),
      make("div", { class: "sub" }, conflict.documents >= 200 ? "200 documents or more" : plural(conflict.documents, "document")))),
    cell(columns[4], visible(conflict.reason)), make("td", { class: "act" }, link));
}

export function conflicts() {
  const { element: whole, body } = table("Units in conflict", columns);
  const nothing = empty("No conflicts", "No unit waits for a decision. Nothing was overwritten, and nothing is left half done.");
  const range = make("span");
  const first = make("button", { type: "button" }, "From the first");
  const next = make("button", { type: "button" }, "Next");
  const pages = make("div", { class: "pages" }, range, make("div", { class: "actions" }, first, next));
  let after = 0;
  let last = 0;
  let refresh = () => {};
  first.addEventListener("click", () => {
    after = 0;
    refresh();
  });
  next.addEventListener("click", () => {
    after = last;
    refresh();
  });
  return {
    title: "Conflicts",
    about: "Somebody changed a document of these units around the proxy. They block nobody, and wait here for a decision.",
    element: make("div", { class: "stack" }, whole, nothing, pages),
    onRefresh(again) {
      refresh = again;
    },
    load: () => getJson(`/conflicts?after=${after}`),
    update(_, answer) {
      const list = answer.conflicts;
      last = list.length === 0 ? after : list[list.length - 1].unit;
      whole.hidden = list.length === 0;
      nothing.hidden = list.length > 0;
      pages.hidden = after === 0 && !answer.more;
      next.disabled = !answer.more;
      first.disabled = after === 0;
      setText(range, `${list.length} of ${answer.total}`);
      keyed(body, list, (conflict) => conflict.unit, createRow, () => {});
    },
  };
}
