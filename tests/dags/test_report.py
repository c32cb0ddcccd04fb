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


@pytest.mark.parametrize("path", ["promote/r1", "promote/..%2F..%2Fetc", "nightly/manual__x"])
def test_nobody_reads_it_without_a_login(path):
    from fastapi.testclient import TestClient

    from dags.lib.report import routes

    client = TestClient(routes())
    expected = 404 if ".." in path else 401  # a slash in a name makes it no route at all
    assert client.get(f"/report/{path}").status_code == expected
    assert client.get(f"/report/{path}", headers={"Authorization": "Basic YWRtaW46YWRtaW4="}).status_code == expected


def test_the_plugin_is_light_until_somebody_asks():
    """Every Airflow process imports it, the tasks' too."""
    import subprocess
    import sys

    from contracts.settings import REPOSITORY

    told = "import sys, dags.plugins.evidence; print('dags.lib.report' in sys.modules, 'airflow.api_fastapi.core_api.security' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "False False"
