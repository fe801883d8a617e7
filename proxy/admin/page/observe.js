// Which services write several times for one call.
import { empty, keyed, make, setText } from "./dom.js";
import { getJson, Refused } from "./api.js";
import { plural, short, visible, whole } from "./format.js";

function createCard() {
  const parts = { title: make("h2"), tag: make("span", { class: "tag bad" }), facts: make("p", { class: "sub" }),
    list: make("ol", { class: "sequence" }), advice: make("p") };
  const card = make("article", { class: "card finding" },
    make("div", { class: "head" }, parts.title, parts.tag), parts.facts, parts.list, parts.advice);
  card.parts = parts;
  return card;
}

function updateCard(card, finding) {
  const parts = card.parts;
  const name = finding.service || finding.applications?.join(", ") || "unknown service";
  setText(parts.title, visible(`${name}  ${finding.route}`.trim()));
  setText(parts.tag, `${whole(finding.torn)} torn`);
  parts.tag.hidden = finding.torn === 0;
  const writes = finding.writesPerCall;
  setText(parts.facts, `${plural(finding.calls, "call")}, ` +
    `${short(writes.mean)} writes each (${writes.min} to ${writes.max}), told by ${finding.toldBy}`);
  const key = JSON.stringify(finding.sequence);
  if (parts.list.dataset.shown !== key) {
    parts.list.dataset.shown = key;
    parts.list.replaceChildren(...finding.sequence.map((shape) => make("li", {}, visible(shape))));
  }
  setText(parts.advice, finding.suggestion ?? "");
}

export function observe() {
  const list = make("div", { class: "stack" });
  const nothing = empty("Nothing observed yet", "Calls that write several times appear here, most frequent first.");
  return {
    title: "Observed",
    about: "Calls that write several times: what a crash can tear apart. Torn are those that wrote and had no good answer.",
    element: make("div", { class: "stack" }, list, nothing),
    async load() {
      try {
        return await getJson("/observe");
      } catch (error) {
        if (error instanceof Refused && error.code === 404) {
          return { findings: [] };
        }
        throw error;
      }
    },
    update(_, answer) {
      const findings = answer.findings ?? [];
      nothing.hidden = findings.length > 0;
      keyed(list, findings, (finding) => JSON.stringify([finding.service, finding.route, finding.toldBy, finding.sequence]),
        createCard, updateCard);
    },
  };
}
