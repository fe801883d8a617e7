// Making elements. Texts are only ever set as text: nothing in this program parses markup, so that
// what a document or a client's name holds stays text.

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [event, handler] of Object.entries(value)) {
        element.addEventListener(event, handler);
      }
    } else if (typeof value === "boolean") {
      element.toggleAttribute(name, value);
    } else if (value !== undefined && value !== null) {
      element.setAttribute(name, value);
    }
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

// Leaves what is right already alone, so that a reader of the screen is not told again.
export function setText(element, text) {
  if (element.textContent !== text) {
    element.textContent = text;
  }
}

export function setClass(element, name, on) {
  element.classList.toggle(name, Boolean(on));
}

// One child for each item, made once and then updated, so that the focus stays where it is.
export function keyed(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const wanted = items.map((item) => {
    const key = String(keyOf(item));
    let child = known.get(key);
    if (child === undefined) {
      child = create(item);
      child.dataset.key = key;
    }
    known.delete(key);
    update(child, item);
    return child;
  });
  for (const child of known.values()) {
    child.remove();
  }
  wanted.forEach((child, index) => {
    if (parent.children[index] !== child) {
      parent.insertBefore(child, parent.children[index] ?? null);
    }
  });
}

// A table whose rows become cards on a phone. columns: [{label, number, width}]; widths are fixed, so
// that nothing moves when the texts change.
export function table(caption, columns) {
  const body = make("tbody");
  const heads = columns.map((column) => {
    const head = make(column.label === "" ? "td" : "th",
      { scope: column.label === "" ? null : "col", class: column.number ? "number" : null }, column.label);
    head.style.width = column.width ?? "";
    return head;
  });
  const whole = make("table", { class: "stacked", "aria-label": caption },
    make("thead", {}, make("tr", {}, heads)), body);
  return { element: make("div", { class: "table" }, whole), body };
}

export function cell(column, ...children) {
  return make("td", { class: column.number ? "number" : null, "data-label": column.label }, ...children);
}

export function empty(title, text) {
  return make("div", { class: "empty" }, make("strong", {}, title), text);
}
