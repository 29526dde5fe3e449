"""cubby completion: the script that lets a shell complete words of the command."""

import click
from click.shell_completion import get_completion_class

__all__ = ["completion"]

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Write a script that completes words in a shell.

    \b
    bash    eval "$(cubby completion bash)"             in ~/.bashrc
    zsh     eval "$(cubby completion zsh)"              in ~/.zshrc
    fish    cubby completion fish | source              in config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(ctx.find_root().command, {}, "cubby", "_CUBBY_COMPLETE").source())
