"""How the report's page looks: on a screen by day and by night, on a phone, on paper."""

CSS = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1d1d22; --soft: #5c5f68;
        --line: #d9dbe0; --panel: #f5f6f8; --accent: #0063a3; --sheet: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --paper: #15161a; --ink: #e4e4e8; --soft: #a3a6ae; --line: #363940;
          --panel: #1e2026; --accent: #74bdf0; --sheet: #fff; } }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink);
       font: 16px/1.6 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.page { max-width: 76rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; display: grid;
        grid-template-columns: 12.5rem minmax(0, 1fr); column-gap: 3rem; }
header { grid-column: 2; }
nav { grid-column: 1; grid-row: 1 / span 2; }
main { grid-column: 2; }
h1 { font-size: 2.1rem; line-height: 1.15; letter-spacing: -.015em; margin: 0 0 .4rem; }
h2 { font-size: 1.45rem; line-height: 1.25; margin: 3.4rem 0 .6rem; padding-top: 1.3rem;
     border-top: 1px solid var(--line); letter-spacing: -.01em; }
section:first-child h2 { margin-top: 1.6rem; border-top: 0; padding-top: 0; }
h3 { font-size: 1.08rem; margin: 2rem 0 .4rem; }
p { max-width: 44rem; margin: .6rem 0; }
.lead { font-size: 1.12rem; color: var(--soft); }
.note, figcaption, caption { color: var(--soft); font-size: .88rem; line-height: 1.5; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
code, pre { font: .86em/1.5 ui-monospace, "SF Mono", Menlo, Consolas, monospace;
            background: var(--panel); border-radius: 4px; }
code { padding: .1em .3em; overflow-wrap: anywhere; }
pre { padding: .8rem 1rem; overflow-x: auto; white-space: pre-wrap;
      overflow-wrap: anywhere; }
nav ol { list-style: none; padding: 0; margin: .5rem 0 0; position: sticky; top: 1.5rem;
         font-size: .92rem; }
nav li { margin: .1rem 0; }
nav a { display: block; padding: .22rem .6rem; border-left: 2px solid var(--line);
        color: var(--soft); }
nav a:hover { color: var(--accent); border-color: var(--accent);
              text-decoration: none; }
figure { margin: 1.4rem 0; }
figure img { display: block; width: auto; max-width: 100%; height: auto; }
figure.sheet img { background: var(--sheet); border-radius: 6px; padding: 6px; }
.scroll { overflow-x: auto; }
figcaption { max-width: 44rem; margin-top: .5rem; }
.table { margin: 1.4rem 0; }
table { border-collapse: collapse; font-size: .84rem; line-height: 1.35;
        font-variant-numeric: tabular-nums; }
.caption { color: var(--soft); font-size: .88rem; line-height: 1.5; max-width: 44rem;
           margin: .5rem 0 0; }
th { font-weight: 600; vertical-align: bottom; color: var(--soft); }
th, td { padding: .28rem .65rem; border-bottom: 1px solid var(--line); text-align: right;
         white-space: nowrap; }
th.word, td.word { text-align: left; }
th:first-child, td:first-child { padding-left: 0; }
th.up { padding: .3rem .2rem; } th.up span { writing-mode: vertical-rl;
        transform: rotate(180deg); display: inline-block; }
tbody tr:hover { background: var(--panel); }
tr.total td { font-weight: 600; border-top: 2px solid var(--line); }
details { margin: 1rem 0; }
summary { cursor: pointer; color: var(--accent); font-size: .92rem; }
.findings { width: 100%; font-size: .92rem; }
.findings th, .findings td { text-align: left; vertical-align: top; white-space: normal;
                             padding: .7rem 1rem .7rem 0; line-height: 1.45; }
.findings td:nth-child(1) { width: 22%; font-weight: 600; }
.findings td:nth-child(2), .findings td:nth-child(3) { width: 19%; }
.big { font-size: 1.15rem; font-weight: 600; white-space: nowrap; }
.small { display: block; color: var(--soft); font-size: .84rem; }
@media (max-width: 62rem) {
  .page { display: block; padding-top: 1.5rem; }
  nav ol { position: static; display: flex; flex-wrap: wrap; gap: .4rem; }
  nav a { border: 1px solid var(--line); border-radius: 1rem; padding: .1rem .7rem; }
  h1 { font-size: 1.7rem; } h2 { margin-top: 2.4rem; }
}
@media (max-width: 40rem) {
  .page { padding: 1.2rem 1rem 3rem; }
  figure.wide img { min-width: 30rem; }
  figure.sheet img { min-width: 26rem; }
  .findings, .findings tbody, .findings td { display: block; width: auto; border: 0; }
  .findings thead { display: none; }
  .findings tr { display: grid; grid-template-columns: 1fr 1fr; column-gap: 1rem;
                 border-bottom: 1px solid var(--line); padding: .9rem 0; }
  .findings td:first-child, .findings td:last-child { grid-column: 1 / -1; }
  .findings td, .findings td:nth-child(n) { padding: .1rem 0; width: auto; }
  .findings td[data-label]::before { content: attr(data-label); display: block;
        color: var(--soft); font-size: .78rem; margin-top: .35rem; }
}
@media print {
  @page { size: A4; margin: 14mm; }
  :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --line: #bbb;
          --panel: #f4f4f4; --accent: #000; --sheet: #fff; }
  html { font-size: 9.5pt; } body { font-size: 1rem; } .page { display: block; padding: 0; max-width: none; }
  nav { margin: 1rem 0; } nav ol { position: static; columns: 2; display: block; }
  nav a { border: 0; padding: 0; }
  h1 { font-size: 20pt; } h2 { font-size: 14pt; margin-top: 1.6rem; break-after: avoid; }
  section:first-child h2 { margin-top: 1.6rem; border-top: 0; padding-top: 0; }
h3 { break-after: avoid; } p, figcaption, .caption { max-width: none; }
  figure, tr, .findings tr { break-inside: avoid; } thead { display: table-header-group; }
  figure img { max-height: 105mm; } figure.sheet img { max-height: 230mm; } figure.sheet img { padding: 0; }
  .scroll { overflow: visible; } table { font-size: 7.4pt; }
  th, td { padding: .14rem .32rem; } .findings { font-size: 9pt; }
  summary { color: var(--soft); list-style: none; }
  details::details-content { content-visibility: visible; display: block; }
}
"""
