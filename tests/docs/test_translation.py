"""README.zh-CN.md is README.md in Chinese: the same structure, code blocks and links."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-CN.md"))
FENCED = re.compile(r"^```.*?^```$", re.S | re.M)


def headings(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", FENCED.sub("", text), flags=re.M)]


def links(text: str) -> list[str]:
    return re.findall(r"\]\(([^)]+)\)", FENCED.sub("", text))


def test_same_headings() -> None:
    assert headings(CHINESE) == headings(ENGLISH)


def test_same_code_blocks() -> None:
    assert FENCED.findall(CHINESE) == FENCED.findall(ENGLISH)


def test_same_links() -> None:
    """Each links to the other at one place; all other links are the same, in the same order."""
    switched = {"README.zh-CN.md": "README.md"}
    assert "README.zh-CN.md" in links(ENGLISH)
    assert links(CHINESE) == [switched.get(link, link) for link in links(ENGLISH)]


def test_same_tables_and_pictures() -> None:
    for pattern in (r"^\|(?:[^|\n]*\|)+$", r'src="[^"]+"', r"^- ", r"^\d+\. "):
        found = [re.findall(pattern, FENCED.sub("", text), flags=re.M) for text in (ENGLISH, CHINESE)]
        assert len(found[0]) == len(found[1]), pattern


def test_it_is_chinese() -> None:
    prose = FENCED.sub("", CHINESE)
    assert len(re.findall(r"[\u4e00-\u9fff]", prose)) > 500


def test_the_two_commands_are_named() -> None:
    for text in (ENGLISH, CHINESE):
        assert "make demo" in text
        assert "make test" in text
