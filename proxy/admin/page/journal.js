// The journal: how full it is, and how its disk does.
import { make, setClass, setText } from "./dom.js";
import { Chart, ceilingOfBytes } from "./chart.js";
import { bytes, perSecond, plural, seconds, short, whole } from "./format.js";
import { latest, measures, samples, span } from "./history.js";

export function journal() {
  const fill = make("div");
  const meter = make("div", { class: "meter", role: "meter", "aria-label": "Journal in use",
    "aria-valuemin": "0", "aria-valuemax": "100" }, fill);
  const use = make("p");
  const names = ["Records", "Their places (LSN)", "Settled up to", "Units open", "Units in conflict",
    "Groups per commit of the journal", "Journal", "Database"];
  const values = new Map(names.map((name) => [name, make("dd")]));
  const list = make("dl", { class: "facts" },
    names.flatMap((name) => [make("dt", {}, name), values.get(name)]));
  const charts = [
    new Chart("Journal in use", [{ label: "bytes in use", value: (sample) => sample.used }], bytes, 10240, ceilingOfBytes),
    new Chart("Syncs a second", [
      { label: "syncs", value: (sample) => sample.syncs },
      { label: "groups of records", value: (sample) => sample.groups },
    ], perSecond, 1),
    new Chart("Sync of the disk", [
      { label: "median", value: (sample) => sample.syncHalf },
      { label: "99th percentile", value: (sample) => sample.syncMost },
    ], seconds, 0.001),
    new Chart("Not settled yet", [
      { label: "records the server may still lose", value: (sample) => sample.unsettled },
    ], short, 10),
  ];
  const element = make("div", { class: "stack" },
    make("section", { class: "card" }, use, meter, list),
    make("div", { class: "charts" }, charts.map((chart) => chart.element)));
  return {
    title: "Journal",
    element,
    update({ status }) {
      if (status.usedBytes === undefined) {
        setText(use, status.journalError ?? "The journal is not open yet.");
        return;
      }
      const share = status.usedBytes / status.quotaBytes;
      setText(use, `${bytes(status.usedBytes)} of ${bytes(status.quotaBytes)} (wal.quota) in use, ` +
        `${short(share * 100)} %`);
      fill.style.width = `${Math.min(100, share * 100)}%`;
      meter.setAttribute("aria-valuenow", String(Math.round(share * 100)));
      setClass(meter, "warn", share > 0.8);
      const show = {
        "Records": whole(status.records),
        "Their places (LSN)": status.records === 0 ? "none"
          : `${whole(status.firstLsn)} to ${whole(status.lastLsn)}`,
        "Settled up to": status.settledLsn === undefined ? "–" : `${whole(status.settledLsn)}, ` +
          `${plural(latest().unsettled, "record")} behind`,
        "Units open": whole(status.unitsOpen),
        "Units in conflict": whole(status.unitsConflict),
        "Groups per commit of the journal": status.batches > 0
          ? short(status.groups / status.batches) : "–",
        "Journal": status.journal,
        "Database": status.identity ?? "not known yet",
      };
      names.forEach((name) => setText(values.get(name), show[name]));
      charts[2].element.hidden = !measures("holdfast_journal_fsync_duration_seconds");
      charts.forEach((chart) => chart.draw(samples, span()));
    },
  };
}
