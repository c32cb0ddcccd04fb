"""The report behind the tab: the very file that was judged, and no other file."""

import pytest

from contracts import release as names
from contracts.release import Manifest, Payload, file_entry


@pytest.fixture
def releases(tmp_path):
    folder = tmp_path / "releases" / "r1"
    (folder / names.EVIDENCE).mkdir(parents=True)
    report = folder / names.EVIDENCE / "report.html"
    report.write_text("<p>good")
    (tmp_path / "secret.html").write_text("secret")
    manifest = Manifest(release_id="r1", day="2026-03-31", payload=Payload(release_id="r1", files={}, payload_digest="p"), verdict="passed",
                        evidence={"report.html": file_entry(report)}, evidence_digest="e")
    (folder / names.MANIFEST).write_text(manifest.model_dump_json())
    return folder.parent


def test_the_judged_file(releases):
    from dags.lib.report import report_of

    assert report_of(releases, "r1") == b"<p>good"


@pytest.mark.parametrize("name", ["", ".", "..", "../r1", "../../etc", "/etc", "r1/evidence"])
def test_no_way_out_of_the_folder(releases, name):
    from dags.lib.report import report_of

    with pytest.raises((ValueError, FileNotFoundError)):
        report_of(releases, name)


def test_another_file_than_was_judged(releases):
    from dags.lib.report import report_of

    (releases / "r1" / names.EVIDENCE / "report.html").write_text("<p>excellent")
    with pytest.raises(ValueError, match="not the one that was judged"):
        report_of(releases, "r1")


def test_an_unjudged_release(releases):
    from dags.lib.report import report_of

    with pytest.raises(FileNotFoundError):
        report_of(releases, "r2")
