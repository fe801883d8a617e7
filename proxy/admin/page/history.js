// What was seen in the last ten minutes. It is kept in this page only, and begins with it.
import { quantile } from "./metrics.js";

const SPAN_MAX_MS = 600000;
export const samples = [];
let last = null;

// Counters that fell belong to another life of the daemon: nothing can be said about the time
// between.
function rate(now, then, elapsed) {
  return now === undefined || then === undefined || now < then || elapsed <= 0
    ? null : (now - then) / elapsed;
}

export function add(status, metrics) {
  const at = Date.now();
  const seen = { at, status, metrics };
  if (last !== null && at - last.at > 15000) {
    last = null; // the page was asleep
  }
  const elapsed = last === null ? 0 : (at - last.at) / 1000;
  const units = status.units ?? {};
  const before = last?.status.units ?? {};
  const of = (name, share) => quantile(last?.metrics, metrics, name, share);
  samples.push({
    at,
    committed: rate(units.committed, before.committed, elapsed),
    rolledBack: rate(units.rolledBack, before.rolledBack, elapsed),
    syncs: rate(status.batches, last?.status.batches, elapsed),
    groups: rate(status.groups, last?.status.groups, elapsed),
    open: units.open ?? null,
    used: status.usedBytes ?? null,
    unsettled: status.settledLsn === undefined ? null : Math.max(0, status.lastLsn - status.settledLsn),
    commitHalf: of("holdfast_commit_duration_seconds", 0.5),
    commitMost: of("holdfast_commit_duration_seconds", 0.99),
    syncHalf: of("holdfast_journal_fsync_duration_seconds", 0.5),
    syncMost: of("holdfast_journal_fsync_duration_seconds", 0.99),
    waitMost: of("holdfast_lock_wait_duration_seconds", 0.99),
  });
  while (samples.length > 0 && at - samples[0].at > SPAN_MAX_MS) {
    samples.shift();
  }
  last = seen;
}

// What the charts show: not much more than there is.
export function span() {
  const have = samples.length === 0 ? 0 : samples[samples.length - 1].at - samples[0].at;
  return [100000, 300000, SPAN_MAX_MS].find((each) => have <= each) ?? SPAN_MAX_MS;
}

// Whether the daemon measures this at all.
export function measures(name) {
  return last?.metrics.buckets.has(name) ?? false;
}

export function latest() {
  return samples[samples.length - 1];
}
