#!/usr/bin/env python3
"""Looks at a page of `tcpstate report` in headless Chromium (Debian: chromium), as a reader does.

usage: tests/page/check.py PAGE.html [FOLDER]

Fails if a chart is empty, the console says anything, a request leaves, the page is wider than the screen, or sorting and
searching do not do what they say; at 390 and 1600 pixels, light and dark. FOLDER gets a picture of each. The gate does not run it,
because Chromium is a hundred times the size of the program: run it after a change of src/render/page.
"""

import base64
import json
import os
import pathlib
import subprocess
import sys
import tempfile

SCREENS = [(390, 844, True, "light"), (390, 844, True, "dark"), (1600, 1000, False, "light"), (1600, 1000, False, "dark")]

# Of every chart: its lines, bars and texts that have an extent.
CHARTS = """[...document.querySelectorAll('svg')].map(svg => {
  const drawn = [...svg.querySelectorAll('polyline,circle,rect')].filter(e => {
    const box = e.getBBox(); return box.width > 0 || box.height > 0; });
  const seen = drawn.filter(e => {
    const style = getComputedStyle(e); return style.stroke != 'none' || style.fill != 'none'; });
  return { label: svg.getAttribute('aria-label'), width: svg.clientWidth, drawn: drawn.length, seen: seen.length,
           texts: [...svg.querySelectorAll('text')].map(t => t.textContent) }; })"""

# The cells of a column in their order, of the rows that are shown.
CELLS = """[...document.querySelectorAll('table.sockets tbody tr')].filter(r => r.getClientRects().length)
  .map(r => { const c = r.cells[%d]; return c.dataset.n === undefined ? c.textContent : Number(c.dataset.n); })"""
ROWS = """[...document.querySelectorAll('table.sockets tbody tr')].filter(r => r.getClientRects().length)
  .map(r => r.textContent)"""


class Browser:
    """Chromium, spoken to over a pair of pipes: commands end with a zero byte."""

    def __init__(self, folder):
        self.ours, theirs_out = os.pipe()
        theirs_in, self.to = os.pipe()
        # It reads descriptor 3, and writes 4.
        shell = 'exec "$@" 3<&%d 4>&%d' % (theirs_in, theirs_out)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
                   "--no-first-run", "--disable-extensions", f"--user-data-dir={folder}", "about:blank"]
        self.process = subprocess.Popen(["sh", "-c", shell, "sh", "chromium", *options],
                                        pass_fds=(theirs_in, theirs_out), stderr=subprocess.DEVNULL)
        os.close(theirs_in)
        os.close(theirs_out)
        self.rest, self.number, self.events, self.session = b"", 0, [], None

    def read(self):
        while b"\0" not in self.rest:
            more = os.read(self.ours, 1 << 16)
            if not more:
                sys.exit("chromium ended")
            self.rest += more
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def call(self, method, **params):
        self.number += 1
        message = {"id": self.number, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == self.number:
                if "error" in answer:
                    sys.exit(f"{method}: {answer['error']}")
                return answer["result"]
            self.events.append(answer)

    def wait(self, method):
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self.read())

    def value(self, expression):
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            sys.exit(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")


def check(complaints, screen, fact, text):
    if not fact:
        complaints.append(f"{screen}: {text}")


# Whether the cells of a column are in one order: numbers as numbers, text as people sort it.
SORTED = """(cells => { const pairs = cells.slice(1).map((b, i) => [cells[i], b]).filter(([a, b]) => typeof a === typeof b);
  const by = ([a, b]) => typeof a === 'number' ? a - b : a.localeCompare(b, undefined, { numeric: true });
  return pairs.every(p => by(p) <= 0) || pairs.every(p => by(p) >= 0); })"""


def look(browser, url, screen, folder):
    width, height, is_phone, scheme = screen
    complaints = []
    browser.events.clear()
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=is_phone)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    browser.call("Page.navigate", url=url)
    browser.wait("Page.loadEventFired")
    charts = browser.value(CHARTS)
    check(complaints, screen, charts, "there is no chart")
    for chart in charts:
        check(complaints, screen, chart["width"] > 200, f"chart {chart['label']} is {chart['width']} pixels wide")
        check(complaints, screen, chart["drawn"] == chart["seen"] > 0, f"chart {chart['label']} is empty: {chart}")
        check(complaints, screen, len(chart["texts"]) >= 3, f"chart {chart['label']} has no axis")
    wide = browser.value("[document.documentElement.scrollWidth, window.innerWidth]")
    check(complaints, screen, wide[0] <= wide[1], f"the page is {wide[0]} wide on a screen of {wide[1]}")
    if folder:
        size = browser.value("document.documentElement.scrollHeight")
        shot = browser.call("Page.captureScreenshot", captureBeyondViewport=True,
                            clip={"x": 0, "y": 0, "width": width, "height": min(size, 16000), "scale": 1})
        (folder / f"{width}-{scheme}.png").write_bytes(base64.b64decode(shot["data"]))
    heads = browser.value("[...document.querySelectorAll('table.sockets th')].map(h => h.textContent)")
    for column, head in enumerate(heads):
        press = f"document.querySelectorAll('table.sockets th button')[{column}].click()"
        orders = []
        for _ in range(2):
            browser.value(press)
            orders.append(browser.value(CELLS % column))
        is_sorted = [browser.value(f"{SORTED}({json.dumps(order)})") for order in orders]
        check(complaints, screen, all(is_sorted), f"{head} is not sorted")
        if len(set(map(str, orders[0]))) > 1:
            check(complaints, screen, orders[0] != orders[1], f"{head} has one order only")
    everything = browser.value(ROWS)
    word = browser.value(CELLS % heads.index("state"))[0].lower()
    type_in = ("(() => { const i = document.querySelector('input[type=search]'); i.value = %s;"
               " i.dispatchEvent(new Event('input', { bubbles: true })); })()")
    browser.value(type_in % json.dumps(word))
    shown = browser.value(ROWS)
    wanted = [row for row in everything if word in row.lower()]
    check(complaints, screen, sorted(shown) == sorted(wanted) and shown, f"search for {word} shows {len(shown)} of {len(wanted)}")
    browser.value(type_in % json.dumps("no row has this"))
    check(complaints, screen, browser.value(ROWS) == [], "a search for nothing shows something")
    browser.value(type_in % '""')
    check(complaints, screen, len(browser.value(ROWS)) == len(everything), "an empty search hides something")
    for event in browser.events:
        method, params = event.get("method"), event.get("params", {})
        if method in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded"):
            complaints.append(f"{screen}: console: {params}")
        if method == "Network.requestWillBeSent" and params["request"]["url"] != url:
            complaints.append(f"{screen}: a request: {params['request']['url']}")
    return complaints, len(charts), len(everything)


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    url = pathlib.Path(sys.argv[1]).resolve().as_uri()
    folder = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else None
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        browser.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            browser.call(f"{domain}.enable")
        complaints = []
        for screen in SCREENS:
            found, charts, rows = look(browser, url, screen, folder)
            complaints += found
            print(f"{screen[0]} px {screen[3]}: {charts} charts, {rows} rows, {len(found)} complaints")
        browser.session = None
        browser.call("Browser.close")
        browser.process.wait(10)
    sys.exit("\n".join(complaints) or 0)


main()
