"""Tests archives for the phone against Python's tarfile, and the checks of archives from the phone."""

import gzip
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device import blobs, chunks, tarball
from bundler.device.blobs import Blob, tar_of
from bundler.device.chunks import Archiver, Chunk, chunks_of
from bundler.device.tarball import BrokenTar, Entry, Reader, TooLarge
from bundler.errors import BundleInvalid

PLENTY = 1 << 20
CONTENTS = {"": b"", "1": b"x", "511": b"y" * 511, "512": b"z" * 512, "513": b"\0" * 513, "é" * 50: b"name"}


def written(contents: dict[str, bytes]) -> bytes:
    parts = [tarball.header(name, len(raw)) + raw + tarball.padding(len(raw)) for name, raw in contents.items()]
    return b"".join([*parts, tarball.END])


def unpacked(archive: bytes) -> dict[str, bytes]:
    """Unpacks by tarfile; checks that each entry is a plain file without owner and time."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for info in tar:
            file = tar.extractfile(info)
            assert info.isreg()
            assert file is not None
            assert (info.mode, info.uid, info.gid, info.mtime) == (0o644, 0, 0, 0)
            found[info.name] = file.read()
    return found


def read(archive: bytes, most_bytes: int = PLENTY) -> list[tuple[Entry, bytes]]:
    reader = Reader(io.BytesIO(archive), most_bytes)
    return [(entry, reader.read(entry)) for entry in reader]


def test_what_is_written_is_a_tar() -> None:
    archive = written(CONTENTS)
    assert unpacked(archive) == CONTENTS
    assert len(archive) == 512 * (6 + 6 + 2)  # headers, contents, end
    assert archive[257:265] == b"ustar\x0000"
    with pytest.raises(ValueError, match=r"^'.*' is too long for a name in ustar$"):
        tarball.header("é" * 50 + "x", 1)
    large = tarfile.TarInfo.frombuf(tarball.header("large", 8**11 - 1), "ascii", "strict")
    assert large.size == 8**11 - 1


@pytest.mark.parametrize("packed", [False, True], ids=["tar", "tgz"])
def test_what_was_written_is_read(packed: bool) -> None:
    archive = gzip.compress(written(CONTENTS)) if packed else written(CONTENTS)
    assert read(archive) == [(Entry(name, b"0", len(raw)), raw) for name, raw in CONTENTS.items()]


def test_an_archive_is_read_from_where_its_file_stands() -> None:
    file = io.BytesIO(b"before" + written(CONTENTS))
    file.seek(6)
    assert [entry.name for entry in Reader(file, PLENTY)] == list(CONTENTS)


@pytest.mark.parametrize("style", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_others_write_is_read(style: int) -> None:
    """A name too long for the header is split into prefix and name, or is a separate entry, which is skipped."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=style) as tar:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
        for name, size in (("x/" + "long" * 20 + "/" + "name" * 20, 700), ("last", 3)):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(b"c" * size))
    first, long, last = read(made.getvalue())
    assert (first[0].is_folder, first[0].is_file) == (True, False)
    assert (long[0].is_folder, long[0].is_file, long[0].size, long[1]) == (False, True, 700, b"c" * 700)
    if style == tarfile.USTAR_FORMAT:
        assert long[0].name == "x/" + "long" * 20 + "/" + "name" * 20
    assert last == (Entry("last", b"0", 3), b"ccc")


def with_sum(header: bytes) -> bytes:
    told = sum(header[:148] + b" " * 8 + header[156:])
    return header[:148] + b"%06o\0 " % told + header[156:]


def changed(at: int, to: bytes) -> bytes:
    """Returns a changed header with a correct checksum."""
    header = bytearray(tarball.header("name", 3))
    header[at : at + len(to)] = to
    return with_sum(bytes(header))


