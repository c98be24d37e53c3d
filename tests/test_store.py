"""Tests the content store: named blobs are complete; on the virtual phone and on one of genuine parts."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bundler import layout
from bundler.device import store as store_module
from bundler.device.blobs import Blob
from bundler.device.phone import Completed, Phone
from bundler.device.store import Store
from bundler.errors import PhoneFull, PhoneLost, PhoneRefused
from tests.deploying import quiet, sh
from tests.phones import genuine_phone, virtual_phone, why_no_genuine_phone

STORE = layout.REMOTE_ROOT / "store"


@pytest.fixture(autouse=True)
def emptied(request: pytest.FixtureRequest) -> Iterator[None]:
    yield
    if "phone" in request.fixturenames:
        sh(request.getfixturevalue("phone"), f"rm -rf {layout.REMOTE_ROOT}")


def blobs(folder: Path, *sizes: int) -> list[Blob]:
    made = []
    for number, size in enumerate(sizes):
        path = folder / f"blob {number} $(id) é"
        path.write_bytes(hashlib.sha256(str(number).encode()).digest() * (size // 32) + bytes(size % 32))
        made.append(Blob.of(path))
    return made


def there(phone: Phone) -> list[str]:
    """Returns the blobs in the store, and verifies their checksums."""
    lines = sh(phone, f"cd {STORE} && for f in *; do [ -f $f ] && sha256sum $f; done; true").split()
    assert lines[::2] == lines[1::2]
    return sorted(lines[::2])


def push(phone: Phone, wanted: list[Blob], *, careful: bool = False) -> int:
    store = Store(phone, quiet, careful=careful)
    store.push(wanted, None)
    return store.pushed_bytes


def test_blobs_arrive_once_and_whole(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000)
    made = blobs(tmp_path, 0, 1, 512, 70_000, 300_000, 1_000_001)
    assert push(phone, made) > sum(blob.size for blob in made)
    assert there(phone) == sorted(blob.sha256 for blob in made)
    assert push(phone, made) == 0
    assert sh(phone, f"find {STORE}/incoming -type f") == ""


def test_what_comes_later_is_made_while_the_phone_is_at_the_first(
    phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = made = blobs(tmp_path, 1000, 2000, 3000)
    order: list[str] = []
    run = Phone.run

    def noted(self: Phone, *argv: Any, doing: str, **more: Any) -> Completed:
        order.append(doing)
        return run(self, *argv, doing=doing, **more)

    def later() -> Iterator[Blob]:
        for blob in others:
            order.append("made")
            yield blob

    monkeypatch.setattr(Phone, "run", noted)
    Store(phone, quiet).push([first], None, later())
    assert order == ["making checksums", "made", "made", "pushing the bundle"]
    assert there(phone) == sorted(blob.sha256 for blob in made)


def test_what_was_damaged_or_removed_is_pushed_again(phone: Phone, tmp_path: Path) -> None:
    made = blobs(tmp_path, 1000, 2000, 3000)
    push(phone, made)
    sh(phone, f"cd {STORE} && echo x >>{made[0].sha256} && rm {made[1].sha256}")
    assert 3000 < push(phone, made) < 6000
    assert there(phone) == sorted(blob.sha256 for blob in made)


def test_a_large_blob_goes_on_where_it_was(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000)
    (large,) = blobs(tmp_path, 5_000_000)
    rest = Blob(tmp_path / "rest", large.sha256, large.size)
    rest.path.write_bytes(large.path.read_bytes()[:3_000_000])
    with pytest.raises(store_module.TransferDamaged, match="not all of it came"):  # type: ignore[attr-defined]
        push(phone, [rest])  # at once: nothing of it stays
    assert sh(phone, f"find {STORE}/incoming -type f") == ""
    with pytest.raises(store_module.TransferDamaged, match="not all of it came"):  # type: ignore[attr-defined]
        push(phone, [rest], careful=True)
    assert sh(phone, f"ls {STORE}/incoming").split() == [f"{large.sha256}.part"]
    assert push(phone, [large]) == 2_000_000
    assert there(phone) == [large.sha256]


def test_a_wrong_beginning_is_thrown_away(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000)
    (large,) = blobs(tmp_path, 500_000)
    sh(phone, f"mkdir -p {STORE}/incoming && echo wrong >{STORE}/incoming/{large.sha256}.part")
    with pytest.raises(store_module.TransferDamaged, match="arrived damaged"):  # type: ignore[attr-defined]
        push(phone, [large])
    assert push(phone, [large]) == 500_000
    assert there(phone) == [large.sha256]


def test_what_a_dying_phone_left_of_a_blob_goes_when_it_is_old(phone: Phone, tmp_path: Path) -> None:
    made = blobs(tmp_path, 1000)
    old, new, part = (f"{made[0].sha256}.{end}" for end in ("0123abcd", "4567cdef", "part"))
    sh(phone, f"mkdir -p {STORE}/incoming && cd {STORE}/incoming && echo x | tee {old} {new} {part} >/dev/null")
    sh(phone, f"cd {STORE}/incoming && touch -t 202001010000 {old} {part}")
    push(phone, made)
    assert sorted(sh(phone, f"ls {STORE}/incoming").split()) == sorted([new, part])


def test_two_push_at_once(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One begins, another pushes everything meanwhile, and then the first continues."""
    made, between = blobs(tmp_path, 70_000, 80_000, 900_000), []
    tar_of = store_module.tar_of  # type: ignore[attr-defined]

    def interrupted(wanted: Iterable[Blob]) -> Iterator[bytes]:
        for number, piece in enumerate(tar_of(wanted)):
            if number == 4:
                monkeypatch.setattr(store_module, "tar_of", tar_of)
                between.append(push(phone.server.find(phone.serial), made[1:]))
            yield piece

    monkeypatch.setattr(store_module, "tar_of", interrupted)
    assert push(phone, made) > sum(blob.size for blob in made)
    assert between[0] > 980_000
    assert there(phone) == sorted(blob.sha256 for blob in made)
    assert sh(phone, f"ls {STORE}/incoming") == ""


