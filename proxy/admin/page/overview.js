// The first page: is all well, and how much is going on.
import { make, setClass, setText } from "./dom.js";
import { Chart } from "./chart.js";
import { age, bytes, perSecond, plural, seconds, whole } from "./format.js";
import { latest, measures, samples, span } from "./history.js";

function tile(title) {
  const value = make("dd");
  const hint = make("dd", { class: "hint" });
  const element = make("div", { class: "tile" }, make("dt", {}, title), value, hint);
  return {
    element,
    show(text, why, bad) {
      setText(value, text ?? "–");
      setText(hint, why ?? "");
      setClass(element, "bad", bad);
    },
  };
}

export function overview() {
  const tiles = {
    committed: tile("Units committed"),
    open: tile("Units open"),
    commit: tile("Commit latency"),
    waits: tile("Lock waits"),
    conflicts: tile("Conflicts"),
    journal: tile("Journal"),
    settled: tile("Not settled yet"),
    connections: tile("Connections"),
  };
  const charts = [
    new Chart("Units a second", [
      { label: "committed", value: (sample) => sample.committed },
      { label: "rolled back", value: (sample) => sample.rolledBack },
    ], perSecond, 1),
    new Chart("Commit latency", [
      { label: "median", value: (sample) => sample.commitHalf },
      { label: "99th percentile", value: (sample) => sample.commitMost },
    ], seconds, 0.001),
  ];
  const element = make("div", { class: "stack" },
    make("dl", { class: "tiles" }, Object.values(tiles).map((each) => each.element)),
    make("div", { class: "charts" }, charts.map((chart) => chart.element)));
  return {
    title: "Overview",
    element,
    update({ status, waits }) {
      const units = status.units;
      const now = latest();
      tiles.committed.show(now.committed === null ? null : perSecond(now.committed),
        units && `${whole(units.committed)} since the start`);
      tiles.open.show(units && whole(units.open), units && `${plural(units.locksHeld, "document")} locked`);
      tiles.commit.element.hidden = !measures("holdfast_commit_duration_seconds");
      tiles.commit.show(now.commitHalf === null ? null : seconds(now.commitHalf),
        now.commitMost === null ? "" : `median; 99th percentile ${seconds(now.commitMost)}`);
      tiles.waits.show(waits === undefined ? null : whole(waits.waits.length) + (waits.more ? "+" : ""),
        units && `${plural(units.deadlocks, "deadlock")} broken`);
      tiles.conflicts.show(whole(status.unitsConflict ?? 0),
        status.unitsConflict > 0 ? "decide them" : "nothing to decide", status.unitsConflict > 0);
      tiles.journal.show(status.usedBytes === undefined ? null : bytes(status.usedBytes),
        status.quotaBytes === undefined ? "" : `of ${bytes(status.quotaBytes)}`);
      tiles.settled.show(now.unsettled === null ? null : plural(now.unsettled, "record"),
        "the server may still lose these");
      tiles.connections.show(status.connections === undefined ? null : whole(status.connections),
        `up ${age(status.proxy.uptimeMillis)}, version ${status.proxy.version}`);
      charts[1].element.hidden = !measures("holdfast_commit_duration_seconds");
      charts.forEach((chart) => chart.draw(samples, span()));
    },
  };
}
