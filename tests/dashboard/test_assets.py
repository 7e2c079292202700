"""The files that pages load: whose they are, and how they are served."""

import gzip
from hashlib import sha256

from admin.rig import Api
from dashboard.person import Person
from tokenferry.dashboard._assets import FOLDER, Assets

VENDORED = {
    "htmx.min.js": "a0abb04f2f45a1f89d1d4844023245537e5e6014c87b144553e0607b4cc32130",
    "hx-csp.min.js": "a7e1e6711ae6c3e50ad300fba7936cbe8d07599cdae313414a179ddd6b26e143",
    "hx-sse.min.js": "18ef2761356ec1fe0bb6d92612315b37517a7c1e9856b661c5ae81fef239d103",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""Of the npm packages htmx.org 4.0.1 and uplot 1.6.32, unchanged."""


def test_vendored_files_are_those_of_their_packages_and_their_licences_lie_beside() -> None:
    folder = FOLDER / "vendor"
    found = {path.name: sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.suffix != ".txt"}
    assert found == VENDORED
    assert "Zero-Clause BSD" in (folder / "htmx-LICENSE.txt").read_text()
    assert "Leon Sorokin" in (folder / "uPlot-LICENSE.txt").read_text()


def test_a_file_is_kept_for_good_under_a_name_that_changes_with_it(api: Api) -> None:
    assets = Assets()
    for name in (*VENDORED, "dashboard.css", "dashboard.js", "enter.js", "ferry.svg"):
        answer = Person(api).open(assets.url(name))
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        digest = sha256(answer.content).hexdigest()
        assert assets.url(name) == f"/dashboard/static/{digest[:16]}.{name}"
    assert Person(api).open(f"/dashboard/static/{'0' * 16}.htmx.min.js").status_code == 404


def test_what_a_page_loads_is_small() -> None:
    loaded = [one for name, one in Assets().files.items() if "uPlot" not in name]
    assert sum(len(one.compressed) for one in loaded) < 32_000
    for one in loaded:
        assert gzip.decompress(one.compressed) == one.content
