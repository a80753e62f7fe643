"""All that the patient's page says, in one place: what a translation replaces."""

from __future__ import annotations

from typing import Any

#: A share of patients, in words; another one is "95 in 100".
SHARES = {0.9: "9 in 10", 0.95: "19 in 20", 0.99: "99 in 100"}

#: Of the page as it is sent; `{}` is filled in by the page itself.
TEXTS: dict[str, Any] = {
    "title": "Ask a model, show nothing",
    "lead": "A hospital's model looks at your picture without seeing it. The picture is cut into "
    "two shares in this browser; each of them alone is noise. One goes to your own agent on this "
    "machine, the other, sealed, to the hospital. Only you learn the answer.",
    "choose": "Your picture",
    "hint": "PNG, JPEG, WebP or BMP, at most 25 MB. It stays in this browser.",
    "ask": "Share it and ask",
    "preview": "The picture as the model takes it: {size} by {size} pixels",
    "model": "The model was trained on: {title}. It tells apart: {classes}.",
    "left": "Questions left today: {left}",
    "connecting": "Asking your agent which model is served ...",
    "ready": "Ready. Choose a picture.",
    "chosen": "The picture can be read. Nothing has been sent yet.",
    "computing": "Computing in this browser what the model looks at ...",
    "asked": "The answer is here.",
    "progress": "What happens",
    "steps": {
        "shared": "Cut into two shares in this browser",
        "deposited": "The hospital has its share, and your agent never saw it",
        "prepared": "Randomness from the dealer is ready",
        "answered": "Computed on the two shares",
    },
    "seconds": "{seconds} s",
    "result": "The answer",
    "chance": "{class}: {percent} %",
    "calibrated": "Of 100 pictures like those that it was measured on to which it gives as much, "
    "about {percent} are {class}.",
    "sets": "For at least {share} patients like those that it was measured on, the truth is among "
    "what it names.",
    "one": "Here it names one: {names}.",
    "several": "Here it names {count}: {names}. It cannot tell these apart; a person has to.",
    "everything": "Here it names all, so it rules nothing out; a person has to decide.",
    "unmeasured": "Too few patients were measured for a promise, so it rules nothing out.",
    "class": "The hospital shows the likeliest class alone, and not how sure the model is.",
    "unlike": "If you are unlike those patients, nothing of this is promised. It is no diagnosis: "
    "talk to a doctor.",
    "classes": "All classes",
    "class-head": "Class",
    "chance-head": "Probability",
    "or": " or ",
    "sent": "What was sent to whom",
    "sent-note": "The picture itself: to nobody.",
    "sent-heads": ["To", "What", "Bytes"],
    "agent": "your agent, on this machine",
    "provider": "the hospital (provider)",
    "dealer": "the dealer",
    "you": "your agent, from {peer}",
    "rows": {
        "agent-share": "one share: noise without the other",
        "sealed-share": "the other share, sealed in this browser, carried by your agent",
        "rounds": "shares plus masks, while it computed",
        "dealer": "a request for randomness; nothing of the picture",
        "from-dealer": "randomness, made in advance",
        "from-provider": "shares plus masks, and its share of the answer",
    },
    "again": "Choose another picture to ask again.",
    "noscript": "This page works with JavaScript: it is what cuts the picture into shares.",
    "or-command": "On the command line: asclepias infer predict.",
    "errors": {
        "nothing-chosen": "Choose a picture first.",
        "empty": "{file} is empty. Choose a picture.",
        "large-file": "{file} has {found} MB; at most 25 MB are read. Save it smaller.",
        "many-pixels": "{file} has {found} million pixels; at most 80 million are read. Save it "
        "smaller.",
        "text": "{file} is a text, not a picture. Choose a PNG, JPEG, WebP or BMP file.",
        "volume": "{file} is a scan (DICOM or NIfTI), which browsers do not read. On the command "
        "line: asclepias infer predict.",
        "tiff": "{file} is a TIFF or HEIC file, which browsers do not read alike. Save it as PNG.",
        "not-picture": "{file} is no picture that is read here. Choose a PNG, JPEG, WebP or BMP "
        "file.",
        "damaged": "{file} is damaged: it begins like a picture, and cannot be decoded.",
        "deep": "{file} has more than 8 bits a channel, which browsers cut off. Save it with 8.",
        "transparent": "{file} is transparent in places: what is there cannot be read. Save it "
        "without transparency.",
        "cmyk": "{file} has the colours of printing (CMYK). Save it as RGB.",
        "old-browser": "This browser cannot seal a share. Use a newer one, and the address that "
        "'asclepias clinic' prints.",
        "agent": "Your agent does not answer. Is 'asclepias clinic' still running?",
        "token": "This page has no valid token. Open the whole address that 'asclepias clinic' "
        "prints.",
        "changed": "Another agent answers here now. Close this page, and open the address that "
        "'asclepias clinic' prints.",
        "origin": "This was asked from another page, and refused.",
        "host": "This address is not your agent's. Open the one that 'asclepias clinic' prints.",
        "type": "Your agent takes shares, and got something else.",
        "size": "Your agent got shares of another size than the model's. Load the page again.",
        "slow": "The shares took too long to arrive. Try again.",
        "busy": "One picture is asked about already, or too many wait. Try again in a minute.",
        "pace": "Too many questions in a short time. Try again in a minute.",
        "link": "The hospital or the dealer cannot be reached, or fell silent. Nothing of your "
        "picture is known to anybody. Try again later.",
        "model": "Another model is served now. Load the page again.",
        "limit": "Your questions are used up. Try again tomorrow.",
        "dry": "The dealer has no randomness ready. Try again in a minute.",
        "dealer": "The hospital cannot reach the dealer. Try again later.",
        "packet": "The randomness for this question was used before, or is too old. Try again.",
        "deposit": "The hospital's share was not taken. Load the page again.",
        "features": "This model takes numbers that another net computes from the picture first, "
        "which this page cannot. On the command line: asclepias infer predict.",
        "no-pictures": "This model takes no pictures. On the command line: asclepias infer "
        "predict.",
        "failed": "Something failed. Nothing of your picture is known to anybody. Try again, or "
        "look at what 'asclepias clinic' says.",
    },
}


def share_text(share: float) -> str:
    """Return a share of patients in words.

    >>> share_text(0.9), share_text(0.87)
    ('9 in 10', '87 in 100')
    """
    return SHARES.get(round(share, 4), f"{100 * share:.3g} in 100")
