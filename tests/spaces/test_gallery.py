"""The page that has all systems: its tabs, and what it says when one cannot be loaded."""

from pathlib import Path

import gradio as gr
import pytest
import test_circular_space
import test_distill_space
import test_lens_space
import test_neuropbr_space

from spaces.gallery import app
from tests.pixelscene.test_scene import pair

TABS = "distill", "circular", "neuropbr", "pixelscene", "lens"


def test_every_system_has_a_tab(tmp_path: Path) -> None:
    blocks = app.demo(
        test_distill_space.tiny(),
        test_circular_space.tiny(),
        test_circular_space.tiny(grounded=True),
        test_neuropbr_space.tiny(),
        pair(),
        test_lens_space.opened(test_lens_space.saved(tmp_path)),
    )
    (tabs,) = [child for child in blocks.children if isinstance(child, gr.Tabs)]
    assert [tab.label for tab in tabs.children if isinstance(tab, gr.Tab)] == list(TABS)


@pytest.mark.parametrize("variable", ["DISTILL", "CIRCULAR", "GROUNDED", "NEUROPBR", "VQGAN", "PRIOR", "LENS", "JUDGE"])
def test_weights_that_are_not_there_are_named(variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for missing in (str(tmp_path), "org/nothing"):
        monkeypatch.setenv(variable, missing)
        with pytest.raises(SystemExit) as caught:
            app.main()
        assert missing in str(caught.value) and "\n" not in str(caught.value)
