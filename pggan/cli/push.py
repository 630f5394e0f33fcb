"""`pggan push`: uploads a model with its card to the Hugging Face Hub."""

from __future__ import annotations

import cloup

from pggan.cli.options import FilePath, Output, complete_model, discriminator_option, dry_run_option, json_option
from pggan.utils.formatting import size


@cloup.command("push")
@cloup.argument("model", type=FilePath(), shell_complete=complete_model)
@cloup.argument("repository")
@cloup.option_group(
    "Model",
    cloup.option("--newest", is_flag=True, help="Of a run: its newest model instead of its best one."),
    discriminator_option,
)
@cloup.option_group(
    "Repository",
    cloup.option("--private", is_flag=True, help="Let nobody else see it, where the repository is new."),
    cloup.option(
        "--license", "licence", metavar="ID", default="other",
        help="The model's licence, as the Hub names it: cc-by-4.0, mit.",
    ),
    cloup.option(
        "--trained-on", "datasets", multiple=True, metavar="USER/NAME", show_default="the data's own, if known",
        help="Data set on the Hub that it learnt from. Repeat for further ones.",
    ),
    dry_run_option,
)  # fmt: skip
@cloup.option_group("Output", json_option)
def command(
    model: str, repository: str, newest: bool, with_discriminator: bool, private: bool, licence: str,
    datasets: tuple[str, ...], dry_run: bool, as_json: bool,
) -> None:  # fmt: skip
    """Upload a model with its card to the Hugging Face Hub.

    MODEL is a run directory, a file or a shipped model's name; REPOSITORY is user/name, and made where it is missing.
    The model, README.md with its head and sheet.png are one commit. `hf auth login`, or HF_TOKEN, says who you are.
    Others then use hf://user/name as MODEL.
    """
    from pggan.utils.caching.hub_files import hub

    hub()  # a missing package is an error at once
    from pggan.interop.hub_push import PushOptions, push

    options = PushOptions(False if newest else None, with_discriminator, private, licence, datasets)
    pushed = push(model, repository, options, dry_run)
    files = ", ".join(f"{name} ({size(count)})" for name, count in pushed.files.items())
    if dry_run:
        lines = [f"would upload {files} to {pushed.address}", "", *pushed.card.splitlines()]
    else:
        lines = [f"uploaded {files}", f"page: {pushed.url}", f"to use it: pggan generate {pushed.address}"]
    Output(as_json).result({**pushed.to_json(), "dry_run": dry_run}, *lines)
