// The page as a whole: which view is shown, and asking the daemon every two seconds while somebody
// looks.
import { make, setClass, setText } from "./dom.js";
import { Away, Refused, getJson, getText, hasToken, onToken } from "./api.js";
import { add } from "./history.js";
import { parse } from "./metrics.js";
import { clock, visible, whole } from "./format.js";
import { TOKEN_WHY, askToken } from "./dialogs.js";
import { overview } from "./overview.js";
import { units } from "./units.js";
import { conflicts } from "./conflicts.js";
import { decide } from "./decide.js";
import { waits } from "./waits.js";
import { journal } from "./journal.js";
import { observe } from "./observe.js";

const PERIOD_MS = 2000;
const main = document.getElementById("main");
const notice = document.getElementById("notice");
const state = document.getElementById("state");
const tokenButton = document.getElementById("token-button");
const views = { "": overview, units, conflicts, waits, journal, observe };
let view = null;
let facts = null;
let seenAt = null;
let timer = 0;
let asking = false;
let again = false;
let told = "";

/* ---------------------------------------------------------------- views */

function tell(text) {
  told = text;
  showNotice();
}

function showNotice(away) {
  const text = away ?? told;
  notice.hidden = text === "";
  setText(notice, text);
}

function route() {
  const [name, argument] = location.hash.replace(/^#\/?/, "").split("/");
  const make_ = name === "conflicts" && /^[0-9]{1,19}$/.test(argument ?? "")
    ? () => decide(argument, tell) : views[name] ?? views[""];
  view?.stop?.();
  view = make_();
  view.onRefresh?.(ask);
  document.title = `${view.title} – Holdfast`;
  const heading = make("div", { class: "head" }, make("h1", {}, view.title));
  if (view.about !== undefined) {
    heading.append(make("p", {}, view.about));
  }
  // Hidden until there is something to show, so that nothing jumps.
  view.element.hidden = view.load !== undefined || facts === null;
  main.replaceChildren(heading, view.element);
  for (const link of document.querySelectorAll("nav a")) {
    const current = link.getAttribute("href") === `#/${name in views ? name : ""}`;
    if (current) {
      link.setAttribute("aria-current", "page");
    } else {
      link.removeAttribute("aria-current");
    }
  }
  ask();
}

/* ---------------------------------------------------------------- asking */

function showState(kind, text) {
  state.className = `state ${kind}`;
  setText(document.getElementById("state-text"), text);
}

function showCount(id, count, alert) {
  const element = document.getElementById(id);
  setText(element, whole(count));
  setClass(element, "none", count === 0); // its place stays, so that nothing moves
  setClass(element, "alert", alert);
}

function showFrame({ status, waits: waiting }) {
  const { proxy } = status;
  if (proxy.ready) {
    showState("good", "Serving");
  } else {
    showState("bad", visible(`Not ready: ${proxy.reason}`));
  }
  setText(document.getElementById("about"), `holdfastd ${proxy.version}`);
  showCount("count-units", status.units?.open ?? 0, false);
  showCount("count-conflicts", status.unitsConflict ?? 0, true);
  showCount("count-waits", waiting?.waits.length ?? 0, false);
}

async function optional(promise, otherwise) {
  try {
    return await promise;
  } catch (error) {
    if (error instanceof Refused && error.code === 503) {
      return otherwise;
    }
    throw error;
  }
}

async function askOnce() {
  const asked = view;
  const [status, waiting, metrics, own] = await Promise.all([
    getJson("/status?units=0"),
    optional(getJson("/waits"), undefined),
    optional(getText("/metrics"), ""),
    asked.load === undefined ? undefined : optional(asked.load(), null),
  ]);
  facts = { status, waits: waiting };
  seenAt = new Date();
  add(status, parse(metrics));
  showFrame(facts);
  if (asked === view && own !== null) {
    view.element.hidden = false;
    view.update(facts, own);
  }
}

async function ask() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  clearTimeout(timer);
  try {
    await askOnce();
    document.body.classList.remove("away");
    showNotice();
  } catch (error) {
    if (!(error instanceof Away) && !(error instanceof Refused)) {
      throw error;
    }
    document.body.classList.add("away");
    showState("bad", error instanceof Away ? "Does not answer" : "Refuses");
    showNotice(error instanceof Refused ? visible(error.message)
      : "holdfastd does not answer. " + (seenAt === null ? "Trying again …"
        : `What is shown was seen at ${clock(seenAt)}; trying again …`));
  } finally {
    asking = false;
    if (again) {
      again = false;
      ask();
    } else {
      timer = setTimeout(ask, document.hidden ? PERIOD_MS * 5 : PERIOD_MS);
    }
  }
}

/* ---------------------------------------------------------------- beginning */

function showTokenButton() {
  setText(tokenButton, hasToken() ? "Token ✓" : "Token …");
  tokenButton.setAttribute("aria-label", hasToken() ? "Admin token: given" : "Give the admin token");
}

document.getElementById("skip").addEventListener("click", () => main.focus());
tokenButton.addEventListener("click", () => askToken(TOKEN_WHY));
onToken(showTokenButton);
addEventListener("hashchange", () => {
  if (!location.hash.startsWith("#/conflicts")) {
    told = "";
  }
  route();
  main.focus();
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) {
    ask();
  }
});
showTokenButton();
route();
