"""The admin page in a real browser: what it shows, that it decides a conflict, that nothing in a
document becomes markup, and that it can be used by keys alone, on a phone, and in the dark."""

import http.client
import json

import pytest
from conftest import DATABASE, RawTransaction, Stack
from holdfast_testing import (
    Browser,
    Connection,
    Later,
    admin_port,
    ask_admin,
    find_browser,
    free_port,
    wait_until,
)

TOKEN = "a-token-of-the-admin-page-tests"
MARKUP = '<img src="x" onerror="window.broken=1"><script>window.broken=1</script>'
VIEWS = ("", "units", "conflicts", "waits", "journal", "observe")

needs_browser = pytest.mark.skipif(
    find_browser() is None,
    reason="no browser: tests/support/install_dependencies installs chromium; or HOLDFAST_BROWSER",
)


@pytest.fixture(scope="module")
def stack():
    settings = {
        "admin.listen": f"127.0.0.1:{free_port()}",
        "unit.lockWait": "30s",
        "upstream.fenceWait": "0",
    }
    with Stack(settings, environment={"HOLDFAST_ADMIN_TOKEN": TOKEN}) as made:
        yield made


@pytest.fixture(scope="module")
def browser():
    with Browser() as made:
        yield made


@pytest.fixture
def page(browser):
    with browser.page() as made:
        yield made
        assert [error for error in made.errors if "Failed to load resource" not in error] == []


def address(stack, view=""):
    return f"http://127.0.0.1:{admin_port(stack.proxy)}/#/{view}"


def show(page, stack, view="", token=False):
    page.goto(address(stack, view))
    page.wait_text("Serving")
    if token:
        page.evaluate(f"sessionStorage.setItem('holdfast-token', '{TOKEN}')")
        page.send("Page.reload")
        page.wait_text("Serving")
    page.wait("!!document.querySelector('main > :last-child:not([hidden])')", "the view is there")


def crash_with_conflict(stack, name):
    """A unit of a killed proxy, one of whose documents a stranger changed: recovery sets it aside.
    Returns its number."""
    direct = stack.direct[DATABASE][name]
    direct.insert_many(
        [
            {"_id": MARKUP, "v": 1, "kept": MARKUP, MARKUP: 1, "same": "alike"},
            {"_id": "clean", "v": 1},
        ]
    )
    with Connection(stack.proxy.port) as connection:
        unit = RawTransaction(connection)
        assert unit.update(name, {"_id": MARKUP}, {"$set": {"v": MARKUP}})["ok"]
        assert unit.update(name, {"_id": "clean"}, {"$set": {"v": 2}})["ok"]
        assert unit.insert(name, {"_id": "new", "at": {"deep": [1, MARKUP]}})["ok"]
        stack.proxy.kill()
    direct.update_one({"_id": MARKUP}, {"$set": {"v": "theirs " + MARKUP}})
    stack.proxy.start()
    conflicts = ask_admin(stack.proxy, "/conflicts")[1]["conflicts"]
    return next(c["unit"] for c in conflicts if c["namespaces"] == [f"{DATABASE}.{name}"])


# ---------------------------------------------------------------- what it shows, what it does


@needs_browser
def test_units_and_rollback(stack, page, name):
    """Open units with what they have written, who waits for whom; a rollback needs the token."""
    with Connection(stack.proxy.port) as first, Connection(stack.proxy.port) as second:
        holder, waiter = RawTransaction(first), RawTransaction(second)
        assert holder.insert(name, {"_id": 1})["ok"]
        assert holder.insert(name + "b", {"_id": 1})["ok"]
        later = Later(lambda: waiter.insert(name, {"_id": 1}), within=20)
        show(page, stack, "units")
        page.wait_text(f"{DATABASE}.{name}b, {DATABASE}.{name}")
        number = ask_admin(stack.proxy, "/units")[1]["units"][0]["unit"]
        page.wait_text(f"waits for unit {number}")
        show(page, stack, "waits")
        page.wait_text(f"Unit {number}")
        show(page, stack, "units")
        button = f'[aria-label="Roll unit {number} back"]'
        page.click(button)
        page.wait_text("Admin token")
        page.type("not the token, though as long")
        page.press("Enter")
        page.wait_text("This is not the token.")
        page.type(TOKEN)
        page.press("Enter")
        page.wait_text("Roll it back")
        page.wait_text("open for")
        page.click("dialog button.main")
        page.wait(f"document.querySelector('{button}') === null", "its row is gone")
        assert later.result()["ok"] == 1
        assert waiter.abort()["ok"] and not holder.commit()["ok"]
    page.wait_text("No unit is open")


