// Questions to the operator. The browser's own dialog keeps the focus inside, closes with Escape and
// gives the focus back.
import { make, setText } from "./dom.js";
import { getJson, hasToken, setToken, Away } from "./api.js";

let number = 0;

// Shows `content`; resolves when it is closed. `build(close)` makes the content.
export function show(title, build, wide = false) {
  const heading = make("h1", { id: `dialog-${++number}`, tabindex: "-1" }, title);
  const dialog = make("dialog", { "aria-labelledby": heading.id, class: wide ? "wide" : null });
  return new Promise((resolve) => {
    let result;
    const close = (value) => {
      result = value;
      dialog.close();
    };
    dialog.append(make("div", { class: "stack" }, heading, build(close)));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/*
 * A question with two answers. `act()` is done on yes; where it fails its reason stands in the
 * dialog, which stays. Resolves with what `act()` gave, or undefined.
 */
export function confirm(title, content, yes, act, wide = false) {
  return show(title, (close) => {
    const message = make("p", { class: "message bad", role: "alert" });
    const no = make("button", { type: "button", on: { click: () => close() } }, "Cancel");
    const go = make("button", { type: "button", class: "main" }, yes);
    go.addEventListener("click", async () => {
      go.disabled = no.disabled = true;
      setText(message, "");
      try {
        close(await act());
      } catch (error) {
        setText(message, error instanceof Away
          ? "holdfastd does not answer: whether this was done is not known. Look again."
          : error.message);
        go.disabled = no.disabled = false;
        go.focus();
      }
    });
    // Focusable, so that the keys can scroll what is longer than the window.
    const body = make("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": title }, content);
    return make("div", { class: "stack" }, body, message, make("div", { class: "actions" }, no, go));
  }, wide);
}

function explain(error) {
  if (error instanceof Away) {
    return "holdfastd does not answer.";
  }
  if (error.code === 401) {
    return "This is not the token.";
  }
  return error.code === 403 && error.message.includes("tokenFile")
    ? "holdfastd was started without a token, so nothing can be changed here: set admin.tokenFile."
    : error.message;
}

// Asks for the token and tries it. Resolves with whether there is a right one.
export function askToken(why) {
  return show("Admin token", (close) => {
    const input = make("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", autofocus: true });
    const message = make("p", { class: "message bad", role: "alert" });
    const forget = make("button", { type: "button" }, "Forget it");
    forget.hidden = !hasToken();
    forget.addEventListener("click", () => {
      setToken("");
      close(false);
    });
    const use = make("button", { type: "submit", class: "main" }, "Use it");
    const form = make("form", { method: "dialog" },
      make("p", {}, why),
      make("label", { class: "field", for: "token" }, "Token", input),
      message,
      make("div", { class: "actions" }, forget,
        make("button", { type: "button", on: { click: () => close(hasToken()) } }, "Cancel"), use));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      setToken(input.value.trim());
      use.disabled = true;
      try {
        await getJson("/token");
        close(true);
      } catch (error) {
        setToken("");
        setText(message, explain(error));
        use.disabled = false;
        input.select();
        input.focus();
      }
    });
    return form;
  });
}

export const TOKEN_WHY =
  "It is in the file that admin.tokenFile names. It stays in this tab until that is closed.";

// Whether there is a token; asks for it if not.
export async function needToken() {
  return hasToken() || (await askToken(TOKEN_WHY)) === true;
}
