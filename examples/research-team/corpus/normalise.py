"""Turns the documentation in unpacked Debian packages into plain text: the same packages always give the same bytes.

    normalise.py UNPACKED-PACKAGES CORPUS

Lines stay as wrapped as their authors left them. Mark-up goes: POD from perl-doc, AsciiDoc from git-doc.
"""

import gzip
import html.entities
import os
import re
import sys
from pathlib import Path

# A table of contents repeats other documents; four documents are not in English; histories of changes (`perl*delta`)
# answer few questions.
SKIPPED = {"perltoc", "perlcn", "perljp", "perlko", "perltw"}
ASCIIDOC_MARKS = re.compile(
    r"""^(?: [-=~^_*.+]{2,} | \[.*\] | // .* | (?:include|ifdef|ifndef|endif|ifeval)::.* | :[\w!-]+:.* )$""", re.X
)


def documents(unpacked: Path):
    """Each document's name and text."""
    for path in unpacked.glob("perl-doc/usr/share/perl/*/pod/*.pod"):
        if path.stem not in SKIPPED and not path.stem.endswith("delta"):
            yield f"perl/{path.stem}.txt", pod(read(path))
    git = unpacked / "git-doc/usr/share/doc/git-doc"
    for path in git.rglob("*.txt"):
        yield f"git/{path.relative_to(git)}", asciidoc(read(path))
    for path in unpacked.glob("debian-policy/usr/share/doc/debian-policy/*.txt.gz"):
        yield f"debian/{path.name.removesuffix('.gz')}", read(path)


def read(path: Path) -> str:
    content = path.read_bytes()
    if path.suffix == ".gz":
        content = gzip.decompress(content)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:  # a few old documents
        return content.decode("latin-1")


def pod(text: str) -> str:
    """Plain Old Documentation: `=commands` go, `C<codes>` keep their content, indented paragraphs are verbatim."""
    kept, hidden = [], False
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        if paragraph.startswith("=begin"):
            hidden = True
        elif paragraph.startswith("=end"):
            hidden = False
        elif hidden or re.match(r"=(?:for|encoding|pod|cut|over|back)\b", paragraph):
            continue
        elif paragraph[:1] in (" ", "\t"):
            kept.append(paragraph)
        else:
            kept.append(pod_codes(re.sub(r"^=(?:head\d|item)[ \t]*(?:\*[ \t\n]*)?", "", paragraph)))
    return "\n\n".join(kept)


POD_OPENING = re.compile(r"([BCEFILSXZ])(<<+(?=\s)|<)")


def pod_codes(text: str) -> str:
    """`X<...>` codes nest; one opened with several brackets, as in `C<< a > b >>`, is closed by a blank and as many."""
    opened = [("", "", [])]  # kind, what closes it, content
    position = 0
    while position < len(text):
        kind, closing, content = opened[-1]
        if opening := POD_OPENING.match(text, position):
            opened.append((opening[1], ">" * len(opening[2]), []))
            position = opening.end()
        elif closing and text.startswith(closing, position) and (len(closing) == 1 or text[position - 1].isspace()):
            opened.pop()
            inner = "".join(content)
            opened[-1][2].append(pod_code(kind, inner if len(closing) == 1 else inner.strip()))
            position += len(closing)
        else:
            content.append(text[position])
            position += 1
    return "".join("".join(content) for _, _, content in opened)


def pod_code(kind: str, content: str) -> str:
    """A link shows its text where it has one, an index entry nothing, every other code its content."""
    match kind:
        case "E":
            return entity(content)
        case "X" | "Z":
            return ""
        case "L":
            return content.split("|", 1)[0] if "|" in content else content.lstrip("/").replace('"', "")
    return content


def entity(name: str) -> str:
    if re.fullmatch(r"\d+|0x[0-9a-fA-F]+", name):
        return chr(int(name, 0))
    return html.entities.html5.get(name + ";", "")  # has lt, gt, sol and verbar too


def asciidoc(text: str) -> str:
    text = text.replace("{litdd}", "--").replace("{apostrophe}", "'").replace("{caret}", "^")
    text = re.sub(r"link(?:git)?:([\w./-]+)\[([^\]]*)\]", r"\1(\2)", text)
    text = re.sub(r"<<[^,>]*,([^>]*)>>", r"\1", text)
    text = re.sub(r"^\[\[\w[^]\n]*\]\]", "", text, flags=re.M)
    # A lone plus sign continues a list item: for a reader, an empty line.
    lines = ("" if line.strip() == "+" else line for line in text.split("\n"))
    return "\n".join(re.sub(r"^=+ ", "", line) for line in lines if not ASCIIDOC_MARKS.match(line.rstrip()))


def tidy(text: str) -> str:
    """No tabs, control characters or trailing blanks, one empty line between paragraphs, one newline at the end."""
    text = text.replace("\r\n", "\n").expandtabs()
    text = re.sub(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", "", text)
    text = "\n".join(line.rstrip() for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n") + "\n"


def main(unpacked: str, corpus: str) -> None:
    count = size = 0
    for name, text in documents(Path(unpacked)):
        content = tidy(text).encode()
        path = Path(corpus, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        count, size = count + 1, size + len(content)
    if size < 5_000_000:
        raise SystemExit(f"the packages hold only {size} bytes of documents: their layout is not the expected one")
    # The licences of the text travel with it.
    for package in sorted(os.listdir(unpacked)):
        licence = Path(corpus, "licences", package)
        licence.parent.mkdir(exist_ok=True)
        licence.write_bytes(Path(unpacked, package, "usr/share/doc", package, "copyright").read_bytes())
    print(f"{count} documents, {size} bytes")


if __name__ == "__main__":
    main(*sys.argv[1:])
