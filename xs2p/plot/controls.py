"""What a browser in a notebook is curated with: buttons, lists, and keys."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from xs2p.plot.curating import CHOICES, KEYS

# A key that is pressed is for the browser only where it has the focus: in a notebook others, such
# as "a" and "r", make cells. Of what is told in quick succession only the last arrives: so all keys
# are named each time, those that were told before too.
_LISTEN = """
state.view = String(Math.random());
state.keys = [];
box.addEventListener('keydown', event => {
  const target = event.composedPath()[0];
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName)) return;
  if (!%KEYS.includes(event.key)) return;
  event.preventDefault(); event.stopPropagation();
  state.keys.push(event.key);
  data.pressed = [state.view, ...state.keys];
});
box.addEventListener('pointerdown', event => {
  const target = event.composedPath()[0];
  if (!/^(INPUT|SELECT|TEXTAREA|OPTION)$/.test(target.tagName)) box.focus({preventScroll: true});
});
"""


@functools.cache
def _keys_class() -> Any:
    """Return a layout of panel's that hears keys, made when panel is there."""
    import param
    from panel.reactive import ReactiveHTML

    class Keys(ReactiveHTML):
        """A box around a browser, which hears keys."""

        child = param.Parameter()
        pressed = param.List(default=[])
        _template = (
            '<div id="box" tabindex="0" data-lm-suppress-shortcuts="true" '
            'style="width: 100%; height: 100%; outline-offset: -2px">${child}</div>'
        )
        _scripts = {"render": _LISTEN.replace("%KEYS", str(list(KEYS)))}

    return Keys


def listening(layout: Any, press: Callable[[str], None]) -> Any:
    """Put a layout into a box that calls ``press`` with each key it knows."""
    box = _keys_class()(child=layout, sizing_mode=layout.sizing_mode)
    heard: dict[str, int] = {}  # keys of each view of the box: of each time it is shown

    def hear(event: Any) -> None:
        view, *keys = event.new
        new = keys[heard.get(view, 0) :]
        heard[view] = max(len(keys), heard.get(view, 0))
        for key in new:
            press(key)

    box.param.watch(hear, "pressed")
    return box


def _labelled(kind: Any, label: str, **more: Any) -> Any:
    """Make a widget; what is written beside it is its label, in older releases its name."""
    return kind(**{"label" if "label" in kind.param else "name": label}, **more)


class Controls:
    """Buttons and lists beneath the map of a browser."""

    def __init__(self, browser: Any, measures: list[str]) -> None:
        import panel

        self._browser = browser
        self.state = panel.pane.Markdown("", margin=(5, 10))
        buttons = []
        for name, label in (
            ("accept", "accept (a)"),
            ("reject", "reject (r)"),
            ("previous", "← previous (p)"),
            ("next", "next (n) →"),
            ("undo", "undo (u)"),
        ):
            button = _labelled(panel.widgets.Button, label, margin=(5, 4))
            button.on_click(lambda _, name=name: getattr(browser, name)())
            buttons.append(button)
        self.color = _labelled(panel.widgets.Select, "Colour", options=["", *measures], width=110)
        self.color.param.watch(lambda event: browser.color(event.new or None), "value")
        orders = {"as listed": ("", True)}
        for name in measures:
            orders |= {f"{name}, high to low": (name, True), f"{name}, low to high": (name, False)}
        self.sort = _labelled(panel.widgets.Select, "Sort", options=orders, width=150)
        self.sort.param.watch(
            lambda event: browser.sort(event.new[0] or None, event.new[1]), "value"
        )
        self.filter = _labelled(
            panel.widgets.Select, "Filter", options=["", *CHOICES, *measures], width=110
        )
        self.low, self.high = (
            _labelled(panel.widgets.FloatInput, name, value=None, width=80)
            for name in ("from", "to")
        )
        for widget in (self.filter, self.low, self.high):
            widget.param.watch(lambda event: self._filter(), "value")
        self.layout = panel.Column(
            self.state,
            panel.FlexBox(*buttons),
            panel.FlexBox(self.color, self.sort, self.filter, self.low, self.high),
            sizing_mode="stretch_width",
        )

    def _filter(self) -> None:
        self._browser.filter(self.filter.value or None, self.low.value, self.high.value)
