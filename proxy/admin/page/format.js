// Numbers, times and texts as people read them.

const grouped = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function whole(number) {
  return grouped.format(number);
}

export function plural(count, one, many = `${one}s`) {
  return `${whole(count)} ${count === 1 ? one : many}`;
}

// Three significant digits.
export function short(number) {
  if (number === 0) {
    return "0";
  }
  if (number >= 100) {
    return grouped.format(number);
  }
  return String(Number(number.toPrecision(number >= 10 ? 3 : 2)));
}

export function perSecond(value) {
  return `${short(value)}/s`;
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (number >= 1024 && at < units.length - 1) {
    number /= 1024;
    at++;
  }
  return `${at === 0 ? grouped.format(number) : short(number)} ${units[at]}`;
}

export function seconds(value) {
  if (value < 0.001) {
    return `${short(value * 1e6)} µs`;
  }
  return value < 1 ? `${short(value * 1000)} ms` : `${short(value)} s`;
}

export function age(milliseconds) {
  const total = milliseconds / 1000;
  if (total < 60) {
    return `${total.toFixed(1)} s`;
  }
  const minutes = Math.floor(total / 60);
  if (minutes < 60) {
    return `${minutes} min ${Math.floor(total % 60)} s`;
  }
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

export function clock(date) {
  return date.toLocaleTimeString("en-GB");
}

export function moment(text) {
  return text.replace("T", " ").replace(/\.\d+Z$/, " UTC");
}

// Characters that cannot be seen, or that turn the direction of the text, as their numbers: else a
// document could look like another one.
const unseen =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/gu;

export function visible(text) {
  return text.replace(unseen, (found) => `\\u{${found.codePointAt(0).toString(16)}}`);
}
