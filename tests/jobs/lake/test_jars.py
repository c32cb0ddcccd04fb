"""The jars are pinned, verified, and fetched at most once."""

from jobs.lake import jars


def test_pins_are_whole_and_the_environment_has_them():
    pinned = jars.pinned()
    assert {jar.artifact for jar in pinned} == {"iceberg-spark-runtime-4.1_2.13", "sqlite-jdbc", "postgresql"}
    assert all(len(jar.sha256) == 64 and jar.size > 0 for jar in pinned)
    assert jars.jar_paths() == [str(jar.path) for jar in pinned]


def test_install_again_fetches_nothing(monkeypatch):
    monkeypatch.setattr(jars, "_fetch", lambda *_: (_ for _ in ()).throw(AssertionError("fetched again")))
    assert jars.install() == []


def test_a_changed_jar_is_not_right(tmp_path):
    jar = jars.pinned()[-1]
    whole = jar.path.read_bytes()
    (tmp_path / "changed.jar").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert not jars._is_right(tmp_path / "changed.jar", jar)
    assert jars._is_right(jar.path, jar)
