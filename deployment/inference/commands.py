"""``asclepias infer``: private inference by provider, dealer and patient, a process each."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer

from simulations.prediction.commands import Declared

infer = typer.Typer(
    no_args_is_help=True,
    help="Private inference: a model answers a patient, and neither shows what it has.",
)

FolderArgument = Annotated[Path, typer.Argument(metavar="DIR", help="The party's folder.")]


class _Service(Protocol):
    server: Any

    def start(self) -> Any: ...

    def close(self) -> None: ...


@infer.command(
    epilog="Example: asclepias infer init clinic --model predictor.safetensors --patient ada "
    "--provider ward.example.org:9471 --dealer gp.example.org:9472"
)
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    model: Annotated[Path, typer.Option(metavar="FILE", help="The model; it is copied.")],
    patient: Annotated[list[str], typer.Option(help="A patient's name.")],
    provider: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where patients reach the provider.")
    ] = "127.0.0.1:9471",
    dealer: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where both others reach the dealer.")
    ] = "127.0.0.1:9472",
) -> None:
    """Make the folders of provider, dealer and patients, with keys that know each other.

    Each folder goes to its own machine and nowhere else. Where nobody may hold two of them even for
    a moment, each party makes its own with 'asclepias infer key', and sends its certificate.pem.
    """
    from clients.contract.printable import printable
    from deployment.inference.founding import found
    from deployment.report import line

    for made in found(folder, model, patient, provider=provider, dealer=dealer):
        line(True, made)
    typer.echo("Next, each at its own machine or in a terminal of its own, the dealer first:")
    for words in ("infer dealer", "infer provider", "infer predict", "clinic"):
        role = words.split()[-1]
        whose = role if role in ("dealer", "provider") else f"patients/{patient[0]}"
        more = " --data FILE" if role == "predict" else ""
        typer.echo(printable(f"  asclepias {words} {folder / whose}{more}"))


@infer.command(epilog="Example: asclepias infer key clinic/patients/ada ada")
def key(
    folder: FolderArgument,
    name: Annotated[str, typer.Argument(help="Provider, dealer, or the patient's name.")],
) -> None:
    """Make a party's key and certificate on its own machine; nothing is overwritten."""
    from deployment.errors import DeploymentError
    from deployment.inference.identities import KEY, make_identity
    from deployment.report import line

    try:
        fingerprint = make_identity(folder, name)
    except FileExistsError:
        raise DeploymentError(f"{folder / KEY} exists already; move it away first.") from None
    line(True, f"{folder / 'certificate.pem'} is for the others; its SHA-256 is {fingerprint}")


@infer.command(epilog="Example: asclepias infer dealer clinic/dealer")
def dealer(folder: FolderArgument) -> None:
    """Run the dealer in the foreground: it makes randomness, and sees neither model nor picture."""
    from deployment.inference.dealers import Dealer
    from deployment.inference.folders import read_folder

    _run(Dealer(read_folder(folder, "dealer")), "dealer")


@infer.command(epilog="Example: asclepias infer provider clinic/provider")
def provider(folder: FolderArgument) -> None:
    """Run the provider in the foreground: it has the model, and sees neither picture nor answer.

    The dealer has to run already.
    """
    from deployment.inference.folders import read_folder
    from deployment.inference.providers import Provider

    _run(Provider(read_folder(folder, "provider")), "provider")


def _run(service: _Service, name: str) -> None:
    from clients.contract.printable import PrintableFormatter
    from deployment.core_dumps import forbid_core_dumps
    from deployment.report import line

    forbid_core_dumps()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    done = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: done.set())
    service.start()
    line(True, f"{name}: ready on port {service.server.port}")
    done.wait()
    service.close()


@infer.command(epilog="Example: asclepias infer fetch clinic/patients/ada --count 3")
def fetch(
    folder: FolderArgument,
    count: Annotated[int, typer.Option(min=1, help="How many predictions to get ready for.")] = 1,
) -> None:
    """Get packets from the dealer in advance, so that predictions do not wait for it."""
    from deployment.inference.agents import Agent
    from deployment.inference.folders import read_folder
    from deployment.report import line

    with Agent(read_folder(folder, "patient")) as agent:
        for lying in agent.fetch(count):
            line(True, f"packets that lie here, each for one prediction: {lying}")