def test_odd_headers_are_read() -> None:
    for header, entry in (
        (changed(124, b"3          \0"), Entry("name", b"0", 3)),
        (changed(124, b"3\0          "), Entry("name", b"0", 3)),
        (changed(156, b"\0"), Entry("name", b"\0", 3)),
        (changed(0, b"n\xffme"), Entry("n\udcffme", b"0", 3)),
        (changed(345, b"fold"), Entry("fold/name", b"0", 3)),
        (changed(345, b"f" * 155 + b"x"), Entry("f" * 155 + "/name", b"0", 3)),
        (changed(257, b"other\0"), Entry("name", b"0", 3)),
        (changed(345, b"fold")[:257] + b"other\0" + changed(345, b"fold")[263:], Entry("name", b"0", 3)),
    ):
        archive = with_sum(header) + b"abc".ljust(512, b"\0") + tarball.END
        assert read(archive) == [(entry, b"abc")]
        assert entry.is_file
    empty = changed(124, bytes(12)) + tarball.END
    assert read(empty) == [(Entry("name", b"0", 0), b"")]


@pytest.mark.parametrize(
    ("archive", "said"),
    [
        (b"", "^it ends too early$"),
        (written(CONTENTS)[:-1024], "^it ends too early$"),
        (written({"a": b"x" * 600})[:1000], "^it ends too early$"),
        (tarball.header("a", 3)[:-1], "^it ends too early$"),
        (b"x" * 512, "^a header has no numbers where they belong$"),
        (changed(124, b"no number  \0"), "^a header has no numbers where they belong$"),
        (changed(124, b"-0000000001\0"), "^a header does not agree with its checksum$"),
        (b"X" + written(CONTENTS)[1:], "^a header does not agree with its checksum$"),
        (gzip.compress(written(CONTENTS))[:-8] + bytes(8), "CRC"),
        (gzip.compress(written(CONTENTS))[:-1], "end-of-stream"),
        (gzip.compress(written(CONTENTS)) + b"more", "Not a gzipped file"),
        (b"\x1f\x8bno gzip at all", "Unknown compression"),
        (gzip.compress(written(CONTENTS))[:10] + b"\xff" * 100, "invalid block type"),
    ],
)
def test_a_broken_archive_is_said(archive: bytes, said: str) -> None:
    with pytest.raises(BrokenTar, match=said):
        read(archive)


def test_no_more_is_read_than_is_allowed() -> None:
    """The last block that the reader requests counts, even if nothing follows."""
    archive = written({"a": b"x" * 5000, "b": b"y"})
    assert [entry.name for entry, _ in read(archive, len(archive) + 512)] == ["a", "b"]
    for most in (0, 511, 5000, len(archive) - 513):
        with pytest.raises(TooLarge):
            read(gzip.compress(archive), most)
        with pytest.raises(TooLarge):
            list(Reader(io.BytesIO(archive), most))


def test_a_large_content_is_passed_over_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tarball, "BUFFER", 700)
    archive = written({"a": b"x" * 5000, "b": b"y"})
    assert [entry.name for entry in Reader(io.BytesIO(archive), PLENTY)] == ["a", "b"]


# blobs


def test_blobs_in_a_tar_have_their_checksums_for_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "PIECE", 100)
    made = []
    for name, content in {"a": b"", "b": b"x" * 1000}.items():
        (tmp_path / name).write_bytes(content)
        made.append(Blob.of(tmp_path / name, "755"))
    digests = [hashlib.sha256(content).hexdigest() for content in (b"", b"x" * 1000)]
    assert made == [Blob(tmp_path / n, sha, size, "755") for n, sha, size in zip("ab", digests, (0, 1000), strict=True)]
    assert Blob.of(tmp_path / "a").mode == "644"
    assert [len(piece) for piece in made[1].pieces()] == [100] * 10
    assert [len(piece) for piece in made[1].pieces(950)] == [50]
    assert unpacked(b"".join(tar_of(made))) == dict(zip(digests, (b"", b"x" * 1000), strict=True))


# chunks