@needs_browser
def test_conflict_by_keys_alone(stack, page, name):
    """A conflict that a crash left is decided without a mouse: each step is reached by Tab, in the
    order of what is shown, and the focus can be seen. Nothing a document holds becomes markup."""
    number = crash_with_conflict(stack, name)
    show(page, stack)

    def focused():
        return page.evaluate(
            """(() => { const e = document.activeElement; const s = getComputedStyle(e);
            return {text: e.getAttribute('aria-label') || e.closest('label')?.innerText
                        || e.innerText || '', tag: e.tagName, value: e.value || '',
                    ring: s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2}; })()"""
        )

    def tab_to(text, tag=""):
        passed = []
        for _ in range(60):
            page.press("Tab")
            now = focused()
            assert now["ring"] or now["tag"] in ("BODY", "MAIN", "HTML"), f"no ring on {now}"
            passed.append(now["text"])
            if text in now["text"] and tag in now["tag"]:
                return passed
        raise AssertionError(f"{text} is not reached: {passed}")

    passed = tab_to("Conflicts")
    assert passed[0] == "Skip to the content" and "Overview" in passed[2], passed
    page.press("Enter")
    page.wait_text("neither what it was before the unit")
    tab_to(f"Decide unit {number}")
    page.press("Enter")
    page.wait_text("need the admin token")
    tab_to("Give the token")
    page.press("Enter")
    page.wait("document.activeElement.id === 'token'", "the token's field has the focus")
    page.type(TOKEN)
    page.press("Enter")
    page.wait_text("0 of 3 documents decided")
    text = page.text()
    assert MARKUP in text and "theirs " + MARKUP in text
    assert "somebody else wrote" in text and "the unit wrote" in text
    assert page.evaluate("document.querySelectorAll('main img, main script').length") == 0
    assert page.evaluate("window.broken") is None
    for value in ("keep", "restore", "restore"):
        tab_to("Keep theirs", "INPUT")  # where a group of choices begins
        if value == "restore":
            page.press("ArrowDown")
        else:
            page.press(" ")
        assert focused()["value"] == value
    page.wait_text("3 of 3 documents decided")
    tab_to("Review")
    page.press("Enter")
    page.wait_text("All of it is done, or nothing.")
    assert "Stays as it is now." in page.text() and "The document is removed." in page.text()
    page.press("Escape")
    page.wait("document.querySelector('dialog') === null", "Escape closes the question")
    assert "Review" in focused()["text"], "the focus is not back"
    assert ask_admin(stack.proxy, "/conflicts")[1]["total"] == 1
    page.press("Enter")
    page.wait_text("All of it is done, or nothing.")
    tab_to("Carry it out")
    page.press("Enter")
    page.wait_text(f"Unit {number} is resolved: 2 documents changed.")
    page.wait_text("No conflicts")
    stored = stack.stored(name)
    assert set(stored) == {MARKUP, "clean"}
    assert stored[MARKUP]["v"] == "theirs " + MARKUP and stored["clean"]["v"] == 1


@needs_browser
def test_changed_since_it_was_shown(stack, page, name):
    """The question stays open and says so; nothing is done."""
    number = crash_with_conflict(stack, name)
    show(page, stack, f"conflicts/{number}", token=True)
    page.wait_text("0 of 3 documents decided")
    page.click(".sticky .actions button:first-child")
    stack.direct[DATABASE][name].update_one({"_id": "clean"}, {"$set": {"v": 77}})
    page.click(".sticky button.main")
    page.wait_text("All of it is done, or nothing.")
    page.click("dialog button.main")
    page.wait_text("look again")
    assert stack.stored(name)["clean"]["v"] == 77
    seen = ask_admin(stack.proxy, f"/conflict?unit={number}", token=TOKEN)[1]["seen"]
    path = f"/resolve?unit={number}&choices=k&seen={seen}"
    assert ask_admin(stack.proxy, path, "POST", token=TOKEN)[0] == 200


