// One conflict: its documents as they were before the unit, as they are now, and as the unit left
// them; a choice for each; what it changes; and carrying it out.
import { empty, make, setText } from "./dom.js";
import { getText, post, Away, Refused } from "./api.js";
import { bytes, plural, visible, whole } from "./format.js";
import { TOKEN_WHY, askToken, confirm } from "./dialogs.js";
import { Fields, compare, parse, sameLeaf } from "./ejson.js";

const ROWS_MAX = 500;
const TEXT_MAX = 400;
const choices = [
  { word: "keep", letter: "k", label: "Keep theirs" },
  { word: "restore", letter: "r", label: "Restore before" },
  { word: "apply", letter: "a", label: "Apply after" },
];
const effects = {
  stays: "stays as it is now", replaced: "is replaced", inserted: "is inserted", removed: "is removed",
  unknown: "cannot be done: what the unit wrote is not known",
};
// Types that can be told from the value's form.
const plainTypes = new Set(["string", "int", "bool", "null", "array", "object", "objectId", "date"]);

/* ---------------------------------------------------------------- what the daemon tells */

function imageOf(fields) {
  return { is: fields.get("is"), document: fields.get("document"), bytes: fields.get("bytes") };
}

function keyText(image) {
  const rows = compare([image]).rows;
  return rows.length === 1 && rows[0].path === "_id"
    ? rows[0].values[0].text : rows.map((row) => `${row.path.replace(/^_id\./, "")}: ${row.values[0].text}`).join(", ");
}

function documentOf(fields, index) {
  return {
    index,
    namespace: fields.get("ns"),
    key: keyText(imageOf(fields.get("key"))),
    before: imageOf(fields.get("before")),
    found: imageOf(fields.get("found")),
    after: imageOf(fields.get("after")),
    effects: { keep: "stays", restore: fields.get("restore"), apply: fields.get("apply") },
    choice: null,
  };
}

function wanted(document, word) {
  return { keep: document.found, restore: document.before, apply: document.after }[word];
}

function nameOf(document) {
  return `${visible(document.namespace)}  ${visible(document.key)}`;
}

/* ---------------------------------------------------------------- tables of fields */