def test_chunks_cover_all_lines_once() -> None:
    assert chunks_of(5, 2) == (Chunk(0, 2), Chunk(2, 4), Chunk(4, 5))
    assert chunks_of(4, 4) == (Chunk(0, 4),)
    assert chunks_of(0, 4) == ()
    assert [len(chunk) for chunk in chunks_of(5, 2)] == [2, 2, 1]
    assert sorted([Chunk(2, 4), Chunk(0, 9)]) == [Chunk(0, 9), Chunk(2, 4)]


def test_a_chunks_name_is_its_own() -> None:
    assert Chunk(7, 12).name == "0000007-0000012"
    assert Chunk.named("0000000-0000001") == Chunk(0, 1)
    for name in ("7-12", "0000012-0000007", "0000007-0000007", "-000001-0000002", "0000007-0000012-1", "", "a-b"):
        with pytest.raises(ValueError, match=rf"^'{name}' is not a chunk's name$"):
            Chunk.named(name)


@pytest.mark.parametrize("compressed", [False, True], ids=["tar", "tgz"])
def test_a_chunks_archive_holds_its_lines_and_inputs(
    compressed: bool, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "PIECE", 2000)
    name, blob = Archiver(bundle, tmp_path / "spool").archive(Chunk(1, 3), compressed=compressed)
    assert name == f"inputs/0000001-0000003.{'tgz' if compressed else 'tar'}"
    archive = blob.path.read_bytes()
    assert (blob.size, blob.sha256) == (len(archive), hashlib.sha256(archive).hexdigest())
    if compressed:
        assert archive[4:8] == bytes(4)  # no time
        assert len(archive) < len(gzip.decompress(archive)) / 4
    files = unpacked(gzip.decompress(archive) if compressed else archive)
    device = bundle.path / layout.DEVICE
    lines = (device / layout.INPUT_LIST).read_text().splitlines(keepends=True)
    assert files.pop(layout.INPUT_LIST).decode() == "".join([lines[0], *lines[2:4]])
    assert files == {
        path: (device / path).read_bytes() for w in bundle.manifest.windows[1:3] for path in w.inputs.values()
    }


def test_a_chunks_archive_is_made_once_and_the_same_again(bundle: Bundle, tmp_path: Path) -> None:
    _, one = Archiver(bundle, tmp_path / "one").archive(Chunk(0, 4), compressed=True)
    _, other = Archiver(bundle, tmp_path / "other").archive(Chunk(0, 4), compressed=True)
    assert one.sha256 == other.sha256
    one.path.write_bytes(b"as it was left")
    _, again = Archiver(bundle, tmp_path / "one").archive(Chunk(0, 4), compressed=True)
    assert again.path.read_bytes() == b"as it was left"


def test_an_input_list_that_is_not_the_windows_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    path = bundle.path / layout.DEVICE / layout.INPUT_LIST
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:3], lines[3].replace("000002", "000001", 1), *lines[4:]]))
    archiver = Archiver(bundle, tmp_path / "spool")
    archiver.archive(Chunk(0, 2), compressed=False)
    with pytest.raises(BundleInvalid, match=rf"^{path}: has in line 4 other files than its window$"):
        archiver.archive(Chunk(2, 4), compressed=False)
    for content, count in (("".join(lines[:-1]), 3), ("", 0)):
        path.write_text(content)
        with pytest.raises(BundleInvalid, match=rf"^{path}: lists {count} inferences, and the bundle has 4 windows$"):
            Archiver(bundle, tmp_path / "spool")


def test_an_input_without_a_checksum_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    sums = bundle.path / layout.HOST / layout.SUMS
    name = "inputs/input_ids/000001.raw"
    sums.write_text("".join(line for line in sums.read_text().splitlines(keepends=True) if name not in line))
    archiver = Archiver(bundle, tmp_path / "spool")
    archiver.archive(Chunk(2, 4), compressed=False)
    with pytest.raises(BundleInvalid, match=rf"^{sums}: has no checksum of {name}$"):
        archiver.archive(Chunk(0, 2), compressed=False)