@needs_browser
def test_daemon_away(stack, page):
    """What was seen stays, with the time; when the daemon is back it goes on by itself."""
    show(page, stack)
    stack.proxy.kill()
    page.wait_text("holdfastd does not answer. What is shown was seen at")
    assert "Units committed" in page.text()
    stack.proxy.start()
    page.wait_text("Serving")
    page.wait("document.getElementById('notice').hidden", "the notice is gone")
    page.errors.clear()  # the browser complains of refused connections


@needs_browser
def test_documents_are_taken_apart(stack, page):
    """Canonical Extended JSON: no field is lost or moved, types that differ are told, and what is
    malformed is an error. (The program's own modules, run where they run.)"""
    show(page, stack)
    text = """{"b": {"$numberInt": "1"}, "1": {"$numberDouble": "-0.0"}, "0": {"$numberLong": "5"},
        "__proto__": {"x.y": [null, true, {"$numberDecimal": "1.10"}], "e": {}, "l": []},
        "d": {"$date": {"$numberLong": "0"}}, "q": "\\u0041\\"\\\\", "n": {"$numberDouble": "NaN"},
        "o": {"$oid": "6b07a0343a5210c72f300dc7", "more": "no type"}}"""
    page.evaluate("import('/ejson.js').then((module) => { window.ejson = module; })")
    flat = page.evaluate(f"[...ejson.flatten(ejson.parse({json.dumps(text)}))]")
    assert [(path, leaf["text"], leaf["type"]) for path, leaf in flat] == [
        ("b", "1", "int"),
        ("1", "-0", "double"),
        ("0", "5", "long"),
        ('__proto__."x.y".0', "null", "null"),
        ('__proto__."x.y".1', "true", "bool"),
        ('__proto__."x.y".2', "1.10", "decimal"),
        ("__proto__.e", "{ }", "object"),
        ("__proto__.l", "[ ]", "array"),
        ("d", "1970-01-01T00:00:00.000Z", "date"),
        ("q", 'A"\\', "string"),
        ("n", "NaN", "double"),
        ("o.$oid", "6b07a0343a5210c72f300dc7", "string"),
        ("o.more", "no type", "string"),
    ]
    for bad in ("", "{", "[1,", '{"a" 1}', '"x', "{} {}", '{"a": }', "nul"):
        assert page.evaluate(
            f"(() => {{ try {{ ejson.parse({json.dumps(bad)}); return false; }}"
            " catch (error) { return error instanceof SyntaxError; } })()"
        ), bad
    compared = """ejson.compare(['{"a": 1, "b": 2}', '{"b": 2, "a": 1}']
        .map((text) => ({is: "present", document: ejson.parse(text)})))"""
    assert page.evaluate(f"{compared}.reordered") is True
    assert page.evaluate(f"{compared}.rows.every((row) => row.same)") is True


@needs_browser
def test_metrics_are_understood(stack, page):
    """Quantiles of what came between two looks, over all labels."""
    show(page, stack)
    page.evaluate("import('/metrics.js').then((module) => { window.metrics = module; })")
    looks = [
        'x_bucket{le="0.001",a="1"} 10\nx_bucket{le="0.01",a="1"} 10\nx_bucket{le="+Inf",a="1"} 10\n',
        'x_bucket{le="0.001",a="1"} 10\nx_bucket{le="0.01",a="1"} 30\nx_bucket{le="+Inf",a="1"} 30\n'
        'x_bucket{le="0.001",a="2"} 20\nx_bucket{le="0.01",a="2"} 20\nx_bucket{le="+Inf",a="2"} 20\n',
    ]
    first, second = (f"metrics.parse({json.dumps(look)})" for look in looks)
    assert page.evaluate(f"metrics.quantile({first}, {second}, 'x', 0.5)") == pytest.approx(0.001)
    assert page.evaluate(f"metrics.quantile({first}, {second}, 'x', 0.75)") == pytest.approx(0.0055)
    assert page.evaluate(f"metrics.quantile({first}, {first}, 'x', 0.5)") is None
    assert page.evaluate(f"metrics.quantile({first}, {second}, 'y', 0.5)") is None


