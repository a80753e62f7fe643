"""The patient's page: one file that loads nothing, and may run and show nothing but itself."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass

from deployment.clinic.feature_script import FEATURES
from deployment.clinic.page_script import PAGE_SCRIPT
from deployment.clinic.picture_script import PICTURES
from deployment.clinic.sharing_script import SHARING
from deployment.clinic.texts import TEXTS
from simulations.pages.template import STYLE, fill_page

_OWN_STYLE = """
form { border: 1px solid var(--line); border-radius: .3rem; padding: 1rem; margin: 1rem 0; }
label { display: block; font-weight: 600; }
input[type=file] { display: block; width: 100%; font: inherit; margin: .4rem 0 .75rem;
  padding: .4rem; min-height: 2.75rem; box-sizing: border-box;
  border: 1px solid #8a949e; border-radius: .3rem; }
button { font: inherit; font-weight: 600; color: #fff; background: var(--link); border: 0;
  border-radius: .3rem; padding: .6rem 1.2rem; min-height: 2.75rem; cursor: pointer; }
button:disabled { background: #6b7680; cursor: default; }
:focus-visible { outline: 3px solid #d55e00; outline-offset: 2px; }
#preview { border: 0; padding: 0; margin: .75rem 0 0; }
#preview-canvas { width: 10rem; height: 10rem; image-rendering: pixelated;
  border: 1px solid var(--line); }
#status { min-height: 1.5em; }
#error { border: 2px solid #b3430a; border-radius: .3rem; padding: .6rem .9rem; color: #8c3407; }
#progress ol { padding-left: 1.5rem; }
#progress li { color: var(--soft); }
#progress li.done { color: var(--ink); }
#progress li.done::marker { font-weight: 700; color: #00704f; }
#progress span { color: var(--soft); font-variant-numeric: tabular-nums; margin-left: .5rem; }
#best { font-size: 1.35rem; font-weight: 700; }
#classes table { max-width: 24rem; }
@media (max-width: 600px) { button { width: 100%; } }
@media (prefers-reduced-motion: no-preference) { #progress li { transition: color .2s; } }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{{ t.title }}</title>
<style>{{ style }}{{ own_style }}</style>
</head>
<body>
<main>
<h1>{{ t.title }}</h1>
<p>{{ t.lead }}</p>
<noscript><p>{{ t.noscript }}</p></noscript>
<p id="model" class="soft"></p>
<form id="form" novalidate>
<label for="picture">{{ t.choose }}</label>
<input id="picture" type="file" accept="image/png,image/jpeg,image/webp,image/bmp"
  aria-describedby="hint error">
<p id="hint" class="soft">{{ t.hint }}</p>
<button id="ask" type="submit">{{ t.ask }}</button>
<p id="left" class="soft"></p>
<figure id="preview" hidden><canvas id="preview-canvas" role="img"></canvas>
<figcaption id="preview-caption"></figcaption></figure>
</form>
<p id="error" role="alert" hidden></p>
<p id="status" role="status">{{ t.connecting }}</p>
<section id="progress" aria-labelledby="progress-head" hidden>
<h2 id="progress-head">{{ t.progress }}</h2>
<ol>
{%- for name, text in t.steps.items() %}
<li id="step-{{ name }}">{{ text }}<span></span></li>
{%- endfor %}
</ol>
</section>
<section id="result" aria-labelledby="result-head" hidden>
<h2 id="result-head" tabindex="-1">{{ t.result }}</h2>
<p id="best"></p>
<div id="doubt"></div>
<div id="classes"><h3>{{ t.classes }}</h3>
<table><thead><tr><th scope="col">{{ t["class-head"] }}</th>
<th scope="col" class="number">{{ t["chance-head"] }}</th></tr></thead>
<tbody id="chances"></tbody></table></div>
<h2>{{ t.sent }}</h2>
<p>{{ t["sent-note"] }}</p>
<table class="stack"><thead><tr>
{%- for head in t["sent-heads"] %}
<th scope="col"{% if loop.last %} class="number"{% endif %}>{{ head }}</th>
{%- endfor %}
</tr></thead><tbody id="sent"></tbody></table>
<p class="soft">{{ t.again }}</p>
</section>
</main>
<script>{{ script }}</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Page:
    """The page, and the policy under which a browser shows it.

    Attributes:
        html: all of it, UTF-8.
        policy: of the header Content-Security-Policy: this script and this style by their hashes,
            requests to the agent alone, no frame around it.
    """

    html: bytes
    policy: str


def make_page() -> Page:
    """Return the page."""
    from markupsafe import Markup

    texts = json.dumps(TEXTS).replace("<", "\\u003c")
    script = f"const TEXTS = {texts};\n{PICTURES}{SHARING}{FEATURES}{PAGE_SCRIPT}"
    html = fill_page(_PAGE, t=TEXTS, own_style=Markup(_OWN_STYLE), script=Markup(script))
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(STYLE + _OWN_STYLE)}'"
        "; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
    return Page(html.encode(), policy)


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
