"""Stack Exchange dumps: real ones against an independent parse, and damaged copies."""

from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.data import corpus_stats, open_corpus
from harness.data.corpora.html_text import comment_to_text, html_to_text
from harness.data.corpora.xml_rows import records, rows
from harness.errors import DataError

FORUMS = {"beer": (1029, 153, 29, 9), "ai": (604, 158, 17, 3), "coffee": (225, 123, 3, 0), "datascience.meta": (257, 51, 5, 1)}


def dump(folder: Path, posts: str, comments: str | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "Posts.xml").write_text(f'<?xml version="1.0" encoding="utf-8"?>\n<posts>\n{posts}</posts>', encoding="utf-8-sig")
    if comments is not None:
        (folder / "Comments.xml").write_text(f"<comments>\n{comments}</comments>", encoding="utf-8-sig")
    return folder


def question(number: int, **attributes: str) -> str:
    values = {"PostTypeId": "1", "Title": f"Title {number}", "Body": f"&lt;p&gt;Body {number}&lt;/p&gt;", "Tags": "&lt;a&gt;", **attributes}
    return f'  <row Id="{number}" ' + " ".join(f'{name}="{value}"' for name, value in values.items()) + " />\n"


@pytest.mark.parametrize("forum", FORUMS)
def test_real_dumps_hold_the_questions_and_tags_they_should(shared_data: Path, forum: str) -> None:
    corpus = open_corpus(shared_data / "stackexchange" / forum)
    stats = corpus_stats(corpus)
    assert (stats.documents, len(stats.labels), len(stats.with_support(20)), len(stats.with_support(50))) == FORUMS[forum]
    assert (corpus.format, stats.skipped) == ("stackexchange", 0)


@pytest.mark.parametrize("forum", ["coffee", "ai"])
def test_a_document_is_title_body_and_the_comments_of_others(shared_data: Path, forum: str) -> None:
    """Against the whole files parsed at once with the standard library."""
    folder = shared_data / "stackexchange" / forum
    posts = {row.get("Id"): row for row in ElementTree.parse(folder / "Posts.xml").getroot() if row.get("PostTypeId") == "1"}
    comments = [row for row in ElementTree.parse(folder / "Comments.xml").getroot() if row.get("PostId") in posts]
    shown = Counter(
        row.get("PostId")
        for row in comments
        if row.get("UserId") is None or row.get("UserId") != posts[row.get("PostId")].get("OwnerUserId")
    )
    plain = {d.id: d.text for d in open_corpus(folder, comments=False)}
    checked = 0
    for document in open_corpus(folder):
        post = posts[document.id]
        assert document.text.startswith(post.get("Title", "").strip())
        assert document.labels == set(post.get("Tags", "").strip("<>").split("><"))
        assert document.text.startswith(plain[document.id])
        appended = document.text[len(plain[document.id]) :].strip().splitlines()
        if post.get("OwnerUserId"):
            assert len(appended) == shown[document.id]
            checked += len(appended)
    assert checked > 100


def test_both_notations_of_tags(tmp_path: Path) -> None:
    folder = dump(
        tmp_path / "d", question(1, Tags="&lt;c#&gt;&lt;.net-core&gt;") + question(2, Tags="|c#|.net-core|") + question(3, Tags="")
    )
    assert [sorted(d.labels) for d in open_corpus(folder)] == [[".net-core", "c#"], [".net-core", "c#"], []]


def test_deleted_users_are_told_by_their_display_name(tmp_path: Path) -> None:
    comments = (
        '<row Id="1" PostId="1" Text="mine, deleted" UserDisplayName="user7" />\n'
        '<row Id="2" PostId="1" Text="another deleted" UserDisplayName="user8" />\n'
        '<row Id="3" PostId="1" Text="nobody at all" />\n'
        '<row Id="4" PostId="2" Text="mine" UserId="5" />\n'
        '<row Id="5" PostId="2" Text="see [this page](http://x.org/a) please" UserId="6" />\n'
    )
    folder = dump(tmp_path / "d", question(1, OwnerDisplayName="user7") + question(2, OwnerUserId="5"), comments)
    assert [d.text for d in open_corpus(folder)] == [
        "Title 1\nBody 1\nanother deleted\nnobody at all",
        "Title 2\nBody 2\nsee this page please",
    ]
    assert [d.text for d in open_corpus(folder, comments=False)] == ["Title 1\nBody 1", "Title 2\nBody 2"]


def test_code_blocks_can_be_left_out(tmp_path: Path) -> None:
    html = "<p>Use <code>x</code>:</p><pre><code>for x in y:\n    pass</code></pre><p>ok</p>"
    body = html.replace("<", "&lt;").replace(">", "&gt;").replace("\n", "&#xA;")
    folder = dump(tmp_path / "d", question(1, Body=body))
    assert next(iter(open_corpus(folder))).text == "Title 1\nUse x:\nfor x in y:\n    pass\nok"
    assert next(iter(open_corpus(folder, code_blocks=False))).text == "Title 1\nUse x:\nok"


