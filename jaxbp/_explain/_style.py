"""How a page looks: on paper, on a phone, in the dark and by keyboard."""

# a notebook says which it is, whatever the system: JupyterLab and Notebook, VS Code, Colab
_SAYS_LIGHT = (
    'body[data-jp-theme-light="true"]',
    "body:is(.vscode-light, .vscode-high-contrast-light)",
    'html[theme="light"]',
)
_SAYS_DARK = (
    'body[data-jp-theme-light="false"]',
    "body:is(.vscode-dark, .vscode-high-contrast:not(.vscode-high-contrast-light))",
    'html[theme="dark"]',
)


def themed(name: str, light: str, dark: str) -> str:
    """The declarations of a class for light and for dark, on a page and within a notebook's; print is light."""

    def within(hosts: tuple[str, ...]) -> str:
        return ", ".join(f"{host} .{name}" for host in hosts)

    return f"""
.{name} {{ color-scheme: light dark; {light} }}
@media (prefers-color-scheme: dark) {{ .{name} {{ {dark} }} }}
{within(_SAYS_LIGHT)} {{ color-scheme: light; {light} }}
{within(_SAYS_DARK)} {{ color-scheme: dark; {dark} }}
@media print {{ .{name}, {within(_SAYS_DARK)} {{ color-scheme: light; {light} }} }}
"""


_LIGHT = """--ink: #1b1f24; --paper: #fff; --soft: #57606a; --line: #d0d7de;
  --link: #0550ae; --right: #1a7f37; --wrong: #cf222e; --wrong-paper: #fff0ef; --here: #8a5c00; --here-paper: #fff8e5;
  --shadow: rgb(0 0 0 / .35);"""
_DARK = """--ink: #e6edf3; --paper: #0d1117; --soft: #9da7b3;
  --line: #3d444d; --link: #6cb6ff; --right: #56d364; --wrong: #ff8f87; --wrong-paper: #35171a; --here: #e3b341;
  --here-paper: #2d2613; --shadow: rgb(255 255 255 / .4);"""

STYLE = (
    f"""{themed("jaxbp-page", _LIGHT, _DARK)}{themed("jaxbp-work", _LIGHT, _DARK)}
.jaxbp-page, .jaxbp-work {{ color: var(--ink); background: var(--paper); }}
"""
    + """
.jaxbp-page { margin: 0; }
.jaxbp-work { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem;
  box-sizing: border-box; overflow-wrap: anywhere; }
.jaxbp-work h1, .jaxbp-work h2, .jaxbp-work h3 { color: inherit; }
.jaxbp-work a { color: var(--link); text-decoration: underline; }
.jaxbp-work :is(a, summary, .scroll):focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
.jaxbp-work h2 { display: inline; font-size: 1.5rem; }
.jaxbp-work .part > summary { margin: 2rem 0 .5rem; border-bottom: 2px solid var(--line); padding-bottom: .2rem; }
.jaxbp-work summary { cursor: pointer; }
.jaxbp-work .step details > summary { margin-left: 1.5rem; color: var(--soft); font-size: .9em; }
.jaxbp-work h3 { margin: 1.2rem 0 .3rem; font-size: 1.05rem; }
.jaxbp-work code { color: var(--soft); background: none; font-size: .85em; font-weight: normal; }
.jaxbp-work math { font-size: 1.15em; font-family: "Latin Modern Math", "STIX Two Math", "Cambria Math",
  "DejaVu Math TeX Gyre", math; overflow-wrap: normal; white-space: nowrap; }
.jaxbp-work mrow.bar { border-top: thin solid; padding-top: .1em; }
.jaxbp-work mtable { width: max-content; }
.jaxbp-work mtd { padding: .15em .4em; text-align: right; text-align: -moz-right; text-align: -webkit-right; }
.jaxbp-work .rule { color: var(--soft); margin-bottom: .3rem; }
.jaxbp-work .equation { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem; }
.jaxbp-work .equation { padding: .25rem 0 .25rem 1.5rem; }
.jaxbp-work .equation > span { max-width: 100%; box-sizing: border-box; }
.jaxbp-work .scroll { display: block; max-width: 100%; overflow: auto hidden; padding-bottom: .2rem;
  scrollbar-width: thin; scrollbar-color: var(--soft) transparent;
  background: linear-gradient(to right, var(--paper) 40%, transparent) 0 0 / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--paper) 40%, transparent) 100% 0 / 2.5rem 100% no-repeat local,
    linear-gradient(to right, var(--shadow), transparent) 0 0 / .8rem 100% no-repeat scroll,
    linear-gradient(to left, var(--shadow), transparent) 100% 0 / .8rem 100% no-repeat scroll; }
.jaxbp-work .given { display: flex; flex-wrap: wrap; align-items: baseline; gap: 0 1rem; }
.jaxbp-work .given > * { max-width: 100%; box-sizing: border-box; }
.jaxbp-work .given h3 { flex-basis: 100%; }
.jaxbp-work .claim { margin: .1rem 0 .4rem 3rem; padding: .1rem .6rem; border-left: 4px solid; }
.jaxbp-work .mark { font-weight: bold; }
.jaxbp-work .right { border-color: var(--right); } .jaxbp-work .right .mark { color: var(--right); }
.jaxbp-work .wrong { border-color: var(--wrong); background: var(--wrong-paper); }
.jaxbp-work .wrong .mark { color: var(--wrong); }
.jaxbp-work .here { border-color: var(--here); background: var(--here-paper); }
.jaxbp-work .here .mark { color: var(--here); }
.jaxbp-work table { border-collapse: collapse; margin: 0; color: inherit; background: none; font-size: 1em; }
.jaxbp-work th, .jaxbp-work td { text-align: left; padding: .3rem .6rem; border: 1px solid var(--line); }
.jaxbp-work .contents { margin: 1rem 0; padding: .5rem 1rem; border: 1px solid var(--line); border-radius: .4rem; }
.jaxbp-work .contents ul { margin: 0; padding-left: 1.2rem; }
.jaxbp-work .contents > ul { list-style: none; padding: 0; }
.jaxbp-work .unseen { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
.jaxbp-work :target { outline: 2px solid var(--link); outline-offset: 2px; }
@media (max-width: 40rem) { .jaxbp-work .equation { padding-left: .5rem; } .jaxbp-work .claim { margin-left: 1rem; }
  .jaxbp-work :is(table, tbody, tr, td) { display: block; border: none; } .jaxbp-work thead { display: none; }
  .jaxbp-work tr { margin-bottom: .5rem; padding: .2rem .6rem; border-left: 4px solid; } .jaxbp-work td { padding: 0; }
  .jaxbp-work td.mark { float: left; width: 1.5em; }
  .jaxbp-work h1 { font-size: 1.5rem; } .jaxbp-work h2 { font-size: 1.3rem; } }
@media print { .jaxbp-work .contents { display: none; }
  .jaxbp-work details::details-content { content-visibility: visible; block-size: auto; } }
"""
)
