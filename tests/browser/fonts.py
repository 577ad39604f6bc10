"""The fonts that Chromium is given, so that no test depends on those of the machine.

On Linux a set of fonts is a fontconfig file of its own. Elsewhere Chromium does not read one, and
the pages are tested with the machine's fonts.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from matplotlib import get_data_path

PLACES = (
    Path("/usr/share/fonts"),
    Path("/usr/local/share/fonts"),
    Path.home() / ".local" / "share" / "fonts",
    Path.home() / ".fonts",
)
DEJAVU = sorted(Path(get_data_path(), "fonts", "ttf").glob("DejaVuSans*.ttf"))
NOTO = sorted(
    file for place in PLACES if place.is_dir() for file in place.rglob("NotoSans[-[]*.[ot]tf")
)
MONO = [file for file in DEJAVU if file.name.startswith("DejaVuSansMono")]

# Wide letters in low lines and narrow letters in high ones. The first set is every test's; where
# there is none, the fonts are the machine's, whatever they are.
FILES = {"DejaVu Sans": DEJAVU, "Noto Sans": NOTO and [*NOTO, *MONO]}
SETS = [name for name, files in FILES.items() if files] if sys.platform == "linux" else []
SETS = SETS or ["the machine's"]

in_every_font = pytest.mark.parametrize(
    "fonts", SETS, ids=lambda name: name.lower().replace(" ", "-"), indirect=True
)

CONFIGURATION = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig>
  <dir>{folder}/fonts</dir>
  <cachedir>{folder}/cache</cachedir>
  <match target="pattern">
    <test name="family"><string>monospace</string></test>
    <edit name="family" mode="assign" binding="strong"><string>DejaVu Sans Mono</string></edit>
  </match>
  <match target="pattern">
    <edit name="family" mode="append_last"><string>{name}</string></edit>
  </match>
</fontconfig>
"""


def environment(name: str, folder: Path) -> dict[str, str]:
    """What tells Chromium of the set of this name; its fontconfig file is written to `folder`."""
    if name not in FILES:
        return {}
    fonts = folder / "fonts"
    fonts.mkdir()
    for file in FILES[name]:
        (fonts / file.name).symlink_to(file)
    configuration = folder / "fonts.conf"
    configuration.write_text(CONFIGURATION.format(folder=folder, name=name), encoding="utf-8")
    return {"FONTCONFIG_FILE": str(configuration)}


def missing() -> str:
    """What to do so that the layout is tested with every set; empty where it is."""
    if len(SETS) == len(FILES):
        return ""
    told = f"The layout of the pages was tested with one set of fonts alone ({SETS[0]})."
    if sys.platform == "linux":
        told += " Install Noto Sans for a second one (Debian: apt install fonts-noto-core)."
    return told