def test_damaged_rows_cost_themselves_alone(tmp_path: Path) -> None:
    broken = question(2).replace("Title 2", "a < b and <b>bold</b>")
    posts = (
        question(1) + broken + question(3, Title="") + '  <rwo Id="4" />\n' + question(5, Body="&undefined;") + question(6) + question(6)
    )
    folder = dump(tmp_path / "d", posts)
    corpus = open_corpus(folder)
    data = (folder / "Posts.xml").read_bytes()
    assert [d.id for d in corpus] == ["1", "6"]
    reasons = {data[s.offset :][:14].decode(): s.reason for s in corpus.skipped if s.offset is not None}
    assert set(reasons) == {'<row Id="2" Po', '<row Id="3" Po', '<rwo Id="4" />', '<row Id="5" Po', '<row Id="6" Po'}
    assert "without Title" in reasons['<row Id="3" Po']
    assert "a second document with the same id ('6')" in reasons['<row Id="6" Po']
    assert corpus.skipped_by_reason["not a well-formed row"] == 2


def test_posts_that_are_no_questions_are_passed_over(tmp_path: Path) -> None:
    """Answers, tag wikis (often with an empty Body), moderator posts; also where a text names a post's type in an attribute before it."""
    others = "".join(f'<row Id="{kind}0" PostTypeId="{kind}" Title="not me" Body="" />\n' for kind in (2, 3, 4, 5, 6, 7, 8))
    early = '<row Id="90" Body="&lt;p&gt;so PostTypeId=\'2\' is an answer&lt;/p&gt;" PostTypeId="1" Title="Types" Tags="|a|" />\n'
    corpus = open_corpus(dump(tmp_path / "d", others + early + '<row Id="91" Body="no type" />\n'))
    assert [(d.id, d.text) for d in corpus] == [("90", "Types\nso PostTypeId='2' is an answer")]
    assert [s.reason for s in corpus.skipped] == ["a post without PostTypeId"]


def test_a_question_with_an_empty_body_is_its_title(tmp_path: Path) -> None:
    posts = (
        question(1, Body="") + question(2, Body="&lt;pre&gt;code()&lt;/pre&gt;") + '<row Id="3" PostTypeId="1" Title="t" Tags="|a|" />\n'
    )
    folder = dump(tmp_path / "d", posts, '<row Id="1" PostId="1" Text="a comment" UserId="3" />\n')
    corpus = open_corpus(folder, code_blocks=False)
    assert [d.text for d in corpus] == ["Title 1\na comment", "Title 2"]
    assert [s.reason for s in corpus.skipped] == ["a question without Body"]


def test_a_record_longer_than_the_limit_is_skipped_and_the_next_ones_keep_their_places(tmp_path: Path) -> None:
    folder = dump(tmp_path / "d", question(1) + question(2, Body="x" * 20_000_000) + question(3))
    corpus = open_corpus(folder)
    assert [d.id for d in corpus] == ["1", "3"]
    assert [s.reason for s in corpus.skipped] == ["a record of more than 16 MB"]
    assert corpus[1].id == "3"
    assert (folder / "Posts.xml").read_bytes()[corpus.skipped[0].offset :].startswith(b'<row Id="2"')


@pytest.mark.parametrize("line_end", ["\n", "\r\n", ""])
def test_line_ends_do_not_matter(tmp_path: Path, line_end: str) -> None:
    folder = dump(tmp_path / "d", question(1) + question(2).replace('" Title', '"\n   Title'))
    path = folder / "Posts.xml"
    path.write_bytes(path.read_bytes().replace(b"\n", line_end.encode() or b" "))
    corpus = open_corpus(folder)
    assert [(d.id, d.text) for d in corpus] == [("1", "Title 1\nBody 1"), ("2", "Title 2\nBody 2")]
    assert corpus.skipped == []


@pytest.mark.parametrize("share", [0.3, 0.7, 0.999])
def test_a_dump_that_was_cut_off_is_used_up_to_the_break(tmp_path: Path, shared_data: Path, share: float) -> None:
    whole = list(open_corpus(shared_data / "stackexchange" / "coffee"))
    folder = tmp_path / "coffee"
    folder.mkdir()
    data = (shared_data / "stackexchange" / "coffee" / "Posts.xml").read_bytes()
    (folder / "Posts.xml").write_bytes(data[: int(len(data) * share)])
    (folder / "Comments.xml").write_bytes((shared_data / "stackexchange" / "coffee" / "Comments.xml").read_bytes())
    corpus = open_corpus(folder)
    documents = list(corpus)
    assert 0 < len(documents) <= len(whole)
    assert documents == whole[: len(documents)]
    assert len(corpus.skipped) == 1
    assert "cut off here" in corpus.skipped[0].reason
    assert corpus.skipped[0].offset is not None
    assert corpus.skipped[0].offset <= len(data) * share