@infer.command(
    epilog="Example: asclepias infer predict clinic/patients/ada --data xray.png --traffic"
)
def predict(
    folder: FolderArgument,
    data: Annotated[
        Path, typer.Option(metavar="PATH", help="A picture, a folder, a table or an npz file.")
    ],
    declaration: Declared = None,
    traffic: Annotated[bool, typer.Option("--traffic", help="Say what was sent to whom.")] = False,
    encrypted: Annotated[
        bool, typer.Option("--encrypted", help="Linear models: encrypt, and do without a dealer.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a record.")] = False,
) -> None:
    """Get predictions for records of one's own; nobody else learns record or prediction.

    What is no picture in a folder of pictures is named, and left out. Of a table of which a row
    cannot be read nothing is sent.
    """
    import json

    from clients.contract.printable import printable
    from clients.prediction.asked import RowNotes
    from deployment.inference.agents import Agent, AnswerError
    from deployment.inference.folders import read_folder
    from deployment.inference.pictures import asked_of, shares_of, unread
    from deployment.report import line

    wrong, log = 0, RowNotes()
    with Agent(read_folder(folder, "patient")) as agent:
        asked = asked_of(data, agent.about, declaration=declaration, log=log)
        for name, why in unread(asked):
            unanswered(name, why, good=None, as_json=as_json)
        shape = agent.program.shape
        for name, share in shares_of(asked, agent.about, shape, agent.features_file()):
            try:
                answer = ask(agent, share, encrypted=encrypted)
            except AnswerError as error:
                # To end here would tell the provider that what it did to the answer was seen.
                wrong += 1
                unanswered(name, str(error), good=False, as_json=as_json)
                continue
            if as_json:
                typer.echo(json.dumps(told(name, answer, agent, traffic=traffic)))
                continue
            line(True, sentence(name, answer, agent))
            if traffic:
                line(True, f"{name}: {sent_and_received(agent.traffic)}")
    for odd in log.lines():
        typer.echo(printable(odd), err=True)
    if wrong:
        raise typer.Exit(1)


def unanswered(name: str, why: str, *, good: bool | None, as_json: bool) -> None:
    """Say why a record has no answer; `good` as `deployment.report.line` takes it."""
    import json

    from deployment.report import line

    if as_json:
        typer.echo(json.dumps({"record": name, "error": why}))
    else:
        line(good, f"{name}: {why}")


def ask(agent: Any, share: Any, *, encrypted: bool) -> Any:
    """Return the answer for one record."""
    if encrypted:
        return agent.predict_encrypted(share)
    agent.prepare()
    return agent.predict(share)


def sent_and_received(traffic: Any) -> str:
    """Return what went to whom in words."""
    sent = [f"{size:,} bytes to the {peer}" for peer, size in traffic.sent.items()]
    came = [
        f"{size:,} bytes of masked weights, once"
        if peer == "weights"
        else f"{size:,} from the {peer}"
        for peer, size in traffic.received.items()
    ]
    spent = [f"{what} {seconds:.3f} s" for what, seconds in traffic.seconds.items()]
    return f"sent {', '.join(sent)}; received {', '.join(came)}; {', '.join(spent)}"


def sentence(name: str, answer: Any, agent: Any) -> str:
    """Return an answer in words."""
    classes = agent.about.classes
    best = classes[answer.favourite]
    if answer.chances is None:
        return f"{name}: {best}"
    among = " or ".join(classes[one] for one in answer.within)
    share = f"{agent.about.coverage:.0%}"
    return (
        f"{name}: {best} ({answer.chances[answer.favourite]:.1%}); for {share} of patients like "
        f"those that the model was measured on, the truth is among what it names, here {among}"
    )


def told(name: str, answer: Any, agent: Any, *, traffic: bool) -> dict[str, Any]:
    """Return an answer as JSON-ready data."""
    classes = agent.about.classes
    said: dict[str, Any] = {"record": name, "prediction": classes[answer.favourite]}
    if answer.chances is not None:
        said["probabilities"] = dict(zip(classes, answer.chances.tolist(), strict=True))
        said["set"] = [classes[one] for one in answer.within]
    said["left"] = agent.left
    if traffic:
        said["traffic"] = vars(agent.traffic)
    return said
