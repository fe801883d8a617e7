// Requests to the daemon, and the token that some of them need. The token lives in this tab only,
// and is sent as a header: no page of another site can send it.

const KEY = "holdfast-token";
let token = sessionStorage.getItem(KEY) ?? "";
const listeners = new Set();

export class Refused extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

export class Away extends Error {}

export function hasToken() {
  return token !== "";
}

export function setToken(value) {
  token = value;
  if (value === "") {
    sessionStorage.removeItem(KEY);
  } else {
    sessionStorage.setItem(KEY, value);
  }
  listeners.forEach((listener) => listener());
}

export function onToken(listener) {
  listeners.add(listener);
}

async function send(method, path, patience) {
  const headers = token === "" ? {} : { Authorization: `Bearer ${token}` };
  let answer;
  let text;
  try {
    answer = await fetch(path, {
      method, headers, cache: "no-store", credentials: "omit", redirect: "error",
      signal: AbortSignal.timeout(patience),
    });
    text = await answer.text();
  } catch (error) {
    throw new Away(error.message);
  }
  if (!answer.ok) {
    throw new Refused(answer.status, messageOf(text));
  }
  return text;
}

function messageOf(text) {
  try {
    return String(JSON.parse(text).error);
  } catch {
    return text.trim().slice(0, 500);
  }
}

export async function getText(path, patience = 10000) {
  return send("GET", path, patience);
}

export async function getJson(path) {
  return JSON.parse(await send("GET", path, 10000));
}

export async function post(path) {
  return send("POST", path, 65000);
}
