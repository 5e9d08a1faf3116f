"""`make demo ARGS=--exit` ends with 0 only because every step held."""

from __future__ import annotations

from hashlight_node.demo.company import run_command


def test_the_demo_tells_its_whole_story_and_ends_with_zero() -> None:
    done = run_command("demo", "--exit")
    shown = done.stdout.decode()
    assert done.returncode == 0, shown + done.stderr.decode()
    assert "Every step held" in shown
    assert "7/7" in shown
    assert "✗" not in shown