@pytest.mark.parametrize("number", ["99999999", "$$"], ids=["nobody's", "somebody else's"])
def test_what_came_of_a_tar_before_the_phone_died_is_used(number: str, phone: Phone, tmp_path: Path) -> None:
    made = blobs(tmp_path, 1000, 2000)
    push(phone, made)
    sh(phone, f"cd {STORE} && mkdir incoming/tar.{number} && mv {made[0].sha256} incoming/tar.{number}")
    assert push(phone, made) == 0
    assert there(phone) == sorted(blob.sha256 for blob in made)
    assert sh(phone, f"ls {STORE}/incoming") == ""


def test_more_than_all_of_a_blob_is_thrown_away(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000)
    (large,) = blobs(tmp_path, 200_000)
    sh(phone, f"mkdir -p {STORE}/incoming && head -c 200001 /dev/zero >{STORE}/incoming/{large.sha256}.part")
    with pytest.raises(store_module.TransferDamaged, match="not all of it came"):  # type: ignore[attr-defined]
        push(phone, [large], careful=True)
    assert push(phone, [large], careful=True) == 200_000
    assert there(phone) == [large.sha256]


def test_links_lead_to_blobs(phone: Phone, tmp_path: Path) -> None:
    first, second = blobs(tmp_path, 100, 200)
    push(phone, [first, second])
    store = Store(phone, quiet)
    program = Blob(first.path, first.sha256, first.size, "755")
    store.link("bundle", {"bin/program": program, "a/b/c": second, "top": second})
    folder = layout.remote_bundle("bundle")
    assert sh(phone, f"cd {folder} && readlink bin/program").strip().endswith(f"{STORE}/{first.sha256}")
    assert sh(phone, f"cd {folder} && wc -c <a/b/c && [ -x bin/program ] && echo runs").split() == ["200", "runs"]
    store.link("bundle", {"top": first})
    assert sh(phone, f"wc -c <{folder}/top").strip() == "100"


def test_clean_keeps_what_bundles_link_to(phone: Phone, tmp_path: Path) -> None:
    kept, unused = blobs(tmp_path, 100_000, 200_000)
    push(phone, [kept, unused])
    store = Store(phone, quiet)
    store.link("bundle", {"model": kept})
    sh(phone, f"echo x >{STORE}/incoming/old.part")
    assert store.clean() >= 200_000
    assert there(phone) == [kept.sha256]
    assert store.clean(everything=True) >= 100_000
    assert sh(phone, f"ls -d {layout.REMOTE_ROOT}* || true") == ""
    assert store.clean() == 0


def test_no_room_is_said_before_anything_is_pushed(phone: Phone, tmp_path: Path) -> None:
    with pytest.raises(PhoneFull, match=r"0\.1 MB are free"):
        Store(phone, quiet).push(blobs(tmp_path, 1000), 100_000)
    assert there(phone) == []


def test_a_folder_that_is_a_file_is_said(phone: Phone, tmp_path: Path) -> None:
    sh(phone, f"touch {layout.REMOTE_ROOT}")
    with pytest.raises(PhoneRefused, match=r"making checksums failed: .*(File exists|Not a directory)"):
        push(phone, blobs(tmp_path, 10))