def test_cut_off_between_two_rows_is_noticed_too(tmp_path: Path) -> None:
    folder = dump(tmp_path / "d", question(1))
    path = folder / "Posts.xml"
    path.write_bytes(path.read_bytes().removesuffix(b"</posts>"))
    corpus = open_corpus(folder)
    assert (len(corpus), len(corpus.skipped)) == (1, 1)


def test_damaged_comments_are_named_and_the_others_used(tmp_path: Path) -> None:
    comments = '<row Id="1" PostId="1" Text="good" />\n<row Id="2" PostId="1" Text="bad & broken" />\n<row Id="3" PostId="x" Text="y" />\n'
    folder = dump(tmp_path / "d", question(1), comments)
    corpus = open_corpus(folder)
    assert [d.text for d in corpus] == ["Title 1\nBody 1\ngood"]
    assert [Path(s.file).name for s in corpus.skipped] == ["Comments.xml", "Comments.xml"]


def test_entity_tricks_have_no_effect(tmp_path: Path) -> None:
    folder = tmp_path / "d"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("password")
    (folder / "Posts.xml").write_text(
        f'<?xml version="1.0"?>\n<!DOCTYPE posts [<!ENTITY a "lol"><!ENTITY b SYSTEM "file://{secret}">]>\n<posts>\n'
        + question(1) + question(2, Body="&a;&a;") + question(3, Body="&b;") + "</posts>"
    )  # fmt: skip
    corpus = open_corpus(folder)
    assert [d.id for d in corpus] == ["1"]
    assert corpus.n_skipped == 2


def test_a_dump_without_questions_is_empty(tmp_path: Path) -> None:
    folder = dump(tmp_path / "d", '<row Id="1" PostTypeId="2" Body="an answer" />\n')
    with pytest.raises(DataError) as error:
        open_corpus(folder)
    assert (error.value.given, bool(error.value.hint)) == (folder, True)
    assert "stackexchange" in str(error.value)


def test_posts_file_alone_can_be_opened(shared_data: Path) -> None:
    folder = shared_data / "stackexchange" / "datascience.meta"
    assert list(open_corpus(folder / "Posts.xml")) == list(open_corpus(folder))


@pytest.mark.parametrize("chunk", [1, 2, 7, 64, 1 << 20])
def test_records_do_not_depend_on_the_size_of_the_chunks(chunk: int) -> None:
    data = b'\xef\xbb\xbf<?xml?>\n<posts>\n<row Id="1" />\r\n<row\nId="2"/></posts>\n'
    found = list(records(io.BytesIO(data), chunk=chunk))
    assert b"".join(record for _, record in found) == data[3:]
    assert all(data[offset : offset + len(record)] == record for offset, record in found)


def test_rows_agree_with_a_whole_parse(shared_data: Path) -> None:
    path = shared_data / "stackexchange" / "coffee" / "Comments.xml"
    assert [row for _, row in rows(path, "comments")] == [dict(row.attrib) for row in ElementTree.parse(path).getroot()]


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>One</p><p>Two &amp; three</p>", "One\nTwo & three"),
        ("a<br>b<br/>c", "a\nb\nc"),
        ("<ul><li>x</li>\n<li>y <em>z</em></li></ul>", "x\ny z"),
        ("<p>see <a href='u'>the\npage</a></p>", "see the page"),
        ("<script>alert(1)</script>kept", "kept"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<p>unclosed <b>bold", "unclosed bold"),
        ("<pre>a\n\n  b</pre>", "a\n  b"),
        ('<img src="x" alt="enter image description here">', ""),
        ("<blockquote><p>quoted</p></blockquote>said", "quoted\nsaid"),
        ("&#x41;&nbsp;&hellip;", "A\xa0…".replace("\xa0", " ")),
        ("", ""),
    ],
)
def test_html_to_text(html: str, text: str) -> None:
    assert html_to_text(html) == text


def test_comment_links() -> None:
    assert comment_to_text("see [a](http://b.c/d) and\n[e]( f)") == "see a and [e]( f)"


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_never_changes_the_questions_it_does_not_touch(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Bytes of a dump are overwritten at random: reading goes on, and the rows outside the damage come out as they were."""
    numbers = range(1, 9)
    folder = dump(tmp_path_factory.mktemp("d"), "".join(question(number) for number in numbers))
    path = folder / "Posts.xml"
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    noise = data.draw(st.binary(min_size=1, max_size=30))
    path.write_bytes(whole[:at] + noise + whole[at + len(noise) :])
    starts = [whole.index(f'<row Id="{number}"'.encode()) for number in numbers] + [whole.index(b"</posts>")]
    untouched = {str(n) for n, a, b in zip(numbers, starts, starts[1:], strict=False) if b <= at or a >= at + len(noise)}
    corpus = open_corpus(folder, format="stackexchange")
    found = {document.id: document.text for document in corpus}
    assert {n: found.get(n) for n in untouched} == {n: f"Title {n}\nBody {n}" for n in untouched}
    assert len(found) + corpus.n_skipped >= 8 - (len(untouched) < 8)
