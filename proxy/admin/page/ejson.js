// Documents in canonical Extended JSON: read without losing the order of their fields (JSON.parse
// moves names that are numbers to the front, and a document's order matters), and compared field by
// field.

// An object becomes a Fields, a list of [name, value]; everything else as in JSON.
export class Fields {
  constructor(list) {
    this.list = list;
  }

  get(name) {
    return this.list.find(([key]) => key === name)?.[1];
  }
}

export function parse(text) {
  let at = 0;

  function space() {
    while (" \t\n\r".includes(text[at]) && at < text.length) {
      at++;
    }
  }

  function take(letter) {
    space();
    if (text[at] !== letter) {
      throw new SyntaxError(`"${letter}" expected at ${at}`);
    }
    at++;
  }

  // Everything that has no parts: from here to its end, by JSON.parse.
  function scalar() {
    const begin = at;
    if (text[at] === '"') {
      for (at++; text[at] !== '"'; at++) {
        if (at >= text.length) {
          throw new SyntaxError("a text without an end");
        }
        at += text[at] === "\\" ? 1 : 0;
      }
      at++;
    } else {
      while (at < text.length && !",]} \t\n\r".includes(text[at])) {
        at++;
      }
    }
    return JSON.parse(text.slice(begin, at));
  }

  function parts(end, read) {
    const list = [];
    at++;
    space();
    while (text[at] !== end) {
      list.push(read());
      space();
      if (text[at] !== ",") {
        break;
      }
      at++;
      space();
    }
    take(end);
    return list;
  }

  function value() {
    space();
    if (text[at] === "{") {
      return new Fields(parts("}", () => {
        space();
        const name = scalar();
        take(":");
        return [name, value()];
      }));
    }
    return text[at] === "[" ? parts("]", value) : scalar();
  }

  const result = value();
  space();
  if (at !== text.length) {
    throw new SyntaxError("something behind the end");
  }
  return result;
}

// What a value that is no document and no list says, and of which type it is; null if it is one.
function leafOf(value) {
  if (value === null) {
    return { text: "null", type: "null" };
  }
  if (typeof value === "string") {
    return { text: value, type: "string" };
  }
  if (typeof value === "boolean") {
    return { text: String(value), type: "bool" };
  }
  if (typeof value === "number") {
    return { text: String(value), type: "number" };
  }
  if (Array.isArray(value)) {
    return value.length === 0 ? { text: "[ ]", type: "array" } : null;
  }
  const [first, second] = value.list;
  if (first === undefined) {
    return { text: "{ }", type: "object" };
  }
  return value.list.length > 2 ? null : special(first[0], first[1], second);
}

// The shortest text that is the same double.
function shortest(text) {
  const value = Number(text);
  return !Number.isFinite(value) ? text : Object.is(value, -0) ? "-0" : String(value);
}

function special(name, inside, second) {
  const simple = {
    $numberInt: "int", $numberLong: "long", $numberDouble: "double", $numberDecimal: "decimal",
    $oid: "objectId", $symbol: "symbol",
  };
  if (second === undefined && simple[name] !== undefined && typeof inside === "string") {
    return { text: name === "$numberDouble" ? shortest(inside) : inside, type: simple[name] };
  }
  if (second === undefined && name === "$date" && inside instanceof Fields) {
    const milliseconds = Number(inside.get("$numberLong"));
    const date = new Date(milliseconds);
    return { text: Number.isNaN(date.getTime()) ? `${milliseconds} ms` : date.toISOString(), type: "date" };
  }
  if (second === undefined && name === "$binary" && inside instanceof Fields) {
    return { text: String(inside.get("base64")), type: `binary ${inside.get("subType")}` };
  }
  if (second === undefined && name === "$timestamp" && inside instanceof Fields) {
    return { text: `${inside.get("t")}, ${inside.get("i")}`, type: "timestamp" };
  }
  if (second === undefined && name === "$regularExpression" && inside instanceof Fields) {
    return { text: `/${inside.get("pattern")}/${inside.get("options")}`, type: "regex" };
  }
  if (second === undefined && (name === "$minKey" || name === "$maxKey" || name === "$undefined")) {
    return { text: name.slice(1), type: name.slice(1) };
  }
  if (name === "$code" && typeof inside === "string" && second === undefined) {
    return { text: inside, type: "code" };
  }
  return null;
}

// Every value with its path, in order: a Map of path to {text, type}. Documents inside are taken
// apart, so that a difference is one of a field.
export function flatten(document) {
  const found = new Map();

  function add(path, value) {
    const leaf = leafOf(value);
    if (leaf !== null) {
      found.set(path, leaf);
      return;
    }
    const list = Array.isArray(value) ? value.map((part, index) => [String(index), part]) : value.list;
    for (const [name, part] of list) {
      add(path === "" ? quoted(name) : `${path}.${quoted(name)}`, part);
    }
  }

  for (const [name, value] of document.list) {
    add(quoted(name), value);
  }
  return found;
}

// A name that holds a point is no path.
function quoted(name) {
  return name === "" || name.includes(".") ? JSON.stringify(name) : name;
}

export function sameLeaf(a, b) {
  return a === b || (a !== undefined && b !== undefined && a.text === b.text && a.type === b.type);
}

function order(paths, wanted) {
  return paths.filter((path) => wanted.has(path)).join("\n");
}

/*
 * Images side by side: images is a list of {is, document}. Rows of {path, values, same}, those of the
 * images in their order; `reordered`: two images differ in nothing but the order of fields.
 */
export function compare(images) {
  const flat = images.map((image) =>
    image.is === "present" && image.document !== undefined ? flatten(image.document) : new Map());
  const paths = [];
  const seen = new Set();
  for (const map of flat) {
    for (const path of map.keys()) {
      if (!seen.has(path)) {
        seen.add(path);
        paths.push(path);
      }
    }
  }
  const rows = paths.map((path) => {
    const values = flat.map((map) => map.get(path));
    return { path, values, same: values.every((value) => sameLeaf(value, values[0])) };
  });
  const full = flat.filter((map) => map.size > 0);
  const reordered = full.some((map) =>
    order([...map.keys()], full[0]) !== order([...full[0].keys()], map));
  return { rows, reordered };
}