# ---------------------------------------------------------------- for everybody


CONTRAST = """(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = (rgb) => rgb.slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (element) => {
    for (let at = element; at !== null; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.length === 3 || color[3] === 1) return color;
    }
    return [255, 255, 255];
  };
  const bad = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (text === "" || !element.checkVisibility({visibilityProperty: true})) continue;
    const svg = element instanceof SVGElement;
    const ink = luminance(parse(svg ? getComputedStyle(element).fill : getComputedStyle(element).color));
    const under = luminance(ground(element));
    const ratio = (Math.max(ink, under) + 0.05) / (Math.min(ink, under) + 0.05);
    if (ratio < 4.5) bad.push(`${text}: ${ratio.toFixed(2)}`);
  }
  return bad;
})()"""


@needs_browser
@pytest.mark.parametrize("width, dark", [(1280, False), (1280, True), (375, False), (375, True)])
def test_readable_everywhere(stack, browser, name, width, dark):
    """Each view fits the width of a phone, and each text stands out from what it stands on; what can
    be operated has a name for those who do not see it."""
    number = crash_with_conflict(stack, name)
    with browser.page(width=width, height=812, dark=dark) as page:
        show(page, stack, token=True)
        for view in (*VIEWS, f"conflicts/{number}"):
            show(page, stack, view)
            if view.startswith("conflicts/"):
                page.wait_text("0 of 3 documents decided")
                page.evaluate(
                    "document.querySelectorAll('input[value=restore]').forEach((e) => e.click())"
                )
                page.click(".sticky button.main")
                page.wait_text("All of it is done, or nothing.")
            size = page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert size[0] <= size[1], f"{view} is wider than the window: {size}"
            assert page.evaluate(CONTRAST) == [], view
            nodes = page.send("Accessibility.getFullAXTree")["nodes"]
            roles = {"button", "link", "textbox", "radio", "dialog", "table", "navigation", "image"}
            for node in nodes:
                if not node["ignored"] and node["role"]["value"] in roles:
                    assert node.get("name", {}).get("value"), f"{view}: {node['role']} has no name"
    seen = ask_admin(stack.proxy, f"/conflict?unit={number}", token=TOKEN)[1]["seen"]
    path = f"/resolve?unit={number}&choices=k&seen={seen}"
    assert ask_admin(stack.proxy, path, "POST", token=TOKEN)[0] == 200


@needs_browser
def test_nothing_jumps(stack, page, client, name):
    """While units come and go, what is shown stays where it is."""
    show(page, stack)
    page.wait("document.querySelectorAll('.chart path').length > 0", "the charts are drawn")
    page.evaluate(
        """window.shift = 0; new PerformanceObserver((list) => { for (const entry of list.getEntries())
        if (!entry.hadRecentInput) window.shift += entry.value; })
        .observe({type: 'layout-shift', buffered: false}), 0"""
    )
    before = page.evaluate("document.querySelector('.chart path').getAttribute('d')")
    client[DATABASE][name].insert_many({"_id": i} for i in range(20))
    page.wait(
        f"document.querySelector('.chart path').getAttribute('d') !== {json.dumps(before)}",
        "the chart goes on",
    )
    assert page.evaluate("window.shift") < 0.01


# ---------------------------------------------------------------- against others


