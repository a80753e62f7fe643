"""The templates of reports: each page one file, no network, for screen, phone and A4.

They are Python texts because an app bundle carries no HTML.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clients.contract.printable import printable_lines
from simulations.pages.attacks import PART as ATTACKS
from simulations.pages.doubt import PART
from simulations.pages.merit import PART as CLASSES

#: What a page is called in its folder.
REPORT = "report.html"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer to one of the questions that a page begins with.

    Attributes:
        tone: `yes`, `no` or empty; colours the edge, never alone.
    """

    question: str
    headline: str
    lines: Sequence[str] = ()
    tone: str = ""


def fill_page(page: str, **content: Any) -> str:
    """Return a page with its content; every text is escaped, and a missing one is an error.

    Marks that would turn a line round, or show nothing, are written out as in a terminal.
    """
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    def shown(value: object) -> object:
        return printable_lines(value) if type(value) is str else value

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, finalize=shown
    )
    return environment.from_string(page).render(style=Markup(STYLE), **content)


STYLE = """
:root { --ink: #1c2329; --soft: #55606b; --line: #d9dee3; --wash: #f4f6f8; --link: #0072b2; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }
main { max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 3rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; border-bottom: 1px solid var(--line);
  padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 0 0 .35rem; }
p { margin: .4rem 0; }
.soft, figcaption, caption { color: var(--soft); }
.answers { display: grid; gap: .75rem; margin: 1.25rem 0 0;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
.answer { border: 1px solid var(--line); border-left: .3rem solid #8a949e; border-radius: .3rem;
  padding: .6rem .9rem .7rem; background: #fff; }
.answer.yes { border-left-color: #009e73; }
.answer.no { border-left-color: #d55e00; }
.answer strong { font-size: 1.1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; font-size: .92rem; }
caption { text-align: left; padding: .25rem 0; caption-side: bottom; font-size: .85rem; }
th, td { text-align: left; vertical-align: top; padding: .35rem .75rem .35rem 0;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere; }
thead th { border-bottom: 2px solid var(--line); overflow-wrap: normal; vertical-align: bottom; }
tbody th { font-weight: 600; overflow-wrap: break-word; }
#observers tbody th { min-width: 8rem; }
.ways tbody th { min-width: 10rem; }
.stack td:last-child:not(.number) { min-width: 8rem; }
#run th, #results th { width: 15rem; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
th.number, td.number { padding-right: 1.5rem; }
thead th.number { white-space: normal; }
figure { margin: 0; break-inside: avoid; border: 1px solid var(--line); border-radius: .3rem;
  padding: .75rem; min-width: 0; }
figure svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { font-size: .85rem; margin-top: .4rem; }
.figures { display: grid; gap: 1rem; margin-top: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
pre { background: var(--wash); border: 1px solid var(--line); border-radius: .3rem;
  padding: .6rem .75rem; white-space: pre-wrap; overflow-wrap: anywhere; font-size: .85rem;
  margin: .4rem 0; }
.columns { columns: 2 20rem; column-gap: 2rem; font-size: .88rem; padding: 0; margin: .5rem 0; }
.columns div { display: flex; justify-content: space-between; gap: 1rem; break-inside: avoid;
  border-bottom: 1px solid var(--line); padding: .15rem 0; }
.columns dt { color: var(--soft); }
.columns dd { margin: 0; text-align: right; overflow-wrap: anywhere; }
@media (max-width: 600px) {
  .stack tbody th, .stack td:last-child:not(.number) { min-width: 0; }
  #run th { width: 6.5rem; }
  #results th { width: auto; padding-right: 1rem; }
  figure { padding: .5rem .25rem; }
  figure h3, figcaption { padding: 0 .35rem; }
  .stack th.number, .stack td.number { padding-right: 0; }
  .stack thead { position: absolute; width: 1px; height: 1px; overflow: hidden;
    clip-path: inset(50%); }
  .stack tr { display: block; padding: .5rem 0; border-bottom: 1px solid var(--line); }
  .stack th, .stack td { display: flex; gap: 1rem; justify-content: space-between; border: 0;
    padding: .1rem 0; text-align: left; white-space: normal; }
  .stack td::before { content: attr(data-label); color: var(--soft); flex: none; }
  .stack td:empty { display: none; }
  .stack td.wide { display: block; }
  .stack td.wide::before { content: none; }
}
@page { size: A4; margin: 14mm; }
@media print {
  html { font-size: 10pt; }
  body { font-size: 1rem; }
  main { max-width: none; padding: 0; }
  h2 { break-after: avoid; margin-top: 1.2rem; }
  tr, .answer { break-inside: avoid; }
  .answers { grid-template-columns: 1fr 1fr; }
  .figures { grid-template-columns: 1fr 1fr; gap: .5rem; }
  figure { padding: .4rem; }
}
"""