function valueCell(label, value, mark, image, typed) {
  const cell = make("td", { "data-label": label, class: mark });
  if (value === undefined) {
    const why = image.is === "present" ? "no such field" : image.is === "absent" ? "no document" : "not known";
    cell.append(make("span", { class: "gone" }, why));
    return cell;
  }
  const text = visible(value.text);
  const shown = text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)} … (${whole(text.length)} characters)` : text;
  cell.append(make("span", {}, make("bdi", {}, shown),
    typed || !plainTypes.has(value.type) ? make("span", { class: "type" }, value.type) : null));
  return cell;
}

function differentTypes(values) {
  const types = new Set(values.filter((value) => value !== undefined).map((value) => value.type));
  return types.size > 1;
}

function heading(label, image) {
  const notes = { absent: "did not exist", unknown: "not known" };
  return make("th", { scope: "col" }, label,
    notes[image.is] === undefined ? null : make("span", { class: "mark" }, notes[image.is]));
}

function tooLarge(images) {
  const hidden = images.filter((image) => image.is === "present" && image.document === undefined);
  const size = hidden.reduce((sum, image) => sum + image.bytes, 0);
  return hidden.length === 0 ? null
    : make("p", { class: "sub" }, `${bytes(size)} are too many to be shown here; holdfast show has them.`);
}

// before | now | after, with what the unit and what somebody else changed.
function threeImages(document) {
  const images = [document.before, document.found, document.after];
  const { rows, reordered } = compare(images);
  const body = make("tbody");
  const alike = [];
  for (const row of rows.slice(0, ROWS_MAX)) {
    const [before, found, after] = row.values;
    const known = document.after.is !== "unknown";
    const foreign = !sameLeaf(found, before) && (!known || !sameLeaf(found, after));
    const own = known && !sameLeaf(before, after);
    const typed = differentTypes(row.values);
    const marks = [foreign ? "somebody else wrote" : null, own ? "the unit wrote" : null].filter(Boolean);
    const line = make("tr", {},
      make("th", { scope: "row" }, make("bdi", {}, visible(row.path)),
        make("span", { class: "mark" }, marks.join(" · "))),
      valueCell("before", before, null, images[0], typed),
      valueCell("now", found, foreign ? "by-other" : own && sameLeaf(found, after) ? "by-unit" : null, images[1], typed),
      valueCell("after", after, own ? "by-unit" : null, images[2], typed));
    if (row.same && rows.length > 1) {
      line.hidden = true;
      alike.push(line);
    }
    body.append(line);
  }
  const element = make("div", { class: "stack" },
    make("table", { class: "fields stacked", "aria-label": `Fields of ${visible(document.namespace)} ${visible(document.key)}` },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Field"), heading("Before the unit", images[0]),
        heading("Now", images[1]), heading("As the unit left it", images[2]))), body));
  if (alike.length > 0) {
    element.append(moreRows(alike));
  }
  if (rows.length > ROWS_MAX) {
    element.append(make("p", { class: "sub" }, `${plural(rows.length - ROWS_MAX, "more field")}; holdfast show has all.`));
  }
  if (reordered) {
    element.append(make("p", { class: "sub" }, "The order of the fields differs, too."));
  }
  const large = tooLarge(images);
  if (large !== null) {
    element.append(large);
  }
  return element;
}

function card(document, ...more) {
  return make("article", { class: "card document" },
    make("h2", {}, nameOf(document)), threeImages(document), ...more);
}

function moreRows(rows) {
  const text = `${plural(rows.length, "field")} alike in all three`;
  const button = make("button", { type: "button", "aria-expanded": "false" }, `Show ${text}`);
  button.addEventListener("click", () => {
    const open = button.getAttribute("aria-expanded") === "true";
    button.setAttribute("aria-expanded", String(!open));
    rows.forEach((row) => {
      row.hidden = open;
    });
    setText(button, `${open ? "Show" : "Hide"} ${text}`);
  });
  return make("div", {}, button);
}

// now | becomes, only what changes.
function change(document) {
  const images = [document.found, wanted(document, document.choice)];
  const title = make("h2", { class: "mono" }, nameOf(document));
  const effect = document.effects[document.choice];
  if (effect === "stays") {
    return make("section", { class: "stack" }, title, make("p", { class: "sub" }, "Stays as it is now."));
  }
  const { rows, reordered } = compare(images);
  const different = rows.filter((row) => !row.same);
  const body = make("tbody", {}, different.slice(0, ROWS_MAX).map((row) => {
    const typed = differentTypes(row.values);
    return make("tr", {}, make("th", { scope: "row" }, make("bdi", {}, visible(row.path))),
      valueCell("now", row.values[0], "old", images[0], typed),
      valueCell("becomes", row.values[1], "new", images[1], typed));
  }));
  return make("section", { class: "stack" }, title,
    make("p", {}, `The document ${effects[effect]}` + (reordered && different.length === 0 ? ": only the order of its fields changes." : ".")),
    make("table", { class: "fields stacked before-after",
      "aria-label": `What changes of ${visible(document.namespace)} ${visible(document.key)}` },
      make("thead", {}, make("tr", {}, make("th", { scope: "col" }, "Field"), make("th", { scope: "col" }, "Now"),
        make("th", { scope: "col" }, "Becomes"))), body), tooLarge(images));
}

/* ---------------------------------------------------------------- choosing */

let groups = 0;

function chooser(legend, effectOf, chosen) {
  const name = `choice-${++groups}`;
  const inputs = new Map();
  const labels = choices.map(({ word, label }) => {
    const effect = effectOf(word);
    const input = make("input", { type: "radio", name, value: word, disabled: effect === "unknown" });
    input.addEventListener("change", () => chosen(word));
    inputs.set(word, input);
    return make("label", { class: "choice" }, input, make("span", {}, label),
      make("span", { class: "sub" }, effect === null ? "" : effects[effect]));
  });
  return {
    element: make("fieldset", {}, make("legend", {}, legend), make("div", { class: "choices" }, labels)),
    set(word) {
      inputs.get(word).checked = true;
    },
  };
}

// "r2k1": runs, in the documents' order.
function encode(documents) {
  let text = "";
  for (let at = 0; at < documents.length;) {
    const word = documents[at].choice;
    let end = at;
    while (end < documents.length && documents[end].choice === word) {
      end++;
    }
    text += word[0] + (end - at);
    at = end;
  }
  return text;
}

async function carryOut(unit, seen, words) {
  return JSON.parse(await post(`/resolve?unit=${unit}&choices=${words}&seen=${seen}`));
}

/* ---------------------------------------------------------------- the page */

export function decide(unit, tell) {
  const element = make("div", { class: "stack" });
  let stopped = false;

  function show(...parts) {
    if (!stopped) {
      element.replaceChildren(...parts.filter(Boolean));
    }
  }

  async function finish(content, words, seen) {
    const done = await confirm(`Resolve unit ${unit}?`, content, "Carry it out",
      () => carryOut(unit, seen, words), true);
    if (done !== undefined) {
      tell(`Unit ${unit} is resolved: ${plural(done.changed, "document")} changed.`);
      location.hash = "#/conflicts";
    }
  }

  function showAlike(shown, count, seen) {
    const state = { choice: null };
    const review = make("button", { type: "button", class: "main", disabled: true }, "Review …");
    const chooserOfAll = chooser(`One choice for all ${whole(count)} documents`, () => null, (word) => {
      state.choice = word;
      review.disabled = false;
    });
    review.addEventListener("click", () => {
      const { label } = choices.find(({ word }) => word === state.choice);
      finish(make("p", {}, `“${label}” for all ${whole(count)} documents of the unit, shown or not.`),
        state.choice[0], seen);
    });
    show(make("p", {}, `The first ${whole(shown.length)} of ${whole(count)} documents are shown. Beyond that they are decided together.`),
      ...shown.map((document) => card(document)),
      make("section", { class: "card stack" }, chooserOfAll.element, make("div", { class: "actions" }, review)));
  }

  function showAll(documents, seen) {
    const count = make("span", { role: "status" });
    const review = make("button", { type: "button", class: "main", disabled: true }, "Review …");
    const choosers = documents.map((document) => chooser("What becomes of it",
      (word) => document.effects[word], (word) => {
        document.choice = word;
        decided();
      }));

    function decided() {
      const number = documents.filter((document) => document.choice !== null).length;
      setText(count, `${number} of ${plural(documents.length, "document")} decided`);
      review.disabled = number < documents.length;
    }

    const shortcuts = documents.length < 2 ? [] : choices.map(({ word, label }) => {
      const button = make("button", { type: "button" }, `${label}: all`);
      button.disabled = documents.some((document) => document.effects[word] === "unknown");
      button.addEventListener("click", () => {
        documents.forEach((document, index) => {
          document.choice = word;
          choosers[index].set(word);
        });
        decided();
      });
      return button;
    });
    review.addEventListener("click", () => finish(
      make("div", { class: "stack changes" }, make("p", {}, "All of it is done, or nothing."), documents.map(change)),
      encode(documents), seen));
    decided();
    show(...documents.map((document, index) => card(document, choosers[index].element)),
      make("section", { class: "sticky", "aria-label": "Decision" }, count, make("div", { class: "actions" }, shortcuts, review)));
  }

  function showToken(message) {
    const button = make("button", { type: "button", class: "main" }, "Give the token …");
    button.addEventListener("click", async () => {
      if (await askToken(TOKEN_WHY)) {
        load();
      }
    });
    const box = empty("The documents need the admin token", message);
    box.append(make("p", {}, button));
    show(box);
  }

  function showError(title, message) {
    const button = make("button", { type: "button" }, "Look again");
    button.addEventListener("click", load);
    const box = empty(title, visible(message));
    box.append(make("p", {}, button));
    show(box);
  }

  async function load() {
    show(empty("Looking at the documents …", "They are read from the server."));
    try {
      const answer = parse(await getText(`/conflict?unit=${unit}`, 65000));
      if (!(answer instanceof Fields)) {
        throw new SyntaxError("not a conflict");
      }
      const documents = answer.get("documents").map(documentOf);
      if (answer.get("documentCount") > documents.length) {
        showAlike(documents, answer.get("documentCount"), answer.get("seen"));
      } else {
        showAll(documents, answer.get("seen"));
      }
    } catch (error) {
      if (error instanceof Refused && (error.code === 401 || error.code === 403)) {
        showToken(error.code === 401 ? "It shows what is in your documents."
          : "holdfastd was started without one: set admin.tokenFile. Until then: holdfast resolve.");
      } else if (error instanceof Refused && error.code === 400) {
        showError("Nothing to decide here", error.message);
      } else {
        showError("The documents cannot be shown",
          error instanceof Away ? "holdfastd does not answer." : error.message);
      }
    }
  }

  load();
  return {
    title: `Unit ${unit} in conflict`,
    about: "Each document as it was before the unit, as it is now, and as the unit left it. The decision is carried out whole or not at all.",
    element,
    update() {},
    stop() {
      stopped = true;
    },
  };
}