def headers_of(stack, path, method="GET", **headers):
    """(HTTP status, headers, text)."""
    connection = http.client.HTTPConnection("127.0.0.1", admin_port(stack.proxy), timeout=20)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def test_headers(stack):
    """The page loads and runs nothing but its own files, in nobody's frame, and is kept nowhere. No
    file holds a handler or a style in its markup."""
    code, headers, index = headers_of(stack, "/")
    assert code == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    assert " on" not in index.lower().replace(" only", "") and "style=" not in index
    for path in ("/", "/app.js", "/style.css", "/mark.svg", "/status", "/nothing"):
        code, headers, _ = headers_of(stack, path)
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy, path
        assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers_of(stack, "/app.js")[1]["Content-Type"].startswith("text/javascript")


def test_pages_of_others(stack):
    """A name that leads here by another's DNS, and requests that another site's page sends, are
    refused; the token's owner may use any name."""
    for path in ("/status", "/units", "/waits", "/conflicts", "/observe"):
        for host in ("localhost", "127.0.0.1:1", "[::1]:27019", "admin.localhost"):
            assert headers_of(stack, path, Host=host)[0] == 200, (path, host)
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "[::1"):
            assert headers_of(stack, path, Host=host)[0] == 421, (path, host)
        mine = {"Host": "holdfast.internal", "Authorization": f"Bearer {TOKEN}"}
        assert headers_of(stack, path, **mine)[0] == 200
        assert headers_of(stack, path, Origin="http://evil.example")[0] == 403
        assert headers_of(stack, path, Origin="null")[0] == 403
        assert headers_of(stack, path, Sec_Fetch_Site="cross-site")[0] == 403
        assert headers_of(stack, path, Sec_Fetch_Site="same-origin")[0] == 200
    right = {"Authorization": f"Bearer {TOKEN}"}
    path = "/rollback?unit=999999"
    assert headers_of(stack, path, "POST", **right)[0] == 404
    assert headers_of(stack, path, "POST", Origin="http://evil.example", **right)[0] == 403
    assert headers_of(stack, path, "POST", Sec_Fetch_Site="same-site", **right)[0] == 403
    host = f"127.0.0.1:{admin_port(stack.proxy)}"
    assert headers_of(stack, path, "POST", Origin=f"http://{host}", **right)[0] == 404
    # Monitors are no browsers, and call a proxy by any name.
    for path in ("/healthz", "/readyz", "/metrics"):
        assert headers_of(stack, path, Host="holdfast.internal")[0] == 200


def test_token(stack):
    """What documents hold, and what changes something, needs the token; what is shown otherwise
    does not."""
    for path, method in (("/conflict?unit=1", "GET"), ("/token", "GET"), ("/resolve?unit=1", "POST")):
        assert ask_admin(stack.proxy, path, method)[0] == 401, path
        assert ask_admin(stack.proxy, path, method, token=TOKEN + "x")[0] == 401, path
        assert ask_admin(stack.proxy, path, method, token=TOKEN)[0] in (200, 400, 404), path
    assert headers_of(stack, "/conflict?unit=1", "POST", Authorization=f"Bearer {TOKEN}")[0] == 405


def test_answers_are_bounded(stack, name):
    """Units come in pages of a hundred at most, oldest first."""
    with Connection(stack.proxy.port) as raw:
        units = [RawTransaction(raw) for _ in range(130)]
        for number, unit in enumerate(units):
            assert unit.insert(name, {"_id": number})["ok"]
        first = ask_admin(stack.proxy, "/units?count=100000")[1]
        assert (len(first["units"]), first["open"], first["more"]) == (100, 130, True)
        rest = ask_admin(stack.proxy, "/units?from=100")[1]
        assert (len(rest["units"]), rest["more"]) == (30, False)
        numbers = [unit["unit"] for unit in first["units"] + rest["units"]]
        assert numbers == sorted(set(numbers)) and len(numbers) == 130
        assert ask_admin(stack.proxy, "/units?from=99999999999999999999&count=x")[0] == 200
        assert len(ask_admin(stack.proxy, "/status?units=5")[1]["units"]["list"]) == 5
        for unit in units:
            assert unit.abort()["ok"]
    wait_until(lambda: ask_admin(stack.proxy, "/units")[1]["open"] == 0, 10, "all have ended")