HEAD = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>{{ title }}</title>
<style>{{ style }}</style>
</head>
<body>
<main>
<header>
<h1>{{ title }}</h1>
<p class="soft">{{ subtitle }}</p>
</header>

<section class="answers" aria-label="In short">
{%- for answer in answers %}
<div class="answer {{ answer.tone }}">
<h3>{{ answer.question }}</h3>
<p><strong>{{ answer.headline }}</strong></p>
{%- for line in answer.lines %}
<p>{{ line }}</p>
{%- endfor %}
</div>
{%- endfor %}
</section>
"""

FIGURES = """
{%- if figures %}
<div class="figures">
{%- for figure in figures %}
<figure id="figure-{{ figure.name }}" role="group" aria-label="{{ figure.title }}">
<h3>{{ figure.title }}</h3>
{{ figure.svg }}
<figcaption>{{ figure.caption }}</figcaption>
</figure>
{%- endfor %}
</div>
{%- endif %}
{%- if figures_note %}
<p class="soft">{{ figures_note }}</p>
{%- endif %}
"""

PAGE = (
    HEAD
    + """
<h2>Who could learn what about a {{ unit }}</h2>
{%- if observers %}
<table class="stack" id="observers">
<thead><tr><th scope="col">Observer</th>
<th scope="col" class="number">epsilon (RDP)</th><th scope="col" class="number">epsilon (PRV)</th>
{%- if attacked %}
<th scope="col" class="number">attack shows at least</th>
{%- endif %}
<th scope="col">Bound by target</th><th scope="col">Why</th></tr></thead>
<tbody>
{%- for name, rdp, prv, attack, bound, why in observers %}
<tr><th scope="row">{{ name }}</th>
<td class="number" data-label="epsilon (RDP)">{{ rdp }}</td>
<td class="number" data-label="epsilon (PRV)">{{ prv }}</td>
{%- if attacked %}
<td class="number" data-label="attack shows at least">{{ attack or "not attacked" }}</td>
{%- endif %}
<td data-label="bound by target">{{ bound or "no" }}</td>
<td class="wide" data-label="why">{{ why }}</td></tr>
{%- endfor %}
</tbody>
<caption>{{ observers_caption }}</caption>
</table>
{%- if resting %}
<p class="soft">{{ resting }}</p>
{%- endif %}
{%- else %}
<p>The run has left no observer table.</p>
{%- endif %}

{%- if audit %}
<h2>Audit: an attack on what was promised</h2>
<p>{{ audit.headline }}</p>
{%- if audit.bounds %}
<table class="stack" id="audit">
<thead><tr><th scope="col">Observer</th><th scope="col" class="number">Claim</th>
{%- for name in audit.names %}
<th scope="col" class="number">{{ name }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for who, claim, values in audit.bounds %}
<tr><th scope="row">{{ who }}</th><td class="number" data-label="claim">{{ claim }}</td>
{%- for value in values %}
<td class="number" data-label="{{ audit.names[loop.index0] }}">{{ value }}</td>
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>{{ audit.caption }}</caption>
</table>
<table class="stack" id="gates">
<thead><tr><th scope="col">Measured</th><th scope="col">Of</th>
<th scope="col" class="number">Found</th><th scope="col" class="number">Expected</th>
<th scope="col" class="number">Chance</th></tr></thead>
<tbody>
{%- for name, subject, found, expected, chance in audit.gates %}
<tr><th scope="row">{{ name }}</th><td data-label="of">{{ subject }}</td>
<td class="number" data-label="found">{{ found }}</td>
<td class="number" data-label="expected">{{ expected }}</td>
<td class="number" data-label="chance">{{ chance }}</td></tr>
{%- endfor %}
</tbody>
<caption>{{ audit.gates_caption }}</caption>
</table>
{%- endif %}
{%- endif %}
"""
    + ATTACKS
    + """
<h2>What was run</h2>
<table id="run"><tbody>
{%- for label, value in what %}
<tr><th scope="row">{{ label }}</th><td>{{ value }}</td></tr>
{%- endfor %}
</tbody></table>

