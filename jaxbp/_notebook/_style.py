"""How it looks: readable on white and in the dark, whichever of the two the notebook says, or else the system."""

from jaxbp._explain._style import themed

LIGHT = (
    "--ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de; --right: #1a7f37; --wrong: #cf222e; "
    "--here: #8a5c00; --first: #0072b2; --second: #b34700"
)
DARK = (
    "--ink: #e6edf3; --paper: #111; --soft: #9da7b3; --line: #3d444d; --right: #56d364; --wrong: #ff8f87; "
    "--here: #e3b341; --first: #56b4e9; --second: #ffa657"
)

STYLE = (
    themed("jaxbp-shown", LIGHT, DARK)
    + """
.jaxbp-shown { color: var(--ink); background: var(--jp-layout-color0, var(--vscode-editor-background, var(--paper)));
  font: 14px/1.45 system-ui, sans-serif; padding: .5rem;
  max-width: 75rem; box-sizing: border-box; overflow-wrap: anywhere; }
@media print { .jaxbp-shown { background: var(--paper); } }
.jaxbp-shown p { margin: .3rem 0; color: inherit; }
.jaxbp-shown .soft { color: var(--soft); font-size: .9em; }
.jaxbp-shown .scroll { overflow-x: auto; }
.jaxbp-shown .panels { display: flex; flex-wrap: wrap; gap: 1rem; }
.jaxbp-shown svg { display: block; color: inherit; }
.jaxbp-shown .panels svg { max-width: 100%; height: auto; }
.jaxbp-shown svg text { fill: currentColor; stroke: none; }
.jaxbp-shown table { border-collapse: collapse; margin: .5rem 0; border: none; color: inherit; background: none;
  font-size: 13px; }
.jaxbp-shown :is(thead, tbody, tr) { background: none; border: none; color: inherit; }
.jaxbp-shown :is(th, td) { text-align: left; vertical-align: middle; padding: .25rem .6rem; white-space: nowrap;
  border: none; border-bottom: 1px solid var(--line); color: inherit; background: none; font-size: 13px;
  max-width: 30rem; }
.jaxbp-shown th { color: var(--soft); font-weight: 600; }
.jaxbp-shown .number { text-align: right; font-variant-numeric: tabular-nums; }
.jaxbp-shown .words { white-space: normal; min-width: 12rem; }
.jaxbp-shown img { image-rendering: pixelated; border: 1px solid var(--line); display: block; margin: 0;
  max-width: none; background: none; }
.jaxbp-shown .verdict { font-weight: 600; }
.jaxbp-shown .right { color: var(--right); }
.jaxbp-shown .wrong { color: var(--wrong); }
.jaxbp-shown .here { color: var(--here); }
.jaxbp-shown ul { margin: .3rem 0; padding-left: 1.4rem; }
.jaxbp-shown summary { cursor: pointer; color: var(--soft); }
"""
)
