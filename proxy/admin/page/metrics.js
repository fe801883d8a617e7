// What /metrics says, as far as the charts need it: the text format of Prometheus.

const line = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)/;
const bound = /(?:^|,)le="([^"]+)"/;

// A Map of name to the sum over all labels; of histograms a Map of upper bound to count.
export function parse(text) {
  const sums = new Map();
  const buckets = new Map();
  for (const each of text.split("\n")) {
    const found = each.startsWith("#") ? null : line.exec(each);
    if (found === null) {
      continue;
    }
    const value = Number(found[3]);
    const le = found[1].endsWith("_bucket") ? bound.exec(found[2] ?? "") : null;
    if (le !== null) {
      const name = found[1].slice(0, -7);
      const bounds = buckets.get(name) ?? new Map();
      const upper = le[1] === "+Inf" ? Infinity : Number(le[1]);
      bounds.set(upper, (bounds.get(upper) ?? 0) + value);
      buckets.set(name, bounds);
    } else {
      sums.set(found[1], (sums.get(found[1]) ?? 0) + value);
    }
  }
  return { sums, buckets };
}

// The quantile of what came between two looks, in the histogram's unit; null if nothing came, or
// there is no such histogram. Within a bucket it is taken as evenly spread, as Prometheus does.
export function quantile(before, after, name, share) {
  const now = after?.buckets.get(name);
  const then = before?.buckets.get(name);
  if (now === undefined || then === undefined) {
    return null;
  }
  const bounds = [...now.keys()].sort((a, b) => a - b);
  const counts = bounds.map((upper) => now.get(upper) - (then.get(upper) ?? 0));
  const total = counts[counts.length - 1];
  if (!(total > 0)) {
    return null;
  }
  const rank = share * total;
  const at = counts.findIndex((count) => count >= rank);
  const lower = at === 0 ? 0 : bounds[at - 1];
  if (bounds[at] === Infinity) {
    return lower;
  }
  const below = at === 0 ? 0 : counts[at - 1];
  return lower + (bounds[at] - lower) * ((rank - below) / (counts[at] - below));
}