<h2>Results</h2>
<table id="results"><tbody>
{%- for label, value in results %}
<tr><th scope="row">{{ label }}</th><td>{{ value }}</td></tr>
{%- endfor %}
</tbody></table>
"""
    + CLASSES
    + PART
    + FIGURES
    + """
<h2>Ledger: what was spent on {{ unit }}s</h2>
{%- if ledgers %}
<table class="stack" id="ledgers">
<thead><tr><th scope="col">Whose</th><th scope="col" class="number">Entries</th>
<th scope="col">First (UTC)</th><th scope="col">Last (UTC)</th>
<th scope="col" class="number">epsilon (RDP)</th></tr></thead>
<tbody>
{%- for whose, entries, first, last, epsilon in ledgers %}
<tr><th scope="row">{{ whose }}</th><td class="number" data-label="entries">{{ entries }}</td>
<td data-label="first (UTC)">{{ first }}</td><td data-label="last (UTC)">{{ last }}</td>
<td class="number" data-label="epsilon (RDP)">{{ epsilon }}</td></tr>
{%- endfor %}
</tbody>
<caption>Every entry was written before the data were touched.
{%- for training, purpose, rounds, entries, mechanism in spending %}
 Training {{ training }}, rounds {{ rounds }}: {{ entries }} of {{ mechanism }} ({{ purpose }}).
{%- endfor %}</caption>
</table>
{%- else %}
<p>No ledger: no noise was added, so nothing was accounted for.</p>
{%- endif %}

{%- if faults %}
<h2>Faults</h2>
<table class="stack" id="faults">
<thead><tr><th scope="col">Hospital</th><th scope="col" class="number">Round</th>
<th scope="col" class="number">Attempt</th><th scope="col">Code</th></tr></thead>
<tbody>
{%- for fault in faults %}
<tr><th scope="row">{{ fault.hospital }}</th>
<td class="number" data-label="round">{{ fault.round }}</td>
<td class="number" data-label="attempt">{{ fault.attempt }}</td>
<td data-label="code">{{ fault.code }}</td></tr>
{%- endfor %}
</tbody></table>
{%- endif %}

<h2>To repeat it</h2>
{%- for command in commands %}
<pre>{{ command }}</pre>
{%- endfor %}
<p class="soft">{{ repeat_note }}</p>
<dl class="columns" id="settings">
{%- for key, value in settings %}
<div><dt>{{ key }}</dt><dd>{{ value }}</dd></div>
{%- endfor %}
</dl>
<p class="soft">{{ versions }}</p>
</main>
</body>
</html>
"""
)

COMPARISON_PAGE = (
    HEAD
    + """
<h2>What was run</h2>
<p>{{ description }}</p>
<table id="run"><tbody>
{%- for label, value in what %}
<tr><th scope="row">{{ label }}</th><td>{{ value }}</td></tr>
{%- endfor %}
</tbody></table>

{%- for head, table in tables %}
<h2>{{ head }}</h2>
<table class="stack{% if table.columns[0] == ways %} ways{% endif %}">
<thead><tr>
{%- for column in table.columns %}
<th scope="col"{% if column.endswith("#") %} class="number"{% endif %}>{{ column.rstrip("#") }}</th>
{%- endfor %}
</tr></thead>
<tbody>
{%- for row in table.rows %}
<tr>
{%- for cell in row %}
{%- set column = table.columns[loop.index0] %}
{%- if loop.first and not column.endswith("#") %}
<th scope="row">{{ cell }}</th>
{%- else %}
<td{% if column.endswith("#") %} class="number"{% endif %}
  data-label="{{ column.rstrip("#") }}">{{ cell }}</td>
{%- endif %}
{%- endfor %}
</tr>
{%- endfor %}
</tbody>
<caption>{{ table.caption }}</caption>
</table>
{%- endfor %}

{%- if sayings %}
<h2>What the differences say</h2>
<ul>
{%- for line in sayings %}
<li>{{ line }}</li>
{%- endfor %}
</ul>
{%- endif %}

<h2>Figures</h2>
"""
    + FIGURES
    + """
{%- for title, found in left_out %}
<h2>{{ title }}</h2>
<ul>
{%- for line in found %}
<li>{{ line }}</li>
{%- endfor %}
</ul>
{%- endfor %}

<h2>To repeat it</h2>
<pre>{{ command }}</pre>
<p class="soft">{{ repeat_note }}</p>
<p class="soft">{{ versions }}</p>
</main>
</body>
</html>
"""
)
