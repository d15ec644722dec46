"""A report as a browser shows it: of a real run, in light and in dark, on paper, and on a phone."""

import re
import shutil
import sys
import tempfile

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
QUIET = (
    "headless no-sandbox disable-gpu no-first-run disable-background-networking disable-component-update disable-sync"
)
QUIET += " hide-scrollbars allow-file-access-from-files enable-logging=stderr v=0"
PHONE = 360  # pixels
FRAME = """<body><script>
const frame = document.createElement("iframe");
frame.width = {width}; frame.height = 800; frame.src = "page.html";
frame.onload = () => {{
  const inner = frame.contentDocument;
  document.title = [inner.documentElement.scrollWidth, inner.querySelectorAll("svg").length,
    [...inner.querySelectorAll("svg")].filter(svg => svg.getBoundingClientRect().height > 100).length].join(" ");
}};
document.body.append(frame);
</script></body>"""

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed to look at a report with")


@pytest.fixture(scope="module")
def page(shared_run, shared_folder):
    """The report on a run of this version."""
    train = ("--l2", "1e-3", "--max-steps", "12", "--valid-fraction", "0.2", "--evaluate-every", "2", "--out", "run")
    assert shared_run(sys.executable, "-m", "distsoftmax.train", *train).status == 0
    made = shared_run(sys.executable, "-m", "distsoftmax.report", "run", "--out", "page.html")
    assert (made.status, made.out) == (0, "report on 1 run: page.html\n"), made
    return shared_folder / "page.html"


@pytest.fixture
def browser(run):
    """Run a browser without a window; what pages say on the console makes the test fail."""

    def browser(*options, address):
        with tempfile.TemporaryDirectory() as profile:  # not in the test's folder: its sockets need short names
            words = [f"--{word}" for word in (*QUIET.split(), *options)]
            ended = run(CHROMIUM, *words, f"--user-data-dir={profile}", address.as_uri(), deadline=100)
        assert ended.status == 0, ended
        assert not re.findall(r".*CONSOLE.*", ended.err), ended.err
        return ended.out

    return browser


def picture_of(page, browser, folder, *options):
    from PIL import Image

    browser("window-size=1000,1600", f"screenshot={folder}/page.png", *options, address=page)
    with Image.open(folder / "page.png") as image:
        return image.convert("L")


@pytest.mark.parametrize(("scheme", "is_dark"), [(1, False), (0, True)], ids=["light", "dark"])
def test_a_page_follows_the_colours_of_its_reader(page, browser, tmp_path, scheme, is_dark):
    image = picture_of(page, browser, tmp_path, f"blink-settings=preferredColorScheme={scheme}")
    shades = image.histogram()
    ground = max(range(256), key=shades.__getitem__)
    assert ground < 40 if is_dark else ground > 250
    drawn = image.size[0] * image.size[1] - sum(shades[max(0, ground - 12) : ground + 13])
    assert 0.02 < drawn / (image.size[0] * image.size[1]) < 0.4  # there are texts and lines on it


def test_a_page_is_as_narrow_as_a_phone_and_all_its_pictures_are_there(page, browser):
    frame = page.with_name("frame.html")
    frame.write_text(FRAME.format(width=PHONE))
    titles = re.findall(
        r"<title>(\d+) (\d+) (\d+)</title>", browser("virtual-time-budget=5000", "dump-dom", address=frame)
    )
    ((width, n_pictures, n_shown),) = [map(int, numbers) for numbers in titles]
    assert width <= PHONE
    assert n_shown == n_pictures >= 7


def test_a_page_prints(page, browser, tmp_path):
    browser(
        f"print-to-pdf={tmp_path}/page.pdf",
        "no-pdf-header-footer",
        "blink-settings=preferredColorScheme=0",
        address=page,
    )
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type /Page\b", content)) <= 6