@pytest.mark.parametrize("large", [False, True], ids=["tar", "alone"])
def test_a_changed_byte_on_the_way_is_noticed(large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000 if large else 10_000_000)
    (blob,) = blobs(tmp_path, 400_000)
    with virtual_phone(tmp_path / "phone", faults=["flip-in:200000"]) as phone:
        with pytest.raises(store_module.TransferDamaged, match="arrived damaged"):  # type: ignore[attr-defined]
            push(phone, [blob])
        assert there(phone) == []
        assert push(phone, [blob]) >= 400_000
        assert there(phone) == [blob.sha256]


def test_each_way_of_a_large_blob(phone: Phone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000)
    for careful, size in ((False, 3_000_001), (True, 3_000_002), (False, 1_048_576)):
        (blob,) = blobs(tmp_path, size)
        assert push(phone, [blob], careful=careful) == size
        assert there(phone) == [blob.sha256]
        sh(phone, f"rm {STORE}/{blob.sha256}")
    with pytest.raises(PhoneRefused, match=r"x failed: .*(No such file|Permission|Read-only|couldn)"):
        phone.send("/proc/no/such/folder", [b"1"], doing="x", stall_s=5.0)


@pytest.mark.slow
@pytest.mark.parametrize("careful", [False, True])
@pytest.mark.parametrize("large", [False, True], ids=["tar", "alone"])
def test_a_cut_leaves_what_is_of_use_only(
    large: bool, careful: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000 if large else 10_000_000)
    made = blobs(tmp_path, 3_000_000, 4_000_000)
    with virtual_phone(tmp_path / "phone", faults=["cut-in:6500000"]) as phone:
        with pytest.raises(PhoneLost):
            push(phone, made, careful=careful)
        again = phone.server.find(phone.serial)
        assert push(again, made, careful=careful) < 5_000_000  # not everything
        assert there(again) == sorted(blob.sha256 for blob in made)


@pytest.mark.slow
@pytest.mark.parametrize("large", [False, True], ids=["tar", "alone"])
@pytest.mark.parametrize("kind", ["virtual", pytest.param("genuine", marks=pytest.mark.genuine)])
def test_a_disk_that_fills_up(kind: str, large: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if kind == "genuine" and (reason := why_no_genuine_phone()):
        pytest.skip(reason)
    monkeypatch.setattr(store_module, "LARGE_BYTES", 100_000 if large else 10_000_000)
    made = blobs(tmp_path, 50_000, 900_000)
    full = (
        virtual_phone(tmp_path / "phone", faults=["disk:400000"]) if kind == "virtual" else genuine_phone(SIZE="400k")
    )
    with full as phone:
        with pytest.raises(PhoneFull):
            push(phone, made)
        assert set(there(phone)) <= {made[0].sha256}
        assert sh(phone, f"find {STORE}/incoming -type f") == ""
        push(phone, made[:1])
        assert there(phone) == [made[0].sha256]


@pytest.mark.genuine
def test_a_daemon_without_root(tmp_path: Path) -> None:
    if reason := why_no_genuine_phone():
        pytest.skip(reason)
    made = blobs(tmp_path, 1000, 9_000_000)
    with genuine_phone(AS_SHELL="1") as phone:
        push(phone, made)
        assert there(phone) == sorted(blob.sha256 for blob in made)


def test_a_blob_is_read_from_where_it_is_to_go_on(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(3_000_000))
    blob = Blob.of(path)
    assert b"".join(blob.pieces(1_234_567)) == path.read_bytes()[1_234_567:]
    assert blob.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def listing(phone: Phone) -> str:
    return sh(phone, f"find {layout.REMOTE_ROOT} 2>/dev/null | sort; true")


def test_what_came_since_goes_and_what_was_there_stays(phone: Phone, tmp_path: Path) -> None:
    mine, linked, orphan, others, trial = blobs(tmp_path, 1, 512, 4096, 5000, 6000)
    store = Store(phone, quiet)
    assert store.names() == []
    store.restore([])
    push(phone, [mine, trial])
    store.restore([])
    assert listing(phone) == ""
    push(phone, [linked, orphan])
    store.link("bundle", {"a": linked})
    sh(phone, f"echo part >{STORE}/incoming/{mine.sha256}.part")
    names, before = store.names(), listing(phone)
    push(phone, [linked, others, trial])
    store.link("trial", {"a": linked, "b": trial})
    store.unlink("trial")
    store.restore(names)
    assert listing(phone) == before
    push(phone, [others])
    store.link("of another computer", {"b": others})
    store.restore(names)
    assert set(there(phone)) == {linked.sha256, orphan.sha256, others.sha256}
