"""How the page looks: system fonts, so that no font is fetched, and a little CSS."""

import gradio as gr

FONT = ("system-ui", "sans-serif")
MONO = ("ui-monospace", "monospace")


def theme() -> gr.themes.Base:
    """Gradio's plain theme without its fonts."""
    return gr.themes.Base(
        primary_hue="blue",
        neutral_hue="slate",
        font=FONT,
        font_mono=MONO,
        spacing_size="sm",
        radius_size="md",
    )


CSS = """
.gradio-container { max-width: 1500px !important; width: 100%; margin: 0 auto; }
.gradio-container main { width: 100%; }
#stage, #strip, #links, #gallery, #readings, #noise, #left, #csv { padding: 0 !important; min-height: 0; }
.gradio-container .html-container { padding: 0 !important; }
#stage .error, #stage .clear-status { display: none; }
#table { --font-mono: system-ui, sans-serif; font-variant-numeric: tabular-nums; }
.gallery button, .strip button { margin: 0 !important; }
footer { display: none !important; }
.head { display: flex; gap: 12px; align-items: baseline; flex-wrap: wrap; }
.head h1 { font-size: 1.3rem; font-weight: 400; margin: .2rem 0 0; }
.head p { opacity: .7; margin: 0; }
.pager { align-items: center; flex-wrap: nowrap !important; }
.pager button { flex: 0 0 40px; } #where { text-align: center; font-size: .85rem; opacity: .8; white-space: nowrap; }
#upload label[data-testid] { display: none; }
.card .one img { width: 100%; aspect-ratio: 1; border-radius: 8px; } .card figure { margin: 0; }
.card figcaption { font-size: .85rem; opacity: .8; padding: 3px 0; } .card p { font-size: .92rem; }
.map circle.on { stroke: currentColor; stroke-width: 3; }
img.px { image-rendering: pixelated; }
.gallery { display: grid; gap: 4px; grid-template-columns: repeat(auto-fill, minmax(58px, 1fr)); }
.gallery .tile, .strip .step { padding: 0; border: 0; background: none; cursor: pointer; }
.gallery img { width: 100%; aspect-ratio: 1; border-radius: 4px; display: block; }
.tile.on img, .step.on img { outline: 3px solid var(--primary-500); outline-offset: -1px; }
.tile:hover img, .step:hover img { filter: brightness(1.08); }
.tile:focus-visible, .step:focus-visible { outline: 2px solid var(--primary-500); }
.stage { display: grid; gap: 10px; }
.stage.n3 { grid-template-columns: repeat(3, 1fr); }
.stage.n2 { grid-template-columns: 1fr 1fr; }
.stage figure { margin: 0; text-align: center; }
.stage img { width: 100%; aspect-ratio: 1; border-radius: 8px; display: block; }
.stage { padding-bottom: 2px; }
.stage figcaption { font-size: .85rem; opacity: .8; padding-top: 3px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; }
.caption, .note { font-size: .85rem; opacity: .8; padding: 6px 0 4px; }
.strip { display: flex; gap: 4px; }
.strip .step { flex: 1 1 0; min-width: 0; color: inherit; }
.strip img { width: 100%; aspect-ratio: 1; border-radius: 4px; display: block; }
.strip span { font-weight: 400; font-size: .78rem; font-variant-numeric: tabular-nums; opacity: .8; }
.step.on span { font-weight: 700; opacity: 1; }
.links { display: flex; gap: 14px; padding: 0; }
.links a { color: var(--primary-600); font-size: .9rem; }
.dark .links a { color: var(--primary-300); }
.empty { opacity: .7; padding: 2.5rem 1rem; text-align: center; }
.reading h4 { margin: 0; font-size: .92rem; } .reading p { margin: 0 0 4px; font-size: .8rem; opacity: .7; }
.track { display: grid; grid-template-columns: 13.5em 1fr 7.8em; gap: 8px; align-items: center;
  font-size: .82rem; line-height: 1.5; }
.track .name { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.track.changed .name { font-weight: 700; } .track.kept .name::after { content: " · kept"; opacity: .65; }
.track .odds { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; opacity: .9; }
.track { --dot: #5b6472; --line: #9aa4b2; --ink: inherit; }
.dark .track { --dot: #cbd5e1; --line: #94a3b8; }
.track.changed { --dot: #0072b2; --line: #0072b2; }
.dark .track.changed { --dot: #56b4e9; --line: #56b4e9; }
.track.notable { --dot: #d55e00; --line: #d55e00; --ink: #b34e00; }
.dark .track.notable { --dot: #ff8c3f; --line: #ff8c3f; --ink: #ff9d57; }
.rail { position: relative; height: 12px; border-radius: 6px; background: var(--neutral-100); }
.dark .rail { background: var(--neutral-800); }
.rail i { position: absolute; top: 0; height: 12px; }
.rail .middle { left: 50%; width: 1px; background: var(--neutral-400); }
.rail .bar { top: 4px; height: 4px; background: var(--line); }
.rail .was, .rail .is { width: 10px; height: 10px; top: 1px; margin-left: -5px; border-radius: 50%;
  box-sizing: border-box; border: 2px solid var(--dot); background: var(--background-fill-primary); }
.rail .is { background: var(--dot); }
.notable .name, .notable .odds { color: var(--ink); }
.map { display: grid; grid-template-columns: 1fr; }
.map svg { width: 100%; height: auto; background: var(--background-fill-secondary); border-radius: 8px; }
.map circle { cursor: pointer; } .map circle:hover { stroke: currentColor; stroke-width: 2; }
.map text { fill: currentColor; font-size: 12px; }
.legend { display: flex; gap: 16px; font-size: .85rem; padding: 4px 0; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 5px; }
@media (max-width: 700px) {
  .stage.n3 { grid-template-columns: 1fr 1fr; } .stage .original { display: none; }
  .gallery { grid-template-columns: none; grid-auto-flow: column; grid-auto-columns: 58px;
    grid-template-rows: 58px 58px; overflow-x: auto; }
  .track { grid-template-columns: 9.5em 1fr 7.2em; font-size: .78rem; }
  .middle { display: contents !important; }
  #stage, #strip, #links { order: 1; } .levers { order: 2; } #reading, #within { order: 3; }
}
"""
